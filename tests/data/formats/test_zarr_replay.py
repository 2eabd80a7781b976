"""Zarr replay buffers of both versions, whole and broken."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from pilotage.core.errors import UsageError
from pilotage.data.formats.zarr_replay import read_zarr

zarr = pytest.importorskip("zarr", reason="zarr buffers need the extra robots")

STEPS, ENDS = 11, np.array([4, 11], dtype=np.int64)
ACTION = np.arange(1, 2 * STEPS + 1, dtype=np.float32).reshape(STEPS, 2)
STATE = np.arange(1, 3 * STEPS + 1, dtype=np.float32).reshape(STEPS, 3)
PICTURES = np.ones((STEPS, 4, 4, 3), dtype=np.float32) * np.arange(1, STEPS + 1, dtype=np.float32)[:, None, None, None]


def write(path: Path, version: int = 2, chunk: int = 3, **changed) -> Path:
    """A buffer as diffusion_policy lays it out; version 2 with Blosc, as theirs are."""
    root = zarr.open_group(str(path), mode="w", zarr_format=version)
    data, meta = root.create_group("data"), root.create_group("meta")
    if version == 2:
        import numcodecs

        options = {"compressors": numcodecs.Blosc(cname="zstd", clevel=5)}
    else:
        options = {"compressors": zarr.codecs.BloscCodec(cname="zstd")}
    columns = {"action": ACTION, "state": STATE, "img": PICTURES, "episode_ends": ENDS, **changed}
    for name, values in columns.items():
        if values is not None:
            group = meta if name == "episode_ends" else data
            group.create_array(name, data=values, chunks=(chunk, *values.shape[1:]), **options)
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_a_buffer_is_read_with_its_pictures_undecoded(tmp_path: Path, version: int) -> None:
    data = read_zarr(write(tmp_path / "a.zarr", version))
    assert data.lengths.tolist() == [4, 7]
    np.testing.assert_array_equal(data.actions, ACTION)
    np.testing.assert_array_equal(data.observations["state"], STATE)
    frames = data.observations["image/img"]
    assert (frames.shape, frames.dtype) == ((STEPS, 4, 4, 3), np.uint8)
    assert frames[np.array([10, 0, 3, 3])][:, 0, 0, 0].tolist() == [11, 1, 4, 4]
    assert data.subset([1]).observations["image/img"][0][0, 0, 0] == 5


def test_a_zip_is_read_as_its_folder(tmp_path: Path) -> None:
    store = zarr.storage.ZipStore(tmp_path / "a.zarr.zip", mode="w")
    root = zarr.create_group(store, zarr_format=2)
    root.create_group("data").create_array("action", data=ACTION)
    root.create_group("meta").create_array("episode_ends", data=ENDS)
    store.close()
    np.testing.assert_array_equal(read_zarr(tmp_path / "a.zarr.zip").actions, ACTION)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"action": None}, "data has no 'action' to take as the action; there are img, state"),
        ({"episode_ends": None}, "expected data/\\* and meta/episode_ends"),
        ({"episode_ends": np.array([4, 12])}, r"last episode \(1\) ends at step 12, but there are 11 actions"),
        ({"episode_ends": np.array([4.0, 11.0])}, "meta/episode_ends is float64"),
        ({"state": STATE[:9]}, "observation 'state' has 9 steps, but there are 11 actions"),
        ({"action": ACTION.astype(np.int64)}, "actions are int64"),
        ({"state": np.where(STATE == 20, np.nan, STATE)}, r"observation 'state' of episode 1, step 2 holds nan"),
    ],
)
def test_a_buffer_that_cannot_be_used_is_refused(tmp_path: Path, changed: dict, message: str) -> None:
    path = write(tmp_path / "a.zarr", **changed)
    with pytest.raises(UsageError, match=message):
        read_zarr(path)


@pytest.mark.parametrize(("version", "chunk"), [(2, "data/action/1.0"), (3, "data/action/c/1/0")])
def test_damaged_chunks_are_refused_and_absent_ones_counted(tmp_path: Path, version: int, chunk: str) -> None:
    path = write(tmp_path / "a.zarr", version)
    place = path / chunk
    whole = place.read_bytes()
    place.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=rf"{chunk} has \d+ bytes, not those that its header tells; it was cut"):
        read_zarr(path)
    place.write_bytes(b"\xff" * 12 + whole[12:])
    with pytest.raises(UsageError, match="data/action cannot be read .*chunk is damaged"):
        read_zarr(path)
    place.unlink()
    with pytest.warns(UserWarning, match="1 of 4 chunks of data/action are absent and read as 0"):
        data = read_zarr(path)
    assert not data.actions[3:6].any()
    place.write_bytes(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_zarr(path)


def test_pictures_that_are_not_0_to_255_are_refused_when_read(tmp_path: Path) -> None:
    frames = read_zarr(write(tmp_path / "a.zarr", img=PICTURES / 255)).observations["image/img"]
    with pytest.raises(UsageError, match=r"data/img, frame 2 .* from 0.0\d+ to 0.0\d+; expected 0..255"):
        frames[[2, 3]]


def test_what_is_no_buffer_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b.zarr").mkdir()
    for name in ("b.zarr", "c.zarr.zip"):
        if name.endswith("zip"):
            (tmp_path / name).write_bytes(b"no zip")
        with pytest.raises(UsageError, match="cannot be opened as zarr"):
            read_zarr(tmp_path / name)
    with pytest.raises(UsageError, match="no zarr buffer .*did you mean .b.zarr"):
        read_zarr(tmp_path / "bb.zarr")


def test_an_array_whose_codec_is_unknown_matters_only_where_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", extra=STATE)
    meta = path / "data/extra/.zarray"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"compressor": {"id": "of_the_future"}}))
    data = read_zarr(path, names=["state"], action=["action", "state"])
    np.testing.assert_array_equal(data.actions, np.concatenate([ACTION, STATE], 1))
    assert data.meta["unread"] == ["extra", "image/img"]
    with pytest.raises(UsageError, match=r"of_the_future"):
        read_zarr(path)


def test_spoilt_episodes_are_left_out_and_named(tmp_path: Path) -> None:
    data = read_zarr(write(tmp_path / "a.zarr", state=np.where(STATE == 20, np.inf, STATE)), skip_bad=True)
    assert data.meta["left_out_episodes"] == {"1": "observation 'state', step 2 holds inf"}
    np.testing.assert_array_equal(data.actions, ACTION[:4])
    with pytest.raises(UsageError, match="no episode can be used; the first, 0: actions, step 0 holds nan"):
        read_zarr(write(tmp_path / "b.zarr", action=ACTION * np.float32(np.nan)), skip_bad=True)
