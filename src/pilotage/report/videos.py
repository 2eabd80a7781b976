"""Episodes to look at: films, strips of frames, and paths over the map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from pilotage.charts.plots import COLOURS, DASHES, INK, MUTED, STYLE, finish
from pilotage.core.errors import UsageError

if TYPE_CHECKING:
    from pilotage.environments.control.drawing import GroundPlan

_WALL = "#d8d2c6"


def write_video(frames: Sequence[np.ndarray], path: Path, fps: float = 10.0) -> Path:
    """Frames as a film: mp4 (H.264) or gif, by the ending of `path`.

    Args:
        frames: of one size, each [height, width, 3] uint8; one or more.
        path: where to; its folder is made.
        fps: frames a second, above 0.

    Returns `path`. Raises UsageError for another ending, frames that differ, and a missing package, with the line that
    installs it."""
    table = _checked(frames)
    if fps <= 0:
        raise UsageError(f"fps must be above 0, {fps} was given")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        _imageio().mimsave(path, list(table), duration=1000 / fps, loop=0)
    elif path.suffix == ".mp4":
        _write_mp4(table, path, fps)
    else:
        raise UsageError(f"a film ends in .mp4 or .gif; {path} was asked for")
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


def write_strip(frames: Sequence[np.ndarray], path: Path, count: int = 6, gap: int = 4) -> Path:
    """`count` frames from first to last at equal distances, side by side in one PNG.

    Args:
        frames: of one size, each [height, width, 3] uint8; one or more.
        path: where to, ending in .png; its folder is made.
        count: frames shown, 1 or more; fewer where there are fewer.
        gap: white pixels between them.

    Returns `path`."""
    from PIL import Image

    table = _checked(frames)
    if count < 1:
        raise UsageError(f"count must be 1 or more, {count} was given")
    chosen = np.unique(np.linspace(0, len(table) - 1, min(count, len(table))).round().astype(int))
    white = np.full((table.shape[1], gap, 3), 255, np.uint8)
    parts = [part for index in chosen for part in (white, table[index])][1:]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(parts, axis=1)).save(path)
    return path


def paths_plot(
    paths: Sequence[np.ndarray],
    plan: GroundPlan,
    path: Path,
    *,
    labels: Sequence[str | None] | None = None,
    successes: Sequence[bool | None] | None = None,
    title: str = "",
) -> Path:
    """All paths over the map, one colour for each label; failures are dashed and end in a cross.

    Args:
        paths: of each episode the positions [steps, 2] in the map's unit.
        plan: the map.
        path: where to (PNG or SVG by its ending).
        labels: the mode of each episode; None: all alike.
        successes: of each episode; None: all drawn alike.
        title: above the plot.

    Returns `path`."""
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
            style = {"color": COLOURS[index % len(COLOURS)], "alpha": max(0.25, min(0.8, 12 / len(paths)))}
            axes.plot(*np.asarray(points).T, linewidth=1.2, linestyle=DASHES[1] if success is False else "-", **style)
            if success is False:
                axes.plot(*points[-1], "x", markersize=6, color=style["color"])
        if len(counts) > 1:
            for label, index in order.items():
                axes.plot([], [], color=COLOURS[index % len(COLOURS)], label=f"{label} ({counts[label]})")
            # Below the map, where no path can run through it.
            figure.legend(loc="outside lower center", ncols=min(len(counts), 3), labelcolor=INK)
        axes.set_title(title, fontsize=9, loc="left")
        finish(figure, [axes], path)
    return path


def _draw_plan(axes: Any, plan: GroundPlan) -> None:
    left, right, low, high = plan.extent
    for x, y, width, height in plan.boxes:
        axes.add_patch(Rectangle((x, y), width, height, facecolor=_WALL, linewidth=0, zorder=0.5))
    for x, y, radius in plan.discs:
        axes.add_patch(Circle((x, y), radius, facecolor=_WALL, linewidth=0, zorder=0.5))
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
        raise UsageError("films need imageio, which is not installed: pip install 'pilotage[robots]'") from error
    return imageio
