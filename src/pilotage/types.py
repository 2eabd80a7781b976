"""Data and protocols that the packages hand to each other. No torch at import."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from pilotage.core.stateful import Stateful

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor


# ---- text: tasks and items -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """Prompt with what is needed to score an answer. `id` is stable: a hash of the content."""

    id: str
    prompt: str
    answer: str
    """The right answer; empty where the data has none, for rewards that need none."""
    solution: str = ""
    """A worked gold answer for warm-up by supervised learning; a reward never looks at it."""
    difficulty: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict)
    """What else is known: every field of a row of data under its name, "file", "line" and "place", "messages" for
    chats, and "answers" where more than one answer is right."""


class Task(Protocol):
    """Source of items, with the check of an answer."""

    name: str
    difficulties: Sequence[int]

    def pool(self, count: int, split: Literal["train", "held_out"], seed: int = 0) -> list[Item]:
        """Return `count` different items with stable ids; the two splits never share one."""
        ...

    def score(self, item: Item, text: str) -> float:
        """Return 1.0 for a right answer, else 0.0. Never raises, never looks at the gold solution."""
        ...

    def max_new(self, difficulty: int) -> int:
        """Return the tokens that the longest gold answer of a difficulty takes, with some room."""
        ...


# ---- rewards ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failed:
    """A score that could not be made; `reason` is a short word (timeout, exception, none, nan) kept in the metrics."""

    reason: str
    detail: str = ""


Score = float | None | Failed
"""A number; None: abstains (has no opinion on this answer); Failed. A failure never counts as zero."""


class Reward(Protocol):
    """Scores answers. `texts[i]` answers `items[i]`; `rollouts` has one row per answer."""

    name: str

    def __call__(self, texts: Sequence[str], items: Sequence[Item], rollouts: Rollouts) -> list[Score]:
        """Return a score, or a failure with its reason, for each answer."""
        ...


# ---- engines ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. Temperature 0 is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


@dataclass(frozen=True)
class Request:
    """`n` answers to one prompt. Noise depends on (seed, index of the answer, position) and on nothing else."""

    ids: Sequence[int]
    max_tokens: int
    n: int = 1
    seed: int = 0
    parent: Any = None
    """A handle of an earlier completion whose cached prefix is continued; `ids` then holds what comes after it."""


@dataclass(frozen=True)
class Completion:
    """An answer of an engine: its tokens, their log-probabilities and why it ended."""

    ids: np.ndarray
    """[T] int64, sampled tokens, end-of-sequence token included when it was sampled."""
    logp: np.ndarray
    """[T] float32, log-probability under the distribution sampled from (after temperature, top-k and top-p)."""
    stop: Literal["eos", "length", "stop"]
    version: int
    entropy: np.ndarray | None = None
    """[T] float32, entropy in nats of that distribution, where the engine offers it."""
    handle: Any = None


@dataclass
class Meter:
    """Tokens an engine has worked through."""

    prefilled: int = 0
    decoded: int = 0
    thrown_away: int = 0


@runtime_checkable
class Engine(Protocol):
    """Samples text. `load` hands over weights and drops every cached prefix."""

    capabilities: frozenset[str]
    """Of fork, entropy, images, deterministic."""
    meter: Meter
    version: int

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Completion]]:
        """For each request its `n` completions. Raises UsageError for a prompt longer than the context."""
        ...

    def load(self, version: int, named_tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Load what was saved."""
        ...


# ---- slots of the text trainer that carry state ----------------------------------------------------------------------


class Sampler(Stateful, Protocol):
    """Chooses which items of a pool to roll out next."""

    def select(self, count: int) -> np.ndarray:
        """Return positions in the pool, [count] int64."""
        ...

    def update(self, items: np.ndarray, right: np.ndarray, total: np.ndarray) -> None:
        """After a step: for each item rolled out, the sum of its scores (in [0, 1]) and the number of answers."""
        ...


# ---- control ---------------------------------------------------------------------------------------------------------


class ControlPolicy(Protocol):
    """Acts in many episodes at once. A row is the number of an episode: it stays the same from the episode's beginning
    to its end and is not used again, so noise drawn by (seed, row, step) does not depend on the episodes beside it.

    A policy that counts the passes of its network has `calls`, a mapping from rows to passes so far.
    """

    def reset(self, rows: Sequence[int]) -> None:
        """These episodes begin: whatever is kept of a row (a chunk, its step) is forgotten."""
        ...

    def act(self, observations: Mapping[str, torch.Tensor], rows: Sequence[int]) -> torch.Tensor:
        """Actions [n, A] in the environment's units for n rows.

        `observations`: "state" [n, To, S], "image/NAME" [n, To, C, H, W] in [0, 1], "goal" [n, G] where there is one;
        the newest observation of a window comes last.
        """
        ...


# ---- roll-outs of language policies ----------------------------------------------------------------------------------

STOP_REASONS = ("eos", "length", "stop")
"""Why an answer ended: end-of-sequence token, token limit, or stop string. `Rollouts.stop` holds the index."""


@dataclass
class Rollouts:
    """N sampled answers; every tensor's first dimension is the answer.

    Columns that pieces need or write (reward, advantage, entropy, logp_old, ...) live in `columns`; `column(name)`
    finds either kind. What is trained on is what was sampled: `ids` are the sampler's own token ids.
    """

    prompt_ids: Tensor
    """[N, P] int64, left-padded."""
    prompt_mask: Tensor
    """[N, P] bool, False on padding."""
    ids: Tensor
    """[N, T] int64, right-padded."""
    mask: Tensor
    """[N, T] bool, True on tokens that the policy wrote (its end-of-sequence token included)."""
    group: Tensor
    """[N] int64, one number per prompt *instance*: two instances of one text are two groups."""
    item: Tensor
    """[N] int64, position of the prompt in the task's pool of items."""
    stop: Tensor
    """[N] int64, index into STOP_REASONS."""
    logp_sampled: Tensor
    """[N, T] float32, log-probability under the distribution sampled from; 0 on padding."""
    version: int = 0
    """Version of the weights that sampled."""
    columns: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.ids.shape[0]

    @property
    def truncated(self) -> Tensor:
        """Return cut at the token limit, [N] bool."""
        return self.stop == STOP_REASONS.index("length")

    @property
    def length(self) -> Tensor:
        """Return number of tokens that the policy wrote, [N] int64."""
        return self.mask.sum(-1)

    def column(self, name: str) -> Tensor:
        """Return the tensor called `name`. Raises KeyError, with the columns there are, when no piece wrote it."""
        if name in self.columns:
            return self.columns[name]
        if name in BASE_COLUMNS:
            return getattr(self, name)
        raise KeyError(f"no column {name!r} in these rollouts; there are {sorted({*BASE_COLUMNS, *self.columns})}")

    def select(self, rows: Tensor) -> Rollouts:
        """Return the rollouts of `rows` (bool mask or int64 indices), columns included."""
        tensors = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name in _TENSOR_FIELDS}
        return Rollouts(
            **tensors, version=self.version, columns={name: column[rows] for name, column in self.columns.items()}
        )

    @staticmethod
    def concatenate(parts: Sequence[Rollouts]) -> Rollouts:
        """Return one batch from several of the same columns: prompts padded on the left, answers on the right.

        Groups are numbered anew, so that equal numbers in different parts stay different groups.
        """
        import torch

        if not parts:
            raise ValueError("concatenate needs at least one part")
        prompt_width = max(part.prompt_ids.shape[1] for part in parts)
        width = max(part.ids.shape[1] for part in parts)

        def pad(tensor: Tensor, to: int, left: bool) -> Tensor:
            missing = to - tensor.shape[1]
            return torch.nn.functional.pad(tensor, (missing, 0) if left else (0, missing))

        groups, offset = [], 0
        for part in parts:
            unique, inverse = part.group.unique(return_inverse=True)
            groups.append(inverse + offset)
            offset += len(unique)
        names = set(parts[0].columns)
        if any(set(part.columns) != names for part in parts):
            raise ValueError("the parts have different columns: " + ", ".join(str(sorted(p.columns)) for p in parts))

        def join(tensors: list[Tensor], wide: list[int]) -> Tensor:
            if tensors[0].dim() >= 2 and all(t.shape[1] == w for t, w in zip(tensors, wide, strict=True)):
                tensors = [pad(t, width, left=False) for t in tensors]
            return torch.cat(tensors)

        widths = [part.ids.shape[1] for part in parts]
        return Rollouts(
            prompt_ids=torch.cat([pad(part.prompt_ids, prompt_width, left=True) for part in parts]),
            prompt_mask=torch.cat([pad(part.prompt_mask, prompt_width, left=True) for part in parts]),
            ids=torch.cat([pad(part.ids, width, left=False) for part in parts]),
            mask=torch.cat([pad(part.mask, width, left=False) for part in parts]),
            group=torch.cat(groups),
            item=torch.cat([part.item for part in parts]),
            stop=torch.cat([part.stop for part in parts]),
            logp_sampled=torch.cat([pad(part.logp_sampled, width, left=False) for part in parts]),
            version=min(part.version for part in parts),
            columns={name: join([part.columns[name] for part in parts], widths) for name in names},
        )


_TENSOR_FIELDS = ("prompt_ids", "prompt_mask", "ids", "mask", "group", "item", "stop", "logp_sampled")
BASE_COLUMNS = (*_TENSOR_FIELDS, "truncated", "length")


@dataclass(frozen=True)
class FinishedStep:
    """A finished training step, as the alarms of a piece see it."""

    metrics: Mapping[str, float]
    rollouts: Rollouts
    """The answers that the step trained on, with their columns."""
    initial_entropy: float | None
    """Entropy of the untrained policy in nats per token; None when it is unknown."""
    options: Mapping[str, Any]
    """The hyper-parameters that were given to the piece."""
    memory: dict[str, Any]
    """What the alarm keeps from step to step, of plain values: part of a checkpoint."""
