"""An environment of one's own: a Gymnasium class, a script that demonstrates in it, and a policy that learns from that.

python examples/own_environment.py
pilotage run bc-mlp --env examples/own_environment.py:Reach --data reach.npz
"""

import sys

import gymnasium
import numpy as np
from gymnasium import spaces

import pilotage
from pilotage.data.demonstrations import Demonstrations
from pilotage.data.formats.numpy_archive import write_npz
from pilotage.environments.control.experts import collect


class Reach(gymnasium.Env):
    """Bring a point to the goal, which is drawn anew in every episode.

    Observes [x, y, goal x, goal y], acts by a velocity [vx, vy] in [-1, 1]. The info says "success", which evaluations
    count.
    """

    def __init__(self, max_steps: int = 40) -> None:
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.observation_space = spaces.Box(-2.0, 2.0, (4,), np.float32)
        self.max_steps = max_steps

    def reset(self, *, seed=None, options=None):
        """Begin an episode."""
        super().reset(seed=seed)
        self.point, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        self.steps = 0
        return self._observation(), {"success": False}

    def step(self, action):
        """Move for one step."""
        self.point = np.clip(self.point + 0.1 * np.clip(action, -1, 1), -2, 2)
        self.steps += 1
        success = bool(np.linalg.norm(self.point - self.goal) < 0.1)
        return self._observation(), float(success), success, self.steps >= self.max_steps, {"success": success}

    def _observation(self):
        return np.concatenate([self.point, self.goal]).astype(np.float32)


class Straight:
    """A script that goes straight to the goal."""

    disturbance = 0.3
    """Noise of the executed actions, not of the recorded ones: demonstrations then show the way back from mistakes."""

    def reset(self, env, generator, turn):
        """Begin an episode."""

    def act(self, env):
        """Return the next action."""
        return np.clip(5 * (env.goal - env.point), -1, 1).astype(np.float32)


if __name__ == "__main__":
    shown = collect(Reach(), Straight(), episodes=40, seed=0)
    shown["meta"] = {"source": "a script"}
    write_npz(Demonstrations(**shown), "reach.npz")
    SMALL = {"network": "residual_mlp:width=64,depth=1", "batch": 64, "videos": 0}
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    result = pilotage.run("bc-mlp", env=Reach, data="reach.npz", steps=steps, evaluation_episodes=10, **SMALL)
    print(result.metrics["evaluation/success"], "of the episodes reach the goal")
