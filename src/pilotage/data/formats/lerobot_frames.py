"""Camera frames of LeRobot data sets: mp4 files that hold several episodes, and encoded pictures in the tables."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.data.formats.access import package
from pilotage.data.frames import Frames

_SEEK = 2.0
"""Seconds ahead from which jumping to a key frame is tried instead of decoding all in between."""


class VideoFrames(Frames):
    """Frames found by time in video files, decoded by PyAV when they are asked for.

    files: the video files. file: [N] position in `files`; time: [N] seconds from the file's start; episode, frame: [N]
    numbers for messages; size: (H, W, C) that the frames must have, C 3 or 1; fps: frames per second.
    A frame belongs to a time when it lies within a quarter of a frame's duration of it.
    """

    def __init__(
        self,
        files: Sequence[Path],
        file: np.ndarray,
        time: np.ndarray,
        episode: np.ndarray,
        frame: np.ndarray,
        size: tuple[int, int, int],
        fps: float,
    ) -> None:
        self._files, self._file, self._time = list(files), file, time
        self._episode, self._frame, self._fps = episode, frame, fps
        self.shape = (len(file), *size)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the frames of these rows."""
        found = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        for number in np.unique(self._file[rows]):
            places = np.flatnonzero(self._file[rows] == number)
            places = places[np.argsort(self._time[rows[places]], kind="stable")]
            for place, picture in self._decoded(self._files[number], rows[places], places):
                found[place] = picture
        return found

    def _decoded(self, path: Path, rows: np.ndarray, places: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """(place, picture) of rows of one file that rise in time."""
        av = package("av", "a video of a LeRobot data set")
        row = rows[0]
        try:
            with av.open(str(path)) as container:
                reader = _Reader(container, 0.25 / self._fps)
                for row, place in zip(rows, places, strict=True):
                    picture = reader.at(float(self._time[row]))
                    if picture is None:
                        raise UsageError(
                            f"{self._place(path, row)}: no frame at {self._time[row]:.3f} s, though its table has that "
                            "step; the video is cut or misses frames, download it again"
                        )
                    yield int(place), self._sized(path, row, picture)
        except FileNotFoundError as error:
            raise UsageError(f"{self._place(path, row)}: the file is missing; download the data set again") from error
        except (av.error.FFmpegError, IndexError, UnicodeDecodeError) as error:
            raise UsageError(
                f"{self._place(path, row)} cannot be decoded ({error}); the file is damaged or cut, download it again"
            ) from error

    def _sized(self, path: Path, row: int, picture: Any) -> np.ndarray:
        pixels = picture.to_ndarray(format="rgb24" if self.shape[-1] == 3 else "gray")
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        if pixels.shape != self.shape[1:]:
            raise UsageError(
                f"{self._place(path, row)} is {list(pixels.shape)} (height, width, channels); meta/info.json says "
                f"{list(self.shape[1:])}: mend one of them"
            )
        return pixels

    def _place(self, path: Path, row: int) -> str:
        return f"{path}, episode {self._episode[row]}, frame {self._frame[row]}"


class _Reader:
    """Walks forward through a video, jumping where the next time is far ahead."""

    def __init__(self, container: Any, tolerance: float) -> None:
        self._container, self._tolerance = container, tolerance
        self._stream = container.streams.video[0]
        self._frames: Iterator[Any] = iter(())
        self._current: Any = None

    def at(self, time: float) -> Any:
        """Return the frame at a time, not before the one of the last call; None where there is none."""
        if self._current is None or time - self._current.time > _SEEK:
            self._jump(time)
            if self._current is not None and self._current.time > time + self._tolerance:
                self._jump(0.0)  # the key frame found lies behind: files whose index starts late
        while self._current is not None and self._current.time < time - self._tolerance:
            self._current = next(self._frames, None)
        near = self._current is not None and abs(self._current.time - time) <= self._tolerance
        return self._current if near else None

    def _jump(self, time: float) -> None:
        self._container.seek(int(time / self._stream.time_base), stream=self._stream)
        self._frames = self._container.decode(self._stream)
        self._current = next(self._frames, None)


class EncodedFrames(Frames):
    """Pictures that lie as PNG or JPEG bytes in the tables. encoded: [N] bytes; the others as for `VideoFrames`."""

    def __init__(
        self,
        encoded: Sequence[bytes],
        path: Path,
        episode: np.ndarray,
        frame: np.ndarray,
        size: tuple[int, int, int],
    ) -> None:
        self._encoded, self._path, self._episode, self._frame = encoded, path, episode, frame
        self.shape = (len(encoded), *size)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the frames of these rows."""
        image = package("PIL.Image", "pictures of a LeRobot data set")
        found = np.empty((len(rows), *self.shape[1:]), dtype=np.uint8)
        for place, row in enumerate(rows):
            where = f"{self._path}, episode {self._episode[row]}, frame {self._frame[row]}"
            try:
                with image.open(io.BytesIO(self._encoded[row])) as picture:
                    pixels = np.asarray(picture.convert("RGB" if self.shape[-1] == 3 else "L"))
            except (OSError, ValueError, TypeError) as error:
                raise UsageError(
                    f"{where}: the picture cannot be decoded ({error}); download the file again"
                ) from error
            pixels = pixels.reshape(*pixels.shape[:2], -1)
            if pixels.shape != self.shape[1:]:
                raise UsageError(
                    f"{where}: the picture is {list(pixels.shape)}; meta/info.json says {list(self.shape[1:])}"
                )
            found[place] = pixels
        return found
