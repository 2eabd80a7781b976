"""What all tests share: no network, one thread, a home of their own, the real data where it is at hand."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Before anything imports torch or transformers.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ["PILOTAGE_HOME"] = tempfile.mkdtemp(prefix="pilotage-tests-")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("pilotage", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("pilotage"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "pilotage")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the repository. Tests that need it are skipped where it is absent."""
    root = Path(os.environ.get("PILOTAGE_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data"
    if not root.is_dir():
        pytest.skip(f"the real data folder {root} is absent")
    return root
