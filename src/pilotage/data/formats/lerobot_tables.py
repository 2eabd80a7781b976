"""The parquet tables of a LeRobot data set: one row per episode, and one row per step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.data.formats.access import package


def read_table(path: Path, columns: Sequence[str] | None = None) -> Any:
    """Return a pyarrow table. Raises UsageError for a file that is missing, damaged, or lacks a column."""
    pyarrow, parquet = package("pyarrow", "a parquet file"), package("pyarrow.parquet", "a parquet file")
    if not path.is_file():
        raise UsageError(f"{path} is missing; the data set is incomplete, download it again")
    try:
        file = parquet.ParquetFile(path)
        lost = sorted(set(columns or ()) - set(file.schema_arrow.names))
        if lost:
            raise UsageError(f"{path} has no column {', '.join(lost)}; there are {', '.join(file.schema_arrow.names)}")
        return file.read(columns=columns)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as parquet ({error}); it is damaged or cut, download it again") from (
            error
        )


class EpisodeTable:
    """`meta/episodes`: where the steps and frames of each episode lie.

    Raises UsageError when episodes are missing.
    """

    def __init__(self, root: Path, info: dict[str, Any]) -> None:
        self._root, self._info = root, info
        paths = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
        if not paths:
            raise UsageError(f"{root / 'meta/episodes'} holds no tables; the data set is incomplete, download it again")
        rows: dict[int, dict[str, Any]] = {}
        for path in paths:
            names = [name for name in _names(path) if not name.startswith("stats/")]
            for row in read_table(path, names).to_pylist():
                rows[int(row["episode_index"])] = row
        missing = sorted(set(range(int(info["total_episodes"]))) - set(rows))
        if missing or len(rows) != info["total_episodes"]:
            raise UsageError(
                f"{root}: meta/info.json tells of {info['total_episodes']} episodes, meta/episodes of {len(rows)}"
                + (f"; episode {missing[0]} is missing" if missing else "")
            )
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def length(self, number: int) -> int:
        """Return the number of tokens."""
        return int(self._value(number, "length"))

    def tasks(self, number: int) -> list[str]:
        """Return the tasks of an episode, in words."""
        return list(self._rows[number].get("tasks") or ())

    def data(self, number: int) -> Path:
        """Return the file with the steps of an episode."""
        chunk, file = self._value(number, "data/chunk_index"), self._value(number, "data/file_index")
        return self._path("data_path", chunk_index=chunk, file_index=file)

    def video(self, camera: str, number: int) -> tuple[Path, float, float]:
        """Return (file, seconds from, seconds to) of an episode of a camera."""
        if not self._info.get("video_path"):
            raise UsageError(f"{self._root}: meta/info.json has no video_path, though {camera!r} is a video")
        chunk, file = (self._value(number, f"videos/{camera}/{name}_index") for name in ("chunk", "file"))
        path = self._path("video_path", video_key=camera, chunk_index=chunk, file_index=file)
        begin, end = (float(self._value(number, f"videos/{camera}/{name}_timestamp")) for name in ("from", "to"))
        return path, begin, end

    def _path(self, pattern: str, **parts: Any) -> Path:
        try:
            return self._root / str(self._info[pattern]).format(**parts)
        except (KeyError, IndexError, ValueError) as error:
            raise UsageError(
                f"{self._root}: meta/info.json's {pattern} is {self._info[pattern]!r}; expected a pattern of "
                f"{', '.join(f'{{{name}}}' for name in parts)}: copy it again"
            ) from error

    def _value(self, number: int, name: str) -> Any:
        value = self._rows[number].get(name)
        if value is None:
            raise UsageError(f"{self._root}: meta/episodes does not tell {name!r} of episode {number}")
        return value


def _names(path: Path) -> list[str]:
    parquet, pyarrow = package("pyarrow.parquet", "a parquet file"), package("pyarrow", "a parquet file")
    try:
        return list(parquet.read_schema(path).names)
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as parquet ({error}); it is damaged or cut, download it again") from (
            error
        )


class StepTable:
    """The steps of the chosen episodes, in their order; each file is read once.

    names: columns to read. Raises UsageError that names episode and frame when steps are missing or out of order.
    """

    def __init__(self, root: Path, table: EpisodeTable, chosen: Sequence[int], names: Sequence[str]) -> None:
        pyarrow = package("pyarrow", "a parquet file")
        self._root = root
        wanted = list(dict.fromkeys([*names, "episode_index", "frame_index", "timestamp"]))
        files: dict[Path, Any] = {}
        parts, lengths = [], []
        for number in chosen:
            path = table.data(number)
            if path not in files:
                files[path] = read_table(path, wanted)
            rows = np.flatnonzero(files[path]["episode_index"].to_numpy() == number)
            part = files[path].take(pyarrow.array(rows))
            _expect_frames(path, number, part["frame_index"].to_numpy(), table.length(number))
            parts.append(part.combine_chunks())
            lengths.append(len(rows))
        self._parts = parts
        self.ends = np.cumsum(lengths, dtype=np.int64)
        """[E] the step after each episode's last."""
        self.episode = np.repeat(np.asarray(chosen, dtype=np.int64), lengths)
        """[N] number of the episode in the data set."""
        self.frame = np.concatenate([np.arange(length) for length in lengths])
        """[N] step within the episode."""
        self.time = np.concatenate([part["timestamp"].to_numpy() for part in parts]).astype(np.float64)
        """[N] seconds within the episode."""

    def numbers(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Return the values of a column, [N, *shape].

        Raises UsageError that names episode and frame for another size or no value.
        """
        begins = self.ends - np.diff(self.ends, prepend=0)
        return np.concatenate(
            [self._numbers(part[name], name, shape, int(b)) for part, b in zip(self._parts, begins, strict=True)]
        )

    def _numbers(self, column: Any, name: str, shape: tuple[int, ...], begin: int) -> np.ndarray:
        """[T, *shape] of one episode, whose first step is `begin`."""
        pyarrow, compute = package("pyarrow", "a parquet file"), package("pyarrow.compute", "a parquet file")
        values = pyarrow.concat_arrays(column.chunks)
        values = getattr(values, "storage", values)
        size = int(np.prod(shape))
        if values.null_count:
            row = begin + int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
            raise UsageError(f"{self._place(row)} has no {name!r}")
        per_row = np.ones(len(values), dtype=np.int64)
        while pyarrow.types.is_nested(values.type):
            widths = compute.list_value_length(values).to_numpy(zero_copy_only=False)
            ends = np.cumsum(per_row)
            per_row = np.add.reduceat(widths, ends - per_row) if len(widths) and per_row.all() else per_row * 0
            values = values.flatten()
        wrong = np.flatnonzero(per_row != size)
        if len(wrong):
            raise UsageError(
                f"{self._place(begin + int(wrong[0]))}: {name!r} has {per_row[wrong[0]]} numbers; meta/info.json "
                f"says {list(shape)}"
            )
        if values.null_count:
            place = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False))) // size
            raise UsageError(f"{self._place(begin + place)}: an entry of {name!r} is missing")
        return values.to_numpy(zero_copy_only=False).reshape(len(per_row), *shape)

    def pictures(self, name: str) -> list[bytes]:
        """Return encoded pictures, [N].

        Raises UsageError that names episode and frame of one that is not in the table.
        """
        found = []
        for row, value in enumerate(value for part in self._parts for value in part[name].to_pylist()):
            encoded = value.get("bytes") if isinstance(value, dict) else value
            if not isinstance(encoded, bytes):
                raise UsageError(f"{self._place(row)}: the picture {name!r} is not in the table; embed the pictures")
            found.append(encoded)
        return found

    def _place(self, row: int) -> str:
        return f"{self._root}, episode {self.episode[row]}, frame {self.frame[row]}"


def _expect_frames(path: Path, number: int, frames: np.ndarray, length: int) -> None:
    expected = np.arange(length) + (frames.min() if len(frames) else 0)
    if len(frames) == length and (frames == expected).all():
        return
    missing = sorted(set(expected.tolist()) - set(frames.tolist()))
    what = f"frame {missing[0]} is missing" if missing else "they are out of order or repeated"
    raise UsageError(
        f"{path}, episode {number}: {len(frames)} steps, meta/episodes says {length}; {what}. Download the file again"
    )
