"""Finds systems, claims and pieces, ours and other packages', without importing torch.

Ours are the modules below `pilotage.systems` and `pilotage.claims`; other packages name theirs by entry points:

    [project.entry-points."pilotage.systems"]
    mine = "my_package.my_system:SYSTEM"          # a System, or a list of them
    [project.entry-points."pilotage.claims"]
    mine = "my_package.my_claims:CLAIMS"          # claims of the system called "mine"
    [project.entry-points."pilotage.pieces"]
    "advantage.mine" = "my_package.pieces:mine"   # slot.name
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pilotage.configuration import config_from_dict, config_to_dict, configure
from pilotage.references import nearest
from pilotage.system import Claim, System, UsageError

__all__ = [
    "all_systems",
    "config_from_dict",
    "config_to_dict",
    "configure",
    "find_claims",
    "find_reproduction",
    "find_system",
    "foreign_pieces",
]

SYSTEMS, CLAIMS, PIECES = "pilotage.systems", "pilotage.claims", "pilotage.pieces"
REPRODUCTION_FORMAT = 1


def all_systems() -> tuple[System, ...]:
    """Every system there is, by family and name, baselines first within a family.

    Raises UsageError when an entry point cannot be loaded or two systems share a name."""
    systems: dict[str, System] = {}
    for system in (*_own_systems(), *_foreign_systems()):
        if system.name in systems:
            raise UsageError(
                f"two systems are called {system.name!r}: {systems[system.name].run.__module__} and "
                f"{system.run.__module__}; rename one, or uninstall the package that brings it"
            )
        systems[system.name] = system
    return tuple(sorted(systems.values(), key=lambda s: (s.card.family, not s.card.baseline, s.name)))


def find_system(name: str) -> System:
    """The system called `name`. Raises UsageError, with the nearest names, when there is none."""
    for system in _own_systems():
        if system.name == name:
            return system
    systems = all_systems()
    for system in systems:
        if system.name == name:
            return system
    raise UsageError(
        f"there is no system {name!r}{nearest(name, [s.name for s in systems])}; `pilotage list` shows all"
    )


def find_claims(name: str) -> list[Claim]:
    """What is claimed for the system called `name`, from `pilotage.claims.<family>.<name>` or an entry point.

    Empty when nothing is claimed. Raises UsageError when there is no such system."""
    find_system(name)
    stem = name.replace("-", "_")
    for module_name in _module_names(CLAIMS):
        if module_name.rpartition(".")[2] == stem:
            return list(importlib.import_module(module_name).CLAIMS)
    for point in _entry_points(CLAIMS):
        if point.name == name:
            return list(_load(point))
    return []


def find_reproduction(name: str) -> dict[str, Any] | None:
    """What was measured for the claims of a system: `reproductions/NAME.json` of the current folder, of the
    repository that this package lies in, or shipped with the package. None when nothing was.

    Raises UsageError for a file of another format."""
    package = Path(__file__).resolve().parent
    for folder in (Path("reproductions"), package.parents[1] / "reproductions", package / "reproductions"):
        path = folder / f"{name}.json"
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if found.get("format") != REPRODUCTION_FORMAT:
                raise UsageError(
                    f"{path} has format {found.get('format')!r}, this version of pilotage reads {REPRODUCTION_FORMAT}"
                )
            return found
    return None


def foreign_pieces(slot: str) -> dict[str, EntryPoint]:
    """Pieces for `slot` that other packages offer, by name; `.load()` gives the piece."""
    prefix = slot + "."
    return {point.name.removeprefix(prefix): point for point in _entry_points(PIECES) if point.name.startswith(prefix)}


@cache
def _own_systems() -> tuple[System, ...]:
    return tuple(system for name in _module_names(SYSTEMS) for system in _systems_of(importlib.import_module(name)))


def _systems_of(module: ModuleType) -> Sequence[System]:
    if hasattr(module, "SYSTEM"):
        return (module.SYSTEM,)
    return tuple(getattr(module, "SYSTEMS", ()))


def _foreign_systems() -> Iterator[System]:
    for point in _entry_points(SYSTEMS):
        loaded = _load(point)
        systems = [loaded] if isinstance(loaded, System) else list(loaded)
        for system in systems:
            if not isinstance(system, System):
                raise UsageError(
                    f"the entry point {point.name} = {point.value} of {SYSTEMS} gives {system!r}, expected a System"
                )
            yield system


def _module_names(package_name: str) -> list[str]:
    package = importlib.import_module(package_name)
    found = pkgutil.walk_packages(package.__path__, package_name + ".")
    return sorted(module.name for module in found if not module.ispkg)


def _entry_points(group: str) -> list[EntryPoint]:
    return sorted(entry_points(group=group), key=lambda point: (point.name, point.value))


def _load(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        # Another package's code: whatever it raises, the user has to learn whose it is.
        package = point.dist.name if point.dist else "another package"
        raise UsageError(
            f"{package} offers {point.name} = {point.value} ({point.group}), but importing it fails: "
            f"{type(error).__name__}: {error}; repair or uninstall {package}"
        ) from error
