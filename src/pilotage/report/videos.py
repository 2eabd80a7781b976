"""Pictures of episodes: videos, strips of frames, and paths over the map."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from pilotage.charts.charts import colour, dash
from pilotage.charts.style import INK, MUTED, SHADE, STYLE, save
from pilotage.core.errors import UsageError

if TYPE_CHECKING:
    from pilotage.environments.control.drawing import GroundPlan

FRAMES = 6
"""Frames of a strip in a report."""
MOST_FRAMES = 60
"""Frames of an episode that a report plays."""
MOST_STRIPS = 2
"""Videos of a run that a report shows."""
_WIDTH = 192
"""Pixels of a frame in a report."""


@dataclass(frozen=True)
class Strip:
    """Frames of an episode, from beginning to end, as one picture."""

    source: str
    """The frames side by side, as a data URI."""
    film: str
    """All frames as a picture that plays, as a data URI."""
    seed: int
    success: bool | None
    steps: int


def write_video(frames: Sequence[np.ndarray], path: Path, fps: float = 10.0) -> Path:
    """Write frames as a video, mp4 (H.264) or gif by the ending of `path`, and return `path`.

    Args:
        frames: of one size, each [height, width, 3] uint8; one or more.
        path: of the file; its folder is made.
        fps: frames a second, above 0.

    Raises:
        UsageError: for another ending, frames that differ, and a missing package, with the line that installs it.
    """
    table = _checked(frames)
    if fps <= 0:
        raise UsageError(f"fps must be above 0, {fps} was given")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        _imageio().mimsave(path, list(table), duration=1000 / fps, loop=0)
    elif path.suffix == ".mp4":
        _write_mp4(table, path, fps)
    else:
        raise UsageError(f"a video ends in .mp4 or .gif; {path} was asked for")
    return path


def _write_mp4(table: np.ndarray, path: Path, fps: float) -> None:
    imageio = _imageio()
    try:
        import imageio_ffmpeg  # noqa: F401  # imageio finds it by itself and says little where it is absent
    except ModuleNotFoundError as error:
        raise UsageError(
            "an mp4 needs imageio-ffmpeg, which is not installed: pip install 'pilotage[robots]', or write a .gif"
        ) from error
    # H.264 takes even sizes only; the last row or column is shown twice.
    even = np.pad(table, ((0, 0), (0, table.shape[1] % 2), (0, table.shape[2] % 2), (0, 0)), mode="edge")
    imageio.mimsave(path, list(even), fps=fps, codec="libx264", macro_block_size=1, output_params=["-crf", "20"])


def write_strip(frames: Sequence[np.ndarray], path: Path, count: int = FRAMES, gap: int = 4) -> Path:
    """Write `count` frames from first to last at equal distances, side by side in one PNG, and return `path`.

    Args:
        frames: of one size, each [height, width, 3] uint8; one or more.
        path: ending in .png; its folder is made.
        count: frames shown, 1 or more; fewer where there are fewer.
        gap: white pixels between two frames.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _side_by_side(_checked(frames), count, gap).save(path)
    return path


def frame_strips(run: Path) -> list[Strip]:
    """Return the first videos of a run as strips of frames; none where the run kept none."""
    strips = []
    for path in sorted((run / "videos").glob("episode-*.npz"))[:MOST_STRIPS]:
        with np.load(path, allow_pickle=False) as video:
            frames, seed, success = video["frames"], int(video["seed"]), int(video["success"])
        picture = _side_by_side(frames, FRAMES, gap=4)
        scale = min(1.0, _WIDTH * min(FRAMES, len(frames)) / picture.width)
        file = io.BytesIO()
        picture.resize((round(picture.width * scale), round(picture.height * scale))).save(file, "PNG", optimize=True)
        source = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        strips.append(Strip(source, _film(frames), seed, None if success < 0 else bool(success), len(frames)))
    return strips


def _film(frames: np.ndarray) -> str:
    """Return the frames, at most `MOST_FRAMES` at equal distances, as a WebP or GIF that plays again and again."""
    from PIL import Image, features

    chosen = np.unique(np.linspace(0, len(frames) - 1, min(MOST_FRAMES, len(frames))).round().astype(int))
    height, width = frames.shape[1:3]
    scale = min(1.0, _WIDTH / width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    pictures = [Image.fromarray(frames[i]).resize(size) for i in chosen]
    kind = "webp" if features.check("webp") else "gif"
    duration = round(100 * len(frames) / len(chosen))
    file = io.BytesIO()
    rest = {"quality": 70} if kind == "webp" else {}
    pictures[0].save(file, kind, save_all=True, append_images=pictures[1:], duration=duration, loop=0, **rest)
    return f"data:image/{kind};base64," + base64.b64encode(file.getvalue()).decode()


def _side_by_side(frames: np.ndarray, count: int, gap: int) -> Any:
    from PIL import Image

    if count < 1:
        raise UsageError(f"count must be 1 or more, {count} was given")
    chosen = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    white = np.full((frames.shape[1], gap, 3), 255, np.uint8)
    return Image.fromarray(np.concatenate([part for i in chosen for part in (white, frames[i])][1:], axis=1))


def paths_plot(
    paths: Sequence[np.ndarray],
    plan: GroundPlan,
    path: Path,
    *,
    labels: Sequence[str | None] | None = None,
    successes: Sequence[bool | None] | None = None,
    title: str = "",
) -> Path:
    """Draw all paths over the map, one colour for each label, and return `path`; failures are dashed, with a cross.

    Args:
        paths: of each episode the positions [steps, 2] in the map's unit.
        plan: the map.
        path: PNG or SVG, by its ending.
        labels: the mode of each episode; None: all alike.
        successes: of each episode; None: all drawn alike.
        title: above the plot.
    """
    if not paths:
        raise UsageError("there are no paths to plot")
    labels = labels if labels is not None else [None] * len(paths)
    successes = successes if successes is not None else [None] * len(paths)
    counts: dict[str, int] = {}
    for label in labels:
        counts[label or "–"] = counts.get(label or "–", 0) + 1
    order = {label: index for index, label in enumerate(sorted(counts))}
    with mpl.rc_context(STYLE):
        left, right, low, high = plan.extent
        figure = Figure(figsize=(4.6, 4.6 * (high - low) / (right - left) + 0.7), layout="constrained")
        axes: Any = figure.subplots()
        _draw_plan(axes, plan)
        for points, label, success in zip(paths, labels, successes, strict=True):
            index = order[label or "–"]
            style = {"color": colour(index), "alpha": max(0.25, min(0.8, 12 / len(paths)))}
            axes.plot(*np.asarray(points).T, linewidth=1.2, linestyle=dash(1 if success is False else 0), **style)
            if success is False:
                axes.plot(*points[-1], "x", markersize=6, color=style["color"])
        if len(counts) > 1:
            for label, index in order.items():
                axes.plot([], [], color=colour(index), label=f"{label} ({counts[label]})")
            # Below the map, where no path can run through it.
            figure.legend(loc="outside lower center", ncols=min(len(counts), 3), labelcolor=INK)
        axes.set_title(title)
        return save(figure, path)


def _draw_plan(axes: Any, plan: GroundPlan) -> None:
    left, right, low, high = plan.extent
    for x, y, width, height in plan.boxes:
        axes.add_patch(Rectangle((x, y), width, height, facecolor=SHADE, linewidth=0, zorder=0.5))
    for x, y, radius in plan.discs:
        axes.add_patch(Circle((x, y), radius, facecolor=SHADE, linewidth=0, zorder=0.5))
    for line in plan.lines:
        axes.plot(*np.asarray(line).T, color=MUTED, linewidth=0.8, zorder=0.6)
    for x, y, radius in plan.goals:
        axes.add_patch(Circle((x, y), radius, fill=False, edgecolor=MUTED, linewidth=1.2, zorder=3))
    for x, y in plan.starts:
        axes.plot(x, y, "o", color=INK, markersize=5, zorder=4)
    axes.set_xlim(left, right)
    axes.set_ylim(*((high, low) if plan.downwards else (low, high)))
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.set_xlabel(plan.unit)


def _checked(frames: Sequence[np.ndarray]) -> np.ndarray:
    if len(frames) == 0:
        raise UsageError("there are no frames to write")
    shapes = {(frame.shape, str(frame.dtype)) for frame in frames}
    (shape, kind) = next(iter(shapes))
    if len(shapes) > 1 or len(shape) != 3 or shape[2] != 3 or kind != "uint8":
        raise UsageError(f"frames are [height, width, 3] uint8 of one size; these are {sorted(map(str, shapes))}")
    return np.stack(frames)


def _imageio() -> Any:
    try:
        import imageio.v2 as imageio
    except ModuleNotFoundError as error:
        raise UsageError("videos need imageio, which is not installed: pip install 'pilotage[robots]'") from error
    return imageio
