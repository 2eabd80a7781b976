"""The classes with which a system is declared: its card, its result and the system itself. No torch here.

A system's `__init__.py` defines `SYSTEM = System(card, config, run, …)` (`baselines.py`: `SYSTEMS = [...]`).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pilotage.core.configuration import config_to_options, configure, differing_fields
from pilotage.core.references import Reference, load_function, load_reference

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

F = TypeVar("F", bound=Callable[..., Any])
Repeatability = Literal["exact", "exact given the journal", "statistical"]
"""exact: killed and resumed equals undisturbed, bit for bit, on the CPU. exact given the journal: the same once the
recorded answers of services and timed-out verifiers are replayed. statistical: nothing lost, nothing twice."""


@dataclass(frozen=True)
class Paper:
    """Publication of a system: `title` and `arxiv` id (such as "2402.03300")."""

    title: str
    arxiv: str


@dataclass(frozen=True)
class Card:
    """Description of a system for a reader who decides whether to use it."""

    name: str
    """Its name on the command line."""
    family: str
    """Its family and folder: reasoning, alignment, agents, vision, robots, model_based, societies, decisions."""
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
    """Result of a finished run: `metrics` by name (held-out accuracy first) and the `run` directory."""

    run: str
    metrics: Mapping[str, float]

    @property
    def table(self) -> pandas.DataFrame:
        """Return the metrics as a pandas DataFrame, one a row."""
        return load_function(f"{_FRAMES}:run_table")(self.metrics)

    def curves(self) -> pandas.DataFrame:
        """Return what the run logged as a pandas DataFrame: a row per step, a column per metric."""
        return load_function(f"{_FRAMES}:run_curves")(self.run)

    def plot(self, *metrics: str) -> Figure:
        """Return a matplotlib figure with the curve of each of `metrics`; of the first four when none is named."""
        return load_function(f"{_FRAMES}:run_plot")(self.run, metrics)

    def policy(self) -> Any:
        """Return the trained policy, ready to use."""
        return load_function("pilotage.experiments.launch:load_policy")(Path(self.run))

    def _repr_html_(self) -> str:
        html: str = load_function(f"{_FRAMES}:run_html")(self.run, self.metrics)
        return html


_FRAMES = "pilotage.report.frames"


def gives(*names: str) -> Callable[[F], F]:
    """Return a decorator that notes at the run of a system which numbers its result has.

    A comparison by another number is then refused before anything runs. `*` in a name stands for any part.
    """

    def note(run: F) -> F:
        run.result_names = names  # type: ignore[attr-defined]
        return run

    return note


@dataclass(frozen=True)
class System:
    """Published method, ready to run.

    Functions are named as text, "package.module:function", and imported when they are used, so that the catalogue
    loads without torch; a function object works, too.
    """

    card: Card
    config: Any
    """An instance of a frozen dataclass, which holds the defaults."""
    run: Reference
    """`run(config, run) -> Result`, where `config` is of the type of `config` and `run` is a `pilotage.runs.Run`."""
    actions: Mapping[str, Reference] = field(default_factory=dict)
    """Commands for a finished run (`pilotage do NAME ACTION`): `action(config, run, **options)`. The action
    `estimate_cost(config)` says what a run will take."""
    metric: str = "held_out/accuracy"
    """The number of a run's result by which runs are compared unless another is named; see `metric_for`."""
    panels: Reference | None = None
    """`panels(record) -> Sequence[Panel]`: the sections of the report that only this system has."""
    pieces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Pieces that it adds to shared slots: slot to name to reference."""
    revision: int = 1
    """Raised when a change alters the system's numbers: finished jobs of an earlier revision are not used any more."""

    def metric_for(self, config: Any) -> str:
        """Return the number by which runs of a configuration are compared: its own `compared_by`, else the system's."""
        return str(getattr(config, "compared_by", "") or self.metric)

    @property
    def name(self) -> str:
        """Return the name on the command line."""
        return self.card.name

    def load_run(self) -> Callable[..., Result]:
        """Import and return the function that runs the system. Raises UsageError when there is none."""
        loaded: Callable[..., Result] = load_reference(self.run)
        return loaded

    def load_action(self, name: str) -> Callable[..., Any]:
        """Import and return the action called `name`. Raises KeyError for a name that is none."""
        return load_reference(self.actions[name])


@dataclass(frozen=True, repr=False)
class Configuration:
    """A system with the values of its options, ready for `pilotage.run` and `pilotage.compare`."""

    system: System
    values: Any
    """An instance of the system's configuration class, frozen; its fields are the options."""

    @property
    def name(self) -> str:
        """Return the name of the system."""
        return self.system.name

    @property
    def options(self) -> dict[str, Any]:
        """Return the options that differ from the system's defaults, by field."""
        return {field: getattr(self.values, field) for field in differing_fields(self.values, self.system.config)}

    @property
    def command(self) -> str:
        """Return the command line, without the program's name, that gives this configuration in this session."""
        return shlex.join([self.name, *config_to_options(self.values, self.system.config)])

    def replace(self, **options: Any) -> Configuration:
        """Return a copy with other values of `options`. Raises UsageError as `pilotage.config` does."""
        return Configuration(self.system, configure(self.values, **options))

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"pilotage.config({self.name!r}{options})"
