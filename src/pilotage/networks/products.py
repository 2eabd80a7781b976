"""Whether the factors of matrix products are float32 or bfloat16; inputs, outputs and weights stay float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pilotage.core.errors import UsageError

PRODUCTS = ("auto", "float32", "bfloat16")


@cache
def has_bfloat16_units() -> bool:
    """Return whether the processor multiplies bfloat16 matrices in hardware (AMX); without it bfloat16 is slower."""
    information = Path("/proc/cpuinfo")
    return information.is_file() and "amx_bf16" in information.read_text(encoding="utf-8")


def resolve_products(setting: str) -> str:
    """Return "float32" or "bfloat16" from a setting; "auto" takes bfloat16 where the processor has the units.

    Raises UsageError for another setting.
    """
    if setting not in PRODUCTS:
        raise UsageError(f"products={setting!r} is not known; choose one of {', '.join(PRODUCTS)}")
    if setting == "auto":
        return "bfloat16" if has_bfloat16_units() else "float32"
    return setting


class _Bfloat16Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        rounded, factor = inputs.to(torch.bfloat16), weight.to(torch.bfloat16)
        ctx.save_for_backward(rounded, factor)
        return functional.linear(rounded, factor).to(inputs.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        rounded, factor = ctx.saved_tensors
        gradient = gradients[0].to(torch.bfloat16)
        to_inputs = gradient @ factor if ctx.needs_input_grad[0] else None
        to_weight = gradient.flatten(0, -2).t() @ rounded.flatten(0, -2) if ctx.needs_input_grad[1] else None
        return (
            None if to_inputs is None else to_inputs.to(gradients[0].dtype),
            None if to_weight is None else to_weight.to(gradients[0].dtype),
        )


def _bfloat16_forward(linear: nn.Linear, inputs: Tensor) -> Tensor:
    product = _Bfloat16Product.apply(inputs, linear.weight)
    return product if linear.bias is None else product + linear.bias


@contextmanager
def bfloat16_products(model: nn.Module, enabled: bool = True) -> Iterator[None]:
    """Multiply in bfloat16 in every `nn.Linear` of the model within the block, forward and backward.

    Weights, inputs, outputs and gradients stay float32; biases are added in float32.
    """
    layers = [module for module in model.modules() if type(module) is nn.Linear] if enabled else []
    for layer in layers:
        layer.forward = _bfloat16_forward.__get__(layer)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
