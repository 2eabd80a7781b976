"""results.json and RESULTS.md from figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path

from benchmarks.harness import Figure, Target

FIELDS = tuple(field.name for field in fields(Figure))


def target_of(name: str, targets: Mapping[str, Mapping[str, Target]]) -> Target | None:
    """The target of a figure called benchmark/kind/…; None where nothing was asked for."""
    benchmark, _, rest = name.partition("/")
    return next((aim for kind, aim in targets.get(benchmark, {}).items() if (rest + "/").startswith(kind + "/")), None)


def verdict(figure: Figure, target: Target | None) -> str:
    """Whether the target is met, and if not by how much."""
    if target is None:
        return "–"
    if target.met(figure.ratio):
        return "met"
    gap = figure.ratio / target.value - 1
    return f"missed by {abs(gap):.0%}"


def to_json(figures: Sequence[Figure]) -> str:
    """A list of objects with exactly the fields of `Figure`."""
    return json.dumps([asdict(figure) for figure in figures], indent=1, ensure_ascii=False) + "\n"


def from_json(text: str) -> list[Figure]:
    """The figures of a results.json. Raises ValueError where fields are missing or unknown."""
    figures = []
    for record in json.loads(text):
        if set(record) != set(FIELDS):
            raise ValueError(f"a figure has the fields {', '.join(FIELDS)}; {', '.join(record)} were given")
        figures.append(Figure(**{**record, "spread": tuple(record["spread"])}))
    return figures


def merged(old: Sequence[Figure], new: Sequence[Figure], measured: Sequence[str]) -> list[Figure]:
    """Figures of benchmarks that were not `measured` now are kept from `old`."""
    kept = [figure for figure in old if figure.name.partition("/")[0] not in measured]
    return [*kept, *new]


def to_markdown(
    figures: Sequence[Figure],
    targets: Mapping[str, Mapping[str, Target]],
    reasons: Mapping[str, str],
) -> str:
    """The table for readers. reasons: per benchmark, what its figures mean and where the time goes."""
    lines = [
        "# Benchmarks",
        "",
        "Made by `make bench`. Both sides run in turn, each in a process of its own with the threads named; a ratio is",
        "that of one round, the figure the median, the spread the lowest and the highest round. Seconds depend on the",
        "machine and on what else it does, and mean nothing by themselves: compare ratios.",
    ]
    benchmarks = dict.fromkeys(figure.name.partition("/")[0] for figure in figures)
    for benchmark in benchmarks:
        own = [figure for figure in figures if figure.name.partition("/")[0] == benchmark]
        lines += ["", f"## {benchmark}", "", *([reasons[benchmark], ""] if benchmark in reasons else [])]
        for measured in dict.fromkeys(figure.measured for figure in own if figure.measured):
            lines += [f"Measured {measured}.", ""]
        lines += ["| figure | ours | other | who | ratio | rounds | spread | target | reached | note |"]
        lines += ["|---|--:|--:|---|--:|--:|---|---|---|---|"]
        lines += [_row(figure, targets) for figure in own]
    return "\n".join(lines) + "\n"


def _row(figure: Figure, targets: Mapping[str, Mapping[str, Target]]) -> str:
    target = target_of(figure.name, targets)
    cells = [
        figure.name.partition("/")[2],
        f"{figure.ours:.4g}",
        f"{figure.peer:.4g}",
        figure.peer_version,
        f"{figure.ratio:.3g}",
        str(figure.pairs),
        f"{figure.spread[0]:.3g}–{figure.spread[1]:.3g}",
        "–" if target is None else str(target),
        verdict(figure, target),
        figure.note,
    ]
    return "| " + " | ".join(cells) + " |"


def write(folder: Path, figures: Sequence[Figure], markdown: str) -> None:
    """Both files, in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(to_json(figures), encoding="utf-8")
    (folder / "RESULTS.md").write_text(markdown, encoding="utf-8")
