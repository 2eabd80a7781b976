"""From a system and its configuration to a run directory with a result; from a run directory to a policy."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pilotage.catalogue import find_system
from pilotage.configuration import config_from_dict, config_to_dict
from pilotage.system import Result, System, UsageError

RUNS = Path("runs")
"""Where runs go when nobody says otherwise, below the current folder."""


def launch(
    system: System,
    config: Any,
    *,
    seed: int = 0,
    directory: Path | str | None = None,
    command: Sequence[str] = (),
    track: str | None = None,
    quiet: bool = False,
) -> Result:
    """Run `system` with `config` in `directory` (a default one when None), or go on with what was interrupted there.

    Raises UsageError when the directory holds something else."""
    from pilotage.runs import Run

    where = default_directory(system, config, seed)[0] if directory is None else Path(directory)
    run = Run.create(
        where, system=system.name, config=config_to_dict(config), seed=seed, command=list(command), resume=True
    )
    with run:
        return system.run(config, run)


def default_directory(system: System, config: Any, seed: int, below: Path = RUNS) -> tuple[Path, bool]:
    """The folder for a run and whether an interrupted one of the same configuration goes on there.

    It is `runs/NAME-TASK-SEED-K`: the first K whose folder is free or holds an unfinished run of just this."""
    task = getattr(config, "task", None)
    stem = "-".join([system.name, *([_slug(task)] if task else []), str(seed)])
    wanted = {"system": system.name, "config": config_to_dict(config), "seed": seed}
    for k in itertools.count(1):
        folder = below / f"{stem}-{k}"
        if not folder.exists():
            return folder, False
        record = read_record(folder)
        if record and not is_finished(folder) and all(record.get(key) == value for key, value in wanted.items()):
            return folder, True
    raise AssertionError("unreachable")


def _slug(text: object) -> str:
    return re.sub(r"[^\w.]+", "-", Path(str(text)).name).strip("-")


def recorded(directory: Path) -> tuple[System, Any, int]:
    """System, configuration and seed of an earlier run. Raises UsageError when `directory` holds none."""
    record = read_record(directory)
    if record is None:
        raise UsageError(f"given {directory}, expected the folder of a run; it has no run.json")
    system = find_system(record["system"])
    return system, config_from_dict(system, record["config"]), int(record["seed"])


def forecast(system: System, config: Any) -> Mapping[str, Any]:
    """What a run will take: `steps`, `tokens`, `seconds` and more as far as the system can tell beforehand."""
    if "forecast" in system.actions:
        expected: Mapping[str, Any] = system.actions["forecast"](config)
        return expected
    return {"steps": config.steps} if hasattr(config, "steps") else {}


def load_policy(run: Path) -> Any:
    """The policy that a run trained, as a `LanguagePolicy`. Raises UsageError when the run has none yet."""
    folder = run / "policy"
    if not folder.is_dir():
        why = "it is no finished run" if run.is_dir() else "there is no such folder"
        raise UsageError(f"given {run}, expected the folder of a run with a trained policy; {why}")
    from pilotage.policies.language import load_policy as load_language_policy

    return load_language_policy(str(folder))


def export_policy(run: Path, folder: Path) -> None:
    """Write the policy of a run as a Hugging Face folder that `AutoModelForCausalLM.from_pretrained` opens."""
    load_policy(run).save(folder)
