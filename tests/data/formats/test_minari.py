"""Minari: data sets that Minari itself wrote are read, what is written Minari opens, and nothing is lost on the way."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data.encoded import encoded, expect_same, reward, state

from pilotage.core.errors import UsageError
from pilotage.data.formats.minari_dataset import read_minari, write_minari

minari = pytest.importorskip("minari", reason="Minari needs the extra robots")
h5py = pytest.importorskip("h5py", reason="Minari needs the extra robots")
spaces = pytest.importorskip("gymnasium").spaces

# It warns of every optional field that the data sets made here lack.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:minari")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path / "minari"


def box(*shape: int, dtype=np.float64) -> spaces.Box:
    return spaces.Box(-np.inf, np.inf, shape, dtype)


def own_buffer(number: int, length: int, **changed):
    """An episode as a user of Minari makes it: a Dict observation with T + 1 rows, float64, infos."""
    given = {
        "observations": {
            "achieved": np.array([[number, step] for step in range(length + 1)], dtype=np.float64),
            "nested": {"time": np.arange(length + 1.0)[:, None]},
        },
        "actions": np.array([[-number, -step] for step in range(length)], dtype=np.float32),
        "rewards": np.array([reward(number, step) for step in range(length)]),
        "terminations": np.array([False] * (length - 1) + [number % 2 == 0]),
        "truncations": np.array([False] * (length - 1) + [number % 2 == 1]),
        "infos": {"success": np.zeros(length)},
        "seed": 7 + number,
    }
    return minari.data_collector.EpisodeBuffer(**{**given, **changed})


def own_set(name: str, lengths=(4, 6, 3), **changed) -> str:
    minari.create_dataset_from_buffers(
        name,
        [own_buffer(number, length, **changed) for number, length in enumerate(lengths)],
        observation_space=spaces.Dict({"achieved": box(2), "nested": spaces.Dict({"time": box(1)})}),
        action_space=box(2, dtype=np.float32),
    )
    return name


def test_episodes_with_too_few_observations_are_named_and_can_be_left_out() -> None:
    """As in some versions of D4RL/antmaze: an observation for every step, and none after the last."""
    buffers = [own_buffer(number, 5) for number in range(5)]
    for number in (1, 3):
        short = own_buffer(number, 5).observations
        cut = {"achieved": short["achieved"][:5], "nested": {"time": short["nested"]["time"][:5]}}
        buffers[number] = own_buffer(number, 5, observations=cut)
    minari.create_dataset_from_buffers(
        "test/short-v0",
        buffers,
        observation_space=spaces.Dict({"achieved": box(2), "nested": spaces.Dict({"time": box(1)})}),
        action_space=box(2, dtype=np.float32),
    )
    with pytest.raises(UsageError, match=r"episode 1: 5 observations .*2 of 5 episodes cannot be used: 1, 3.*skip-bad"):
        read_minari("test/short-v0")
    own_set("test/whole-v0", [5] * 5)
    part, whole = read_minari("test/short-v0", skip_bad=True), read_minari("test/whole-v0")
    expect_same(part, whole.subset([0, 2, 4]))  # S13
    expect_same(read_minari("test/short-v0", episodes=[4, 0]), whole.subset([4, 0]))
    assert list(part.meta["left_out_episodes"]) == ["1", "3"]
    assert [meta["name"] for meta in part.episode_meta] == [0, 2, 4]
    assert list(read_minari("test/whole-v0", names=["nested/time"]).observations) == ["nested/time"]


def test_a_set_of_minaris_is_read_with_every_reward_at_its_step() -> None:
    """S11: rewards, counts, returns, and T + 1 observations."""
    data = read_minari(own_set("test/ours-v3"))
    assert data.lengths.tolist() == [4, 6, 3]
    assert sorted(data.observations) == ["achieved", "nested/time"]
    for number, episode in enumerate(data.episodes()):
        steps = len(episode)
        assert episode.observations["achieved"].tolist() == [[number, step] for step in range(steps)]
        assert episode.actions.tolist() == [[-number, -step] for step in range(steps)]
        assert episode.rewards.tolist() == [reward(number, step) for step in range(steps)]
        assert episode.last_observations["achieved"].tolist() == [number, steps]
        assert episode.last_observations["nested/time"].tolist() == [steps]
        assert (episode.terminated, episode.truncated) == (number % 2 == 0, number % 2 == 1)
        assert episode.meta["seed"] == 7 + number
    file = minari.load_dataset("test/ours-v3")
    assert data.total_steps == file.total_steps
    assert data.returns.tolist() == [float(sum(episode.rewards)) for episode in file]
    assert data.meta["left_out"] == ["infos/success"]


def test_a_set_is_read_by_its_folder_too(home: Path) -> None:
    own_set("test/ours-v0")
    by_id = read_minari("test/ours-v0")
    expect_same(read_minari(home / "test/ours-v0"), by_id)
    expect_same(read_minari(home / "test/ours-v0" / "data"), by_id)


VARIANTS = {
    "all": lambda data: data,
    "without rewards": lambda data: replace(data, rewards=None),
    "without flags": lambda data: replace(data, terminated=None, truncated=None),
    "without last observations": lambda data: replace(data, last_observations=None),
    "named": lambda data: replace(
        data,
        observations={"hand/place": data.observations["state"], "grip": data.observations["state"][:, :1]},
        last_observations={
            "hand/place": data.last_observations["state"],
            "grip": data.last_observations["state"][:, :1],
        },
    ),
    "float32 rewards": lambda data: replace(data, rewards=data.rewards.astype(np.float32)),
    "whole numbers": lambda data: replace(
        data, observations={"state": data.observations["state"].astype(np.int32)}, last_observations=None
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_export_and_import_are_the_identity(variant: str) -> None:
    data = VARIANTS[variant](encoded((5, 1, 4)))
    folder = write_minari(data, "test/there-v0")
    back = read_minari("test/there-v0")
    expect_same(back, data)
    assert [meta["seed"] for meta in back.episode_meta] == [40, 41, 42]
    write_minari(back, "test/again-v0")
    expect_same(read_minari("test/again-v0"), data)
    assert (folder / "data/main_data.hdf5").is_file()


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 12), min_size=1, max_size=12), st.integers(0, 10**9))
def test_any_lengths_come_back(lengths: list[int], number: int) -> None:
    write_minari(encoded(lengths), f"test/n{number}-v0")
    expect_same(read_minari(f"test/n{number}-v0"), encoded(lengths))
    minari.delete_dataset(f"test/n{number}-v0")


def test_import_export_import_of_a_foreign_set_is_the_identity() -> None:
    first = read_minari(own_set("test/ours-v0"))
    write_minari(first, "test/theirs-v0")
    expect_same(read_minari("test/theirs-v0"), first)


def test_pictures_come_back_without_loss() -> None:
    random = np.random.default_rng(0)
    data = encoded((4, 2), last=False)
    # 40 x 40 is what Minari takes for an image, and would store as JPEG.
    pictures = random.integers(0, 256, (6, 40, 40, 3), dtype=np.uint8)
    data = replace(data, observations={**data.observations, "image/top": pictures})
    write_minari(data, "test/seen-v0")
    expect_same(read_minari("test/seen-v0"), data)


def test_minari_opens_what_was_written() -> None:
    write_minari(encoded((5, 3)), "test/ours-v0", env="CartPole-v1", action_range=(-1, 1), author="A", description="D")
    dataset = minari.load_dataset("test/ours-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (2, 8)
    assert dataset.observation_space.shape == (3,)
    assert dataset.action_space == spaces.Box(-1, 1, (2,), np.float32)
    assert dataset.env_spec.id == "CartPole-v1"
    episode = dataset[1]
    assert episode.observations.tolist() == [state(1, step).tolist() for step in range(4)]
    assert episode.truncations.tolist() == [False, False, True]
    again = read_minari("test/ours-v0")
    assert json.loads(again.meta["env_spec"])["id"] == "CartPole-v1"
    write_minari(again, "test/ours-v1")
    assert minari.load_dataset("test/ours-v1").env_spec.id == "CartPole-v1"


def test_ids_that_cannot_be_or_exist_are_refused() -> None:
    for wrong in ("ours", "ours-v", "a b-v0", "/ours-v0", ""):
        with pytest.raises(UsageError, match="expected NAME-v0"):
            write_minari(encoded(), wrong)
    write_minari(encoded(), "ours-v0")
    with pytest.raises(UsageError, match="ours-v0 exists in .*another name or version"):
        write_minari(encoded(), "ours-v0")
    for names in (("a", "a/b"), ("a/b", "a")):
        data = encoded(last=False)
        with pytest.raises(UsageError, match="rename"):
            write_minari(replace(data, observations=dict.fromkeys(names, data.observations["state"])), "new-v0")


def test_a_set_that_is_not_there_names_those_that_are() -> None:
    own_set("test/ours-v0")
    with pytest.raises(UsageError, match=r"no Minari data set test/mine-v0 .*there: test/ours-v0.*minari download"):
        read_minari("test/mine-v0")
    with pytest.raises(UsageError, match="neither a folder nor the id"):
        read_minari("no such thing")


def change_file(home: Path, change) -> None:
    with h5py.File(home / "test/ours-v0/data/main_data.hdf5", "a") as file:
        change(file)


def shorten(file, name: str, length: int) -> None:
    data = file[name][:length]
    del file[name]
    file[name] = data


def put(file, name: str, step: int, value) -> None:
    file[name][step] = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda f: shorten(f, "episode_1/observations/achieved", 6),
            "episode 1: 6 observations 'achieved' for 6 rewards",
        ),
        (lambda f: shorten(f, "episode_1/actions", 4), "episode 1: 4 actions for 6 rewards; step 4 is missing"),
        (lambda f: shorten(f, "episode_1/truncations", 5), "episode 1: 5 truncations for 6 rewards; step 5"),
        (lambda f: put(f, "episode_1/terminations", 2, True), "episode 1 goes on after step 2 of 6, .*; cut it there"),
        (lambda f: put(f, "episode_1/actions", (2, 0), np.nan), "actions of episode 1, step 2 holds nan"),
        (lambda f: put(f, "episode_2/rewards", 1, np.inf), "rewards of episode 2, step 1 holds inf"),
        (lambda f: f.pop("episode_1/rewards"), "cannot be read at episode 1: KeyError"),
        (lambda f: f.pop("episode_0"), "cannot be read at its first episode"),
    ],
)
def test_a_broken_set_is_refused_with_its_episode(home: Path, change, message: str) -> None:
    own_set("test/ours-v0")
    change_file(home, change)
    with pytest.raises(UsageError, match=f"(?s)test/ours-v0.*{message}"):
        read_minari("test/ours-v0")


def test_damaged_files_and_unknown_versions_are_refused(home: Path) -> None:
    own_set("test/ours-v0")
    folder = home / "test/ours-v0/data"
    meta = json.loads((folder / "metadata.json").read_text())
    (folder / "metadata.json").write_text(json.dumps({**meta, "minari_version": "9.0.0"}))
    with pytest.raises(UsageError, match=r"cannot be opened: .*9\.0\.0"):
        read_minari("test/ours-v0")
    (folder / "metadata.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be opened: JSONDecodeError"):
        read_minari("test/ours-v0")
    (folder / "metadata.json").write_text(json.dumps(meta))
    data = (folder / "main_data.hdf5").read_bytes()
    (folder / "main_data.hdf5").write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match="damaged or cut, (download|copy) it again"):
        read_minari("test/ours-v0")


def test_discrete_and_composite_actions_are_refused() -> None:
    minari.create_dataset_from_buffers(
        "test/discrete-v0",
        [own_buffer(0, 3, actions=np.arange(3), observations=np.zeros((4, 2)))],
        observation_space=box(2),
        action_space=spaces.Discrete(3),
    )
    with pytest.raises(UsageError, match="episode 0: actions are int64; .*discrete"):
        read_minari("test/discrete-v0")
    minari.create_dataset_from_buffers(
        "test/composite-v0",
        [own_buffer(0, 3, actions={"a": np.zeros((3, 1))}, observations=np.zeros((4, 2)))],
        observation_space=box(2),
        action_space=spaces.Dict({"a": box(1)}),
    )
    with pytest.raises(UsageError, match="episode 0: actions are a dict; expected one Box"):
        read_minari("test/composite-v0")
