"""`run.json`: what a run is and what it takes to make it again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from pilotage.core.atomic_io import read_file, write_atomically
from pilotage.core.configuration import option
from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.serialisation import differences, from_json, to_json
from pilotage.runs.hardware import commit, hardware, versions

FORMAT = 1
FAILED, INTERRUPTED = "failed", "interrupted"
"""Kinds of the event that says why a process ended before the run was finished."""


@dataclass(frozen=True)
class Recipe:
    """What `pilotage run --from RUN` needs to make a run again."""

    system: str
    config: Mapping[str, Any]
    """User functions are `{"source": their text, "name": "module:function"}`."""
    seed: int
    command: str
    precision: str
    threads: int
    device: str
    sources: Mapping[str, Path]
    """The files in which the run keeps its user functions, by "module:function"."""


@dataclass
class Manifest:
    """The content of run.json. User functions lie in files of their own under `sources/`."""

    system: str
    config: dict[str, Any]
    """Plain; a user function is `{"$source": file, "name": "module:function", "sha256": hash}`."""
    seed: int
    command: str
    numerics: dict[str, Any]
    versions: dict[str, str | None]
    hardware: dict[str, Any]
    commit: str | None = None
    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Artifacts used, by name: hash of the contents, key, path, and the seconds it took to make them."""
    scripted_components: list[str] = field(default_factory=list)
    """What was scripted in place of a model or a service, in words; the report begins with it."""
    inputs: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the files and folders that the run reads, by the option that names them."""
    format: int = FORMAT

    @classmethod
    def make(
        cls,
        directory: Path,
        system: str,
        config: Mapping[str, Any],
        seed: int,
        command: str,
        numerics: Mapping[str, Any],
        inputs: Mapping[str, str],
    ) -> Manifest:
        """Describe a new run, and keep the source of its user functions in `directory`/sources."""
        return cls(
            system=system,
            config=_put_sources(to_json(config), directory),
            seed=seed,
            command=command,
            numerics=dict(numerics),
            versions=versions(),
            hardware=hardware(),
            commit=commit(),
            inputs=dict(inputs),
        )

    def write(self, directory: Path) -> None:
        """Put run.json in place. Raises DiskFull."""
        write_atomically(directory / "run.json", json.dumps(asdict(self), indent=2).encode() + b"\n")

    @classmethod
    def read(cls, directory: Path | str) -> Manifest:
        """Read run.json. Raises UsageError when there is none, or for an unknown format or key."""
        path = Path(directory) / "run.json"
        try:
            stored = json.loads(read_file(path))
        except FileNotFoundError as error:
            raise UsageError(f"{directory} is not a run directory: it has no run.json") from error
        except ValueError as error:
            raise UsageError(f"{path} is not JSON ({error}); restore it from a copy") from error
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            given = stored.get("format") if isinstance(stored, dict) else type(stored).__name__
            raise UsageError(
                f"{path} has format {given!r}; this version of pilotage reads format {FORMAT}. "
                "Use the version of pilotage that wrote it"
            )
        known = {entry.name for entry in fields(cls)}
        for key in stored:
            if key not in known:
                raise UsageError(f"{path} has the unknown key {key!r}{nearest(key, known)}")
        # Older runs lack these keys.
        if missing := sorted(known - set(stored) - {"scripted_components", "inputs"}):
            raise UsageError(f"{path} lacks {', '.join(missing)}; restore it from a copy")
        return cls(**stored)

    def name_scripted_components(self, directory: Path, scripted_components: Sequence[str]) -> None:
        """Record in run.json, and thereby in the report, what is scripted. Raises DiskFull."""
        new = [text for text in scripted_components if text not in self.scripted_components]
        if new:
            self.scripted_components += new
            self.write(directory)

    def refuse_other(self, directory: Path, system: str, config: Mapping[str, Any], seed: int) -> None:
        """Raise UsageError that lists what differs, unless system, configuration and seed are those of this run."""
        asked = {"system": system, "seed": seed, "config": _hash_sources(to_json(config))}
        stored = {"system": self.system, "seed": self.seed, "config": _hash_sources(self.config)}
        found = differences(stored, asked)
        if found:
            listed = "; ".join(
                f"{name.removeprefix('config.')} was {_short(before)}, is {_short(now)}"
                for name, (before, now) in found.items()
            )
            raise UsageError(
                f"{directory} holds another run: {listed}. Give another directory, or the old values to resume it"
            )

    def refuse_other_inputs(self, directory: Path, now: Mapping[str, str]) -> None:
        """Raise UsageError with both hashes when a file that the run reads is not what it was at the beginning."""
        found = differences(self.inputs, dict(now))
        if found:
            listed = "; ".join(
                f"the SHA-256 of {option(name)} {self.config.get(name)} was {_short(before)}, is {_short(after)}"
                for name, (before, after) in found.items()
            )
            raise UsageError(
                f"{directory} was begun with other data: {listed}. Restore the data to go on with the run, or give "
                "another directory to begin a new one"
            )

    def refuse_other_numerics(self, directory: Path, now: Mapping[str, Any]) -> None:
        """Raise UsageError when this process would not compute the same bits as the run so far."""
        found = differences(self.numerics, dict(now))
        if found:
            listed = "; ".join(f"{name} was {_short(a)}, is {_short(b)}" for name, (a, b) in found.items())
            raise UsageError(
                f"{directory} cannot be resumed here, since its numbers would change: {listed}. Resume it as it was "
                "begun, or begin a new run in another directory"
            )

    def recipe(self, directory: Path) -> Recipe:
        """Return what makes this run again. Raises UsageError when a kept source was altered."""
        sources: dict[str, Path] = {}
        return Recipe(
            system=self.system,
            config=from_json(_take_sources(self.config, directory, sources)),
            seed=self.seed,
            command=self.command,
            precision=self.numerics["precision"],
            threads=self.numerics["threads"],
            device=self.numerics["device"],
            sources=sources,
        )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def _is_function(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"source", "name"}


def _map_dicts(value: Any, change: Any) -> Any:
    """Apply `change` to every dictionary of a plain value; where it gives None, go on inside."""
    if isinstance(value, list):
        return [_map_dicts(item, change) for item in value]
    if not isinstance(value, dict):
        return value
    changed = change(value)
    return {key: _map_dicts(item, change) for key, item in value.items()} if changed is None else changed


def _reference(value: dict[str, Any]) -> dict[str, Any]:
    sha = hashlib.sha256(value["source"].encode("utf-8", "surrogatepass")).hexdigest()
    stem = re.sub(r"[^A-Za-z0-9_.]+", "_", value["name"]).strip("_.") or "function"
    return {"$source": f"sources/{stem[-80:]}-{sha[:8]}.py", "name": value["name"], "sha256": sha}


def _hash_sources(config: Any) -> Any:
    """Return the configuration with functions as references, in which a changed text shows as a changed hash.

    The file name follows from the other two, so it is left out.
    """

    def change(value: dict[str, Any]) -> dict[str, Any] | None:
        if _is_function(value):
            value = _reference(value)
        return {"name": value["name"], "source": value["sha256"]} if "$source" in value else None

    return _map_dicts(config, change)


def _put_sources(config: Any, directory: Path) -> Any:
    def change(value: dict[str, Any]) -> dict[str, Any] | None:
        if not _is_function(value):
            return None
        reference = _reference(value)
        path = directory / reference["$source"]
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, value["source"].encode("utf-8", "surrogatepass"))
        return reference

    return _map_dicts(config, change)


def _take_sources(config: Any, directory: Path, found: dict[str, Path]) -> Any:
    def change(value: dict[str, Any]) -> dict[str, Any] | None:
        if "$source" not in value:
            return None
        path = directory / value["$source"]
        if not path.is_file():
            raise UsageError(f"{path}, the source of {value['name']}, is missing; restore it from a copy of the run")
        text = path.read_bytes().decode("utf-8", "surrogatepass")
        if hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() != value["sha256"]:
            raise UsageError(
                f"{path} was altered since the run kept it, so the run cannot be made again from it; restore it, or "
                f"start a run with the altered {value['name']} as a new function"
            )
        found[value["name"]] = path
        return {"source": text, "name": value["name"]}

    return _map_dicts(config, change)
