from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pilotage.core.intervals import t_interval
from pilotage.report.curves import curve, final_interval, levels_of
from pilotage.runs.reader import RunRecord, read_examples, read_run


def make(directory: Path, lines: list[dict[str, Any]], seconds: float = 1.0) -> RunRecord:
    directory.mkdir()
    (directory / "run.json").write_text("{}")
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    steps = [line["step"] for line in lines]
    took = [(b, seconds * (b - a)) for a, b in pairwise(steps)]
    timing = [{"step": step, "seconds": spent} for step, spent in took]
    (directory / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in timing))
    return read_run(directory)


@pytest.fixture
def runs(tmp_path: Path) -> list[RunRecord]:
    """Two seeds on the lines y = step and y = 3·step; the second spends twice the tokens and seconds."""
    return [
        make(
            tmp_path / str(seed),
            [
                {"step": s, "y": slope * s, "tokens/total": cost * 100 * s, "samples/total": cost * 10 * s}
                for s in range(0, 9, 2)
            ],
            seconds=cost,
        )
        for seed, (slope, cost) in enumerate([(1.0, 1), (3.0, 2)])
    ]


def test_a_curve_is_mean_and_t_interval_over_seeds(runs: list[RunRecord]) -> None:
    found = curve("arm", runs, "y")
    assert found is not None
    np.testing.assert_allclose(found.x, [0, 2, 4, 6, 8])
    np.testing.assert_allclose(found.y, [0, 4, 8, 12, 16])
    expected = t_interval([8.0, 24.0])
    assert found.band is not None
    assert (found.band[0][-1], found.band[1][-1]) == pytest.approx((expected.low, expected.high))


@pytest.mark.parametrize(("axis", "unit"), [("tokens", 100), ("samples", 10), ("seconds", 1)])
def test_other_axes_interpolate_each_seed_up_to_the_shortest(runs: list[RunRecord], axis: str, unit: int) -> None:
    found = curve("arm", runs, "y", axis)  # type: ignore[arg-type]
    assert found is not None
    assert (found.x[0], found.x[-1]) == (0, 8 * unit)
    # At cost c the first seed stands at step c, the second at step c/2.
    np.testing.assert_allclose(found.y, (found.x / unit + 3 * found.x / unit / 2) / 2)


def test_only_steps_that_all_seeds_have_count(tmp_path: Path) -> None:
    long = make(tmp_path / "a", [{"step": s, "y": 1.0} for s in range(10)])
    short = make(tmp_path / "b", [{"step": s, "y": 1.0 if s != 3 else None} for s in range(6)])
    found = curve("arm", [long, short], "y")
    assert found is not None
    assert found.x.tolist() == [0, 1, 2, 4, 5]
    assert curve("arm", [long, short], "z") is None
    assert curve("arm", [long], "y", "tokens") is None


def test_levels_are_found_and_ordered_as_numbers(tmp_path: Path) -> None:
    line = {"step": 0, "acc": 0.5, **{f"acc/level_{level}": 0.5 for level in (10, 2, "hard")}, "other/level_1": 1.0}
    run = make(tmp_path / "a", [line])
    assert levels_of([run], "acc") == ["2", "10", "hard"]
    assert final_interval([run], "acc").mean == 0.5


def test_examples_are_the_latest_right_and_wrong_of_each_level(tmp_path: Path) -> None:
    rows = [
        {"step": step, "prompt": "p", "completion": f"{level}-{step}-{reward}", "reward": reward, "difficulty": level}
        for step in (1, 2)
        for level in (10, 9)
        for reward in (0.0, 1.0)
    ]
    rows.append({"step": 3, "prompt": "p", "completion": "unjudged", "reward": None, "difficulty": 9})
    (tmp_path / "rollouts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [example.completion for example in read_examples(tmp_path)]
    assert found == ["9-2-1.0", "9-2-0.0", "10-2-1.0", "10-2-0.0"]
