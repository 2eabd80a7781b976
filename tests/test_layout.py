"""The layout holds: no circle of imports, and what only one system uses lives in its folder."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pilotage.core.registry import all_pieces, all_systems

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "pilotage"
ABOVE = ("systems", "core", "cli", "experiments", "report", "runs", "charts")
"""Packages whose modules need not be reached from two systems."""
PUBLIC = {
    "pilotage.types": "data and protocols",
    "pilotage.policies.pickled": "loading of checkpoints",
    "pilotage.rewards.temporal_logic": "temporal logic of one's own rules",
    "pilotage.policies.control.lerobot_checkpoint": "loading of LeRobot's checkpoints",
}
"""Modules and packages that users reach directly, with what for."""


@cache
def modules() -> dict[str, Path]:
    """Return the source file of every module of the library."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def referenced(text: str) -> str | None:
    """Return the module that a reference written as text names."""
    module = text.partition(":")[0]
    return module if ":" in text and module in modules() else None


def imported(node: ast.AST, name: str) -> Iterator[str]:
    """Yield the modules of the library that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in modules())
    elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module in modules():
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if inner in modules() else node.module
    assert not (isinstance(node, ast.ImportFrom) and node.level), f"{name} has a relative import"


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield every node that runs, inside functions too, but not what type checkers alone see."""
    for child in ast.iter_child_nodes(tree):
        if not is_type_checking(child):
            yield child
            yield from statements(child)


@cache
def imports() -> dict[str, frozenset[str]]:
    """Return the modules that each module imports, anywhere."""
    return {
        name: frozenset(found for node in statements(ast.parse(path.read_text())) for found in imported(node, name))
        - {name}
        for name, path in modules().items()
    }


@cache
def named_in(module: str) -> tuple[str, ...]:
    """Return the modules that one module imports or names as text."""
    texts = (
        node.value for node in ast.walk(ast.parse(modules()[module].read_text())) if isinstance(node, ast.Constant)
    )
    found = (referenced(text) for text in texts if isinstance(text, str))
    return (*imports()[module], *filter(None, found))


@cache
def reached(name: str) -> frozenset[str]:
    """Return every module that one module reaches by imports and by references written as text."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        waiting += named_in(module)
    return frozenset(seen)


def circles() -> list[list[str]]:
    """Return the strongly connected groups of modules (Tarjan 1972), those of one module left out."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in imports()[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = []
            while not group or group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in modules():
        if name not in index:
            visit(name)
    return found


def test_there_is_no_circle_of_imports_lazy_ones_included() -> None:
    assert circles() == []


def test_what_one_system_uses_lives_in_its_folder() -> None:
    folders = {path.parent for path in (PACKAGE / "systems").glob("*/*/__init__.py")}
    families = list((PACKAGE / "systems").glob("*/baselines.py"))
    users: dict[str, set[str]] = {name: set() for name in modules()}
    for place in [*folders, *families]:
        inside = [name for name, path in modules().items() if place in (path, *path.parents)]
        for module in {module for name in inside for module in reached(name)}:
            users[module].add(place.name)
    declared = {reference.partition(":")[0] for slot in all_pieces().values() for reference in slot.values()}
    shared = {name for name in declared if name in modules() and not name.startswith("pilotage.systems.")}
    pieces = {module for name in shared for module in reached(name)}
    alone = {
        name: sorted(by)
        for name, by in users.items()
        if len(by) < 2
        and name not in pieces
        and not any(name == public or name.startswith(f"{public}.") for public in PUBLIC)
        and modules()[name].name != "__init__.py"
        and name.count(".") > 1
        and name.split(".")[1] not in ABOVE
        and not name.startswith("pilotage.objectives.")
    }
    assert not alone, "\n".join(f"{name}: {', '.join(by) or 'no system'}" for name, by in sorted(alone.items()))


def test_everything_of_a_system_bears_its_name() -> None:
    for system in all_systems():
        if not system.card.baseline:
            folder = PACKAGE / "systems" / system.card.family / system.name.replace("-", "_")
            assert (folder / "__init__.py").is_file()
            assert (folder / "card.md").is_file()
            assert (folder / "claims.py").is_file()
