"""How good a policy is on prompts it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pilotage.types import Engine, Item, Request, Sampling


@dataclass
class HeldOut:
    """Answers of one evaluation, with their scores."""

    items: Sequence[Item]
    right: np.ndarray
    """[items, answers] in [0, 1]: whether the answer is right, NaN where that is not known."""
    well_formed: np.ndarray
    """[items, answers] in [0, 1]: whether the answer keeps the task's grammar (1 where the task has none)."""
    entropy: float
    """Mean entropy in nats over all tokens, of the sampled-from distribution; NaN where the engine gives none."""
    answer_entropy: float
    """Mean over answers of each answer's mean entropy in nats per token; NaN where the engine gives none."""
    length: float
    """Mean answer length in tokens."""
    tokens: int
    """Tokens generated."""
    texts: list[list[str]] = field(default_factory=list)
    reward: np.ndarray | None = None
    """[items, answers]: the reward that is trained on, NaN where it could not be made; None when it was not asked."""

    def metrics(self, prefix: str = "held_out") -> dict[str, float]:
        """Return the metrics; accuracy is the mean over difficulties, however many items each has."""
        out: dict[str, float] = {}
        if not np.isnan(self.right).all():
            given = np.array([item.difficulty for item in self.items])
            by_difficulty = {int(one): _mean(self.right[given == one]) for one in np.unique(given)}
            out[f"{prefix}/accuracy"] = float(np.mean(list(by_difficulty.values())))
            out |= {f"{prefix}/accuracy/level_{one}": value for one, value in by_difficulty.items()}
        if self.reward is not None:
            out[f"{prefix}/reward"] = _mean(self.reward)
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
    check: Callable[[list[str], list[Item]], Sequence[float]] | None,
    max_new: Callable[[int], int],
    samples: int,
    sampling: Sampling,
    seed: Callable[[int], int],
    well_formed: Callable[[Item, str], bool] | None = None,
    reward: Callable[[list[str], list[Item], np.ndarray], Sequence[float]] | None = None,
) -> HeldOut:
    """Return `samples` answers to every item, scored. An answer cut at the token limit counts as it is scored.

    Args:
        engine: what samples.
        items: the held-out prompts.
        encode: gives the token ids of an item's prompt.
        decode: gives the text of an answer's token ids.
        check: `check(texts, items)` gives whether each answer is right, in [0, 1], NaN where that could not be told
            (left out of the means); None where nothing says what is right.
        max_new: gives the token limit of a difficulty.
        samples: answers per item.
        sampling: how tokens are drawn.
        seed: `seed(i)` seeds item i, so that the same noise meets every policy.
        well_formed: tells whether an answer keeps the task's grammar; None for a task without one.
        reward: `reward(texts, items, lengths)` gives the reward that is trained on, NaN where it could not be made.
    """
    requests = [
        Request(ids=encode(item), max_tokens=max_new(item.difficulty), n=samples, seed=seed(i))
        for i, item in enumerate(items)
    ]
    groups = engine.generate(requests, sampling)
    texts = [[decode(completion.ids.tolist()) for completion in group] for group in groups]
    entropies = [c.entropy for group in groups for c in group if c.entropy is not None]
    lengths = [len(c.ids) for group in groups for c in group]
    answers, asked = [text for row in texts for text in row], [item for item in items for _ in range(samples)]
    right = [float("nan")] * len(answers) if check is None else check(answers, asked)
    rewarded = None if reward is None else reward(answers, asked, np.array(lengths))
    return HeldOut(
        items=items,
        right=np.array(right, dtype=float).reshape(len(items), samples),
        reward=None if rewarded is None else np.array(rewarded, dtype=float).reshape(len(items), samples),
        well_formed=np.array(
            [
                [float(well_formed(item, text)) if well_formed else 1.0 for text in row]
                for item, row in zip(items, texts, strict=True)
            ]
        ),
        entropy=float(np.concatenate(entropies).mean()) if entropies else float("nan"),
        answer_entropy=_mean(np.array([e.mean() for e in entropies if len(e)], dtype=float)),
        length=float(np.mean(lengths)) if lengths else 0.0,
        tokens=int(np.sum(lengths)),
        texts=texts,
    )


def _mean(values: np.ndarray) -> float:
    """Return the mean of what is known; NaN when nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
