"""What the page of a single run shows beside its curves, where a system has pictures of its own."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pilotage.runs.reader import RunRecord

MAKERS: Mapping[str, str] = {
    "agent-torch": "pilotage.systems.societies.agent_torch.report:panels",
    "llm-economist": "pilotage.systems.societies.llm_economist.report:panels",
    "stock-agent": "pilotage.systems.societies.stock_agent.report:panels",
}
"""System to the function that gives its panels, imported when a page needs it."""


@dataclass(frozen=True)
class Exchange:
    """Something that was asked and answered, as it was; to be escaped where it is shown."""

    who: str
    step: int
    prompt: str
    answer: str
    model: str


@dataclass(frozen=True)
class Panel:
    """A section of the page."""

    key: str
    """Its anchor."""
    title: str
    note: str = ""
    legend: tuple[tuple[int, str], ...] = ()
    """Index of a line's colour and dash, and its name."""
    wide: tuple[Markup, ...] = ()
    """Charts over the whole width."""
    figures: tuple[tuple[str, Markup], ...] = ()
    """Small multiples with captions."""
    columns: tuple[str, ...] = ()
    """Of a table, the first being names."""
    rows: tuple[tuple[str, ...], ...] = ()
    exchanges: tuple[Exchange, ...] = ()


def panels_of(run: RunRecord) -> Sequence[Panel]:
    """The panels of a run; none for a system without, or for a run that has not begun to write."""
    maker = MAKERS.get(str(run.about.get("system", "")))
    if maker is None:
        return ()
    module, _, name = maker.partition(":")
    make: Callable[[RunRecord], Sequence[Panel]] = getattr(importlib.import_module(module), name)
    return make(run)
