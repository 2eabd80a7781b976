"""Finished jobs and verdicts as files: `results/NAME.jsonl`, one line per job, and `results/NAME.json`."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pilotage.core.atomic_io import write_all, write_atomically, write_json
from pilotage.core.serialisation import canonical
from pilotage.experiments.jobs import JobResult, PlacedJob


class ResultStore:
    """The two files of a system's results. Those of a quick pass are called `NAME.quick…`, apart from real ones."""

    def __init__(self, folder: Path, system: str, quick: bool = False) -> None:
        stem = f"{system}.quick" if quick else system
        self.document, self.jobs = folder / f"{stem}.json", folder / f"{stem}.jsonl"
        self._lines = {record["key"]: record for record in self._read()}

    def results(self) -> dict[str, JobResult]:
        """Return the finished jobs by key."""
        names = ("metrics", "seconds", "key", "artifacts", "made")
        return {key: JobResult(**{name: record[name] for name in names}) for key, record in self._lines.items()}

    def add(self, placed: PlacedJob) -> None:
        """Append a finished job, at once, so that a kill loses nothing; does nothing when it is there as it is."""
        result = placed.result()
        if result is None:
            return
        record = {**placed.identity, **asdict(result)}
        if self._lines.get(placed.key) == record:
            return
        self._lines[placed.key] = record
        self.jobs.parent.mkdir(parents=True, exist_ok=True)
        with self.jobs.open("ab+", buffering=0) as file:
            file.seek(max(0, file.tell() - 1))
            begin = "" if file.read() in (b"", b"\n") else "\n"  # a kill may have cut the last line off
            write_all(file.fileno(), f"{begin}{canonical(record)}\n".encode())
            os.fsync(file.fileno())

    def write(self, document: Mapping[str, Any]) -> None:
        """Write the verdicts, and the jobs sorted by key with each key once."""
        write_json(self.document, document)
        lines = {**self._lines, **{record["key"]: record for record in self._read()}}
        if lines:
            write_atomically(self.jobs, "".join(f"{canonical(lines[key])}\n" for key in sorted(lines)).encode())

    def _read(self) -> list[dict[str, Any]]:
        """Return the lines of the file; one that a kill cut off is left out."""
        records = []
        for line in self.jobs.read_text(encoding="utf-8").splitlines() if self.jobs.exists() else ():
            with contextlib.suppress(json.JSONDecodeError):
                records.append(json.loads(line))
        return records
