"""Action head over tokens, coarse before fine: CARP (Gong et al. 2024, arXiv 2412.06782)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from pilotage.core.errors import UsageError
from pilotage.core.pieces import fill, make_piece
from pilotage.objectives.denoising import fill_padding
from pilotage.objectives.draws import Generators, categorical
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.heads.head import Head, PartMaker, TrainingData
from pilotage.policies.control.sampling.sampling import Guide, InitialSample
from pilotage.systems.robots.carp.model import Cache, NextScaleTransformer
from pilotage.systems.robots.carp.tokeniser import MultiscaleTokeniser
from pilotage.systems.robots.carp.tokeniser_training import LEAST_USE, MOST_ERROR, fit_tokeniser

METRICS = {
    "tokeniser/mse": "Mean squared error of chunks that went through the tokeniser, normalised units, training data.",
    "tokeniser/ready": f"1 when that is below {MOST_ERROR:g} and more than {LEAST_USE:.0%} of the codes are in use at "
    "every scale but the coarsest.",
    "tokeniser/finest_changed": "Share of the finest tokens that change when a reconstruction is tokenised again.",
    "tokeniser/coarse_energy": "Share of high frequencies (from the fourth cosine on) in what scale 1 decodes to.",
}


class Drawn(NamedTuple):
    """Tokens [batch × candidate, token] and their log-probability [batch × candidate] at temperature 1, in nats."""

    tokens: Tensor
    log_probability: Tensor


class NextScaleTokens(Head):
    """Head that predicts the tokens of a trained, frozen tokeniser; a decision takes a pass per group of tokens.

    The tokens stand for the whole chunk, so the repeated actions of its padding are learned like real ones.

    Args:
        network: made for the tokeniser's scales, signals, codes and latent.
        tokeniser: trained; it is frozen.
        top_k: tokens are drawn among so many likeliest ones; 1: the likeliest (the paper's default, 5 for several
            modes).
        temperature: of the draws.
        argmax_scales: so many of the finest scales take the likeliest token in any case, which keeps modes without
            jitter.
        candidates: chunks drawn per decision, of which the likeliest is taken.
        bound: actions are brought within ±bound; None: left as they are.
    """

    def __init__(
        self,
        network: NextScaleTransformer,
        tokeniser: MultiscaleTokeniser,
        *,
        top_k: int = 1,
        temperature: float = 1.0,
        argmax_scales: int = 0,
        candidates: int = 1,
        bound: float | None = 1.0,
    ) -> None:
        super(Head, self).__init__()
        self.network: NextScaleTransformer = network  # type: ignore[assignment]
        self.tokeniser = tokeniser.requires_grad_(False)
        self.horizon, self.action_dim = tokeniser.horizon, tokeniser.action_dim
        for name in ("scales", "signals", "codes", "latent"):
            if getattr(network, name) != getattr(tokeniser, name):
                raise UsageError(
                    f"the network was made for {name} {getattr(network, name)} and the tokeniser has "
                    f"{getattr(tokeniser, name)}; make them to fit"
                )
        if not 1 <= top_k <= network.codes or temperature <= 0 or candidates < 1:
            raise UsageError(
                f"top_k={top_k} must be 1 to {network.codes} codes, temperature={temperature} above 0 and "
                f"candidates={candidates} at least 1"
            )
        self.top_k, self.temperature, self.argmax_scales = top_k, temperature, argmax_scales
        self.candidates, self.bound = candidates, bound
        self.report: dict[str, float] = {}
        """Numbers of the tokeniser's fit, by name; empty before it was fitted."""

    @classmethod
    def build(cls, make: PartMaker, **options: Any) -> NextScaleTokens:
        """Return the head with a tokeniser that is not trained yet."""
        parts = make.parts
        if not hasattr(parts, "tokeniser"):
            raise UsageError(
                "the head tokens learns a tokeniser first, which this system does not; use: pilotage run carp"
            )
        chunks = {"action_dim": make.sizes.actions, "horizon": parts.chunk_size}
        tokeniser: MultiscaleTokeniser = make_piece("tokeniser", parts.tokeniser, chunks)
        given = {name: getattr(tokeniser, name) for name in ("scales", "signals", "codes", "latent")}
        network = make_piece("network", parts.network, {**given, "vector_dim": make.encoder.sizes()[0]})
        made: NextScaleTokens = fill(cls, options, {"network": network, "tokeniser": tokeniser})
        return made

    # ---- training --------------------------------------------------------------------------------------------------

    def fit(self, data: TrainingData) -> None:
        """Train the tokeniser, or take the one that was trained on the same chunks."""
        self.report = fit_tokeniser(self.tokeniser, data.chunks(), data.config, data.run)

    def warnings(self, actions: Tensor, constant: Tensor) -> Mapping[str, str]:  # noqa: ARG002
        """Return what the head warns about, as (kind, text)."""
        if self.report["ready"]:
            return {}
        uses = [value for name, value in sorted(self.report.items()) if name.startswith("use/")]
        return {
            "tokeniser": f"its error {self.report['mse']:.2g} should be below {MOST_ERROR:g} and its least use of "
            f"codes {min(uses[1:] or uses):.0%} above {LEAST_USE:.0%}; train it longer, or with fewer codes"
        }

    def held_out_metrics(self, chunk: Tensor, condition: Condition, mask: Tensor | None) -> dict[str, float]:
        """Return metrics on held-back windows."""
        accuracy = self.token_accuracy(chunk, condition, mask)
        numbers = {f"tokeniser/{name}": value for name, value in self.report.items()}
        return numbers | {f"validation/token_accuracy/scale_{k + 1}": value for k, value in enumerate(accuracy)}

    def metric_descriptions(self) -> Mapping[str, str]:
        """Return what each of the metrics means."""
        texts = dict(METRICS)
        for k in range(1, len(self.tokeniser.scales) + 1):
            texts[f"tokeniser/use/scale_{k}"] = "Least share, over dimensions, of codes in use there."
            texts[f"tokeniser/mse/scales_{k}"] = "Mean squared error with so many scales decoded."
            texts[f"validation/token_accuracy/scale_{k}"] = "Share of likeliest tokens that are right."
        for i in range(self.action_dim):
            texts[f"tokeniser/rmse/dimension_{i}"] = "Root mean squared error of one action's number."
        return texts

    def loss(self, chunk: Tensor, condition: Condition, generator: Generators, mask: Tensor | None) -> Tensor:
        """Return the mean cross-entropy of the chunk's tokens in nats, the true coarser ones given, [batch]."""
        tokens, logits = self._taught(chunk, condition, mask, generator)
        spread = functional.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten(), reduction="none")
        return spread.view_as(tokens).mean(1)

    @torch.no_grad()
    def token_accuracy(self, chunk: Tensor, condition: Condition, mask: Tensor | None) -> list[float]:
        """Return, for each scale, the share of tokens that are the likeliest, the true coarser ones given."""
        tokens, logits = self._taught(chunk, condition, mask, None)
        right = (logits.argmax(-1) == tokens).double().mean(0)
        return [float(part.mean()) for part in right.split(list(self.tokeniser.per_scale))]

    def teacher_inputs(self, chunk: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens [batch, token] of a chunk, and the network's input at each of them, [batch, token, z]."""
        with torch.no_grad():
            found = self.tokeniser.quantise(self.tokeniser.encode(chunk))
            if self.network.order == "token":
                before = self.tokeniser.vectors(found.tokens)[:, :-1]
                return found.tokens, functional.pad(before, (0, 0, 1, 0))
            shown = [self.tokeniser.downsampled(total, k + 1) for k, total in enumerate(found.sums[:-1])]
            empty = chunk.new_zeros(len(chunk), self.network.groups[0], self.network.latent)
            return found.tokens, torch.cat([empty, *shown], 1)

    def _taught(
        self, chunk: Tensor, condition: Condition, mask: Tensor | None, generator: Generators | None
    ) -> tuple[Tensor, Tensor]:
        tokens, inputs = self.teacher_inputs(fill_padding(chunk, mask))
        return tokens, self.network(inputs, condition.vector, generator=generator)

    def action_limit(self) -> float | None:
        """Return its bound; 1 where numbers of an action have two values, which are answered as ±1."""
        return 1.0 if bool(self.tokeniser.binary_dims.any()) else self.bound

    # ---- acting ----------------------------------------------------------------------------------------------------

    def sample(
        self,
        condition: Condition,
        generator: Generators,
        start: InitialSample | None = None,
        guide: Guide | None = None,
    ) -> Tensor:
        """Draw chunks [batch, step, number], of `candidates` the likeliest; starts and guides are refused."""
        self._only(start, guide)
        drawn = self.draw(condition, generator)
        best = drawn.log_probability.view(-1, self.candidates).argmax(1)
        tokens = drawn.tokens.unflatten(0, (-1, self.candidates))[torch.arange(len(best), device=best.device), best]
        chunk = self.tokeniser.chunk_of(tokens)
        if self.bound is not None:
            chunk = chunk.clamp(-self.bound, self.bound)
        return torch.where(self.tokeniser.binary_dims, torch.where(chunk >= 0, 1.0, -1.0), chunk)

    def draw(self, condition: Condition, generator: Generators) -> Drawn:
        """Draw `candidates` answers per row, before the best is chosen, with a pass of the network for every group."""
        vector = condition.repeated(self.candidates).vector
        network, cache = self.network, Cache()
        tokens = torch.empty(len(vector), 0, dtype=torch.int64, device=vector.device)
        inputs = vector.new_zeros(len(vector), network.groups[0], network.latent)
        total = vector.new_zeros(len(vector))
        latent = vector.new_zeros(len(vector), self.tokeniser.signals, network.scales[-1], network.latent)
        for number, first in enumerate(network.firsts[:-1]):
            logits = network(inputs, vector, first=first, cache=cache)
            chosen = self._choose(logits, int(network.scale_of[first]), generator)
            total = total + logits.log_softmax(-1).gather(-1, chosen[..., None]).sum((1, 2))
            tokens = torch.cat([tokens, chosen], 1)
            if tokens.shape[1] == network.firsts[-1]:
                break
            if network.order == "token":
                signal = first % self.tokeniser.signals
                inputs = self.tokeniser.codebook[signal][chosen]
            else:
                latent = latent + self.tokeniser.refined(chosen, number)
                inputs = self.tokeniser.downsampled(latent, number + 1)
        return Drawn(tokens, total)

    def _choose(self, logits: Tensor, scale: int, generator: Generators) -> Tensor:
        """Draw tokens [batch × candidate, token] of one scale by their logits [batch × candidate, token, code]."""
        if self.top_k == 1 or scale >= len(self.network.scales) - self.argmax_scales:
            return logits.argmax(-1)
        best = logits.topk(self.top_k, -1)
        probability = (best.values / self.temperature).softmax(-1).unflatten(0, (-1, self.candidates))
        place = categorical(probability, generator).flatten(0, 1)
        return best.indices.gather(-1, place[..., None])[..., 0]
