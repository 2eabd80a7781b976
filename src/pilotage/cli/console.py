"""Output of the command line: rich in a terminal, plain aligned text in a pipe or a file."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, TextIO

VERDICT_STYLES = {
    "holds": "green",
    "does not hold": "red",
    "undecided": "yellow",
    "not measured": "dim",
    "ok": "green",
    "missing": "yellow",
    "failed": "red",
}


class Screen:
    """Wrapper of an output stream that lets the work go on when nobody reads the output any more.

    After the reader (`head`, `less`, a terminal) has gone, or when the disk behind the stream is full, output is
    dropped; `error` is then why. Characters that the stream's encoding lacks are written as escapes.
    """

    def __init__(self, stream: Any) -> None:
        self.error: OSError | None = None
        self._stream = stream
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, as far as it is still read; return its length."""
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Hand what was written to the reader, if there still is one."""
        self._attempt(self._stream.flush)

    def _attempt(self, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError as error:
            self.error = self.error or error
            # What waits in the buffer is written when the process ends: to nowhere.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def open_closed_streams() -> None:
    """Open what a process was started without (`>&-`), so that no file of the run takes the place of its output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # open until the end
    sys.stderr = sys.stderr or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


class Console:
    """Writer of the command line's output to `stream`; `quiet` leaves out notes."""

    def __init__(self, stream: TextIO | None = None, quiet: bool = False) -> None:
        self.stream = stream or sys.stdout
        self.quiet = quiet
        self.rich = self.stream.isatty()

    def _console(self) -> Any:
        from rich.console import Console

        return Console(file=self.stream, highlight=False)

    def line(self, text: str = "", style: str = "") -> None:
        """Write one paragraph, wrapped in a terminal and unchanged elsewhere."""
        if self.rich:
            self._console().print(text, style=style or None, markup=False)
        else:
            print(text, file=self.stream)

    def note(self, text: str) -> None:
        """Write a line that explains but is no result."""
        if not self.quiet:
            self.line(text, style="dim")

    def heading(self, text: str) -> None:
        """Write an empty line and a title."""
        if self.rich:
            self.line()
            self.line(text, style="bold")
        else:
            print(f"\n{text}", file=self.stream)

    def markdown(self, text: str) -> None:
        """Write Markdown, formatted in a terminal."""
        if self.rich:
            from rich.markdown import Markdown

            self._console().print(Markdown(text))
        else:
            print(text, file=self.stream)

    def pairs(self, pairs: Sequence[tuple[str, str]], style: str = "dim") -> None:
        """Write names, in `style`, each with its value, one below the other."""
        if self.rich:
            from rich.table import Table

            grid = Table.grid(padding=(0, 2))
            grid.add_column(style=style, no_wrap=True)
            grid.add_column()
            for name, value in pairs:
                grid.add_row(name, _plain(value))
            self._console().print(grid)
        else:
            width = max((len(name) for name, _ in pairs), default=0)
            for name, value in pairs:
                print(f"{name:<{width}}  {value}".rstrip(), file=self.stream)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> None:
        """Write a table; the columns in `numbers` are aligned on the right."""
        if self.rich:
            from rich import box
            from rich.table import Table

            table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
            for index, header in enumerate(headers):
                table.add_column(header, justify="right" if index in numbers else "left", overflow="fold")
            for row in rows:
                table.add_row(*(_plain(cell, VERDICT_STYLES.get(cell, "")) for cell in row))
            self._console().print(table)
            return
        widths = [max(len(line[i]) for line in (headers, *rows)) for i in range(len(headers))]
        for line in (headers, *rows):
            cells = [
                f"{c:>{w}}" if i in numbers else f"{c:<{w}}" for i, (c, w) in enumerate(zip(line, widths, strict=True))
            ]
            print("  ".join(cells).rstrip(), file=self.stream)

    def options(self, rows: Sequence[tuple[str, str]]) -> None:
        """Write options and their meaning, for `--help`."""
        if self.rich:
            self.pairs([("  " + name, meaning) for name, meaning in rows], style="cyan")
            return
        for name, meaning in rows:
            print(f"  {name}", file=self.stream)
            for part in textwrap.wrap(meaning, 88):
                print(f"      {part}", file=self.stream)


def _plain(text: str, style: str = "") -> Any:
    from rich.text import Text

    return Text(text, style=style)


def fit(text: str, width: int) -> str:
    """Return the first sentence of `text`, cut at `width` characters with an ellipsis (0: not cut)."""
    first = re.split(r"(?<=[.!?])\s", text.strip(), maxsplit=1)[0].rstrip(".")
    return first if not width or len(first) <= width else first[: width - 1].rsplit(" ", 1)[0] + "…"
