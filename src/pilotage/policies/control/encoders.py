"""From observation windows to a condition.

Observations are a mapping: "state" [B, To, S], images "image/NAME" [B, To, C, H, W] in [0, 1], "goal" [B, G] or
[B, n, G]. An encoder's `vector_dim`, `token_dim`, `goal_dim` are the sizes that a network is made for. In training mode
goals are dropped (zeroed) with a probability, which lets the same weights act without a goal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.networks.resnet import ImageFeatures
from pilotage.objectives.draws import Generators, uniform
from pilotage.policies.control.condition import Condition

Observations = Mapping[str, Tensor]


def without_goal(observations: Observations) -> dict[str, Tensor]:
    """Return the same observations with a goal of zeros, which is what a dropped goal is."""
    return {key: torch.zeros_like(value) if key == "goal" else value for key, value in observations.items()}


def drop_goal(goal: Tensor, generator: Generators, *, probability: float, kind: str = "element") -> Tensor:
    """`goal` [B, n, G] with every number, or every row's whole goal, zeroed with `probability`.

    "element" is what BESO's published code does, "whole" what classifier-free guidance is defined by.
    """
    if kind not in ("element", "whole"):
        raise UsageError(f"dropout_kind={kind!r} is not known; choose element or whole")
    shape = list(goal.shape) if kind == "element" else [len(goal), 1, 1]
    return torch.where(uniform(shape, generator, like=goal) < probability, torch.zeros_like(goal), goal)


class Encoder(nn.Module):
    """What all encoders share: the check of the state window, and the goal with its dropout."""

    def __init__(
        self,
        state_dim: int,
        frames: int,
        *,
        goal_dim: int = 0,
        goals: int = 1,
        goal_dropout: float = 0.0,
        dropout_kind: Literal["element", "whole"] = "element",
    ) -> None:
        super().__init__()
        if frames < 1 or state_dim < 0:
            raise UsageError(f"frames={frames} must be at least 1 and state_dim={state_dim} at least 0")
        if not 0 <= goal_dropout <= 1:
            raise UsageError(f"goal_dropout={goal_dropout} must be a probability")
        self.state_dim, self.frames, self.goal_dim, self.goals = state_dim, frames, goal_dim, goals
        self.goal_dropout, self.dropout_kind = goal_dropout, dropout_kind
        self.goal_size = goal_dim * goals if goal_dim else 0

    def sizes(self) -> tuple[int, int]:
        """Return (vector_dim, token_dim): the widths that a network is made for."""
        return int(self.vector_dim), int(self.token_dim)  # type: ignore[arg-type]

    def forward(self, observations: Observations, generator: Generators | None = None) -> Condition:
        """`generator` is needed in training mode when goals are dropped, and never used otherwise."""
        raise NotImplementedError

    def _part(self, observations: Observations, key: str, shape: Sequence[int]) -> Tensor:
        """`observations[key]`, checked to be [B, *shape]."""
        if key not in observations:
            raise UsageError(f"no observation called {key!r}; there are {', '.join(sorted(observations))}")
        value = observations[key]
        if list(value.shape[1:]) != list(shape):
            expected = ", ".join(map(str, shape))
            raise UsageError(f"observation {key!r} has shape {list(value.shape)}; expected [batch, {expected}]")
        return value

    def _state(self, observations: Observations, *, shorter: bool = False) -> Tensor:
        frames = self.frames
        if shorter and "state" in observations and observations["state"].dim() == 3:
            frames = min(observations["state"].shape[1], frames)
        return self._part(observations, "state", [frames, self.state_dim])

    def _goal(self, observations: Observations, generator: Generators | None) -> Tensor | None:
        """[B, n, G], or None for an encoder without goals."""
        if not self.goal_dim:
            return None
        if "goal" in observations and observations["goal"].dim() == 2:
            observations = {**observations, "goal": observations["goal"].unflatten(1, (self.goals, -1))}
        goal = self._part(observations, "goal", [self.goals, self.goal_dim])
        if not (self.training and self.goal_dropout):
            return goal
        if generator is None:
            raise UsageError("goals are dropped in training; give the encoder a generator, or call eval()")
        return drop_goal(goal, generator, probability=self.goal_dropout, kind=self.dropout_kind)


class FlattenEncoder(Encoder):
    """The window as it is: vector [B, To·S + n·G], tokens [B, To, S], goal [B, n, G]. Accepts shorter windows."""

    @property
    def vector_dim(self) -> int:
        """Return the size of the vector of a condition."""
        return self.frames * self.state_dim + self.goal_size

    @property
    def token_dim(self) -> int:
        """Return the size of a token of a condition."""
        return self.state_dim

    def forward(self, observations: Observations, generator: Generators | None = None) -> Condition:
        """Return the output of the network."""
        state, goal = self._state(observations, shorter=True), self._goal(observations, generator)
        return Condition(joined(state.flatten(1), goal), state, goal)


class MLPEncoder(Encoder):
    """A Mish MLP over the flattened window and goal to a vector, a linear layer per frame to tokens."""

    def __init__(
        self,
        state_dim: int,
        frames: int,
        *,
        width: int = 256,
        depth: int = 2,
        goal_dim: int = 0,
        goals: int = 1,
        goal_dropout: float = 0.0,
        dropout_kind: Literal["element", "whole"] = "element",
    ) -> None:
        super().__init__(
            state_dim, frames, goal_dim=goal_dim, goals=goals, goal_dropout=goal_dropout, dropout_kind=dropout_kind
        )
        self.width, self.depth, self.vector_dim, self.token_dim = width, depth, width, width
        sizes = [frames * state_dim + self.goal_size] + [width] * depth
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.Mish()]
        self.layers = nn.Sequential(*layers[:-1])
        self.of_frame = nn.Linear(state_dim, width)

    def forward(self, observations: Observations, generator: Generators | None = None) -> Condition:
        """Return the output of the network."""
        state, goal = self._state(observations), self._goal(observations, generator)
        return Condition(self.layers(joined(state.flatten(1), goal)), self.of_frame(state), goal)


class RecurrentEncoder(Encoder):
    """An LSTM over the frames: vector [B, width] is its last output, tokens [B, To, width] all of them.

    The goal is part of every frame. With a `Mixture` head on one action this is LSTM-GMM (arXiv 2108.03298), run anew
    over the last To frames at every decision.
    """

    def __init__(
        self,
        state_dim: int,
        frames: int,
        *,
        width: int = 400,
        depth: int = 2,
        goal_dim: int = 0,
        goals: int = 1,
        goal_dropout: float = 0.0,
        dropout_kind: Literal["element", "whole"] = "element",
    ) -> None:
        super().__init__(
            state_dim, frames, goal_dim=goal_dim, goals=goals, goal_dropout=goal_dropout, dropout_kind=dropout_kind
        )
        self.width, self.depth, self.vector_dim, self.token_dim = width, depth, width, width
        self.layers = nn.LSTM(state_dim + self.goal_size, width, depth, batch_first=True)

    def forward(self, observations: Observations, generator: Generators | None = None) -> Condition:
        """Return the output of the network."""
        state, goal = self._state(observations, shorter=True), self._goal(observations, generator)
        if goal is not None:
            state = torch.cat([state, goal.flatten(1)[:, None].expand(-1, state.shape[1], -1)], -1)
        outputs, _ = self.layers(state)
        return Condition(outputs[:, -1], outputs, goal)


class ImageEncoder(Encoder):
    """ResNet-18 features of every camera and frame, joined with the state: tokens [B, To, K·features + S], flat vector.

    `cameras` are names of images ("top" for "image/top"); each has weights of its own. `state_dim` 0: images alone.
    """

    def __init__(
        self,
        cameras: Sequence[str],
        state_dim: int,
        frames: int,
        *,
        channels: int = 3,
        features: int = 64,
        keypoints: int = 32,
        widths: Sequence[int] = (64, 128, 256, 512),
        goal_dim: int = 0,
        goals: int = 1,
        goal_dropout: float = 0.0,
        dropout_kind: Literal["element", "whole"] = "element",
    ) -> None:
        super().__init__(
            state_dim, frames, goal_dim=goal_dim, goals=goals, goal_dropout=goal_dropout, dropout_kind=dropout_kind
        )
        if not cameras:
            raise UsageError("an image encoder needs at least one camera")
        self.cameras, self.channels, self.features = tuple(cameras), channels, features
        self.keypoints, self.widths = keypoints, tuple(widths)
        self.eyes = nn.ModuleList(
            ImageFeatures(channels, features=features, keypoints=keypoints, widths=widths) for _ in cameras
        )
        self.token_dim = len(self.cameras) * features + state_dim
        self.vector_dim = frames * self.token_dim + self.goal_size

    def forward(self, observations: Observations, generator: Generators | None = None) -> Condition:
        """Return the output of the network."""
        parts = []
        for camera, eye in zip(self.cameras, self.eyes, strict=True):
            key = f"image/{camera}"
            size = list(observations[key].shape[-2:]) if key in observations else []
            image = self._part(observations, key, [self.frames, self.channels, *size])
            parts.append(eye(image.flatten(0, 1)).unflatten(0, (-1, self.frames)))
        if self.state_dim:
            parts.append(self._state(observations))
        tokens, goal = torch.cat(parts, -1), self._goal(observations, generator)
        return Condition(joined(tokens.flatten(1), goal), tokens, goal)


def joined(vector: Tensor, goal: Tensor | None) -> Tensor:
    """Return the vector [B, d] with the goal [B, n, G] appended, where there is one."""
    return vector if goal is None else torch.cat([vector, goal.flatten(1)], -1)
