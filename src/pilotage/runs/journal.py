"""Answers from outside (verifiers that may time out, services, people), recorded so that a resumed run replays them."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from pilotage.core.atomic_io import disk_errors, open_to_append, write_all
from pilotage.core.errors import RunError
from pilotage.core.serialisation import canonical, from_json, to_json


class Journal:
    """An append-only file of (key, value) lines. The first answer to a key stands, in this process and in later ones.

    A line that a kill left unfinished is dropped at opening. May be used from several threads of one process.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        self._descriptor = open_to_append(self.path)
        data = self.path.read_bytes()
        complete = data.rfind(b"\n") + 1
        os.ftruncate(self._descriptor, complete)
        self._size = complete
        self._values: dict[str, Any] = {}
        for number, row in enumerate(data[:complete].split(b"\n")[:-1], start=1):
            try:
                entry = json.loads(row)
                self._values.setdefault(entry["key"], from_json(entry["value"]))
            except (ValueError, KeyError, TypeError) as error:
                raise RunError(
                    f"{self.path}, line {number}, is not a journal entry ({error!r}); restore the file or remove "
                    "that line, whose answer will then be asked for again"
                ) from error

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str, default: Any = None) -> Any:
        """Return the recorded answer to `key`, or `default`."""
        return self._values.get(key, default)

    def put(self, key: str, value: Any) -> Any:
        """Record `value` (plain JSON; tuples become lists) under `key`, unless there is an answer already.

        Returns the answer that stands. It survives the death of the process as soon as this returns. Raises
        UsageError for a value that JSON cannot hold, DiskFull without room.
        """
        entry = to_json(value, f"the answer to {key!r}")
        with self._lock:
            if key not in self._values:
                row = canonical({"key": key, "value": entry}).encode() + b"\n"
                with disk_errors(self.path):
                    try:
                        write_all(self._descriptor, row)
                    except OSError:
                        os.ftruncate(self._descriptor, self._size)
                        raise
                self._size += len(row)
                self._values[key] = from_json(entry)
            return self._values[key]

    def sync(self) -> None:
        """Force everything to the disk (the run does so at each checkpoint)."""
        with disk_errors(self.path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Write what is pending and close the file."""
        os.close(self._descriptor)
