"""What to install where a world cannot draw itself without a screen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pilotage.core.errors import UsageError

_SIGNS = ("egl", "osmesa", "glfw", "opengl", "libgl", "glx", "glget", "gladload", "display", "framebuffer", "rendering")
REMEDY = (
    "set MUJOCO_GL=egl before the start, and install its drivers: on Debian and Ubuntu `apt-get install libegl1 "
    "libegl-mesa0 libgl1-mesa-dri`; without EGL set MUJOCO_GL=osmesa and `apt-get install libosmesa6`"
)


@contextmanager
def explain_rendering() -> Iterator[None]:
    """Turns what MuJoCo says where it finds no graphics driver into a UsageError that names the remedy."""
    try:
        yield
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        if not any(sign in words.lower() for sign in _SIGNS):
            raise
        backend = os.environ.get("MUJOCO_GL") or "not set"
        raise UsageError(f"MuJoCo cannot draw without a screen (MUJOCO_GL is {backend}; {words}): {REMEDY}") from error
