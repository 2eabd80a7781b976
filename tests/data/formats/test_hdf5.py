"""robomimic's and D4RL's HDF5 files: order, masks, episode ends, and what may be wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tests.data.encoded import expect_same

from pilotage.core.errors import UsageError
from pilotage.data.formats.d4rl_hdf5 import read_d4rl
from pilotage.data.formats.robomimic_hdf5 import read_robomimic

h5py = pytest.importorskip("h5py", reason="HDF5 files need the extra robots")

LENGTHS = [3, 5, 2, 4, 3, 3, 3, 3, 3, 3, 6]


# ---- robomimic -------------------------------------------------------------------------------------------------------


def write_robomimic(path: Path, change=None) -> Path:
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1})
        data.attrs["total"] = sum(LENGTHS)
        for number, length in enumerate(LENGTHS):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = length
            demo["actions"] = np.array([[-number, -step] for step in range(length)], dtype=np.float64)
            demo["rewards"] = np.array([100.0 * number + step for step in range(length)])
            demo["dones"] = np.arange(length) == length - 1
            for group, shift in (("obs", 0), ("next_obs", 1)):
                seen = demo.create_group(group)
                seen["eef_pos"] = np.array([[number, step + shift, 0] for step in range(length)], dtype=np.float64)
                seen["gripper"] = np.arange(shift, length + shift, dtype=np.float64)[:, None]
                pixels = np.zeros((length, 4, 5, 3), dtype=np.uint8)
                pixels[..., 0], pixels[..., 1] = number, np.arange(length)[:, None, None] + shift
                seen["agentview_image"] = pixels
        masks = file.create_group("mask")
        masks["train"] = np.array([f"demo_{k}" for k in (10, 2, 1)], dtype="S8")
        masks["odd"] = np.array(["demo_99"], dtype="S8")
        if change is not None:
            change(file)
    return path


def test_robomimic_demonstrations_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    data = read_robomimic(write_robomimic(tmp_path / "low_dim.hdf5"))
    assert data.lengths.tolist() == LENGTHS
    assert sorted(data.observations) == ["eef_pos", "gripper", "image/agentview_image"]
    for number, episode in enumerate(data.episodes()):
        steps = np.arange(len(episode))
        assert episode.meta == {"name": f"demo_{number}"}
        assert (episode.observations["eef_pos"][:, 0] == number).all()
        assert episode.observations["eef_pos"][:, 1].tolist() == steps.tolist()
        assert episode.actions[:, 1].tolist() == (-steps).tolist()
        assert episode.rewards.tolist() == (100 * number + steps).tolist()
        assert episode.last_observations["eef_pos"][1] == len(episode)
        assert episode.observations["image/agentview_image"][len(episode) - 1][0, 0].tolist() == [number, steps[-1], 0]
        assert episode.last_observations["image/agentview_image"][0, 0].tolist() == [number, len(episode), 0]
    assert data.meta["env_args"]["env_name"] == "Lift"
    assert data.with_state(["eef_pos", "gripper"]).observations["state"].shape == (sum(LENGTHS), 4)


def test_robomimic_pictures_are_read_in_any_order(tmp_path: Path) -> None:
    frames = read_robomimic(write_robomimic(tmp_path / "low_dim.hdf5")).observations["image/agentview_image"]
    places = [(number, step) for number, length in enumerate(LENGTHS) for step in range(length)]
    rows = np.array([30, 0, 7, 7, 12, 1])
    assert frames[rows][:, 0, 0, :2].tolist() == [list(places[row]) for row in rows]


def test_a_mask_chooses_demonstrations(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / "low_dim.hdf5")
    data = read_robomimic(path, mask="train")
    assert [meta["name"] for meta in data.episode_meta] == ["demo_1", "demo_2", "demo_10"]
    assert data.observations["image/agentview_image"][:][:, 0, 0, 0].tolist() == [1] * 5 + [2] * 2 + [10] * 6
    with pytest.raises(UsageError, match="no mask/valid; there are odd, train"):
        read_robomimic(path, mask="valid")
    with pytest.raises(UsageError, match="mask/odd lists demo_99, which data does not hold"):
        read_robomimic(path, mask="odd")


def remove(name: str):
    return lambda file: file.pop(name)


def replaced(name: str, values: np.ndarray):
    def change(file) -> None:
        del file[name]
        file[name] = values

    return change


def test_last_observations_and_rewards_may_be_absent(tmp_path: Path) -> None:
    data = read_robomimic(write_robomimic(tmp_path / "a.hdf5", remove("data/demo_4/next_obs")))
    assert data.last_observations is None
    data = read_robomimic(write_robomimic(tmp_path / "b.hdf5", remove("data/demo_4/rewards")))
    assert data.rewards is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (remove("data"), "no group 'data'; expected robomimic's"),
        (remove("data/demo_3/actions"), "demo_3 has no 'actions' to take as the action"),
        (remove("data/demo_3/obs"), "demo_3 has no 'obs'; extract observations"),
        (remove("data/demo_3/obs/gripper"), "demo_3: none observations 'gripper' for 4 actions; step 0 is missing"),
        (
            replaced("data/demo_3/obs/gripper", np.zeros((2, 1))),
            "demo_3: 2 observations .* step 2 is missing",
        ),
        (
            replaced("data/demo_3/obs/gripper", np.zeros((4, 2))),
            r"demo_3: .*'gripper' is \[2\], in demo_0 .*\[1\]",
        ),
        (replaced("data/demo_3/actions", np.zeros((3, 2))), "demo_3 has 3 actions, its num_samples says 4"),
        (replaced("data/demo_3/actions", np.zeros(4, dtype=int)), "demo_3: actions are int64"),
        (
            replaced("data/demo_3/obs/eef_pos", np.full((4, 3), np.nan)),
            "observation 'eef_pos' of episode 3 .demo_3., step 0 holds nan",
        ),
        (lambda file: file["data"].attrs.update(env_args="{"), "env_args of data is not JSON"),
    ],
)
def test_a_broken_robomimic_file_names_the_demonstration(tmp_path: Path, change, message: str) -> None:
    path = write_robomimic(tmp_path / "low_dim.hdf5", change)
    with pytest.raises(UsageError, match=f"low_dim.hdf5.*{message}"):
        read_robomimic(path)


def test_the_array_of_actions_can_be_named(tmp_path: Path) -> None:
    def change(file) -> None:
        for name, demo in file["data"].items():
            demo["absolute"] = demo["actions"][:] + 7
            demo["gripper_action"] = np.full((len(demo["actions"]), 1), float(name[5:]))

    path = write_robomimic(tmp_path / "low_dim.hdf5", change)
    data = read_robomimic(path, action=["absolute", "gripper_action"])
    assert data.actions[0].tolist() == [7, 7, 0]
    assert data.actions[-1].tolist() == [-3, 2, 10]
    with pytest.raises(UsageError, match="demo_0 has no 'absolut'.*did you mean 'absolute'"):
        read_robomimic(path, action=["absolut"])


def test_groups_beside_the_arrays_are_passed_over_and_named(tmp_path: Path) -> None:
    """As Isaac Lab's Mimic writes them: obs/datagen_info holds poses of every step, not an observation."""

    def change(file) -> None:
        for demo in file["data"].values():
            demo["obs/datagen_info/eef_pose/franka"] = np.zeros((len(demo["actions"]), 4, 4))
            demo["initial_state/articulation/robot/joint_position"] = np.zeros((1, 9))

    data = read_robomimic(write_robomimic(tmp_path / "mimic.hdf5", change))
    assert sorted(data.observations) == ["eef_pos", "gripper", "image/agentview_image"]
    assert data.meta["left_out"] == ["obs/datagen_info"]


def test_spoilt_demonstrations_are_left_out_and_named(tmp_path: Path) -> None:
    """S13: the others are those of the whole file."""

    def change(file) -> None:
        file["data/demo_3/obs"].pop("gripper")
        file["data/demo_5/obs/eef_pos"][1] = np.nan
        replaced("data/demo_0/obs/gripper", np.zeros((2, 1)))(file)

    whole = read_robomimic(write_robomimic(tmp_path / "a.hdf5"))
    part = read_robomimic(write_robomimic(tmp_path / "b.hdf5", change), skip_bad=True)
    kept = [number for number in range(len(LENGTHS)) if number not in (0, 3, 5)]
    expect_same(part, whole.subset(kept))
    assert [meta["name"] for meta in part.episode_meta] == [f"demo_{number}" for number in kept]
    left_out = part.meta["left_out_episodes"]
    assert list(left_out) == ["demo_0", "demo_3", "3 (demo_5)"]
    assert "2 observations 'gripper' for 3 actions" in left_out["demo_0"]
    assert left_out["3 (demo_5)"] == "observation 'eef_pos', step 1 holds nan"
    only = read_robomimic(tmp_path / "b.hdf5", names=["image/agentview_image"])
    assert only.total_episodes == len(LENGTHS)  # what is not read cannot be spoilt


# ---- D4RL ------------------------------------------------------------------------------------------------------------


def write_d4rl(path: Path, **changed) -> Path:
    """Episodes of 3 (terminal), 4 (timed out) and 2 steps (neither); rewards tell the step."""
    columns = {
        "observations": np.arange(9.0)[:, None],
        "next_observations": np.arange(1.0, 10.0)[:, None],
        "actions": -np.arange(9, dtype=np.float32)[:, None],
        "rewards": np.arange(9, dtype=np.float32) * 10,
        "terminals": np.arange(9) == 2,
        "timeouts": np.arange(9) == 6,
        "infos/qpos": np.zeros((9, 2)),
        **changed,
    }
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            if values is not None:
                file[name] = values
    return path


def test_d4rl_episodes_end_where_flags_say_and_the_last_one_is_kept(tmp_path: Path) -> None:
    data = read_d4rl(write_d4rl(tmp_path / "a.hdf5"))
    assert data.lengths.tolist() == [3, 4, 2]
    assert data.terminated.tolist() == [True, False, False]
    assert data.truncated.tolist() == [False, True, False]
    assert data.rewards.tolist() == (10.0 * np.arange(9)).tolist()
    assert (-data.actions[:, 0]).tolist() == data.observations["state"][:, 0].tolist()
    assert data.last_observations["state"][:, 0].tolist() == [3, 7, 9]
    assert data.meta["left_out"] == ["infos"]


def test_d4rl_without_timeouts_needs_the_time_limit(tmp_path: Path) -> None:
    path = write_d4rl(tmp_path / "a.hdf5", timeouts=None, next_observations=None)
    with pytest.raises(UsageError, match=r"no 'timeouts', .* give the time limit \(episode_steps\)"):
        read_d4rl(path)
    data = read_d4rl(path, episode_steps=4)
    assert data.lengths.tolist() == [3, 4, 2]
    assert data.truncated.tolist() == [False, True, False]
    assert data.last_observations is None


@pytest.mark.parametrize("timed", [True, False])
def test_terminals_that_stay_set_near_a_goal_end_nothing(tmp_path: Path, timed: bool) -> None:
    """As in AntMaze: three episodes of 100 steps with the ant at the goal in the last 30 of each."""
    step = np.arange(300) % 100
    columns = {"observations": np.zeros((300, 5)), "actions": np.zeros((300, 2), np.float32), "rewards": step >= 70.0}
    path = write_d4rl(
        tmp_path / "antmaze.hdf5",
        **columns,
        terminals=step >= 70,
        timeouts=step == 99 if timed else None,
        next_observations=None,
    )
    with pytest.warns(UserWarning, match="'terminals' is set at 90 steps, most of them one after the other"):
        data = read_d4rl(path, episode_steps=None if timed else 100)
    assert data.lengths.tolist() == [100, 100, 100]
    assert data.terminated is None
    assert data.truncated.tolist() == [True] * 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"actions": None}, "no array 'actions'; there are"),
        ({"terminals": None}, "no array 'terminals'"),
        ({"rewards": np.zeros(8)}, "8 rewards for 9 actions; frames are missing"),
        ({"timeouts": np.zeros(8)}, "8 timeouts for 9 actions"),
        ({"observations": np.where(np.arange(9) == 4, np.nan, 0)[:, None]}, "of episode 1, step 1 holds nan"),
    ],
)
def test_a_broken_d4rl_file_names_the_array(tmp_path: Path, changed: dict, message: str) -> None:
    path = write_d4rl(tmp_path / "a.hdf5", **changed)
    with pytest.raises(UsageError, match=f"a.hdf5.*{message}"):
        read_d4rl(path)


# ---- both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_robomimic, read_d4rl])
def test_damaged_files_are_refused(tmp_path: Path, read) -> None:
    path = (write_robomimic if read is read_robomimic else write_d4rl)(tmp_path / "a.hdf5")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match="a.hdf5 cannot be opened as HDF5 .*damaged or cut"):
        read(path)
    path.write_bytes(b"no hdf5")
    with pytest.raises(UsageError, match="cannot be opened as HDF5"):
        read(path)
    with pytest.raises(UsageError, match="no file .*aa.hdf5 .did you mean .a.hdf5"):
        read(tmp_path / "aa.hdf5")


def test_a_damaged_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    values = np.random.default_rng(0).normal(size=(500, 4))
    with h5py.File(path, "w") as file:
        file.create_dataset("observations", data=values, compression="gzip", chunks=(100, 4))
        file["actions"], file["rewards"] = np.zeros((500, 1)), np.zeros(500)
        file["terminals"] = file["timeouts"] = np.zeros(500, dtype=bool)
        chunk = file["observations"].id.get_chunk_info(2)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match="array 'observations' cannot be read"):
        read_d4rl(path)
