"""Pilotage: published policy-learning systems on one small core.

`pilotage.run`, `pilotage.compare` and `pilotage.load` do what the commands of the same name do;
`pilotage.core.registry` finds systems. Importing this package imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilotage.core.system import Result

__all__ = ["compare", "load", "run"]
__version__ = "0.1.0"


def run(system: str, *, seed: int = 0, directory: str | Path | None = None, **options: Any) -> Result:
    """Run one system and return its result.

    Args:
        system: the name of the system, as in `pilotage list`.
        seed: seed of all random number generators.
        directory: where to keep the run; None: `runs/…`. A run that was interrupted there is continued.
        options: fields of the system's configuration, as Python values. A slot also takes a function:
            `pilotage.run("grpo", advantage=my_advantage, steps=50)`.

    Raises:
        UsageError: for an unknown system or option, or a value that does not fit.
    """
    from pilotage.core.configuration import configure
    from pilotage.core.registry import find_system
    from pilotage.experiments.launch import launch

    found = find_system(system)
    return launch(found, configure(found, **options), seed=seed, directory=directory)


def load(run: str | Path) -> Any:
    """Return the trained policy of a finished run, ready to use: `pilotage.load(result.run)`."""
    from pilotage.experiments.launch import load_policy

    return load_policy(Path(run))


def compare(
    arms: Mapping[str, str] | Sequence[str],
    seeds: int | Sequence[int] = 5,
    **options: Any,
) -> Any:
    """Train several arms on the same seeds and compare them.

    Args:
        arms: command lines such as "grpo" or "bnpo --advantage mvar", by name or in order.
        seeds: the number of seeds, or the seeds.
        options: `metric`, `out`, `workers`, as in `pilotage.experiments.compare`.

    Returns:
        The comparison, with `directory`, `report` (an HTML file) and `table`.
    """
    from pilotage.core.references import refuse_while_loading
    from pilotage.experiments import compare as compare_arms

    refuse_while_loading("a comparison")
    named = {name: arms[name] for name in arms} if isinstance(arms, Mapping) else {arm: arm for arm in arms}
    chosen = list(range(seeds)) if isinstance(seeds, int) else list(seeds)
    return compare_arms(named, chosen, **options)
