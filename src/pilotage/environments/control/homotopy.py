"""Which way around the obstacles a path went: a word that every path of the same class shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class RouteWord:
    """Follows a path among point obstacles and spells its homotopy class.

    From every obstacle a ray goes straight up. Crossing the ray of obstacle i from left to right writes the i-th small
    letter, from right to left the capital one; a letter and its opposite side by side cancel. Two paths between the
    same ends have equal words exactly when one can be bent into the other without crossing an obstacle (Bhattacharya,
    Likhachev and Kumar 2012).
    """

    def __init__(self, obstacles: Sequence[tuple[float, float]], start: Sequence[float] | np.ndarray) -> None:
        """`obstacles`: up to 26 points (x, y) inside the obstacles. Rays of equal x would lie on one another, so they
        are set apart by a thousandth each.
        """
        seen: dict[float, int] = {}
        self._rays = []
        for index, (x, y) in enumerate(obstacles):
            same = seen.setdefault(round(x, 6), 0)
            seen[round(x, 6)] += 1
            self._rays.append((x + 1e-3 * same, y, chr(ord("a") + index)))
        self._letters: list[str] = []
        self._at = (float(start[0]), float(start[1]))

    def move(self, point: Sequence[float] | np.ndarray) -> None:
        """The path goes straight on to this point."""
        (x0, y0), (x1, y1) = self._at, (float(point[0]), float(point[1]))
        self._at = (x1, y1)
        if x0 == x1:
            return
        crossed = []
        for ray, bottom, letter in self._rays:
            if (x0 < ray) != (x1 < ray):
                share = (ray - x0) / (x1 - x0)
                if y0 + share * (y1 - y0) > bottom:
                    crossed.append((share, letter if x0 < x1 else letter.upper()))
        for _, letter in sorted(crossed):
            if self._letters and self._letters[-1] == letter.swapcase():
                self._letters.pop()
            else:
                self._letters.append(letter)

    @property
    def word(self) -> str:
        """Return the word so far; "-" for the path that passes below everything."""
        return "".join(self._letters) or "-"
