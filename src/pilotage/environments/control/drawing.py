"""Maps of flat worlds, and pictures of them that need no graphics driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

INK, WALL, FLOOR = "#1d2126", "#b9b2a6", "#f7f5f1"
BLUE, ORANGE, GREEN, PURPLE = "#0b62b4", "#c24e00", "#08785a", "#a23b7c"
_FINER = 2
"""Drawn larger and shrunk, so that edges are smooth."""

Point = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class GroundPlan:
    """What stands still in a flat world: for plots of paths over it."""

    extent: tuple[float, float, float, float]
    """x from, x to, y from, y to, in the world's unit of length."""
    boxes: Sequence[tuple[float, float, float, float]] = ()
    """Obstacles: x and y of the lower left corner, width, height."""
    discs: Sequence[tuple[float, float, float]] = ()
    """Obstacles: x and y of the centre, radius."""
    starts: Sequence[tuple[float, float]] = ()
    goals: Sequence[tuple[float, float, float]] = ()
    """x, y and radius of what counts as reached."""
    lines: Sequence[np.ndarray] = ()
    """Markings on the ground, such as the edges of lanes: points [n, 2] each."""
    unit: str = "m"
    downwards: bool = False
    """Whether y grows downwards, as in pixels."""


class Canvas:
    """Draws in the world's coordinates on a picture of `pixels` on its longer side."""

    def __init__(self, extent: tuple[float, float, float, float], pixels: int = 256, downwards: bool = False) -> None:
        from PIL import Image, ImageDraw

        left, right, low, high = extent
        self._scale = pixels / max(right - left, high - low) * _FINER
        self._left, self._low, self._high, self._downwards = left, low, high, downwards
        self._size = round((right - left) * self._scale / _FINER), round((high - low) * self._scale / _FINER)
        self._image = Image.new("RGB", (self._size[0] * _FINER, self._size[1] * _FINER), FLOOR)
        self._draw: Any = ImageDraw.Draw(self._image)

    def _at(self, point: Point) -> tuple[float, float]:
        y = float(point[1]) - self._low if self._downwards else self._high - float(point[1])
        return (float(point[0]) - self._left) * self._scale, y * self._scale

    def disc(self, centre: Point, radius: float, colour: str, hollow: bool = False) -> None:
        """Draw a disc, or its outline."""
        x, y = self._at(centre)
        r = max(radius * self._scale, 2 * _FINER)
        fill, outline = (None, colour) if hollow else (colour, None)
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=outline, width=2 * _FINER)

    def polygon(self, corners: Sequence[Point], colour: str) -> None:
        """Draw a filled polygon."""
        self._draw.polygon([self._at(corner) for corner in corners], fill=colour)

    def box(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        """Draw a filled rectangle."""
        self.polygon([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], colour)

    def path(self, points: Sequence[Point], colour: str) -> None:
        """Draw lines from point to point."""
        if len(points) > 1:
            self._draw.line([self._at(point) for point in points], fill=colour, width=2 * _FINER)

    def frame(self) -> np.ndarray:
        """Return uint8, [height, width, 3]."""
        from PIL import Image

        return np.array(self._image.resize(self._size, Image.Resampling.BOX))


def draw_plan(plan: GroundPlan, pixels: int = 256) -> Canvas:
    """Return a canvas on which the plan's obstacles and goals are drawn."""
    canvas = Canvas(plan.extent, pixels, plan.downwards)
    for x, y, radius in plan.goals:
        canvas.disc((x, y), radius, GREEN, hollow=True)
    for box in plan.boxes:
        canvas.box(*box, colour=WALL)
    for x, y, radius in plan.discs:
        canvas.disc((x, y), radius, WALL)
    return canvas
