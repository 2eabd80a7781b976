"""Damaged files of every format: whatever bytes are lost or changed, a reader gives demonstrations or a UsageError."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.data.encoded import encoded

from pilotage.core.errors import UsageError
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.numpy_archive import read_npz, write_npz
from pilotage.data.sources import open_demonstrations

DAMAGES = 12
"""Per format and kind. The files are small, so that headers and tables are met as often as numbers."""


def npz(place: Path) -> Path:
    return write_npz(encoded((10, 12), cameras=True), place / "a.npz")


def zarr_buffer(version: int) -> Callable[[Path], Path]:
    def write(place: Path) -> Path:
        pytest.importorskip("zarr", reason="zarr buffers need the extra robots")
        from tests.data.formats import test_zarr_replay

        return test_zarr_replay.write(place / "a.zarr", version)

    return write


def robomimic(place: Path) -> Path:
    pytest.importorskip("h5py", reason="HDF5 files need the extra robots")
    from tests.data.formats import test_hdf5

    return test_hdf5.write_robomimic(place / "a.hdf5")


def d4rl(place: Path) -> Path:
    pytest.importorskip("h5py", reason="HDF5 files need the extra robots")
    from tests.data.formats import test_hdf5

    return test_hdf5.write_d4rl(place / "a.hdf5")


def lerobot(place: Path) -> Path:
    pytest.importorskip("pyarrow", reason="reading LeRobot tables needs the extra robots")
    pytest.importorskip("av", reason="reading LeRobot videos needs the extra robots")
    from tests.data.formats.lerobot_files import write_lerobot

    return write_lerobot(place / "set", [5, 4], [0, 1])


def minari(place: Path) -> Path:
    pytest.importorskip("minari", reason="Minari data sets need the extra robots")
    from pilotage.data.formats.minari_dataset import write_minari

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(place))
        return write_minari(encoded((5, 6)), "test/ours-v0")


FORMATS = {
    "npz": npz,
    "zarr": zarr_buffer(2),
    "zarr-3": zarr_buffer(3),
    "robomimic": robomimic,
    "d4rl": d4rl,
    "lerobot": lerobot,
    "minari": minari,
}


def cut(data: bytearray, draw: random.Random) -> bytearray:
    return data[: draw.randrange(len(data))]


def flip(data: bytearray, draw: random.Random) -> bytearray:
    for _ in range(draw.choice([1, 8])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return data


def blank(data: bytearray, draw: random.Random) -> bytearray:
    at = draw.randrange(len(data))
    data[at : at + 16] = bytes(len(data[at : at + 16]))
    return data


@pytest.mark.parametrize("spoil", [cut, flip, blank])
@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(name: str, spoil: Callable, tmp_path: Path) -> None:
    """No error of a library reaches the user, and every refusal names what it was given."""
    place = FORMATS[name](tmp_path)
    draw = random.Random(f"{name} {spoil.__name__}")
    files = sorted(path for path in (place.rglob("*") if place.is_dir() else [place]) if path.is_file())
    files = [path for path in files if path.stat().st_size]
    refusals = []
    for _ in range(DAMAGES):
        path = draw.choice(files)
        whole = path.read_bytes()
        path.write_bytes(spoil(bytearray(whole), draw))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found: Demonstrations = open_demonstrations(place).loaded()
            assert len(found.actions) == found.episode_ends[-1]
        except UsageError as error:
            refusals.append(str(error))
        finally:
            path.write_bytes(whole)
    assert refusals, "no damage was noticed"
    named = "test/ours-v0" if name == "minari" else place.name
    assert [said for said in refusals if named not in said] == []
    open_demonstrations(place).loaded()


def test_an_archive_that_is_locked_or_packed_strangely_is_refused(tmp_path: Path) -> None:
    path = npz(tmp_path)
    whole = path.read_bytes()
    entry = whole.index(b"PK\x01\x02")  # the first of the directory; flags at 8, method of compression at 10
    for offset, value in ((8, 1), (10, 97)):
        data = bytearray(whole)
        data[entry + offset] = value
        path.write_bytes(data)
        with pytest.raises(UsageError, match=r"a.npz.* cannot be read .*copy it again"):
            read_npz(path)
