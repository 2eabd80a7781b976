"""A catalogue, a run and a system small enough to run hundreds of times: a bandit that learns by REINFORCE.

It stands in for `pilotage.core.registry`, `pilotage.experiments.launch` and `pilotage.runs.hardware` in the processes
of jobs, which import it by name."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.core.system import Card, Result, System
from pilotage.experiments.worker import Context

LEVELS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Config:
    lr: float = 0.3
    steps: int = 50
    sleep: float = 0.0
    """Seconds that a step takes at least, so that a test can kill in the middle."""
    fail_at: int = -1
    """Step at which training raises, -1 for never."""
    fail_seed: int = 0
    noise: float = 0.05
    text: str = "a < b & c"


class Run:
    """What the fake system writes with; resumes from its last checkpoint."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory, self.seed = directory, seed

    @classmethod
    def create(cls, directory: Path, *, system: str, config: Mapping[str, Any], seed: int, command: str = "") -> Self:
        directory.mkdir(parents=True, exist_ok=True)
        about = {"system": system, "config": dict(config), "seed": seed, "command": command}
        about |= {
            "versions": versions(),
            "hardware": hardware(),
            "commit": commit(),
            "artifacts": {"base": {"key": "1234", "contents": "abcd", "seconds": 5.0, "path": "/here"}},
        }
        (directory / "run.json").write_text(json.dumps(about))
        glossary = {
            "held_out/accuracy": "Share of held-out items answered right, greedy.",
            "reward/mean": "Mean reward of the step's answers, 0..1.",
            "entropy": "Mean entropy of the policy in nats.",
        }
        (directory / "metrics.json").write_text(json.dumps(glossary))
        return cls(directory, seed)

    def add(self, name: str, record: Mapping[str, Any]) -> None:
        with (self.directory / f"{name}.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")


def run(config: Config, run: Run) -> Result:
    """Softmax bandit with one parameter per level; better arms have higher success. Checkpoints each step."""
    checkpoint = run.directory / "checkpoint.json"
    state = json.loads(checkpoint.read_text()) if checkpoint.exists() else {"step": 0, "logits": [-1.0] * len(LEVELS)}
    logits = np.array(state["logits"])
    with (run.directory / "starts.log").open("a") as file:
        file.write(f"{os.getpid()} from {state['step']}\n")
    began = time.monotonic()
    for step in range(state["step"] + 1, config.steps + 1):
        if step == config.fail_at and run.seed == config.fail_seed:
            raise RuntimeError(f"the bandit broke at step {step}")
        generator = np.random.default_rng([run.seed, step])
        right = 1 / (1 + np.exp(-logits))
        sampled = generator.random((8, len(LEVELS))) < right
        gradient = (sampled - right).mean(0) * sampled.mean(0) + right * (1 - right) * 0.3 / np.array(LEVELS)
        logits = logits + config.lr * gradient + config.lr * config.noise * generator.normal(size=len(LEVELS))
        _log(run, config, step, logits, sampled, began)
        aside = checkpoint.with_suffix(".new")
        aside.write_text(json.dumps({"step": step, "logits": logits.tolist()}))
        aside.replace(checkpoint)
        time.sleep(config.sleep)
    metrics = _held_out(logits)
    (run.directory / "result.json").write_text(json.dumps({"metrics": metrics}))
    return Result(str(run.directory), metrics)


def _held_out(logits: np.ndarray) -> dict[str, float]:
    right = 1 / (1 + np.exp(-logits))
    by_level = {f"held_out/accuracy/level_{level}": float(p) for level, p in zip(LEVELS, right, strict=True)}
    return {"held_out/accuracy": float(right.mean()), **by_level}


def _log(run: Run, config: Config, step: int, logits: np.ndarray, sampled: np.ndarray, began: float) -> None:
    right = 1 / (1 + np.exp(-logits))
    metrics: dict[str, Any] = {"step": step, "reward/mean": float(sampled.mean()), "tokens/total": 320 * step}
    metrics["entropy"] = float(-(right * np.log(right)).mean())
    if step % 10 == 0 or step == 1:
        metrics |= _held_out(logits)
    run.add("metrics", metrics)
    run.add("timing", {"step": step, "seconds": (time.monotonic() - began) / step})
    for index, level in enumerate(LEVELS):
        if step % 10 == 0:
            reward = float(sampled[0, index])
            text = f"{config.text}#{'42' if reward else '41'}"
            run.add(
                "rollouts", {"step": step, "prompt": "6*7=", "completion": text, "reward": reward, "difficulty": level}
            )


BANDIT = System(Card("bandit", "decisions", "A bandit.", "tests", "testing", "otherwise"), Config(), run)


def find_system(name: str) -> System:
    if name != "bandit":
        raise UsageError(f"there is no system {name!r}; there is bandit")
    return BANDIT


def launch(system: System, config: Config, *, seed: int, directory: Path, command: str, callback: Any = None) -> Result:
    record = dataclasses.asdict(config)
    run = Run.create(directory, system=system.name, config=record, seed=seed, command=command)
    result = system.run(config, run)
    return result if callback is None else Result(result.run, {**result.metrics, **callback(run, config.steps)})


def hardware() -> dict[str, Any]:
    return {"processor": "Test Processor", "cores": 2}


def versions() -> dict[str, Any]:
    return {"python": "3.11", "pilotage": "0.1.0"}


def commit() -> str:
    return os.environ.get("FAKE_COMMIT", "0123abc")


# ---- measures of claims ----------------------------------------------------------------------------------------------


def measure_draw(arm: str, seed: int, context: Context) -> dict[str, float | None]:
    """A number without any training: arm "high" is about 0.5 above "low"; censored for seed 99."""
    assert context.command.startswith("bandit")
    assert not context.directory.exists() or context.directory.is_dir()
    value = np.random.default_rng([seed, len(arm)]).normal(0.5 if arm == "high" else 0.0, 0.05)
    return {"value": float(value), "cost": -float(value), "is_true": 1.0, "events": 0.0, "events/trials": 100.0}


def measure_trained(arm: str, seed: int, context: Context) -> dict[str, float]:
    """Trains the arm's command (shared with other claims that train it) and doubles its accuracy."""
    result = context.train()
    nearly = 1.0 + 1e-15 * result.metrics["held_out/accuracy"]
    return {
        "twice": 2 * result.metrics["held_out/accuracy"],
        "arm": float(arm == "slow"),
        "seed": seed,
        "nearly": nearly,
    }


def measure_nothing(arm: str, seed: int, context: Context) -> dict[str, float | None]:
    del arm, context
    return {"value": None if seed % 2 else 1.0}


def look(run: Run, step: int) -> dict[str, float]:
    """A callback: how often it looked, by what it left behind."""
    with (run.directory / "looks.log").open("a") as file:
        file.write("look\n")
    return {"looks": float(len((run.directory / "looks.log").read_text().splitlines())), "step": float(step)}


def measure_looked(arm: str, seed: int, context: Context) -> dict[str, float]:
    """Trains with a callback, and without."""
    del seed
    watched, plain = context.train(callback=look), context.train()
    same = {name: watched.metrics[name] for name in plain.metrics} == plain.metrics
    apart = watched.run != plain.run and "looks" not in plain.metrics
    return {"looks": watched.metrics["looks"], "apart": float(apart and same), "arm": float(arm == "slow")}
