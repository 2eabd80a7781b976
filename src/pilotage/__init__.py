"""Pilotage: published policy-learning systems on one small core.

`run`, `compare` and `load` do what the commands of the same name do; `config` prepares a run with its options,
`systems` names what there is. Importing this package imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pilotage.core.system import Configuration, Result
    from pilotage.experiments.comparison import Comparison

    systems: Callable[..., list[str]]
else:
    from pilotage import systems

__all__ = ["compare", "config", "load", "run", "systems"]
__version__ = "0.1.0"


def config(system: str, **options: Any) -> Configuration:
    """Return a system with its options, for `run` and `compare`: `config("grpo", advantage=mine, steps=50)`.

    Args:
        system: the name of the system, as in `systems()`.
        options: fields of its configuration, as Python values; a slot also takes a function. `.values` holds them all.

    Raises:
        UsageError: for an unknown system or option, or a value that does not fit.
    """
    from pilotage.core.configuration import configure
    from pilotage.core.registry import find_system
    from pilotage.core.system import Configuration

    found = find_system(system)
    return Configuration(found, configure(found, **options))


def run(system: str | Configuration, *, seed: int = 0, directory: str | Path | None = None, **options: Any) -> Result:
    """Run one system and return its result.

    Args:
        system: the name of the system, as in `systems()`, or what `config` returned.
        seed: seed of all random number generators.
        directory: where to keep the run; None: `runs/…`. A run that was interrupted there is continued.
        options: fields of the system's configuration, as Python values. A slot also takes a function:
            `pilotage.run("grpo", advantage=my_advantage, steps=50)`.

    Returns:
        The result: `.metrics`, `.table`, `.curves()`, `.plot()` and `.policy()`.

    Raises:
        UsageError: for an unknown system or option, or a value that does not fit.
    """
    from pilotage.experiments.launch import launch

    chosen = config(system, **options) if isinstance(system, str) else system.replace(**options)
    return launch(chosen.system, chosen.values, seed=seed, directory=directory)


def load(run: str | Path) -> Any:
    """Return the trained policy of a finished run, ready to use: `pilotage.load(result.run)`."""
    from pilotage.experiments.launch import load_policy

    return load_policy(Path(run))


def compare(
    arms: Mapping[str, str | Configuration] | Sequence[str | Configuration],
    seeds: int | Sequence[int] = 5,
    *,
    metric: str | None = None,
    higher_is_better: bool = True,
    against: str | None = None,
    workers: int | None = None,
    out: str | Path | None = None,
    **options: Any,
) -> Comparison:
    """Train several arms on the same seeds and compare them.

    Args:
        arms: by name or in order: names of systems, command lines ("bnpo --advantage mvar") and what `config` returned,
            with functions of this session where there are some.
        seeds: the number of seeds, or the seeds.
        metric: name of the number that is compared; by default that of the systems.
        higher_is_better: direction of the metric.
        against: the arm that all others are compared with; the first by default.
        workers: parallel processes of one thread each; one per core by default.
        out: where the comparison is kept; by default a folder below `runs/`.
        options: options of every arm, as Python values (`steps=20`); what an arm sets itself wins.

    Returns:
        The comparison: `.table`, `.curves()`, `.plot()`, `.sentences`, `.directory` and `.report` (an HTML file).

    Raises:
        UsageError: for arms, options or a metric that cannot work.
    """
    from pilotage.core.references import refuse_while_loading
    from pilotage.experiments.comparison import arm_commands
    from pilotage.experiments.comparison import compare as compare_arms

    refuse_while_loading("a comparison")
    return compare_arms(
        arm_commands(arms, options),
        list(range(seeds)) if isinstance(seeds, int) else list(seeds),
        metric=metric,
        higher_is_better=higher_is_better,
        against=against,
        workers=workers,
        out=out,
    )
