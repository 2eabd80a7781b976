"""Demonstrations by scripted experts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pilotage.core.errors import UsageError

if TYPE_CHECKING:
    import gymnasium


class Expert(Protocol):
    """A script that looks into the environment and says what to do. Its random numbers come from the generator that it
    is given.
    """

    disturbance: float
    """Standard deviation of what is added to an executed action and not to the recorded one, so that demonstrations
    show the way back from small mistakes (Laskey et al. 2017, arXiv 1703.09327, DART)."""

    def reset(self, env: gymnasium.Env, generator: np.random.Generator, turn: int) -> None:
        """An episode begins. `turn` counts the episodes asked for, so that an expert with several ways can take them
        in turn and demonstrations are balanced.
        """
        ...

    def act(self, env: gymnasium.Env) -> np.ndarray:
        """Return the next action [A], within the environment's box."""
        ...


def episode_seed(seed: int, number: int) -> int:
    """Return the seed of one of many episodes, 32 bits."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def collect(
    env: gymnasium.Env,
    expert: Expert,
    episodes: int,
    seed: int,
    *,
    only_successes: bool = True,
    tries: int = 20,
) -> dict[str, Any]:
    """Demonstrations: `episodes` of them, each begun at a seed of its own.

    Args:
        env: made without a VectorEnv. Its info says "success", and "mode" where it has several.
        expert: who acts.
        episodes: how many are kept, 1 or more.
        seed: decides starts and the expert's choices.
        only_successes: leaves out the episodes that fail; the same turn is then tried again from another start.
        tries: at most so many tries for one episode.

    Returns:
        observations: name -> [N, ...]; actions [N, A] float32; episode_ends [E] int64, exclusive; last_observations:
        name -> [E, ...], what each episode ended in; rewards [N] float32; terminated [E] and truncated [E] bool; meta
        with "seeds", "modes" and "successes" by episode, "tried" and "success_rate" over all that were tried.

    Raises UsageError when the expert fails `tries` times at one episode.
    """
    if episodes < 1:
        raise UsageError(f"episodes must be 1 or more, {episodes} was given")
    kept: list[_Recorded] = []
    tried = successes = 0
    for turn in range(episodes):
        for _ in range(tries):
            number = episode_seed(seed, tried)
            recorded = _run(env, expert, number, turn)
            tried += 1
            successes += recorded.success
            if recorded.success or not only_successes:
                kept.append(recorded)
                break
        else:
            raise UsageError(f"{type(expert).__name__} failed {tries} times at episode {turn} of {env}")
    return _joined(kept) | {
        "meta": {
            "seeds": [episode.seed for episode in kept],
            "modes": [episode.mode for episode in kept],
            "successes": [episode.success for episode in kept],
            "tried": tried,
            "success_rate": successes / tried,
        }
    }


class _Recorded:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.observations: list[dict[str, np.ndarray]] = []
        self.actions: list[np.ndarray] = []
        self.rewards: list[float] = []
        self.success = self.terminated = self.truncated = False
        self.mode: str | None = None


def _run(env: gymnasium.Env, expert: Expert, seed: int, turn: int) -> _Recorded:
    recorded = _Recorded(seed)
    observation, _ = env.reset(seed=seed)
    recorded.observations.append(_named(observation))
    expert.reset(env, np.random.default_rng([seed, 1]), turn)
    disturbances = np.random.default_rng([seed, 2])
    while not (recorded.terminated or recorded.truncated):
        action = np.asarray(expert.act(env), dtype=np.float32)
        executed = action
        if expert.disturbance:
            executed = action + (expert.disturbance * disturbances.normal(size=action.shape)).astype(action.dtype)
        observation, reward, recorded.terminated, recorded.truncated, info = env.step(executed)
        recorded.observations.append(_named(observation))
        recorded.actions.append(action)
        recorded.rewards.append(float(reward))
        recorded.success = recorded.success or bool(info["success"])
        recorded.mode = info.get("mode")
    return recorded


def _named(observation: Any) -> dict[str, np.ndarray]:
    """Copies, since an environment may write the next observation into the array that it returned."""
    named = observation if isinstance(observation, dict) else {"state": observation}
    return {name: np.array(value) for name, value in named.items()}


def _joined(kept: list[_Recorded]) -> dict[str, Any]:
    names = kept[0].observations[0]
    return {
        "observations": {n: np.stack([seen[n] for e in kept for seen in e.observations[:-1]]) for n in names},
        "actions": np.stack([action for e in kept for action in e.actions]).astype(np.float32),
        "episode_ends": np.cumsum([len(e.actions) for e in kept], dtype=np.int64),
        "last_observations": {n: np.stack([e.observations[-1][n] for e in kept]) for n in names},
        "rewards": np.array([reward for e in kept for reward in e.rewards], dtype=np.float32),
        "terminated": np.array([e.terminated for e in kept]),
        "truncated": np.array([e.truncated for e in kept]),
    }
