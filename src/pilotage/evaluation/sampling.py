"""What repeated sampling tells: pass@k and maj@k over prompts with n answers each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln

from pilotage.core.errors import UsageError


def pass_at_k(right: ArrayLike, total: ArrayLike, k: int) -> NDArray[np.float64]:
    """Return the unbiased chance that at least one of k answers is right, 1 − C(n−c, k)/C(n, k), for every prompt.

    `right` (c) and `total` (n): counts per prompt, any shapes that broadcast. Binomials are taken in logarithms, so
    that large n does not overflow. Raises UsageError where n < k. Chen et al. 2021 (arXiv 2107.03374), eq. 1.
    """
    c, n = np.broadcast_arrays(np.asarray(right, dtype=float), np.asarray(total, dtype=float))
    if k < 1 or np.any(n < k):
        raise UsageError(f"pass@{k} from {n.min(initial=np.inf):g} answers to a prompt; it needs 1 ≤ k ≤ answers")
    if np.any((c < 0) | (c > n)):
        raise UsageError("a prompt has fewer than 0 or more than all of its answers right")
    wrong = n - c
    enough = wrong >= k  # otherwise every choice of k answers holds a right one
    safe = np.where(enough, wrong, k)
    log_none = gammaln(safe + 1) - gammaln(safe - k + 1) - gammaln(n + 1) + gammaln(n - k + 1)
    return np.where(enough, -np.expm1(np.minimum(log_none, 0.0)), 1.0)


def majority_at_k(
    answers: Sequence[Hashable | None], right: Sequence[float], k: int, generator: np.random.Generator, draws: int = 64
) -> float:
    """Return the chance that the most frequent of k answers to one prompt is right, over `draws` random choices.

    `answers`: the extracted answers, None where there was none (it never wins); `right`: 1.0 or 0.0 for each. A tie
    counts by the share of right answers among the tied. With k = n there is one choice only, and no randomness.
    Raises UsageError where n < k. Wang et al. 2023, self-consistency.
    """
    if len(answers) != len(right):
        raise UsageError(f"{len(answers)} answers and {len(right)} scores; they must be as many")
    if not 1 <= k <= len(answers):
        raise UsageError(f"maj@{k} from {len(answers)} answers; it needs 1 ≤ k ≤ answers")
    if k == len(answers):
        return _majority(answers, right, np.arange(k))
    votes = [_majority(answers, right, generator.choice(len(answers), k, replace=False)) for _ in range(draws)]
    return float(np.mean(votes))


def _majority(answers: Sequence[Hashable | None], right: Sequence[float], chosen: NDArray[np.int64]) -> float:
    scores: dict[Hashable, list[float]] = defaultdict(list)
    for i in chosen:
        answer = answers[i]
        if answer is not None:
            scores[answer].append(float(right[i]))
    if not scores:
        return 0.0
    most = max(len(each) for each in scores.values())
    return float(np.mean([np.mean(each) for each in scores.values() if len(each) == most]))
