"""A training step of a diffusion policy: our networks and loop against diffusion_policy's own at the same sizes.

Their networks are not on PyPI: DIFFUSION_POLICY=FOLDER says where a checkout of real-stanford/diffusion_policy from
GitHub lies; its networks need einops. Without it nothing is measured."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.child import Turn
from benchmarks.harness import Figure, Side, Target, alternate, column, figure

NAME = "imitation step"
TARGETS = {"unet": Target(1.0), "transformer": Target(1.0)}
HORIZON, ACTION, FRAMES, STATE, LEVELS = 16, 2, 2, 5, 100
"""Push-T from states."""
UNET = {"widths": (64, 128, 256), "level_width": 256}
TRANSFORMER = {"width": 128, "depth": 4, "heads": 4, "dropout": 0.01}


def batch_of(rows: int) -> tuple[Any, Any]:
    """Chunks [rows, HORIZON, ACTION] in [-1, 1] and observations [rows, FRAMES, STATE]."""
    import torch

    generator = torch.Generator().manual_seed(0)
    chunk = 2 * torch.rand(rows, HORIZON, ACTION, generator=generator) - 1
    return chunk, torch.randn(rows, FRAMES, STATE, generator=generator)


def ours(turn: Turn, *, kind: str, rows: int, steps: int) -> None:
    """`steps` of our loss, AdamW and running average."""
    import torch

    from pilotage.networks.action_transformer import ActionTransformer
    from pilotage.networks.ema import AveragedWeights
    from pilotage.networks.unet1d import UNet1d
    from pilotage.objectives.noise_paths import VariancePreserving
    from pilotage.policies.control.condition import Condition
    from pilotage.policies.control.heads.denoiser import Denoiser

    if kind == "unet":
        network: Any = UNet1d(ACTION, HORIZON, FRAMES * STATE, **UNET)
    else:
        network = ActionTransformer(ACTION, HORIZON, token_dim=STATE, frames=FRAMES, **TRANSFORMER)
    head = Denoiser(network, VariancePreserving(LEVELS), predicts="noise")
    average, generator = AveragedWeights(head), torch.Generator().manual_seed(0)
    chunk, observation = batch_of(rows)
    condition, mask = Condition(observation.flatten(1), observation, None), torch.ones(rows, HORIZON, dtype=torch.bool)

    def loss() -> Any:
        return head.loss(chunk, condition, generator, mask).mean()

    turn.serve(stepping(head, loss, lambda: average.update(head), steps))


def theirs(turn: Turn, *, kind: str, rows: int, steps: int, checkout: str) -> None:
    """`steps` of the same with diffusion_policy's network and average and diffusers' schedule."""
    sys.path.insert(0, checkout)
    import torch
    from diffusers import DDPMScheduler
    from diffusion_policy.model.diffusion.ema_model import EMAModel

    if kind == "unet":
        from diffusion_policy.model.diffusion.conditional_unet1d import ConditionalUnet1D

        network = ConditionalUnet1D(
            ACTION,
            global_cond_dim=FRAMES * STATE,
            diffusion_step_embed_dim=UNET["level_width"],
            down_dims=list(UNET["widths"]),  # type: ignore[call-overload]
            kernel_size=5,
            n_groups=8,
            cond_predict_scale=True,
        )
    else:
        from diffusion_policy.model.diffusion.transformer_for_diffusion import TransformerForDiffusion

        network = TransformerForDiffusion(
            ACTION,
            ACTION,
            HORIZON,
            n_obs_steps=FRAMES,
            cond_dim=STATE,
            n_layer=TRANSFORMER["depth"],
            n_head=TRANSFORMER["heads"],
            n_emb=TRANSFORMER["width"],
            p_drop_emb=0.0,
            p_drop_attn=TRANSFORMER["dropout"],
            causal_attn=True,
            obs_as_cond=True,
        )
    import copy

    schedule = DDPMScheduler(num_train_timesteps=LEVELS, beta_schedule="squaredcos_cap_v2")
    average = EMAModel(copy.deepcopy(network), power=0.75)
    chunk, observation = batch_of(rows)
    known = {"global_cond": observation.flatten(1)} if kind == "unet" else {"cond": observation}

    def loss() -> Any:
        noise = torch.randn_like(chunk)
        level = torch.randint(0, LEVELS, (rows,))
        output = network(schedule.add_noise(chunk, noise, level), level, **known)
        return torch.nn.functional.mse_loss(output, noise)

    turn.serve(stepping(network, loss, lambda: average.step(network), steps))


def stepping(
    module: Any, loss: Callable[[], Any], after: Callable[[], None], steps: int
) -> Callable[[], dict[str, float]]:
    """A repetition: `steps` optimiser steps, with AdamW as diffusion_policy sets it."""
    import torch

    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    module.train()
    weights = sum(parameter.numel() for parameter in module.parameters())

    def repetition() -> dict[str, float]:
        for _ in range(steps):
            optimiser.zero_grad(set_to_none=True)
            loss().backward()
            optimiser.step()
            after()
        return {"weights": weights}

    return repetition


def measure(quick: bool) -> Iterator[Figure]:
    """Seconds per step of both networks on one thread."""
    checkout = os.environ.get("DIFFUSION_POLICY", "")
    if not (Path(checkout) / "diffusion_policy").is_dir():
        print(f"{NAME}: not measured; DIFFUSION_POLICY names no checkout of diffusion_policy", file=sys.stderr)
        return
    rows, steps, rounds = (8, 1, 2) if quick else (256, 5, 7)
    for kind in ("unet", "transformer"):
        settings = {"kind": kind, "rows": rows, "steps": steps}
        mine, other = alternate(
            [
                Side("benchmarks.imitation_step:ours", settings),
                Side("benchmarks.imitation_step:theirs", {**settings, "checkout": checkout}),
            ],
            threads=1,
            rounds=rounds,
        )
        yield figure(
            f"{NAME}/{kind}",
            [seconds / steps for seconds in column(mine, "seconds")],
            [seconds / steps for seconds in column(other, "seconds")],
            peer_version="diffusion_policy's network, diffusers' schedule",
            note=f"seconds per step of {rows} chunks; weights {mine[0]['weights'] / 1e6:.2f} M and "
            f"{other[0]['weights'] / 1e6:.2f} M",
        )
