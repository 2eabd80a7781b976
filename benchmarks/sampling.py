"""Sampling: our decoder against transformers' `generate`, which gives tokens alone; ours, log-probabilities, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from benchmarks import workload
from benchmarks.child import Turn
from benchmarks.harness import Figure, Side, Target, alternate, column, figure

NAME = "sampling"
TARGETS = {"full": Target(1.7), "natural": Target(2.5)}
PROMPT_WIDTH = 8


def ours(turn: Turn, *, prompts: int, answers: int, length: int, natural: bool) -> None:
    from pilotage.engines.decoder import DecoderEngine
    from pilotage.types import Request, Sampling

    ids = workload.tokenizer()
    engine = DecoderEngine(workload.qwen2(), ids)
    limits = workload.lengths(prompts * answers, length, natural).view(prompts, answers).tolist()
    texts = [ids.encode(text) for text in workload.prompts(prompts, PROMPT_WIDTH)]
    if natural:
        requests = [
            Request(texts[i], max_tokens=limits[i][j], seed=i * answers + j)
            for i in range(prompts)
            for j in range(answers)
        ]
    else:
        requests = [Request(texts[i], max_tokens=length, n=answers, seed=i) for i in range(prompts)]

    def repetition() -> dict[str, float]:
        groups = engine.generate(requests, Sampling(ignore_eos=True))
        return {"tokens": float(sum(len(answer.ids) for group in groups for answer in group))}

    turn.serve(repetition)


def transformers(turn: Turn, *, prompts: int, answers: int, length: int, natural: bool) -> None:
    ids = workload.tokenizer()
    model = workload.qwen2()
    model.generation_config.eos_token_id = None
    limits = workload.lengths(prompts * answers, length, natural)
    texts = torch.tensor([ids.encode(text) for text in workload.prompts(prompts, PROMPT_WIDTH)])
    inputs = texts.repeat_interleave(answers, 0)
    settings: dict[str, Any] = {"do_sample": True, "top_k": 0, "temperature": 1.0, "max_new_tokens": length}
    if natural:
        settings["stopping_criteria"] = workload.ends_at(limits, PROMPT_WIDTH)

    def repetition() -> dict[str, float]:
        with torch.no_grad():
            sequences = model.generate(inputs, attention_mask=torch.ones_like(inputs), **settings)
        return {"tokens": float(limits.sum()), "width": float(sequences.shape[1] - PROMPT_WIDTH)}

    turn.serve(repetition)


def measure(quick: bool) -> Iterator[Figure]:
    """Full and natural lengths at 1 and 2 threads."""
    from importlib.metadata import version

    rows = workload.QUICK_ROWS if quick else workload.ROWS
    for threads in (1, 2):
        for kind in TARGETS:
            settings = {**rows, "natural": kind == "natural"}
            sides = [
                Side("benchmarks.sampling:ours", settings),
                Side("benchmarks.sampling:transformers", settings),
                Side("benchmarks.products:step", {**settings, "width": PROMPT_WIDTH, "train": False}),
            ]
            mine, theirs, floor = alternate(sides, threads=threads, rounds=2 if quick else 7)
            if mine[0]["tokens"] != theirs[0]["tokens"]:
                raise RuntimeError(f"the sides did not do the same work: {mine[0]} and {theirs[0]}")
            share = mine[0]["tokens"] / (rows["prompts"] * rows["answers"] * rows["length"])
            yield figure(
                f"{NAME}/{kind}/{threads} thread{'s' * (threads > 1)}",
                column(mine, "seconds"),
                column(theirs, "seconds"),
                peer_version=f"transformers {version('transformers')}",
                note=f"seconds; mean/max length {share:.2f}",
            )
            yield figure(
                f"{NAME}/products alone/{kind}/{threads} thread{'s' * (threads > 1)}",
                column(mine, "seconds"),
                column(floor, "seconds"),
                peer_version="the matrix products of sampling",
                note="seconds; the ratio is the share of our time that they alone take",
            )
