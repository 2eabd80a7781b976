"""A warning for parameters that a backward pass does not reach, instead of a silent None."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor


def watched(outputs: Mapping[str, Tensor], parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the outputs, hooked so that the first backward pass warns of parameters that it does not reach.

    outputs: tensors of one shape by name. parameters: tensors by name; those that require gradients are watched.
    """
    wanted = {name: value for name, value in parameters.items() if value.requires_grad}
    joined = torch.stack(list(outputs.values()))
    if not wanted:
        return dict(outputs)
    if not joined.requires_grad:
        # No backward pass will ever start here: say it now.
        _warn(list(wanted), list(outputs))
        return dict(outputs)
    columns = list(outputs.items())
    done: list[bool] = []

    def hook(gradient: Tensor) -> None:
        if done:
            return
        done.append(True)
        used = [(name, column) for (name, column), g in zip(columns, gradient, strict=True) if g.any()]
        if used:
            met = _reachable([column for _, column in used])
            missing = [name for name, value in wanted.items() if _node(value) not in met]
            _warn(missing, [name for name, _ in used])

    joined.register_hook(hook)
    return dict(zip(outputs, joined.unbind(), strict=True))


def _warn(missing: list[str], used: list[str]) -> None:
    if missing:
        warnings.warn(
            f"no gradient reaches {', '.join(missing)} from {', '.join(used)}: it was detached on the way, or the loss "
            "needs another output (deaths for fatality); an optimiser would leave it as it is",
            UserWarning,
            stacklevel=2,
        )


def _node(value: Tensor) -> object:
    """Return the identity of a tensor in the graph."""
    return value.grad_fn if value.grad_fn is not None else id(value)


def _reachable(tensors: list[Tensor]) -> set[object]:
    """Return the nodes, and ids of leaves, that a backward pass from these tensors meets."""
    seen: set[object] = set()
    waiting = [tensor.grad_fn for tensor in tensors]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            seen.add(id(node.variable))
        waiting.extend(following for following, _ in node.next_functions)
    return seen
