"""`pilotage run NAME`."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pilotage.cli.arguments import Command, split
from pilotage.cli.console import Console
from pilotage.core.configuration import configure
from pilotage.core.errors import UsageError
from pilotage.core.registry import find_system
from pilotage.core.system import System
from pilotage.core.text import duration, number
from pilotage.experiments.launch import default_directory, estimate_cost, launch, recorded


@dataclass(frozen=True)
class RunOptions:
    """Options of `pilotage run`."""

    seed: int = 0
    """Seed of all random number generators."""
    out: Path | None = None
    """Where to keep the run (default: runs/NAME-TASK-SEED-K). An unfinished run of the same command there goes on."""
    from_: Path | None = None
    """Repeat this run; other options override its settings."""
    overwrite: bool = False
    """Remove a run that lies in the folder of `--out` first."""
    dry_run: bool = False
    """Print the steps, tokens and time that the run would take, and stop."""
    quiet: bool = False
    """Print only the result, no progress and no notes."""
    json: bool = False
    """Print the result as one JSON object for programs, and nothing else on standard output."""
    track: Literal["tensorboard", "wandb", "mlflow"] | None = None
    """Also send metrics to this service (default: local files only)."""


def run(arguments: Sequence[str], console: Console) -> int:
    """Run one system, or go on with a run that was interrupted."""
    from pilotage.runs import Progress, read_lines, read_result

    parsed = split(arguments, RunOptions, "run")
    own: RunOptions = parsed.own
    console.quiet = own.quiet or own.json
    Progress.shown = not own.quiet
    system, config, seed = _plan(parsed.names, parsed.rest, own, seed_given=_given(arguments, "--seed"))
    if own.dry_run and own.json:
        console.line(json.dumps({"system": system.name, "seed": seed, **estimate_cost(system, config)}))
        return 0
    if own.dry_run:
        console.pairs([("system", system.name), ("seed", str(seed)), *cost_rows(estimate_cost(system, config))])
        return 0
    if own.overwrite and own.out is None:
        raise UsageError("--overwrite needs --out FOLDER, the folder of the run to be removed")
    directory, resumes = default_directory(system, config, seed) if own.out is None else (own.out, False)
    finished = own.out is not None and not own.overwrite and read_result(own.out) is not None
    if resumes:
        console.note(f"{directory} was interrupted; going on where it stopped")
    result = launch(
        system,
        config,
        seed=seed,
        directory=directory,
        command=shlex.join(["pilotage", "run", *arguments]),
        track=[own.track] if own.track else [],
        overwrite=own.overwrite,
    )
    if own.json:
        console.line(json.dumps({"system": system.name, "seed": seed, "directory": result.run, **result.metrics}))
        return 0
    if finished:  # written only now: `launch` refuses a folder that holds another run
        console.line(f"nothing to do: {directory} holds this run, finished; name another folder to run it again")
    console.heading("result")
    console.pairs([(name, number(value)) for name, value in result.metrics.items()])
    console.pairs([("directory", result.run)])
    events = Path(result.run) / "events.jsonl"
    for event in read_lines(events) if events.exists() else ():
        when = "" if event["step"] is None else f" (step {event['step']})"
        console.note(f"{event['kind']}{when}: {event['text']}")
    console.note(f"pilotage report {result.run} writes an HTML report")
    return 0


def _plan(names: Sequence[str], options: Sequence[str], own: RunOptions, seed_given: bool) -> tuple[System, Any, int]:
    """Return the system, its configuration and the seed: from the options, or from an earlier run and the options."""
    if len(names) > 1:
        raise UsageError(f"unexpected argument {names[1]!r}; usage: pilotage {COMMAND.usage}")
    if own.from_ is None and not names:
        raise UsageError(f"NAME is missing; usage: pilotage {COMMAND.usage}")
    if own.from_ is None:
        system = find_system(names[0])
        return system, configure(system, options), own.seed
    system, config, seed = recorded(own.from_)
    if names and names[0] != system.name:
        raise UsageError(f"{own.from_} is a run of {system.name}, not of {names[0]}; leave the name out")
    config = configure(dataclasses.replace(system, config=config), options)
    return system, config, own.seed if seed_given else seed


def _given(arguments: Sequence[str], name: str) -> bool:
    return any(word == name or word.startswith(name + "=") for word in arguments)


def cost_rows(expected: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and text of every number of a cost estimate."""
    rows = []
    for name, value in expected.items():
        if name == "seconds":
            rows.append(("expected time", duration(float(value)) + " on one core"))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            rows.append((name, f"{value:,.0f}" if float(value).is_integer() else number(value)))
        else:
            rows.append((name, str(value)))
    if "seconds" not in expected:
        rows.append(("expected time", "not known; this system does not estimate it"))
    return rows


COMMAND = Command(
    "run NAME [options]",
    "Train one system.",
    RunOptions,
    run,
    "An interrupted run goes on when the same command is given again. A piece is written name[:option=value,…], "
    "package.module:function or file.py:function. `pilotage run NAME --help` lists the options of a system.",
)
