"""`pilotage run llm-economist` in a server that forks it, with all that a game needs imported once."""

from __future__ import annotations

import pydantic  # noqa: F401
import torch
from tests.runs.fork_server import serve
from tests.training.training_server import train

import pilotage.core.registry
import pilotage.systems.societies.llm_economist.simulate

if __name__ == "__main__":
    torch.set_num_threads(1)
    pilotage.core.registry.find_system("llm-economist")
    serve(train)
