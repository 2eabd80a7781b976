"""What an action head is, and what all heads share.

A head turns a condition into a chunk of actions. `loss(chunk, condition, generator, mask)` is what it is trained with,
per row [B]; `sample(condition, generator, start)` draws chunks [B, T, A]. Chunks are normalised to [−1, 1]. Every head
has one `network` over chunks, whose calls are what a decision costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.core.pieces import fill
from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.objectives.draws import Generators
from pilotage.objectives.noise_paths import NoisePath
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.encoders import Encoder
from pilotage.policies.control.sampling.sampling import Denoise, Guide, InitialSample


class ActionHead(Protocol):
    """The interface; `Head` below is the nn.Module that ours are made from."""

    horizon: int
    action_dim: int
    network: nn.Module

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:
        """Chunk [B, T, A], mask [B, T] bool, True on real actions (never optional) -> [B], to be minimised."""
        ...

    def sample(
        self,
        condition: Condition,
        generator: Generators,
        start: InitialSample | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Return one chunk per row: [B, T, A].

        With one generator per row, a row's chunk does not depend on the others.
        """
        ...


class PartMaker(Protocol):
    """Maker of the parts that a configuration names: what a head is built from."""

    parts: Any
    """The configuration: one choice for each part."""
    sizes: Any
    """Sizes that the data decides: `state`, `actions`, `goal`."""
    encoder: Encoder

    def network(self, *, extra_vector: int = 0, **more: Any) -> ChunkNetwork:
        """Return a network over chunks that is told the encoder's condition and `extra_vector` numbers more."""
        ...

    def bare_network(self, given: Mapping[str, Any], offered: Mapping[str, Any] | None = None) -> ChunkNetwork:
        """Return the network of the configuration with all of `given`, and what it takes of `offered`."""
        ...

    def noise_schedule(self) -> NoisePath:
        """Return the path on which chunks become noise."""
        ...


@dataclass(frozen=True)
class TrainingData:
    """Demonstrations as a head sees them before it is trained."""

    actions: Tensor
    """[steps, numbers], normalised."""
    chunks: Callable[[], Tensor]
    """Returns every chunk of the training windows, normalised: [windows, horizon, numbers]."""
    generator: torch.Generator
    """Source of random numbers, the same for every seed of the training."""
    config: Any
    """Configuration of the training."""
    run: Any
    """The run, which keeps artifacts."""


class Head(nn.Module):
    """A head over a network; `horizon` and `action_dim` are the network's."""

    history: int = 0
    """First actions of a chunk that it takes as executed; a policy then holds them at those (see `context`)."""
    decodes: bool = False
    """Whether actions are decoded from a plan and the newest frame, so that every action asks the encoder."""
    takes_context: bool = False
    """Whether the option `context` means something to it."""

    def __init__(self, network: ChunkNetwork) -> None:
        super().__init__()
        self.network = network
        self.horizon, self.action_dim = network.horizon, network.action_dim

    @classmethod
    def build(cls, make: PartMaker, **options: Any) -> Head:
        """Return a head made of the configured parts and the options given with its name.

        Default: a network that is told no noise level, with an output per number of an action.
        """
        made: Head = fill(cls, options, {"network": make.network(takes_level=False)})
        return made

    def fit(self, data: TrainingData) -> None:
        """Find in the data what must be known before training. Default: nothing."""

    def warnings(self, actions: Tensor, constant: Tensor) -> Mapping[str, str]:  # noqa: ARG002
        """Return what is odd about the data or the fit, as events: kind to text. Default: nothing.

        Args:
            actions: all demonstrated actions [steps, numbers], normalised.
            constant: [numbers] bool, those that never change.
        """
        return {}

    def action_limit(self) -> float | None:
        """Return the largest absolute value, normalised, of an action that it can answer. Default: None, no limit."""
        return None

    def limit_reason(self) -> str:
        """Return what limits the actions and how the limit is lifted, for messages."""
        return f"the head {type(self).__name__}"

    def held_out_metrics(
        self,
        chunk: Tensor,  # noqa: ARG002
        condition: Condition,  # noqa: ARG002
        mask: Tensor | None,  # noqa: ARG002
    ) -> dict[str, float]:
        """Return the head's own metrics on windows that were held back, given as to `loss`. Default: none."""
        return {}

    def pop_metrics(self) -> dict[str, float]:
        """Return the head's own metrics since the last call and reset them. Default: none."""
        return {}

    def metric_descriptions(self) -> Mapping[str, str]:
        """Return what each of the head's own metrics means, by its full name. Default: none."""
        return {}

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:
        """Return the loss of each window, [batch]."""
        raise NotImplementedError

    def sample(
        self,
        condition: Condition,
        generator: Generators,
        start: InitialSample | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Return chunks of actions, [batch, time, action]."""
        raise NotImplementedError

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Those whose passes are what acting costs."""
        return (self.network,)

    def decide(
        self, condition: Condition, generator: Generators, start: InitialSample | None, guide: Guide | None
    ) -> Tensor:
        """Return what the executor is given at a decision. Default: a sampled chunk per row."""
        return self.sample(condition, generator, start, guide)

    def decode_action(self, plan: Tensor, condition: Condition) -> Tensor:  # noqa: ARG002
        """Return the action [rows, numbers] at the newest frame, given what the executor gives. Default: just that."""
        return plan

    def denoiser(self, condition: Condition) -> Denoise:  # noqa: ARG002
        """Return (x, level) -> clean estimate, given the condition.

        Raises UsageError for a head that does not denoise.
        """
        raise UsageError(f"a {type(self).__name__} head does not denoise, so nothing can guide it")

    def _answer(self, condition: Condition) -> Tensor:
        """The network's outputs [B, T, outputs] for an empty chunk: how heads that do not denoise use it."""
        rows = len(condition.vector)
        weight = next(self.network.parameters())
        empty = torch.zeros(rows, self.horizon, self.action_dim, dtype=weight.dtype, device=weight.device)
        return self.network(empty, empty[:, 0, 0], *condition)

    def _noise_shape(self, condition: Condition) -> list[int]:
        return [len(condition.vector), self.horizon, self.action_dim]

    def _only(self, start: Any = None, guide: Any = None) -> None:
        """Raises UsageError when a start or guidance is asked of a head that takes none."""
        for given, what in ((start, "warm start"), (guide, "guidance")):
            if given is not None:
                raise UsageError(f"a {type(self).__name__} head answers at once; it takes no {what}")


def with_outputs(network: ChunkNetwork, outputs: int, head: str) -> ChunkNetwork:
    """`network`, whose outputs per action must be `outputs`. Raises UsageError otherwise."""
    if network.outputs != outputs:
        raise UsageError(f"a {head} head needs {outputs} outputs per action; make its network with outputs={outputs}")
    return network
