"""What is reported of held-out prompts."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from pilotage.rollouts.held_out import HeldOut, held_out
from pilotage.types import Completion, Item, Sampling

ITEMS = [Item(str(number), "", "", difficulty=1 + number // 2) for number in range(3)]


def answered(**options) -> HeldOut:
    def generate(requests, _):
        return [
            [Completion(np.arange(position + 1), np.zeros(position + 1), "eos", 0) for position in range(request.n)]
            for request in requests
        ]

    return held_out(
        options.pop("engine", SimpleNamespace(generate=generate)),
        ITEMS,
        encode=lambda _: [1],
        decode=lambda ids: str(len(ids)),
        max_new=lambda _: 4,
        samples=2,
        sampling=Sampling(),
        seed=lambda index: index,
        **options,
    )


def test_accuracy_is_the_mean_over_difficulties_and_the_reward_that_over_answers() -> None:
    found = answered(
        check=lambda texts, items: [float(text == item.id) for text, item in zip(texts, items, strict=True)],
        reward=lambda texts, _, lengths: [float(text) + length for text, length in zip(texts, lengths, strict=True)],
    )
    metrics = found.metrics()
    assert metrics["held_out/accuracy"] == pytest.approx((0.25 + 0.5) / 2)
    assert metrics["held_out/accuracy/level_1"] == 0.25
    assert metrics["held_out/reward"] == pytest.approx((2 + 4) / 2)


def test_what_is_not_known_is_left_out() -> None:
    nan = float("nan")
    metrics = answered(check=None, reward=lambda *_: [1.0, nan, 3.0, nan, nan, nan]).metrics()
    assert "held_out/accuracy" not in metrics
    assert metrics["held_out/reward"] == 2.0
    assert "held_out/reward" not in answered(check=lambda texts, _: [1.0] * len(texts)).metrics()


def test_the_entropy_of_answers_is_their_mean_whatever_their_length() -> None:
    def generate(requests, _):
        entropies = [np.array([0.1]), np.array([0.7, 0.7, 0.7, 0.7])]
        return [[Completion(np.arange(len(e)), e, "eos", 0, entropy=e) for e in entropies] for _ in requests]

    found = answered(check=None, engine=SimpleNamespace(generate=generate))
    assert found.entropy == pytest.approx((0.1 + 4 * 0.7) / 5)
    assert found.answer_entropy == pytest.approx((0.1 + 0.7) / 2)
    assert np.isnan(answered(check=None).answer_entropy)
