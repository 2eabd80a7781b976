"""LeRobot's published diffusion policies (config.json, model.safetensors) as ours, for states without cameras.

Key names, shapes and defaults are those of LeRobot's `policies/diffusion` (github.com/huggingface/lerobot). Its U-Net
is that of Chi et al. 2023 (arXiv 2303.04137) and `UNet1d` computes the same; its level embedding codes the level t
itself, as ours does on a path of 100 levels. "observation.state" and "observation.environment_state", in this order,
are our "state".
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.data.normalisers import Normaliser
from pilotage.networks.unet1d import UNet1d
from pilotage.objectives.levels import spaced_levels
from pilotage.objectives.noise_paths import VariancePreserving
from pilotage.policies.control.encoders import FlattenEncoder
from pilotage.policies.control.execution.executors import RecedingHorizon
from pilotage.policies.control.heads.denoiser import Denoiser
from pilotage.policies.control.policy import ACTION, ActionPolicy
from pilotage.policies.control.saving import read_json

CONFIG, WEIGHTS = "config.json", "model.safetensors"
STATES: Mapping[str, str] = {"observation.state": "STATE", "observation.environment_state": "ENV"}
"""What may make up a state, in their order, and its kind, by which LeRobot chooses how it is normalised."""
LEVELS = 100
"""Levels of the noise path for which our level embedding codes t, as LeRobot's always does."""
_FIXED: Mapping[str, Any] = {
    "use_film_scale_modulation": True,
    "n_groups": 8,
    "num_train_timesteps": LEVELS,
    "beta_schedule": "squaredcos_cap_v2",
    "clip_sample": True,
    "clip_sample_range": 1.0,
}
"""Settings that our U-Net and samplers have in one way only."""
_DEFAULTS: Mapping[str, Any] = {
    "n_obs_steps": 2,
    "horizon": 64,
    "n_action_steps": 32,
    "down_dims": [512, 1024, 2048],
    "kernel_size": 5,
    "diffusion_step_embed_dim": 128,
    "noise_scheduler_type": "DDPM",
    "prediction_type": "epsilon",
    "num_inference_steps": None,
    "normalization_mapping": {"STATE": "MIN_MAX", "ACTION": "MIN_MAX"},
}
_PREDICTS: Mapping[str, Any] = {"epsilon": "noise", "sample": "clean"}
_MODES: Mapping[str, tuple[str, str]] = {"MIN_MAX": ("min", "max"), "MEAN_STD": ("mean", "std")}
_BLOCK = {"conv1.block": "first", "conv2.block": "second", "cond_encoder": "film", "residual_conv": "shortcut"}
_EMBEDDING = {"1": "0", "3": "2"}
"""Layers of the level embedding: theirs counts the sinusoids as layer 0."""


def load_lerobot(folder: str | Path, *, device: torch.device | str = "cpu") -> ActionPolicy:
    """Return the diffusion policy that LeRobot saved in `folder`, ready to be reset or to be saved as ours.

    Statistics are taken from the weights, where LeRobot kept them until 2025, or from policy_preprocessor.json and its
    tensors.
    Raises UsageError that names what this reader does not know: another kind of policy, cameras, other settings.
    """
    folder = Path(folder)
    config = _config(folder)
    sizes = {name: int(feature["shape"][0]) for name, feature in config["input_features"].items()}
    width = sum(sizes[name] for name in STATES if name in sizes)
    actions = int(config["output_features"]["action"]["shape"][0])
    frames, horizon = int(config["n_obs_steps"]), int(config["horizon"])
    network = UNet1d(
        actions,
        horizon,
        frames * width,
        widths=[int(size) for size in config["down_dims"]],
        level_width=int(config["diffusion_step_embed_dim"]),
        kernel=int(config["kernel_size"]),
        groups=8,
    )
    tensors = _tensors(folder / WEIGHTS)
    _fill(network, tensors, folder)
    count = int(config["num_inference_steps"] or LEVELS)
    head = Denoiser(
        network,
        VariancePreserving(LEVELS),
        predicts=_PREDICTS[config["prediction_type"]],
        sampler=str(config["noise_scheduler_type"]).lower(),
        levels=spaced_levels(LEVELS, count, spacing="leading").tolist(),
    )
    statistics = _statistics(folder, tensors)
    modes = {**config["normalization_mapping"]}
    scalings = {
        "state": _joined([_scaling(folder, statistics, name, modes.get(STATES[name]), n) for name, n in sizes.items()]),
        ACTION: _scaling(folder, statistics, ACTION, modes.get("ACTION"), actions),
    }
    policy = ActionPolicy(
        FlattenEncoder(width, frames),
        head,
        RecedingHorizon(frames, horizon, int(config["n_action_steps"])),
        {name: Normaliser.from_state(state) for name, state in scalings.items()},
    )
    return policy.to(device)


def _config(folder: Path) -> dict[str, Any]:
    given = read_json(folder / CONFIG)
    config = {**_DEFAULTS, **_FIXED, **given}
    where = folder / CONFIG
    if config.get("type") != "diffusion":
        raise UsageError(f"{where} is of a policy {config.get('type')!r}; of LeRobot's, 'diffusion' is read here")
    inputs, outputs = config.get("input_features") or {}, config.get("output_features") or {}
    other = sorted(set(inputs) - set(STATES))
    if other or "observation.state" not in inputs or "action" not in outputs:
        raise UsageError(
            f"{where}: the policy reads {', '.join(inputs) or 'nothing'}; policies of {' and '.join(STATES)} without "
            "cameras are read here: run one with cameras in LeRobot"
        )
    # The state's order is theirs, whatever the file's is.
    config["input_features"] = {name: inputs[name] for name in STATES if name in inputs}
    for name, value in _FIXED.items():
        if config[name] != value:
            raise UsageError(f"{where}: {name} is {config[name]!r}; only {value!r} is read here")
    if config["prediction_type"] not in _PREDICTS or config["noise_scheduler_type"] not in ("DDPM", "DDIM"):
        raise UsageError(
            f"{where}: {config['prediction_type']!r} with {config['noise_scheduler_type']!r}; epsilon or sample with "
            "DDPM or DDIM are read here"
        )
    if config["noise_scheduler_type"] == "DDPM" and config["num_inference_steps"] not in (None, LEVELS):
        raise UsageError(
            f"{where}: DDPM in {config['num_inference_steps']} steps; all {LEVELS}, or DDIM, are read here"
        )
    return config


def _fill(network: UNet1d, tensors: Mapping[str, Tensor], folder: Path) -> None:
    given = {
        _ours(name.removeprefix("diffusion.unet.").replace("_orig_mod.", "")): tensor
        for name, tensor in tensors.items()
        if name.startswith("diffusion.unet.")
    }
    expected = network.state_dict()
    wrong = sorted(set(given) ^ set(expected)) or [n for n in expected if given[n].shape != expected[n].shape]
    if wrong:
        raise UsageError(
            f"{folder / WEIGHTS} does not fit {CONFIG}: {len(wrong)} tensors of the U-Net are missing, unknown or of "
            f"another shape, such as {wrong[0]} (our name); download both again"
        )
    network.load_state_dict(given)


def _ours(name: str) -> str:
    """Our name of a tensor of LeRobot's U-Net."""
    part, _, rest = name.partition(".")
    if part == "diffusion_step_encoder":
        layer, _, kind = rest.partition(".")
        return f"level.layers.{_EMBEDDING.get(layer, layer)}.{kind}"
    if part == "final_conv":
        return "output_proj." + rest.replace("0.block.", "0.")
    if part == "mid_modules":
        number, _, inner = rest.partition(".")
        return f"middle.{number}.{_inside(inner)}"
    level, _, rest = rest.partition(".")
    number, _, inner = rest.partition(".")
    down = part == "down_modules"
    if number == "2":
        return f"{'shrink' if down else 'grow'}.{level}.{inner}"
    return f"{'down' if down else 'up'}.{level}.{number}.{_inside(inner)}"


def _inside(name: str) -> str:
    """Our name within a conditioned block."""
    for theirs, own in _BLOCK.items():
        if name.startswith(f"{theirs}."):
            return own + name.removeprefix(theirs)
    return name


def _statistics(folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by "FEATURE.STATISTIC", in whichever way they were kept."""
    found = {}
    for prefix in ("normalize_inputs.buffer_", "unnormalize_outputs.buffer_"):
        for name, tensor in tensors.items():
            if name.startswith(prefix):
                feature, _, statistic = name.removeprefix(prefix).rpartition(".")
                full = next((one for one in (*STATES, ACTION) if one.replace(".", "_") == feature), feature)
                found[f"{full}.{statistic}"] = tensor
    for pipeline in ("policy_preprocessor.json", "policy_postprocessor.json"):
        if found or not (folder / pipeline).is_file():
            continue
        for step in read_json(folder / pipeline).get("steps", []):
            if "normalizer" in str(step.get("registry_name")) and step.get("state_file"):
                found.update(_tensors(folder / str(step["state_file"])))
    return found


def _scaling(folder: Path, found: Mapping[str, Tensor], name: str, mode: str | None, size: int) -> dict[str, Tensor]:
    """The state of the normaliser of one feature, [size]. mode: None for a kind that the configuration leaves out."""
    if mode in (None, "IDENTITY"):
        zero, one = torch.zeros(size), torch.ones(size)
        return {"offset": zero, "scale": one, "low": -one, "high": one}
    if mode not in _MODES:
        raise UsageError(f"{folder / CONFIG}: {name} is normalised by {mode}; {', '.join(_MODES)}, IDENTITY are read")
    first, second = (found.get(f"{name}.{statistic}") for statistic in _MODES[mode])
    if first is None or second is None or first.numel() != size or not bool((first + second).isfinite().all()):
        raise UsageError(
            f"{folder} has no {' and '.join(_MODES[mode])} of {name}, {size} numbers each: neither in {WEIGHTS} nor "
            "by policy_preprocessor.json; download the whole folder"
        )
    first, second = first.float().reshape(-1), second.float().reshape(-1)
    if mode == "MEAN_STD":
        return {"offset": first, "scale": second, "low": first - second, "high": first + second}
    offset, scale = (first + second) / 2, (second - first) / 2
    if name != ACTION:  # theirs takes an entry that never changed to -1, ours to 0
        offset, scale = torch.where(scale == 0, first + 1, offset), torch.where(scale == 0, 1.0, scale)
    return {"offset": offset, "scale": scale, "low": first, "high": second}


def _joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path} cannot be read as safetensors ({error}); download it again") from error
