"""Frames are decoded when asked for, in any order, and nothing else is."""

import numpy as np
import pytest
from tests.data.encoded import CountingFrames

from pilotage.core.errors import UsageError
from pilotage.data.frames import JoinedFrames, PickedFrames, in_memory, join, take


def pictures(count: int, first: int = 0, size: int = 4) -> np.ndarray:
    return np.arange(first, first + count, dtype=np.uint8)[:, None, None, None] * np.ones((size, 2, 3), dtype=np.uint8)


@pytest.mark.parametrize("rows", [3, -1, slice(1, 9, 2), slice(None), [5, 0, 5], np.arange(10) % 3 == 0, np.array([7])])
def test_frames_are_indexed_like_the_array_they_stand_for(rows) -> None:
    whole = pictures(10)
    for frames in (
        CountingFrames(whole),
        PickedFrames(CountingFrames(whole[::-1]), np.arange(10)[::-1]),
        JoinedFrames([CountingFrames(whole[:4]), whole[4:5], CountingFrames(whole[5:])]),
    ):
        assert (frames.shape, frames.ndim, len(frames), frames.dtype) == (whole.shape, 4, 10, np.uint8)
        np.testing.assert_array_equal(frames[rows], whole[rows])


def test_only_what_is_asked_for_is_decoded() -> None:
    frames = CountingFrames(pictures(10))
    picked = take(frames, np.array([8, 2, 4]))
    joined = join([picked, pictures(2)])
    assert frames.decoded == []
    assert joined[np.array([2, 4])][:, 0, 0, 0].tolist() == [4, 1]
    assert frames.decoded == [4]


def test_arrays_stay_arrays_and_different_sizes_are_refused() -> None:
    assert isinstance(join([pictures(2), pictures(3)]), np.ndarray)
    assert isinstance(take(pictures(3), np.array([1])), np.ndarray)
    assert in_memory(CountingFrames(pictures(3))).shape == (3, 4, 2, 3)
    with pytest.raises(UsageError, match="one size first"):
        join([CountingFrames(pictures(2)), pictures(2, size=5)])
    with pytest.raises(IndexError):
        CountingFrames(pictures(2))[5]
