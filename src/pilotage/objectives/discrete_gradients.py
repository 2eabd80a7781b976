"""Gradients through discrete draws.

Every function takes a sample that was drawn already and the probabilities that it was drawn with; it returns the same
numbers with a gradient. They differ in what the gradient is of:

| function | unbiased for a loss that is | variance |
|---|---|---|
| straight_through | linear in the sample | least |
| left_bernoulli | linear in the sample | grows as probabilities near 0 |
| smoothed_… | quadratic in the sample (in each draw alone) | grows as probabilities near 0 or 1 |
| gumbel_softmax | of the soft sample | grows as the temperature falls |
| score_function | anything, and anything may lie between | largest; a baseline helps |

Smoothed perturbations: Arya et al. 2022 (arXiv 2210.08572), smoothed; when p moves by dp, a sample jumps by one with a
known rate from either side, and both sides are averaged. Gumbel-softmax: Jang et al. 2017 (arXiv 1611.01144).
"""

from __future__ import annotations

import torch
from torch import Tensor


def straight_through(sample: Tensor, mean: Tensor) -> Tensor:
    """`sample` with the gradient of its mean: p of a Bernoulli, n · p of a binomial, p [..., K] of a one-hot sample.

    sample, mean [...] of one shape. -> [...] with the values of `sample`
    """
    _same_shape(sample, mean)
    return _with_slope(sample.to(mean.dtype), 1.0, mean)


def smoothed_bernoulli(sample: Tensor, probability: Tensor) -> Tensor:
    """0 and 1 with dX/dp = 1/(2p) where X = 1, 1/(2(1 − p)) where X = 0. [...], [...] -> [...]"""
    return smoothed_binomial(sample, probability, 1)


def left_bernoulli(sample: Tensor, probability: Tensor) -> Tensor:
    """0 and 1 with dX/dp = 1/p where X = 1 and 0 elsewhere: what happened might not have. [...], [...] -> [...]

    Half of `smoothed_bernoulli`, the perturbation from the left. The gradient flows through events alone, which are few
    where p is small; the loss is differentiated where they happened.
    """
    _same_shape(sample, probability)
    drawn = sample.to(probability.dtype)
    return _with_slope(drawn, _share(drawn, probability), probability)


def smoothed_binomial(sample: Tensor, probability: Tensor, trials: int) -> Tensor:
    """Successes in `trials` with dX/dp = X/(2p) + (n − X)/(2(1 − p)). [...], [...] -> [...]"""
    _same_shape(sample, probability)
    drawn = sample.to(probability.dtype)
    slope = _share(drawn, 2 * probability) + _share(trials - drawn, 2 * (1 - probability))
    return _with_slope(drawn, slope, probability)


def smoothed_geometric(sample: Tensor, probability: Tensor) -> Tensor:
    """Failures before the first success with dX/dp = −(X/(1 − p) + X + 1)/(2p). [...], [...] -> [...]"""
    _same_shape(sample, probability)
    drawn = sample.to(probability.dtype)
    slope = -_share(_share(drawn, 1 - probability) + drawn + 1, 2 * probability)
    return _with_slope(drawn, slope, probability)


def smoothed_categorical(sample: Tensor, probability: Tensor) -> Tensor:
    """Return a one-hot sample drawn by inversion: a move of the boundary C_k between classes k and k + 1 carries the
    sample from one to the other, with rate dC_k/(2 p) from either side.

    sample, probability [..., K], the latter summing to 1. -> [..., K]
    """
    _same_shape(sample, probability)
    drawn = sample.to(probability.dtype)
    moved = probability.cumsum(-1)
    moved = (moved - moved.detach())[..., :-1]
    rate = _share(drawn, 2 * probability)
    flow = moved * (rate[..., :-1] + rate[..., 1:])
    return drawn + _padded(flow, right=True) - _padded(flow, right=False)


def gumbel_softmax(logits: Tensor, uniform: Tensor, *, temperature: float, hard: bool = False) -> Tensor:
    """softmax((logits + g)/τ) with Gumbel noise g = −ln(−ln u): a one-hot sample in the limit τ → 0.

    logits [..., K]; uniform [..., K] in [0, 1); temperature: τ > 0; hard: one-hot values with the soft sample's
    gradient. -> [..., K]
    """
    _same_shape(uniform, logits)
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, got {temperature}")
    tiny = torch.finfo(logits.dtype).tiny
    noise = -(-uniform.to(logits.dtype).clamp(min=tiny).log()).clamp(min=tiny).log()
    soft = torch.softmax((logits + noise) / temperature, -1)
    if not hard:
        return soft
    one_hot = torch.zeros_like(soft).scatter_(-1, soft.argmax(-1, keepdim=True), 1.0)
    return straight_through(one_hot, soft)


def score_function(log_probability: Tensor, loss: Tensor, baseline: Tensor | float = 0.0) -> Tensor:
    """Return the value of `loss` with the gradient (loss − baseline) ∇ln P + ∇loss (REINFORCE, Williams 1992).

    log_probability: [...] of everything that was drawn on the way to each loss; loss [...]; baseline: anything that the
    draws of the same row did not decide. -> [...]
    """
    _same_shape(log_probability, loss)
    advantage = (loss - baseline).detach()
    return loss + advantage * (log_probability - log_probability.detach())


def mean_of_others(loss: Tensor) -> Tensor:
    """Return for each of N ≥ 2 independent losses the mean of the others, an unbiased baseline: [N] -> [N]."""
    if loss.dim() != 1 or len(loss) < 2:
        raise ValueError(f"a mean of the others needs losses [N] with N ≥ 2, got {list(loss.shape)}")
    values = loss.detach()
    return (values.sum() - values) / (len(values) - 1)


def bernoulli_log_probability(sample: Tensor, probability: Tensor) -> Tensor:
    """Ln P of 0 and 1 under p; finite gradient also where p is 0 or 1 and the sample is the certain one.

    [...], [...] -> [...]
    """
    _same_shape(sample, probability)
    return torch.where(sample > 0, probability, 1 - probability).log()


def _with_slope(values: Tensor, slope: Tensor | float, argument: Tensor) -> Tensor:
    """`values` whose derivative with respect to `argument` is `slope`."""
    held = slope.detach() if isinstance(slope, Tensor) else slope
    # The difference is exactly 0, so that the values do not change by rounding.
    return values.detach() + held * (argument - argument.detach())


def _share(count: Tensor, of: Tensor) -> Tensor:
    """Count / of, and 0 where the count is 0, whatever `of`; a constant."""
    counted, held = count.detach(), of.detach()
    none = counted == 0
    return torch.where(none, torch.zeros_like(counted), counted / torch.where(none, torch.ones_like(held), held))


def _padded(values: Tensor, *, right: bool) -> Tensor:
    return torch.nn.functional.pad(values, (0, 1) if right else (1, 0))


def _same_shape(sample: Tensor, probability: Tensor) -> None:
    if sample.shape != probability.shape:
        raise ValueError(f"expected tensors of one shape, got {list(sample.shape)} and {list(probability.shape)}")
