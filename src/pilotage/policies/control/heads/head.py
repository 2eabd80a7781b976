"""What an action head is, and what all heads share.

A head turns a condition into a chunk of actions. `loss(chunk, condition, generator, mask)` is what it is trained with,
per row [B]; `sample(condition, generator, start)` draws chunks [B, T, A]. Chunks are normalised to [−1, 1]. Every head
has one `network` over chunks, whose calls are what a decision costs."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.objectives.draws import Generators
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.sampling.sampling import Denoise, Guide, Start


class ActionHead(Protocol):
    """The interface; `Head` below is the nn.Module that ours are made from."""

    horizon: int
    action_dim: int
    network: nn.Module

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:
        """chunk [B, T, A], mask [B, T] bool, True on real actions (never optional) -> [B], to be minimised."""
        ...

    def sample(
        self, condition: Condition, generator: Generators, start: Start | None = None, guide: Guide | None = None
    ) -> Tensor:
        """One chunk per row: [B, T, A]. With one generator per row, a row's chunk does not depend on the others."""
        ...


class Head(nn.Module):
    """A head over a network; `horizon` and `action_dim` are the network's."""

    history: int = 0
    """First actions of a chunk that it takes as executed; a policy then holds them at those (see `context`)."""

    def __init__(self, network: ChunkNetwork) -> None:
        super().__init__()
        self.network = network
        self.horizon, self.action_dim = network.horizon, network.action_dim

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:
        raise NotImplementedError

    def sample(
        self, condition: Condition, generator: Generators, start: Start | None = None, guide: Guide | None = None
    ) -> Tensor:
        raise NotImplementedError

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Those whose passes are what acting costs."""
        return (self.network,)

    def taken(self) -> dict[str, float]:
        """Numbers of its own to report, over what it did since it was last asked; none by default."""
        return {}

    def denoiser(self, condition: Condition) -> Denoise:  # noqa: ARG002
        """(x, level) -> clean estimate, given the condition. Raises UsageError for a head that does not denoise."""
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
