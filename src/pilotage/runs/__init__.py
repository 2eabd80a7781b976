"""What a run leaves behind: its directory, metrics, checkpoints and artifacts, and how it resumes, shows and tells.

Names are imported when they are first used, so that `pilotage.runs.progress` and `.hardware` load without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilotage.runs.artifacts import artifact as artifact
    from pilotage.runs.artifacts import artifact_cost as artifact_cost
    from pilotage.runs.artifacts import artifact_root as artifact_root
    from pilotage.runs.artifacts import read_artifact as read_artifact
    from pilotage.runs.artifacts import verify_artifact as verify_artifact
    from pilotage.runs.directory import Run as Run
    from pilotage.runs.directory import read_result as read_result
    from pilotage.runs.hardware import check_device as check_device
    from pilotage.runs.hardware import resolve_precision as resolve_precision
    from pilotage.runs.journal import Journal as Journal
    from pilotage.runs.manifest import Manifest as Manifest
    from pilotage.runs.manifest import Recipe as Recipe
    from pilotage.runs.metrics import read_lines as read_lines
    from pilotage.runs.progress import Progress as Progress
    from pilotage.runs.tracking import TRACKERS as TRACKERS

_WHERE = {
    "artifact": "artifacts",
    "artifact_cost": "artifacts",
    "artifact_root": "artifacts",
    "read_artifact": "artifacts",
    "verify_artifact": "artifacts",
    "Run": "directory",
    "read_result": "directory",
    "check_device": "hardware",
    "resolve_precision": "hardware",
    "Journal": "journal",
    "Manifest": "manifest",
    "Recipe": "manifest",
    "read_lines": "metrics",
    "Progress": "progress",
    "TRACKERS": "tracking",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
