"""The one training loop: restore, step, log, evaluate, save."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from pilotage.runs import Progress


class Trainee(Protocol):
    """What `train_loop` drives. `Hooks` has defaults for all of it but `state` and `step`."""

    def state(self) -> Mapping[str, Any]:
        """Return everything that a checkpoint must hold, by name."""
        ...

    def begin(self) -> Mapping[str, float]:
        """Return metrics of step 0; called once, after the checkpoint of step 0 was written."""
        ...

    def resume(self, done: int) -> None:
        """Prepare for going on after `done` steps; called after every restore, also that of a fresh run (0)."""
        ...

    def step(self, step: int) -> None:
        """Do one update; `step` counts from 0."""
        ...

    def metrics(self, done: int) -> Mapping[str, float]:
        """Return the metrics of the steps since they were last asked for."""
        ...

    def evaluate(self, done: int, last: bool) -> Mapping[str, float]:
        """Return held-out metrics; `last`: after the last step."""
        ...

    def shown(self, metrics: Mapping[str, float]) -> Mapping[str, float | str]:
        """Return what the progress line shows of `metrics`."""
        ...


class Hooks:
    """Defaults of `Trainee`: nothing to begin, resume, log, evaluate or show."""

    def begin(self) -> Mapping[str, float]:
        """Return no metrics."""
        return {}

    def resume(self, done: int) -> None:
        """Do nothing."""

    def metrics(self, done: int) -> Mapping[str, float]:  # noqa: ARG002
        """Return no metrics."""
        return {}

    def evaluate(self, done: int, last: bool) -> Mapping[str, float]:  # noqa: ARG002
        """Return no metrics."""
        return {}

    def shown(self, metrics: Mapping[str, float]) -> Mapping[str, float | str]:
        """Return the loss, where there is one."""
        return {name: value for name, value in metrics.items() if name == "loss"}


def train_loop(
    run: Any,
    trainee: Trainee,
    steps: int,
    *,
    checkpoint_every: int,
    log_every: int = 1,
    evaluate_every: int = 0,
    ends: Collection[int] = (),
    label: str = "",
) -> dict[str, float]:
    """Train for `steps` steps, going on from the newest checkpoint of `run`.

    A step is logged when it is due (`log_every`), and whenever it is evaluated or saved, so that a checkpoint never
    holds sums of which a part was logged. The last step is always evaluated, logged and saved.

    Args:
        run: the run (`pilotage.runs.Run`) that keeps metrics and checkpoints.
        trainee: what is trained.
        steps: number of updates, 0 or more.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of metrics.
        evaluate_every: steps between evaluations; 0: only after the last step.
        ends: further steps that are logged and saved, such as the end of a first stage.
        label: name on the progress line; the system's name when empty.

    Returns:
        The metrics of the last evaluation, which is made again where a kill came between it and the end.
    """
    start = run.restore(trainee.state())
    trainee.resume(start)
    if start == 0:
        run.save(0, trainee.state())
        first = trainee.begin()
        if first:
            run.log(0, first)
    final: dict[str, float] = {}
    with Progress(steps, label or run.system, start=start) as progress:
        for step in range(start, steps):
            trainee.step(step)
            done = step + 1
            last = done == steps
            evaluates = last or bool(evaluate_every and done % evaluate_every == 0)
            saves = last or done in ends or done % checkpoint_every == 0
            if not (evaluates or saves or done % log_every == 0):
                continue
            metrics = dict(trainee.metrics(done))
            if evaluates:
                final = dict(trainee.evaluate(done, last))
                metrics |= final
            run.log(done, metrics)
            if saves:
                run.save(done, trainee.state())
            progress.advance(done, **trainee.shown(metrics))
    return final or dict(trainee.evaluate(steps, last=True))
