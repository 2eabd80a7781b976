"""Where and with what numbers were made, and what they need."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pilotage.experiments.jobs import JobResult, ModuleNames


def now() -> str:
    """Return the time in UTC, to the second, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def environment(modules: ModuleNames) -> dict[str, Any]:
    """Return hardware, versions and commit of this process."""
    about: Any = importlib.import_module(modules.hardware)
    return {"hardware": about.hardware(), "versions": about.versions(), "commit": about.commit()}


def provenance(modules: ModuleNames) -> dict[str, Any]:
    """Return what is kept with a job: commit, versions of this library and of torch, processor, time."""
    return {**_here(modules), "created": now()}


@cache
def _here(modules: ModuleNames) -> dict[str, Any]:
    here = environment(modules)
    versions, processor = here["versions"], here["hardware"]["processor"]
    # Processors of one name may differ in the instructions by which kernels, and with them roundings, are chosen.
    about: Any = importlib.import_module(modules.hardware)
    features: list[str] = getattr(about, "processor_features", list)()
    return {
        "commit": here["commit"],
        "version": versions.get("pilotage"),
        "torch": versions.get("torch"),
        "processor": f"{processor} ({' '.join(features)})" if features else processor,
    }


def sources(results: Iterable[JobResult]) -> list[dict[str, Any]]:
    """Return how many results come from each commit, version and processor, with the first and the last date."""
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for result in {result.key: result for result in results}.values():
        made = result.made
        where = {name: made.get(name) for name in ("commit", "version", "torch", "processor")}
        group = groups.setdefault(tuple(where.values()), {**where, "jobs": 0, "first": "", "last": ""})
        group["jobs"] += 1
        created = made.get("created") or ""
        group["first"] = min(group["first"] or created, created)
        group["last"] = max(group["last"], created)
    return sorted(groups.values(), key=lambda group: (group["first"], str(group["commit"])))


def describe_sources(groups: Iterable[dict[str, Any]]) -> str:
    """Return `sources` as text: "14 jobs from commit 6a18e7f (2026-11-25), 2 jobs from commit 94c5469 (2026-11-26)"."""
    return ", ".join(
        f"{group['jobs']} job{'s' if group['jobs'] > 1 else ''} from {describe_commit(group['commit'])} "
        f"({group['last'][:10]})"
        for group in groups
    )


def describe_commit(commit: str | None) -> str:
    """Return "commit" with its first seven digits, and "-dirty" where its tree was changed."""
    return f"commit {commit[:7]}{'-dirty' * commit.endswith('-dirty')}" if commit else "an unknown commit"


def artifacts_used(directory: Path) -> dict[str, Any]:
    """Return the artifacts (pretrained models, data) that the runs in a job's directory used, by name.

    Each has its `key`, the hash of its `contents` and the `seconds` that making it took.
    """
    found: dict[str, Any] = {}
    for about in sorted(directory.rglob("run.json")):
        for name, used in (json.loads(about.read_text(encoding="utf-8")).get("artifacts") or {}).items():
            found[name] = {field: used[field] for field in ("key", "contents", "seconds") if field in used}
    return found


def missing_extras(extras: Iterable[str]) -> list[str]:
    """Return those of our own extras (`math`, `peft`, …) of which a package is not installed.

    Where this library runs from its sources without being installed, its extras are unknown and none is returned.
    """
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
