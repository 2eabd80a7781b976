"""A tiny training loop on a run, in a server that forks it (`fork_server.py`): `python toy_training.py`."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch._dynamo  # what an optimiser imports when it is first made; here, so that children need not
from tests.runs.fork_server import serve

from pilotage.runs import Run

CONFIG = {"learning_rate": 0.05, "batch": 8}
SAVE_EVERY = 3


def train(directory: str, steps: int, disturb: bool = False) -> bool:
    """Train until `steps`; True when there was something to do. `disturb` draws from the global generators."""
    with Run.create(directory, system="toy", config={**CONFIG, "steps": steps}, seed=7) as run:
        if run.finished:
            return False
        run.describe_metric("loss", "mean squared error of the batch")
        model = torch.nn.Linear(4, 1)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(generator=run.generator("init"))
        optimizer = torch.optim.Adam(model.parameters(), lr=CONFIG["learning_rate"])
        seen: dict[str, Any] = {"items": [], "best": None}
        state = {"model": model, "optimizer": optimizer, "seen": seen}
        begin = run.restore(state)
        for step in range(begin + 1, steps + 1):
            if disturb:
                torch.rand(step)
            item = int(run.numpy_generator("items").integers(1000))
            inputs = torch.randn(8, 4, generator=run.generator("data"))
            loss = (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()
            run.check_finite(step, "loss", loss, {"inputs": inputs})
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            seen["items"].append(item)
            seen["best"] = min(loss.item(), seen["best"] or loss.item())
            run.journal("verdicts").put(str(step), {"item": item})
            run.log_rollout(step, {"item": item, "seed": run.seed_for("rollout", step), "text": "né"})
            run.log_timing(step, {"pid": os.getpid()})
            run.log_event(step, "note", f"step {step}")
            run.log(step, {"loss": loss, "item": item})
            if step % SAVE_EVERY == 0:
                run.save(step, state)
        run.save(steps, state)
        run.finish({"best": seen["best"], "items": len(seen["items"])})
        return True


if __name__ == "__main__":
    torch.set_num_threads(1)
    serve(lambda command: train(command["directory"], command["steps"], command.get("disturb", False)))
