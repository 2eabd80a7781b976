"""Where and with what an experiment ran, as its runs recorded it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pilotage.experiment.cells import Wiring


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def surroundings(wiring: Wiring) -> dict[str, Any]:
    """Hardware, versions and commit of this process, as the wiring's hardware tells."""
    about: Any = importlib.import_module(wiring.hardware)
    return {"hardware": about.hardware(), "versions": about.versions(), "commit": about.commit()}


def artifacts_used(directories: Iterable[Path]) -> list[Any]:
    """The artifacts (warmed-up models, data) that runs in cell directories recorded, each once."""
    found: dict[str, Any] = {}
    for directory in directories:
        about = directory / "run" / "run.json"
        if not about.exists():
            continue
        used = json.loads(about.read_text()).get("artifacts") or []
        for artifact in used.items() if isinstance(used, dict) else used:
            found[json.dumps(artifact, sort_keys=True)] = artifact
    return [found[key] for key in sorted(found)]


def missing_extras(extras: Iterable[str]) -> list[str]:
    """Those of our own extras (`math`, `peft`, …) of which a package is not installed. Where this library runs from
    its sources without being installed, its extras are unknown and none is called missing: the import will tell."""
    try:
        requirements = metadata.requires("pilotage") or []
    except metadata.PackageNotFoundError:
        return []
    return [extra for extra in extras if not all(_installed(name) for name in _packages_of(extra, requirements))]


def _packages_of(extra: str, requirements: Iterable[str]) -> list[str]:
    names = []
    for requirement in requirements:
        package, _, marker = requirement.partition(";")
        if f"extra == '{extra}'" in marker.replace('"', "'"):
            names.append(package.strip().split("[")[0].rstrip("0123456789.,<>=!~ "))
    return names


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
