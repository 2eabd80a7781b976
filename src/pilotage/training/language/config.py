"""The configuration of every language-model method: its slots, its task, its optimisation. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pilotage.core.configuration import INPUT_FILE
from pilotage.core.pieces import PieceChoice
from pilotage.core.ranges import NonNegativeInt, PositiveFloat, PositiveInt, Share
from pilotage.training.options import OptimiserOptions


@dataclass(frozen=True)
class Method:
    """What makes a method: one choice for each slot."""

    sampler: PieceChoice = "uniform"
    """Which prompts to roll out next."""
    filter: PieceChoice = "none"
    """Which prompt groups to keep (DAPO's dynamic sampling: informative)."""
    refill_rounds: NonNegativeInt = 0
    """Further rounds of roll-outs, at most, to fill the batch again after the filter (DAPO: 10)."""
    penalty: PieceChoice = "none"
    """What is taken off the reward per token, such as a KL penalty, before advantages."""
    advantage: PieceChoice = "zscore"
    """How much better an answer was than expected; pieces mix linearly (0.5*zscore+0.5*bnpo)."""
    shaping: PieceChoice = "none"
    """Changes of the advantage after it is computed; several in order by "then"."""
    weights: PieceChoice = "none"
    """Non-negative weights of tokens; several multiply, joined by "then"."""
    surrogate: PieceChoice = "clip"
    """The loss of a token given its advantage and the ratio of new to old probability."""
    aggregate: PieceChoice = "seq_mean_token_mean"
    """How token losses become one number: coefficients from the global mask."""
    regulariser: PieceChoice = "none"
    """Further token losses, with factors, such as 0.04*kl:kind=k3."""


@dataclass(frozen=True)
class TextConfig(Method, OptimiserOptions):
    """What a method is trained on, with, and for how long."""

    task: PieceChoice = "add"
    """Verifiable text task (add, chain10, countdown, sort, maze, reasoning-gym:NAME), or a class of your own
    (my.py:MyTask); ignored when data is given."""
    difficulties: tuple[int, ...] = ()
    """Difficulty levels of the task; empty: all of them."""
    num_train_prompts: PositiveInt = 2000
    """Number of different training prompts."""
    data: Annotated[str | None, INPUT_FILE] = None
    """Questions of your own: JSON Lines, JSON, CSV, TSV, Parquet, a folder or the name of a Hugging Face data set."""
    fields: str = ""
    """Field names in data, such as prompt=question,answer=target; empty: recognised."""
    subset: str = ""
    """Configuration of a Hugging Face data set."""
    split: str = "train"
    """Split of a Hugging Face data set to train on."""
    test_split: str = "test"
    """Split of test_data, where that is a Hugging Face data set."""
    skip_bad_rows: bool = False
    """Whether rows of data that cannot be used are left out, and counted, instead of refusing all of it."""
    reward: PieceChoice = "exact"
    """How answers are scored, a sum such as exact+0.5*format; module:function or file.py:function for your own. exact:
    the task's own check, mathematical equality for data. A function takes (text, item), or what it needs by name
    (completion, prompt, answer and columns of your data), or lists as in trl (prompts, completions, **columns); it
    returns a number, or None for no opinion."""
    reward_workers: PositiveInt = 1
    """Processes in which slow or user-written rewards run."""
    reward_seconds: PositiveFloat = 5.0
    """Limit of one score, in seconds; past it the worker is killed and the answer is left out."""
    failure_limit: Share = 0.5
    """Share of scores in a step that may fail before the run stops."""
    model: Annotated[str, INPUT_FILE] = "embedded:0.4M"
    """Policy: embedded:0.4M, embedded:1M, embedded:1.6M, or a Hugging Face name or folder."""
    adapter: Annotated[str | None, INPUT_FILE] = None
    """PEFT adapter folder, or lora:RANK for a new one."""
    pretrain_to_accuracy: Share = 0.3
    """Held-out accuracy (mean over levels) until which an embedded policy is first trained by supervised learning."""
    pretrain_seed: NonNegativeInt = 0
    """Seed of the embedded policy; shared by all arms and seeds of a comparison."""
    engine: str = "auto"
    """What samples: decoder, transformers, vllm; auto: decoder where the architecture allows."""
    chat: bool = True
    """Whether a model that has a chat template gets its prompts through it."""
    template: str = ""
    """Text around a question of data, such as "{question} Think first."; empty: a request for a boxed answer."""
    test_data: Annotated[str | None, INPUT_FILE] = None
    """Held-out questions; without them a tenth of data, chosen by hash."""
    prompts_per_step: PositiveInt = 24
    """Prompts per batch."""
    group_size: PositiveInt = 8
    """Answers per prompt (G)."""
    minibatches: PositiveInt = 1
    """Parts into which a batch is cut, one optimiser step each."""
    epochs: PositiveInt = 1
    """Passes over a batch (μ)."""
    steps: NonNegativeInt = 100
    """Batches of roll-outs."""
    max_tokens: NonNegativeInt = 0
    """Longest answer in tokens; 0: what the task's longest gold answer needs."""
    temperature: PositiveFloat = 1.0
    """Sampling temperature, of training and evaluation."""
    critic_lr: PositiveFloat = 1e-3
    """Learning rate of the critic, where a method has one."""
    critic_warmup_steps: NonNegativeInt = 5
    """First steps that train the critic alone, where a method has one."""
    tokens_per_batch: PositiveInt = 4096
    """Tokens per forward pass; changes memory and time, never the gradient."""
    evaluate_every: NonNegativeInt = 20
    """Steps between evaluations on held-out prompts; 0: only before and after."""
    evaluation_prompts: PositiveInt = 64
    """Held-out prompts per level."""
    evaluation_samples: PositiveInt = 2
    """Answers per held-out prompt."""
    checkpoint_every: PositiveInt = 20
    """Steps between checkpoints."""
    save_rollouts: int = 8
    """Answers written to rollouts.jsonl per step; -1: all of them."""
    logprob_gap_warning: float = 0.05
    """Mean difference, in nats per token, between the sampler's and the trainer's log-probabilities that raises an
    alarm."""
    precision: str = "float32"
    """Number format of the weights: float32, or bfloat16 where it pays."""

    @property
    def samples_per_step(self) -> int:
        """Return the number of answers per step, further rounds to refill a batch left out."""
        return self.prompts_per_step * self.group_size

    @property
    def compared_by(self) -> str:
        """Return the metric by which runs are compared: the reward itself when it is the user's own; else empty."""
        if callable(self.reward):
            return "held_out/reward"
        from pilotage.rewards import is_own  # it loads numpy, which listing systems need not

        return "held_out/reward" if is_own(self.reward) else ""


RUN = "pilotage.training.language.trainer:train"
ACTIONS = {"estimate_cost": "pilotage.training.language.cost:estimate_cost"}
"""What every member of the family runs and offers."""
