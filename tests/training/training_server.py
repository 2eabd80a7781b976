"""`pilotage run` in a server that forks it (`tests/runs/fork_server.py`): `python training_server.py`.

A command names the words after `pilotage run` in "words"; `--out` is its directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # imported when an optimiser is first made; here, so that children need not
from tests.runs.fork_server import serve

import pilotage.engines.decoder
import pilotage.systems.reasoning.baselines
import pilotage.training.language.trainer  # noqa: F401 - what a run imports, before anything is forked
from pilotage.cli import main
from pilotage.policies.language.embedded import tiny_policy


def train(command: dict[str, Any]) -> bool:
    directory = Path(command["directory"])
    busy = not (directory / "result.json").exists()
    code = main(["run", *command["words"], "--out", str(directory)])
    if code != 0:
        raise RuntimeError(f"pilotage run ended with {code}")
    return busy


if __name__ == "__main__":
    torch.set_num_threads(1)
    tiny_policy("0.4M", "0123456789", 0)  # what transformers imports with the first model and tokenizer
    serve(train)
