"""The growing files of a run: JSON Lines that are cut back when it resumes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pilotage.core.atomic_io import (
    disk_errors,
    open_to_append,
    read_file,
    refuse_other_kind,
    write_all,
    write_atomically,
)
from pilotage.core.errors import RunError, UsageError
from pilotage.core.serialisation import line

FILES = ("metrics", "timing", "rollouts", "events")
"""The JSON Lines files of a run, by their stems."""


class Lines:
    """An append-only JSON Lines file. `add` only remembers; `flush` writes; `sync` reaches the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: list[bytes] = []
        self._descriptor = open_to_append(path)

    def add(self, record: Mapping[str, Any]) -> None:
        """Remember a record until the next `flush`."""
        self._waiting.append(line(record))

    def flush(self) -> None:
        """Hand pending lines to the operating system: it survives the death of the process. Raises DiskFull."""
        if self._waiting:
            data, self._waiting = b"".join(self._waiting), []
            with disk_errors(self.path):
                write_all(self._descriptor, data)

    def sync(self) -> int:
        """Force everything to the disk and return the length of the file in bytes. Raises DiskFull."""
        self.flush()
        with disk_errors(self.path):
            os.fsync(self._descriptor)
        return self.size

    @property
    def size(self) -> int:
        """Return the number of bytes in the file."""
        return os.fstat(self._descriptor).st_size

    def cut(self, size: int) -> bytes:
        """Cut the file back to `size` bytes and return what was cut off. Raises RunError when it is shorter."""
        self._waiting = []
        if self.size < size:
            raise RunError(f"{self.path} has {self.size} bytes, fewer than the {size} that the checkpoint counted")
        tail = os.pread(self._descriptor, self.size - size, size)
        os.ftruncate(self._descriptor, size)
        return tail

    def close(self) -> None:
        """Write pending records and close the files."""
        self.flush()
        os.close(self._descriptor)


def read_lines(path: Path | str) -> list[dict[str, Any]]:
    """Return the records of a JSON Lines file, also while a run still writes it: an unfinished last line is left out.

    Raises RunError that names file and line for anything else that is not JSON.
    """
    return parse_lines(read_file(Path(path)), Path(path))


def iterate_lines(path: Path | str) -> Iterator[dict[str, Any]]:
    """Give the records of a JSON Lines file one after the other, as `read_lines` does, without holding them all."""
    refuse_other_kind(Path(path))
    with Path(path).open("rb") as file:
        for number, row in enumerate(file, start=1):
            if row.endswith(b"\n"):
                yield _parse(row, number, Path(path))


def parse_lines(data: bytes, path: Path) -> list[dict[str, Any]]:
    """Return the records in `data`, the content of `path`; see `read_lines`."""
    return [_parse(row, number, path) for number, row in enumerate(data.split(b"\n")[:-1], start=1)]


def _parse(row: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(row)
    except ValueError as error:
        raise RunError(f"{path}, line {number}, is not JSON ({error}); restore the file or remove that line") from error
    return record


class Records:
    """The four growing files of a run, and the explanations of its metrics in metrics.json."""

    def __init__(self, directory: Path) -> None:
        self._files = {name: Lines(directory / f"{name}.jsonl") for name in FILES}
        self._explanations = directory / "metrics.json"
        self._described: dict[str, str] = {}
        if self._explanations.exists():
            self._described = json.loads(read_file(self._explanations))
        self._logged: set[str] = set()

    def describe(self, name: str, text: str) -> None:
        """Explain a metric, once. Raises UsageError when it was explained differently."""
        before = self._described.get(name)
        if before is None:
            self._described[name] = text
            write_atomically(self._explanations, json.dumps(self._described, indent=2).encode())
        elif before != text:
            raise UsageError(f"the metric {name!r} was explained as {before!r}; explain {text!r} under another name")

    @property
    def undescribed(self) -> list[str]:
        """Return the names of metrics that were logged without an explanation."""
        return sorted(self._logged - set(self._described))

    def log(self, step: int, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Write a line of metrics and all pending records. Returns the finite numbers; the others become an event."""
        values = numbers(metrics)
        self.add("metrics", {"step": step, **values})
        self._logged.update(values)
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        if strange := [f"{name} is {value}" for name, value in values.items() if name not in finite]:
            self.event(step, "non-finite", f"not finite: {', '.join(strange)}")
        for file in self._files.values():
            file.flush()
        return finite

    def add(self, name: str, record: Mapping[str, Any]) -> None:
        """Remember a record of the file `name` until the next `log`."""
        self._files[name].add(record)

    def event(self, step: int | None, kind: str, text: str) -> None:
        """Write an event at once."""
        self._files["events"].add({"step": step, "kind": kind, "text": text})
        self._files["events"].flush()

    def sync(self) -> dict[str, int]:
        """Force everything to the disk and return the lengths of the files. Raises DiskFull."""
        return {name: file.sync() for name, file in self._files.items()}

    def shortage(self, sizes: Mapping[str, int]) -> str | None:
        """Name the first file that is shorter than in `sizes`; None when all can be cut back to them."""
        for name, size in sizes.items():
            if self._files[name].size < size:
                return f"{name}.jsonl has {self._files[name].size} bytes instead of at least {size}"
        return None

    def cut(self, sizes: Mapping[str, int]) -> None:
        """Cut the files back to earlier lengths. Events about the process (without a step) stay."""
        for name, size in sizes.items():
            tail = self._files[name].cut(size)
            if name == "events":
                for record in parse_lines(tail, self._files[name].path):
                    if record["step"] is None:
                        self.event(None, record["kind"], record["text"])

    def close(self) -> None:
        """Write pending records and close the files."""
        for file in self._files.values():
            file.close()


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return metrics as numbers of Python, numpy scalars and one-element tensors too. Raises UsageError for others."""
    found: dict[str, float] = {}
    for name, value in values.items():
        number = value.item() if hasattr(value, "item") else value
        if not isinstance(number, int | float):
            raise UsageError(f"{name!r} is {value!r}; give one number per name")
        if name == "step":
            raise UsageError("'step' is the number of the step already; give the metric another name")
        found[name] = number
    return found
