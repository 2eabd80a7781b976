"""A whole step of GRPO (sampling, reward, advantage, one update, no KL): our trainer against TRL's GRPOTrainer.

Both are the real trainers on the same model, prompts, reward and AdamW in float32. TRL gives answers that end early
through `generate`, to which the ends of the workload are added: the token at a row's end becomes end-of-sequence, and
no other is."""

from __future__ import annotations

import copy
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks import workload
from benchmarks.child import Turn
from benchmarks.harness import Figure, Side, Target, alternate, column, figure

NAME = "step"
TARGETS = {
    "8-token prompts, full": Target(1.25),
    "8-token prompts, natural": Target(1.9),
    "96-token prompts, full": Target(2.5),
    "96-token prompts, natural": Target(2.8),
    "peak memory": Target(1.0),
}
LR = 1e-5


class _Ends:
    """An engine whose answers end where the workload says, and nowhere else."""

    def __init__(self, engine: Any, limits: list[int]) -> None:
        self.engine, self.limits = engine, limits
        self.capabilities = engine.capabilities

    @property
    def version(self) -> int:
        return self.engine.version

    def load(self, number: int, weights: Any) -> None:
        self.engine.load(number, weights)

    def generate(self, requests: Sequence[Any], sampling: Any) -> list[list[Any]]:
        limits = iter(self.limits)
        single = [
            replace(request, n=1, max_tokens=next(limits), seed=request.seed + sample)
            for request in requests
            for sample in range(request.n)
        ]
        answers = iter(self.engine.generate(single, replace(sampling, ignore_eos=True)))
        return [[next(answers)[0] for _ in range(request.n)] for request in requests]


class _Task:
    """Prompts of the workload, judged by its reward."""

    name, difficulties, isolate = "benchmark", (0,), False

    def __init__(self, count: int, width: int) -> None:
        from pilotage.types import Item

        self.items = [Item(id=text, prompt=text, answer="") for text in workload.prompts(count, width)]

    def pool(self, count: int, split: str, seed: int = 0) -> list[Any]:  # noqa: ARG002
        return self.items

    def score(self, item: Any, text: str) -> float:  # noqa: ARG002
        return workload.reward(text)

    def max_new(self, difficulty: int) -> int:  # noqa: ARG002
        raise AssertionError("the configuration gives max_tokens")


def trainer_of(run: Any, config: Any, *, width: int, natural: bool, size: str) -> Any:
    """Our trainer on the workload."""
    from pilotage.policies.language.policy import LanguagePolicy
    from pilotage.training.language import trainer as text

    policy = LanguagePolicy(workload.qwen2(size), workload.tokenizer(), "benchmark")
    task = _Task(config.prompts_per_step, width)
    with (
        mock.patch.object(text, "make_task", return_value=task),
        mock.patch.object(text.text_models, "make_policy", return_value=policy),
    ):
        trainer = text.TextTrainer(config, run)
    limits = workload.lengths(config.prompts_per_step * config.group_size, config.max_tokens, natural)
    trainer.engine = _Ends(trainer.engine, limits.tolist())
    return trainer


def configuration(prompts: int, answers: int, length: int, **changes: Any) -> Any:
    """Plain GRPO, one update a batch, every answer of `length` tokens at most."""
    from pilotage.training.language.config import TextConfig

    size = {
        "prompts_per_step": prompts,
        "group_size": answers,
        "max_tokens": length,
        "num_train_prompts": prompts,
    }
    return TextConfig(**{**size, "lr": LR, "pretrain_to_accuracy": 0.0, **changes})


def ours(turn: Turn, *, prompts: int, answers: int, length: int, width: int, natural: bool, size: str = "1.6M") -> None:
    from pilotage.core.configuration import config_to_dict
    from pilotage.runs import Run

    config = configuration(prompts, answers, length)
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", system="benchmark", config=config_to_dict(config), seed=0)
        with run:
            trainer = trainer_of(run, config, width=width, natural=natural, size=size)
            run.restore(trainer.state())
            trainer.load_engine(0)
            step = 0

            def repetition() -> dict[str, float]:
                nonlocal step
                before = trainer.counts["tokens"]
                metrics = trainer.step(step)
                step += 1
                run.log(step, metrics)
                return {"tokens": trainer.counts["tokens"] - before}

            turn.serve(repetition)


def trl(turn: Turn, *, prompts: int, answers: int, length: int, width: int, natural: bool) -> None:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    ids = workload.tokenizer()
    model = workload.qwen2()
    limits = workload.lengths(prompts * answers, length, natural)
    generate = model.generate
    ends, other = ids.eos_token_id, ids.convert_tokens_to_ids("b")
    rows = torch.arange(prompts * answers)

    def generate_with_ends(**inputs: Any) -> torch.Tensor:
        settings = copy.copy(inputs.pop("generation_config"))
        settings.eos_token_id = None
        model.generation_config.eos_token_id = None
        criteria = workload.ends_at(limits, width) if natural else None
        sequences = generate(**inputs, generation_config=settings, stopping_criteria=criteria)
        answer = sequences[:, width:]
        answer[answer == ends] = other
        if natural:
            answer[rows, limits - 1] = ends
        return sequences

    model.generate = generate_with_ends
    tokens = 0.0

    def judge(completions: list[str], **_: Any) -> list[float]:
        return [workload.reward(text) for text in completions]

    class Turns(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            turn.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            turn.end(tokens=tokens)

    with tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=prompts * answers,
            num_generations=answers,
            max_completion_length=length,
            max_steps=10**6,
            learning_rate=LR,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            max_grad_norm=1.0,
            beta=0.0,
            loss_type="grpo",
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            report_to="none",
            logging_strategy="no",
            save_strategy="no",
            disable_tqdm=True,
        )
        data = Dataset.from_list([{"prompt": text} for text in workload.prompts(prompts, width)])
        trainer = GRPOTrainer(model, reward_funcs=judge, args=arguments, train_dataset=data, processing_class=ids)
        trainer.add_callback(Turns())
        compute = trainer.compute_loss

        def counted(model: Any, inputs: Any, *rest: Any, **keywords: Any) -> Any:
            nonlocal tokens
            tokens = float(inputs["completion_mask"].sum())
            return compute(model, inputs, *rest, **keywords)

        trainer.compute_loss = counted
        trainer.train()


def bfloat16_note() -> str:
    """Why there is no figure for bfloat16 products."""
    from pilotage.networks.products import has_bfloat16_units

    reason = "the trainer has no option for them" if has_bfloat16_units() else "no AMX"
    return f"bfloat16 products: not measured ({reason})"


def _ratio(theirs: Sequence[Any], floor: Sequence[Any]) -> float:
    pairs = zip(column(theirs, "seconds"), column(floor, "seconds"), strict=True)
    return statistics.median(peer / least for peer, least in pairs)


def measure(quick: bool) -> Iterator[Figure]:
    """Both prompt lengths, full and natural, at 1 and 2 threads; what the products alone take; and peak memory."""
    peer = f"trl {version('trl')}"
    rows = workload.QUICK_ROWS if quick else workload.ROWS
    for threads in (1, 2):
        for width in (8, 96):
            for kind in ("full", "natural"):
                settings = {**rows, "width": width, "natural": kind == "natural"}
                sides = [Side(f"benchmarks.{name}", settings) for name in ("step:ours", "step:trl", "products:step")]
                mine, theirs, floor = alternate(sides, threads=threads, rounds=2 if quick else 3)
                if mine[0]["tokens"] != theirs[0]["tokens"]:
                    raise RuntimeError(f"the sides did not do the same work: {mine[0]} and {theirs[0]}")
                end = f"{width}-token prompts, {kind}/{threads} thread{'s' * (threads > 1)}"
                yield figure(
                    f"{NAME}/{end}",
                    column(mine, "seconds"),
                    column(theirs, "seconds"),
                    peer_version=peer,
                    note=f"seconds, float32; {bfloat16_note()}",
                )
                yield figure(
                    f"{NAME}/products alone/{end}",
                    column(mine, "seconds"),
                    column(floor, "seconds"),
                    peer_version="the step's matrix products",
                    note=f"seconds; without anything else the ratio to TRL would be {_ratio(theirs, floor):.2g}",
                )
                yield figure(
                    f"{NAME}/peak memory/{end}",
                    column(mine, "peak_mib")[-1:],
                    column(theirs, "peak_mib")[-1:],
                    peer_version=peer,
                    note="MiB resident at most, imports included",
                )
