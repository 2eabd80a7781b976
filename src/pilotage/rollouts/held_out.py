"""How good a policy is on prompts it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pilotage.types import Engine, Item, Request, Sampling


@dataclass
class HeldOut:
    """The answers of one evaluation: `right[i, j]` in [0, 1] is the score of answer j to item i."""

    items: Sequence[Item]
    right: np.ndarray
    well_formed: np.ndarray
    """[items, answers] in [0, 1]: whether the answer keeps the task's grammar (1 where the task has none)."""
    entropy: float
    """Mean entropy in nats per token of the sampled-from distribution; NaN where the engine gives none."""
    length: float
    """Mean answer length in tokens."""
    tokens: int
    """Tokens generated."""
    texts: list[list[str]] = field(default_factory=list)

    def metrics(self, prefix: str = "held_out") -> dict[str, float]:
        """Return the metrics; accuracy is the mean over difficulties, however many items each has."""
        given = np.array([item.difficulty for item in self.items])
        by_difficulty = {int(one): float(np.nanmean(self.right[given == one])) for one in np.unique(given)}
        out = {f"{prefix}/accuracy": float(np.mean(list(by_difficulty.values())))}
        out |= {f"{prefix}/accuracy/level_{one}": value for one, value in by_difficulty.items()}
        out[f"{prefix}/well_formed"] = float(self.well_formed.mean())
        out[f"{prefix}/length"] = self.length
        if np.isfinite(self.entropy):
            out[f"{prefix}/entropy"] = self.entropy
        return out


def held_out(
    engine: Engine,
    items: Sequence[Item],
    *,
    encode: Callable[[Item], Sequence[int]],
    decode: Callable[[Sequence[int]], str],
    judge: Callable[[list[str], list[Item]], Sequence[float]],
    max_new: Callable[[int], int],
    samples: int,
    sampling: Sampling,
    seed: Callable[[int], int],
    well_formed: Callable[[Item, str], bool] | None = None,
) -> HeldOut:
    """`samples` answers to every item, judged. `seed(i)` seeds item i, so that the same noise meets every policy.

    `judge(texts, items)` gives a score in [0, 1] for each answer, NaN where it could not be judged (left out of the
    means). An answer that was cut at the token limit counts as it is scored.
    """
    requests = [
        Request(ids=encode(item), max_tokens=max_new(item.difficulty), n=samples, seed=seed(i))
        for i, item in enumerate(items)
    ]
    groups = engine.generate(requests, sampling)
    texts = [[decode(completion.ids.tolist()) for completion in group] for group in groups]
    entropies = [c.entropy for group in groups for c in group if c.entropy is not None]
    lengths = [len(c.ids) for group in groups for c in group]
    scores = judge([text for row in texts for text in row], [item for item in items for _ in range(samples)])
    return HeldOut(
        items=items,
        right=np.array(scores, dtype=float).reshape(len(items), samples),
        well_formed=np.array(
            [
                [float(well_formed(item, text)) if well_formed else 1.0 for text in row]
                for item, row in zip(items, texts, strict=True)
            ]
        ),
        entropy=float(np.concatenate(entropies).mean()) if entropies else float("nan"),
        length=float(np.mean(lengths)) if lengths else 0.0,
        tokens=int(np.sum(lengths)),
        texts=texts,
    )
