"""The matrix products of a step and nothing else: no attention, no norms, no sampling, no optimiser.

What no trainer of this model on this machine can go below in float32, so that the rest of a step's time can be told
from it. Products of decoding have as many rows as there are unfinished answers; those of the update one row per token,
once forwards and twice backwards."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks import workload
from benchmarks.child import Turn

CHUNK = 4096
"""Rows per product of the update."""


def shapes(size: str = "1.6M") -> list[tuple[int, int]]:
    """(inputs, outputs) of every product of one token's forward pass."""
    own = workload.SIZES[size]
    width, inner = own["hidden_size"], own["intermediate_size"]
    fused = width + 2 * own["num_key_value_heads"] * (width // own["num_attention_heads"])
    layer = [(width, fused), (width, width), (width, 2 * inner), (inner, width)]
    return [*(layer * 4), (width, len(workload.tokenizer()))]


def step(turn: Turn, *, prompts: int, answers: int, length: int, width: int, natural: bool, train: bool = True) -> None:
    """The products of sampling and, with `train`, of one update on prompts of `width` tokens, each computed once."""
    rows = prompts * answers
    limits = workload.lengths(rows, length, natural)
    living = [int((limits > position).sum()) for position in range(length)]
    most = max(rows, CHUNK)
    sets = [(torch.randn(most, i), torch.randn(i, o), torch.randn(most, o)) for i, o in shapes()]
    tokens = int(limits.sum()) + prompts * width

    def forward(count: int) -> None:
        for left, weight, _ in sets:
            torch.mm(left[:count], weight)

    def backward(count: int) -> None:
        for left, weight, gradient in sets:
            torch.mm(gradient[:count], weight.t())
            torch.mm(left[:count].t(), gradient[:count])

    def repetition() -> dict[str, float]:
        with torch.inference_mode():
            _in_chunks(prompts * width, forward)
            for count in living:
                forward(count)
            if train:
                _in_chunks(tokens, forward)
                _in_chunks(tokens, backward)
        return {"tokens": float(limits.sum())}

    turn.serve(repetition)


def _in_chunks(count: int, product: Callable[[int], None]) -> None:
    for start in range(0, count, CHUNK):
        product(min(CHUNK, count - start))
