"""A tiny training loop on a run, and a server that forks it: children start without importing torch again.

Run as a script it reads one JSON command a line: `{"directory", "kill_after", "kill_at", "steps"}`. The child trains
in `directory`; it is killed (SIGKILL) `kill_after` seconds later, or kills itself at the `kill_at`-th call that
changes the disk. The answer is `{"status": exit status or minus the signal, "calls": such calls made}`.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo  # what an optimiser imports when it is first made; here, so that children need not

from pilotage.runs import Run, checkpoints, durable
from pilotage.runs import state as state_files

CONFIG = {"learning_rate": 0.05, "batch": 8}
SAVE_EVERY = 3


def train(directory: str, steps: int, disturb: bool = False) -> bool:
    """Train until `steps`; True when there was something to do. `disturb` draws from the global generators."""
    with Run.create(directory, system="toy", config={**CONFIG, "steps": steps}, seed=7) as run:
        if run.finished:
            return False
        run.describe("loss", "mean squared error of the batch")
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
            run.rollout(step, {"item": item, "seed": run.seed_for("rollout", step), "text": "né"})
            run.clock(step, {"pid": os.getpid()})
            run.event(step, "note", f"step {step}")
            run.log(step, {"loss": loss, "item": item})
            if step % SAVE_EVERY == 0:
                run.save(step, state)
        run.save(steps, state)
        run.finish({"best": seen["best"], "items": len(seen["items"])})
        return True


class Calls:
    """Counts the calls that change the disk, and dies at one of them (a write is then half done)."""

    def __init__(self, kill_at: int | None) -> None:
        self.kill_at = kill_at
        self.count = 0
        for module, name in ((os, "fsync"), (os, "rename"), (os, "replace"), (os, "ftruncate"), (shutil, "rmtree")):
            setattr(module, name, self.before(getattr(module, name)))
        state_files.save_file = self.before(state_files.save_file)
        durable.write_all = checkpoints.write_all = self.half(durable.write_all)  # type: ignore[attr-defined]
        for user in ("pilotage.runs.metrics", "pilotage.runs.journal"):
            sys.modules[user].write_all = durable.write_all  # type: ignore[attr-defined]

    def _due(self) -> bool:
        self.count += 1
        return self.count == self.kill_at

    def before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            if self._due():
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counted

    def half(self, call: Callable[[int, bytes], None]) -> Callable[[int, bytes], None]:
        def counted(descriptor: int, data: bytes) -> None:
            if self._due():
                call(descriptor, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            call(descriptor, data)

        return counted


def child(command: dict[str, Any], report: int) -> None:
    status = 1
    try:
        calls = Calls(command.get("kill_at"))
        busy = train(command["directory"], command["steps"], command.get("disturb", False))
        os.write(report, str(calls.count).encode())
        status = 0 if busy else 3
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def serve() -> None:
    torch.set_num_threads(1)
    for row in sys.stdin:
        command = json.loads(row)
        reading, report = os.pipe()
        pid = os.fork()
        if pid == 0:
            child(command, report)
        os.close(report)
        ready, _, _ = select.select([reading], [], [], command.get("kill_after"))
        if not ready:
            os.kill(pid, signal.SIGKILL)
        counted = os.read(reading, 100)
        os.close(reading)
        _, status = os.waitpid(pid, 0)
        answer = {"status": os.waitstatus_to_exitcode(status), "calls": int(counted or 0)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
