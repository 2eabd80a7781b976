"""A cell: one arm and one unit, run in a process of its own and kept by the hash of all that decides its numbers."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.system import System
from pilotage.experiments.code import code_hash, computing_modules, inputs_hash

FORMAT = 1


@dataclass(frozen=True)
class Wiring:
    """Names of the modules that a cell's process asks: `catalogue` offers `find_system(name)` and
    `configure(system, options)`, `launch` offers `launch(system, config, *, seed, directory, command)`, `hardware`
    offers `hardware()`, `versions()` and `commit()`. Names and not objects, because they cross a process boundary."""

    catalogue: str = "pilotage.core.registry"
    launch: str = "pilotage.experiments.launch"
    hardware: str = "pilotage.runs.hardware"


@dataclass(frozen=True)
class Job:
    """One arm and one unit. `command` is a command line without the program's name (`"grpo --lr 1e-4"`).

    With `measure` (`"module:function"`) the cell is what that function returns for (arm, unit, context); without, the
    command is trained with `unit` as its seed and its result's metrics are taken. `callback` (`"module:function"`)
    looks in on such a training: see `Context.train`."""

    arm: str
    unit: int
    command: str
    measure: str = ""
    quick: bool = False
    callback: str = ""


@dataclass(frozen=True)
class JobResult:
    """What a finished cell left: its numbers by name, the seconds of processor time it took, its directory, its key,
    and the artifacts (warmed-up models, data) that its runs used: by name their `key`, `contents` and `seconds`."""

    metrics: Mapping[str, float | None]
    seconds: float
    directory: Path | None = None
    key: str = ""
    artifacts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class PlacedJob:
    """A cell with its place: `key` is the hash of all that decides its numbers, `directory` where it lives."""

    cell: Job
    key: str
    directory: Path
    wiring: Wiring
    known: JobResult | None = field(default=None, compare=False)
    """The outcome, where it was committed beside a reproduction and need not be run again."""

    @property
    def run_directory(self) -> Path:
        return self.directory / "run"

    def outcome(self) -> JobResult | None:
        """What the finished cell left; None when it has not finished."""
        return read_outcome(self.directory, self.key) or self.known


def home() -> Path:
    """Where cells are kept: `$PILOTAGE_HOME`, otherwise `~/.cache/pilotage`."""
    return Path(os.environ.get("PILOTAGE_HOME") or Path.home() / ".cache" / "pilotage")


def parse_command(command: str, wiring: Wiring) -> tuple[System, Any]:
    """The system and the configuration that a command line names. Raises UsageError for what cannot work."""
    words = shlex.split(command)
    if not words:
        raise UsageError('an arm is empty; expected a system and its options, such as "grpo --lr 1e-4"')
    catalogue = importlib.import_module(wiring.catalogue)
    system = catalogue.find_system(words[0])
    return system, catalogue.configure(system, words[1:])


def with_seed(config: Any, seed: int) -> Any:
    """`config` with its field `seed`, where it has one, set to `seed`."""
    if any(f.name == "seed" for f in dataclasses.fields(config)):
        return dataclasses.replace(config, seed=seed)
    return config


def load_function(reference: str) -> Callable[..., Any]:
    """The function that `"module:function"` names. Raises UsageError when there is none."""
    module_name, _, name = reference.partition(":")
    function = getattr(importlib.import_module(module_name), name, None) if name else None
    if not callable(function):
        raise UsageError(f"{reference!r} names no function; expected module:function")
    return function


def function_reference(function: Callable[..., Any]) -> str:
    """`"module:function"` of a function that another process can import. Raises UsageError for any other."""
    reference = f"{function.__module__}:{function.__qualname__}"
    if "." in function.__qualname__ or "<" in function.__qualname__:
        raise UsageError(f"{reference} cannot be imported by a worker; define the measure at the top of its module")
    return reference


def defining_modules(system: System) -> set[str]:
    """The modules that a system's behaviour is written in: that of its run, and that of its `SYSTEM` or `SYSTEMS`."""
    modules = {system.load_run().__module__}
    for name, module in list(sys.modules.items()):
        # Others are not even asked: some (torch.ops) answer to every name.
        if not name.startswith("pilotage.systems."):
            continue
        offered = [getattr(module, "SYSTEM", None), *(getattr(module, "SYSTEMS", None) or ())]
        if any(one is system for one in offered):
            modules.add(name)
    return modules


def place(cell: Job, wiring: Wiring, root: Path | None = None) -> PlacedJob:
    """Resolve a cell's configuration and find its place under `root` (`home()` by default).

    Raises UsageError for a command that cannot work: before any process starts."""
    system, config = parse_command(cell.command, wiring)
    values = dataclasses.asdict(with_seed(config, cell.unit))
    modules = defining_modules(system)
    modules |= {reference.partition(":")[0] for reference in (cell.measure, cell.callback) if reference}
    identity: dict[str, Any] = {
        "format": FORMAT,
        "system": system.name,
        "config": values,
        "unit": cell.unit,
        "measure": cell.measure,
        # Two arms of a measure with one command may mean different things to it; a training's name means nothing.
        "arm": cell.arm if cell.measure else "",
        "quick": cell.quick and bool(cell.measure),
        **({"callback": cell.callback} if cell.callback else {}),
        "code": code_hash(computing_modules(*sorted(m for m in modules if m != "__main__"))),
        "inputs": inputs_hash(values),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    text = json.dumps(identity, sort_keys=True, default=str)
    key = hashlib.sha256(text.encode()).hexdigest()[:24]
    return PlacedJob(cell, key, (root or home()) / "cells" / key, wiring)


def read_outcome(directory: Path, key: str = "") -> JobResult | None:
    """The outcome in a cell's directory; None when the cell has not finished (the file is renamed into place last)."""
    path = directory / "outcome.json"
    if not path.exists():
        return None
    stored = json.loads(path.read_text())
    return JobResult(stored["metrics"], stored["seconds"], directory, key, stored["artifacts"])


def write_json(path: Path, value: Any) -> None:
    """Write JSON aside, force it to the disk and rename it, so that a kill leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("w") as file:
        file.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
