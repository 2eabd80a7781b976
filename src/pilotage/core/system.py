"""What a system is: its card, its configuration and its result. No torch here.

A system's package ends in `SYSTEM = System(card, config, run, actions)` or `SYSTEMS = [...]`.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, Literal

from pilotage.core.references import Reference, load_reference

Repeatability = Literal["exact", "exact given the journal", "statistical"]
"""exact: killed and resumed equals undisturbed, bit for bit, on the CPU. exact given the journal: the same once the
recorded answers of services and timed-out verifiers are replayed. statistical: nothing lost, nothing twice."""


@dataclass(frozen=True)
class Paper:
    """Where a system was published: `title` and `arxiv` id (such as "2402.03300")."""

    title: str
    arxiv: str


@dataclass(frozen=True)
class Card:
    """What a system is, for somebody who has to decide whether to use it."""

    name: str
    """Its name on the command line."""
    family: str
    """The room it lives in: reasoning, alignment, agents, vision, robots, model_based, societies, decisions."""
    summary: str
    """What it does, in one or two sentences."""
    audience: str
    """For whom it is."""
    use_when: str
    """When it is the right choice."""
    avoid_when: str
    """When it is not."""
    paper: Paper | None = None
    repeatability: Repeatability = "exact"
    baseline: bool = False
    """Whether it is a row of a `baselines.py`, without claims of its own."""
    notes: str = ""
    """Details that matter, as Markdown: what differs between paper and code, and what was chosen here."""


@dataclass(frozen=True)
class Result:
    """What a finished run gives back: `metrics` by name (held-out accuracy first) and the `run` directory."""

    run: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class System:
    """A published method, ready to run.

    Functions are named as text, "package.module:function", and imported when they are used, so that the catalogue
    loads without torch; a function object works, too."""

    card: Card
    config: Any
    """An instance of a frozen dataclass, which holds the defaults."""
    run: Reference
    """`run(config, run) -> Result`, where `config` is of the type of `config` and `run` is a `pilotage.runs.Run`."""
    actions: Mapping[str, Reference] = field(default_factory=dict)
    """Commands for a finished run (`pilotage do NAME ACTION`): `action(config, run, **options)`. The action
    `estimate_cost(config)` says what a run will take."""
    metric: str = "held_out/accuracy"
    """The number of a run's result by which runs are compared unless another is named."""
    panels: Reference | None = None
    """`panels(record) -> Sequence[Panel]`: the sections of the report that only this system has."""
    pieces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Pieces that it adds to shared slots: slot to name to reference."""
    revision: int = 1
    """Raised when a change alters the system's numbers: finished jobs of an earlier revision are not used any more."""

    @property
    def name(self) -> str:
        return self.card.name

    def load_run(self) -> Callable[..., Result]:
        """Import and return the function that runs the system. Raises UsageError when there is none."""
        loaded: Callable[..., Result] = load_reference(self.run)
        return loaded

    def load_action(self, name: str) -> Callable[..., Any]:
        """Import and return the action called `name`. Raises KeyError for a name that is none."""
        return load_reference(self.actions[name])


@cache
def field_docs(config_type: type) -> Mapping[str, str]:
    """The docstring of every field of a dataclass (the string literal under it), also of inherited fields."""
    docs: dict[str, str] = {}
    for cls in reversed(config_type.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        except (OSError, TypeError):
            continue
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for statement, following in pairwise(body):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
                and isinstance(following.value.value, str)
            ):
                docs[statement.target.id] = " ".join(following.value.value.split())
    return docs
