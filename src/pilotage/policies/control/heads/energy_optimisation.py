"""The head of EBT-Policy: one scalar landscape over chunks; acting is a short descent that knows when to stop."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.networks.chunk_network import ChunkNetwork
from pilotage.objectives.denoising import fill_padding, needed_mask
from pilotage.objectives.draws import Generators, normal
from pilotage.objectives.energy_steps import falling_noise
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.execution.pass_counts import PassCount
from pilotage.policies.control.heads.energy import EnergyHead, energy_loss
from pilotage.policies.control.heads.energy_descent import Descent, Settled, settle
from pilotage.policies.control.heads.energy_training import ThroughDescent
from pilotage.policies.control.heads.head import Head, PartMaker
from pilotage.policies.control.policy import evaluating
from pilotage.policies.control.sampling.descent import Energy
from pilotage.policies.control.sampling.sampling import Guide, InitialSample

LEARNT_STEP = 10.0
"""The logarithm of a learnt α moves so many times faster than a weight."""
CALIBRATE_EVERY, CALIBRATION_ROWS = 50, 64
"""Training losses between looks at where descents come to rest, and windows of each look."""
OUTSIDE = 1.05
"""Demonstrated actions beyond this are refused: the energy is meant for [-1, 1], and starts are drawn for it."""

METRICS = {
    "evaluation/forward_passes": "Energies: forward passes of the network per decision, row by row.",
    "evaluation/backward_passes": "Energies: derivatives with respect to the chunk per decision.",
    "evaluation/second_passes": "Energies: differentiated derivatives per decision; 0, since only training needs them.",
    "evaluation/descent_steps": "Energies: gradients per descent; a decision has one descent per candidate.",
    "evaluation/stopped_early": "Energies: share of descents that ended because the slope was small.",
    "training/forward_passes": "Energies: forward passes of the network per window trained on since the last line.",
    "training/backward_passes": "Energies: derivatives with respect to the chunk per window, the loss's own included.",
    "training/second_passes": "Energies: derivatives that were differentiated again, per window.",
}


class EnergyDecisions(NamedTuple):
    """The last decisions, in the order of their rows."""

    energy: Tensor
    """[B], of the chunk that was answered; where the last gradient was taken unless `final_energy` is set."""
    steps: Tensor
    """[B] int64, gradients that the answered chunk took."""
    slope: Tensor
    """[B], its last ‖∂E/∂x‖."""


class EnergyOptimisation(EnergyHead):
    """An energy that acts by `settle`, trained by the piece of the slot `energy_loss` that `training_loss` names.

    Options of the descent are those of `Descent`; those of training through it (`least_steps` to `smooth`) are those of
    `ThroughDescent`, used by losses that take a descent. `learn_step`: whether α is a parameter.
    `steps`, `least_slope`, `noise`, `candidates`, `final_energy` are of acting alone and may be changed at any time:
    least_slope None stops a row at the slope below which nine in ten descents of training ended; `candidates` starts
    are drawn per decision and that of lowest energy is kept; `final_energy` spends a forward pass on the energy of the
    answered chunk.
    `bias`: whether the last layer has one, of which no gradient knows; `zero_output`: whether it begins at 0.
    """

    training_loss: str
    least_slope: float | None
    steps: int
    candidates: int
    noise: float
    final_energy: bool
    rest_slope: Tensor
    calibrations: Tensor

    def __init__(
        self,
        network: ChunkNetwork,
        *,
        training_loss: str = "equilibrium_matching",
        step_size: float = 0.2,
        momentum: float = 0.0,
        scaled: bool = False,
        temperature: float = 1.0,
        energy_limit: float = 10.0,
        gradient_clip: float | None = None,
        normalise_last: bool = False,
        learn_step: bool = False,
        least_steps: int = 3,
        more_steps: int = 4,
        start: Literal["noise", "noised"] = "noise",
        noise_first: float = 0.0,
        noise_last: float = 0.0,
        truncate: bool = False,
        detach: bool = True,
        spread: float = 1.0,
        smooth: bool = False,
        steps: int = 10,
        least_slope: float | None = None,
        noise: float = 0.0,
        candidates: int = 1,
        final_energy: bool = False,
        bias: bool = False,
        zero_output: bool = True,
    ) -> None:
        super().__init__(network)
        energy_loss(training_loss)  # refuses an unknown one
        if steps < 1 or candidates < 1:
            raise UsageError(f"steps={steps} and candidates={candidates} must be at least 1")
        given = {name: value for name, value in locals().items() if name not in ("self", "network", "__class__")}
        for name, value in given.items():  # as attributes, so that the head can be saved and made again
            setattr(self, name, value)
        self.training_settings = ThroughDescent(**{n: given[n] for n in _names(ThroughDescent)})
        self.law = Descent(**{n: given[n] for n in _names(Descent)})
        self.log_step = nn.Parameter(torch.zeros(())) if learn_step else None
        self.register_buffer("rest_slope", torch.zeros(()))
        self.register_buffer("calibrations", torch.zeros((), dtype=torch.int64))
        _prepare_output(network, bias=bias, zero=zero_output)
        self.count, self.rows, self.stopped, self.taken_steps = PassCount(), 0, 0, 0
        self.latest: EnergyDecisions | None = None
        self._checked = False

    def energy(self, chunk: Tensor, condition: Condition) -> Tensor:
        """Return the energy of chunks, [batch]."""
        return super().energy(self.count.of(chunk), condition)

    def step_now(self) -> Tensor | float:
        """α, as it is or as it was learnt."""
        if self.log_step is None:
            return self.law.step_size
        return self.law.step_size * (LEARNT_STEP * self.log_step).exp()

    def action_limit(self) -> float | None:
        """Return the range for which the energy is meant."""
        return OUTSIDE

    # ---- training

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:
        """Return the loss of each window, [batch]."""
        clean, mask = fill_padding(chunk, mask), needed_mask(mask, chunk)
        energy, function = self._energy_of(condition), energy_loss(self.training_loss)
        if not self._checked:
            check_double_backward(self._energy_of(condition.map(lambda part: part[:1])), clean[:1])
            self.count.pop()
            self._checked = True
        settings: dict[str, Any] = {}
        if "descent" in inspect.signature(function).parameters:
            settings = {"descent": self.law, "training": self.training_settings, "size": self.step_now()}
        loss = function(energy, clean, mask, generator, **settings)
        self.rows += len(clean)
        if self.training:
            self._calibrate(condition.map(lambda part: part[:CALIBRATION_ROWS].detach()), generator)
        return loss

    @torch.no_grad()
    def _calibrate(self, condition: Condition, generator: Generators) -> None:
        """Now and then, at which slope nine in ten descents end: the slope to stop at."""
        self.calibrations += 1
        if int(self.calibrations) % CALIBRATE_EVERY:
            return
        rows = len(condition.vector)
        own = generator if isinstance(generator, torch.Generator) else generator[:rows]
        with evaluating(self):
            start = normal(self._noise_shape(condition), own, like=condition.vector)
            ended = self._settled(condition, start, own, least_slope=0.0).slope.quantile(0.9)
        first = int(self.calibrations) == CALIBRATE_EVERY
        self.rest_slope.copy_(ended if first else self.rest_slope.lerp(ended, 0.2))

    # ---- acting

    def sample(
        self,
        condition: Condition,
        generator: Generators,
        start: InitialSample | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Return chunks of actions, [batch, time, action]."""
        self._only(guide=guide)
        rows, count = len(condition.vector), self.candidates
        if start is None:
            shape = [rows, count, self.horizon, self.action_dim]
            x = normal(shape, generator, like=condition.vector).flatten(0, 1)
        else:
            x = start.chunk.repeat_interleave(count, 0)
        many = condition.repeated(count) if count > 1 else condition
        sources = generator
        if not isinstance(generator, torch.Generator):
            sources = [one for one in generator for _ in range(count)]
        settled = self._settled(many, x, sources)
        energy = settled.energy
        if self.final_energy or count > 1:
            with torch.no_grad():
                energy = self.energy(settled.chunk, many)
        best = energy.view(rows, count).argmin(1) + count * torch.arange(rows, device=energy.device)
        self.rows += rows
        self.taken_steps += int(settled.steps.sum())
        self.stopped += int(settled.early.sum())
        self.latest = EnergyDecisions(energy[best], settled.steps[best], settled.slope[best])
        return settled.chunk[best]

    def _settled(
        self, condition: Condition, x: Tensor, generator: Generators, *, least_slope: float | None = None
    ) -> Settled:
        def energy(chunk: Tensor, rows: Tensor) -> Tensor:
            return self.energy(chunk, condition if len(rows) == len(x) else condition.map(lambda part: part[rows]))

        least = self.least_slope if least_slope is None else least_slope
        size = self.step_now()
        return settle(
            energy,
            x,
            generator,
            self.law,
            steps=self.steps,
            size=size.detach() if isinstance(size, Tensor) else size,
            least_slope=float(self.rest_slope) if least is None else least,
            noise=falling_noise(self.noise, self.noise, self.steps) if self.noise else (),
        )

    def metric_descriptions(self) -> Mapping[str, str]:
        """Return what each of the metrics means."""
        return METRICS

    def pop_metrics(self) -> dict[str, float]:
        """Per window trained on or decision made since it was last asked: forward passes of the network, backwards, and
        backwards through gradients; of decisions also steps, and the share of descents that the slope ended.
        """
        count, rows = self.count.pop(), max(1, self.rows)
        means = {
            "forward_passes": count.forward / rows,
            "backward_passes": count.backward / rows,
            "second_passes": count.second / rows,
        }
        if self.taken_steps:
            descents = rows * self.candidates
            means |= {"descent_steps": self.taken_steps / descents, "stopped_early": self.stopped / descents}
        self.rows = self.stopped = self.taken_steps = 0
        return means


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
"""Options by which the head `ebt` differs from the head `energy`: EBT-Policy's own loss and descent, at small size."""


def build_ebt(make: PartMaker, **options: Any) -> Head:
    """Return an `EnergyOptimisation` with the loss and descent of EBT-Policy (arXiv 2510.27545)."""
    return EnergyOptimisation.build(make, **{**EBT, **options})


def check_double_backward(energy: Energy, chunk: Tensor) -> None:
    """Raises UsageError, naming the operation, when a gradient of `energy` at `chunk` [B, T, A] has no derivative."""
    with torch.random.fork_rng(devices=[chunk.device] if chunk.is_cuda else []), torch.enable_grad():
        at = chunk.detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(at).sum(), at, create_graph=True)
        if not slope.requires_grad:
            return
        try:
            torch.autograd.grad(slope.square().sum(), at, allow_unused=True)
        except RuntimeError as error:
            raise UsageError(
                f"an energy is trained through its gradient, and this network's has no derivative: {error}. Fused "
                "attention is the usual cause; compute it within torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"
            ) from error


def _names(settings: type) -> list[str]:
    return list(inspect.signature(settings).parameters)


def _prepare_output(network: ChunkNetwork, *, bias: bool, zero: bool) -> None:
    """Takes the bias from the network's last layer, which no gradient of an energy knows, and begins it at 0."""
    last = getattr(network, "output_proj", None)
    if isinstance(last, nn.Sequential):
        last = last[-1]
    if not isinstance(last, nn.Linear | nn.Conv1d):
        if not bias or zero:
            raise UsageError(
                f"a {type(network).__name__} has no linear layer called `leave` at its end; give the energy head "
                "bias=true and zero_output=false"
            )
        return
    if zero:
        nn.init.zeros_(last.weight)
    if not bias:
        last.bias = None
    elif zero and last.bias is not None:
        nn.init.zeros_(last.bias)
