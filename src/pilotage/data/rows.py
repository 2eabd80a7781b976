"""Rows of a data file or data set, each with the place where it stands, for errors that say where.

A row becomes a dictionary when it is asked for: files stay bytes, Parquet and data sets stay columns.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import stat
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest

Fields = dict[str, Any]

SUFFIXES = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet")
EXPECTED = f"a file ({', '.join(SUFFIXES)}, each also with .gz), a folder that `datasets` reads, or a data set's name"
_CONTAINERS = ("data", "rows", "examples", "questions", "items", "instances", "train", "test", "validation")
_BATCH = 1000


class Rows(Protocol):
    """Rows of a source in their order."""

    file: str
    """Name of the file, or name and split of the data set."""
    kind: str
    """Name of a row in errors: line, entry or row."""

    def __len__(self) -> int: ...

    def number(self, index: int) -> int:
        """Return the number by which people find a row: its line in the file, or its place among the rows, from 1."""
        ...

    def row(self, index: int) -> Fields:
        """Return all fields of a row."""
        ...

    def scan(self, columns: Collection[str] | None = None) -> Iterator[Fields]:
        """Yield every row with at least these of its columns (None: all). Raises UsageError for what is no row."""
        ...


def place(rows: Rows, index: int) -> str:
    """Return where a row stands, such as "questions.jsonl, line 3"."""
    return f"{rows.file}, {rows.kind} {rows.number(index)}"


def read_rows(source: str | Path, *, subset: str | None = None, split: str = "train") -> Rows:
    """Return the rows of a source.

    Args:
        source: a file, known by its content and its name: JSON Lines, a JSON array of objects (also inside an object,
            such as {"data": […]}, or as one list per column), CSV or TSV with a header, Parquet (extra `data`), each
            also with gzip; or a folder that `datasets` saved or can load, or the name of a data set on the Hugging Face
            hub, such as "openai/gsm8k" (both extra `data`).
        subset: configuration of the data set; only for folders and names.
        split: which of its splits; only for folders and names.

    Raises:
        UsageError: for a source that is missing, empty, of another format, damaged or not UTF-8, with the place.
    """
    path = Path(source)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        mode = None
    if mode is not None and stat.S_ISREG(mode):
        rows = _file(path)
        if not len(rows):
            raise UsageError(f"{path} has no rows; expected at least one question")
        return rows
    if mode is not None and not stat.S_ISDIR(mode):
        raise UsageError(
            f"{path} is a pipe or a device, which can be read only once; write its content into a file, which a "
            "resumed run can read again"
        )
    could_be_a_name = len(path.parts) <= 2 and path.suffix not in (*SUFFIXES, ".gz") and not path.is_absolute()
    if mode is not None or could_be_a_name:
        return _DataSet(str(source), subset, split)
    hint = nearest(path.name, _names(path.parent))
    raise UsageError(f"there is no file {path}{hint}; expected {EXPECTED}")


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []


# ---- files -----------------------------------------------------------------------------------------------------------


def _file(path: Path) -> Rows:
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PAR1":
                return _Table(path, path)
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    name = path
    if data[:2] == b"\x1f\x8b":
        data = _unzipped(path, data)
        name = path.with_suffix("") if path.suffix == ".gz" else path
    if not data.strip():
        raise UsageError(f"{path} is empty; expected JSON Lines, one question per line, or another table of questions")
    if data[:4] == b"PAR1" or name.suffix == ".parquet":
        return _Table(path, data)
    if name.suffix in (".csv", ".tsv"):
        return _table_of_text(path, _decoded(path, data), "\t" if name.suffix == ".tsv" else None)
    start = data[3:] if data[:3] == b"\xef\xbb\xbf" else data
    if name.suffix not in (".jsonl", ".json", ".ndjson") and start.lstrip()[:1] not in (b"{", b"["):
        known = (
            "a zip archive (or a table of Excel)" if data[:2] == b"PK" else f"no format that is known ({path.suffix})"
        )
        raise UsageError(f"{path} is {known}; expected {EXPECTED}")
    return _json(path, data)


def _unzipped(path: Path, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise UsageError(f"{path} is a damaged or incomplete gzip file: {error}; make or copy it again") from error


def _decoded(path: Path, data: bytes, start: int = 0, line: int = 1) -> str:
    """Return a part of a file as text; `start` and `line` say where the part begins, for the error."""
    mark = 3 if start == 0 and data[:3] == b"\xef\xbb\xbf" else 0
    try:
        return data[mark:].decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start + mark
        number = line + data.count(b"\n", 0, at)
        raise UsageError(
            f"{path}, line {number}: byte {start + at} (0x{data[at]:02x}) is not UTF-8; "
            "convert the file, for example with iconv -t utf-8"
        ) from error


class _Listed:
    """Rows that are in memory as dictionaries."""

    def __init__(self, path: Path, rows: Sequence[Any], kind: str, numbers: Sequence[int] | None = None) -> None:
        self.file, self.kind, self._rows, self._numbers = path.name, kind, rows, numbers
        for index, row in enumerate(rows):
            if not isinstance(row, dict):
                raise UsageError(f"{place(self, index)} is {_kind_of(row)}; expected an object with the fields")

    def __len__(self) -> int:
        return len(self._rows)

    def number(self, index: int) -> int:
        return index + 1 if self._numbers is None else self._numbers[index]

    def row(self, index: int) -> Fields:
        return dict(self._rows[index])

    def scan(self, columns: Collection[str] | None = None) -> Iterator[Fields]:
        del columns
        return iter(self._rows)


def _kind_of(value: Any) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


class _Lines:
    """JSON Lines: the bytes of the file, and where each line that is not blank begins and ends."""

    kind = "line"

    def __init__(self, path: Path, data: bytes) -> None:
        self.file, self._path, self._data = path.name, path, data
        starts, ends, numbers = [], [], []
        begin, line = 0, 0
        # Not splitlines: JSON strings may hold U+2028 and other characters at which that would cut.
        while begin < len(data):
            end = data.find(b"\n", begin)
            end, line = (len(data) if end < 0 else end), line + 1
            # A line of many megabytes is not copied to see that it is not blank.
            if end > begin and not (data[begin : begin + 100].isspace() and data[begin:end].isspace()):
                starts.append(begin)
                ends.append(end)
                numbers.append(line)
            begin = end + 1
        self._starts, self._ends, self._numbers = np.array(starts), np.array(ends), np.array(numbers)

    def __len__(self) -> int:
        return len(self._starts)

    def number(self, index: int) -> int:
        return int(self._numbers[index])

    def row(self, index: int) -> Fields:
        start, number = int(self._starts[index]), self.number(index)
        text = _decoded(self._path, self._data[start : int(self._ends[index])], start, number)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(
                f"{self._path}, line {number} is not JSON: {error}; expected one object per line, found {text[:60]!r}"
            ) from error
        if not isinstance(value, dict):
            raise UsageError(f"{self._path}, line {number} is {_kind_of(value)}; expected an object with the fields")
        return value

    def scan(self, columns: Collection[str] | None = None) -> Iterator[Fields]:
        del columns
        return (self.row(index) for index in range(len(self)))


def _json(path: Path, data: bytes) -> Rows:
    """Rows of JSON Lines, of an array, of an object that holds one, or of objects that take several lines each."""
    lines = _Lines(path, data)
    try:
        first = lines.row(0)
    except UsageError:
        first = None
    if first is not None and len(lines) > 1:
        return lines
    if first is None:
        text = _decoded(path, data).strip()
        values = _values(path, text)
        if len(values) > 1:
            return _Listed(path, values, "entry")
        first = values[0]
    if isinstance(first, list):
        return _Listed(path, first, "entry")
    if not isinstance(first, dict):
        raise UsageError(f"{path} holds {_kind_of(first)}; expected objects with the fields of a question")
    unpacked = _unpacked(first)
    if unpacked is not None:
        return _Listed(path, unpacked, "entry")
    return lines if len(lines) == 1 else _Listed(path, [first], "entry")


def _values(path: Path, text: str) -> list[Any]:
    """Return the JSON values that follow each other in a text."""
    decoder, values, at = json.JSONDecoder(), [], 0
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            where = getattr(error, "pos", at)
            line = text.count("\n", 0, where) + 1
            begins = " (it begins as an array of objects)" if text[0] == "[" else ""
            found = text[text.rfind("\n", 0, where) + 1 :][:60].partition("\n")[0]
            raise UsageError(
                f"{path}, line {line} is not JSON: {error}{begins}; expected one object per line, or a JSON array of "
                f"objects, found {found!r}"
            ) from error
        values.append(value)
        while at < len(text) and text[at].isspace():
            at += 1
    return values


def _unpacked(value: Mapping[str, Any]) -> list[Any] | None:
    """Return the rows that an object holds under one of its names, or as one list per column; None when it is a row."""
    lists = {
        name: found
        for name, found in value.items()
        if isinstance(found, list)
        and found
        and all(isinstance(entry, dict) for entry in found)
        # A conversation is a field of a row.
        and not any({"role", "from", "type", "label"} & entry.keys() for entry in found)
    }
    named = [name for name in _CONTAINERS if name in lists]
    if named or len(lists) == 1:
        return lists[named[0] if named else next(iter(lists))]
    columns = list(value.values())
    if len(columns) > 1 and all(isinstance(column, dict) and column.keys() == columns[0].keys() for column in columns):
        columns = [list(column.values()) for column in columns]  # as pandas writes a table
    if len(columns) > 1 and all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return [dict(zip(value, entries, strict=True)) for entries in zip(*columns, strict=True)]
    return None


def _table_of_text(path: Path, text: str, delimiter: str | None) -> Rows:
    header = text.lstrip("\r\n").partition("\n")[0]
    delimiter = delimiter or max(",;\t|", key=header.count)
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    rows, numbers, line = [], [], 1
    try:
        for cells in reader:
            begins, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = [cell.strip() for cell in cells]
                twice = [name for name in names if names.count(name) > 1]
                if twice:
                    raise UsageError(f"{path}, line {begins}: the header has {twice[0]!r} twice; name columns once")
                continue
            if len(cells) != len(names):
                raise UsageError(
                    f"{path}, line {begins} has {len(cells)} cells, its header {len(names)} ({', '.join(names)}); put "
                    f"a cell that holds {delimiter!r} or a line break into double quotes"
                )
            rows.append(dict(zip(names, cells, strict=True)))
            numbers.append(begins)
    except csv.Error as error:
        raise UsageError(f"{path}, line {line}: {error}; is a double quote missing or too much?") from error
    return _Listed(path, rows, "line", numbers)


# ---- columns ---------------------------------------------------------------------------------------------------------


class _Table:
    """Parquet: the columns of the file, in memory as Arrow keeps them."""

    kind = "row"

    def __init__(self, path: Path, content: Path | bytes) -> None:
        self.file = path.name
        try:
            import pyarrow as pa
            from pyarrow.parquet import read_table
        except ImportError as error:
            raise _missing("parquet files") from error
        try:
            self._table = read_table(
                pa.BufferReader(content) if isinstance(content, bytes) else content, use_threads=False, pre_buffer=False
            )
        except (pa.ArrowException, OSError) as error:
            raise UsageError(f"{path} cannot be read as parquet: {error}") from error

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def number(self, index: int) -> int:
        return index + 1

    def row(self, index: int) -> Fields:
        found: Fields = self._table.slice(index, 1).to_pylist()[0]
        return found

    def scan(self, columns: Collection[str] | None = None) -> Iterator[Fields]:
        names = [name for name in self._table.column_names if columns is None or name in columns]
        for batch in self._table.select(names).to_batches(max_chunksize=_BATCH):
            yield from batch.to_pylist()


class _DataSet:
    """A data set of the package `datasets`, which keeps its columns on the disk."""

    kind = "row"

    def __init__(self, name: str, subset: str | None, split: str) -> None:
        try:
            import datasets
        except ImportError as error:
            raise _missing("data sets by name and folders") from error
        try:
            if Path(name).is_dir() and (Path(name) / "state.json").is_file():
                self._loaded = datasets.load_from_disk(name)
            elif Path(name).is_dir() and (Path(name) / "dataset_dict.json").is_file():
                self._loaded = datasets.load_from_disk(name)[split]
            else:
                self._loaded = datasets.load_dataset(name, subset, split=split)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise UsageError(
                f"the data set {name!r} (configuration {subset}, split {split!r}) cannot be loaded: {error}. If a file "
                "was meant, there is none of that name"
            ) from error
        self.file = f"{name}[{split}]"
        if not len(self._loaded):
            raise UsageError(f"the data set {name!r}, split {split!r}, has no rows")

    def __len__(self) -> int:
        return len(self._loaded)

    def number(self, index: int) -> int:
        return index + 1

    def row(self, index: int) -> Fields:
        return dict(self._loaded[index])

    def scan(self, columns: Collection[str] | None = None) -> Iterator[Fields]:
        names = [name for name in self._loaded.column_names if columns is None or name in columns]
        for batch in self._loaded.select_columns(names).iter(batch_size=_BATCH):
            yield from (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))


def _missing(what: str) -> UsageError:
    return UsageError(f"{what} need the extra `data`: pip install 'pilotage[data]'")


def first_fields(rows: Rows, count: int = 100) -> Fields:
    """Return the fields that the first `count` rows have, each with its first value that is not empty."""
    known: Fields = {}
    for row in islice(rows.scan(), count):
        for name, value in row.items():
            if known.get(name) in (None, ""):
                known[name] = value
    return known
