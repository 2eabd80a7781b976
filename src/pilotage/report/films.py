"""Strips of frames from the films that a run of a control policy kept, as pictures inside the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FRAMES = 6
MOST = 2
"""Films shown of a run."""
_WIDTH = 192
"""Pixels of a frame in the page."""


@dataclass(frozen=True)
class Strip:
    """One episode as a picture."""

    source: str
    """A data URI."""
    seed: int
    success: bool | None
    steps: int


def film_strips(run: Path) -> list[Strip]:
    """The first films of a run, each as `FRAMES` frames from beginning to end; none where it kept none."""
    from PIL import Image

    strips = []
    for path in sorted((run / "films").glob("episode-*.npz"))[:MOST]:
        with np.load(path, allow_pickle=False) as film:
            frames, seed, success = film["frames"], int(film["seed"]), int(film["success"])
        chosen = np.unique(np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int))
        white = np.full((frames.shape[1], 4, 3), 255, np.uint8)
        picture = Image.fromarray(np.concatenate([p for i in chosen for p in (white, frames[i])][1:], axis=1))
        scale = min(1.0, _WIDTH * len(chosen) / picture.width)
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)))
        file = io.BytesIO()
        picture.save(file, "PNG", optimize=True)
        source = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        strips.append(Strip(source, seed, None if success < 0 else bool(success), len(frames)))
    return strips
