"""S20: every number of a step can be computed again from its saved answers, and the loss consumed what was logged."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.properties.runs import DIGITS, run_in, small

from pilotage.training.language.trainer import TextTrainer

NAMES = ["grpo", "gtpo", "riskpo", "dapo", "ppo"]
ELSEWHERE = {
    "step": "the index",
    "lr": "the configuration",
    "loss": "the model's log-probabilities",
    "ratio": "the model's log-probabilities",
    "kl_old": "the model's log-probabilities",
    "logp": "the model's log-probabilities",
    "gradient_norm": "the model's gradient",
    "sampler_gap": "the model's and the engine's log-probabilities",
    "weights/mean": "the token ids",
    "critic/loss": "the critic",
    "critic/explained_variance": "the critic",
    "samples/rounds": "answers that a filter discarded",
}
"""What saved answers do not hold, and what would be needed."""
OF_ALL_SAMPLED = {"samples/total", "tokens/total", "groups/zero_variance"}
"""Metrics that also count what a filter or a greedy baseline used up."""


def per_token(rows: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    found: list[float] = []
    for row in rows:
        advantage = row["advantage"]
        found += advantage if isinstance(advantage, list) else [advantage] * row["length"]
    return torch.tensor(found, dtype=torch.float64)


def computed(rows: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The metrics of a step from its saved answers, and the totals with those `before`."""
    reward = torch.tensor([row["reward"] for row in rows], dtype=torch.float64)
    length = torch.tensor([row["length"] for row in rows], dtype=torch.float64)
    advantage = per_token(rows)
    groups: dict[int, set[float]] = defaultdict(set)
    for row in rows:
        groups[row["group"]].add(row["score"])
    out = {
        "reward/mean": reward.mean(),
        "reward/std": reward.std(unbiased=False),
        "advantage/mean": advantage.mean(),
        "advantage/std": advantage.std(unbiased=False),
        "advantage/nonzero": sum(bool(per_token([row]).any()) for row in rows) / len(rows),
        "length/mean": length.mean(),
        "truncated": sum(row["stop"] == "length" for row in rows) / len(rows),
        "groups/trained": len(groups),
        "groups/zero_variance": sum(len(scores) == 1 for scores in groups.values()) / len(groups),
        "samples/total": len(rows) + len(before),
        "tokens/total": sum(row["length"] for row in [*rows, *before]),
    }
    if all("entropy" in row for row in rows):
        out["entropy"] = sum(row["entropy"] * row["length"] for row in rows) / length.sum()
    return {name: float(value) for name, value in out.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_can_be_computed_again_from_the_saved_answers(name: str, tmp_path: Path) -> None:
    reward = "all_or_nothing" if name == "dapo" else "digits"
    written = run_in(tmp_path / "run", small(name, steps=4, reward=f"{DIGITS}:{reward}"))
    checked: set[str] = set()
    for line in written.metrics[1:]:
        rows = written.at(line["step"])
        expected = computed(rows, [row for row in written.rollouts if row["step"] < line["step"]])
        for metric, value in line.items():
            if metric in ELSEWHERE or metric.startswith("held_out/"):
                continue
            if name == "dapo" and metric in OF_ALL_SAMPLED:
                assert metric == "groups/zero_variance" or value >= expected[metric]
                continue
            assert math.isclose(value, expected[metric], rel_tol=1e-5, abs_tol=2e-6), (line["step"], metric)
            checked.add(metric)
    assert len(checked) >= (8 if name == "dapo" else 11)


@pytest.mark.parametrize("name", NAMES)
def test_the_logged_advantage_is_the_tensor_that_the_loss_consumed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the surrogate got as its argument, against rollouts.jsonl and the metrics."""
    consumed: dict[int, list[torch.Tensor]] = defaultdict(list)
    now = [0]
    learn = TextTrainer.learn

    def spied(self: TextTrainer, step: int, rollouts: Any) -> dict[str, float]:
        piece, now[0] = self.pieces.surrogate[0], step + 1
        if not hasattr(self, "spied"):
            self.spied, plain = True, piece.function
            place = (*piece.needs, "advantage").index("advantage")

            def record(*columns: torch.Tensor, **options: Any) -> torch.Tensor:
                mask = columns[piece.needs.index("mask")] if "mask" in piece.needs else None
                given = columns[place].double()
                consumed[now[0]].append((given if mask is None else given[mask]).flatten())
                return plain(*columns, **options)

            piece.function = record
        return learn(self, step, rollouts)

    monkeypatch.setattr(TextTrainer, "learn", spied)
    written = run_in(tmp_path / "run", small(name, tokens_per_batch=10**6))
    assert consumed
    for step, parts in consumed.items():
        seen = torch.cat(parts)
        logged = per_token(written.at(step))
        seen = seen[seen != 0].sort().values
        torch.testing.assert_close(seen, logged[logged != 0].sort().values, atol=1e-6, rtol=1e-6)
