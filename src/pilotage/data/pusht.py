"""The real Push-T demonstrations: 206 episodes, 25,650 steps at 10 Hz, made by a human with a mouse.

Chi et al., Diffusion Policy, RSS 2023 (arXiv 2303.04137); the authors call the set pusht_cchi_v7_replay. MIT licence,
Copyright (c) 2023 Columbia Artificial Intelligence and Robotics Lab.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from pilotage.core.errors import UsageError
from pilotage.core.paths import home as library_home
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.numpy_archive import read_npz
from pilotage.data.formats.zarr_replay import is_zarr, read_zarr
from pilotage.data.frames import in_memory

NAMES = ("pusht_demos_lowdim.npz", "pusht_cchi_v7_replay.zarr")
"""Names under which they are looked for."""
WHERE = (
    "get the folder data/pusht/pusht_cchi_v7_replay.zarr of the GitHub repository "
    "humanoid-collective/diffusion_policy_soup (commit 091389f; a fork of real-stanford/diffusion_policy that carries "
    "the data)"
)
CHECKSUM = "a8e508a9dcd2e9948f7b448927a117bf14935a8fe42e3ff7135c4bdcc7118ae0"
"""SHA-256 of the bytes of action, state (float32) and episode_ends (int64), whatever file they lie in."""
LICENCE = "MIT, Copyright (c) 2023 Columbia Artificial Intelligence and Robotics Lab"


def read_pusht(path: str | Path | None = None) -> Demonstrations:
    """Return the demonstrations from a local copy; nothing is downloaded.

    path: the zarr folder (or its .zip), an .npz with the same arrays, or a folder that holds one of them; None: looked
        for in $PILOTAGE_HOME (by default ~/.cache/pilotage).
    Observations: "state" [N, 5] (pusher x, y; block x, y of the body's origin, in pixels 0..512; block angle in
    radians) and "keypoint" [N, 9, 2]; from zarr also "image/img" [N, 96, 96, 3]. Actions [N, 2]: where the pusher is
    sent, in pixels.
    Raises UsageError, saying where to get them, when there is no copy, or when its numbers are not the published
    ones.
    """
    home = library_home()
    place = home if path is None else Path(path).expanduser()
    if place.is_dir() and not is_zarr(place):
        found = [place / name for name in NAMES if (place / name).exists()]
        if not found:
            raise UsageError(f"{place} holds none of {', '.join(NAMES)}: {WHERE} and put it there, or say pusht:PATH")
        place = found[0]
    if not place.exists():
        raise UsageError(f"there is no {place}: {WHERE}")
    demonstrations = read_npz(place) if place.suffix == ".npz" else read_zarr(place)
    found_sum = checksum(demonstrations)
    if found_sum != CHECKSUM:
        raise UsageError(
            f"{place} holds {demonstrations.total_episodes} episodes with {demonstrations.total_steps} steps and "
            f"checksum {found_sum[:12]}…; the published set has 206, 25650 and {CHECKSUM[:12]}…: {WHERE}. To use other "
            "data, open it by its path instead"
        )
    # Contact counts are no observation of the task.
    kept = {name: column for name, column in demonstrations.observations.items() if name != "n_contacts"}
    meta = {**demonstrations.meta, "source": f"Push-T demonstrations, {place}", "licence": LICENCE, "fps": 10}
    return replace(demonstrations, observations=kept, meta=meta)


def checksum(demonstrations: Demonstrations) -> str:
    """See `CHECKSUM`. Raises UsageError when there is no state."""
    digest = hashlib.sha256()
    state = in_memory(demonstrations.column("state"))
    for array in (demonstrations.actions, np.asarray(state, np.float32), demonstrations.episode_ends):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
