"""From a system and its configuration to a run directory with a result; from a run directory to a policy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pilotage.core.atomic_io import share
from pilotage.core.configuration import (
    code_fields,
    config_from_dict,
    config_to_dict,
    input_files,
    with_absolute_paths,
)
from pilotage.core.errors import UsageError
from pilotage.core.pieces import user_functions
from pilotage.core.references import function_source, is_of_session, load_function, refuse_while_loading
from pilotage.core.registry import find_system
from pilotage.core.system import Result, System
from pilotage.policies.pickled import refuse_pickled

RUNS = Path("runs")
"""Default folder of runs, below the current folder."""


def launch(
    system: System,
    config: Any,
    *,
    seed: int = 0,
    directory: Path | str | None = None,
    command: str = "",
    track: Sequence[str] = (),
    callback: Callable[..., Mapping[str, float]] | None = None,
    overwrite: bool = False,
) -> Result:
    """Run `system` with `config` in `directory` (a default one when None), or go on with what was interrupted there.

    track: trackers by name, beside the local files. callback: given to the system's run as `callback`, for those that
    take one. overwrite: whether a run that lies in the directory is removed first. Raises UsageError when the
    directory holds something else.
    """
    refuse_while_loading(system.name)
    from pilotage.runs import Run

    where = default_directory(system, config, seed)[0] if directory is None else Path(directory)
    record = run_record(config)
    is_new = not (where / "run.json").exists()
    run = Run.create(
        where,
        system=system.name,
        config=record,
        seed=seed,
        command=command,
        precision=getattr(config, "precision", "float32"),
        device=getattr(config, "device", "cpu"),
        inputs=input_files(config),
        overwrite=overwrite,
    )
    with run:
        if run.finished:
            return Result(str(run.directory), dict(run.result or {}))
        if track:
            run.track(track)
        for kept in record.get("functions", ()) if is_new else ():
            if "not_kept" in kept:
                run.log_event(None, "source", kept["not_kept"])
        looking = {} if callback is None else {"callback": callback}
        result = system.load_run()(config, run, **looking)
        if not run.finished:
            run.finish(result.metrics)
        return result


def run_record(config: Any) -> dict[str, Any]:
    """Return `config` as a run keeps it: its dictionary with absolute paths, and `functions`.

    `functions` holds the source of every user function in it; a function of a session whose source cannot be found has
    a sentence under `not_kept` instead.
    """
    record = config_to_dict(with_absolute_paths(config))
    functions = [_kept(name) for name in sorted(user_functions(config))]
    return {**record, "functions": functions} if functions else record


def _kept(name: str) -> dict[str, str]:
    function = load_function(name)
    try:
        return {"name": name, "source": function_source(function, name)}
    except UsageError as error:
        if not is_of_session(name):
            raise
        return {"name": name, "not_kept": str(error)}


def recorded(directory: Path) -> tuple[System, Any, int]:
    """Return system, configuration and seed of an earlier run.

    Functions that files or sessions of the user defined come from the copies that the run kept. Raises UsageError when
    `directory` holds no run.
    """
    from pilotage.runs import Run

    recipe = Run.read_recipe(directory)
    system = find_system(recipe.system)
    values = {name: value for name, value in recipe.config.items() if name != "functions"}
    for name, kept in recipe.sources.items():
        file, _, function = name.rpartition(":")
        if file.endswith(".py") or file == "session":
            for field in code_fields(type(system.config)) & set(values):
                values[field] = _replaced(values[field], name, f"{kept.resolve()}:{function}")
    return system, config_from_dict(system, values), recipe.seed


def _replaced(value: Any, name: str, new: str) -> Any:
    if isinstance(value, str):
        return value.replace(name, new)
    return [_replaced(part, name, new) for part in value] if isinstance(value, list) else value


def default_directory(system: System, config: Any, seed: int, below: Path = RUNS) -> tuple[Path, bool]:
    """Return the folder for a run and whether an interrupted one of the same configuration goes on there.

    It is `runs/NAME-TASK-SEED-K`, with data of one's own `runs/NAME-FILE-SEED-K`: the first K whose folder is free or
    holds an unfinished run of just this.
    """
    data = input_files(config).get("data")
    task = data.stem if data is not None else getattr(config, "task", None)
    stem = "-".join([system.name, *([_slug(task)] if task else []), str(seed)])
    k = 1
    while (folder := below / f"{stem}-{k}").exists():
        if _is_unfinished(folder, system, config, seed):
            return folder, True
        k += 1
    return folder, False


def _is_unfinished(folder: Path, system: System, config: Any, seed: int) -> bool:
    from pilotage.runs import Manifest, read_result

    if not (folder / "run.json").is_file() or read_result(folder) is not None:
        return False
    try:
        Manifest.read(folder).refuse_other(folder, system.name, run_record(config), seed)
    except UsageError:
        return False  # another configuration, or a format that only another version reads: not ours to touch
    return True


def _slug(text: object) -> str:
    return re.sub(r"[^\w.]+", "-", Path(str(text)).name).strip("-")


def estimate_cost(system: System, config: Any) -> Mapping[str, Any]:
    """Return what a run will take: `steps`, `tokens`, `seconds` and more, as far as the system can tell beforehand."""
    if "estimate_cost" in system.actions:
        expected: Mapping[str, Any] = system.load_action("estimate_cost")(config)
        return expected
    return {"steps": config.steps} if hasattr(config, "steps") else {}


def load_policy(run: Path) -> Any:
    """Return the policy that a run trained: a `LanguagePolicy`, or an `ActionPolicy` ready to be reset and to act.

    A folder that `export_policy` wrote, or a diffusion policy of LeRobot's (config.json, model.safetensors), is taken
    for `run`, too. Raises UsageError when there is no policy yet, and for pickled checkpoints.
    """
    from pilotage.policies.control.saving import is_action_policy

    refuse_pickled(run)
    folder = run / "policy" if (run / "policy").is_dir() else run
    if is_action_policy(folder):
        from pilotage.policies.control.policy import ActionPolicy

        return ActionPolicy.from_pretrained(folder)
    if folder == run:
        if (run / "model.safetensors").is_file():
            from pilotage.policies.control.lerobot_checkpoint import load_lerobot

            return load_lerobot(run)
        why = "it is no finished run" if run.is_dir() else "there is no such folder"
        raise UsageError(f"given {run}, expected the folder of a run with a trained policy; {why}")
    from pilotage.policies.language.policy import LanguagePolicy

    return LanguagePolicy.from_pretrained(str(folder))


def export_policy(run: Path, folder: Path) -> str:
    """Write the policy of a run into `folder` and return the name of what opens it.

    A language policy becomes a Hugging Face folder that `AutoModelForCausalLM.from_pretrained` opens, a policy that
    acts in continuous spaces a folder that `pilotage.load` opens.
    """
    policy = load_policy(run)
    policy.save_pretrained(folder)
    for path in folder.rglob("*"):
        share(path)
    return str(policy.opened_by)
