"""The parts of a policy that learns from demonstrations, by name, and how they are put together.

A part on the command line is `name:option=value,…`; several numbers are joined by | (`unet:widths=64|128|256`). A head
of your own is `module:function`; it gets a `Builder` and its options and returns a head."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.pieces import Term, parse_term, parse_value
from pilotage.core.references import load_function
from pilotage.networks.action_transformer import ActionTransformer
from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.networks.framewise import Framewise
from pilotage.networks.gpt import GPT
from pilotage.networks.residual_mlp import ResidualMLP
from pilotage.networks.unet1d import UNet1d
from pilotage.objectives.noise_paths import Karras, Linear, NoisePath, VariancePreserving
from pilotage.policies.control.causal_encoder import CausalEncoder
from pilotage.policies.control.encoders import Encoder, FlattenEncoder, ImageEncoder, MLPEncoder, RecurrentEncoder
from pilotage.policies.control.execution.executors import Executor, RecedingHorizon, TemporalEnsembling
from pilotage.policies.control.heads.context_denoiser import ContextDenoiser
from pilotage.policies.control.heads.denoiser import Denoiser
from pilotage.policies.control.heads.direct import BinsWithOffsets, LatentVariable, Mixture, Regression
from pilotage.policies.control.heads.energy import ContrastiveEnergy, EnergyByDescent
from pilotage.policies.control.heads.energy_optimisation import EnergyOptimisation
from pilotage.policies.control.heads.head import Head
from pilotage.policies.control.heads.plans import HeldPlan
from pilotage.training.imitation.config import Imitation

ENCODERS: Mapping[str, type[Encoder]] = {
    "flatten": FlattenEncoder,
    "mlp": MLPEncoder,
    "recurrent": RecurrentEncoder,
    "image": ImageEncoder,
    "causal": CausalEncoder,
}
NETWORKS: Mapping[str, type[ChunkNetwork]] = {
    "residual_mlp": ResidualMLP,
    "unet": UNet1d,
    "transformer": ActionTransformer,
    "gpt": GPT,
    "framewise": Framewise,
}
PATHS: Mapping[str, type[NoisePath]] = {"vp": VariancePreserving, "karras": Karras, "linear": Linear}
EXECUTORS: Mapping[str, type[Any]] = {"receding": RecedingHorizon, "ensembling": TemporalEnsembling, "held": HeldPlan}


@dataclass(frozen=True)
class Sizes:
    """What the data decides."""

    state: int
    """Numbers of a state, S."""
    actions: int
    """Numbers of an action, A."""
    goal: int = 0
    """Numbers of one frame of the goal; 0: there is none."""
    cameras: tuple[str, ...] = ()
    channels: int = 3


class Builder:
    """Makes the parts that a configuration names, to the sizes of the data."""

    def __init__(self, parts: Imitation, sizes: Sizes) -> None:
        self.parts, self.sizes = parts, sizes
        self.encoder = self._encoder()

    def network(self, *, extra_vector: int = 0, **more: Any) -> ChunkNetwork:
        """A network over chunks. extra_vector: numbers that the head appends to the condition's vector; more: outputs,
        takes_level."""
        term = parse_term(self.parts.network)
        encoder = self.encoder
        vector_dim, token_dim = encoder.sizes()
        if term.reference == "transformer":
            # It looks at the frames one by one; the vector would say the same again, unless a head adds to it.
            vector = vector_dim + extra_vector if extra_vector else 0
            given = {"token_dim": token_dim, "frames": encoder.frames, "vector_dim": vector}
        else:
            given = {"vector_dim": vector_dim + extra_vector, "token_dim": token_dim}
        if encoder.goal_dim:
            given |= {"goal_dim": encoder.goal_dim, "goals": encoder.goals}
        made: ChunkNetwork = built(
            "network", NETWORKS, term, {"action_dim": self.sizes.actions, "horizon": self.parts.chunk, **more}, given
        )
        return made

    def head(self) -> Head:
        """The head, with its network."""
        term = parse_term(self.parts.head)
        if self.parts.context != "none" and term.reference != "denoiser":
            raise UsageError(f"--context {self.parts.context} needs --head denoiser, {term.reference!r} was given")
        if term.reference in HEADS:
            return HEADS[term.reference](self, term)
        if ":" not in term.reference:
            raise UsageError(f"there is no head {term.reference!r}{nearest(term.reference, HEADS)}; {_there(HEADS)}")
        head: Head = load_function(term.reference)(self, **term.options)
        return head

    def executor(self) -> Executor:
        """What carries chunks out."""
        given = {"frames": self.parts.observation_steps, "horizon": self.parts.chunk}
        made: Executor = built(
            "executor", EXECUTORS, parse_term(self.parts.executor), given, {"executed": self.parts.executed}
        )
        return made

    def noise_path(self) -> NoisePath:
        """The path on which chunks become noise."""
        made: NoisePath = built("path", PATHS, parse_term(self.parts.path), {})
        return made

    def _encoder(self) -> Encoder:
        term, sizes = parse_term(self.parts.encoder), self.sizes
        if bool(sizes.cameras) != (term.reference == "image"):
            raise UsageError(
                f"--encoder {term.reference} and --cameras {'+'.join(sizes.cameras) or '(none)'} do not fit: the image "
                "encoder needs cameras, and no other encoder sees them"
            )
        given: dict[str, Any] = {"state_dim": sizes.state, "frames": self.parts.observation_steps}
        if self.parts.goal_steps:
            given |= {"goal_dim": sizes.goal, "goals": self.parts.goal_steps, "goal_dropout": self.parts.goal_dropout}
        images = {"cameras": sizes.cameras, "channels": sizes.channels}
        made: Encoder = built("encoder", ENCODERS, term, given, images)
        return made


def drawing(sampler: str) -> dict[str, Any]:
    """How a `Denoiser` draws chunks, as its arguments, from `ddpm:steps=100` and the like."""
    term = parse_term(sampler)
    options = {name: _several(value) for name, value in term.options.items()}
    levels = options.pop("levels", None)
    return {
        "sampler": term.reference,
        "steps": options.pop("steps", None),
        "schedule": options.pop("schedule", "exponential"),
        "levels": levels if levels is None or isinstance(levels, tuple) else (levels,),
        "sigma_min": options.pop("sigma_min", None),
        "options": options,
    }


def _denoiser(make: Builder, term: Term) -> Head:
    given = {"network": make.network(), "path": make.noise_path(), **drawing(make.parts.sampler)}
    kind: type[Denoiser] = Denoiser
    if make.parts.context != "none":
        kind, given = ContextDenoiser, {**given, "context": make.parts.context, "history": make.encoder.frames - 1}
    head: Head = built("head", {"denoiser": kind}, term, given)
    return head


def _regression(make: Builder, term: Term) -> Head:
    head: Head = built("head", {"regression": Regression}, term, {"network": make.network(takes_level=False)})
    return head


def _mixture(make: Builder, term: Term) -> Head:
    outputs = int(term.options.get("modes", 5)) * (2 * make.sizes.actions + 1)
    network = make.network(outputs=outputs, takes_level=False)
    head: Head = built("head", {"mixture": Mixture}, term, {"network": network})
    return head


def _bins(make: Builder, term: Term) -> Head:
    outputs = int(term.options.get("bins", 24)) * (make.sizes.actions + 1)
    network = make.network(outputs=outputs, takes_level=False)
    head: Head = built("head", {"bins": BinsWithOffsets}, term, {"network": network})
    return head


def _latent(make: Builder, term: Term) -> Head:
    latent = int(term.options.get("latent", 32))
    network = make.network(extra_vector=latent, takes_level=False)
    posterior = make.network(outputs=2 * latent, takes_level=False)
    head: Head = built("head", {"latent": LatentVariable}, term, {"network": network, "posterior": posterior})
    return head


def _energy(kind: type[Head]) -> Callable[[Builder, Term], Head]:
    def make_head(make: Builder, term: Term) -> Head:
        network = make.network(outputs=1, takes_level=False)
        head: Head = built("head", {term.reference: kind}, term, {"network": network})
        return head

    return make_head


EBT: Mapping[str, Any] = {
    "training_loss": "through_descent",
    "step_size": 100.0,
    "learn_step": True,
    "momentum": 0.9,
    "scaled": True,
    "normalise_last": True,
    "least_steps": 2,
    "more_steps": 2,
    "noise_first": 0.1,
    "noise_last": 0.005,
}
"""What the head `ebt` is, beside the head `energy`: EBT-Policy's own loss and descent, at the size of a bench."""


def _ebt(make: Builder, term: Term) -> Head:
    return _energy(EnergyOptimisation)(make, replace(term, options={**EBT, **term.options}))


def _plans(make: Builder, term: Term) -> Head:
    from pilotage.training.imitation.plan_heads import plan_head

    return plan_head(make, term)


def _tokens(make: Builder, term: Term) -> Head:
    from pilotage.systems.robots.carp.builders import token_head

    return token_head(make, term)


HEADS: Mapping[str, Callable[[Builder, Term], Head]] = {
    "denoiser": _denoiser,
    "regression": _regression,
    "mixture": _mixture,
    "bins": _bins,
    "latent": _latent,
    "contrastive": _energy(ContrastiveEnergy),
    "descent": _energy(EnergyByDescent),
    "energy": _energy(EnergyOptimisation),
    "ebt": _ebt,
    "tokens": _tokens,
    "latent_plans": _plans,
    "relay": _plans,
}


def built(
    slot: str,
    table: Mapping[str, Callable[..., Any]],
    term: Term,
    given: Mapping[str, Any],
    offered: Mapping[str, Any] | None = None,
) -> Any:
    """The part that `term` names, made with its options, all of `given`, and what it takes of `offered`.

    Raises UsageError for a name that the slot has not, an option that the part has not, or one that is not the
    user's to set."""
    if term.reference not in table:
        raise UsageError(f"there is no {slot} {term.reference!r}{nearest(term.reference, table)}; {_there(table)}")
    maker = table[term.reference]
    known = inspect.signature(maker).parameters
    settable = [name for name in known if name not in given]
    options = {name: _several(value) for name, value in term.options.items()}
    for name in options:
        if name not in settable:
            raise UsageError(
                f"the {slot} {term.reference} has no option {name!r}{nearest(name, settable)}; it has "
                f"{', '.join(settable) or 'none'}"
            )
    taken = {name: value for name, value in (offered or {}).items() if name in known and name not in options}
    return maker(**{**given, **taken, **options})


def _several(value: Any) -> Any:
    """ "64|128|256" as a tuple of numbers."""
    if isinstance(value, str) and "|" in value:
        return tuple(parse_value(part) for part in value.split("|"))
    return value


def _there(table: Mapping[str, Any]) -> str:
    return f"there are {', '.join(table)}"
