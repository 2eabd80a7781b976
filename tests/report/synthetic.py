"""Run directories such as training leaves behind, made up: three arms, paired seeds, six levels, texts that bite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.core.intervals import t_interval
from pilotage.experiments.comparison import ArmResult, Comparison, paired

LEVELS = (1, 2, 3, 4, 5, 6)
ARMS = {"grpo": (0.0, "grpo"), "gtpo": (0.055, "gtpo"), "bnpo --advantage mvar": (0.008, "bnpo --advantage mvar")}
STEPS = 150
BITING = "<script>alert('x')</script> & \"quotes\" <img src=http://evil.example/x.png>"
GLOSSARY = {
    "held_out/accuracy": "Share of held-out items answered right with greedy decoding, mean over levels, 0..1.",
    "reward/mean": "Mean reward of the answers sampled in this step.",
    "entropy/mean": "Mean entropy of the policy's next-token distribution over the answers' tokens, in nats.",
    "length/mean": "Mean number of tokens of an answer, end-of-sequence token included.",
    "gradient/norm": "Norm of the gradient before clipping.",
    "tokens/total": "Tokens sampled since the start.",
}


def write_run(directory: Path, command: str, gain: float, seed: int, **about: Any) -> dict[str, float]:
    """One run; returns its final metrics."""
    directory.mkdir(parents=True)
    generator = np.random.default_rng([seed, len(command)])
    offset = np.random.default_rng(seed).normal(0, 0.025)
    shift = offset + generator.normal(0, 0.008)
    config = {"task": "add", "advantage": command.split()[0], "lr": 1e-4, "steps": STEPS, "group": 8, "kl": 0.0}
    record = {"system": command.split()[0], "config": config, "seed": seed, "command": f"{command} --task add", **about}
    record |= {"hardware": {"processor": "Example CPU 3000", "cores": 2, "memory_gib": 16.0, "gpus": []}}
    record |= {"versions": {"python": "3.11.9", "torch": "2.13.0", "pilotage": "0.1.0"}, "commit": "0123abc-dirty"}
    (directory / "run.json").write_text(json.dumps(record))
    (directory / "metrics.json").write_text(json.dumps(GLOSSARY))
    metrics, timing, rollouts = [], [], []
    tokens, seconds, final = 0, 0.0, {}
    for step in range(STEPS + 1):
        progress = 1 - np.exp(-step / 45)
        accuracy = {level: _accuracy(level, progress, gain, shift) for level in LEVELS}
        line: dict[str, Any] = {"step": step}
        if step % 15 == 0:
            noisy = {level: float(np.clip(generator.binomial(200, p) / 200, 0, 1)) for level, p in accuracy.items()}
            final = {"held_out/accuracy": float(np.mean(list(noisy.values())))}
            final |= {f"held_out/accuracy/level_{level}": p for level, p in noisy.items()}
            line |= final
        if step:
            tokens += int(generator.normal(5200 - 900 * progress * (gain > 0.03), 150))
            seconds = float(generator.uniform(0.55, 0.75))
            line |= {
                "reward/mean": float(np.mean(list(accuracy.values())) + generator.normal(0, 0.03)),
                "entropy/mean": float(0.42 - 0.3 * progress * (1 - gain * 6) + generator.normal(0, 0.01)),
                "length/mean": float(20 - 4 * progress * (gain > 0.03) + generator.normal(0, 0.4)),
                "gradient/norm": float(generator.lognormal(-1 - progress, 0.2)),
                "kl/reference": float(0.02 * progress + generator.normal(0, 0.0004)),
                "tokens/total": tokens,
            }
            timing.append({"step": step, "seconds": round(seconds, 3)})
        metrics.append(line)
        if step % 30 == 0:
            rollouts += _rollouts(step, accuracy, generator)
    for name, lines in {"metrics": metrics, "timing": timing, "rollouts": rollouts}.items():
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    (directory / "result.json").write_text(json.dumps({"metrics": final}))
    return final


def write_comparison(directory: Path, seeds: Sequence[int] = range(5), **about: Any) -> Comparison:
    """A comparison of `ARMS` over `seeds` in `directory`, without its report."""
    finals: dict[str, list[float | None]] = {}
    runs: dict[str, list[str]] = {}
    for name, (gain, command) in ARMS.items():
        for seed in seeds:
            where = directory / "runs" / f"{command.split()[0]}-{seed}"
            finals.setdefault(name, []).append(write_run(where, command, gain, seed, **about)["held_out/accuracy"])
            runs.setdefault(name, []).append(str(where.resolve()))
    (directory / "runs" / f"gtpo-{seeds[-1]}" / "events.jsonl").write_text(
        json.dumps({"step": 60, "kind": "alarm", "text": f"24 % of the answers were cut at the limit {BITING}"}) + "\n"
    )
    arms = []
    for name, (_, command) in ARMS.items():
        i = t_interval([v for v in finals[name] if v is not None])
        whole = len(seeds) > 1
        interval = (i.low, i.high) if whole else (None, None)
        arms.append(ArmResult(name, f"{command} --task add", tuple(finals[name]), tuple(runs[name]), i.mean, interval))
    comparison = Comparison(
        metric="held_out/accuracy",
        higher_is_better=True,
        seeds=tuple(seeds),
        arms=tuple(arms),
        differences=tuple(
            paired(name, finals[name], "grpo", finals["grpo"], "held_out/accuracy") for name in ARMS if name != "grpo"
        ),
        workers=2,
        seconds=1893.0,
        created="2026-01-02T03:04:05+00:00",
        directory=directory,
        environment={
            "hardware": {"processor": "Example CPU 3000", "cores": 2, "memory_gib": 16.0, "gpus": []},
            "versions": {"python": "3.11.9", "torch": "2.13.0", "transformers": "5.23.0", "pilotage": "0.1.0"},
            "commit": "0123abc-dirty",
        },
    )
    comparison.save()
    return comparison


def _accuracy(level: int, progress: float, gain: float, shift: float) -> float:
    start = 0.55 - 0.08 * level
    return float(np.clip(start + (0.36 - 0.025 * level + gain * (1 + level / 4)) * progress + shift, 0.01, 0.99))


def _rollouts(step: int, accuracy: dict[int, float], generator: np.random.Generator) -> list[dict[str, Any]]:
    rows = []
    for level, p in accuracy.items():
        for _ in range(4):
            a, b = (int(generator.integers(10 ** (level - 1), 10**level)) for _ in range(2))
            right = bool(generator.random() < p)
            work = "".join(f"{x}+{y};" for x, y in zip(str(a), str(b), strict=True))
            text = f"{work}#{a + b + (0 if right else 10)}" + (BITING if level == 2 and not right else "")
            row = {"step": step, "prompt": f"{a}+{b}=", "completion": text, "reward": float(right), "difficulty": level}
            rows.append(row)
    return rows
