"""Where and with what an experiment ran, as its runs recorded it."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pilotage.experiments.jobs import Wiring


def now() -> str:
    """The time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance(wiring: Wiring) -> dict[str, Any]:
    """Hardware, versions and commit of this process, as the wiring's hardware tells."""
    about: Any = importlib.import_module(wiring.hardware)
    return {"hardware": about.hardware(), "versions": about.versions(), "commit": about.commit()}


def artifacts_used(directory: Path) -> dict[str, Any]:
    """The artifacts (warmed-up models, data) that the runs in a cell's directory used, by name: `key`, `contents` (the
    hash of what is in them) and `seconds` (what making them took)."""
    found: dict[str, Any] = {}
    for about in sorted(directory.rglob("run.json")):
        for name, used in (json.loads(about.read_text()).get("artifacts") or {}).items():
            found[name] = {field: used[field] for field in ("key", "contents", "seconds") if field in used}
    return found


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
