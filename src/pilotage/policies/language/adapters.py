"""PEFT adapters of a language policy: making them, opening them, and the weights that they amount to."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.policies.language.hub import hub_failure

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
WRAPPERS = (".base_layer.", ".original_module.")
"""Within the name of a frozen weight: between the name of its layer and the weight's own."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its class."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def with_adapter(model: Any, adapter: str) -> Any:
    """Return the model, frozen, with a trainable PEFT adapter.

    Args:
        model: a Hugging Face causal LM; it is changed.
        adapter: id or folder of an adapter, or "lora:RANK" for a new LoRA of α = 2·RANK on every linear layer but the
            language head. A new one changes nothing until it is trained, and its weights depend on RANK alone.

    Raises:
        UsageError: peft is not installed, the adapter is absent, of an unknown kind or does not fit, or RANK is no
            whole number above 0.
    """
    try:
        from huggingface_hub import snapshot_download
        from peft import LoraConfig, PeftModel, get_peft_model
    except ImportError as error:
        raise UsageError("adapters need the extra peft: pip install 'pilotage[peft]'") from error
    kind, _, rank = adapter.partition(":")
    if kind == "lora":
        if not rank.isdecimal() or int(rank) < 1:
            raise UsageError(f"a new adapter is written lora:RANK with RANK 1 or more, such as lora:8; not {adapter!r}")
        settings = LoraConfig(
            r=int(rank), lora_alpha=2 * int(rank), lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            try:
                return get_peft_model(model, settings)
            except (ValueError, TypeError, NotImplementedError) as error:
                raise UsageError(
                    f"a new LoRA does not fit this {model.config.model_type} model ({first_line(error)}); give the "
                    "folder of an adapter made for it, or train without one"
                ) from error
    folder = Path(adapter).expanduser()
    offline = "" if folder.exists() else hub_failure()
    if not folder.exists():
        try:
            folder = Path(
                snapshot_download(adapter, allow_patterns=list(ADAPTER_FILES), local_files_only=bool(offline))
            )
        except (OSError, ValueError) as error:
            raise UsageError(
                f"the adapter {adapter} is no folder, and could not be downloaded ({offline or first_line(error)}); "
                "give the folder that PEFT's save_pretrained writes"
            ) from error
    absent = [name for name in ADAPTER_FILES if not (folder / name).is_file()]
    if absent:
        raise UsageError(
            f"{folder} has no {' and no '.join(absent)}; expected the folder that PEFT's save_pretrained writes"
        )
    try:
        opened = PeftModel.from_pretrained(model, str(folder), is_trainable=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise UsageError(
            f"the adapter {adapter} does not fit the model ({first_line(error)}); expected adapter_config.json of a "
            "kind that the installed peft knows, with layers that the model has"
        ) from error
    check_adapter(opened)
    return opened


def is_adapted(model: Any) -> bool:
    """Return whether the model carries PEFT adapters."""
    return hasattr(model, "peft_config") and hasattr(model, "get_base_model")


def check_adapter(model: Any) -> None:
    """Refuse adapters whose effect does not lie on the weights of the model, and those merged into them.

    Raises UsageError.
    """
    base = model.get_base_model()
    inside = {id(parameter) for parameter in base.parameters()}
    outside = [name for name, parameter in model.named_parameters() if id(parameter) not in inside]
    kinds = ", ".join(sorted({str(getattr(c.peft_type, "value", c.peft_type)) for c in model.peft_config.values()}))
    if outside:
        raise UsageError(
            f"the adapter ({kinds}) acts through {outside[0]}, which is no weight of the model, so nothing could be "
            "handed to the sampler or exported; give an adapter of weights, such as LoRA"
        )
    layers = _adapted_layers(base)
    merged = [name for name, layer in layers.items() if getattr(layer, "merged", False)]
    if merged:
        raise UsageError(f"the adapter at {merged[0]} is merged into its frozen weights; call unmerge_adapter() first")
    for name, layer in layers.items():
        if not hasattr(layer, "merge") and not hasattr(layer, "unload_and_optionally_merge_module"):
            raise UsageError(
                f"the adapter ({kinds}) at {name} is a {type(layer).__name__}, which cannot be merged for sampling; "
                "give an adapter of weights, such as LoRA"
            )


def named_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights under their plain Hugging Face names, without gradient: what an engine's `load` takes.

    Adapters are merged into copies, in float32 at least; the frozen weights are only read, so they cannot drift.
    Weights that the model ties are yielded once, unless adapters tell them apart: then each has a name of its own.
    Raises UsageError for an adapter that cannot be merged.
    """
    if not is_adapted(model):
        for name, parameter in model.named_parameters():
            yield name, parameter.detach()
        return
    check_adapter(model)
    base = model.get_base_model()
    layers = _adapted_layers(base)
    plain: dict[str, tuple[nn.Parameter, str | None]] = {}
    for name, parameter in base.named_parameters(remove_duplicate=False):
        owner = _owner(name, layers)
        if owner is None:
            plain[name] = parameter, None
        elif (wrapper := next((w for w in WRAPPERS if w in name.removeprefix(owner)), None)) is not None:
            plain[f"{owner}.{name.rpartition(wrapper)[2]}"] = parameter, owner
    yielded: set[tuple[int, str | None]] = set()
    merged: dict[str, dict[str, Tensor]] = {}
    for name, (parameter, owner) in plain.items():
        if (id(parameter), owner) in yielded:
            continue
        yielded.add((id(parameter), owner))
        if owner is None:
            yield name, parameter.detach()
            continue
        if owner not in merged:
            merged = {owner: _merged(owner, layers[owner])}
        yield name, merged[owner][name.removeprefix(f"{owner}.")]


def _adapted_layers(base: nn.Module) -> dict[str, Any]:
    """Return the outermost modules by which adapters replace layers of the model."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    found: dict[str, Any] = {}
    for name, module in base.named_modules(remove_duplicate=False):
        if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper) and _owner(name, found) is None:
            found[name] = module
    return found


def _owner(name: str, layers: dict[str, Any]) -> str | None:
    """Return the adapted layer to which a parameter or module belongs, by name."""
    parts = name.split(".")
    return next((".".join(parts[:n]) for n in range(1, len(parts)) if ".".join(parts[:n]) in layers), None)


def _merged(name: str, layer: Any) -> dict[str, Tensor]:
    """Return the weights of one layer with its active adapters merged, by their names within the layer."""
    active = [] if layer.disable_adapters else list(layer.active_adapters)
    if _is_plain_lora(layer):
        # Copies of PEFT's layers take milliseconds each, and this is done for every layer at every step.
        weights = {leaf: parameter.detach() for leaf, parameter in layer.base_layer.named_parameters()}
        for adapter in active:
            if adapter in layer.lora_A:
                weights["weight"] = _wide(weights["weight"]) + _wide(layer.get_delta_weight(adapter).detach())
        return weights
    layer = copy.deepcopy(layer)
    if any(parameter.dtype in (torch.bfloat16, torch.float16) for parameter in layer.parameters()):
        layer = layer.float()
    try:
        with torch.no_grad():
            if hasattr(layer, "unload_and_optionally_merge_module"):
                if layer.disable_adapters:
                    plain = layer.original_module
                else:
                    plain = layer.unload_and_optionally_merge_module(True, False, active)
            else:
                if active:
                    layer.merge(safe_merge=False, adapter_names=active)
                plain = layer.get_base_layer()
    except (NotImplementedError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(
            f"the adapter at {name} cannot be merged for sampling ({first_line(error)}); give one whose effect is a "
            "change of weights that the layer has, such as LoRA with lora_bias=False"
        ) from error
    return {leaf: parameter.detach() for leaf, parameter in plain.named_parameters()}


def _is_plain_lora(layer: Any) -> bool:
    """Return whether the layer computes x·(W + ΣBA) and nothing else."""
    return (
        hasattr(layer, "lora_A")
        and type(layer.base_layer) is nn.Linear
        and not layer.lora_variant
        and not any(layer.lora_bias.values())
    )


def _wide(tensor: Tensor) -> Tensor:
    """Return the tensor in float32 at least."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
