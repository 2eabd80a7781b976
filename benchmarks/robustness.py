"""Robustness of temporal-logic formulas: a batch of trajectories at once, against rtamt one by one.

rtamt lives in an environment of its own (`make oracles`); without it nothing is measured."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.child import Turn
from benchmarks.harness import ROOT, Figure, Side, Target, alternate, figure

NAME = "robustness"
TARGETS = {"first step": Target(50.0), "every step": Target(50.0)}
PYTHON = ROOT / ".venv-oracles" / "bin" / "python"
NAMES = ("v", "offset", "clearance")
FORMULA = (
    "always((v <= 1.2) and (offset >= -1.5)) and eventually[2,8](always[0,5](offset <= 0.5)) "
    "and ((clearance >= 0.1) until[0,10] (v <= 0.3))"
)
"""A rule of a drive of 20 steps: it nests windows as the rules of the driving worlds do."""


def signals(rows: int, steps: int) -> list[dict[str, list[float]]]:
    """The same random trajectories on both sides."""
    drawn = random.Random(0)
    return [{name: [drawn.gauss(0, 1) for _ in range(steps)] for name in NAMES} for _ in range(rows)]


def ours(turn: Turn, *, rows: int, steps: int, every: bool) -> None:
    """All rows at once, float64."""
    import torch

    from pilotage.rewards.temporal_logic import parse, robustness, robustness_trace

    rule, judge = parse(FORMULA), robustness_trace if every else robustness
    seen = signals(rows, steps)
    batch = {name: torch.tensor([row[name] for row in seen], dtype=torch.float64) for name in NAMES}

    def repetition() -> dict[str, float]:
        found = judge(rule, batch)
        first = found[:, 0] if every else found
        return {"rows": rows, "sum": float(first[:8].sum())}

    turn.serve(repetition)


def theirs(turn: Turn, *, rows: int, steps: int) -> None:
    """One row after another; rtamt always judges every step."""
    import rtamt

    specification = rtamt.StlDiscreteTimeSpecification()
    for name in NAMES:
        specification.declare_var(name, "float")
    specification.spec = FORMULA
    specification.parse()
    seen = [{"time": list(range(steps)), **row} for row in signals(rows, steps)]

    def repetition() -> dict[str, float]:
        first = [float(specification.evaluate(row)[0][1]) for row in seen]
        return {"rows": rows, "sum": sum(first[:8])}

    turn.serve(repetition)


def measure(quick: bool) -> Iterator[Figure]:
    """Microseconds per formula and trajectory, at batch 1,024 on one thread."""
    if not Path(PYTHON).exists():
        print(f"{NAME}: not measured; rtamt's environment is made by `make oracles`", file=sys.stderr)
        return
    steps, rows, theirs_rows, rounds = (20, 16, 8, 2) if quick else (20, 1024, 128, 7)
    for kind, every in (("first step", False), ("every step", True)):
        settings: dict[str, Any] = {"rows": rows, "steps": steps}
        mine, other = alternate(
            [
                Side("benchmarks.robustness:ours", {**settings, "every": every}),
                Side("benchmarks.robustness:theirs", {**settings, "rows": theirs_rows}, python=str(PYTHON)),
            ],
            threads=1,
            rounds=rounds,
        )
        if abs(mine[0]["sum"] - other[0]["sum"]) > 1e-9:
            raise RuntimeError(f"the two sides differ: {mine[0]['sum']} and {other[0]['sum']}")
        yield figure(
            f"{NAME}/{kind}",
            [1e6 * reading["seconds"] / reading["rows"] for reading in mine],
            [1e6 * reading["seconds"] / reading["rows"] for reading in other],
            peer_version="rtamt 0.4.10",
            note=f"µs per trajectory of {steps} steps, batch {rows}; rtamt judges every step in both lines",
        )
