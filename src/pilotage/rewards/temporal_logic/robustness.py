"""Robustness of a formula on trajectories: above 0 where it holds, below 0 where it does not, in the signals' units.

Exact (min and max) or smooth (log-sum-exp with temperature τ), batched over leading dimensions, differentiable in
signals and parameters. Time is discrete; `windows` says how windows end at the end of a trajectory. Metrics take
the exact value: the smooth one can call satisfied what is not, by up to `smoothing_bound`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.rewards.temporal_logic.formulas import (
    Always,
    And,
    Eventually,
    Formula,
    Function,
    Implies,
    Linear,
    Not,
    Or,
    Predicate,
    Until,
    names,
    parts,
)
from pilotage.rewards.temporal_logic.windows import checked_temperature, greatest, greatest_of_window, until

Parameters = Mapping[str, "Tensor | float"]
"""Values of a formula's parameters by name: numbers, or tensors of the batch's shape [...]."""


def robustness(
    formula: Formula, signals: Mapping[str, Tensor], parameters: Parameters | None = None, *, tau: float | None = None
) -> Tensor:
    """Return the robustness at step 0, [...].

    Args:
        formula: the formula.
        signals: by name, floating point [..., step], with the same number of steps, at least one, and leading
            dimensions that broadcast.
        parameters: by name, numbers or tensors [...].
        tau: temperature of the smooth value, in 1 / unit of the signals; None gives the exact one.

    Raises:
        UsageError: for names that are not there, shapes that do not fit, values that are not finite.
    """
    return _robustness(formula, signals, parameters, 1, tau)[..., 0]


def robustness_trace(
    formula: Formula, signals: Mapping[str, Tensor], parameters: Parameters | None = None, *, tau: float | None = None
) -> Tensor:
    """Return the robustness at every step, [..., step]. Arguments and errors are those of `robustness`."""
    return _robustness(formula, signals, parameters, None, tau)


def smoothing_bound(formula: Formula, steps: int, tau: float) -> float:
    """Return the largest difference of exact and smooth robustness on trajectories of `steps` steps.

    It is log(n)/τ for every minimum or maximum of n values on the way down the formula, over the worst way.
    """
    below = max((smoothing_bound(part, steps, tau) for part in parts(formula)), default=0.0)
    match formula:
        case And(terms) | Or(terms):
            joined = len(terms)
        case Implies():
            joined = 2
        case Always(_, lower, upper) | Eventually(_, lower, upper):
            joined = max(1, steps - lower if upper is None else min(upper - lower + 1, steps - lower))
        case Until(_, _, lower, upper):
            joined = steps + 1 if upper is None else min(upper, steps) + 1
        case _:
            joined = 1
    return below + math.log(joined) / tau


@dataclass(frozen=True)
class RobustnessReward:
    """Reward of whole trajectories by a formula: `reward(trajectories)` [trajectory, ...] -> [trajectory].

    Args:
        formula: the formula.
        signals: from trajectories to the signals [trajectory, step], such as `lambda states: {"v": states[..., 3]}`.
        parameters: of the formula.
        tau: temperature of the smooth value; None: exact.
        limit: the reward is clipped to ±limit, so that one outlier does not dominate a batch; None: not at all.
    """

    formula: Formula
    signals: Callable[[Tensor], Mapping[str, Tensor]]
    parameters: Parameters = field(default_factory=dict)
    tau: float | None = None
    limit: float | None = None

    def __call__(self, trajectories: Tensor) -> Tensor:
        """Return the robustness of each trajectory, clipped to ±limit."""
        value = robustness(self.formula, self.signals(trajectories), self.parameters, tau=self.tau)
        return value if self.limit is None else value.clamp(-self.limit, self.limit)


def _robustness(
    formula: Formula, signals: Mapping[str, Tensor], parameters: Parameters | None, steps: int | None, tau: float | None
) -> Tensor:
    tau = checked_temperature(tau)
    horizon = _checked_signals(signals)
    values = {**signals, **_as_columns(signals, parameters or {})}
    if missing := [name for name in names(formula) if name not in values]:
        raise UsageError(
            f"the formula names {', '.join(missing)}, which is no signal or parameter"
            f"{nearest(missing[0], values)}; signals: {', '.join(signals)}; "
            f"parameters: {', '.join(parameters or {}) or 'none'}"
        )
    try:
        batch = torch.broadcast_shapes(*(value.shape[:-1] for value in values.values()))
    except RuntimeError:
        shapes = ", ".join(f"{name} {list(value.shape)}" for name, value in values.items())
        raise UsageError(f"the leading dimensions of signals and parameters do not broadcast: {shapes}") from None
    steps = horizon if steps is None else steps
    return _Evaluation(values, horizon, tau).of(formula, steps).expand(*batch, steps)


def _checked_signals(signals: Mapping[str, Tensor]) -> int:
    """Return the number of steps."""
    if not signals:
        raise UsageError("no signals were given; expected a mapping from name to tensor [..., T]")
    horizons = {name: value.shape[-1] if value.dim() else 0 for name, value in signals.items()}
    if len(set(horizons.values())) != 1 or 0 in horizons.values():
        raise UsageError(f"signals must be [..., T] with the same T of at least 1, got T by name: {horizons}")
    for name, value in signals.items():
        if not value.is_floating_point():
            raise UsageError(f"the signal {name!r} is {value.dtype}; expected floating point")
        if not value.isfinite().all():
            raise UsageError(
                f"the signal {name!r} holds values that are not finite; clip distances to nothing at a large number"
            )
    return next(iter(horizons.values()))


def _as_columns(signals: Mapping[str, Tensor], parameters: Parameters) -> dict[str, Tensor]:
    """Return parameters [...] as [..., 1], of the signals' type."""
    like = next(iter(signals.values()))
    columns = {}
    for name, value in parameters.items():
        if name in signals:
            raise UsageError(f"{name!r} is given as a signal and as a parameter; expected one of the two")
        column = torch.as_tensor(value, dtype=like.dtype, device=like.device)[..., None]
        if not column.isfinite().all():
            raise UsageError(f"the parameter {name!r} is not finite")
        columns[name] = column
    return columns


@dataclass(frozen=True)
class _Evaluation:
    """Evaluation of a formula at steps 0 … steps−1 by `of(formula, steps)`; only the steps that are needed."""

    values: Mapping[str, Tensor]
    horizon: int
    tau: float | None

    def of(self, formula: Formula, steps: int) -> Tensor:
        match formula:
            case Predicate():
                return self.linear(formula.margin, steps)
            case Function():
                return self.measured(formula)[..., :steps]
            case Not(operand):
                return -self.of(operand, steps)
            case And(terms):
                return -self.greatest(*(-self.of(term, steps) for term in terms))
            case Or(terms):
                return self.greatest(*(self.of(term, steps) for term in terms))
            case Implies(left, right):
                return self.greatest(-self.of(left, steps), self.of(right, steps))
            case Always(operand, lower, upper):
                inner = -self.of(operand, self.reach(steps, upper))
                return -greatest_of_window(inner, lower, upper, steps, self.tau)
            case Eventually(operand, lower, upper):
                inner = self.of(operand, self.reach(steps, upper))
                return greatest_of_window(inner, lower, upper, steps, self.tau)
            case Until(left, right, lower, upper):
                reach = self.reach(steps, upper)
                return until(self.of(left, reach), self.of(right, reach), lower, upper, steps, self.tau)
        raise TypeError(f"{type(formula).__name__} is no formula of this language")

    def reach(self, steps: int, upper: int | None) -> int:
        """Return how many steps of the operand the first `steps` windows cover."""
        return self.horizon if upper is None else min(self.horizon, steps + upper)

    def greatest(self, first: Tensor, *others: Tensor) -> Tensor:
        for other in others:
            first = greatest(first, other, self.tau)
        return first

    def linear(self, margin: Linear, steps: int) -> Tensor:
        total: Tensor | float = margin.constant
        for name, coefficient in margin.terms:
            value = self.values[name][..., :steps]
            total = total + (value if coefficient == 1 else value * coefficient)
        if not isinstance(total, Tensor):  # both sides name the same and cancel
            total = next(iter(self.values.values())).new_full((1,), total)
        return total.expand(*total.shape[:-1], steps)

    def measured(self, function: Function) -> Tensor:
        value = function.measure(self.values)
        if value.dim() == 0 or value.shape[-1] != self.horizon:
            raise UsageError(
                f"the function {function.label}() gave {list(value.shape)}; expected [..., {self.horizon}], one value "
                "per step"
            )
        return value
