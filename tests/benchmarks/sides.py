"""Sides of a benchmark that do next to nothing."""

from __future__ import annotations

from benchmarks.child import Turn


def add(turn: Turn, *, step: int) -> None:
    total = 0

    def repetition() -> dict[str, float]:
        nonlocal total
        total += step
        print("what a library prints is no answer")
        return {"total": total}

    turn.serve(repetition)


def broken(turn: Turn) -> None:
    turn.begin()
    raise RuntimeError("it broke here")
