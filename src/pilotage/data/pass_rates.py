"""What is known about the pass rate of each prompt while the policy changes: Beta posteriors with forgetting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pilotage.core.errors import UsageError

_NEVER = -1


class BetaPassRate:
    """Pass rates of N prompts as Beta distributions, Beta(right + a, wrong + b), from counts of their answers.

    size: N. prior: (a, b), the same for all prompts, or an array [N, 2]; the default is the uniform distribution.
    Everything is an array over the prompts, so that a million of them are no problem (40 bytes each).
    Raises UsageError for a prior that is not positive.
    """

    def __init__(self, size: int, prior: ArrayLike = (1.0, 1.0)) -> None:
        if size < 1:
            raise UsageError(f"pass rates of {size} prompts were asked for; expected at least 1")
        self.size = size
        self.right = np.zeros(size)
        """[N] decayed number of right answers (the paper's α)."""
        self.wrong = np.zeros(size)
        """[N] decayed number of wrong answers (β)."""
        self.answers = np.zeros(size)
        """[N] answers ever counted, without decay."""
        self.solved = np.zeros(size, dtype=bool)
        """[N] whether any answer ever scored."""
        self.visited = np.full(size, _NEVER, dtype=np.int64)
        """[N] number of the update that last counted answers of the prompt; -1: never."""
        self.updates = 0
        self.set_prior(prior)

    def set_prior(self, prior: ArrayLike) -> None:
        """Replace the prior: (a, b) or [N, 2], all positive."""
        values = np.asarray(prior, dtype=np.float64)
        if values.shape not in {(2,), (self.size, 2)} or not (np.isfinite(values).all() and (values > 0).all()):
            raise UsageError(f"a prior must be (a, b) or an array [{self.size}, 2] of positive numbers, not {prior!r}")
        self.prior = values

    def posterior(self) -> tuple[np.ndarray, np.ndarray]:
        """Return ([N], [N]): both parameters of every Beta distribution."""
        return self.right + self.prior[..., 0], self.wrong + self.prior[..., 1]

    def mean(self) -> np.ndarray:
        """Return posterior means, in (0, 1), [N]."""
        a, b = self.posterior()
        return a / (a + b)

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """Return one draw from every posterior, [N]."""
        return generator.beta(*self.posterior())

    def quantile(self, share: float, rows: np.ndarray | None = None) -> np.ndarray:
        """Return or [len(rows)]: the value below which the pass rate lies with probability `share` in (0, 1), [N]."""
        from scipy.stats import beta  # importing takes most of a second, and most samplers have no use for it

        a, b = (np.broadcast_to(part, self.size) for part in self.posterior())
        chosen = slice(None) if rows is None else rows
        return beta.ppf(share, a[chosen], b[chosen])

    def interval(self, level: float = 0.8, rows: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper ends of the equal-tailed credible intervals of probability `level`."""
        return self.quantile((1 - level) / 2, rows), self.quantile((1 + level) / 2, rows)

    def staleness(self) -> np.ndarray:
        """Return updates since the prompt's last visit, 0 for the latest; -1 where there was none, [N]."""
        return np.where(self.visited == _NEVER, _NEVER, self.updates - 1 - self.visited)

    def never_solved(self, answers: float = 8) -> np.ndarray:
        """Return rows with so many answers or more, none of which scored: perhaps unanswerable or mislabelled."""
        return np.flatnonzero((self.answers >= answers) & ~self.solved)

    def observe(
        self, rows: np.ndarray, right: np.ndarray, total: np.ndarray, *, retain_rows: float, retain_others: float
    ) -> None:
        """Forget, then count: counts of `rows` are multiplied by `retain_rows`, all others by `retain_others`; then
        `right` and `total - right` are added. A row that occurs twice is forgotten once and counted twice.

        rows: [B] positions; right: [B] sums of scores in [0, 1], fractions allowed; total: [B] numbers of answers.
        Raises UsageError for counts that cannot be, and changes nothing then.
        """
        rows, right, total = self._checked(rows, right, total)
        factor = np.full(self.size, retain_others)
        factor[rows] = retain_rows
        self.right *= factor
        self.wrong *= factor
        np.add.at(self.right, rows, right)
        np.add.at(self.wrong, rows, total - right)
        np.add.at(self.answers, rows, total)
        self.solved[rows[right > 0]] = True
        self.visited[rows[total > 0]] = self.updates
        self.updates += 1

    def _checked(
        self, rows: np.ndarray, right: np.ndarray, total: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows = np.asarray(rows)
        right, total = np.asarray(right, dtype=np.float64), np.asarray(total, dtype=np.float64)
        if not rows.shape == right.shape == total.shape or rows.ndim != 1:
            raise UsageError(
                f"rows {rows.shape}, right {right.shape} and total {total.shape} must have one length and one dimension"
            )
        if rows.size and (not np.issubdtype(rows.dtype, np.integer) or rows.min() < 0 or rows.max() >= self.size):
            raise UsageError(f"rows must be whole numbers from 0 to {self.size - 1}, not {rows}")
        bad = np.flatnonzero(~((right >= 0) & (right <= total + 1e-9) & np.isfinite(total)))
        if bad.size:
            i = bad[0]
            raise UsageError(
                f"prompt {rows[i]} has {right[i]:g} right of {total[i]:g} answers; expected 0 ≤ right ≤ total: scale "
                "scores to [0, 1]"
            )
        return rows.astype(np.int64), np.minimum(right, total), total

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        return {
            "prior": self.prior.copy(),
            "right": self.right.copy(),
            "wrong": self.wrong.copy(),
            "answers": self.answers.copy(),
            "solved": self.solved.copy(),
            "visited": self.visited.copy(),
            "updates": self.updates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state. Raises UsageError when it is that of another number of prompts."""
        if len(state["right"]) != self.size:
            raise UsageError(
                f"the saved pass rates are of {len(state['right'])} prompts, but there are {self.size}: resume with "
                "the same data"
            )
        for name in ("prior", "right", "wrong", "answers", "solved", "visited"):
            setattr(self, name, np.array(state[name], dtype=getattr(self, name).dtype))
        self.updates = int(state["updates"])


def moment_prior(rates: np.ndarray, answers: np.ndarray, *, least: float = 1.0, most: float = 20.0) -> np.ndarray:
    """Return parameters (a, b) of the Beta distribution with the mean and variance of the prompts' pass rates, [2].

    rates: [M] observed pass rates; answers: [M] numbers of answers behind them, whose sampling noise is taken out of
    the variance. a + b is kept within [least, most]. Method of moments, as in BNPO (arXiv 2506.02864), over prompts.
    """
    mean = float(np.clip(np.average(rates, weights=answers), 0.01, 0.99))
    spread = float(np.average((rates - mean) ** 2, weights=answers))
    # With n answers each, spread = variance + (mean (1 - mean) - variance) / n.
    inverse = float(np.average(1 / np.maximum(answers, 1.0), weights=answers))
    variance = max((spread - mean * (1 - mean) * inverse) / max(1 - inverse, 1e-6), 1e-6)
    strength = float(np.clip(mean * (1 - mean) / variance - 1, least, most))
    if inverse > 0.9:  # single answers say nothing about the spread of the pass rates
        strength = least
    return np.array([mean * strength, (1 - mean) * strength])
