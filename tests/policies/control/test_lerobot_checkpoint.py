"""LeRobot's diffusion checkpoints: tiny ones with its names, and its forward pass written again in plain torch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

import pilotage
from pilotage.cli import main
from pilotage.core.errors import UsageError
from pilotage.policies.control.condition import Condition

STATE, WORLD, ACTIONS, FRAMES, HORIZON, EXECUTED = 3, 4, 2, 2, 8, 3
WIDTHS, KERNEL, LEVEL = (16, 24, 32), 3, 8
CONFIG: dict[str, Any] = {
    "type": "diffusion",
    "n_obs_steps": FRAMES,
    "horizon": HORIZON,
    "n_action_steps": EXECUTED,
    "input_features": {
        "observation.environment_state": {"type": "ENV", "shape": [WORLD]},
        "observation.state": {"type": "STATE", "shape": [STATE]},
    },
    "output_features": {"action": {"type": "ACTION", "shape": [ACTIONS]}},
    "normalization_mapping": {"STATE": "MIN_MAX", "ENV": "MIN_MAX", "ACTION": "MIN_MAX"},
    "down_dims": list(WIDTHS),
    "kernel_size": KERNEL,
    "diffusion_step_embed_dim": LEVEL,
    "noise_scheduler_type": "DDIM",
    "num_inference_steps": 5,
}
STATISTICS = {
    "observation.state.min": torch.tensor([-1.0, 0.0, 5.0]),
    "observation.state.max": torch.tensor([1.0, 4.0, 5.0]),
    "observation.environment_state.min": torch.tensor([0.0, -2.0, 1.0, 0.0]),
    "observation.environment_state.max": torch.tensor([512.0, 2.0, 3.0, 1.0]),
    "action.min": torch.tensor([0.0, -10.0]),
    "action.max": torch.tensor([512.0, 30.0]),
}
U = "diffusion.unet."


def weights() -> dict[str, Tensor]:
    """Random tensors with LeRobot's names and shapes."""
    draw = torch.Generator().manual_seed(0)
    found: dict[str, Tensor] = {}

    def add(name: str, *shape: int, scale: float = 0.3) -> None:
        found[f"{U}{name}.weight"] = scale * torch.randn(*shape, generator=draw)
        bias = shape[1] if "up_modules" in name and name.endswith(".2") else shape[0]
        found[f"{U}{name}.bias"] = scale * torch.randn(bias, generator=draw)

    def convolution(name: str, inputs: int, outputs: int) -> None:
        add(f"{name}.block.0", outputs, inputs, KERNEL)
        add(f"{name}.block.1", outputs, scale=1.0)

    def block(name: str, inputs: int, outputs: int) -> None:
        convolution(f"{name}.conv1", inputs, outputs)
        convolution(f"{name}.conv2", outputs, outputs)
        add(f"{name}.cond_encoder.1", 2 * outputs, LEVEL + FRAMES * (STATE + WORLD))
        if inputs != outputs:
            add(f"{name}.residual_conv", outputs, inputs, 1)

    add("diffusion_step_encoder.1", 4 * LEVEL, LEVEL)
    add("diffusion_step_encoder.3", LEVEL, 4 * LEVEL)
    steps = list(zip((ACTIONS, *WIDTHS[:-1]), WIDTHS, strict=True))
    for level, (inputs, outputs) in enumerate(steps):
        block(f"down_modules.{level}.0", inputs, outputs)
        block(f"down_modules.{level}.1", outputs, outputs)
        if level < len(WIDTHS) - 1:
            add(f"down_modules.{level}.2", outputs, outputs, 3)
    for number in (0, 1):
        block(f"mid_modules.{number}", WIDTHS[-1], WIDTHS[-1])
    for level, (inputs, outputs) in enumerate(reversed(steps[1:])):
        block(f"up_modules.{level}.0", 2 * outputs, inputs)
        block(f"up_modules.{level}.1", inputs, inputs)
        add(f"up_modules.{level}.2", inputs, inputs, 4)
    convolution("final_conv.0", WIDTHS[0], WIDTHS[0])
    add("final_conv.1", ACTIONS, WIDTHS[0], 1)
    return found


def plain(w: dict[str, Tensor], x: Tensor, level: float, known: Tensor) -> Tensor:
    """The noise that the checkpoint's U-Net sees in x [B, T, A] at a level, told known [B, d]: plain functions."""

    def of(name: str) -> tuple[Tensor, Tensor]:
        return w[f"{U}{name}.weight"], w[f"{U}{name}.bias"]

    def convolution(name: str, h: Tensor) -> Tensor:
        h = functional.conv1d(h, *of(f"{name}.block.0"), padding=KERNEL // 2)
        return functional.mish(functional.group_norm(h, 8, *of(f"{name}.block.1")))

    def block(name: str, h: Tensor) -> Tensor:
        film = functional.linear(functional.mish(told), *of(f"{name}.cond_encoder.1"))[:, :, None]
        scale, shift = film[:, : film.shape[1] // 2], film[:, film.shape[1] // 2 :]
        inner = convolution(f"{name}.conv2", scale * convolution(f"{name}.conv1", h) + shift)
        if f"{U}{name}.residual_conv.weight" in w:
            h = functional.conv1d(h, *of(f"{name}.residual_conv"))
        return inner + h

    half = LEVEL // 2
    angles = torch.tensor([level * math.exp(-math.log(10000) * k / (half - 1)) for k in range(half)])
    code = torch.cat([angles.sin(), angles.cos()])[None]
    code = functional.mish(functional.linear(code, *of("diffusion_step_encoder.1")))
    code = functional.linear(code, *of("diffusion_step_encoder.3"))
    told = torch.cat([code.expand(len(x), -1), known], 1)
    h, kept = x.transpose(1, 2), []
    for n in range(len(WIDTHS)):
        h = block(f"down_modules.{n}.1", block(f"down_modules.{n}.0", h))
        kept.append(h)
        if n < len(WIDTHS) - 1:
            h = functional.conv1d(h, *of(f"down_modules.{n}.2"), stride=2, padding=1)
    h = block("mid_modules.1", block("mid_modules.0", h))
    for n in range(len(WIDTHS) - 1):
        h = block(f"up_modules.{n}.1", block(f"up_modules.{n}.0", torch.cat([h, kept.pop()], 1)))
        h = functional.conv_transpose1d(h, *of(f"up_modules.{n}.2"), stride=2, padding=1)
    return functional.conv1d(convolution("final_conv.0", h), *of("final_conv.1")).transpose(1, 2)


def write(folder: Path, style: str = "weights", **changed: Any) -> Path:
    """A checkpoint; statistics beside the weights (until 2025), or in a file of the preprocessor."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changed}))
    tensors = weights()
    if style == "weights":
        for name, tensor in STATISTICS.items():
            feature, _, statistic = name.rpartition(".")
            part = "unnormalize_outputs" if feature == "action" else "normalize_inputs"
            tensors[f"{part}.buffer_{feature.replace('.', '_')}.{statistic}"] = tensor
    else:
        file = "policy_preprocessor_step_3_normalizer_processor.safetensors"
        steps = [{"registry_name": "device_processor"}, {"registry_name": "normalizer_processor", "state_file": file}]
        (folder / "policy_preprocessor.json").write_text(json.dumps({"name": "p", "steps": steps}))
        save_file(STATISTICS, str(folder / file))
    save_file(tensors, str(folder / "model.safetensors"))
    return folder


def test_the_network_computes_what_the_checkpoint_s_own_does(tmp_path: Path) -> None:
    policy = pilotage.load(write(tmp_path / "p"))
    draw = torch.Generator().manual_seed(1)
    x, known = torch.randn(5, HORIZON, ACTIONS, generator=draw), torch.randn(5, FRAMES * 7, generator=draw)
    for level in (0, 1, 37, 99):
        told = policy.head.path.scalings(torch.full((5,), level)).c_noise
        with torch.no_grad():
            ours = policy.head.network(x, told.float(), *Condition(known, None, None))
        torch.testing.assert_close(ours, plain(weights(), x, level, known), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("style", "mapped"), [("weights", True), ("preprocessor", True), ("weights", False)])
def test_it_acts_in_raw_units_as_the_published_policy_does(style: str, mapped: bool, tmp_path: Path) -> None:
    """Windows of raw observations, normalised; DDIM at levels 80, 60, 40, 20, 0; actions To−1 … To−2+Ta, raw.

    mapped: whether the configuration says how the state of the world is normalised; otherwise it is not."""
    modes = dict.fromkeys(("STATE", "ACTION", *(["ENV"] if mapped else [])), "MIN_MAX")
    policy = pilotage.load(write(tmp_path / "p", style, normalization_mapping=modes))
    then = torch.tensor([[0.5, 1.0, 5.0, 1.1, 0.5, 2.5, 0.25], [0.1, 3.0, 5.0, 2.0, 1.5, 1.5, 1.0]])
    raw = torch.stack([then, then * torch.tensor([0.9, 0.8, 1.0, 0.7, 0.6, 0.9, 0.5])], 1)
    policy.reset([0, 1], seeds=[7, 8])
    generators = {row: torch.Generator() for row in (0, 1)}
    for row, generator in generators.items():
        generator.set_state(policy._generators[row].get_state())
    ours = torch.stack([policy.act({"state": raw}, [0, 1]) for _ in range(EXECUTED)], 1)
    low, high = (
        torch.cat([STATISTICS[f"observation.state.{end}"], STATISTICS[f"observation.environment_state.{end}"]])
        for end in ("min", "max")
    )
    span = torch.where(high == low, 1e-8, high - low)
    scaled = 2 * (raw - low) / span - 1
    known = (scaled if mapped else torch.cat([scaled[..., :STATE], raw[..., STATE:]], -1)).flatten(1)
    u = torch.arange(101, dtype=torch.float64) / 100
    bars = ((u + 0.008) / 1.008 * math.pi / 2).cos() ** 2
    kept = (1 - (1 - bars[1:] / bars[:-1]).clamp(max=0.999)).cumprod(0)
    x = torch.stack([torch.randn(HORIZON, ACTIONS, generator=generators[row]) for row in (0, 1)])
    for level in (80, 60, 40, 20, 0):
        noise = plain(weights(), x, level, known)
        here, after = float(kept[level]), float(kept[level - 20]) if level else 1.0
        clean = (x - (1 - here) ** 0.5 * noise) / here**0.5
        # The noise is that of the estimate before it is clipped.
        x = after**0.5 * clean.clamp(-1, 1) + (1 - after) ** 0.5 * noise
    executed = x[:, FRAMES - 1 : FRAMES - 1 + EXECUTED]
    expected = (executed + 1) / 2 * (STATISTICS["action.max"] - STATISTICS["action.min"]) + STATISTICS["action.min"]
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-2)


def test_export_writes_it_as_a_policy_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = pilotage.load(write(tmp_path / "theirs"))
    assert main(["export", str(tmp_path / "theirs"), str(tmp_path / "ours")]) == 0
    printed = capsys.readouterr()
    assert "pilotage.load" in printed.out + printed.err
    again = pilotage.load(tmp_path / "ours")
    acted = []
    for one in (policy, again):
        one.reset([0], seeds=[3])
        acted.append(one.act({"state": torch.ones(1, 7)}, [0]))
    assert torch.equal(*acted)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"type": "act"}, "config.json is of a policy 'act'; .*'diffusion' is read"),
        ({"input_features": {"observation.image": {"shape": [3, 96, 96]}}}, "observation.image; .* without cameras"),
        ({"use_film_scale_modulation": False}, "use_film_scale_modulation is False; only True"),
        ({"num_train_timesteps": 1000}, "num_train_timesteps is 1000; only 100"),
        ({"noise_scheduler_type": "DDPM"}, "DDPM in 5 steps; all 100"),
        ({"prediction_type": "v"}, "'v' with 'DDIM'; epsilon or sample"),
        ({"down_dims": [16, 24]}, "model.safetensors does not fit config.json: .* such as"),
        ({"horizon": 6}, "6 actions cannot be halved 2 times"),
        ({"n_action_steps": 8}, "must be at most Tp"),
        ({"normalization_mapping": {"STATE": "QUANTILES"}}, "normalised by QUANTILES; MIN_MAX, MEAN_STD"),
        ({"normalization_mapping": {"STATE": "MEAN_STD"}}, "has no mean and std of observation.state"),
    ],
)
def test_what_it_cannot_read_is_refused_by_name(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        pilotage.load(write(tmp_path / "p", **changed))


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "p")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"model.safetensors cannot be read as safetensors .*download it again"):
        pilotage.load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UsageError, match=r"config.json cannot be read as JSON .*download it again"):
        pilotage.load(folder)


@pytest.mark.parametrize("name", ["epoch=0550-test_mean_score=0.969.ckpt", "model.pth", "policy.pkl"])
def test_a_pickled_checkpoint_is_never_opened(name: str, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return (open, (str(tmp_path / "sprung"), "w"))

    import pickle

    (tmp_path / name).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UsageError, match=r"pickled checkpoint, .* safetensors with the project"):
        pilotage.load(tmp_path / name)
    assert not (tmp_path / "sprung").exists()
