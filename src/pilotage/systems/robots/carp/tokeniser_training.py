"""The first stage of policies that answer in tokens: a tokeniser of chunks, an artifact that goes on after a kill."""

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
from pilotage.runs import Progress, Run
from pilotage.systems.robots.carp import grouped_convolutions, multiscale_tokeniser, tokeniser_checks
from pilotage.systems.robots.carp.config import TokensConfig
from pilotage.systems.robots.carp.multiscale_tokeniser import MultiscaleTokeniser
from pilotage.systems.robots.carp.tokeniser_checks import tokeniser_report
from pilotage.training.schedules import schedule

CHUNKS, WEIGHTS, REPORT = "chunks.safetensors", "tokeniser.safetensors", "report.json"
CHECKPOINT_EVERY, LOG_EVERY = 250, 50
REPORTED_CHUNKS = 4096
LAST_RATE, CLIP = 0.3, 10.0
"""Share of the learning rate that is left at the end, and the largest gradient norm; the paper's."""


def fit_tokeniser(tokeniser: MultiscaleTokeniser, chunks: Tensor, config: TokensConfig, run: Any) -> dict[str, float]:
    """Gives `tokeniser` the weights that were trained on normalised `chunks` [N, T, A], and returns its report.

    They are an artifact, known by the chunks themselves, so that data, windows and normaliser are those of the policy.
    Raises UsageError for chunks that are not finite."""
    if not bool(chunks.isfinite().all()):
        raise UsageError("the demonstrated actions are not all finite; a tokeniser cannot be trained on them")
    if not config.tokeniser_steps:
        return tokeniser_report(tokeniser, _some(chunks))
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
    """The maker of that artifact. Killed and asked again, it goes on from a checkpoint beside the artifacts."""
    data = load_file(chunks)["chunks"]
    place = directory.parent / ".unfinished" / f"{directory.name}-{torch.get_num_threads()}"
    with Run.create(place, system="action-tokeniser", config=dict(config), seed=config["tokeniser_seed"]) as run:
        trainer = TokeniserTrainer(config, data, run)
        trainer.train()
        metrics = place / "metrics.jsonl"
        with trainer.average.swapped_in(trainer.tokeniser):
            save_file({n: t.contiguous() for n, t in trainer.tokeniser.state_dict().items()}, directory / WEIGHTS)
            report = tokeniser_report(trainer.tokeniser, _some(data))
    (directory / REPORT).write_text(json.dumps(report, indent=1) + "\n")
    if metrics.exists():
        shutil.copy(metrics, directory / "metrics.jsonl")
    shutil.rmtree(place)


class TokeniserTrainer:
    """Its tokeniser, optimiser and average. AdamW with β .5 and .9 and weight decay .005, the paper's."""

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

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint must hold."""
        return {"tokeniser": self.tokeniser, "optimiser": self.optimiser, "average": self.average}

    def train(self) -> None:
        """All steps, from the newest checkpoint on."""
        steps = self.config["tokeniser_steps"]
        start = self.run.restore(self.state())
        with Progress(steps, "tokeniser", start=start) as progress:
            for step in range(start, steps):
                loss = self.step(step)
                done = step + 1
                if done % LOG_EVERY == 0 or done == steps:
                    self.run.log(done, {"loss": loss})
                if done % CHECKPOINT_EVERY == 0 or done == steps:
                    self.run.save(done, self.state())
                progress.advance(done, loss=loss)

    def step(self, step: int) -> float:
        """One optimiser step; the loss."""
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
        return float(loss.detach())


def _some(chunks: Tensor) -> Tensor:
    """At most so many chunks, evenly spread, as a report looks at."""
    return chunks[np.unique(np.linspace(0, len(chunks) - 1, REPORTED_CHUNKS).astype(np.int64))]
