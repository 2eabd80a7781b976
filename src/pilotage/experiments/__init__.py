"""Arms × seeds in local processes of one thread: comparisons, and the claims of papers measured again.

Names are imported when they are first used: the process of a job needs neither statistics nor pictures.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilotage.experiments.comparison import Comparison, compare
    from pilotage.experiments.jobs import Job, JobResult, ModuleNames
    from pilotage.experiments.pool import JobEvent, JobFailed, run_jobs
    from pilotage.experiments.reproduction import audit, reproduce

__all__ = [
    "Comparison",
    "Job",
    "JobEvent",
    "JobFailed",
    "JobResult",
    "ModuleNames",
    "audit",
    "compare",
    "reproduce",
    "run_jobs",
]

_MODULES = {
    "Comparison": "comparison",
    "Job": "jobs",
    "JobEvent": "pool",
    "JobFailed": "pool",
    "JobResult": "jobs",
    "ModuleNames": "jobs",
    "audit": "reproduction",
    "compare": "comparison",
    "reproduce": "reproduction",
    "run_jobs": "pool",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
