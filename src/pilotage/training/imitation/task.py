"""The world of a policy that learns from demonstrations: who demonstrates there, and how it is tried out."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.data.demonstration_checks import source_of
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.numpy_archive import read_npz, write_npz
from pilotage.environments.control import collect, control_env, control_expert, demonstration_modules, renders
from pilotage.environments.control.drawing import GroundPlan
from pilotage.policies.control.policy import ActionPolicy
from pilotage.rollouts.control import evaluate, starts_of
from pilotage.rollouts.episodes import Evaluation
from pilotage.rollouts.observations import policy_view
from pilotage.rollouts.vector_envs import EpisodeStart
from pilotage.training.imitation.config import ImitationConfig
from pilotage.types import ControlPolicy

if TYPE_CHECKING:
    import gymnasium


class ControlTask:
    """Where policies act, and from which starts they are evaluated."""

    def __init__(self, config: ImitationConfig) -> None:
        self.config = config

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """Return what the environment says of itself, by name.

        They are measures, goal_dims and place_dims, None where it says nothing; and whether it renders pictures.
        """
        env = self.make()
        try:
            found = {name: getattr(env.unwrapped, name, None) for name in ("measures", "goal_dims", "place_dims")}
            return {**found, "renders": renders(env)}
        finally:
            env.close()

    @property
    def goal_entries(self) -> Sequence[int] | None:
        """Entries of the state that a goal speaks of, in the order in which the environment gives them."""
        return self.facts["goal_dims"] if self.config.goal_steps else None

    def evaluate(self, policy: ActionPolicy, videos: int = 0, keep: bool = False) -> Evaluation:
        """Return every declared episode once; the first `videos` of them are filmed. keep: keep all trajectories."""
        config = self.config
        seen = range(min(videos, config.evaluation_episodes) if self.facts["renders"] else 0)
        options = {"render_mode": "rgb_array"} if len(seen) else {}
        return evaluate(
            lambda: self.make(**options),
            self.acting(policy),
            self.starts(),
            num_envs=config.num_envs,
            keep=range(config.evaluation_episodes) if keep else (),
            window=config.n_obs_steps,
            max_steps=config.evaluation_steps or None,
            measures=self.facts["measures"] or (),
            frames=seen,
            frame_every=2,
            observe=self.view,
        )

    def view(self, observation: Any) -> Mapping[str, np.ndarray]:
        """Return an observation of this environment as policies read it."""
        return policy_view(observation, [name for name in self.config.state_keys.split("+") if name])

    def make(self, **options: Any) -> gymnasium.Env:
        """Return one environment of this world."""
        return control_env(self.config.env, **options)

    def expect_fitting(self, demonstrations: Demonstrations, cameras: Sequence[str]) -> None:
        """Raises UsageError unless this world shows what was demonstrated on and takes such actions."""
        env = self.make()
        try:
            shown = self.view(env.reset(seed=self.config.evaluation_seed)[0])
            takes = env.action_space.shape
        finally:
            env.close()
        wanted: dict[str, tuple[int, ...]] = {}
        if not cameras or "state" in demonstrations.observations:
            wanted["state"] = tuple(demonstrations.column("state").shape[1:])
        for camera in cameras:  # of any height and width
            wanted[f"image/{camera}"] = tuple(demonstrations.column(f"image/{camera}").shape[3:])
        there = {name: value.shape[:1] for name, value in shown.items()}
        if any(there.get(name) != size for name, size in wanted.items()) or takes != (demonstrations.action_size,):
            raise UsageError(
                f"the world {self.config.env} shows {_sizes(there)} and takes actions {list(takes or ())}; "
                f"{source_of(demonstrations.meta)} shows {_sizes(wanted)} and has actions "
                f"[{demonstrations.action_size}]: give --env the one it was recorded in, or none; --state-keys names "
                "what makes up the state of both"
            )
        if self.config.goal_steps and self.goal_entries is None:
            size = self.config.goal_steps * int(np.prod(wanted.get("state", (0,))))
            if there.get("goal") != (size,):
                raise UsageError(
                    f"goals are {self.config.goal_steps} whole states of the demonstrations, {size} numbers "
                    f"(--goal-steps), and {self.config.env} shows {_sizes(there)}: it must show a 'goal' of that size, "
                    "or say by its attribute goal_dims of which entries of the state its goal speaks; to clone on the "
                    "goal that is shown, make it part of the state (--state-keys observation+desired_goal)"
                )

    def starts(self) -> Sequence[EpisodeStart]:
        """Return the declared starts."""
        return starts_of(self.config.evaluation_episodes, self.config.evaluation_seed)

    def acting(self, policy: ActionPolicy) -> ControlPolicy:
        """Return the policy as evaluations ask for it: a goal of this world is shown to it as part of a state."""
        return _Acting(policy, self.goal_entries)

    def map(self) -> GroundPlan | None:
        """Return the map of a flat world; None where there is none to draw paths on."""
        env = control_env(self.config.env)
        try:
            env.reset(seed=self.config.evaluation_seed)
            plan: GroundPlan | None = env.unwrapped.plan() if self.place_entries else None  # type: ignore[attr-defined]
        finally:
            env.close()
        return plan

    @property
    def place_entries(self) -> tuple[int, int] | None:
        """Entries of the state that say where on the map the acting body is."""
        return self.facts["place_dims"]

    def save_videos(self, happened: Evaluation, folder: Path) -> None:
        """The frames of filmed episodes, one .npz each (frames [n, height, width, 3] uint8), for `pilotage play`."""
        folder.mkdir(parents=True, exist_ok=True)
        for row, frames in happened.frames.items():
            episode = happened.episodes[row]
            success = -1 if episode.success is None else int(episode.success)
            place = folder / f"episode-{row}.npz"
            np.savez_compressed(place, frames=np.stack(list(frames)), seed=episode.seed, success=success)


def _sizes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items()) or "nothing"


class _Acting:
    """A policy as the evaluator asks for it: a goal is shown as part of a state."""

    def __init__(self, policy: ActionPolicy, goal_entries: Sequence[int] | None) -> None:
        self.policy, self.goal_entries = policy, goal_entries

    @property
    def calls(self) -> Mapping[int, int]:
        """Network passes that served each row so far."""
        return self.policy.calls

    def reset(self, rows: Sequence[int]) -> None:
        self.policy.reset(rows)

    def act(self, observations: Mapping[str, Tensor], rows: Sequence[int]) -> Tensor:
        if "goal" in observations:
            observations = {**observations, "goal": self._goal(observations["goal"], observations["state"][:, -1])}
        return self.policy.act(observations, rows)

    def _goal(self, goal: Tensor, state: Tensor) -> Tensor:
        """[n, G] in the world's units -> [n, S]: normalised as that part of a state, all else 0."""
        if self.goal_entries is None:
            return goal
        entries = list(self.goal_entries)
        whole = torch.zeros_like(state)
        whole[:, entries] = goal
        scaled = self.policy.normalisers["state"].normalise(whole.to(self.policy.device)).to(state.device)
        shown = torch.zeros_like(state)
        shown[:, entries] = scaled[:, entries]
        return shown


def goal_metrics(happened: Evaluation) -> dict[str, float]:
    """Return where the world tells what was asked for from what was done: mean result and reward, and their ratio."""
    if not any("result/best" in episode.measures for episode in happened.episodes):
        return {}
    result = float(np.mean([episode.measures["result/best"] for episode in happened.episodes]))
    reward = float(np.mean([episode.measures["completed/best"] for episode in happened.episodes]))
    ratio = {"evaluation/conditional_ratio": result / reward} if reward else {}
    return {"evaluation/result": result, "evaluation/reward": reward, **ratio}


def control_task(config: ImitationConfig) -> ControlTask | None:
    """Return the world that a configuration names; None for "none". Raises UsageError where it cannot be made."""
    if config.env == "none":
        return None
    world = ControlTask(config)
    world.facts  # noqa: B018  makes one, which refuses what cannot be made
    return world


def expert_demonstrations(config: ImitationConfig, run: Any) -> Demonstrations:
    """Return what the world's scripted expert shows: an artifact, made once and shared by all arms and seeds."""
    world = config.expert_env or config.env
    control_expert(world)  # refuses a world without one, before anything is made
    settings = {"world": world, "episodes": config.demonstrations, "seed": config.data_seed}
    folder = run.artifact(make_demonstrations, settings, name=f"demonstrations-{world}", code=expert_sources(world))
    return read_npz(folder / "demonstrations.npz")


def make_demonstrations(directory: Path, config: Mapping[str, Any]) -> None:
    """The maker of that artifact."""
    env = control_env(config["world"])
    try:
        shown = collect(env, control_expert(config["world"]), config["episodes"], config["seed"])
    finally:
        env.close()
    facts = shown.pop("meta")
    each = [{"seed": seed, "mode": mode} for seed, mode in zip(facts.pop("seeds"), facts.pop("modes"), strict=True)]
    facts.pop("successes")
    source = f"the scripted expert of {config['world']}"
    demonstrations = Demonstrations(**shown, meta={"source": source, **facts}, episode_meta=each)
    write_npz(demonstrations, directory / "demonstrations.npz")


def expert_sources(world: str) -> str:
    """Return the source on which an expert's demonstrations depend, so that a change of it makes them anew."""
    modules = [importlib.import_module(name) for name in demonstration_modules(world)]
    return "".join(inspect.getsource(module) for module in (*modules, inspect.getmodule(collect)) if module)
