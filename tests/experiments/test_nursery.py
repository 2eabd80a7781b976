"""Cells are forked from a process that has imported what they need; they end with it, and it says how they ended."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from pilotage.experiments import Job, Wiring
from pilotage.experiments.jobs import place, write_json
from pilotage.experiments.nursery import Nursery


@pytest.fixture
def nursery():
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    made = Nursery({**os.environ, "PYTHONPATH": path}, ())
    yield made
    made.close()


def describe(root: Path, wiring: Wiring, command: str) -> Path:
    placed = place(Job(arm="a", unit=0, command=command), wiring, root)
    placed.directory.mkdir(parents=True)
    description = placed.directory / "cell.json"
    cell = {"arm": "a", "unit": 0, "command": command}
    wired = {"catalogue": wiring.catalogue, "launch": wiring.launch, "hardware": wiring.hardware}
    write_json(
        description,
        {"cell": cell, "key": placed.key, "directory": str(placed.directory), "wiring": wired, "parent": 0},
    )
    return description


def test_a_cell_runs_in_a_child_and_its_end_is_heard(nursery, wiring, tmp_path):
    description = describe(tmp_path, wiring, "bandit --steps 3")
    child = nursery.start(description, tmp_path / "out", tmp_path / "err")
    assert child.pid not in (os.getpid(), nursery._process.pid)
    assert child.wait() == 0, (tmp_path / "err").read_text()
    assert json.loads((description.parent / "outcome.json").read_text())["metrics"]


def test_input_that_cannot_work_ends_with_two_and_a_message(nursery, wiring, tmp_path):
    description = describe(tmp_path, wiring, "bandit --steps 3")
    stored = json.loads(description.read_text())
    stored["cell"]["command"] = "bandit --speed 3"
    description.write_text(json.dumps(stored))
    child = nursery.start(description, tmp_path / "out", tmp_path / "err")
    assert child.wait() == 2
    assert "speed" in (tmp_path / "err").read_text()


def test_a_killed_child_is_heard_as_its_signal_and_the_nursery_goes_on(nursery, wiring, tmp_path):
    slow = describe(tmp_path / "slow", wiring, "bandit --steps 400 --sleep 0.05")
    child = nursery.start(slow, tmp_path / "out", tmp_path / "err")
    assert child.poll() is None
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    quick = describe(tmp_path / "quick", wiring, "bandit --steps 2")
    assert nursery.start(quick, tmp_path / "out", tmp_path / "err").wait() == 0


def test_children_die_with_the_nursery(nursery, wiring, tmp_path):
    slow = describe(tmp_path, wiring, "bandit --steps 400 --sleep 0.05")
    child = nursery.start(slow, tmp_path / "out", tmp_path / "err")
    nursery.close()
    for _ in range(200):
        try:
            os.kill(child.pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{child.pid}/stat").read_text().split(")")[1].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the child lives on")
