"""The first stage of CARP: a tokeniser of chunks is trained, an artifact that goes on after a kill."""

from __future__ import annotations

import inspect
import json
import shutil
import tempfile
from collections.abc import Mapping
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
from pilotage.systems.robots.carp import grouped_convolutions, multiscale_tokeniser, tokeniser_checks
from pilotage.systems.robots.carp.config import TokensConfig
from pilotage.systems.robots.carp.multiscale_tokeniser import MultiscaleTokeniser
from pilotage.systems.robots.carp.tokeniser_checks import tokeniser_report
from pilotage.training.loop import Hooks, train_loop
from pilotage.training.schedules import schedule

CHUNKS, WEIGHTS, REPORT = "chunks.safetensors", "tokeniser.safetensors", "report.json"
CHECKPOINT_EVERY, LOG_EVERY = 250, 50
REPORTED_CHUNKS = 4096
LAST_RATE, CLIP = 0.3, 10.0
"""Share of the learning rate that is left at the end, and the largest gradient norm; the paper's."""


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
    modules = (grouped_convolutions, multiscale_tokeniser, tokeniser_checks)
    code = "".join([*map(inspect.getsource, modules), inspect.getsource(TokeniserTrainer)])
    with tempfile.TemporaryDirectory() as folder:
        save_file({"chunks": chunks.contiguous()}, f"{folder}/{CHUNKS}")
        made = run.artifact(make_tokeniser, settings, [f"{folder}/{CHUNKS}"], name="action-tokeniser", code=code)
    tokeniser.load_state_dict(load_file(made / WEIGHTS))
    report: dict[str, float] = json.loads((made / REPORT).read_text())
    return report


def make_tokeniser(directory: Path, config: Mapping[str, Any], chunks: Path) -> None:
    """Train a tokeniser on the file `chunks` and write its weights, report and metrics into `directory`.

    Killed and called again, it goes on from a checkpoint beside the artifacts."""
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
        self.tokeniser.two_valued.copy_(((chunks == -1) | (chunks == 1)).all(0).all(0))
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
