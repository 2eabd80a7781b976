"""Registry of systems, claims and pieces, of this package and of others, without importing torch.

Those of this package are found in the folders below `pilotage.systems`; other packages name theirs by entry points:

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
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from pilotage.core.claims import Claim
from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.system import System

SYSTEMS, CLAIMS, PIECES = "pilotage.systems", "pilotage.claims", "pilotage.pieces"
RESULTS_FORMAT = 2


def all_systems() -> tuple[System, ...]:
    """Return every system, ordered by family and name, baselines first within a family.

    Raises UsageError when an entry point cannot be loaded or two systems share a name.
    """
    systems: dict[str, System] = {}
    for system in (*_own_systems(), *_foreign_systems()):
        if system.name in systems:
            raise UsageError(
                f"two systems are called {system.name!r}: they run {_written(systems[system.name].run)} and "
                f"{_written(system.run)}; rename one, or uninstall the package that brings it"
            )
        systems[system.name] = system
    return tuple(sorted(systems.values(), key=lambda s: (s.card.family, not s.card.baseline, s.name)))


def find_system(name: str) -> System:
    """Return the system called `name`. Raises UsageError, with the nearest names, when there is none."""
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
    """Return the claims of the system called `name`, from its `claims.py` or an entry point; empty without any.

    Raises UsageError when there is no such system.
    """
    find_system(name)
    stem = name.replace("-", "_")
    for module_name in _system_modules():
        if module_name.endswith(f".{stem}") and find_spec(f"{module_name}.claims"):
            return list(importlib.import_module(f"{module_name}.claims").CLAIMS)
    for point in _entry_points(CLAIMS):
        if point.name == name:
            return list(_load(point))
    return []


def find_reproduction(name: str) -> dict[str, Any] | None:
    """Return what was measured for the claims of a system, None when nothing was.

    It is `results/NAME.json` of the current folder, of the repository in which the system's package lies, or shipped
    inside that package. Raises UsageError for a file of another format.
    """
    for folder in (Path("results"), *_results_of(name)):
        path = folder / f"{name}.json"
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if found.get("format") != RESULTS_FORMAT:
                raise UsageError(
                    f"{path} has format {found.get('format')!r}, this version of pilotage reads {RESULTS_FORMAT}"
                )
            return found
    return None


def _results_of(name: str) -> Iterator[Path]:
    """Yield the folders of results that belong to the package in which a system is written."""
    try:
        package = _written(find_system(name).run).partition(":")[0].partition(".")[0]
        spec = find_spec(package)
    except (UsageError, ValueError):
        return
    for place in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(place).parents[1] / "results"
        yield Path(place) / "results"


@cache
def all_pieces() -> Mapping[str, Mapping[str, str]]:
    """Return the reference of every piece by slot and name: those that systems declare, and other packages'.

    Raises UsageError when two packages give one name in a slot to different pieces.
    """
    found: dict[str, dict[str, str]] = {}
    declared = [
        (slot, name, ref) for system in all_systems() for slot, of in system.pieces.items() for name, ref in of.items()
    ]
    foreign = [(*point.name.partition(".")[::2], point.value) for point in _entry_points(PIECES)]
    for slot, name, reference in [*declared, *foreign]:
        known = found.setdefault(slot, {}).setdefault(name, reference)
        if known != reference:
            raise UsageError(f"two pieces of the slot {slot} are called {name!r}: {known} and {reference}; rename one")
    return found


def find_pieces(slot: str) -> Mapping[str, str]:
    """Return the pieces of a slot: name to reference."""
    return all_pieces().get(slot, {})


def _written(reference: Any) -> str:
    return reference if isinstance(reference, str) else f"{reference.__module__}:{reference.__qualname__}"


@cache
def _own_systems() -> tuple[System, ...]:
    return tuple(system for name in _system_modules() for system in _systems_of(importlib.import_module(name)))


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


def _system_modules() -> list[str]:
    """Return the modules that may name systems: `<family>.baselines`, `<family>.<name>`, `…<name>.baselines`."""
    package = importlib.import_module(SYSTEMS)
    found = []
    for family in pkgutil.iter_modules(package.__path__, f"{SYSTEMS}."):
        for module in pkgutil.iter_modules(importlib.import_module(family.name).__path__, f"{family.name}."):
            found.append(module.name)
            if module.ispkg and find_spec(f"{module.name}.baselines"):
                found.append(f"{module.name}.baselines")
    return sorted(found)


def _entry_points(group: str) -> list[EntryPoint]:
    return sorted(entry_points(group=group), key=lambda point: (point.name, point.value))


def _load(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        # It is another package's code: the message has to name the package, whatever was raised.
        package = point.dist.name if point.dist else "another package"
        raise UsageError(
            f"{package} offers {point.name} = {point.value} ({point.group}), but importing it fails: "
            f"{type(error).__name__}: {error}; repair or uninstall {package}"
        ) from error
