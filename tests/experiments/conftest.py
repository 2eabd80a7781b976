"""Experiments over the fake system of this folder; the processes of jobs import it by name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pilotage.experiments import ModuleNames

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def modules() -> ModuleNames:
    return ModuleNames("fake_system", "fake_system", "fake_system")
