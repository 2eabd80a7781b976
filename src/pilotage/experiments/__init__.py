"""Arms × seeds in local processes of one thread: comparisons, and the claims of papers measured again.

Names are imported when they are first used: the process of a cell needs neither statistics nor pictures."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilotage.experiments.cells import Cell, Outcome, Wiring
    from pilotage.experiments.comparison import Comparison, compare
    from pilotage.experiments.reproduction import reproduce
    from pilotage.experiments.workers import CellEvent, CellFailed, run_cells

__all__ = ["Cell", "CellEvent", "CellFailed", "Comparison", "Outcome", "Wiring", "compare", "reproduce", "run_cells"]

_MODULES = {
    "Cell": "cells",
    "CellEvent": "workers",
    "CellFailed": "workers",
    "Comparison": "comparison",
    "Outcome": "cells",
    "Wiring": "cells",
    "compare": "comparison",
    "reproduce": "reproduction",
    "run_cells": "workers",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
