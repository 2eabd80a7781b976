"""Demonstrations: what was seen and what was done, episode after episode, from whatever format it came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.data.demonstration_checks import bad_numbers, check, episode_name, expect_alike, mended, source_of
from pilotage.data.frames import Column, Frames, in_memory, join, take


@dataclass(frozen=True, eq=False)
class Episode:
    """One trajectory of T steps. `actions[t]` was taken on seeing `observations[...][t]`, and `rewards[t]` followed."""

    observations: Mapping[str, Column]
    """Name to [T, ...]."""
    actions: np.ndarray
    """[T, A] float32."""
    last_observations: Mapping[str, np.ndarray] | None = None
    """Name to [...]: what was seen after the last action."""
    rewards: np.ndarray | None = None
    """[T] float32 or float64."""
    terminated: bool | None = None
    """Whether the last step ended in a terminal state; None: unknown."""
    truncated: bool | None = None
    """Whether it was cut there, such as by a time limit; None: unknown."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Facts such as "seed", "task" (text) or "name" (in its file)."""

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class Statistics:
    """Of every entry of one column, over all steps, in float64: arrays of the column's shape without the steps."""

    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    """The deviation of the N steps themselves (divided by N)."""
    count: int
    """N."""

    @staticmethod
    def of(values: np.ndarray) -> Statistics:
        """Return numbers, [N, ...]. Raises UsageError for no rows."""
        if len(values) == 0:
            raise UsageError("statistics of no steps were asked for; expected at least one")
        wide = np.asarray(values, dtype=np.float64)
        return Statistics(wide.min(0), wide.max(0), wide.mean(0), wide.std(0), len(wide))


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """E episodes with N steps in all, stored one after the other.

    Names of observations: "state" [N, S] for what a state policy sees, "image/NAME" [N, H, W, C] uint8 for cameras
    (perhaps undecoded, see `Frames`), others as their source calls them.
    Checked when made: raises UsageError that names episode and frame for lengths, types or values that cannot be.
    """

    observations: Mapping[str, Column]
    """Name to [N, ...], numbers."""
    actions: np.ndarray
    """[N, A] float32."""
    episode_ends: np.ndarray
    """[E] int64, the step after each episode's last; rising, the last is N."""
    last_observations: Mapping[str, Column] | None = None
    """Name to [E, ...]: what was seen after each episode's last action; None: not recorded. The names of
    `observations`."""
    rewards: np.ndarray | None = None
    """[N] float32 or float64: what followed the step's action."""
    terminated: np.ndarray | None = None
    """[E] bool: ended in a terminal state; None: unknown."""
    truncated: np.ndarray | None = None
    """[E] bool: cut, such as by a time limit; None: unknown."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Facts of the whole: "source", "format", "fps", "left_out" and what else the format tells."""
    episode_meta: Sequence[Mapping[str, Any]] = ()
    """[E] facts of each episode ("seed", "task", "name"), or empty."""

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def usable(
        cls, *, skip_bad: bool = False, left_out: Mapping[str, str] | None = None, **columns: Any
    ) -> Demonstrations:
        """Return demonstrations of these columns, or of their episodes that can be used.

        Args:
            skip_bad: whether episodes that hold numbers which are not finite are left out, instead of refused.
            left_out: episodes that a reader left out before, by name, and why.
            columns: the fields.

        Returns:
            The demonstrations; `meta["left_out_episodes"]` names the episodes that are missing and says why.

        Raises:
            UsageError: as when they are made; and when no episode is left.
        """
        gone = dict(left_out or {})
        bad: dict[int, str] = bad_numbers(columns) if skip_bad else {}
        given = {**columns, **mended(columns)} if bad else columns
        found = cls(**given)
        if bad:
            names = [episode_name(number, found.episode_meta) for number in range(found.total_episodes)]
            gone |= {names[number]: why for number, why in bad.items()}
            if len(bad) == found.total_episodes:
                raise UsageError(
                    f"{source_of(found.meta)}: no episode can be used; the first, {names[0]}: {bad[0]}. Mend the data"
                )
            found = found.subset([number for number in range(found.total_episodes) if number not in bad])
        return replace(found, meta={**found.meta, "left_out_episodes": gone}) if gone else found

    # ---- sizes -------------------------------------------------------------------------------------------------------

    @property
    def total_episodes(self) -> int:
        """E."""
        return len(self.episode_ends)

    @property
    def total_steps(self) -> int:
        """N."""
        return len(self.actions)

    @property
    def action_size(self) -> int:
        """Return a."""
        return self.actions.shape[1]

    @property
    def episode_starts(self) -> np.ndarray:
        """Return the first step of each episode, [E] int64."""
        return np.concatenate([np.zeros(1, dtype=np.int64), self.episode_ends[:-1]])

    @property
    def lengths(self) -> np.ndarray:
        """Return steps of each episode, at least 1, [E] int64."""
        return self.episode_ends - self.episode_starts

    @property
    def returns(self) -> np.ndarray:
        """Return undiscounted sums of rewards, [E] float64. Raises UsageError when there are no rewards."""
        if self.rewards is None:
            raise UsageError(f"{source_of(self.meta)} has no rewards, so there are no returns")
        return np.add.reduceat(np.asarray(self.rewards, dtype=np.float64), self.episode_starts)

    # ---- episodes ----------------------------------------------------------------------------------------------------

    def episode(self, number: int) -> Episode:
        """Return the episode 0..E-1 as views; frames stay undecoded. Raises UsageError for a number there is not."""
        self._expect_episodes([number])
        begin, end = int(self.episode_starts[number]), int(self.episode_ends[number])
        rows = np.arange(begin, end)
        last = self.last_observations
        return Episode(
            observations={
                name: take(column, rows) if isinstance(column, Frames) else column[begin:end]
                for name, column in self.observations.items()
            },
            actions=self.actions[begin:end],
            last_observations=None if last is None else {name: column[number] for name, column in last.items()},
            rewards=None if self.rewards is None else self.rewards[begin:end],
            terminated=None if self.terminated is None else bool(self.terminated[number]),
            truncated=None if self.truncated is None else bool(self.truncated[number]),
            meta=self.episode_meta[number] if self.episode_meta else {},
        )

    def episodes(self) -> Iterator[Episode]:
        """Yield all episodes in order."""
        return (self.episode(number) for number in range(self.total_episodes))

    @classmethod
    def from_episodes(
        cls,
        episodes: Iterable[Episode],
        meta: Mapping[str, Any] | None = None,
        *,
        skip_bad: bool = False,
        left_out: Mapping[str, str] | None = None,
    ) -> Demonstrations:
        """Return the episodes, one after the other.

        Args:
            episodes: what one of them lacks (rewards, flags, last observations) all must lack.
            meta: facts of the whole.
            skip_bad: whether episodes with numbers that are not finite are left out.
            left_out: episodes that were left out before, by name, and why.

        Raises:
            UsageError: that names the episode which differs from the first.
        """
        found = list(episodes)
        if not found:
            raise UsageError("demonstrations were to be made of no episodes; expected at least one")
        for number, episode in enumerate(found):
            expect_alike(number, episode, found[0])
        first = found[0]
        last = None
        if first.last_observations is not None:
            last = {
                name: np.stack([np.asarray((episode.last_observations or {})[name]) for episode in found])
                for name in first.last_observations
            }
        return cls.usable(
            skip_bad=skip_bad,
            left_out=left_out,
            observations={name: join([episode.observations[name] for episode in found]) for name in first.observations},
            actions=np.concatenate([episode.actions for episode in found]),
            episode_ends=np.cumsum([len(episode) for episode in found], dtype=np.int64),
            last_observations=last,
            rewards=None if first.rewards is None else np.concatenate([_known(e.rewards) for e in found]),
            terminated=None if first.terminated is None else np.array([e.terminated for e in found], dtype=bool),
            truncated=None if first.truncated is None else np.array([e.truncated for e in found], dtype=bool),
            meta=dict(meta or {}),
            episode_meta=[e.meta for e in found] if any(e.meta for e in found) else (),
        )

    def subset(self, episodes: Sequence[int] | np.ndarray) -> Demonstrations:
        """Return the given episodes, in the given order: step t of the k-th is step t of episode `episodes[k]` here.

        Raises UsageError for an episode that there is not, or none at all.
        """
        chosen = self._expect_episodes(episodes)
        starts, lengths = self.episode_starts[chosen], self.lengths[chosen]
        ends = np.cumsum(lengths)
        rows = np.arange(ends[-1]) + np.repeat(starts - (ends - lengths), lengths)
        last = self.last_observations
        return replace(
            self,
            observations={name: take(column, rows) for name, column in self.observations.items()},
            actions=self.actions[rows],
            episode_ends=ends.astype(np.int64),
            last_observations=None if last is None else {name: take(column, chosen) for name, column in last.items()},
            rewards=None if self.rewards is None else self.rewards[rows],
            terminated=None if self.terminated is None else self.terminated[chosen],
            truncated=None if self.truncated is None else self.truncated[chosen],
            episode_meta=[self.episode_meta[number] for number in chosen] if self.episode_meta else (),
        )

    def split(self, share: float, generator: torch.Generator) -> tuple[Demonstrations, Demonstrations]:
        """Return (train, validation): whole trajectories, a `share` in (0, 1) of them, at least one, for validation.

        Each part keeps the order of the episodes. Raises UsageError for a share that leaves one side empty.
        """
        count = max(1, round(share * self.total_episodes))
        if not 0 < share < 1 or count >= self.total_episodes:
            raise UsageError(
                f"a share of {share} of {self.total_episodes} episodes was asked for validation; expected a share in "
                "(0, 1) and episodes for both sides"
            )
        order = torch.randperm(self.total_episodes, generator=generator).numpy()
        return self.subset(np.sort(order[count:])), self.subset(np.sort(order[:count]))

    def _expect_episodes(self, episodes: Sequence[int] | np.ndarray) -> np.ndarray:
        chosen = np.asarray(episodes)
        whole = chosen.ndim == 1 and np.issubdtype(chosen.dtype, np.integer)
        if not whole or chosen.size == 0 or chosen.min() < 0 or chosen.max() >= self.total_episodes:
            raise UsageError(
                f"episodes {list(np.atleast_1d(chosen))} were asked for; {source_of(self.meta)} has episodes 0 to "
                f"{self.total_episodes - 1}"
            )
        return chosen.astype(np.int64)

    # ---- columns -----------------------------------------------------------------------------------------------------

    def column(self, name: str) -> Column:
        """Return an observation, or "action", [N, ...]. Raises UsageError that lists the names there are."""
        if name == "action":
            return self.actions
        if name not in self.observations:
            names = sorted({*self.observations, *self.meta.get("unread", ())})
            remedy = nearest(name, names)
            if name == "state":
                remedy = ": name those that make up the state, joined by + (--state-keys; in Python state=[…])"
            elif name.startswith("image/"):
                remedy += " (--cameras takes the names after image/)"
            raise UsageError(
                f"{source_of(self.meta)} has no observation {name!r}; there are {', '.join(names) or 'none'}{remedy}"
            )
        return self.observations[name]

    def statistics(self, name: str) -> Statistics:
        """Lows, highs, means and deviations of an observation, or "action", over all N steps."""
        return Statistics.of(in_memory(self.column(name)))

    def with_state(self, names: Sequence[str]) -> Demonstrations:
        """Return the same with "state" [N, S]: the observations `names`, each flattened, side by side in that order."""
        if not names:
            raise UsageError("name the observations that make up the state (--state-keys; in Python state=[…])")
        for name in names:
            if isinstance(self.column(name), Frames):
                raise UsageError(f"{name!r} holds camera frames and cannot be part of the state; leave it out")
        last = self.last_observations
        return replace(
            self,
            observations={**self.observations, "state": _side_by_side(self.observations, names)},
            last_observations=None if last is None else {**last, "state": _side_by_side(last, names)},
        )

    def loaded(self) -> Demonstrations:
        """Return the same with every camera frame decoded into memory."""
        last = self.last_observations
        return replace(
            self,
            observations={name: in_memory(column) for name, column in self.observations.items()},
            last_observations=None if last is None else {name: in_memory(column) for name, column in last.items()},
        )

    @staticmethod
    def concatenate(parts: Sequence[Demonstrations]) -> Demonstrations:
        """Return the episodes of all parts, one part after the other; `meta` is that of the first, with "parts".

        Raises UsageError when one part has other observations, sizes, or no rewards or flags where the first has.
        """
        if not parts:
            raise UsageError("nothing to concatenate; expected at least one part")
        first = parts[0]
        for number, part in enumerate(parts):
            expect_alike(number, part, first)
        optional = {
            name: None if getattr(first, name) is None else np.concatenate([getattr(part, name) for part in parts])
            for name in ("rewards", "terminated", "truncated")
        }
        lasts = [part.last_observations or {} for part in parts]
        offsets = np.cumsum([0, *(part.total_steps for part in parts[:-1])])
        told = any(part.episode_meta for part in parts)
        return Demonstrations(
            observations={name: join([part.observations[name] for part in parts]) for name in first.observations},
            actions=np.concatenate([part.actions for part in parts]),
            episode_ends=np.concatenate([p.episode_ends + offset for p, offset in zip(parts, offsets, strict=True)]),
            last_observations=None if first.last_observations is None else _join_columns(lasts),
            meta={**first.meta, "parts": [source_of(part.meta) for part in parts]},
            episode_meta=[m for p in parts for m in (p.episode_meta or [{}] * p.total_episodes)] if told else (),
            **optional,
        )


def _join_columns(parts: Sequence[Mapping[str, Column]]) -> dict[str, Column]:
    return {name: join([part[name] for part in parts]) for name in parts[0]}


def _side_by_side(columns: Mapping[str, Column], names: Sequence[str]) -> np.ndarray:
    return np.concatenate([in_memory(columns[name]).reshape(len(columns[name]), -1) for name in names], axis=1)


def _known(rewards: np.ndarray | None) -> np.ndarray:
    return np.zeros(0) if rewards is None else rewards
