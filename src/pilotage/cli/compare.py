"""`pilotage compare ARM ARM … -- options of every arm`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pilotage.cli.arguments import Command, split
from pilotage.cli.console import Console
from pilotage.cli.run import cost_rows
from pilotage.cli.show import describe_source
from pilotage.core.configuration import configure
from pilotage.core.errors import UsageError
from pilotage.core.registry import find_system
from pilotage.core.system import System
from pilotage.core.text import duration, number
from pilotage.experiments.launch import estimate_cost


@dataclass(frozen=True)
class CompareOptions:
    """Options of `pilotage compare`."""

    seeds: int = 5
    """How many paired seeds: every arm is trained with 0, 1, … of them."""
    metric: str | None = None
    """The number that is compared, by its name in a run's result; none: that of the systems."""
    lower_is_better: bool = False
    """Whether a smaller number is the better one."""
    against: str | None = None
    """The arm that all others are compared with, as it was named; none: the first."""
    workers: int | None = None
    """Processes of one thread each; none: one per core."""
    out: Path | None = None
    """Folder of the comparison; none: a new one below runs/. An unfinished one goes on where it stopped."""
    dry_run: bool = False
    """Print what would be run and how long it takes, and stop."""


def compare(words: Sequence[str], console: Console) -> int:
    """Train several systems on the same seeds and print how they differ."""
    own, arms = read_arms(words)
    plans = {label: _plan(label, command) for label, command in arms.items()}
    if own.metric is not None:
        from pilotage.experiments.comparison import check_metric

        for label, (system, _) in plans.items():
            check_metric(own.metric, label, system)
    if own.dry_run:
        _forecast(plans, own, console)
        return 0
    from pilotage import experiments

    given = {name: getattr(own, name) for name in ("metric", "against", "workers", "out")}
    comparison = experiments.compare(
        arms,
        list(range(own.seeds)),
        higher_is_better=not own.lower_is_better,
        **{name: value for name, value in given.items() if value is not None},
    )
    console.heading("result")
    show_table(comparison.rows, console)
    for sentence in comparison.sentences:
        console.line(sentence)
    for note in comparison.notes:
        console.line(note)
    for source in comparison.made:
        console.line(describe_source(source))
    console.line()
    console.pairs([("kept in", str(comparison.directory)), ("report", str(comparison.report))])
    return 0


def read_arms(words: Sequence[str]) -> tuple[CompareOptions, dict[str, str]]:
    """Return the options of compare itself, and every arm's full command by its label (the words that named it).

    What follows `--` goes to every arm, before the arm's own options, which therefore win. Raises UsageError.
    """
    at = words.index("--") if "--" in words else len(words)
    before = split(words[:at], CompareOptions, "compare")
    if before.rest:
        given = " ".join(before.rest[:2])
        raise UsageError(
            f"{before.rest[0]} is no option of compare; what every arm shall get stands after --, what one arm shall "
            f'get inside its quotes: pilotage compare grpo "bnpo {given}", or pilotage compare grpo bnpo -- {given}'
        )
    own_words = [word for word in words[:at] if word not in before.names]
    shared = split(words[at + 1 :], CompareOptions, "compare")
    if shared.names:
        raise UsageError(f"{shared.names[0]!r} stands after --, where only options are expected; arms come before it")
    after_words = _without(words[at + 1 :], shared.rest)
    own = split([*own_words, *after_words], CompareOptions, "compare").own
    if own.seeds < 1:
        raise UsageError(f"--seeds: given {own.seeds}, expected at least 1")
    if len(before.names) < 2:
        raise UsageError(f"given {len(before.names)} arm(s), expected at least two; usage: pilotage {COMMAND.usage}")
    arms: dict[str, str] = {}
    for label in before.names:
        if label in arms:
            raise UsageError(f"the arm {label!r} is given twice; arms have to differ")
        name, *options = _words_of(label)
        arms[label] = shlex.join([name, *shared.rest, *options])
    return own, arms


def _words_of(arm: str) -> list[str]:
    try:
        words = shlex.split(arm)
    except ValueError as error:
        raise UsageError(f"the arm {arm!r} cannot be read: {error}") from error
    if not words or words[0].startswith("--"):
        raise UsageError(f"the arm {arm!r} has no name; an arm is the name of a system and its options")
    return words


def _without(words: Sequence[str], taken: Sequence[str]) -> list[str]:
    """`words` less the subsequence `taken`."""
    left, rest = [], list(taken)
    for word in words:
        if rest and word == rest[0]:
            rest.pop(0)
        else:
            left.append(word)
    return left


def _plan(label: str, command: str) -> tuple[System, Any]:
    name, *options = shlex.split(command)
    system = find_system(name)
    try:
        return system, configure(system, options)
    except UsageError as error:
        raise UsageError(f"arm {label!r}: {error}") from error


def _forecast(plans: dict[str, tuple[System, Any]], own: CompareOptions, console: Console) -> None:
    from pilotage.experiments.comparison import unequal_samples

    total = 0.0
    known = True
    for label, (system, config) in plans.items():
        expected = estimate_cost(system, config)
        console.heading(f"{label}, each of {own.seeds} seeds")
        console.pairs(cost_rows(expected))
        known = known and "seconds" in expected
        total += own.seeds * float(expected.get("seconds", 0.0))
    console.line()
    for note in unequal_samples(plans):
        console.line(note)
    console.line(f"together {duration(total)} of one core" if known else "the time is not known for every arm")


def show_table(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """The final table of a comparison: one row per arm."""
    headers = list(rows[0])
    numbers = [i for i, header in enumerate(headers) if isinstance(rows[-1][header], float)]
    console.table(headers, [[_cell(row.get(header)) for header in headers] for row in rows], numbers)


def _cell(value: Any) -> str:
    return "" if value is None else number(value)


COMMAND = Command(
    "compare ARM ARM … [options] [-- options of every arm]",
    "Train several systems on the same seeds and compare them.",
    CompareOptions,
    compare,
    'An arm is a name, or a quoted command: pilotage compare grpo "bnpo --advantage mvar" gtpo -- --task add --seeds 5',
)
