"""The real Push-T set: known by its numbers, whatever file they lie in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.data.encoded import encoded, expect_same

from pilotage.core.errors import UsageError
from pilotage.data.formats.numpy_archive import write_npz
from pilotage.data.pusht import CHECKSUM, read_pusht


def test_the_published_set_is_read(shared_data: Path) -> None:
    data = read_pusht(shared_data / "pusht-human-demos")
    assert (data.total_episodes, data.total_steps) == (206, 25_650)
    assert sorted(data.observations) == ["keypoint", "state"]
    # The pusher stands where the state says, in pixels; angles are whole turns of radians.
    assert data.observations["state"][:, :4].min() > 0
    assert data.observations["state"][:, :4].max() < 512
    assert 0 <= data.observations["state"][:, 4].min() <= data.observations["state"][:, 4].max() <= 2 * np.pi
    assert "Columbia" in data.meta["licence"]
    assert data.meta["fps"] == 10


def test_the_same_numbers_in_zarr_are_the_same_set(shared_data: Path, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr buffers need the extra robots")
    archive = np.load(shared_data / "pusht-human-demos" / "pusht_demos_lowdim.npz")
    root = zarr.open_group(str(tmp_path / "pusht_cchi_v7_replay.zarr"), mode="w", zarr_format=2)
    data, meta = root.create_group("data"), root.create_group("meta")
    for name in ("action", "state", "keypoint"):
        data.create_array(name, data=archive[name])
    data.create_array("n_contacts", data=archive["n_contacts"].astype(np.float32)[:, None])
    meta.create_array("episode_ends", data=archive["episode_ends"])
    expect_same(read_pusht(tmp_path), read_pusht(shared_data / "pusht-human-demos"))


def test_other_numbers_are_refused_with_the_place_of_the_right_ones(tmp_path: Path) -> None:
    path = write_npz(encoded(), tmp_path / "pusht_demos_lowdim.npz")
    with pytest.raises(UsageError, match=f"3 episodes .* 206, 25650 and {CHECKSUM[:12]}.*diffusion_policy_soup"):
        read_pusht(path)


def test_without_a_copy_it_says_where_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=r"holds none of pusht_demos_lowdim.npz, .*get the folder"):
        read_pusht()
    with pytest.raises(UsageError, match=r"there is no .*nowhere: get the folder"):
        read_pusht(tmp_path / "nowhere")
