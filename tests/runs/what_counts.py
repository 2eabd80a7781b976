"""What two runs must share, byte for byte, if one of them was killed and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pilotage.runs.checkpoints import listed


def what_counts(directory: Path, *files: str) -> dict[str, Any]:
    """Everything that must not depend on kills: numbers, result, checkpoints, `files`, and what happened at a step; but
    no clocks, and not what says that the run was resumed."""
    kept = listed(directory / "checkpoints")
    names = ["metrics.jsonl", "result.json", "metrics.json", *files]
    names += [str(path.relative_to(directory) / "tensors.safetensors") for _, path in kept]
    found: dict[str, Any] = {name: (directory / name).read_bytes() for name in names}
    found["state"] = [json.loads((path / "state.json").read_text())["state"] for _, path in kept]
    events = [json.loads(line) for line in (directory / "events.jsonl").read_text().splitlines()]
    found["events"] = [event for event in events if event["step"] is not None]
    return found
