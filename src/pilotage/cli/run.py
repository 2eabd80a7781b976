"""`pilotage run NAME`."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pilotage.cli.arguments import Verb, split
from pilotage.cli.console import Screen
from pilotage.core.errors import UsageError
from pilotage.core.registry import configure, find_system
from pilotage.core.system import System
from pilotage.core.text import duration, number
from pilotage.experiments.launch import default_directory, estimate_cost, launch, recorded


@dataclass(frozen=True)
class RunOptions:
    seed: int = 0
    """Of every random stream."""
    out: Path | None = None
    """Folder of the run; none: runs/NAME-TASK-SEED-K. An unfinished run of the same command there goes on."""
    from_: Path | None = None
    """A run to do again: its system, configuration and seed, changed by the options given beside it."""
    dry_run: bool = False
    """Print steps, tokens and the expected time, and stop."""
    quiet: bool = False
    """No progress line and no notes; only the result."""
    track: Literal["tensorboard", "wandb", "mlflow"] | None = None
    """Where metrics go beside the local files."""


def run(words: Sequence[str], screen: Screen) -> int:
    from pilotage.runs import read_lines, read_result

    taken = split(words, RunOptions, "run")
    own: RunOptions = taken.own
    screen.quiet = own.quiet
    system, config, seed = _plan(taken.names, taken.rest, own, seed_given=_given(words, "--seed"))
    if own.dry_run:
        screen.pairs([("system", system.name), ("seed", str(seed)), *cost_rows(estimate_cost(system, config))])
        return 0
    directory, resumes = default_directory(system, config, seed) if own.out is None else (own.out, False)
    finished = own.out is not None and read_result(own.out) is not None
    if resumes:
        screen.note(f"{directory} was interrupted; going on where it stopped")
    result = launch(
        system,
        config,
        seed=seed,
        directory=directory,
        command=shlex.join(["pilotage", "run", *words]),
        track=[own.track] if own.track else [],
    )
    if finished:  # said only now: `launch` refuses a folder that holds another run
        screen.line(f"nothing to do: {directory} holds this run, finished; name another folder to run it again")
    screen.heading("result")
    screen.pairs([(name, number(value)) for name, value in result.metrics.items()])
    screen.pairs([("kept in", result.run)])
    events = Path(result.run) / "events.jsonl"
    for event in read_lines(events) if events.exists() else ():
        when = "" if event["step"] is None else f" (step {event['step']})"
        screen.note(f"{event['kind']}{when}: {event['text']}")
    screen.note(f"pilotage report {result.run} makes a page of it")
    return 0


def _plan(names: Sequence[str], options: Sequence[str], own: RunOptions, seed_given: bool) -> tuple[System, Any, int]:
    """The system, its configuration and the seed: from the options, or from an earlier run changed by them."""
    if len(names) != 1 and not (own.from_ is not None and not names):
        given = " ".join(names) or "nothing"
        raise UsageError(f"given {given}, expected the name of one system; usage: pilotage {VERB.usage}")
    if own.from_ is None:
        system = find_system(names[0])
        return system, configure(system, options), own.seed
    system, config, seed = recorded(own.from_)
    if names and names[0] != system.name:
        raise UsageError(f"{own.from_} is a run of {system.name}, not of {names[0]}; leave the name out")
    return system, configure_from(config, system, options), own.seed if seed_given else seed


def configure_from(config: Any, system: System, options: Sequence[str]) -> Any:
    """`config`, an earlier run's, changed by `options`."""
    return configure(dataclasses.replace(system, config=config), options)


def _given(words: Sequence[str], name: str) -> bool:
    return any(word == name or word.startswith(name + "=") for word in words)


def cost_rows(expected: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a forecast says, line by line."""
    rows = []
    for name, value in expected.items():
        if name == "seconds":
            rows.append(("expected time", duration(float(value)) + " on one core"))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            rows.append((name, f"{value:,.0f}" if float(value).is_integer() else number(value)))
        else:
            rows.append((name, str(value)))
    if "seconds" not in expected:
        rows.append(("expected time", "not known; this system forecasts none"))
    return rows


VERB = Verb(
    "run NAME [options]",
    "Train one system.",
    RunOptions,
    run,
    "An interrupted run goes on when the same command is given again. A piece is written name[:key=value,…], "
    "package.module:function or file.py:function.",
)
