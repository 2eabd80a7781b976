"""Windows over demonstrations: what was seen up to now, the chunk of actions around it, and perhaps a future goal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.frames import Column, Frames, in_memory
from pilotage.data.normalisers import Normaliser


@dataclass(frozen=True)
class WindowBatch:
    """B windows. Step k of a chunk belongs to step k of the observations: the present is To - 1."""

    observations: Mapping[str, Tensor]
    """"state" and other columns [B, To, S] float32; "image/NAME" [B, To, C, H, W] float32 in [0, 1]; with goals also
    "goal" [B, goal_steps · S] float32."""
    actions: Tensor
    """[B, Tp, A] float32."""
    padded: Tensor
    """[B, Tp] bool: a step before the episode's first or after its last, whose action repeats that one."""
    observation_padded: Tensor
    """[B, To] bool, likewise."""
    episode: Tensor
    """[B] int64."""
    start: Tensor
    """[B] int64, step of the episode at which the window starts; negative where it starts before the episode."""
    has_goal: Tensor | None = None
    """[B] bool: False where nothing of the trajectory is left after the window; its goal is all zero."""
    goal_start: Tensor | None = None
    """[B] int64, step of the episode at which the goal starts; -1 without goal."""

    def __len__(self) -> int:
        return len(self.actions)


@dataclass(frozen=True)
class Goals:
    """Goals from the future of the same trajectory, as in BESO (arXiv 2304.02532): `steps` observations in a row
    whose start is uniform over what is left after the window's end.

    A last observation, where one was recorded, counts as the trajectory's last. Never from another trajectory.
    """

    column: str = "state"
    """Which observation."""
    steps: int = 1
    """Length of the goal."""
    keep: Sequence[int] | None = None
    """Entries of the observation that a goal shows; the others are zero. None: all."""


class Windows:
    """Every window of `chunk_size` steps of the demonstrations, in the order of episodes and steps.

    A window starts at most To - 1 steps before an episode and ends at most Ta - 1 after it; what lies outside repeats
    the first or last step and is marked. An episode too short for that gets one window, padded further, and is counted
    in `short_episodes`.

    demonstrations: see there.
    n_obs_steps: To, at least 1. chunk_size: Tp, steps of action. n_action_steps: Ta, actions that will be executed
        from a chunk, beginning with the present one (To - 1); so To - 1 + Ta ≤ Tp.
    names: observations to give; images only when they are named.
    goals: whether and how to draw goals.
    normalisers: by name of column ("action" too; see `fit_normalisers`): those columns come normalised, a goal by its
        column's normaliser before entries are zeroed. Without, all is in the data's units.
    device: where the batches are.
    Raises UsageError for lengths that do not fit each other, and for names that there are not.
    """

    def __init__(
        self,
        demonstrations: Demonstrations,
        *,
        n_obs_steps: int = 2,
        chunk_size: int = 16,
        n_action_steps: int = 8,
        names: Sequence[str] = ("state",),
        goals: Goals | None = None,
        normalisers: Mapping[str, Normaliser] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        if n_obs_steps < 1 or n_action_steps < 1 or n_obs_steps - 1 + n_action_steps > chunk_size:
            raise UsageError(
                f"n_obs_steps={n_obs_steps}, chunk_size={chunk_size}, n_action_steps={n_action_steps} were given; "
                "the executed actions start at the present, n_obs_steps - 1, and must lie in the chunk: expected "
                f"chunk_size ≥ n_obs_steps - 1 + n_action_steps = {n_obs_steps - 1 + n_action_steps}, all at least 1"
            )
        self.n_obs_steps, self.chunk_size, self.n_action_steps = n_obs_steps, chunk_size, n_action_steps
        self.device = torch.device(device)
        normalisers = normalisers or {}
        self._images: dict[str, Frames | np.ndarray] = {}
        self._tables: dict[str, Tensor] = {}
        for name in names:
            column = demonstrations.column(name)
            if name.startswith("image/"):
                self._images[name] = column
            else:
                self._tables[name] = self._table(name, column, normalisers)
        self._actions = self._table("action", demonstrations.actions, normalisers)
        self._first, lengths = demonstrations.episode_starts, demonstrations.lengths
        self._lengths = lengths
        self.short_episodes = int((lengths < chunk_size).sum())
        """Episodes shorter than a chunk."""
        earliest, latest = 1 - n_obs_steps, lengths - chunk_size + n_action_steps - 1
        counts = np.maximum(latest - earliest + 1, 1)
        self._episode = np.repeat(np.arange(len(lengths)), counts)
        ends = np.cumsum(counts)
        self._start = earliest + np.arange(ends[-1]) - np.repeat(ends - counts, counts)
        self._goals = None if goals is None else _GoalTable(demonstrations, goals, self, normalisers)

    def __len__(self) -> int:
        """Number of windows."""
        return len(self._start)

    def take(self, rows: np.ndarray | Sequence[int], generator: torch.Generator | None = None) -> WindowBatch:
        """Return the windows `rows` [B] in 0..len-1. generator: of the goals' starts, one number each; needed for
        goals.
        """
        rows = np.asarray(rows, dtype=np.int64)
        episode, start = self._episode[rows], self._start[rows]
        steps = start[:, None] + np.arange(self.chunk_size)
        length = self._lengths[episode][:, None]
        frames = self._first[episode][:, None] + np.clip(steps, 0, length - 1)
        padded = (steps < 0) | (steps >= length)
        at, seen = self._on_device(frames), frames[:, : self.n_obs_steps]
        observations = {name: table[at[:, : self.n_obs_steps]] for name, table in self._tables.items()}
        for name, column in self._images.items():
            pictures = column[seen.reshape(-1)].reshape(*seen.shape, *column.shape[1:])
            observations[name] = self._on_device(pictures).movedim(-1, -3).float() / 255
        batch = WindowBatch(
            observations=observations,
            actions=self._actions[at],
            padded=self._on_device(padded),
            observation_padded=self._on_device(padded[:, : self.n_obs_steps]),
            episode=self._on_device(episode),
            start=self._on_device(start),
        )
        if self._goals is None:
            return batch
        if generator is None:
            raise UsageError("these windows have goals, whose starts are drawn: give take() a generator")
        return self._goals.add(batch, episode, start + self.chunk_size, generator)

    def _on_device(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), device=self.device)

    def _table(self, name: str, column: Column, normalisers: Mapping[str, Normaliser]) -> Tensor:
        """[N, S] float32, normalised once for all."""
        values = torch.tensor(np.asarray(in_memory(column), dtype=np.float32))
        if name in normalisers:
            with torch.no_grad():
                values = normalisers[name].normalise(values.to(normalisers[name].offset.device))
        return values.reshape(len(values), -1).to(self.device)


class _GoalTable:
    """All observations from which goals are taken, the last ones included, and the law of their starts."""

    def __init__(
        self, demonstrations: Demonstrations, goals: Goals, windows: Windows, normalisers: Mapping[str, Normaliser]
    ) -> None:
        column, last = demonstrations.column(goals.column), demonstrations.last_observations
        if goals.steps < 1 or isinstance(column, Frames):
            raise UsageError(f"goals of {goals.steps} steps of {goals.column!r}: expected at least 1, and no camera")
        lengths, ends = demonstrations.lengths, demonstrations.episode_ends
        if last is not None:
            # np.insert counts positions before insertion, which is what the ends are.
            column = np.insert(in_memory(column), ends, in_memory(last[goals.column]), axis=0)
            lengths = lengths + 1
        self._lengths, self._first = lengths, np.cumsum(lengths) - lengths
        table = windows._table(goals.column, column, normalisers)
        if goals.keep is not None:
            width = table.shape[1]
            if any(not 0 <= entry < width for entry in goals.keep):
                raise UsageError(
                    f"a goal keeps entries {list(goals.keep)} of {goals.column!r}, whose entries are 0 to {width - 1}"
                )
            kept = torch.zeros(width, dtype=torch.bool, device=table.device)
            kept[list(goals.keep)] = True
            table = torch.where(kept, table, 0.0)
        self._table, self._steps, self._windows = table, goals.steps, windows

    def add(
        self, batch: WindowBatch, episode: np.ndarray, after: np.ndarray, generator: torch.Generator
    ) -> WindowBatch:
        """Return the batch with goals that start at `after` [B] or later in the same episode."""
        choices = self._lengths[episode] - self._steps - after + 1
        has = choices >= 1
        # One number per row whether it has a goal or not, so that what is drawn depends on the batch size alone.
        drawn = torch.rand(len(after), generator=generator, dtype=torch.float64).numpy()
        start = after + np.minimum((drawn * choices).astype(np.int64), choices - 1)
        frames = (self._first[episode] + np.where(has, start, 0))[:, None] + np.arange(self._steps)
        put = self._windows._on_device
        goal = self._table[put(np.where(has[:, None], frames, 0))].flatten(1)
        has_goal = put(has)
        return replace(
            batch,
            observations={**batch.observations, "goal": torch.where(has_goal[:, None], goal, 0.0)},
            has_goal=has_goal,
            goal_start=put(np.where(has, start, -1)),
        )


class WindowBatches:
    """An endless row of batches: every window once per epoch, each epoch in another order.

    The order, and the goals, depend on the generator and on nothing else; a batch may end one epoch and begin another.

    windows: what to draw from. batch: windows per batch. generator: torch generator on the CPU; only this uses it.
    """

    def __init__(self, windows: Windows, batch: int, generator: torch.Generator) -> None:
        if batch < 1:
            raise UsageError(f"batches of {batch} windows were asked for; expected at least 1")
        self.windows, self.batch, self.generator = windows, batch, generator
        self.epoch = self.position = 0
        self._begin_epoch()

    def draw(self) -> WindowBatch:
        """Return the next batch."""
        parts, missing = [], self.batch
        while missing:
            part = self._order[self.position : self.position + missing]
            parts.append(part)
            missing -= len(part)
            self.position += len(part)
            if self.position == len(self.windows):
                self.epoch, self.position = self.epoch + 1, 0
                self._begin_epoch()
        return self.windows.take(np.concatenate(parts), self.generator)

    def _begin_epoch(self) -> None:
        self._epoch_state = self.generator.get_state()
        self._order = torch.randperm(len(self.windows), generator=self.generator).numpy()

    def state_dict(self) -> dict[str, Any]:
        """Return where it is: what the next batches are, goals included."""
        return {
            "windows": len(self.windows),
            "epoch": self.epoch,
            "position": self.position,
            "epoch_state": self._epoch_state.clone(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where the state was taken. Raises UsageError when it is that of another number of windows."""
        if state["windows"] != len(self.windows):
            raise UsageError(
                f"the saved order is of {state['windows']} windows, but there are {len(self.windows)}: resume with the "
                "same data and lengths"
            )
        self.epoch, self.position = int(state["epoch"]), int(state["position"])
        self.generator.set_state(state["epoch_state"])
        self._begin_epoch()
        self.generator.set_state(state["generator"])
