"""Rows of a data file or data set, each with the place where it stands, for errors that say where."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest

Row = tuple[str, dict[str, Any]]
"""(place, such as "questions.jsonl, line 3"; fields)"""

_SUFFIXES = (".jsonl", ".json", ".ndjson", ".parquet")


def read_rows(source: str | Path, *, subset: str | None = None, split: str = "train") -> list[Row]:
    """Return all rows of a source, which is one of

    - a file: JSON Lines (.jsonl, .ndjson), a JSON array of objects (.json), or .parquet (extra `data`);
    - a folder that `datasets` saved or can load (extra `data`);
    - the name of a data set on the Hugging Face hub, such as "openai/gsm8k" (extra `data`).

    subset: the data set's configuration; split: which of its splits (both only for folders and names).
    Raises UsageError for a source that is missing, empty, of another format, not JSON or not UTF-8, with the place.
    """
    path = Path(source)
    if path.is_file():
        rows = _parquet(path) if path.suffix == ".parquet" else _json(path)
        if not rows:
            raise UsageError(f"{path} has no rows; expected at least one question")
        return rows
    if path.is_dir() or (len(path.parts) <= 2 and path.suffix not in _SUFFIXES and not path.is_absolute()):
        return _data_set(str(source), subset, split)
    hint = nearest(path.name, _names(path.parent))
    raise UsageError(f"there is no file {path}{hint}; expected {', '.join(_SUFFIXES)}, a folder, or a data set's name")


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []


def _json(path: Path) -> list[Row]:
    text = _decoded(path)
    if not text.strip():
        raise UsageError(f"{path} is empty; expected JSON Lines, one question per line, or a JSON array of them")
    if text.lstrip()[0] == "[":
        try:
            values = json.loads(text)
        except ValueError as error:
            raise UsageError(f"{path} is not JSON: {error}; it begins as an array of objects") from error
        return list(_objects((f"{path.name}, entry {number}", value) for number, value in enumerate(values, 1)))
    return list(_objects(_lines(path, text)))


def _lines(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    # Not splitlines: JSON strings may hold U+2028 and other characters at which that would cut.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield f"{path.name}, line {number}", json.loads(line)
            except ValueError as error:
                raise UsageError(
                    f"{path}, line {number} is not JSON: {error}; expected one object per line, found {line[:60]!r}"
                ) from error


def _objects(values: Iterable[tuple[str, Any]]) -> Iterator[Row]:
    for place, value in values:
        if not isinstance(value, dict):
            raise UsageError(f"{place} is a {type(value).__name__}; expected an object with the fields of a question")
        yield place, value


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The object of the error is what follows a byte order mark, so the offset is counted from there.
        start = error.start + len(data) - len(error.object)
        line = data.count(b"\n", 0, start) + 1
        raise UsageError(
            f"{path}, line {line}: byte {start} (0x{data[start]:02x}) is not UTF-8; convert the file, for example with "
            "iconv -t utf-8"
        ) from error


def _parquet(path: Path) -> list[Row]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ImportError as error:
        raise _missing("parquet files") from error
    try:
        values = read_table(path).to_pylist()
    except (ArrowException, OSError) as error:
        raise UsageError(f"{path} cannot be read as parquet: {error}") from error
    return [(f"{path.name}, row {number}", value) for number, value in enumerate(values, 1)]


def _data_set(name: str, subset: str | None, split: str) -> list[Row]:
    try:
        import datasets
    except ImportError as error:
        raise _missing("data sets by name and folders") from error
    try:
        if Path(name).is_dir() and (Path(name) / "state.json").is_file():
            loaded = datasets.load_from_disk(name)
        elif Path(name).is_dir() and (Path(name) / "dataset_dict.json").is_file():
            loaded = datasets.load_from_disk(name)[split]
        else:
            loaded = datasets.load_dataset(name, subset, split=split)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UsageError(
            f"the data set {name!r} (configuration {subset}, split {split!r}) cannot be loaded: {error}. If a file was "
            "meant, there is none of that name"
        ) from error
    rows = [(f"{name}[{split}], row {number}", dict(row)) for number, row in enumerate(loaded, 1)]
    if not rows:
        raise UsageError(f"the data set {name!r}, split {split!r}, has no rows")
    return rows


def _missing(what: str) -> UsageError:
    return UsageError(f"{what} need the extra `data`: pip install 'pilotage[data]'")
