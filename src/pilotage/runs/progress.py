"""A progress line for long work. No torch, and rich only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from pilotage.core.text import duration, number

if TYPE_CHECKING:
    import rich.progress


class Progress:
    """Progress of `total` steps, on standard error: a live line on a terminal, now and then a plain one elsewhere.

    total: number of steps, an attribute that may be set again when more is known; label: what is being done; start: the
    step it goes on from; unit: what a step is called; every: seconds between plain lines, of which there is also one
    per tenth of the way; quiet: show nothing.
    Use it as `with Progress(...) as progress:` and call `progress.advance(step, reward=0.4)`.
    """

    shown = True
    """Whether this process shows any progress; the command line's `--quiet` turns it off."""

    def __init__(
        self,
        total: int,
        label: str,
        *,
        start: int = 0,
        unit: str = "step",
        every: float = 30.0,
        quiet: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.label = label
        self.unit = unit
        self._start = self._step = start
        self._every = every
        self._quiet = quiet or not Progress.shown
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._begun = self._printed = clock()
        self._printed_step: int | None = None
        self._tenth = self._tenths(start)
        self._shown = ""
        self._live: rich.progress.Progress | None = None

    def __enter__(self) -> Self:
        self._begun = self._printed = self._clock()
        if not self._quiet and self._stream.isatty():
            self._live = self._rich()
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._draw()
            self._live.stop()
            self._live = None
        elif self._printed_step != self._step:
            self._print()

    def advance(self, step: int, **shown: float | str) -> None:
        """Show that `step` steps are done, with a few numbers."""
        self._step = step
        self._shown = "  ".join(f"{name} {number(value)}" for name, value in shown.items())
        if self._live is not None:
            self._draw()
            return
        now, tenth = self._clock(), self._tenths(step)
        if now - self._printed >= self._every or tenth > self._tenth:
            self._printed, self._tenth = now, tenth
            self._print()

    @property
    def rate(self) -> float:
        """Return steps per second since this process began; 0 before the first."""
        seconds = self._clock() - self._begun
        return (self._step - self._start) / seconds if seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Return the seconds left at this rate, None while unknown."""
        return max(self.total - self._step, 0) / self.rate if self.rate > 0 else None

    @property
    def line(self) -> str:
        """Return the line as plain text: label, steps, percent, rate, time left, numbers."""
        percent = 100 * self._step / self.total if self.total else 100.0
        parts = [f"{self.label}: {self.unit} {self._step}/{self.total} ({percent:.0f} %)", self._speed()]
        return "  ".join(part for part in (*parts, self._shown) if part)

    def _speed(self) -> str:
        if self.left is None:
            return ""
        rate = f"{self.rate:.1f} {self.unit}s/s" if self.rate >= 1 else f"{1 / self.rate:.1f} s/{self.unit}"
        return f"{rate}  {duration(self.left)} left"

    def _tenths(self, step: int) -> int:
        return 10 * step // self.total if self.total else 10

    def _print(self) -> None:
        self._printed_step = self._step
        if not self._quiet:
            print(self.line, file=self._stream, flush=True)

    def _draw(self) -> None:
        if self._live is not None:
            self._live.update(
                self._live.task_ids[0], total=self.total, completed=self._step, speed=self._speed(), shown=self._shown
            )

    def _rich(self) -> rich.progress.Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as RichProgress

        live = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}", markup=False),
            TextColumn("{task.fields[shown]}", markup=False),
            console=Console(file=self._stream),
            # Drawing competes with the work for the interpreter, so seldom is better than smooth.
            refresh_per_second=2,
        )
        live.add_task(self.label, total=self.total, completed=self._start, speed="", shown="")
        return live
