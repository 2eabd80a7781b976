"""`--data`: what is there is recognised, what is named is taken, and the rest is explained."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from tests.data.encoded import encoded, expect_same
from tests.data.formats.lerobot_files import write_lerobot
from tests.data.formats.test_hdf5 import write_d4rl, write_robomimic
from tests.data.formats.test_zarr_replay import write as write_zarr

from pilotage.core.errors import UsageError
from pilotage.data.formats.minari_dataset import write_minari
from pilotage.data.formats.numpy_archive import write_npz
from pilotage.data.sources import open_demonstrations

for name in ("minari", "h5py", "zarr", "av", "pyarrow"):
    pytest.importorskip(name, reason="formats of demonstrations need the extra robots")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path / "home"))
    return tmp_path


def test_every_format_is_recognised_by_what_is_there(home: Path) -> None:
    minari = write_minari(encoded((3, 4)), "test/ours-v0")
    lerobot = write_lerobot(home / "lerobot", [3, 2], [0, 0])
    places = {
        "npz": [write_npz(encoded((3, 4)), home / "a.npz")],
        "minari": ["test/ours-v0", "minari:test/ours-v0", minari, minari / "data", minari / "data/main_data.hdf5"],
        "lerobot": [lerobot, f"lerobot:{lerobot}"],
        "zarr": [write_zarr(home / "a.zarr"), f"zarr:{home / 'a.zarr'}"],
        "robomimic": [write_robomimic(home / "low_dim.hdf5"), f"robomimic:{home / 'low_dim.hdf5'}"],
        "d4rl": [write_d4rl(home / "d4rl.h5")],
    }
    for kind, wheres in places.items():
        for where in wheres:
            assert open_demonstrations(where).meta["format"] == kind, where


def test_a_folder_with_one_set_stands_for_it(home: Path) -> None:
    write_zarr(home / "inside" / "a.zarr")
    (home / "inside" / "README.md").write_text("read me")
    assert open_demonstrations(home / "inside").meta["format"] == "zarr"
    write_npz(encoded(), home / "inside" / "b.npz")
    with pytest.raises(UsageError, match=r"holds 2 sets of demonstrations \(a.zarr, b.npz\); name one"):
        open_demonstrations(home / "inside")


def test_episodes_state_and_mask(home: Path) -> None:
    write_npz(encoded((3, 4, 5)), home / "a.npz")
    expect_same(open_demonstrations(home / "a.npz", episodes=[2, 0]), encoded((3, 4, 5)).subset([2, 0]))
    lerobot = write_lerobot(home / "lerobot", [3, 2, 4], [0, 1, 1])
    (lerobot / "data/chunk-000/file-000.parquet").unlink()
    assert open_demonstrations(lerobot, episodes=[2]).total_steps == 4
    robomimic = write_robomimic(home / "low_dim.hdf5")
    data = open_demonstrations(robomimic, mask="train", state=["gripper", "eef_pos"], episodes=[1])
    assert data.observations["state"].shape == (2, 4)
    assert data.observations["state"][0].tolist() == [0, 2, 0, 0]
    with pytest.raises(UsageError, match="mask='train' was given for .* which is npz; only robomimic"):
        open_demonstrations(home / "a.npz", mask="train")
    with pytest.raises(UsageError, match="no observation 'eef'"):
        open_demonstrations(robomimic, state=["eef"])


def test_the_real_push_t_set_is_found_by_its_name(home: Path, shared_data: Path) -> None:
    with pytest.raises(UsageError, match="get the folder"):
        open_demonstrations("pusht")
    file = shared_data / "pusht-human-demos" / "pusht_demos_lowdim.npz"
    (home / "home").mkdir()
    (home / "home" / file.name).write_bytes(file.read_bytes())
    assert open_demonstrations("pusht").total_episodes == 206
    assert open_demonstrations(f"pusht:{file}").total_episodes == 206
    assert open_demonstrations(file).observations.keys() >= {"n_contacts"}


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nothing.npz", r"no file, folder or known name nothing.npz"),
        ("test/none-v0", "no Minari data set test/none-v0"),
        ("lerobt:somewhere", "no demonstrations are known by 'lerobt:' .did you mean 'lerobot'"),
        ("https://example.org/data", "no demonstrations are known by 'https:'; expected a file .npz"),
        ("zarr:nowhere", "no zarr buffer nowhere"),
        ("lerobot:lerobot/pusht", "no LeRobot data set lerobot/pusht.* hf download lerobot/pusht --repo-type dataset"),
    ],
)
def test_what_is_not_there_is_explained(where: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_demonstrations(where)


def test_what_is_something_else_is_explained(home: Path) -> None:
    import h5py

    (home / "notes.txt").write_text("no data")
    (home / "empty").mkdir()
    for name in ("notes.txt", "empty"):
        with pytest.raises(UsageError, match=f"{name} is nothing that is known here; expected a file .npz"):
            open_demonstrations(home / name)
    with h5py.File(home / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(UsageError, match="other.h5 holds x; expected robomimic's"):
        open_demonstrations(home / "other.h5")
    lerobot = write_lerobot(home / "lerobot", [2], [0])
    for part in ("meta/info.json", "data/chunk-000/file-000.parquet"):
        with pytest.raises(UsageError, match="is part of the LeRobot data set .*lerobot; name that folder"):
            open_demonstrations(lerobot / part)


def test_a_missing_package_names_the_line_that_installs_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_robomimic(home / "low_dim.hdf5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match=r"needs the package 'h5py' .*pip install 'pilotage\[robots\]'"):
        open_demonstrations(path)
