"""How the parts that a configuration names are found and put together, to the sizes of the data.

A part on the command line is `name:option=value,…`; several numbers are joined by | (`unet:widths=64|128|256`). The
names of a slot are those that systems declare; a part of your own is `module:Class`. A head is a class with a
classmethod `build(make, **options)`, or a function `(make, **options) -> head`, where `make` is the `Builder`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.pieces import load_piece, make_piece, parse_term, split_values
from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.objectives.noise_paths import NoisePath
from pilotage.policies.control.encoders import Encoder
from pilotage.policies.control.execution.executors import Executor
from pilotage.policies.control.heads.head import Head
from pilotage.training.imitation.config import Imitation


@dataclass(frozen=True)
class Sizes:
    """Sizes that the data decides."""

    state: int
    """Numbers of a state."""
    actions: int
    """Numbers of an action."""
    goal: int = 0
    """Numbers of one frame of the goal; 0: there is none."""
    cameras: tuple[str, ...] = ()
    channels: int = 3


class Builder:
    """Maker of the parts that a configuration names, to the sizes of the data."""

    def __init__(self, parts: Imitation, sizes: Sizes) -> None:
        self.parts, self.sizes = parts, sizes
        self.encoder = self._encoder()

    def network(self, *, extra_vector: int = 0, **more: Any) -> ChunkNetwork:
        """Return a network over chunks that is told the encoder's condition.

        Args:
            extra_vector: numbers that the head appends to the condition's vector.
            more: arguments of the network, such as outputs and takes_level.
        """
        encoder = self.encoder
        vector_dim, token_dim = encoder.sizes()
        offered = {"vector_dim": vector_dim + extra_vector, "token_dim": token_dim}
        if "frames" in inspect.signature(_kind("network", self.parts.network)).parameters:
            # It looks at the frames one by one; the vector would say the same again, unless a head adds to it.
            vector = vector_dim + extra_vector if extra_vector else 0
            offered = {"token_dim": token_dim, "frames": encoder.frames, "vector_dim": vector}
        if encoder.goal_dim:
            offered |= {"goal_dim": encoder.goal_dim, "goals": encoder.goals}
        return self.bare_network({"horizon": self.parts.chunk_size, **more}, offered)

    def bare_network(self, given: Mapping[str, Any], offered: Mapping[str, Any] | None = None) -> ChunkNetwork:
        """Return the network of the configuration with all of `given`, and what it takes of `offered`."""
        sized = {"action_dim": self.sizes.actions, **given}
        made: ChunkNetwork = make_piece("network", self.parts.network, sized, offered)
        return made

    def head(self) -> Head:
        """Return the head, with its network."""
        term = parse_term(self.parts.head)
        kind = load_piece("head", term.reference)
        head: Head = getattr(kind, "build", kind)(self, **split_values(term.options))
        if self.parts.context != "none" and not head.takes_context:
            raise UsageError(f"--context {self.parts.context} needs --head denoiser, {term.reference!r} was given")
        return head

    def executor(self) -> Executor:
        """Return what carries chunks out."""
        given = {"frames": self.parts.n_obs_steps, "horizon": self.parts.chunk_size}
        made: Executor = make_piece("executor", self.parts.executor, given, {"executed": self.parts.n_action_steps})
        return made

    def noise_schedule(self) -> NoisePath:
        """Return the path on which chunks become noise."""
        made: NoisePath = make_piece("noise_schedule", self.parts.noise_schedule)
        return made

    def _encoder(self) -> Encoder:
        text, sizes = self.parts.encoder, self.sizes
        sees = "cameras" in inspect.signature(_kind("encoder", text)).parameters
        if bool(sizes.cameras) != sees:
            raise UsageError(
                f"--encoder {parse_term(text).reference} and --cameras {'+'.join(sizes.cameras) or '(none)'} do not "
                "fit: the image encoder needs cameras, and no other encoder sees them"
            )
        given: dict[str, Any] = {"state_dim": sizes.state, "frames": self.parts.n_obs_steps}
        if self.parts.goal_steps:
            given |= {"goal_dim": sizes.goal, "goals": self.parts.goal_steps, "goal_dropout": self.parts.goal_dropout}
        images = {"cameras": sizes.cameras, "channels": sizes.channels}
        made: Encoder = make_piece("encoder", text, given, images)
        return made


def _kind(slot: str, text: str) -> Callable[..., Any]:
    return load_piece(slot, parse_term(text).reference)
