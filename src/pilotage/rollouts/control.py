"""A policy in control environments: every declared episode once, the same whatever runs beside it."""

from __future__ import annotations

import hashlib
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from pilotage.core.errors import UsageError
from pilotage.rollouts.episodes import Episode, Evaluation, Seconds, Trajectory
from pilotage.rollouts.observations import ObservationWindow, batched, policy_view
from pilotage.rollouts.vector_envs import EnvLanes, EnvStep, EpisodeStart, Lanes, VectorLanes
from pilotage.types import ControlPolicy

if TYPE_CHECKING:
    import gymnasium

View = Callable[[Any], Mapping[str, np.ndarray]]


def starts_of(count: int, first_seed: int = 0) -> list[EpisodeStart]:
    """`count` starts whose seeds follow one another from `first_seed`."""
    return [EpisodeStart(seed) for seed in range(first_seed, first_seed + count)]


@dataclass
class _Running:
    """An episode that is going on."""

    row: int
    lane: int
    start: EpisodeStart
    window: ObservationWindow
    digest: str
    calls: int | None
    keep: bool
    views: list[Mapping[str, np.ndarray]]
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    infos: list[Mapping[str, Any]] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)
    success: bool | None = None
    clipped: int = 0
    best: dict[str, float] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    policy_seconds: float = 0.0
    environment_seconds: float = 0.0


def evaluate(
    make: Callable[[], gymnasium.Env] | gymnasium.vector.VectorEnv,
    policy: ControlPolicy,
    starts: Sequence[EpisodeStart | int],
    *,
    num_envs: int = 10,
    window: int = 1,
    max_steps: int | None = None,
    measures: Sequence[str] = (),
    keep: Collection[int] = (),
    frames: Collection[int] = (),
    frame_every: int = 1,
    observe: View = policy_view,
) -> Evaluation:
    """Runs the policy once from every declared start.

    What is reported of an episode is the same for any number of environments, provided that the policy's action for a
    row depends on that row alone. Networks come close: their rounding differs between batch sizes at 1e-7 or so.

    Args:
        make: makes one environment; or a VectorEnv (then `num_envs` is its own number).
        policy: is told `reset(rows)` when episodes begin and asked `act(observations, rows)` at every step; a row is
            the position of an episode's start in `starts`, so noise that is drawn by (seed, row, step) does not
            depend on what runs beside it.
        starts: seeds, or seeds with the options for `reset`.
        num_envs: environments side by side, 1 or more.
        window: past observations that the policy sees (the paper's To), 1 or more; at the start the first is repeated.
        max_steps: cuts episodes that the environment does not end.
        measures: names of numbers in the environment's info to report, the best and the last ("coverage").
        keep: rows whose whole trajectory is kept.
        frames: rows that are rendered; the environment must have been made with render_mode="rgb_array".
        frame_every: steps from one frame to the next.
        observe: an observation as named arrays; must copy what it returns.

    Returns:
        One episode for each start, in their order.

    Raises UsageError for settings out of range, an action that is not finite or has a wrong shape, a measure that the
    environment does not give, and an environment that renders nothing.
    """
    declared = [start if isinstance(start, EpisodeStart) else EpisodeStart(int(start)) for start in starts]
    _check(declared, num_envs, window, frame_every, [*keep, *frames])
    side_by_side: Lanes = EnvLanes(make, num_envs) if callable(make) else VectorLanes(make)
    settings = {
        "environment": side_by_side.name,
        "starts": [{"seed": start.seed, "options": _plain(start.options)} for start in declared],
        "num_envs": side_by_side.count,
        "window": window,
        "max_steps": max_steps,
    }
    loop = _Loop(side_by_side, policy, declared, window, observe)
    loop.max_steps, loop.measures, loop.frame_every = max_steps, measures, frame_every
    loop.keep, loop.rendered = set(keep), set(frames)
    try:
        loop.run()
    finally:
        side_by_side.close()
    rows = range(len(declared))
    return Evaluation(
        episodes=[loop.episodes[row] for row in rows],
        settings=settings,
        seconds=[loop.seconds[row] for row in rows],
        trajectories={row: loop.trajectories[row] for row in sorted(loop.trajectories)},
        frames={row: loop.frames[row] for row in sorted(loop.frames)},
    )


class _Loop:
    def __init__(
        self, lanes: Lanes, policy: ControlPolicy, starts: Sequence[EpisodeStart], window: int, observe: View
    ) -> None:
        self.lanes, self.policy, self.starts, self.window, self.observe = lanes, policy, starts, window, observe
        self.max_steps: int | None = None
        self.measures: Sequence[str] = ()
        self.keep: set[int] = set()
        self.rendered: set[int] = set()
        self.frame_every = 1
        self.waiting = deque(range(len(starts)))
        self.running: dict[int, _Running] = {}
        self.episodes: dict[int, Episode] = {}
        self.seconds: dict[int, Seconds] = {}
        self.trajectories: dict[int, Trajectory] = {}
        self.frames: dict[int, list[np.ndarray]] = {}

    def run(self) -> None:
        while self.waiting or self.running:
            self._begin()
            self._step()

    def _begin(self) -> None:
        """Gives the free lanes the next declared episodes."""
        if self.lanes.together and self.running:
            return
        free = [lane for lane in range(self.lanes.count) if lane not in self.running]
        rows = {lane: self.waiting.popleft() for lane in free[: len(self.waiting)]}
        if not rows:
            return
        began = time.perf_counter()
        first = self.lanes.reset({lane: self.starts[row] for lane, row in rows.items()})
        spent = (time.perf_counter() - began) / len(rows)
        self.policy.reset(list(rows.values()))
        for lane, row in rows.items():
            view = self.observe(first[lane])
            episode = _Running(
                row=row,
                lane=lane,
                start=self.starts[row],
                window=ObservationWindow(self.window, view),
                digest=_digest(view),
                calls=_calls(self.policy, row),
                keep=row in self.keep,
                views=[view],
                environment_seconds=spent,
            )
            self._photograph(episode)
            self.running[lane] = episode

    def _step(self) -> None:
        episodes = [self.running[lane] for lane in sorted(self.running)]
        began = time.perf_counter()
        with torch.no_grad():
            chosen = self.policy.act(batched([e.window for e in episodes]), [e.row for e in episodes])
        acted = time.perf_counter()
        actions = self._actions(chosen, episodes)
        done = self.lanes.step({e.lane: action for e, action in zip(episodes, actions, strict=True)})
        stepped = time.perf_counter()
        for episode, action in zip(episodes, actions, strict=True):
            episode.policy_seconds += (acted - began) / len(episodes)
            episode.environment_seconds += (stepped - acted) / len(episodes)
            self._take(episode, action, done[episode.lane])

    def _actions(self, chosen: Any, episodes: Sequence[_Running]) -> list[np.ndarray]:
        """The policy's answer as the environment's actions: checked, and clipped to its box with a count."""
        table = chosen.detach().cpu().numpy() if isinstance(chosen, torch.Tensor) else np.asarray(chosen)
        space = self.lanes.action_space
        if table.shape != (len(episodes), *space.shape):
            raise UsageError(
                f"the policy was asked for {len(episodes)} actions of shape {space.shape} and answered with shape "
                f"{table.shape}"
            )
        actions = []
        for episode, action in zip(episodes, table, strict=True):
            if not np.isfinite(action).all():
                raise UsageError(
                    f"the policy's action at step {len(episode.rewards)} of episode {episode.row} (seed "
                    f"{episode.start.seed}) is not finite: {action}"
                )
            if hasattr(space, "low"):
                inside = np.clip(action, space.low, space.high).astype(space.dtype)
                episode.clipped += bool((inside != action.astype(space.dtype)).any())
                action = inside
            actions.append(action)
        return actions

    def _take(self, episode: _Running, action: np.ndarray, step: EnvStep) -> None:
        view = self.observe(step.observation)
        episode.window.append(view)
        episode.rewards.append(step.reward)
        said = step.info.get("success", step.info.get("is_success"))
        if said is not None:
            episode.success = bool(episode.success) or bool(said)
        for name in self.measures:
            if name not in step.info:
                raise UsageError(f"the environment's info has no {name!r}; it has {', '.join(step.info) or 'nothing'}")
            value = float(step.info[name])
            episode.last[name] = value
            episode.best[name] = max(value, episode.best.get(name, -math.inf))
        if episode.keep:
            episode.views.append(view)
            episode.actions.append(np.array(action))
            episode.infos.append(dict(step.info))
        cut = self.max_steps is not None and len(episode.rewards) >= self.max_steps
        over = step.terminated or step.truncated or cut
        if over or len(episode.rewards) % self.frame_every == 0:
            self._photograph(episode)
        if over:
            self._finish(episode, step)

    def _photograph(self, episode: _Running) -> None:
        if episode.row not in self.rendered:
            return
        frame = self.lanes.render(episode.lane)
        if frame is None:
            raise UsageError('the environment renders nothing: make it with render_mode="rgb_array"')
        episode.frames.append(np.array(frame))

    def _finish(self, episode: _Running, step: EnvStep) -> None:
        row, rewards = episode.row, episode.rewards
        truncated = not step.terminated  # an end that is both is an end of the task
        calls = _calls(self.policy, row)
        mode = step.info.get("mode")
        self.episodes[row] = Episode(
            row=row,
            seed=episode.start.seed,
            steps=len(rewards),
            total_reward=math.fsum(rewards),
            best_reward=max(rewards),
            last_reward=rewards[-1],
            success=episode.success,
            terminated=step.terminated,
            truncated=truncated,
            mode=None if mode is None else str(mode),
            measures={f"{n}/best": episode.best[n] for n in self.measures}
            | {f"{n}/last": episode.last[n] for n in self.measures},
            calls=None if calls is None else calls - (episode.calls or 0),
            clipped=episode.clipped,
            start=episode.digest,
        )
        self.seconds[row] = Seconds(episode.policy_seconds, episode.environment_seconds)
        if episode.keep:
            self.trajectories[row] = Trajectory(
                observations={name: np.stack([view[name] for view in episode.views]) for name in episode.views[0]},
                actions=np.stack(episode.actions),
                rewards=np.array(rewards),
                infos=episode.infos,
                terminated=step.terminated,
                truncated=truncated,
            )
        if row in self.rendered:
            self.frames[row] = episode.frames
        del self.running[episode.lane]


def _check(starts: Sequence[EpisodeStart], num_envs: int, window: int, frame_every: int, rows: Sequence[int]) -> None:
    if not starts:
        raise UsageError("no episodes were asked for: `starts` is empty")
    for name, value in (("num_envs", num_envs), ("window", window), ("frame_every", frame_every)):
        if value < 1:
            raise UsageError(f"{name} must be 1 or more, {value} was given")
    if any(start.seed < 0 for start in starts):
        raise UsageError(f"seeds are 0 or more, {min(start.seed for start in starts)} was given")
    outside = [row for row in rows if not 0 <= row < len(starts)]
    if outside:
        raise UsageError(f"there is no episode {outside[0]} to keep: rows are 0 to {len(starts) - 1}")


def _digest(view: Mapping[str, np.ndarray]) -> str:
    seen = hashlib.sha256()
    for name in sorted(view):
        seen.update(name.encode())
        seen.update(np.ascontiguousarray(view[name]).tobytes())
    return seen.hexdigest()[:16]


def _calls(policy: ControlPolicy, row: int) -> int | None:
    calls = getattr(policy, "calls", None)
    return int(calls.get(row, 0)) if isinstance(calls, Mapping) else None


def _plain(options: Any) -> Any:
    """Options as JSON can hold them."""
    if isinstance(options, Mapping):
        return {str(name): _plain(value) for name, value in options.items()}
    if isinstance(options, np.ndarray | np.generic):
        return options.tolist()
    return [_plain(value) for value in options] if isinstance(options, list | tuple) else options
