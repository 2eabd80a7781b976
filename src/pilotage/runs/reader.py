"""Reads the directory of a run for reports. Locks nothing, and works while the run still goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotage.core.atomic_io import is_locked, read_file
from pilotage.core.errors import UsageError
from pilotage.core.serialisation import from_json
from pilotage.runs.manifest import FAILED, INTERRUPTED
from pilotage.runs.metrics import iterate_lines, read_lines

Points = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Steps [point], rising, and the values at them [point]."""


@dataclass(frozen=True)
class Example:
    """An answer of the policy, letter by letter; the report escapes it."""

    step: int
    difficulty: str
    prompt: str
    completion: str
    reward: float
    right: bool


@dataclass(frozen=True)
class RunRecord:
    """The contents of a run's directory."""

    directory: Path
    about: Mapping[str, Any]
    """`run.json`: system, config, seed, versions, hardware, commit."""
    metrics: tuple[Mapping[str, Any], ...]
    timing: tuple[Mapping[str, Any], ...]
    events: tuple[Mapping[str, Any], ...]
    glossary: Mapping[str, str]
    result: Mapping[str, float]
    running: bool = False
    """Whether a process was at work on it when it was read."""

    @property
    def finished(self) -> bool:
        """Return whether the run has come to its end."""
        return (self.directory / "result.json").exists()

    @property
    def last_step(self) -> int:
        """Return the last step that was logged; 0 before the first."""
        return int(self.metrics[-1]["step"]) if self.metrics else 0

    @property
    def unfinished(self) -> str:
        """Return why the run is not finished, in a sentence; empty for a finished one."""
        if self.finished:
            return ""
        where = f"at step {self.last_step}" if self.last_step else "before its first step"
        if self.running:
            return f"This run is still at work, {where}; the numbers are those so far."
        ends = [event for event in self.events if event.get("kind") in (FAILED, INTERRUPTED)]
        after = "The same command goes on from the last checkpoint."
        if ends and ends[-1]["kind"] == FAILED:
            return f"This run failed {where}: {str(ends[-1]['text']).rstrip('.')}. {after}"
        by = ", by the user" if ends else ""
        return f"This run was interrupted {where}{by}; the numbers are those until then. {after}"

    @property
    def seed(self) -> int:
        """Return the seed of the run."""
        return int(self.about.get("seed", 0))

    @property
    def config(self) -> Mapping[str, Any]:
        """Return the configuration of the run: option to value."""
        return self.about.get("config", {})

    @property
    def scripted_components(self) -> tuple[str, ...]:
        """Return what was scripted in place of a model or a service, in words; empty when nothing was."""
        named = self.about.get("scripted_components") or []
        return (named,) if isinstance(named, str) else tuple(named)

    @property
    def names(self) -> list[str]:
        """Return the names of the metrics that were logged, in the order in which they first appear."""
        return list(dict.fromkeys(name for line in self.metrics for name in line if name != "step"))

    @property
    def failures(self) -> dict[str, int]:
        """Return the number of answers that could not be scored and were left out, by reason."""
        counts: dict[str, int] = {}
        for line in self.metrics:
            for name, value in line.items():
                if name.startswith("failures/") and value:
                    reason = name.removeprefix("failures/")
                    counts[reason] = counts.get(reason, 0) + round(value)
        return counts

    def points(self, name: str) -> Points:
        """Return the steps at which the metric has a number, and the numbers."""
        rows = [(line["step"], line[name]) for line in self.metrics if line.get(name) is not None]
        table = np.array(rows, dtype=float).reshape(-1, 2)
        return table[:, 0], table[:, 1]

    def seconds(self) -> Points:
        """Return the seconds of work up to each step, pauses between processes left out."""
        rows = [(line["step"], line["seconds"]) for line in self.timing if line.get("seconds") is not None]
        table = np.array(rows, dtype=float).reshape(-1, 2)
        return table[:, 0], table[:, 1].cumsum()

    def final(self, name: str) -> float | None:
        """Return the result's number, otherwise the last one logged; None where there is none."""
        if self.result.get(name) is not None:
            return float(self.result[name])
        _, values = self.points(name)
        return float(values[-1]) if len(values) else None


def read_run(directory: Path) -> RunRecord:
    """Read a run. Raises UsageError when the directory holds none, RunError for a broken file."""
    path = directory / "run.json"
    if not path.exists():
        raise UsageError(f"{directory} holds no run (there is no run.json); give a run's or a comparison's directory")
    glossary = directory / "metrics.json"
    result = directory / "result.json"
    return RunRecord(
        directory=directory,
        about=json.loads(read_file(path)),
        metrics=tuple(read_log(directory / "metrics.jsonl")),
        timing=tuple(read_log(directory / "timing.jsonl")),
        events=tuple(read_log(directory / "events.jsonl")),
        glossary=_glossary(json.loads(read_file(glossary))) if glossary.exists() else {},
        running=is_locked(directory / "lock"),
        result=from_json(json.loads(read_file(result)).get("metrics", {})) if result.exists() else {},
    )


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the records of a JSON Lines file, none when it does not exist. Raises RunError for a broken line."""
    return read_lines(path) if path.exists() else []


def read_examples(directory: Path, *, per_kind: int = 1) -> list[Example]:
    """Return the latest `per_kind` right and wrong answers of every difficulty, by difficulty, right ones first."""
    latest: dict[tuple[str, bool], list[Example]] = {}
    for line in _iterate_log(directory / "rollouts.jsonl"):
        if line.get("reward") is None or "completion" not in line:
            continue
        reward = float(line["reward"])
        right = bool(line.get("right", reward > 0.5))
        difficulty = str(line.get("difficulty", ""))
        prompt, completion = str(line.get("prompt", "")), str(line["completion"])
        example = Example(int(line["step"]), difficulty, prompt, completion, reward, right)
        kept = latest.setdefault((difficulty, right), [])
        kept.append(example)
        del kept[:-per_kind]
    order = sorted(latest, key=lambda key: (_difficulty_number(key[0]), key[0], not key[1]))
    return [example for key in order for example in reversed(latest[key])]


def may_complete(directory: Path) -> bool:
    """Return whether a run may have kept completions; a robot's run keeps episodes, which have none."""
    empty = True
    for line in _iterate_log(directory / "rollouts.jsonl"):
        if "completion" in line:
            return True
        empty = False
    return empty


def _iterate_log(path: Path) -> Iterator[dict[str, Any]]:
    return iterate_lines(path) if path.exists() else iter(())


def _glossary(stored: Mapping[str, Any]) -> dict[str, str]:
    return {name: text if isinstance(text, str) else str(text.get("meaning", "")) for name, text in stored.items()}


def _difficulty_number(difficulty: str) -> float:
    return float(difficulty) if difficulty.replace(".", "", 1).isdigit() else float("inf")
