from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from pilotage.core.configuration import configure
from pilotage.core.errors import UsageError
from pilotage.core.intervals import t_interval
from pilotage.core.registry import find_system
from pilotage.experiments import JobEvent, JobFailed, ModuleNames, compare
from pilotage.experiments.comparison import _common_metric, paired

ARMS = {"slow": "bandit --steps 12", "fast": "bandit --steps 12 --lr 1.0"}


def start(root: Path, out: Path, sleep: float) -> subprocess.Popen[str]:
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1] / "src")])
    return subprocess.Popen(
        [sys.executable, str(here / "comparing.py"), str(root), str(out), str(sleep)],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_until(condition: object, limit: float = 60.0) -> None:
    """Poll; the limit only keeps a broken test from hanging."""
    end = time.monotonic() + limit
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "this never came about"
        time.sleep(0.02)


def starts(root: Path) -> dict[str, list[str]]:
    """For each job the steps from which a process trained it."""
    logs = root.glob("jobs/*/run/starts.log")
    return {log.parents[1].name: [line.split()[-1] for line in log.read_text().splitlines()] for log in logs}


def workers_left() -> list[psutil.Process]:
    """The processes that our children (the fork server) still have."""
    left = [worker for child in psutil.Process().children() for worker in child.children()]
    return [worker for worker in left if worker.status() != "zombie"]


def test_arms_are_compared_pair_by_pair(modules: ModuleNames, tmp_path: Path) -> None:
    comparison = compare(ARMS, range(5), root=tmp_path / "home", out=tmp_path / "out", modules=modules)
    slow, fast = comparison.arms
    (difference,) = comparison.differences
    expected = t_interval(np.subtract(fast.values, slow.values))  # type: ignore[arg-type]
    assert (difference.mean, *difference.interval) == pytest.approx((expected.mean, expected.low, expected.high))
    assert difference.verdict == "better"
    assert difference.sentence == (
        f"fast is better than slow by {expected.mean:.3f} [{expected.low:.3f}, {expected.high:.3f}] "
        "in held_out/accuracy (5 seeds)."
    )
    stored = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert stored["arms"][1]["values"] == list(fast.values)
    assert stored["workers"] <= stored["cores"]
    assert stored["hardware"] == {"processor": "Test Processor", "cores": 2}
    assert comparison.report.read_text().count(difference.sentence) == 1
    assert [row["verdict"] for row in comparison.rows] == ["", "better"]

    events: list[JobEvent] = []
    again = compare(
        ARMS,
        range(5),
        against="fast",
        root=tmp_path / "home",
        out=tmp_path / "out",
        modules=modules,
        on_event=events.append,
    )
    assert {event.kind for event in events} == {"reused"}
    assert again.differences[0].sentence.startswith("slow is worse than fast by")


def test_a_killed_comparison_goes_on_without_running_finished_jobs_again(modules: ModuleNames, tmp_path: Path) -> None:
    whole = compare(ARMS, range(3), root=tmp_path / "undisturbed", out=tmp_path / "a", modules=modules)
    root = tmp_path / "killed"
    process = start(root, tmp_path / "b", sleep=0.04)
    wait_until(lambda: len(list(root.glob("jobs/*/result.json"))) >= 2)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))
    finished = [path.parent.name for path in root.glob("jobs/*/result.json")]
    before = starts(root)
    assert 2 <= len(finished) < 6

    process = start(root, tmp_path / "b", sleep=0.04)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert output.count("reused") == len(finished)
    after = starts(root)
    assert all(after[name] == before[name] == ["0"] for name in finished)
    resumed = [name for name in before if name not in finished]
    assert all(len(after[name]) == len(before[name]) + 1 for name in resumed)

    stored = json.loads((tmp_path / "b" / "comparison.json").read_text())
    assert [tuple(arm["values"]) for arm in stored["arms"]] == [arm.values for arm in whole.arms]


def test_a_comparison_killed_while_arms_start_keeps_its_finished_jobs(modules: ModuleNames, tmp_path: Path) -> None:
    """Killed as soon as a job is announced, before its process has begun a run, again and again."""
    whole = compare(ARMS, range(3), root=tmp_path / "undisturbed", out=tmp_path / "a", modules=modules)
    root = tmp_path / "killed"
    for announcement in (1, 2, 3):  # the third comes when the first job is done
        process = start(root, tmp_path / "b", sleep=0.0)
        assert process.stdout
        seen = 0
        while seen < announcement:
            line = process.stdout.readline()
            assert line, "it ended before it was killed"
            seen += line.startswith("started")
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        wait_until(lambda gone=children: not any(c.is_running() and c.status() != "zombie" for c in gone))
    assert 1 <= len(list(root.glob("jobs/*/result.json"))) < 6
    kept = {path: path.stat().st_mtime_ns for path in root.glob("jobs/*/result.json")}
    process = start(root, tmp_path / "b", sleep=0.0)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert output.count("reused") == len(kept)
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())
    stored = json.loads((tmp_path / "b" / "comparison.json").read_text())
    assert [tuple(arm["values"]) for arm in stored["arms"]] == [arm.values for arm in whole.arms]


def test_workers_die_with_a_killed_parent(tmp_path: Path) -> None:
    process = start(tmp_path, tmp_path / "out", sleep=60)
    wait_until(lambda: len(starts(tmp_path)) == 2)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(children) >= 2
    # Left alone, each would sleep for twelve minutes.
    wait_until(lambda: not any(c.is_running() and c.status() != "zombie" for c in children), limit=20)
    assert not list(tmp_path.glob("jobs/*/result.json"))


def test_a_failing_worker_names_arm_and_seed_and_stops_the_others(modules: ModuleNames, tmp_path: Path) -> None:
    arms = {"good": "bandit --sleep 5", "bad": "bandit --fail_at 2 --fail_seed 7"}
    with pytest.raises(JobFailed) as failure:
        compare(arms, [7], root=tmp_path, out=tmp_path / "out", workers=2, modules=modules)
    message = str(failure.value)
    assert "arm 'bad', seed 7" in message
    assert "RuntimeError: the bandit broke at step 2" in message
    assert (failure.value.arm, failure.value.seed) == ("bad", 7)
    assert not workers_left()
    assert not (tmp_path / "out").exists()


def test_an_interrupt_leaves_no_process_behind(modules: ModuleNames, tmp_path: Path) -> None:
    def interrupt(event: JobEvent) -> None:
        if event.kind == "started":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(
            {"a": "bandit --sleep 5", "b": "bandit --lr 1"}, [0], root=tmp_path, modules=modules, on_event=interrupt
        )
    assert not workers_left()


def test_few_seeds_equal_arms_and_missing_numbers_stay_undecided() -> None:
    few = paired("b", [0.5, 0.5, 0.6], "a", [0.1, 0.1, 0.1], "held_out/accuracy")
    assert (few.verdict, few.interval[0] is not None and few.interval[0] > 0) == ("undecided", True)
    assert "3 units; at least 5 are needed" in few.sentence
    alone = paired("b", [0.5], "a", [0.1], "held_out/accuracy")
    assert alone.sentence == "Undecided between b and a: 1 units; at least 5 are needed."
    equal = paired("b", [0.5] * 5, "a", [0.5] * 5, "held_out/accuracy")
    assert equal.verdict == "undecided"
    assert "the interval contains zero" in equal.sentence
    gaps = paired("b", [0.5, None, None, 0.6, 0.5, 0.6, 0.5], "a", [0.1] * 7, "held_out/accuracy")
    assert gaps.verdict == "undecided"
    assert "gave no number" in gaps.sentence
    saturated = paired("b", [0.999, 0.998, 0.999, 0.999, 0.998], "a", [0.98] * 5, "held_out/accuracy")
    assert saturated.verdict == "undecided"
    assert "end of the scale" in saturated.sentence


def test_a_lower_number_can_be_better() -> None:
    values = ([3.0, 3.1, 2.9, 3.0, 3.2], [4.0, 4.1, 4.0, 3.9, 4.1])
    assert paired("b", values[0], "a", values[1], "perplexity", higher_is_better=False).verdict == "better"
    assert paired("b", values[0], "a", values[1], "perplexity").verdict == "worse"


@pytest.mark.parametrize(
    ("arms", "seeds", "options", "message"),
    [
        ({"a": "bandit"}, [0], {}, "at least two arms"),
        (ARMS, [], {}, "at least one"),
        (ARMS, [1, 1], {}, "each once"),
        (ARMS, [0], {"against": "nobody"}, "no arm is called 'nobody'"),
        (ARMS, [0], {"workers": 0}, "at least 1"),
        ({"a": "bandit", "b": "bandit --speed 3"}, [0], {}, "no option --speed"),
        (ARMS, [0], {"metric": "held_out/acuracy"}, "has no metric 'held_out/acuracy'.*held_out/accuracy"),
    ],
)
def test_bad_input_is_refused(
    arms: dict[str, str], seeds: list[int], options: dict, message: str, modules: ModuleNames, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        compare(arms, seeds, root=tmp_path, out=tmp_path / "out", modules=modules, **options)


def test_arms_with_different_rewards_are_compared_by_what_their_systems_share() -> None:
    plain = find_system("grpo")
    own = configure(plain, reward=lambda text, item: float(text == item.answer))
    assert _common_metric({"a": (plain, own)}) == "held_out/reward"
    assert _common_metric({"a": (plain, plain.config), "b": (plain, own)}) == "held_out/accuracy"
