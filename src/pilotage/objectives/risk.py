"""RiskPO: risk measures of bundle scores, bundles, credit within a bundle, tracked quantiles.

Ren et al. 2025, «RiskPO: Risk-based Policy Optimization via Verifiable Reward» (arXiv 2510.00911). A *bundle* joins one
answer each to B prompts; its score R is the sum of their rewards. q_α and q_β are quantiles of R. Rows in no bundle
have bundle −1 and advantage 0. `rvar_weight` and `mvar` take any tensors of scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.objectives.groups import group_index, group_mean, group_size, group_std, group_sum
from pilotage.objectives.shapes import check_shapes

Credit = Literal["uniform", "std", "score", "sum_mean"]
Source = Literal["track", "batch", "mix"]
LARGEST_SHARE = 5.0
"""sum_mean shares are clamped to ± this (a choice of this library: the ratio explodes when deviations cancel)."""


def rvar_weight(z: Tensor, a: Tensor | float, b: Tensor | float) -> Tensor:
    """g(z, a, b) = (z−a)⁺ − (z−b)⁺ + a − b ≤ 0 for a ≤ b: −(b−a) below a, rising to 0 at b.

    Times ∇log π/(β−α) its mean is the gradient of the mean of z between its quantiles a and b (range value at risk).
    """
    return (z - a).clamp(min=0) - (z - b).clamp(min=0) + a - b


def mvar(bundle_score: Tensor, q_alpha: Tensor | float, q_beta: Tensor | float, *, omega: float = 0.5) -> Tensor:
    """Return −(1+ω)(q_α − R)⁺ + g(R, q_α, q_β), any shape; never positive. `omega` ≥ 0 weighs the lower tail."""
    return -(1 + omega) * (q_alpha - bundle_score).clamp(min=0) + rvar_weight(bundle_score, q_alpha, q_beta)


def mvar_repository(
    bundle_score: Tensor,
    q_alpha: Tensor | float,
    q_beta: Tensor | float,
    *,
    alpha: float = 0.2,
    beta: float = 0.8,
    mix: float = 1.5,
    natural_baseline: bool = True,
) -> Tensor:
    """Return (w·CVaR + RVaR)/(w + 1) as in the authors' code, before its division by the set's deviation: any shape.

    RVaR = g/(β−α), CVaR = −(q_α−R)⁺/α; `mix` is w (another parameterisation than ω). `natural_baseline=False` drops
    g's constant a − b, so that the advantage has both signs.
    """
    _check_levels(alpha, beta)
    middle = rvar_weight(bundle_score, q_alpha, q_beta)
    if not natural_baseline:
        middle = middle + q_beta - q_alpha
    lower = -(q_alpha - bundle_score).clamp(min=0) / (alpha + 1e-6)
    return (mix * lower + middle / (beta - alpha + 1e-6)) / (mix + 1)


def mvar_seeking(
    bundle_score: Tensor,
    q_alpha: Tensor | float,
    q_beta: Tensor | float,
    *,
    alpha: float = 0.2,
    beta: float = 0.8,
    mix: float = 1.5,
    natural_baseline: bool = True,
) -> Tensor:
    """Return the risk-seeking control: mvar_repository with the upper tail (R−q_β)⁺/(1−β) in place of the lower one."""
    _check_levels(alpha, beta)
    middle = rvar_weight(bundle_score, q_alpha, q_beta)
    if not natural_baseline:
        middle = middle + q_beta - q_alpha
    upper = (bundle_score - q_beta).clamp(min=0) / (1 - beta + 1e-6)
    return (mix * upper + middle / (beta - alpha + 1e-6)) / (mix + 1)


def make_bundles(group: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return the bundle of every row: group [N] -> [N] int64, numbered from 0; −1 for rows in none.

    Prompts (groups, in ascending order) are taken `size` at a time; each prompt's answers are permuted, and bundle j of
    a set takes the j-th of each. A set gives as many bundles as its smallest group has answers; what is left over, and
    the prompts of an incomplete last set, are in no bundle, and so are all answers when no set fills. Raises UsageError
    for a size below 1.
    """
    check_shapes("N", group)
    index, count = group_index(group)
    if size < 1:
        raise UsageError(f"bundles of {size} prompts: a bundle joins at least one")
    if count < size:
        return torch.full_like(index, -1)
    shuffled = torch.randperm(len(group), generator=generator).to(group.device)
    order = shuffled[torch.argsort(index[shuffled], stable=True)]  # by group, in random order within each
    sizes = torch.bincount(index, minlength=count)
    rank = torch.empty_like(index)
    rank[order] = torch.arange(len(group), device=group.device) - (sizes.cumsum(0) - sizes)[index[order]]
    sets = count // size
    per_set = sizes[: sets * size].view(sets, size).amin(1)
    first = per_set.cumsum(0) - per_set
    row_set = (index // size).clamp(max=sets - 1)
    inside = (index < sets * size) & (rank < per_set[row_set])
    return torch.where(inside, first[row_set] + rank, -1)


def bundle_score(reward: Tensor, bundle: Tensor) -> Tensor:
    """For every row the score of its bundle, the sum of its members' rewards; 0 in no bundle: both [N] -> [N]."""
    check_shapes("N N", reward, bundle)
    return torch.where(bundle >= 0, group_sum(reward, bundle), 0.0)


def scores_of_bundles(reward: Tensor, bundle: Tensor) -> Tensor:
    """Return the scores of the bundles themselves: reward, bundle [N] -> [number of bundles]."""
    check_shapes("N N", reward, bundle)
    joined = bundle >= 0
    totals = reward.new_zeros(int(bundle.max()) + 1 if len(bundle) else 0)
    return totals.index_add(0, bundle[joined], reward[joined])


def divide_by_set_std(advantage: Tensor, reward: Tensor, group: Tensor, bundle: Tensor) -> Tensor:
    """Return the advantage divided by the deviation of the bundle scores of its set (all bundles of the same B
    prompts).

    All [N] -> [N]. Unbiased deviation + 1e-6, as in the authors' code; where it is 0 the advantage stays as it is.
    """
    check_shapes("N N N N", advantage, reward, group, bundle)
    row_set = set_of(group, bundle)
    # Every member carries its bundle's score, so the deviation over rows is corrected to one over bundles.
    members = group_size(bundle).to(reward.dtype)
    rows = group_size(row_set).to(reward.dtype)
    biased = group_std(bundle_score(reward, bundle), row_set, unbiased=False)
    bundles = rows / members
    std = biased * (bundles / (bundles - 1).clamp(min=1)).sqrt()
    return torch.where(bundle >= 0, advantage / torch.where(std > 0, std + 1e-6, 1.0), 0.0)


def set_of(group: Tensor, bundle: Tensor) -> Tensor:
    """Return which set of prompts a row's bundle was made from, named by the set's first group: group, bundle [N] ->
    [N]; −1 in no bundle.
    """
    check_shapes("N N", group, bundle)
    index = group_index(bundle)[0]
    lowest = torch.zeros_like(group).scatter_reduce(0, index, group_index(group)[0], "amin", include_self=False)
    return torch.where(bundle >= 0, lowest[index], -1)


def set_quantiles(reward: Tensor, group: Tensor, bundle: Tensor, level: float) -> Tensor:
    """For every row the empirical quantile of the bundle scores of its set: all [N] -> [N]; 0 in no bundle."""
    check_shapes("N N N", reward, group, bundle)
    row_set, result = set_of(group, bundle), torch.zeros_like(reward)
    for one in row_set.unique().tolist():
        if one < 0:
            continue
        inside = row_set == one
        of_bundles = scores_of_bundles(reward, bundle)[bundle[inside].unique()]
        result[inside] = torch.quantile(of_bundles.double(), level).to(reward.dtype)
    return result


def curve_mean(quantiles: Tensor, levels: Tensor, q_alpha: float, q_beta: float) -> float:
    """Return ∫ g(q_s, q_α, q_β) ds by trapezoids over the tracked curve: quantiles, levels [S].

    It is what the middle of a bundle's advantage is on average, a part of the authors' optional baseline.
    """
    check_shapes("S S", quantiles, levels)
    return float(torch.trapezoid(rvar_weight(quantiles, q_alpha, q_beta), levels))


def curve_tail_mean(quantiles: Tensor, levels: Tensor, q_alpha: float) -> float:
    """Return ∫ −(q_α − q_s)⁺ ds by trapezoids over the tracked curve: quantiles, levels [S].

    It is what the lower tail (CVaR) of a bundle's advantage is on average, the other part of that baseline.
    """
    check_shapes("S S", quantiles, levels)
    return float(torch.trapezoid(-(q_alpha - quantiles).clamp(min=0), levels))


def sum_mean_share(reward: Tensor, group: Tensor, bundle: Tensor) -> Tensor:
    """Return (R_i − mean_i)/Σ_k(R_k − mean_k) over the members of a bundle, before the clamp: all [N] -> [N].

    Equal shares where the deviations cancel. `(share.abs() > LARGEST_SHARE).sum()` counts the clamped ones.
    """
    check_shapes("N N N", reward, group, bundle)
    deviation = reward - group_mean(reward, group)
    total = group_sum(deviation, bundle)
    cancels = total.abs() < 1e-6
    share = torch.where(cancels, 1.0 / group_size(bundle), deviation / torch.where(cancels, 1.0, total))
    return torch.where(bundle >= 0, share, 0.0)


def bundle_credit(
    advantage: Tensor, reward: Tensor, group: Tensor, bundle: Tensor, *, mode: Credit = "uniform"
) -> Tensor:
    """Return how a bundle's advantage falls on its members: all [N] -> [N].

    uniform: to all alike (the paper). The authors' code also has std: divided by the deviation of the prompt's rewards
    (1 where below 1e-3); score: half for a right member, 1.5 times for a wrong one; sum_mean: by `sum_mean_share`,
    clamped to ±5 here. Beware: sum_mean punishes right answers of a bad bundle that beat its own expectation.
    """
    check_shapes("N N N N", advantage, reward, group, bundle)
    if mode == "uniform":
        factor = torch.ones_like(reward)
    elif mode == "std":
        std = group_std(reward, group)
        factor = torch.where(std < 1e-3, 1.0, std).reciprocal()
    elif mode == "score":
        factor = torch.where(reward > 0, 0.5, 1.5).to(reward.dtype)
    elif mode == "sum_mean":
        factor = sum_mean_share(reward, group, bundle).clamp(-LARGEST_SHARE, LARGEST_SHARE)
    else:
        raise UsageError(f"credit is {mode!r}; it must be uniform, std, score or sum_mean")
    return torch.where(bundle >= 0, advantage * factor, 0.0)


def track_quantiles(quantiles: Tensor, levels: Tensor, scores: Tensor, *, rate: float = 0.1) -> Tensor:
    """q_s + rate·(s − share of scores below q_s): quantiles, levels [S], scores [n] -> [S]. Equality is not below.

    One step of stochastic gradient descent on the pinball loss.
    """
    check_shapes("S S n", quantiles, levels, scores)
    below = (scores[None, :].to(quantiles.dtype) < quantiles[:, None]).to(quantiles.dtype).mean(1)
    return quantiles + rate * (levels - below)


class QuantileTracker:
    """Quantiles of a drifting distribution at levels 0.05, 0.10, …, 0.95; the first batch gives their start."""

    def __init__(self, *, rate: float = 0.1) -> None:
        self.rate = rate
        self.levels = torch.arange(1, 20, dtype=torch.float64) / 20
        self.quantiles: Tensor | None = None

    def update(self, scores: Tensor) -> None:
        """Take in a batch of scores [n]; the first one sets the empirical quantiles, later ones move them a little."""
        scores = scores.detach().double().cpu()
        if len(scores) == 0:
            return
        if self.quantiles is None:
            self.quantiles = torch.quantile(scores, self.levels)
        else:
            self.quantiles = track_quantiles(self.quantiles, self.levels, scores, rate=self.rate)

    def quantile(self, level: float) -> float:
        """Return the tracked quantile at `level` in [0.05, 0.95], between two levels by linear interpolation."""
        if self.quantiles is None:
            raise RuntimeError("no scores yet: update the tracker before asking for a quantile")
        position = level * 20 - 1
        if not -1e-9 <= position <= 18 + 1e-9:
            raise UsageError(f"level is {level}; quantiles are tracked from 0.05 to 0.95")
        lower = min(int(position + 1e-9), 17)
        return torch.lerp(self.quantiles[lower], self.quantiles[lower + 1], position - lower).item()

    def state_dict(self) -> dict[str, Any]:
        """Return the tracked quantiles, or None before the first batch."""
        return {"quantiles": self.quantiles}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state written by `state_dict`."""
        quantiles = state["quantiles"]
        self.quantiles = None if quantiles is None else quantiles.detach().double().clone()


class MeanValueAtRisk:
    """RiskPO's advantage: `(reward, group, bundle) -> advantage`, all [N].

    The paper's text tracks the quantiles over the batches (`quantiles="track"`): a batch is weighed by the tracked
    quantiles of those before it, the first one by its own. The authors' published code has a tracker too, but writes
    its quantiles where the next batch does not find them, so that its runs used the quantiles of each set itself
    ("batch"). Each form has its own default. After each batch call `update(reward, bundle)`.

    Args:
        alpha: level of the lower quantile, 0.05 to 0.95.
        beta: level of the upper quantile, above alpha, 0.05 to 0.95.
        omega: weight of the lower tail in the form "paper".
        form: paper, repository (the authors' code), or seeking (the risk-seeking control).
        mix: weight in the forms "repository" and "seeking".
        natural_baseline: whether these forms keep the constant of g.
        normalise: whether these forms divide by the set's deviation.
        credit: how a bundle's advantage is shared among its answers, see `bundle_credit`.
        rate: step of the tracker of quantiles.
        quantiles: track, batch (empirical quantiles of each set) or mix (the mean of both); none: track in the form
            "paper", batch in the others.
        curve_baseline: whether the means of the middle and, in the form "repository", of the lower tail over the
            tracked curve are taken off (forms "repository" and "seeking").
    """

    def __init__(
        self,
        *,
        alpha: float = 0.2,
        beta: float = 0.8,
        omega: float = 0.5,
        form: Literal["paper", "repository", "seeking"] = "paper",
        mix: float = 1.5,
        natural_baseline: bool = True,
        normalise: bool = True,
        credit: Credit = "uniform",
        rate: float = 0.1,
        quantiles: Source | None = None,
        curve_baseline: bool = False,
    ) -> None:
        _check_levels(alpha, beta)
        if form not in ("paper", "repository", "seeking"):
            raise UsageError(f"form is {form!r}; it must be paper, repository or seeking")
        if quantiles not in (None, "track", "batch", "mix"):
            raise UsageError(f"quantiles is {quantiles!r}; it must be track, batch or mix")
        self.alpha, self.beta, self.omega, self.form = alpha, beta, omega, form
        self.mix, self.natural_baseline, self.normalise, self.credit = mix, natural_baseline, normalise, credit
        self.quantiles: Source = quantiles or ("track" if form == "paper" else "batch")
        self.curve_baseline = curve_baseline
        self.tracker = QuantileTracker(rate=rate)

    def __call__(self, reward: Tensor, group: Tensor, bundle: Tensor) -> Tensor:
        """Reward [N] float, group and bundle [N] int64 -> advantage [N]; changes no state but an empty tracker's."""
        check_shapes("N N N", reward, group, bundle)
        if not bool((bundle >= 0).any()):
            return torch.zeros_like(reward)
        if self.tracker.quantiles is None:
            self.tracker.update(scores_of_bundles(reward, bundle))
        score = bundle_score(reward, bundle)
        q_alpha, q_beta = (self._quantile(level, reward, group, bundle) for level in (self.alpha, self.beta))
        if self.form == "paper":
            advantage = mvar(score, q_alpha, q_beta, omega=self.omega)
        else:
            measure = mvar_repository if self.form == "repository" else mvar_seeking
            options = {"alpha": self.alpha, "beta": self.beta, "mix": self.mix}
            advantage = measure(score, q_alpha, q_beta, natural_baseline=self.natural_baseline, **options)
            if self.curve_baseline:
                advantage = advantage - self._curve_baseline()
            if self.normalise:
                advantage = divide_by_set_std(advantage, reward, group, bundle)
        return bundle_credit(advantage, reward, group, bundle, mode=self.credit)

    def _quantile(self, level: float, reward: Tensor, group: Tensor, bundle: Tensor) -> Tensor | float:
        tracked = self.tracker.quantile(level)
        if self.quantiles == "track":
            return tracked
        own = set_quantiles(reward, group, bundle, level)
        return own if self.quantiles == "batch" else (own + tracked) / 2

    def _curve_baseline(self) -> float:
        """Return the mean of the advantage over the tracked curve, weighed as in the advantage."""
        quantiles, levels = self.tracker.quantiles, self.tracker.levels
        assert quantiles is not None
        a, b = self.tracker.quantile(self.alpha), self.tracker.quantile(self.beta)
        mean = curve_mean(quantiles, levels, a, b)
        if not self.natural_baseline:
            mean += b - a
        mean /= self.beta - self.alpha + 1e-6
        if self.form == "repository":
            mean += self.mix * curve_tail_mean(quantiles, levels, a) / (self.alpha + 1e-6)
        return mean / (self.mix + 1)

    def update(self, reward: Tensor, bundle: Tensor) -> None:
        """Move the tracked quantiles towards this batch's bundle scores: reward, bundle [N]."""
        self.tracker.update(scores_of_bundles(reward, bundle))

    def state_dict(self) -> dict[str, Any]:
        """Return the tracker's state."""
        return {"tracker": self.tracker.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state written by `state_dict`."""
        self.tracker.load_state_dict(state["tracker"])


def _check_levels(alpha: float, beta: float) -> None:
    if not 0 < alpha < beta < 1:
        raise UsageError(f"alpha={alpha} and beta={beta}: quantile levels must satisfy 0 < alpha < beta < 1")
