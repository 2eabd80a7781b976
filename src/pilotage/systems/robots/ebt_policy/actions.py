"""Actions on a finished run: what its policy costs, and a calibration of its energy on demonstrations."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.core.configuration import config_to_dict
from pilotage.core.errors import UsageError
from pilotage.data.windows import WindowBatch
from pilotage.policies.control.execution.pass_counts import flops_of
from pilotage.policies.control.heads.energy_optimisation import EnergyOptimisation
from pilotage.policies.control.policy import ActionPolicy, evaluating
from pilotage.runs import Run, check_device
from pilotage.systems.robots.ebt_policy.confidence import EnergyConfidence
from pilotage.training.imitation.config import ImitationConfig
from pilotage.training.imitation.trainer import ImitationTrainer

CONFIDENCE = "confidence.json"
ROWS = 64
"""Windows on which passes and operations are counted."""


def windows_of(config: ImitationConfig, count: int, *, held_back: bool = True) -> WindowBatch:
    """Return `count` evenly spaced windows of the demonstrations that were held back, or else of the training ones."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", system="windows", config=config_to_dict(config), seed=0)
        with run:
            trainer = ImitationTrainer(config, run)
            windows = trainer.validation if held_back and trainer.validation is not None else trainer.windows
            rows = np.linspace(0, len(windows) - 1, min(count, len(windows))).astype(np.int64)
            return windows.take(rows, torch.Generator().manual_seed(config.data_seed))


def saved_policy(config: ImitationConfig, run: Path) -> ActionPolicy:
    """Return the policy of a finished run. Raises UsageError for one without."""
    if not (run / "policy").is_dir():
        raise UsageError(f"{run} holds no trained policy yet; let the run finish")
    return ActionPolicy.from_pretrained(run / "policy", device=check_device(config.device))


def decide(policy: ActionPolicy, observations: Mapping[str, Tensor], seed: int = 0) -> Tensor:
    """Return a chunk for each window of normalised observations, [window, step, number].

    Every window has random numbers of its own.
    """
    rows = len(next(iter(observations.values())))
    sources = [torch.Generator().manual_seed(seed * 1_000_003 + row) for row in range(rows)]
    with evaluating(policy.encoder, policy.head), torch.no_grad():
        return policy.head.sample(policy.encoder(observations), sources)


def energies(policy: ActionPolicy, observations: Mapping[str, Tensor], seed: int = 0) -> Tensor:
    """Return the energy of the chunk that the policy answers to each window, [window].

    Raises UsageError for a head without an energy.
    """
    head = policy.head
    if not isinstance(head, EnergyOptimisation):
        raise UsageError(
            f"a {type(head).__name__} head has no energy that says how sure it is; train head energy or ebt"
        )
    chunk = decide(policy, observations, seed)
    with evaluating(policy.encoder, head), torch.no_grad():
        return head.energy(chunk, policy.encoder(observations))


def compute(config: ImitationConfig, run: Path) -> dict[str, float]:
    """Count what a decision and a window of training of a finished run's policy cost.

    Args:
        config: the configuration of the run.
        run: folder of the run.

    Returns:
        See `compute_of`.
    """
    return compute_of(saved_policy(config, run), windows_of(config, ROWS))


def compute_of(policy: ActionPolicy, batch: WindowBatch) -> dict[str, float]:
    """Count what a decision and a window of training of `policy` cost, on average over the windows of `batch`.

    Returns:
        For "decision" and "training": `flops`, floating-point operations as executed; `in_forwards`, the same in
        forward passes of the network; and passes. A denoiser's decision has forward passes only.
    """
    rows, head, passes = len(batch), policy.head, 0

    def count(_module: Any, given: tuple[Tensor, ...], _answer: Any) -> None:
        nonlocal passes
        passes += len(given[0])

    condition = policy.encoder(batch.observations)
    level = torch.zeros(rows)
    with torch.no_grad():
        single = flops_of(lambda: head.network(batch.actions, level, *condition)) / rows
    hook = head.network.register_forward_hook(count)
    try:
        _train_once(policy, batch)  # the first one also checks the network
        head.pop_metrics()
        passes = 0
        decision = flops_of(lambda: decide(policy, batch.observations)) / rows
        acting, forward = head.pop_metrics(), passes / rows
        passes = 0
        training = flops_of(lambda: _train_once(policy, batch)) / rows
        learning, trained = head.pop_metrics(), passes / rows
    finally:
        hook.remove()
    return {
        "decision/flops": decision,
        "decision/in_forwards": decision / single,
        "decision/forward_passes": forward,
        "decision/backward_passes": acting.get("backward_passes", 0.0),
        "training/flops": training,
        "training/in_forwards": training / single,
        "training/forward_passes": trained,
        "training/backward_passes": learning.get("backward_passes", 1.0),
        "training/second_passes": learning.get("second_passes", 0.0),
    }


def _train_once(policy: ActionPolicy, batch: WindowBatch) -> None:
    """Compute loss and gradients, without a step."""
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        condition = policy.encoder(batch.observations, generator)
        policy.head.loss(batch.actions, condition, generator, ~batch.padded).mean().backward()
    for part in (policy.encoder, policy.head):
        part.zero_grad(set_to_none=True)


def confidence(config: ImitationConfig, run: Path, windows: int = 1000) -> dict[str, float]:
    """Calibrate the run's energy on demonstrations that were held back; write confidence.json into the run.

    Args:
        config: the configuration of the run.
        run: folder of the run.
        windows: the largest number of windows; at least 20 are needed.

    Returns:
        Mean, standard deviation and two quantiles of the energies.

    Raises:
        UsageError: for a policy without an energy, or fewer than 20 windows.
    """
    policy = saved_policy(config, run)
    found = EnergyConfidence.fitted(energies(policy, windows_of(config, windows).observations))
    found.save(run / CONFIDENCE)
    return {
        "mean": found.mean,
        "std": found.std,
        "quantile/0.5": found.quantiles[50],
        "quantile/0.99": found.quantiles[99],
    }
