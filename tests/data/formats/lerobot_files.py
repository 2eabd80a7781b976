"""Writes small LeRobot data sets (version 3) with pyarrow and PyAV; every number tells its episode and step."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

HEIGHT, WIDTH, FPS = 40, 48, 10


def picture(episode: int, step: int) -> np.ndarray:
    """[H, W, 3] uint8, grey: the left half tells the episode, the right half the step (in tens)."""
    found = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
    found[:, : WIDTH // 2], found[:, WIDTH // 2 :] = 10 * episode, 10 * step
    return found


def told(pixels: np.ndarray) -> tuple[int, int]:
    """(episode, step) of a picture that went through a lossy codec."""
    halves = pixels[..., : WIDTH // 2 - 4, :], pixels[..., WIDTH // 2 + 4 :, :]
    return tuple(round(float(half.mean()) / 10) for half in halves)  # type: ignore[return-value]


def write_video(path: Path, pictures: Sequence[np.ndarray]) -> None:
    av = pytest.importorskip("av")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], "yuv420p"
        stream.options = {"g": "4", "crf": "10", "bf": "2"}
        for pixels in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def write_lerobot(root: Path, lengths: Sequence[int], files: Sequence[int], *, version: str = "v3.0") -> Path:
    """One data and one video file for each value of `files` [E], the file of each episode (rising).

    Features: state, action, reward, success, a video camera, a camera of PNG pictures, a text, a depth video."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    image = pytest.importorskip("PIL.Image")
    features = {
        "observation.state": {"dtype": "float32", "shape": [3], "names": None},
        "observation.grid": {"dtype": "int64", "shape": [2, 2], "names": None},
        "action": {"dtype": "float32", "shape": [2], "names": ["x", "y"]},
        "observation.images.top": {"dtype": "video", "shape": [3, HEIGHT, WIDTH], "names": ["c", "h", "w"]},
        "observation.image": {"dtype": "image", "shape": [HEIGHT, WIDTH, 3], "names": ["h", "w", "c"]},
        "next.reward": {"dtype": "float32", "shape": [1], "names": None},
        "next.success": {"dtype": "bool", "shape": [1], "names": None},
        "next.done": {"dtype": "bool", "shape": [1], "names": None},
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        "frame_index": {"dtype": "int64", "shape": [1], "names": None},
        "episode_index": {"dtype": "int64", "shape": [1], "names": None},
        "index": {"dtype": "int64", "shape": [1], "names": None},
        "task_index": {"dtype": "int64", "shape": [1], "names": None},
    }
    (root / "meta").mkdir(parents=True)
    info = {
        "codebase_version": version,
        "robot_type": None,
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "total_tasks": 1,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": features,
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    (root / "meta/stats.json").write_text(json.dumps({"action": {"min": [0, 0]}}))
    episodes, begun = [], 0
    for file in sorted(set(files)):
        rows, pictures = [], []
        for number, length in enumerate(lengths):
            if files[number] != file:
                continue
            episodes.append(
                {
                    "episode_index": number,
                    "tasks": ["push the block"],
                    "length": length,
                    "data/chunk_index": 0,
                    "data/file_index": file,
                    "dataset_from_index": begun,
                    "dataset_to_index": begun + length,
                    "videos/observation.images.top/chunk_index": 0,
                    "videos/observation.images.top/file_index": file,
                    "videos/observation.images.top/from_timestamp": len(pictures) / FPS,
                    "videos/observation.images.top/to_timestamp": (len(pictures) + length) / FPS,
                    "stats/action/min": [0.0, 0.0],
                    "meta/episodes/chunk_index": 0,
                    "meta/episodes/file_index": 0,
                }
            )
            for step in range(length):
                png = io.BytesIO()
                image.fromarray(picture(number, step)).save(png, format="PNG")
                rows.append(
                    {
                        "observation.state": [float(number), float(step), 1000.0 * number + step],
                        "observation.grid": [[number, step], [0, 1]],
                        "action": [-float(number), -float(step)],
                        "observation.image": {"bytes": png.getvalue(), "path": f"frame-{step:06d}.png"},
                        "next.reward": 100.0 * number + step,
                        "next.success": number == 1 and step == length - 1,
                        "next.done": step == length - 1,
                        "timestamp": np.float32(step / FPS),
                        "frame_index": step,
                        "episode_index": number,
                        "index": begun + step,
                        "task_index": 0,
                    }
                )
                pictures.append(picture(number, step))
            begun += length
        write_rows(root / f"data/chunk-000/file-{file:03d}.parquet", rows)
        write_video(root / f"videos/observation.images.top/chunk-000/file-{file:03d}.mp4", pictures)
    (root / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(episodes), root / "meta/episodes/chunk-000/file-000.parquet")
    return root


def write_rows(path: Path, rows: list[dict]) -> None:
    """Steps as LeRobot stores them: float32 lists of a fixed size, small row groups."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    for name in ("observation.state", "action"):
        place = table.schema.get_field_index(name)
        width = {len(row[name]) for row in rows}
        kind = pa.list_(pa.float32(), width.pop()) if len(width) == 1 else pa.list_(pa.float32())
        table = table.set_column(place, name, table[name].cast(kind))
    for name in {"timestamp", "next.reward"} & set(table.schema.names):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(pa.float32()))
    pq.write_table(table, path, row_group_size=5)


def change_rows(root: Path, file: int, change) -> None:
    """Rewrite the steps of a data file: `change(rows) -> rows`."""
    pq = pytest.importorskip("pyarrow.parquet")
    path = root / f"data/chunk-000/file-{file:03d}.parquet"
    write_rows(path, change(pq.read_table(path).to_pylist()))


def change_info(root: Path, change) -> None:
    """Change meta/info.json: `change(info)`."""
    path = root / "meta/info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))


def change_episodes(root: Path, change) -> None:
    """Rewrite meta/episodes: `change(rows) -> rows`."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    pq.write_table(pa.Table.from_pylist(change(pq.read_table(path).to_pylist())), path)
