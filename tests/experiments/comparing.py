"""A comparison in a process of its own, for tests that kill it: `python comparing.py ROOT OUT SLEEP`."""

from __future__ import annotations

import sys
from pathlib import Path

from pilotage.experiments import ModuleNames, compare

if __name__ == "__main__":
    root, out, sleep = sys.argv[1:]
    compare(
        {"slow": f"bandit --steps 12 --sleep {sleep}", "fast": f"bandit --steps 12 --lr 1.0 --sleep {sleep}"},
        range(3),
        root=Path(root),
        out=Path(out),
        workers=2,
        modules=ModuleNames("fake_system", "fake_system", "fake_system"),
        on_event=lambda event: print(event.kind, event.placed.directory, flush=True),
    )
