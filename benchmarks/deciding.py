"""What a decision takes: milliseconds, passes and success of every sampler and head, on one table.

Every policy is trained on the pillar for as many steps, briefly, and decides for one robot on one thread. The other
side is always the same: diffusion in 100 passes of the residual network."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.child import Turn
from benchmarks.harness import Figure, Side, Target, alternate, column, figure

NAME = "deciding"
TARGETS: dict[str, Target] = {}
SIZE = "--network residual_mlp:width=256,depth=3"
DIFFUSION, ENERGY = f"diffusion-mlp {SIZE}", f"ebt-policy {SIZE} --lr 1e-3"
SIGMA = (
    f"{DIFFUSION} --noise-schedule karras:sigma_min=0.02,sigma_max=1 --head denoiser:predicts=residual "
    "--sampler ddim_sigma:steps=3"
)
SIXTEEN = {"sampler": "ddim", "steps": 16}
UNET = "diffusion-policy-c --lr 3e-4 --network unet:widths=32|64"
TRANSFORMER = "diffusion-policy-t --lr 3e-4 --network transformer:width=64,depth=2,heads=4"
REFERENCE = "ddpm, 100 steps"


@dataclass(frozen=True)
class Row:
    """A line: `command` trains the policy, `head` is what is changed of its head before it acts."""

    name: str
    command: str
    head: Mapping[str, Any] = field(default_factory=dict)


ROWS = (
    Row(REFERENCE, DIFFUSION, {"sampler": "ddpm", "steps": 100}),
    Row("ddim, 16 steps", DIFFUSION, SIXTEEN),
    Row("ddim, 4 steps", DIFFUSION, {"sampler": "ddim", "steps": 4}),
    *(
        Row(f"{sampler}, 3 levels", SIGMA, {"sampler": sampler})
        for sampler in ("ddim_sigma", "euler", "euler_ancestral", "heun", "dpm_solver_2s", "dpm_solver_2m")
    ),
    Row("flow, 10 steps", f"flow-matching {SIZE}", {"steps": 10}),
    Row("flow, 1 step", f"flow-matching {SIZE}", {"steps": 1}),
    Row("warm start, levels 3, 1, 0 (rti-dp)", f"rti-dp {SIZE} --timed-decisions 0"),
    Row("next scale (carp)", "carp --tokeniser-steps 1000 --batch 128"),
    Row("descent, equilibrium matching", f"{ENERGY} --head energy"),
    Row("descent, through descent (ebt)", f"{ENERGY} --head ebt"),
    Row("contrastive energy (ibc)", "ibc --batch 64"),
    Row("regression (bc-mlp)", f"bc-mlp {SIZE}"),
    Row("mixture (lstm-gmm)", "lstm-gmm"),
    Row("bins (bet)", "bet"),
    Row("latent, transformer (act)", "act --batch 64"),
    Row("U-Net, ddim, 16 steps", UNET, SIXTEEN),
    Row("transformer, ddim, 16 steps", TRANSFORMER, SIXTEEN),
)
STEPS, EPISODES, DECISIONS, WARM_UP = 1500, 50, 50, 5


def policy_of(folder: str, head: Mapping[str, Any]) -> Any:
    """The policy of a run, with its head changed."""
    from pilotage.policies.control.policy import ActionPolicy

    policy = ActionPolicy.from_pretrained(Path(folder) / "policy")
    for name, value in head.items():
        setattr(policy.head, name, value)
    return policy


def decisions(turn: Turn, *, folder: str, head: Mapping[str, Any], count: int) -> None:
    """A repetition decides `count` times for one robot at the pillar's start. Warm starts go on from each other."""
    import time

    import numpy as np

    from pilotage.environments.control import control_env

    policy = policy_of(folder, head)
    seen = np.asarray(control_env("pillar").reset(seed=0)[0], np.float32)
    window = {"state": np.repeat(seen[None, None], policy.encoder.frames, axis=1)}
    warm = policy.initialiser.executed is not None
    policy.reset([0])

    def repetition() -> dict[str, float]:
        spent, passes, before = [], policy.passes, policy.decisions
        while policy.decisions - before < count:
            if not warm:
                policy.reset([0])
            began = time.perf_counter()
            made = policy.decisions
            policy.act(window, [0])
            if policy.decisions > made:
                spent.append(1000 * (time.perf_counter() - began))
        return {
            "p50": float(np.quantile(spent, 0.5)),
            "p95": float(np.quantile(spent, 0.95)),
            "passes": (policy.passes - passes) / count,
        }

    turn.serve(repetition)


def trained(command: str, folder: Path, quick: bool) -> Mapping[str, Any]:
    """Trains the command's policy into `folder`; its configuration."""
    system, *options = command.split()
    tiny = ["--demonstrations", "4", "--validation", "0.25", "--batch", "8"] if quick else []
    steps = ["--steps", str(2 if quick else STEPS), "--evaluation-episodes", "1"]
    if quick and system == "carp":
        options = [*options, "--tokeniser-steps", "2"]
    call = [sys.executable, "-m", "pilotage", "run", system, "--out", str(folder), "--env", "pillar", "--videos", "0"]
    done = subprocess.run([*call, *options, *steps, *tiny], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command} was not trained:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))["config"]


def success(folder: str, row: Row, episodes: int) -> float:
    """Share of the pillar's declared starts that the policy passes."""
    from pilotage.environments.control import control_env
    from pilotage.rollouts.control import evaluate, starts_of

    policy = policy_of(folder, row.head)
    happened = evaluate(
        lambda: control_env("pillar"), policy, starts_of(episodes, 100_000), num_envs=25, window=policy.executor.frames
    )
    return float(happened.metrics()["evaluation/success"])


def measure(quick: bool) -> Iterator[Figure]:
    """A line per sampler and head: the median decision, with its 95th percentile, passes and success."""
    rows = [ROWS[0], ROWS[2], ROWS[9], ROWS[11]] if quick else ROWS
    with tempfile.TemporaryDirectory() as place:
        folders: dict[str, str] = {}
        for row in rows:
            if row.command not in folders:
                folders[row.command] = str(Path(place) / f"run-{len(folders)}")
                trained(row.command, Path(folders[row.command]), quick)
        count = 3 if quick else DECISIONS
        sides = [
            Side("benchmarks.deciding:decisions", {"folder": folders[r.command], "head": r.head, "count": count})
            for r in rows
        ]
        for row, side in zip(rows, sides, strict=True):
            mine, other = alternate([side, sides[0]], threads=1, rounds=2 if quick else 5)
            tail, passes = max(column(mine, "p95")), mine[0]["passes"]
            share = success(folders[row.command], row, 2 if quick else EPISODES)
            yield figure(
                f"{NAME}/{row.name}",
                column(mine, "p50"),
                column(other, "p50"),
                peer_version=f"ours with {REFERENCE}",
                note=f"median ms of a decision; 95 % within {tail:.3g}, {passes:g} passes, success {share:.2f}",
            )
