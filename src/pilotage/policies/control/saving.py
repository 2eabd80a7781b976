"""A policy on disk: what it is made of as JSON, its numbers as safetensors. Nothing is pickled or imported by name.

Every piece keeps the arguments it was made with as attributes of the same names, which is all that is written down of
it. `PIECES` says which classes may be made again; another package adds its own with `register`."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.networks.action_transformer import ActionTransformer
from pilotage.networks.framewise import Framewise
from pilotage.networks.gpt import GPT
from pilotage.networks.residual_mlp import ResidualMLP
from pilotage.networks.unet1d import UNet1d
from pilotage.objectives.noise_paths import Karras, Linear, VariancePreserving
from pilotage.policies.control.causal_encoder import CausalEncoder
from pilotage.policies.control.encoders import FlattenEncoder, ImageEncoder, MLPEncoder, RecurrentEncoder
from pilotage.policies.control.execution.discrete_entries import SignedGuess, TwoValuedHorizon
from pilotage.policies.control.execution.executors import RecedingHorizon, TemporalEnsembling
from pilotage.policies.control.heads.context_denoiser import ContextDenoiser
from pilotage.policies.control.heads.denoiser import Denoiser
from pilotage.policies.control.heads.direct import BinsWithOffsets, LatentVariable, Mixture, Regression
from pilotage.policies.control.heads.energy import ContrastiveEnergy, EnergyByDescent
from pilotage.policies.control.heads.energy_optimisation import EnergyOptimisation
from pilotage.policies.control.heads.plans import HeldPlan, LatentPlans, RelayGoals, policy_kind
from pilotage.policies.control.policy import ActionPolicy, Scaling
from pilotage.policies.control.sampling.guidance import BestOf
from pilotage.policies.control.sampling.restarts import RestartingStart
from pilotage.policies.control.sampling.starts import FreshStart, ShiftedStart
from pilotage.policies.pickled import refuse_pickled
from pilotage.systems.robots.carp.head import NextScaleTokens
from pilotage.systems.robots.carp.multiscale_tokeniser import MultiscaleTokeniser
from pilotage.systems.robots.carp.next_scale_transformer import NextScaleTransformer

FORMAT = 1
DESCRIPTION, WEIGHTS = "policy.json", "weights.safetensors"

PIECES: dict[str, type] = {
    piece.__name__: piece
    for piece in (
        *(ResidualMLP, UNet1d, ActionTransformer, GPT, Framewise),
        *(VariancePreserving, Karras, Linear),
        *(FlattenEncoder, MLPEncoder, RecurrentEncoder, ImageEncoder),
        *(
            ContextDenoiser,
            Denoiser,
            Regression,
            Mixture,
            BinsWithOffsets,
            LatentVariable,
            ContrastiveEnergy,
            EnergyByDescent,
            BestOf,
        ),
        *(RecedingHorizon, TemporalEnsembling, FreshStart, ShiftedStart),
        *(RestartingStart, SignedGuess, TwoValuedHorizon),
        *(CausalEncoder, EnergyOptimisation),
        *(MultiscaleTokeniser, NextScaleTransformer, NextScaleTokens),
        *(LatentPlans, RelayGoals, HeldPlan),
    )
}


def register(piece: type) -> type:
    """Lets policies with a `piece` be saved and loaded; usable as a decorator. Raises UsageError for a taken name."""
    if PIECES.setdefault(piece.__name__, piece) is not piece:
        raise UsageError(f"a piece called {piece.__name__} is already known; give yours another name")
    return piece


def describe(value: Any) -> Any:
    """`value` as JSON: a piece as its name and arguments, plain values as they are. Raises UsageError for others."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [describe(one) for one in value]
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): describe(one) for key, one in value.items()}
    name = type(value).__name__
    if PIECES.get(name) is not type(value):
        raise UsageError(f"{value!r} cannot be written down; register its class with saving.register")
    arguments = [p for p in inspect.signature(type(value)).parameters if p != "self"]
    return {"piece": name, "arguments": {argument: describe(getattr(value, argument)) for argument in arguments}}


def rebuild(described: Any) -> Any:
    """What `describe` wrote. Raises UsageError for a piece that is not known."""
    if isinstance(described, list):
        return [rebuild(one) for one in described]
    if not isinstance(described, dict):
        return described
    if set(described) != {"piece", "arguments"}:
        return {key: rebuild(one) for key, one in described.items()}
    name = described["piece"]
    if name not in PIECES:
        raise UsageError(f"a policy with a piece {name!r}, which is not known here{nearest(name, PIECES)}")
    arguments = {key: rebuild(one) for key, one in described["arguments"].items()}
    if dataclasses.is_dataclass(PIECES[name]):
        known = {field.name for field in dataclasses.fields(PIECES[name])}
    else:
        known = set(inspect.signature(PIECES[name]).parameters)
    if not set(arguments) <= known:
        raise UsageError(
            f"a {name} with unknown arguments {sorted(set(arguments) - known)}; was it saved by a newer version?"
        )
    return PIECES[name](**arguments)


def save_policy(policy: ActionPolicy, folder: str | Path) -> None:
    """Writes policy.json and weights.safetensors into `folder`, the normalisers' numbers with them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for part in ("encoder", "head"):
        for name, tensor in getattr(policy, part).state_dict().items():
            tensors[f"{part}.{name}"] = tensor.detach().cpu().contiguous().clone()
    plain: dict[str, dict[str, Any]] = {}
    for key, normaliser in policy.normalisers.items():
        plain[key] = {}
        for name, value in normaliser.state_dict().items():
            if isinstance(value, Tensor):
                tensors[f"normaliser.{key}.{name}"] = value.detach().cpu().contiguous().clone()
            else:
                plain[key][name] = describe(value)
    description = {
        "format": FORMAT,
        **{part: describe(getattr(policy, part)) for part in ("encoder", "head", "executor", "initialiser")},
        "goal_weight": policy.goal_weight,
        "seed": policy.seed,
        "normalisers": plain,
    }
    save_file(tensors, str(folder / f".{WEIGHTS}"))
    (folder / f".{DESCRIPTION}").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    for name in (WEIGHTS, DESCRIPTION):
        os.replace(folder / f".{name}", folder / name)


def load_policy(
    folder: str | Path, normaliser: Callable[[Mapping[str, Any]], Scaling], *, device: torch.device | str = "cpu"
) -> ActionPolicy:
    """The policy that `save_policy` wrote, ready to be reset.

    `normaliser` makes a normaliser again from what its `state_dict` gave. Raises UsageError for a folder without a
    policy, another format, or weights that do not fit."""
    folder = Path(folder)
    refuse_pickled(folder)
    missing = [name for name in (DESCRIPTION, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"{folder} holds no saved policy: {' and '.join(missing)} missing")
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    if description.get("format") != FORMAT:
        raise UsageError(f"{folder / DESCRIPTION} has format {description.get('format')}; this version reads {FORMAT}")
    tensors = load_file(str(folder / WEIGHTS))
    parts = {part: rebuild(description[part]) for part in ("encoder", "head", "executor", "initialiser")}
    for part in ("encoder", "head"):
        own = {name.removeprefix(f"{part}."): t for name, t in tensors.items() if name.startswith(f"{part}.")}
        try:
            parts[part].load_state_dict(own)
        except RuntimeError as error:
            raise UsageError(f"the weights of the {part} in {folder} do not fit its description: {error}") from error
    normalisers = {}
    for key, plain in description["normalisers"].items():
        prefix = f"normaliser.{key}."
        own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        normalisers[key] = normaliser({**plain, **own})
    policy = policy_kind(parts["head"])(
        parts["encoder"],
        parts["head"],
        parts["executor"],
        normalisers,
        initialiser=parts["initialiser"],
        goal_weight=description["goal_weight"],
        seed=description["seed"],
    )
    return policy.to(device)
