"""The first stage of CARP: a tokeniser of chunks is trained, an artifact that goes on after a kill."""

from __future__ import annotations

import inspect
import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.core.pieces import make_piece
from pilotage.networks.ema import AveragedWeights
from pilotage.runs import Run
from pilotage.systems.robots.carp import tokeniser as tokeniser_module
from pilotage.systems.robots.carp.config import TokensConfig
from pilotage.systems.robots.carp.tokeniser import MultiscaleTokeniser
from pilotage.training.loop import Hooks, train_loop
from pilotage.training.schedules import schedule

CHUNKS, WEIGHTS, REPORT = "chunks.safetensors", "tokeniser.safetensors", "report.json"
CHECKPOINT_EVERY, LOG_EVERY = 250, 50
REPORTED_CHUNKS = 4096
LAST_RATE, CLIP = 0.3, 10.0
"""Share of the learning rate that is left at the end, and the largest gradient norm; the paper's."""

MOST_ERROR, LEAST_USE = 1e-3, 0.3
"""Gates: mean squared error in normalised units, and the share of codes in use at every scale but the coarsest.

The coarsest says of a chunk little more than a mean per dimension: few directions do for that."""


def fit_tokeniser(tokeniser: MultiscaleTokeniser, chunks: Tensor, config: TokensConfig, run: Any) -> dict[str, float]:
    """Give `tokeniser` the weights that were trained on normalised chunks, and return its report.

    The weights are an artifact, known by the chunks themselves, so that data, windows and normaliser are those of the
    policy.

    Args:
        tokeniser: changed in place.
        chunks: normalised actions, [chunk, step, number].
        config: the settings of the tokeniser and its training.
        run: the run that keeps artifacts.

    Raises:
        UsageError: for chunks that are not finite.
    """
    if not bool(chunks.isfinite().all()):
        raise UsageError("the demonstrated actions are not all finite; a tokeniser cannot be trained on them")
    if not config.tokeniser_steps:
        return tokeniser_report(tokeniser, _reported(chunks))
    names = ("tokeniser", "tokeniser_steps", "tokeniser_batch", "tokeniser_lr", "tokeniser_seed")
    settings = {name: getattr(config, name) for name in names}
    code = "".join(inspect.getsource(part) for part in (tokeniser_module, tokeniser_report, TokeniserTrainer))
    with tempfile.TemporaryDirectory() as folder:
        save_file({"chunks": chunks.contiguous()}, f"{folder}/{CHUNKS}")
        made = run.artifact(make_tokeniser, settings, [f"{folder}/{CHUNKS}"], name="action-tokeniser", code=code)
    tokeniser.load_state_dict(load_file(made / WEIGHTS))
    report: dict[str, float] = json.loads((made / REPORT).read_text(encoding="utf-8"))
    return report


def make_tokeniser(directory: Path, config: Mapping[str, Any], chunks: Path) -> None:
    """Train a tokeniser on the file `chunks` and write its weights, report and metrics into `directory`.

    Killed and called again, it goes on from a checkpoint beside the artifacts.
    """
    data = load_file(chunks)["chunks"]
    place = directory.parent / ".unfinished" / f"{directory.name}-{torch.get_num_threads()}"
    with Run.create(place, system="action-tokeniser", config=dict(config), seed=config["tokeniser_seed"]) as run:
        trainer = TokeniserTrainer(config, data, run)
        train_loop(
            run,
            trainer,
            config["tokeniser_steps"],
            checkpoint_every=CHECKPOINT_EVERY,
            log_every=LOG_EVERY,
            label="tokeniser",
        )
        metrics = place / "metrics.jsonl"
        with trainer.average.swapped_in(trainer.tokeniser):
            save_file({n: t.contiguous() for n, t in trainer.tokeniser.state_dict().items()}, directory / WEIGHTS)
            report = tokeniser_report(trainer.tokeniser, _reported(data))
    (directory / REPORT).write_text(json.dumps(report, indent=1) + "\n")
    if metrics.exists():
        shutil.copy(metrics, directory / "metrics.jsonl")
    shutil.rmtree(place)


class TokeniserTrainer(Hooks):
    """Tokeniser, optimiser and average of one training: AdamW with β .5 and .9 and weight decay .005, the paper's."""

    def __init__(self, config: Mapping[str, Any], chunks: Tensor, run: Any) -> None:
        self.config, self.chunks, self.run = config, chunks, run
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.seed_for("weights"))
            sizes = {"action_dim": chunks.shape[2], "horizon": chunks.shape[1]}
            self.tokeniser: MultiscaleTokeniser = make_piece("tokeniser", config["tokeniser"], sizes)
        self.tokeniser.binary_dims.copy_(((chunks == -1) | (chunks == 1)).all(0).all(0))
        self.draws = run.generator("batches")
        parameters = self.tokeniser.parameters()
        rate = config["tokeniser_lr"]
        self.optimiser = torch.optim.AdamW(parameters, lr=rate, betas=(0.5, 0.9), weight_decay=0.005, fused=True)
        self.average = AveragedWeights(self.tokeniser)
        self.loss = 0.0

    def state(self) -> dict[str, Any]:
        """Return everything that a checkpoint must hold."""
        return {"tokeniser": self.tokeniser, "optimiser": self.optimiser, "average": self.average}

    def metrics(self, done: int) -> dict[str, float]:  # noqa: ARG002
        """Return the loss of the newest step."""
        return {"loss": self.loss}

    def step(self, step: int) -> None:
        """Take one optimiser step."""
        share = LAST_RATE + (1 - LAST_RATE) * schedule("cosine", step, self.config["tokeniser_steps"], 0)
        for group in self.optimiser.param_groups:
            group["lr"] = share * self.config["tokeniser_lr"]
        rows = torch.randint(len(self.chunks), (self.config["tokeniser_batch"],), generator=self.draws)
        loss = self.tokeniser.loss(self.chunks[rows]).mean()
        self.run.check_finite(step + 1, "loss", loss, {"chunks": self.chunks[rows]})
        loss.backward()
        nn.utils.clip_grad_norm_(self.tokeniser.parameters(), CLIP)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.average.update(self.tokeniser)
        self.loss = float(loss.detach())


def _reported(chunks: Tensor) -> Tensor:
    """Select up to REPORTED_CHUNKS evenly spaced chunks for the report."""
    return chunks[np.unique(np.linspace(0, len(chunks) - 1, REPORTED_CHUNKS).astype(np.int64))]


# ---- report ----------------------------------------------------------------------------------------------------------


def code_use(tokens: Tensor, per_scale: Sequence[int], signals: int, codes: int) -> Tensor:
    """Return the share of codes that occur, [scale, signal].

    Args:
        tokens: [batch, token].
        per_scale: number of tokens of each scale.
        signals: number of signals.
        codes: number of codes of a signal.
    """
    shares = []
    for part in tokens.split(list(per_scale), 1):
        of_signal = part.unflatten(1, (-1, signals)).movedim(2, 0).flatten(1)
        shares.append(torch.stack([torch.bincount(one, minlength=codes).gt(0).double().mean() for one in of_signal]))
    return torch.stack(shares)


@torch.no_grad()
def scale_errors(tokeniser: MultiscaleTokeniser, chunk: Tensor) -> Tensor:
    """Return the mean squared error of chunks when only the first k scales are decoded, [scale]."""
    sums = tokeniser.quantise(tokeniser.encode(chunk)).sums
    return torch.stack([(tokeniser.decode(total) - chunk).square().mean() for total in sums])


def high_frequency_share(chunk: Tensor, above: int = 4) -> Tensor:
    """Return the share of energy in the cosines from number `above` on, among all but the constant."""
    energy = (cosine_basis(chunk.shape[1]).to(chunk.device) @ chunk.double()).square().sum((0, 2))
    return energy[above:].sum() / energy[1:].sum().clamp(min=1e-12)


@torch.no_grad()
def tokeniser_report(tokeniser: MultiscaleTokeniser, chunks: Tensor) -> dict[str, float]:
    """Return numbers that say how good a tokeniser is on normalised chunks [chunk, step, number].

    mse; rmse/dimension_i; mse/scales_k with the first k scales; use/scale_k, the least over dimensions that vary;
    finest_changed, the share of the finest tokens that change when the reconstruction is tokenised again;
    coarse_energy, the share of high frequencies in what the first scale alone decodes to; ready, 1 when mse and use
    pass their gates.
    """
    latent = tokeniser.encode(chunks)
    found = tokeniser.quantise(latent)
    answer = tokeniser.decode(found.sums[-1])
    error = (answer - chunks).square().mean((0, 1))
    use = code_use(found.tokens, tokeniser.per_scale, tokeniser.signals, tokeniser.codes)
    varies = chunks.flatten(0, 1).std(0) > 0
    if tokeniser.per_dimension and bool(varies.any()):
        use = use[:, varies]
    least_use = use.amin(1)
    again = tokeniser.tokens(answer)
    finest = tokeniser.per_scale[-1]
    report = {"mse": float(error.mean())}
    report |= {f"rmse/dimension_{i}": float(value) for i, value in enumerate(error.sqrt())}
    errors = scale_errors(tokeniser, chunks)
    report |= {f"mse/scales_{k + 1}": float(value) for k, value in enumerate(errors)}
    report |= {f"use/scale_{k + 1}": float(value) for k, value in enumerate(least_use)}
    changed = again[:, -finest:] != found.tokens[:, -finest:]
    report["finest_changed"] = float(changed.double().mean())
    report["coarse_energy"] = float(high_frequency_share(tokeniser.decode(found.sums[0])))
    finer = least_use[1:] if len(least_use) > 1 else least_use
    report["ready"] = float(report["mse"] < MOST_ERROR and float(finer.min()) > LEAST_USE)
    return report


def cosine_basis(length: int) -> Tensor:
    """Return the orthonormal DCT-II, [length, length]; row k is the k-th cosine."""
    place = torch.arange(length, dtype=torch.float64)
    basis = torch.cos(torch.pi / length * (place[None] + 0.5) * place[:, None]) * (2 / length) ** 0.5
    basis[0] /= 2**0.5
    return basis
