"""Folders that the library keeps outside of runs."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Return where artifacts and finished jobs are kept: `$PILOTAGE_HOME`, otherwise `~/.cache/pilotage`."""
    named = os.environ.get("PILOTAGE_HOME")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "pilotage"
