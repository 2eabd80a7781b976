"""Heads that plan first and act on the plan: latent plans of play, and subgoals.

A plan is a vector that is kept for some steps (`HeldPlan`), while every action is decoded from it and from what is seen
at that moment; a chunk, in contrast, is fixed when it is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from pilotage.core.errors import UsageError
from pilotage.core.pieces import fill, load_piece, parse_term
from pilotage.networks.chunk_network import ChunkNetwork, sized
from pilotage.objectives.denoising import chunk_error, fill_padding, needed_mask
from pilotage.objectives.draws import Generators, normal, uniform
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.encoders import joined
from pilotage.policies.control.execution.executors import RecedingHorizon
from pilotage.policies.control.heads.head import Head, PartMaker, with_outputs
from pilotage.policies.control.sampling.sampling import Guide, InitialSample

LOG_STD = (-5.0, 2.0)
"""Bounds of the logarithm of a plan's standard deviation."""


class PlanHead(Head):
    """A head whose `network` decodes single actions; `horizon` frames of a window are what it is trained on.

    It looks at the encoder's tokens, one per frame: with the flatten encoder the states.
    """

    decodes = True

    def __init__(self, network: ChunkNetwork, horizon: int) -> None:
        super().__init__(with_outputs(network, network.action_dim, "planning"))
        if network.horizon != 1:
            raise UsageError(
                f"a plan is carried out action by action; make the network with horizon=1, not {network.horizon}"
            )
        self.horizon = horizon

    @staticmethod
    def check_parts(make: PartMaker) -> None:
        """Raise UsageError unless the configuration holds plans and learns from whole windows."""
        parts = make.parts
        held = load_piece("executor", parse_term(parts.executor).reference) is HeldPlan
        if not held or parts.chunk_size != parts.n_obs_steps or parts.n_action_steps != 1:
            raise UsageError(
                f"--head {parts.head} needs --executor held and learns from whole windows: "
                f"--chunk-size {parts.chunk_size} must be --n-obs-steps {parts.n_obs_steps}, and --n-action-steps 1"
            )

    def plan(self, condition: Condition, generator: Generators) -> Tensor:
        """Return the plan for what the newest frame shows: [B, P]."""
        raise NotImplementedError

    def decide(
        self, condition: Condition, generator: Generators, start: InitialSample | None, guide: Guide | None
    ) -> Tensor:
        """Return the chunk that the executor is given."""
        self._only(start, guide)
        return self.plan(condition, generator)

    def decode_action(self, plan: Tensor, condition: Condition) -> Tensor:
        """Return the action that is executed, of a normalised one."""
        return self._decoded(plan, newest(condition)[:, None], condition.goal)[:, 0]

    def sample(
        self,
        condition: Condition,
        generator: Generators,
        start: InitialSample | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Return the actions at the window's own frames, under a plan made at its first: [B, T, A]."""
        self._only(start, guide)
        states = self._frames(condition)
        first = condition._replace(tokens=states[:, :1])
        return self._decoded(self.plan(first, generator), states, condition.goal)

    def _decoded(self, plan: Tensor, states: Tensor, goal: Tensor | None) -> Tensor:
        """Actions at frames [B, N, S] under a plan [B, P], or one per frame [B, N, P]: [B, N, A]."""
        raise NotImplementedError

    def _frames(self, condition: Condition) -> Tensor:
        tokens = condition.tokens
        return sized("frames", tokens, self.horizon, 0 if tokens is None else tokens.shape[-1])

    def _act(self, known: Tensor) -> Tensor:
        """The network's actions, given all that it is told: [B, N, d] -> [B, N, A]."""
        return answered(self.network, known.flatten(0, 1)).view(*known.shape[:2], self.action_dim)


class LatentPlans(PlanHead):
    """A plan z that explains a window of play, and a prior that proposes one from a state and a goal.

    Learning latent plans from play (LMP; Lynch et al. 2019, arXiv 1903.01973): the squared error of the actions decoded
    under z ~ q(z | window), plus `divergence_weight`·KL(q ‖ p(z | first state, goal)); when acting z is drawn from p.
    `posterior` is a network over chunks, told the window's states, with outputs = 2·`latent`, averaged over the chunk;
    `prior` is one over a chunk of 1. Neither is told a noise level.
    """

    def __init__(
        self,
        network: ChunkNetwork,
        prior: ChunkNetwork,
        posterior: ChunkNetwork,
        *,
        horizon: int,
        latent: int = 32,
        divergence_weight: float = 0.01,
    ) -> None:
        super().__init__(network, horizon)
        self.prior = with_outputs(prior, 2 * latent, "latent-plan prior of a")
        self.posterior = with_outputs(posterior, 2 * latent, "latent-plan posterior of a")
        self.latent, self.divergence_weight = latent, divergence_weight

    @classmethod
    def build(cls, make: PartMaker, *, latent: int = 32, **options: Any) -> LatentPlans:
        """Build the part to the sizes of the data."""
        cls.check_parts(make)
        horizon, (_, token), goal = make.parts.chunk_size, make.encoder.sizes(), make.encoder.goal_size
        given = {
            "network": _bare(make, token + goal + latent, make.sizes.actions),
            "prior": _bare(make, token + goal, 2 * latent),
            "posterior": _bare(make, horizon * token, 2 * latent, horizon),
            "horizon": horizon,
        }
        made: LatentPlans = fill(cls, {"latent": latent, **options}, given)
        return made

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Return the networks whose passes are counted."""
        return (self.network, self.prior)

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:
        """Return the loss of each window, [batch]."""
        clean, states = fill_padding(chunk, mask), self._frames(condition)
        said = self.posterior(clean, clean[:, 0, 0], states.flatten(1)).mean(1)
        found, expected = plans_of(said), self._proposed(states[:, 0], condition.goal)
        z = found.mean + found.stddev * normal(found.mean.shape, generator, like=found.mean)
        error = chunk_error(self._decoded(z, states, condition.goal), chunk, mask)
        return error + self.divergence_weight * kl_divergence(found, expected).sum(-1)

    def plan(self, condition: Condition, generator: Generators) -> Tensor:
        """Return a plan for each row."""
        proposed = self._proposed(newest(condition), condition.goal)
        return proposed.mean + proposed.stddev * normal(proposed.mean.shape, generator, like=proposed.mean)

    def _proposed(self, state: Tensor, goal: Tensor | None) -> Normal:
        return plans_of(answered(self.prior, joined(state, goal)))

    def _decoded(self, plan: Tensor, states: Tensor, goal: Tensor | None) -> Tensor:
        told = joined(plan, goal)
        return self._act(torch.cat([states, told[:, None].expand(-1, states.shape[1], -1)], -1))


class RelayGoals(PlanHead):
    """A plan is the state to be in at the end of the window; a policy below goes there.

    Relay imitation learning (RIL; Gupta et al. 2019, arXiv 1910.11956), without its reinforcement learning: `network`
    is regressed on the action at a frame, given it and a later frame of the window, drawn evenly; `high` (a network
    over a chunk of 1 with outputs = S) on the change from the window's first frame to its last, given the goal.
    """

    def __init__(self, network: ChunkNetwork, high: ChunkNetwork, *, horizon: int) -> None:
        super().__init__(network, horizon)
        if horizon < 2:
            raise UsageError(f"horizon={horizon}: a subgoal lies at least one frame ahead")
        self.high = high

    @classmethod
    def build(cls, make: PartMaker, **options: Any) -> RelayGoals:
        """Build the part to the sizes of the data."""
        cls.check_parts(make)
        _, token = make.encoder.sizes()
        given = {
            "network": _bare(make, 2 * token, make.sizes.actions),
            "high": _bare(make, token + make.encoder.goal_size, token),
            "horizon": make.parts.chunk_size,
        }
        made: RelayGoals = fill(cls, options, given)
        return made

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Return the networks whose passes are counted."""
        return (self.network, self.high)

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:
        """Return the loss of each window, [batch]."""
        states, real = self._frames(condition), needed_mask(mask, chunk)
        here = torch.arange(self.horizon - 1, device=states.device)
        drawn = uniform([len(states), self.horizon - 1], generator, like=states)
        later = here + 1 + (drawn * (self.horizon - 1 - here)).long().clamp(max=self.horizon - 2 - here)
        subgoals = states.gather(1, later[..., None].expand(-1, -1, states.shape[-1]))
        both = real[:, :-1] & real.gather(1, later)
        low = chunk_error(self._decoded(subgoals, states[:, :-1], None), chunk[:, :-1], both)
        ahead = self._expected(states[:, 0], condition.goal) - states[:, -1]
        return low + ahead.square().mean(-1) * (real[:, 0] & real[:, -1])

    def plan(self, condition: Condition, generator: Generators) -> Tensor:  # noqa: ARG002
        """Return a plan for each row."""
        return self._expected(newest(condition), condition.goal)

    def _expected(self, state: Tensor, goal: Tensor | None) -> Tensor:
        return state + answered(self.high, joined(state, goal))

    def _decoded(self, plan: Tensor, states: Tensor, goal: Tensor | None) -> Tensor:  # noqa: ARG002
        plans = plan if plan.dim() == 3 else plan[:, None].expand(-1, states.shape[1], -1)
        return self._act(torch.cat([states, plans], -1))


class HeldPlan(RecedingHorizon):
    """An executor that gives the same plan for `steps` steps, then asks for the next."""

    def __init__(self, frames: int, horizon: int, steps: int = 16) -> None:
        super().__init__(1, steps, steps)
        self.frames, self.horizon, self.steps = frames, horizon, steps

    def next(self, rows: Sequence[int]) -> Tensor:
        """Return the plan that each row is at: [n, P]."""
        for row in rows:
            if self.due(row):
                raise UsageError(f"row {row} has no plan; give it one first")
            self._taken[row] += 1
        return torch.stack([self._chunks[row] for row in rows])


def newest(condition: Condition) -> Tensor:
    """Return the newest frame's token: [B, S]."""
    if condition.tokens is None:
        raise UsageError("a plan is carried out frame by frame; take an encoder that gives a token for each")
    return condition.tokens[:, -1]


def answered(network: ChunkNetwork, vector: Tensor) -> Tensor:
    """Return what a network over a chunk of 1, made without a level, says of a vector alone: [B, d] -> [B, outputs]."""
    empty = vector.new_zeros(len(vector), 1, network.action_dim)
    answer: Tensor = network(empty, empty[:, 0, 0], vector)
    return answer[:, 0]


def plans_of(said: Tensor) -> Normal:
    """Return a diagonal normal from its mean and the logarithm of its standard deviation, within `LOG_STD`: [B, 2P]."""
    mean, log_std = said.chunk(2, -1)
    return Normal(mean, log_std.clamp(*LOG_STD).exp())


def _bare(make: PartMaker, vector_dim: int, outputs: int, horizon: int = 1) -> ChunkNetwork:
    return make.bare_network({"horizon": horizon, "vector_dim": vector_dim, "outputs": outputs, "takes_level": False})
