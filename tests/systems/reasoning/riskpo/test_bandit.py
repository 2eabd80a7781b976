"""The paper's lemma and theorem on entropy, in closed form on softmax bandits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pilotage.objectives.risk import mvar


def entropy_change(unit: int) -> dict[str, float]:
    """ΔH of natural-gradient steps against −η·Cov(log π, A) on 10-arm softmax bandits with scores 0 to 5.

    200 policies and scores per unit, A = RiskPO's advantage at the policy's own quantiles, η = 0.003."""
    generator = np.random.default_rng([unit, 31])
    eta, exact, foretold = 0.003, [], []
    for _ in range(200):
        logits, scores = generator.normal(size=10), generator.integers(0, 6, size=10).astype(float)
        policy = _softmax(logits)
        advantage = _mvar_of(scores, policy)
        # The natural gradient of E[A] with respect to the logits of a softmax is A, up to a constant.
        exact.append(_entropy(_softmax(logits + eta * advantage)) - _entropy(policy))
        foretold.append(-eta * _covariance(np.log(policy), advantage, policy))
    correlation = float(np.corrcoef(exact, foretold)[0, 1])
    return {"correlation": correlation, "agrees": float(correlation > 0.99)}


def theorem(assumption: str, unit: int) -> dict[str, float]:
    """Cov(log π, A_MVaR) ≤ Cov(log π, A_mean), unscaled, on 10-arm bandits whose log π meets the assumption.

    `increasing`: log π rises with the score everywhere. `both tails`: log π has a covariance of at least 0 with
    (q_α − R)⁺ and with (R − q_β)⁺: more likely towards both ends. 200 bandits per unit; `violations` counts."""
    generator = np.random.default_rng([unit, 37])
    violations = bandits = 0
    while bandits < 200:
        logits, scores = generator.normal(size=10), generator.integers(0, 6, size=10).astype(float)
        if assumption == "increasing":
            logits, scores = np.sort(logits), np.sort(scores)
        policy = _softmax(logits)
        logp = np.log(policy)
        low, high = _quantiles(scores, policy)
        if assumption == "both tails":
            tails = np.maximum(low - scores, 0), np.maximum(scores - high, 0)
            if min(_covariance(logp, tail, policy) for tail in tails) < 0:
                continue
        bandits += 1
        excess = _covariance(logp, _mvar_of(scores, policy), policy) - _covariance(logp, scores, policy)
        violations += int(excess > 1e-9)
    return {"violations": float(violations), "never violated": float(violations == 0)}


def _mvar_of(scores: np.ndarray, policy: np.ndarray) -> np.ndarray:
    low, high = _quantiles(scores, policy)
    advantage: np.ndarray = mvar(torch.from_numpy(scores), low, high, omega=0.5).numpy()
    return advantage


def _quantiles(scores: np.ndarray, policy: np.ndarray) -> tuple[float, float]:
    """q_0.2 and q_0.8 of the score under the policy: the least score at which the distribution reaches the level."""
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(policy[order])
    low, high = (float(scores[order[int(np.searchsorted(reached, level))]]) for level in (0.2, 0.8))
    return low, high


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max())
    probabilities: np.ndarray = shifted / shifted.sum()
    return probabilities


def _entropy(policy: np.ndarray) -> float:
    return float(-(policy * np.log(policy)).sum())


def _covariance(x: np.ndarray, y: np.ndarray, policy: np.ndarray) -> float:
    return float((policy * x * y).sum() - (policy * x).sum() * (policy * y).sum())


def test_the_entropy_of_a_bandit_changes_as_the_covariance_foretells() -> None:
    numbers = entropy_change(0)
    assert numbers["correlation"] > 0.999
    assert numbers["agrees"] == 1.0


def test_the_bandit_s_pieces_equal_sums_over_arms() -> None:
    policy = np.array([0.1, 0.2, 0.3, 0.4])
    scores = np.array([3.0, 0.0, 1.0, 2.0])
    # In the order of scores: 0 (.2), 1 (.5), 2 (.9), 3 (1): the .2 quantile is 0, the .8 quantile 2.
    assert _quantiles(scores, policy) == (0.0, 2.0)
    np.testing.assert_allclose(_mvar_of(scores, policy), [0.0, -2.0, -1.0, 0.0])
    x, y = np.log(policy), scores
    assert _covariance(x, y, policy) == pytest.approx(np.cov(x, y, aweights=policy, ddof=0)[0, 1])
    assert _entropy(np.full(8, 0.125)) == pytest.approx(math.log(8))


def test_the_theorem_needs_both_tails() -> None:
    assert theorem("both tails", 0) == {"violations": 0.0, "never violated": 1.0}
    assert theorem("increasing", 0)["violations"] > 100
