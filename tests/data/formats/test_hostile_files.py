"""Files that name code, other files or endless ones are refused with a sentence, and nothing hangs."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.data.encoded import encoded
from tests.data.formats.lerobot_files import write_lerobot
from tests.data.formats.test_hdf5 import write_d4rl
from tests.data.formats.test_zarr_replay import write as write_zarr

from pilotage.core.errors import UsageError
from pilotage.data.formats.minari_dataset import write_minari
from pilotage.data.sources import open_demonstrations

for name in ("minari", "av", "pyarrow"):
    pytest.importorskip(name, reason="formats of demonstrations need the extra robots")
h5py, zarr = (pytest.importorskip(name, reason="HDF5 and zarr need the extra robots") for name in ("h5py", "zarr"))

ARRAYS = {"action": np.zeros((4, 2), np.float32), "state": np.ones((4, 3)), "episode_ends": np.array([2, 4])}


# ---- numbers that lie in other files ---------------------------------------------------------------------------------


def outside(kind: str, path: Path, secret: Path) -> None:
    """Give the observations of a D4RL file by `kind`, all of whose numbers lie in the file `secret`."""
    with h5py.File(path, "a") as file:
        del file["observations"]
        if kind == "raw storage":
            file.create_dataset("observations", (9, 1), "u1", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((9, 1), "f8")
            layout[:] = h5py.VirtualSource(str(secret), "observations", (9, 1))
            file.create_virtual_dataset("observations", layout)
        elif kind == "external link":
            file["observations"] = h5py.ExternalLink(str(secret), "/observations")
        else:
            file["infos/deep"] = h5py.ExternalLink(str(secret), "/")


@pytest.mark.parametrize("kind", ["raw storage", "virtual", "external link", "external link in a group not read"])
@pytest.mark.parametrize("minari", [False, True])
def test_hdf5_that_takes_numbers_from_another_file_is_refused(
    tmp_path: Path, kind: str, minari: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    if kind == "raw storage":
        secret.write_bytes(b"a password of this machine")
    else:
        write_d4rl(secret)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    place = path = write_d4rl(tmp_path / "a.hdf5")
    if minari:
        place = write_minari(encoded((3, 4)), "test/ours-v0")
        path = place / "data/main_data.hdf5"
        with h5py.File(path, "a") as file:
            file["observations"] = np.zeros(3)
    outside(kind, path, secret)
    for where in (place, "minari:test/ours-v0") if minari else (place, f"d4rl:{path}"):
        with pytest.raises(UsageError, match="secret; what lies outside of the file is never read"):
            open_demonstrations(where)


def test_links_and_virtual_arrays_within_a_file_are_followed(tmp_path: Path) -> None:
    path = write_d4rl(tmp_path / "a.hdf5")
    with h5py.File(path, "a") as file:
        file.move("observations", "infos/seen")
        file["observations"] = h5py.SoftLink("/infos/seen")
        file["infos/round"] = file["infos"]  # a circle
    assert open_demonstrations(path).observations["state"][:, 0].tolist() == list(range(9))


# ---- codecs that run code --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_a_codec_that_runs_code_is_refused_before_anything_is_opened(
    tmp_path: Path, version: int, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_zarr(tmp_path / "a.zarr", version)
    meta = path / "data/state" / (".zarray" if version == 2 else "zarr.json")
    told = json.loads(meta.read_text())
    if version == 2:
        told["filters"] = [{"id": "pickle", "protocol": 4}]
    else:
        told["codecs"] = [
            {"name": "sharding_indexed", "configuration": {"codecs": [{"name": "numcodecs.pickle"}]}},
        ]
    meta.write_text(json.dumps(told))
    if packed:
        with zipfile.ZipFile(tmp_path / "a.zarr.zip", "w") as archive:
            for file in path.rglob("*"):
                archive.write(file, file.relative_to(path))
        path = tmp_path / "a.zarr.zip"
    monkeypatch.setattr(zarr, "open_group", lambda *_, **__: pytest.fail("it was opened"))
    for names in (None, ["img"]):
        with pytest.raises(UsageError, match=r"state.* names the codec 'pickle', which runs whatever the data says"):
            open_demonstrations(path, names=names)


# ---- files that never end, or are larger than they look --------------------------------------------------------------


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("replace", [pipe, endless])
@pytest.mark.parametrize("name", ["a.npz", "a.hdf5", "a.zip", "zarr:a", "lerobot:a"])
def test_a_pipe_or_device_in_place_of_a_file_is_refused(tmp_path: Path, replace, name: str) -> None:
    reader, _, file = name.rpartition(":")
    replace(tmp_path / file)
    with pytest.raises(UsageError, match="is a pipe, socket or device"):
        open_demonstrations(f"{reader}{':' * bool(reader)}{tmp_path / file}")


@pytest.mark.parametrize("replace", [pipe, endless])
def test_a_pipe_or_device_inside_a_data_set_is_refused(
    tmp_path: Path, replace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    sets = {
        write_zarr(tmp_path / "a.zarr"): "data/action/0.0",
        write_lerobot(tmp_path / "lerobot", [2], [0]): "meta/stats.json",
        write_minari(encoded((3, 4)), "test/ours-v0"): "data/main_data.hdf5",
    }
    for folder, part in sets.items():
        replace(folder / part)
        with pytest.raises(UsageError, match=f"{Path(part).name} is a pipe, socket or device"):
            open_demonstrations(folder)


def test_a_folder_in_place_of_an_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").mkdir()
    with pytest.raises(UsageError, match="a.npz is nothing that is known here"):
        open_demonstrations(tmp_path / "a.npz")
    with pytest.raises(UsageError, match="a.npz cannot be read .*directory"):
        open_demonstrations(f"npz:{tmp_path / 'a.npz'}")


def header(shape: tuple[int, ...], kind: str = "<f8") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def test_an_archive_that_declares_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{name: values for name, values in ARRAYS.items() if name != "state"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("state.npy", header((10**13,)))
    with pytest.raises(UsageError, match="array 'state' of .*declares 80000000000000 bytes, the archive holds"):
        open_demonstrations(path)
    assert open_demonstrations(path, names=["other"]).total_steps == 4


def test_what_cannot_fit_into_memory_is_refused_by_its_declared_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [write_zarr(tmp_path / "a.zarr"), write_d4rl(tmp_path / "a.hdf5"), tmp_path / "a.npz"]
    np.savez_compressed(places[-1], **{**ARRAYS, "state": np.zeros((4, 1000))})
    monkeypatch.setattr(os, "sysconf", lambda name: 1 if name == "SC_PAGE_SIZE" else 40)
    for place in places:
        with pytest.raises(UsageError, match="declares .* GiB, and this machine has"):
            open_demonstrations(place)


# ---- contents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"action": np.array([[None, {}]] * 4, dtype=object)}, "'action' .*Python objects are never unpickled"),
        ({"action": np.full((4, 2), np.nan, np.float32)}, r"a.npz: actions of episode 0, step 0 holds nan .*8 such"),
        ({"action": np.array(["left"] * 4)}, "actions are <U4; expected floating-point numbers"),
        ({"action": np.zeros(4, int)}, "actions are int64; expected floating-point"),
        ({"action": np.float32(1)}, "actions are a single number"),
        ({"state": np.float32(1)}, "observation 'state' has no steps, but there are 4 actions"),
        ({"state": np.ones((4, 3), complex)}, "observation 'state' is of type complex128; expected real numbers"),
        ({"state": np.array([1, 1, np.inf, 1])}, r"observation 'state' of episode 1, step 0 holds inf"),
        ({"episode_ends": np.array([2, 2, 4])}, "episode 1 ends at step 2, 0 steps after the one before"),
        ({"episode_ends": np.array([], int)}, "holds 4 steps and 0 episodes; expected at least one of each"),
        ({"action": np.zeros((0, 2), np.float32), "episode_ends": np.array([], int)}, "holds 0 steps and 0 episodes"),
        ({"episode_ends": np.array([[2, 4]])}, r"episode_ends are int64 \[1, 2\]"),
        ({"meta": np.array("[1]")}, "'meta' holds a list; expected a dict as JSON"),
        ({"meta": np.array("[" * 100_000)}, "'meta' is not JSON"),
        ({"episode_meta": np.array("{}")}, "'episode_meta' holds a dict; expected a list"),
    ],
)
def test_an_archive_of_the_wrong_numbers_is_refused(tmp_path: Path, changed: dict, message: str) -> None:
    np.savez(tmp_path / "a.npz", **{**ARRAYS, **changed})
    with pytest.raises(UsageError, match=message):
        open_demonstrations(tmp_path / "a.npz")


def test_what_is_not_asked_for_is_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **ARRAYS, notes=np.array([{}] * 4, dtype=object), bad=np.full(4, np.nan))
    data = open_demonstrations(tmp_path / "a.npz", names=["state"])
    assert list(data.observations) == ["state"]
    with pytest.raises(UsageError, match="no observation 'other'; there are bad, notes, state"):
        data.column("other")


def test_an_archive_of_whole_rewards_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **ARRAYS, reward=np.arange(4))
    assert open_demonstrations(tmp_path / "a.npz").returns.tolist() == [1, 5]
