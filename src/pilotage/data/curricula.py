"""Which prompts to roll out next: in shuffled epochs, or where the policy has most to learn (VADE)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from pilotage.core.errors import UsageError
from pilotage.data.pass_rates import BetaPassRate, moment_prior

Score = Literal["p(1-p)^2", "p(1-p)"]
Draw = Literal["thompson", "greedy"]
Update = Literal["two-scale", "last", "none"]

_LEAST_FOR_A_PRIOR = 8
"""Visited prompts from which a group's prior is fitted."""


class UniformSampler:
    """Sampler that takes every prompt once per epoch, each epoch in another order.

    size: number of prompts; seed: of the orders. The order of an epoch depends on (seed, epoch) and on nothing else.
    """

    def __init__(self, size: int, *, seed: int = 0) -> None:
        if size < 1:
            raise UsageError(f"a sampler over {size} prompts was asked for; expected at least 1")
        self.size, self.seed = size, seed
        self.epoch = self.position = 0
        self._order = self._shuffled(0)

    def select(self, count: int) -> np.ndarray:
        """Return the next prompts; a batch may end one epoch and begin another, [count] int64."""
        if count < 1:
            raise UsageError(f"{count} prompts were asked for; expected at least 1")
        parts = []
        while count > 0:
            part = self._order[self.position : self.position + count]
            parts.append(part)
            count -= len(part)
            self.position += len(part)
            if self.position == self.size:
                self.epoch, self.position = self.epoch + 1, 0
                self._order = self._shuffled(self.epoch)
        return np.concatenate(parts)

    def update(self, items: np.ndarray, right: np.ndarray, total: np.ndarray) -> None:
        """Do nothing: the order does not depend on the scores."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        return {"size": self.size, "seed": self.seed, "epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state. Raises UsageError when it is that of another number of prompts."""
        _refuse_other_size(state["size"], self.size)
        self.seed, self.epoch, self.position = int(state["seed"]), int(state["epoch"]), int(state["position"])
        self._order = self._shuffled(self.epoch)

    def _shuffled(self, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, epoch]).permutation(self.size)


class BetaThompsonSampler:
    """Sampler of the prompts whose pass rate, drawn from its posterior, promises most (VADE, arXiv 2511.18902).

    After a step the counts of the prompts that were rolled out are multiplied by `retain_selected`, all others by
    `retain_others`, and the new answers are added: what the policy was just trained on is soon out of date.

    size: number of prompts N.
    retain_selected, retain_others: λ1 and λ2 in (0, 1].
    score: p(1-p)², highest at 1/3: hard but solvable; or p(1-p), the variance of a reward.
    draw: "thompson": p is drawn from the posterior; "greedy": p is its mean, ties in random order.
    update: "two-scale" as above; "last": only the latest answers count (λ1 = 0, λ2 = 1); "none": nothing is forgotten
        (λ1 = λ2 = 1).
    mixing: chance in [0, 1] that a place in the batch goes to a uniformly drawn prompt instead (ours, default 0).
    cooldown: selections for which a prompt that was chosen is left out (ours, default 0).
    prior: (a, b) or [N, 2]; or "moments": fitted after every step to the pass rates of the visited prompts, for each
        of `groups` on its own (ours; helps where prompts are visited about once).
    groups: [N] whole numbers, such as levels of difficulty or sources; only used by "moments".
    seed: of the draws. Every process that has the same seed and gets the same updates selects the same prompts.
    """

    def __init__(
        self,
        size: int,
        *,
        retain_selected: float = 0.2,
        retain_others: float = 0.999,
        score: Score = "p(1-p)^2",
        draw: Draw = "thompson",
        update: Update = "two-scale",
        mixing: float = 0.0,
        cooldown: int = 0,
        prior: ArrayLike | Literal["moments"] = (1.0, 1.0),
        groups: ArrayLike | None = None,
        seed: int = 0,
    ) -> None:
        for name, value, known in (("score", score, Score), ("draw", draw, Draw), ("update", update, Update)):
            if value not in get_args(known):
                raise UsageError(f"{name}={value!r} is unknown; there are {', '.join(get_args(known))}")
        for name, number in (("retain_selected", retain_selected), ("retain_others", retain_others)):
            if not 0 < number <= 1:
                raise UsageError(f"{name}={number} was given; expected a factor in (0, 1]")
        if not 0 <= mixing <= 1 or cooldown < 0:
            raise UsageError(
                f"mixing={mixing}, cooldown={cooldown} were given; expected mixing in [0, 1], cooldown ≥ 0"
            )
        self.fits_prior = isinstance(prior, str)
        if isinstance(prior, str) and prior != "moments":
            raise UsageError(f"prior={prior!r} is unknown; expected (a, b), an array [N, 2] or 'moments'")
        self.rates = BetaPassRate(size, (1.0, 1.0) if isinstance(prior, str) else prior)
        self.size, self.score, self.draw, self.mixing, self.cooldown = size, score, draw, mixing, cooldown
        self._retain = {"two-scale": (retain_selected, retain_others), "last": (0.0, 1.0), "none": (1.0, 1.0)}[update]
        self._groups = self._grouped(groups)
        self._generator = np.random.default_rng(seed)
        self._chosen = np.full(size, -1 - cooldown, dtype=np.int64)
        self._selections = 0
        self._warned = False

    def select(self, count: int) -> np.ndarray:
        """Return different prompts, the most promising first (with mixing, the uniformly drawn ones last), [count]
        int64.

        Warns once when there are fewer than 2·count prompts, among which there is little to choose. Raises UsageError
        when there are fewer than `count` (in a cooldown: outside of it).
        """
        rested = np.flatnonzero(self._selections - self._chosen > self.cooldown)
        if not 1 <= count <= len(rested):
            raise UsageError(
                f"{count} prompts were asked for and {len(rested)} of {self.size} can be chosen (cooldown "
                f"{self.cooldown}); expected 1 to {len(rested)}: use more prompts, a smaller batch or no cooldown"
            )
        if self.size < 2 * count and not self._warned:
            self._warned = True
            warnings.warn(
                f"{count} of only {self.size} prompts are chosen at each step, so nearly all of them; a curriculum "
                "needs at least twice as many prompts as a batch",
                stacklevel=2,
            )
        promise = self.promise()[rested]
        uniform = int(self._generator.binomial(count, self.mixing)) if self.mixing else 0
        best = count - uniform
        order = self._generator.permutation(len(rested))  # random order among ties
        if best < len(rested):
            order = order[np.argpartition(-promise[order], best)] if best else order
        chosen = order[:best][np.argsort(-promise[order[:best]], kind="stable")]
        if uniform:
            chosen = np.concatenate([chosen, self._generator.choice(order[best:], uniform, replace=False)])
        rows = rested[chosen]
        self._chosen[rows] = self._selections
        self._selections += 1
        return rows

    def promise(self) -> np.ndarray:
        """Return the score of every prompt at a pass rate drawn now (greedy: the posterior mean), [N]."""
        p = self.rates.draw(self._generator) if self.draw == "thompson" else self.rates.mean()
        return information(p, self.score)

    def never_solved(self) -> np.ndarray:
        """Return rows that were answered at least 8 times, never right: unanswerable or mislabelled, perhaps."""
        return self.rates.never_solved()

    def update(self, items: np.ndarray, right: np.ndarray, total: np.ndarray) -> None:
        """Forget and count. items: [B] rows that were rolled out; right: [B] sums of their scores, scaled to [0, 1]
        each; total: [B] numbers of answers. Raises UsageError for right > total.
        """
        selected, others = self._retain
        self.rates.observe(items, right, total, retain_rows=selected, retain_others=others)
        if self.fits_prior:
            self._fit_prior()

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        return {
            "rates": self.rates.state_dict(),
            "generator": self._generator.bit_generator.state,
            "chosen": self._chosen.copy(),
            "selections": self._selections,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state. Raises UsageError when it is that of another number of prompts."""
        _refuse_other_size(len(state["chosen"]), self.size)
        self.rates.load_state_dict(state["rates"])
        self._generator.bit_generator.state = state["generator"]
        self._chosen = np.array(state["chosen"], dtype=np.int64)
        self._selections = int(state["selections"])

    def _grouped(self, groups: ArrayLike | None) -> np.ndarray:
        values = np.zeros(self.size, dtype=np.int64) if groups is None else np.asarray(groups)
        if values.shape != (self.size,):
            raise UsageError(
                f"groups must have one number for each of {self.size} prompts, not the shape {values.shape}"
            )
        return np.unique(values, return_inverse=True)[1]

    def _fit_prior(self) -> None:
        prior = np.ones((self.size, 2))
        answers = self.rates.right + self.rates.wrong
        known = answers > 0.5
        for group in range(int(self._groups.max()) + 1):
            members = self._groups == group
            rows = np.flatnonzero(members & known)
            if len(rows) >= _LEAST_FOR_A_PRIOR:
                prior[members] = moment_prior(self.rates.right[rows] / answers[rows], answers[rows])
        self.rates.set_prior(prior)


def information(p: np.ndarray, score: Score) -> np.ndarray:
    """Return what a group of answers promises at the pass rate p in [0, 1], elementwise: p(1-p)² or p(1-p)."""
    return p * (1 - p) ** (2 if score == "p(1-p)^2" else 1)


def _refuse_other_size(saved: int, size: int) -> None:
    if saved != size:
        raise UsageError(f"the saved sampler is over {saved} prompts, but there are {size}: resume with the same data")
