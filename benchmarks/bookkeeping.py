"""What a run remembers, as a share of its steps: metrics, roll-outs, progress, and a checkpoint every so often."""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.child import Turn
from benchmarks.harness import Figure, Side, Target, alternate, column, figure

NAME = "bookkeeping"
TARGETS = {"share": Target(0.03, at_most=True)}


def steps(turn: Turn, *, prompts: int, answers: int, length: int, between: int) -> None:
    """A repetition is `between` steps, what they log, and one checkpoint: the parts of
    `pilotage.training.language.trainer.train` between two evaluations."""
    from benchmarks.step import configuration, trainer_of
    from pilotage.core.configuration import config_to_dict
    from pilotage.runs import Progress, Run

    config = configuration(prompts, answers, length, checkpoint_every=between)
    spent: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                spent[name] += time.perf_counter() - began

        return call

    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", system="benchmark", config=config_to_dict(config), seed=0)
        with run, Progress(10**6, "benchmark") as progress:
            trainer = trainer_of(run, config, width=8, natural=False, size="1.6M")
            run.restore(trainer.state())
            trainer.load_engine(0)
            trainer.save_rollouts = timed("roll-outs", trainer.save_rollouts)
            for name in ("log", "clock", "save"):
                setattr(run, name, timed(name, getattr(run, name)))
            advance = timed("progress", progress.advance)
            step = 0

            def repetition() -> dict[str, float]:
                nonlocal step
                spent.clear()
                for _ in range(between):
                    metrics = trainer.step(step)
                    step += 1
                    run.log(step, metrics)
                    advance(step, reward=metrics["reward/mean"])
                run.save(step, trainer.state())
                return {f"spent_{name}": seconds for name, seconds in spent.items()} | {"spent": sum(spent.values())}

            turn.serve(repetition)


def measure(quick: bool) -> Iterator[Figure]:
    """The share of a step at the default of a checkpoint every 20 steps, on the smallest model and the workload."""
    from pilotage.training.language.config import TextConfig

    between = 2 if quick else TextConfig.checkpoint_every
    rows = workload.QUICK_ROWS if quick else workload.ROWS
    (readings,) = alternate(
        [Side("benchmarks.bookkeeping:steps", {**rows, "between": between})],
        threads=1,
        rounds=1,
        pretrain_to_accuracy=0,  # a repetition is as long as twenty steps, in which the first hardly counts
    )
    names = sorted(name for name in readings[0] if name.startswith("spent_"))
    parts = ", ".join(
        f"{name.removeprefix('spent_')} {sum(column(readings, name)) / len(readings) / between * 1e3:.2f}"
        for name in names
    )
    yield figure(
        f"{NAME}/share",
        column(readings, "seconds"),
        column(readings, "spent"),
        peer_version="the bookkeeping in it",
        note=f"seconds of {between} steps and a checkpoint; ms per step: {parts}",
    )
