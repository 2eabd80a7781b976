"""The .npz format: what is written comes back, foreign archives are read, damaged ones refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.data.encoded import encoded, expect_same

from pilotage.core.errors import UsageError
from pilotage.data.formats.numpy_archive import read_npz, write_npz


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("unknown", [(), ("rewards",), ("terminated", "truncated")])
def test_what_is_written_comes_back(tmp_path: Path, last: bool, unknown: tuple[str, ...]) -> None:
    data = replace(encoded((4, 1, 6), last=last, cameras=True), **dict.fromkeys(unknown))
    back = read_npz(write_npz(data, tmp_path / "new" / "data.npz"))
    expect_same(back, data)
    assert back.episode_meta == data.episode_meta
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["data.npz"]


def test_the_real_push_t_archive_is_read_whole(shared_data: Path) -> None:
    data = read_npz(shared_data / "pusht-human-demos" / "pusht_demos_lowdim.npz")
    assert (data.total_episodes, data.total_steps, data.action_size) == (206, 25_650, 2)
    assert data.observations["state"].shape == (25_650, 5)
    assert data.observations["keypoint"].shape == (25_650, 9, 2)
    assert (data.lengths.min(), data.lengths.max()) == (49, 246)
    assert data.rewards is None


GOOD = {"action": np.zeros((5, 2), dtype=np.float32), "episode_ends": np.array([2, 5]), "state": np.zeros((5, 3))}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"action": None}, "holds episode_ends, state; expected at least 'action'"),
        ({"episode_ends": None}, "holds action, state; expected at least 'action' .* and 'episode_ends'"),
        ({"action": np.zeros(5, dtype=np.int64)}, "actions are int64; .*discrete"),
        ({"episode_ends": np.array([2.0, 5.0])}, "'episode_ends' is float64"),
        ({"state": np.zeros((4, 3))}, "observation 'state' has 4 steps, but there are 5 actions"),
        ({"state": np.full((5, 3), np.nan)}, "observation 'state' of episode 0, step 0 holds nan"),
        ({"meta": np.array("{")}, "'meta' is not JSON"),
        ({"state": np.array([None] * 5)}, "array 'state' of .* never unpickled"),
    ],
)
def test_an_archive_that_cannot_be_used_says_which_array(tmp_path: Path, changed: dict, message: str) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **{name: value for name, value in {**GOOD, **changed}.items() if value is not None})
    with pytest.raises(UsageError, match=f"(?s)data.npz.*{message}|{message}"):
        read_npz(path)


def test_foreign_archives_may_say_actions_and_one_dimension(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", actions=np.arange(5.0), episode_ends=np.array([5], dtype=np.int32))
    data = read_npz(tmp_path / "data.npz")
    assert data.actions.tolist() == [[0], [1], [2], [3], [4]]
    assert data.actions.dtype == np.float32


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = write_npz(encoded((50, 60)), tmp_path / "data.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"data.npz cannot be read .*damaged or cut"):
        read_npz(path)
    place = whole.index(b"state.npy") + 60
    path.write_bytes(whole[:place] + bytes(20) + whole[place + 20 :])
    with pytest.raises(UsageError, match=r"array 'state' of .*data.npz cannot be read"):
        read_npz(path)
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(UsageError, match="a single array; expected an archive"):
        read_npz(tmp_path / "one.npy")
    with pytest.raises(UsageError, match=r"no archive .*dta.npz .did you mean .data.npz"):
        read_npz(tmp_path / "dta.npz")


def test_names_and_suffixes_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected the suffix .npz"):
        write_npz(encoded(), tmp_path / "data.zip")
    data = encoded(last=False)
    with pytest.raises(UsageError, match="other names than reward"):
        write_npz(replace(data, observations={"reward": data.observations["state"]}), tmp_path / "data.npz")
