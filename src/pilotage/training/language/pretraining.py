"""Supervised training of a language policy on gold solutions, until a measured accuracy."""

from __future__ import annotations

import inspect
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pilotage.engines import build_engine
from pilotage.environments.text import text_task
from pilotage.policies.language import embedded
from pilotage.policies.language.embedded import tiny_policy
from pilotage.policies.language.policy import LanguagePolicy
from pilotage.rollouts.held_out import held_out
from pilotage.runs import Progress, artifact_root
from pilotage.types import Item, Sampling, Task


@dataclass(frozen=True)
class Pretraining:
    """Settings of the supervised training of an embedded policy."""

    size: str
    task: str
    difficulties: tuple[int, ...]
    accuracy: float
    """Held-out accuracy, mean over difficulties, at which to stop."""
    seed: int
    lr: float = 1e-3
    weight_decay: float = 0.01
    batch: int = 64
    check_every: int = 25
    most_steps: int = 4000
    items: int = 8000
    """Size of the pool of training items."""


EXPECTED_STEPS = 300
"""Steps that a base of a default task takes, as a first guess; the progress line corrects it by the measured accuracy.
"""


class PretrainingError(RuntimeError):
    """Error: the accuracy asked for was not reached within the step limit."""


def supervised_batch(policy: LanguagePolicy, items: Sequence[Item]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (ids, labels), both [batch, token]: prompt, solution and end-of-sequence token; the last two are trained.

    Padding stands on the right, where causal attention never looks: no mask is needed.
    """
    rows = []
    for item in items:
        prompt = policy.encode(item.prompt)
        rows.append((prompt, [*policy.encode(item.solution), policy.eos_ids[0]]))
    width = max(len(prompt) + len(answer) for prompt, answer in rows)
    ids = torch.full((len(rows), width), policy.pad_id)
    labels = torch.full((len(rows), width), -100)
    for index, (prompt, answer) in enumerate(rows):
        length = len(prompt) + len(answer)
        ids[index, :length] = torch.tensor(prompt + answer)
        labels[index, len(prompt) : length] = torch.tensor(answer)
    return ids, labels


def slug(name: str) -> str:
    """Return a task's name as it may stand in a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")


def pretraining_sources(task: Task) -> str:
    """Return the source code on which a pretrained policy depends; a change of it makes the artifact again."""
    modules = [inspect.getmodule(pretrain), embedded, inspect.getmodule(type(task))]
    return "".join(inspect.getsource(module) for module in modules if module is not None)


def make_base(directory: Path, config: Mapping[str, Any]) -> None:
    """Write a pretrained embedded policy into `directory`, and its accuracy into `pretraining.json`."""
    settings = Pretraining(**{**config, "difficulties": tuple(config["difficulties"])})
    done = pretrain(settings, text_task(settings.task, settings.difficulties), directory)
    (directory / "pretraining.json").write_text(json.dumps(done, indent=2))


def pretrain(settings: Pretraining, task: Any, folder: Path) -> dict[str, float]:
    """Train a fresh embedded policy on gold solutions and save it to `folder`.

    Args:
        settings: how it is trained, and to what accuracy.
        task: a `Task` with `vocabulary` and `weights`, the share of training items by difficulty.
        folder: where the policy is written.

    Returns:
        Steps, seconds, and held-out accuracy, mean and by difficulty.

    Raises:
        PretrainingError: when `settings.most_steps` do not suffice.
    """
    began = time.perf_counter()
    policy = tiny_policy(settings.size, task.vocabulary, settings.seed)
    optimiser = torch.optim.AdamW(
        policy.model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, betas=(0.9, 0.98), fused=True
    )
    generator = np.random.default_rng([settings.seed, 17])
    pool = task.pool(settings.items, "train", settings.seed)
    by_difficulty = {
        difficulty: [item for item in pool if item.difficulty == difficulty] for difficulty in task.difficulties
    }
    weights = np.array([task.weights[difficulty] for difficulty in task.difficulties])
    checks = task.pool(64 * len(task.difficulties), "held_out", settings.seed + 1)
    accuracy: dict[str, float] = {}
    label = f"base {settings.size} on {settings.task}, once for all runs, to accuracy {settings.accuracy:g}"
    with Progress(EXPECTED_STEPS, label) as progress:
        for step in range(1, settings.most_steps + 1):
            chosen = generator.choice(len(task.difficulties), size=settings.batch, p=weights / weights.sum())
            items = [
                by_difficulty[task.difficulties[i]][generator.integers(len(by_difficulty[task.difficulties[i]]))]
                for i in chosen
            ]
            loss = _supervised_step(policy, optimiser, items)
            if step % settings.check_every == 0:
                accuracy = measure(policy, task, checks, seed=step)
                reached = accuracy["held_out/accuracy"]
                progress.total = expected_steps(settings, step, reached)
                progress.advance(step, loss=loss, accuracy=reached)
                if reached >= settings.accuracy:
                    policy.save_pretrained(folder)
                    return {**accuracy, "steps": step, "seconds": time.perf_counter() - began}
    raise PretrainingError(
        f"the policy {settings.size} on {settings.task} reached {accuracy.get('held_out/accuracy', 0.0):.2f} after "
        f"{settings.most_steps} steps, not {settings.accuracy}: ask for less (--pretrain-to-accuracy), easier "
        f"difficulties, a larger model"
    )


def expected_steps(settings: Pretraining, step: int, accuracy: float) -> int:
    """Return the steps until the accuracy asked for, if it grows as it did up to `step`; a coarse guess."""
    if accuracy >= settings.accuracy:
        return step
    guess = EXPECTED_STEPS if accuracy <= 0 else round(step * settings.accuracy / accuracy)
    return min(settings.most_steps, max(step + settings.check_every, guess))


def is_made(name: str, settings: Pretraining) -> bool:
    """Return whether the artifacts hold a base with these settings."""
    wanted = json.loads(json.dumps(asdict(settings)))
    made = artifact_root().glob(f"{name}-*/artifact.json")
    return any(json.loads(path.read_text()).get("config") == wanted for path in made)


def estimate_seconds(settings: Pretraining, task: Any, steps: int = 3) -> float:
    """Return the processor seconds that the training of a base takes, from a few timed steps; a coarse guess."""
    policy = tiny_policy(settings.size, task.vocabulary, settings.seed)
    optimiser = torch.optim.AdamW(policy.model.parameters(), lr=settings.lr, fused=True)
    items = task.pool(settings.batch, "train", settings.seed)
    _supervised_step(policy, optimiser, items)  # the first is slower
    began = time.process_time()
    for _ in range(steps):
        _supervised_step(policy, optimiser, items)
    return EXPECTED_STEPS * (time.process_time() - began) / steps


def _supervised_step(policy: LanguagePolicy, optimiser: torch.optim.Optimizer, items: Sequence[Item]) -> float:
    ids, labels = supervised_batch(policy, items)
    loss = policy.model(input_ids=ids, labels=labels, use_cache=False).loss
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
    optimiser.step()
    return float(loss.detach())


def measure(policy: LanguagePolicy, task: Task, items: Sequence[Item], seed: int) -> dict[str, float]:
    """Return the accuracy at temperature 1, from one answer per item."""
    engine = build_engine("auto", policy.model, policy.tokenizer)
    return held_out(
        engine,
        items,
        encode=lambda item: policy.encode(item.prompt),
        decode=policy.decode,
        check=lambda texts, of: [task.score(item, text) for item, text in zip(of, texts, strict=True)],
        max_new=task.max_new,
        samples=1,
        sampling=Sampling(),
        seed=lambda index: seed * 1_000_003 + index,
    ).metrics()
