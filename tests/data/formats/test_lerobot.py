"""LeRobot data sets of version 3: episodes that share files, frames found by time, and what may be wrong with them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.data.encoded import expect_same
from tests.data.formats.lerobot_files import (
    HEIGHT,
    WIDTH,
    change_episodes,
    change_info,
    change_rows,
    picture,
    told,
    write_lerobot,
    write_video,
)

from pilotage.core.errors import UsageError
from pilotage.data.formats.lerobot_dataset import read_lerobot
from pilotage.data.formats.lerobot_frames import _Reader
from pilotage.data.windows import Windows

pytest.importorskip("av", reason="reading LeRobot videos needs the extra robots")
pytest.importorskip("pyarrow", reason="reading LeRobot tables needs the extra robots")

LENGTHS = [5, 3, 7, 2, 6, 4, 3, 9]
FILES = [0, 0, 0, 1, 1, 1, 2, 2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lerobot(tmp_path_factory.mktemp("lerobot") / "set", LENGTHS, FILES)


@pytest.fixture
def own(tmp_path: Path, whole: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(whole, tmp_path / "set"))


def test_steps_of_episodes_that_share_files_are_told_apart(whole: Path) -> None:
    data = read_lerobot(whole)
    assert data.lengths.tolist() == LENGTHS
    assert sorted(data.observations) == ["grid", "image/image", "image/top", "state"]
    for number, episode in enumerate(data.episodes()):
        steps = np.arange(LENGTHS[number], dtype=np.float32)
        assert episode.observations["state"][:, 0].tolist() == [number] * len(episode)
        assert episode.observations["state"][:, 1].tolist() == steps.tolist()
        assert episode.observations["grid"][:, 0, 1].tolist() == steps.tolist()
        assert episode.actions[:, 1].tolist() == (-steps).tolist()
        assert episode.rewards.tolist() == (100 * number + steps).tolist()
        assert episode.meta == {"name": number, "tasks": ["push the block"], "success": number == 1}
    assert (data.terminated, data.truncated, data.last_observations) == (None, None, None)
    assert data.meta["left_out"] == ["next.done"]
    assert (data.meta["fps"], data.meta["stats"]) == (10, {"action": {"min": [0, 0]}})


def test_every_frame_of_every_video_is_found(whole: Path) -> None:
    data = read_lerobot(whole)
    assert data.observations["image/top"].shape == (sum(LENGTHS), HEIGHT, WIDTH, 3)
    expected = [(number, step) for number, length in enumerate(LENGTHS) for step in range(length)]
    assert [told(pixels) for pixels in data.observations["image/top"][:]] == expected
    np.testing.assert_array_equal(data.observations["image/image"][:], [picture(*place) for place in expected])


def test_frames_are_found_in_any_order_and_repeated(whole: Path) -> None:
    frames = read_lerobot(whole).observations["image/top"]
    expected = [(number, step) for number, length in enumerate(LENGTHS) for step in range(length)]
    rows = np.random.default_rng(0).integers(0, len(frames), 25)
    assert [told(pixels) for pixels in frames[rows]] == [expected[row] for row in rows]
    assert told(frames[-1]) == expected[-1]


def test_a_far_frame_is_found_without_decoding_all_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_lerobot(tmp_path / "long", [25, 25], [0, 0])
    frames = read_lerobot(root).observations["image/top"]
    jumps = []
    plain = _Reader._jump

    def jump(self, time: float) -> None:
        jumps.append(time)
        plain(self, time)

    monkeypatch.setattr(_Reader, "_jump", jump)
    assert [told(pixels) for pixels in frames[np.array([49, 0, 24])]] == [(1, 24), (0, 0), (0, 24)]
    assert jumps == pytest.approx([0.0, 2.4, 4.9])  # to the start, and each time more than two seconds ahead


def test_a_subset_equals_the_same_episodes_of_the_full_set(whole: Path) -> None:
    """S13, with only the files of those episodes opened."""
    part = read_lerobot(whole, episodes=[7, 3])
    expect_same(part, read_lerobot(whole).subset([7, 3]))
    assert [told(pixels) for pixels in part.observations["image/top"][:]] == [
        (number, step) for number in (7, 3) for step in range(LENGTHS[number])
    ]


def test_only_files_of_the_chosen_episodes_are_needed(own: Path) -> None:
    (own / "data/chunk-000/file-000.parquet").unlink()
    (own / "videos/observation.images.top/chunk-000/file-000.mp4").unlink()
    assert read_lerobot(own, episodes=[7, 3]).loaded().total_steps == 11
    with pytest.raises(UsageError, match=r"file-000.parquet is missing; .* download it again"):
        read_lerobot(own, episodes=[7, 0])


def test_windows_show_the_frames_of_their_steps(whole: Path) -> None:
    data = read_lerobot(whole)
    windows = Windows(data, n_obs_steps=2, chunk_size=3, n_action_steps=2, names=("state", "image/top"))
    batch = windows.take([0, 4, 9])
    seen = (batch.observations["image/top"] * 255).round().movedim(2, -1).numpy()
    for row in range(3):
        for k in range(2):
            assert list(told(seen[row, k])) == batch.observations["state"][row, k, :2].tolist()


# ---- what may be wrong -----------------------------------------------------------------------------------------------


def drop(rows: list[dict], episode: int, step: int) -> list[dict]:
    return [row for row in rows if (row["episode_index"], row["frame_index"]) != (episode, step)]


def cut(path: Path, share: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


DATA, VIDEO = "data/chunk-000/file-001.parquet", "videos/observation.images.top/chunk-000/file-001.mp4"


def wider(rows: list[dict]) -> list[dict]:
    rows[3]["action"] = [0.0, 0.0, 0.0]  # episode 4, frame 1
    return rows


def emptied(rows: list[dict]) -> list[dict]:
    rows[3]["observation.state"] = [0.0, None, 0.0]
    return rows


def unpictured(rows: list[dict]) -> list[dict]:
    rows[3]["observation.image"] = {"bytes": None, "path": "frame-000001.png"}
    return rows


def spoilt(rows: list[dict]) -> list[dict]:
    rows[3]["action"] = [0.0, float("nan")]
    return rows


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda root: change_info(root, lambda i: i.update(codebase_version="v2.1")),
            "version v2.1; version 3 is read",
        ),
        (
            lambda root: change_info(root, lambda i: i.update(codebase_version="v4.0")),
            "version v4.0; version 3 is read",
        ),
        (lambda root: change_info(root, lambda i: i.pop("codebase_version")), "version none"),
        (lambda root: change_info(root, lambda i: i.pop("fps")), "info.json lacks fps"),
        (
            lambda root: change_info(root, lambda i: i["features"].pop("action")),
            "has no 'action' to take",
        ),
        (lambda root: change_info(root, lambda i: i.update(video_path=None)), "has no video_path"),
        (lambda root: change_info(root, lambda i: i.update(fps=20)), "episode 0 has 5 steps, its video .* 10 frames"),
        (
            lambda root: change_info(root, lambda i: i.update(total_episodes=9)),
            "9 episodes, .* of 8; episode 8 is miss",
        ),
        (lambda root: (root / "meta/info.json").write_text("{"), "info.json cannot be read as JSON"),
        (lambda root: (root / "meta/info.json").write_text("[]"), "holds a list; expected an object"),
        (lambda root: (root / "meta/info.json").unlink(), "info.json is missing"),
        (lambda root: shutil.rmtree(root / "meta/episodes"), "meta/episodes holds no tables"),
        (
            lambda root: cut(root / "meta/episodes/chunk-000/file-000.parquet", 0.5),
            "file-000.parquet cannot be read as",
        ),
        (lambda root: change_episodes(root, lambda rows: rows[:3] + rows[4:]), "of 7; episode 3 is missing"),
        (lambda root: cut(root / DATA, 0.6), r"data/chunk-000/file-001.parquet cannot be read as parquet"),
        (lambda root: (root / DATA).write_bytes(b"no parquet"), "file-001.parquet cannot be read as parquet"),
        (
            lambda root: change_rows(root, 1, lambda rows: drop(rows, 4, 2)),
            r"file-001.parquet, episode 4: 5 steps, meta/episodes says 6; frame 2 is missing",
        ),
        (lambda root: change_rows(root, 1, lambda rows: drop(rows, 5, 3)), "episode 5: 3 steps, .* 3 is missing"),
        (lambda root: change_rows(root, 1, lambda rows: rows[::-1]), "episode 3: 2 steps, .* out of order"),
        (lambda root: change_rows(root, 1, wider), r"episode 4, frame 1: 'action' has 3 numbers; .* \[2\]"),
        (lambda root: change_rows(root, 1, emptied), "episode 4, frame 1: an entry of 'observation.state'"),
        (lambda root: change_rows(root, 1, spoilt), "actions of episode 4, step 1 holds nan"),
        (
            lambda root: change_rows(root, 1, unpictured),
            "episode 4, frame 1: the picture 'observation.image' is not in",
        ),
        (
            lambda root: change_rows(
                root, 1, lambda rows: [{k: v for k, v in r.items() if k != "next.reward"} for r in rows]
            ),
            "file-001.parquet has no column next.reward",
        ),
        (lambda root: (root / VIDEO).unlink(), "file-001.mp4, which holds episode 3 of .* is missing"),
    ],
)
def test_a_broken_data_set_is_refused_when_it_is_opened(own: Path, spoil, message: str) -> None:
    spoil(own)
    with pytest.raises(UsageError, match=message):
        read_lerobot(own)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: cut(path, 0.5), r"file-001.mp4, episode \d, frame \d.*(cannot be decoded|no frame at)"),
        (lambda path: path.write_bytes(b"no video"), "file-001.mp4, episode 3, frame 0 cannot be decoded"),
        (lambda path: path.unlink(), "file-001.mp4, episode 3, frame 0: the file is missing"),
        (
            lambda path: write_video(path, [picture(3, 0)] * 10),
            "episode 5, frame 2: no frame at 1.000 s, .* misses frames",
        ),
        (
            lambda path: write_video(path, [np.zeros((16, 16, 3), dtype=np.uint8)] * 12),
            r"episode 3, frame 0 is \[16, 16, 3\] .*info.json says \[40, 48, 3\]",
        ),
    ],
)
def test_a_broken_video_is_refused_with_its_episode_and_frame(own: Path, spoil, message: str) -> None:
    data = read_lerobot(own)
    spoil(own / VIDEO)
    assert told(data.observations["image/top"][0]) == (0, 0)
    with pytest.raises(UsageError, match=message):
        data.loaded()


def test_a_picture_that_cannot_be_decoded_names_its_episode_and_frame(own: Path) -> None:
    def spoil(rows: list[dict]) -> list[dict]:
        rows[3]["observation.image"]["bytes"] = rows[3]["observation.image"]["bytes"][:40]
        return rows

    change_rows(own, 1, spoil)
    data = read_lerobot(own)
    with pytest.raises(UsageError, match="episode 4, frame 1: the picture cannot be decoded"):
        data.loaded()
    change_info(own, lambda info: info["features"]["observation.image"].update(shape=[HEIGHT, WIDTH + 1, 3]))
    with pytest.raises(UsageError, match=r"episode 0, frame 0: the picture is \[40, 48, 3\]; .* \[40, 49, 3\]"):
        read_lerobot(own).observations["image/image"][0]
    change_info(own, lambda info: info["features"]["observation.image"].update(shape=[HEIGHT, WIDTH]))
    with pytest.raises(UsageError, match="expected height, width and 1 or 3 channels"):
        read_lerobot(own)


@pytest.mark.parametrize("episodes", [[], [8], [-1]])
def test_episodes_that_are_not_there_are_refused(whole: Path, episodes: list[int]) -> None:
    with pytest.raises(UsageError, match="has episodes 0 to 7"):
        read_lerobot(whole, episodes=episodes)


def test_depth_videos_and_texts_are_left_out_and_named(own: Path) -> None:
    def depth(info: dict) -> None:
        info["features"]["observation.images.top"]["info"] = {"video.is_depth_map": True}

    change_info(own, depth)
    data = read_lerobot(own)
    assert "image/top" not in data.observations
    assert data.meta["left_out"] == ["observation.images.top", "next.done"]


def test_features_of_other_names_can_be_named(tmp_path: Path) -> None:
    """openpi's libero has `state` and `actions`; AgiBot's sets have several parts of each."""
    renamed = {"observation.state": "state", "action": "actions.joint", "observation.grid": "actions.hand"}
    root = write_lerobot(tmp_path / "set", [3, 2], [0, 0])
    rename(root, renamed)
    with pytest.raises(UsageError, match=r"has no 'action' to take .*; there are actions.hand, actions.joint"):
        read_lerobot(root)
    data = read_lerobot(root, action=["actions.joint"])
    assert data.observations["state"][-1].tolist() == [1, 1, 1001]
    assert data.actions[-1].tolist() == [-1, -1]
    data = read_lerobot(root, action=["actions.joint", "actions.joint"], names=["state"])
    assert data.actions[-1].tolist() == [-1, -1, -1, -1]
    assert list(data.observations) == ["state"]
    assert data.meta["unread"] == ["actions.hand", "image/image", "image/top", "next.done"]


def rename(root: Path, names: dict[str, str]) -> None:
    def rows(old: list[dict]) -> list[dict]:
        return [{names.get(name, name): value for name, value in row.items()} for row in old]

    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = root / "data/chunk-000/file-000.parquet"
    pq.write_table(pa.Table.from_pylist(rows(pq.read_table(path).to_pylist())), path)
    change_info(root, lambda info: info.update(features={names.get(n, n): f for n, f in info["features"].items()}))
