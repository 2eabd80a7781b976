"""Core of the simulators: a state of tensors, ordered substeps, episodes of days.

A substep is a function `(state, action, noise) -> state`. It may write into the tensors that it is given; `copied`
keeps a state. Static facts (who lives where) belong to the maker of a substep, not to the state.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.env.noise import Noise

State = dict[str, Tensor]
"""State of a simulation by name. Tensors only, so that a checkpoint can hold it."""
Action = dict[str, Any]
"""Decisions for a day by name: R, probabilities of isolating, …"""
Substep = Callable[[State, Action, Noise], State]

MAKERS: dict[str, Callable[..., Substep]] = {}
"""Makers of substeps by name: `(population, settings) -> Substep`."""


def register(name: str) -> Callable[[Callable[..., Substep]], Callable[..., Substep]]:
    """Register a maker of substeps under a name that no other has (decorator)."""

    def add(maker: Callable[..., Substep]) -> Callable[..., Substep]:
        if MAKERS.setdefault(name, maker) is not maker:
            raise UsageError(f"there is already a substep named {name!r}")
        return maker

    return add


def made(names: Sequence[str | Substep], *arguments: Any) -> list[Substep]:
    """Return substeps in order, from names or functions. Raises UsageError for a name that is not registered."""
    substeps: list[Substep] = []
    for name in names:
        if not isinstance(name, str):
            substeps.append(name)
        elif name in MAKERS:
            substeps.append(MAKERS[name](*arguments))
        else:
            raise UsageError(f"there is no substep {name!r}; registered are {', '.join(sorted(MAKERS))}")
    return substeps


def episode(
    state: State, substeps: Sequence[Substep], action_of: Callable[[int, State], Action], *, days: range, seed: int
) -> Iterator[State]:
    """Yield the state after each day: every substep in order, with the day's action and the day's noise.

    Args:
        state: the first state.
        substeps: substeps of a day.
        action_of: (day, state) -> action.
        days: the days.
        seed: seed of the noise.
    """
    for day in days:
        action, noise = action_of(day, state), Noise(seed, day)
        for substep in substeps:
            state = substep(state, action, noise)
        yield state


def copied(state: State) -> State:
    """Return a copy of the state."""
    return {name: value.clone() for name, value in state.items()}
