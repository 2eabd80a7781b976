"""Jobs: one arm and one seed each, kept under the choices that decide their numbers."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilotage.core.configuration import config_to_dict, configure
from pilotage.core.errors import UsageError
from pilotage.core.paths import home
from pilotage.core.pieces import user_functions
from pilotage.core.references import dump_functions
from pilotage.core.serialisation import digest
from pilotage.core.system import System
from pilotage.experiments.inputs import inputs_hash


@dataclass(frozen=True)
class ModuleNames:
    """Names of the modules that the process of a job asks: names and not objects, because they go to other processes.

    `catalogue` offers `find_system(name)` (and `find_claims(name)` for a reproduction), `launch` offers
    `launch(system, config, *, seed, directory, command)`, `hardware` offers `hardware()`, `versions()`, `commit()`.
    """

    catalogue: str = "pilotage.core.registry"
    launch: str = "pilotage.experiments.launch"
    hardware: str = "pilotage.runs.hardware"


@dataclass(frozen=True)
class Job:
    """One arm and one seed. `command` is a command line without the program's name (`"grpo --lr 1e-4"`).

    With `measure` ("module:function") the job gives what that function returns for (arm, seed, context); without, the
    command is trained with `seed` and the metrics of its result are taken. `callback` ("module:function") is called
    during such a training: see `Context.train`.
    """

    arm: str
    seed: int
    command: str
    measure: str = ""
    quick: bool = False
    callback: str = ""


@dataclass(frozen=True)
class JobResult:
    """Numbers and provenance of a finished job."""

    metrics: Mapping[str, float | None]
    seconds: float
    """Processor time in seconds."""
    key: str = ""
    artifacts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Artifacts (pretrained models, data) that the job's runs used: by name their `key`, `contents`, `seconds`."""
    made: Mapping[str, Any] = field(default_factory=dict)
    """Where the numbers come from: `commit`, `version` of this library, `torch`, `processor` and `created` (UTC)."""


@dataclass(frozen=True)
class PlacedJob:
    """A job with the key under which its result is kept and the directory in which it runs."""

    job: Job
    identity: Mapping[str, Any]
    """What decides the job's numbers: system, revision, options, seed, measure, and what else is not empty."""
    directory: Path
    modules: ModuleNames
    known: JobResult | None = field(default=None, compare=False)
    """The result, where it stands in `results/` and the job need not run again."""
    functions: bytes = field(default=b"", repr=False, compare=False)
    """Functions of this session that the command names, for the process of the job; never written to a file."""

    @property
    def key(self) -> str:
        """Hash of the identity."""
        return self.directory.name

    @property
    def run_directory(self) -> Path:
        """Directory of the run, or of the measure."""
        return self.directory / "run"

    def result(self) -> JobResult | None:
        """Return the result of the finished job; None when it has not finished."""
        return self.known or read_result(self.directory)


def parse_command(command: str, modules: ModuleNames) -> tuple[System, Any]:
    """Return the system and the configuration that a command line names. Raises UsageError for what cannot work."""
    words = shlex.split(command)
    if not words:
        raise UsageError('an arm is empty; expected a system and its options, such as "grpo --lr 1e-4"')
    catalogue = importlib.import_module(modules.catalogue)
    system = catalogue.find_system(words[0])
    return system, configure(system, words[1:])


def with_seed(config: Any, seed: int) -> Any:
    """Return `config` with its field `seed`, where it has one, set to `seed`."""
    if any(f.name == "seed" for f in dataclasses.fields(config)):
        return dataclasses.replace(config, seed=seed)
    return config


def function_reference(function: Callable[..., Any]) -> str:
    """Return "module:function" of a function that another process can import. Raises UsageError for any other."""
    reference = f"{function.__module__}:{function.__qualname__}"
    if "." in function.__qualname__ or "<" in function.__qualname__:
        raise UsageError(f"{reference} cannot be imported by a worker; define the measure at the top of its module")
    return reference


def place(job: Job, modules: ModuleNames, root: Path | None = None) -> PlacedJob:
    """Resolve a job's configuration and find its directory.

    Two commands that give one configuration are one job. The options in its key are the fields that differ from the
    system's defaults; code is no part of it: `System.revision` is raised when a change alters a system's numbers.

    Args:
        job: what is to be run.
        modules: where systems come from.
        root: folder below which jobs are kept; `$PILOTAGE_HOME` by default.

    Raises:
        UsageError: for a command that cannot work, before any process starts.
    """
    system, config = parse_command(job.command, modules)
    values, defaults = config_to_dict(config), config_to_dict(system.config)
    identity = {
        "system": system.name,
        "revision": system.revision,
        "options": {name: value for name, value in values.items() if name != "seed" and value != defaults[name]},
        "seed": job.seed,
    }
    further = {
        "measure": job.measure,
        # Two arms of a measure with one command may mean different things to it; a training's name means nothing.
        "arm": job.arm if job.measure else "",
        "callback": job.callback,
        "quick": job.quick and bool(job.measure),
        "inputs": inputs_hash(config),
    }
    identity |= {name: value for name, value in further.items() if value}
    directory = (root or home()) / "jobs" / digest(identity)[:24]
    return PlacedJob(job, identity, directory, modules, functions=dump_functions(user_functions(config)))


def read_result(directory: Path) -> JobResult | None:
    """Return the result in a job's directory; None when the job has not finished (the file is put in place last)."""
    path = directory / "result.json"
    return JobResult(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None
