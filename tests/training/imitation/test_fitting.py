"""What excludes each other is refused before a step is taken: scalings of actions and limits, data and environment."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium", reason="control environments need pilotage[robots]")

from pilotage.core.configuration import config_to_dict
from pilotage.core.errors import UsageError
from pilotage.core.pieces import load_piece
from pilotage.core.registry import find_pieces
from pilotage.experiments.launch import load_policy
from pilotage.objectives.noise_paths import Karras, Linear, VariancePreserving
from pilotage.policies.control.sampling.samplers import SLOT, limit_of
from pilotage.runs import Run, read_result
from pilotage.systems.robots.carp import SYSTEM as CARP
from pilotage.training.imitation.config import ImitationConfig
from pilotage.training.imitation.trainer import ImitationTrainer, train

SCHEDULES = {VariancePreserving: "vp:steps=4", Karras: "karras", Linear: "linear"}
SMALL: dict[str, Any] = {
    "env": "none",
    "network": "residual_mlp:width=8,depth=1",
    "n_obs_steps": 1,
    "chunk_size": 2,
    "n_action_steps": 1,
    "validation": 0.0,
    "steps": 1,
    "batch": 4,
}
PLANNING = {"n_obs_steps": 2, "executor": "held:steps=1", "goal_steps": 1}
HEADS: dict[str, dict[str, Any]] = {
    **{name: {} for name in ("regression", "mixture", "bins", "latent", "descent", "energy", "ebt")},
    "bins": {"head": "bins:bins=3"},
    "contrastive": {"head": "contrastive:negatives=2,candidates=2,rounds=1"},
    "latent_plans": PLANNING,
    "relay": PLANNING,
    "tokens": {},
}
LIMITED = {"contrastive": "bound", "energy": "", "ebt": "", "tokens": "NextScaleTokens"}
"""Heads that answer within [-1, 1] only."""


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path_factory.getbasetemp() / "home"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Actions are 0, or ±3 in one of ten steps: most of one deviation, and rarely far beyond it."""
    path = tmp_path_factory.mktemp("data") / "rare.npz"
    rng = np.random.default_rng(0)
    action = rng.choice([-3.0, 0.0, 3.0], p=[0.1, 0.8, 0.1], size=(60, 2)).astype("f4")
    np.savez(path, action=action, state=rng.normal(size=(60, 3)).astype("f4"), episode_ends=np.arange(20, 61, 20))
    return path


def begun(tmp_path: Path, config: ImitationConfig) -> ImitationTrainer:
    with Run.create(tmp_path / "run", system="imitation", config=config_to_dict(config), seed=0) as run:
        return ImitationTrainer(config, run)


def samplers() -> list[tuple[str, str, str, bool]]:
    """Return (schedule, sampler, context, whether it cuts) of the product of samplers, their limits and contexts."""
    found = []
    for name in find_pieces(SLOT):
        piece = load_piece(SLOT, name)
        for options, context in itertools.product(({}, {piece.limit: None} if hasattr(piece, "limit") else {}), "nc"):
            text = f"{name}:steps=4" + "".join(f",{key}=none" for key in options)
            held = "clean" if context == "c" and piece.path is Karras else "none"
            found.append((SCHEDULES[piece.path], text, held, limit_of(piece, options) is not None or held == "clean"))
    return sorted(set(found))


@pytest.mark.parametrize("scaling", ["min_max", "mean_std", "identity"])
@pytest.mark.parametrize(("schedule", "sampler", "context", "cuts"), samplers())
def test_no_sampler_cuts_demonstrated_actions_off(tmp_path, data, scaling, schedule, sampler, context, cuts) -> None:
    config = ImitationConfig(
        **SMALL, data=str(data), action_scaling=scaling, noise_schedule=schedule, sampler=sampler, context=context
    )
    if cuts and scaling != "min_max":
        with pytest.raises(UsageError, match=r"demonstrated ones at up to ±[23].*=none lifts it.*--action-scaling"):
            begun(tmp_path, config)
    else:
        begun(tmp_path, config)


def test_every_head_is_in_the_product() -> None:
    assert set(find_pieces("head")) == {*HEADS, "denoiser"}


@pytest.mark.parametrize("scaling", ["min_max", "mean_std", "identity"])
@pytest.mark.parametrize("head", HEADS)
def test_no_head_cuts_demonstrated_actions_off(tmp_path, data, scaling, head) -> None:
    options = {**SMALL, "head": head, "data": str(data), "action_scaling": scaling, **HEADS[head]}
    config = ImitationConfig(**options) if head != "tokens" else tokens(data, scaling)
    if head in LIMITED and scaling != "min_max":
        with pytest.raises(UsageError, match=f"demonstrated ones at up to ±[23].*{LIMITED[head]}"):
            begun(tmp_path, config)
    else:
        begun(tmp_path, config)


def tokens(data: Path, scaling: str) -> ImitationConfig:
    small = {
        **{name: value for name, value in SMALL.items() if name != "network"},
        "network": "next_scale:width=8,depth=1,heads=1",
        "tokeniser": "multiscale:scales=1,codes=4,latent=2,channels=8",
        "tokeniser_steps": 1,
        "chunk_size": 4,
    }
    return replace(CARP.config, **small, data=str(data), action_scaling=scaling)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"goal_weight": 2.0, "goal_steps": 1, "head": "regression"}, "does not denoise"),
        ({"sampler": "ddim:step=2"}, "has no option 'step'"),
        ({"sampler": "ddpm:levels=3|1"}, "end them with 0"),
        ({"noise_schedule": "linear", "sampler": "flow_euler:levels=0.5|0.2"}, "rise strictly"),
        ({"noise_schedule": "karras", "sampler": "euler:churn=-1"}, "must not be negative"),
        ({"head": "energy:steps=0"}, "at least 1"),
        ({"state_keys": "state+stat"}, "no observation 'stat'"),
        ({"action_key": "act"}, "holds action, episode_ends, state"),
    ],
)
def test_what_would_fail_at_the_first_decision_is_refused_before_training(tmp_path, data, changes, message) -> None:
    with pytest.raises(UsageError, match=message):
        begun(tmp_path, ImitationConfig(**{**SMALL, "data": str(data), **changes}))


# ---- environments of ones own ----------------------------------------------------------------------------------------

OWN = '''
import gymnasium
import numpy as np


class Reach(gymnasium.Env):
    """A point is moved; observations are those of Gymnasium's goal environments."""

    def __init__(self, size=1.0):
        box = lambda n: gymnasium.spaces.Box(-np.inf, np.inf, (n,), np.float64)
        names = {"observation": box(4), "achieved_goal": box(2), "desired_goal": box(2)}
        self.observation_space = gymnasium.spaces.Dict(names)
        self.action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.goal = np.zeros(2), self.np_random.uniform(-1, 1, 2)
        return self._seen(), {}

    def step(self, action):
        self.at = self.at + np.asarray(action) / 4
        near = bool(np.abs(self.at - self.goal).max() < 0.2)
        return self._seen(), float(near), near, False, {"success": near}

    def _seen(self):
        still = np.zeros(2)
        return {"observation": np.r_[self.at, still], "achieved_goal": self.at, "desired_goal": self.goal}


def make_reach():
    return Reach()


def broken():
    return 3
'''


@pytest.fixture
def reach(tmp_path: Path) -> tuple[Path, Path]:
    """Return the file of an environment and of demonstrations in it, which go straight to the goal."""
    (tmp_path / "my_env.py").write_text(OWN)
    rng = np.random.default_rng(0)
    at, goal, action = [], [], []
    for _ in range(40):
        here, there = np.zeros(2), rng.uniform(-1, 1, 2)
        for _ in range(8):
            step = np.clip(4 * (there - here), -1, 1)
            at.append(here), goal.append(there), action.append(step)
            here = here + step / 4
    seen = {"achieved_goal": np.array(at), "desired_goal": np.array(goal)}
    np.savez(
        tmp_path / "reach.npz",
        **seen,
        observation=np.c_[at, np.zeros_like(at)],
        action=np.array(action, "f4"),
        episode_ends=np.arange(8, 321, 8),
    )
    return tmp_path / "my_env.py", tmp_path / "reach.npz"


def reaching(env: str, demonstrations: Path, **changes: Any) -> ImitationConfig:
    return ImitationConfig(
        **{
            **SMALL,
            "network": "residual_mlp:width=64,depth=1",
            "head": "regression",
            "env": env,
            "data": str(demonstrations),
            "state_keys": "observation+desired_goal",
            "steps": 300,
            "batch": 64,
            "evaluation_episodes": 6,
            "evaluation_steps": 20,
            **changes,
        }
    )


def test_one_clones_on_the_goal_that_an_environment_of_ones_own_shows(tmp_path: Path, reach) -> None:
    """The policy sees observation and desired_goal side by side, in training and when acting, and gets there."""
    file, demonstrations = reach
    config = reaching(f"{file}:Reach", demonstrations)
    folder = tmp_path / "run"
    with Run.create(folder, system="imitation", config=config_to_dict(config), seed=0) as run:
        train(config, run)
    assert read_result(folder)["evaluation/success"] == 1.0
    rows = [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]
    assert sorted(row["seed"] for row in rows) == [config.evaluation_seed + k for k in range(6)]  # S15
    events = (folder / "events.jsonl").read_text()
    assert "no videos" in events  # two were asked for, and it renders none
    policy = load_policy(folder)
    policy.reset([0])
    assert policy.act(np.zeros((1, 6), np.float32), [0]).shape == (1, 2)
    assert str(policy).splitlines() == [
        "Robot policy: head Regression on a ResidualMLP, encoder FlattenEncoder, executor RecedingHorizon",
        "takes 'state' [rows, 6] in raw units, by policy.act(observations, rows); it decides on the newest observation",
        "gives actions [rows, 2] in raw units; plans chunks of 2 actions and executes 1 of each",
    ]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("make_reach", {}, ""),
        ("Reech", {}, "did you mean 'Reach'"),
        ("broken", {}, "gives a int; expected a gymnasium.Env"),
        (
            "Reach",
            {"state_keys": ""},
            "no observation 'state'; there are achieved_goal, .*--state-keys",
        ),
        (
            "Reach",
            {"state_keys": "observation", "goal_steps": 1},
            "goal_dims of which .*observation.desired_goal",
        ),
        ("Reach", {"state_keys": "observation"}, ""),
    ],
)
def test_environments_of_ones_own_are_taken_or_refused_at_the_start(tmp_path, reach, name, changes, message) -> None:
    file, demonstrations = reach
    config = reaching(f"{file}:{name}", demonstrations, **changes)
    if not message:
        begun(tmp_path, config)
        return
    with pytest.raises(UsageError, match=message):
        begun(tmp_path, config)


def test_spoilt_demonstrations_are_named_by_an_event(tmp_path: Path, data: Path) -> None:
    arrays = dict(np.load(data))
    arrays["state"][25] = np.nan
    np.savez(tmp_path / "spoilt.npz", **arrays)
    config = ImitationConfig(**SMALL, data=str(tmp_path / "spoilt.npz"))
    with pytest.raises(UsageError, match=r"episode 1, step 5 holds nan .*--skip-bad-episodes"):
        begun(tmp_path / "a", config)
    trainer = begun(tmp_path / "b", replace(config, skip_bad_episodes=True))
    assert len(np.unique(trainer.windows.take(range(len(trainer.windows))).episode)) == 2
    events = (tmp_path / "b/run/events.jsonl").read_text()
    assert re.search(r"1 demonstrations cannot be used \(1: observation 'state', step 5 holds nan\)", events)
