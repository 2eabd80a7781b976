"""Which modules a module computes with: those it imports, at its top or inside functions, and those it names."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

_NAMED = re.compile(r"([A-Za-z_]\w*(?:\.\w+)+)(?::[A-Za-z_]\w*)?")


def modules_behind(roots: Iterable[str], outside: Iterable[str] = ()) -> tuple[str, ...]:
    """The modules that `roots` (dotted names) reach through imports within their own packages, sorted; roots included.

    A string such as "package.module:function" counts as an import: that is how pieces are named in tables. Where a
    package is imported for something that is none of its modules, everything below it is taken. `outside`: modules and
    packages that are not followed. The file of a package itself is listed as "package.__init__"."""
    roots = list(roots)
    tops = {root.partition(".")[0] for root in roots}
    shut = tuple(outside)
    found: set[str] = set()
    waiting = [module for root in roots for module in _files_of(root)]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found.add(module)
        for name in _imported(module):
            if name.partition(".")[0] in tops and not any(name == end or name.startswith(f"{end}.") for end in shut):
                waiting += _files_of(name)
    return tuple(sorted(found))


def source_of(module: str) -> Path | None:
    """The file of a module ("package.__init__" for that of a package); None where there is none."""
    package, _, last = module.rpartition(".")
    spec = _spec(package if last == "__init__" else module)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    return Path(spec.origin)


def is_module(name: str) -> bool:
    """Whether a module or package of this name can be imported; nothing but its parents is."""
    return _spec(name) is not None


def _spec(name: str) -> importlib.machinery.ModuleSpec | None:
    if name in sys.modules:
        return sys.modules[name].__spec__
    try:
        return importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):
        return None


def _files_of(name: str) -> list[str]:
    """A module and the packages that it lies in, as files."""
    parts = name.split(".")
    parents = [f"{'.'.join(parts[:count])}.__init__" for count in range(1, len(parts))]
    spec = _spec(name)
    if spec is None:
        return []
    own = name if spec.submodule_search_locations is None else f"{name}.__init__"
    return [module for module in (*parents, own) if source_of(module) is not None]


def modules_below(package: str) -> list[str]:
    """Every module below a package, its own file aside; none for a plain module."""
    spec = _spec(package)
    names = []
    for location in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(location).rglob("*.py")):
            inner = path.relative_to(location).with_suffix("").parts
            if inner != ("__init__",) and all(part.isidentifier() for part in inner):
                names.append(".".join((package, *inner)))
    return names


@cache
def _imported(module: str) -> tuple[str, ...]:
    path = source_of(module)
    assert path is not None
    package = module.rpartition(".")[0]
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return tuple(dict.fromkeys(name for node in ast.walk(tree) for name in _names(node, package)))


def _names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        start = node.module or ""
        if node.level:
            up = package.split(".")[: len(package.split(".")) - node.level + 1]
            start = ".".join([*up, start] if start else up)
        yield start
        for alias in node.names:
            if is_module(f"{start}.{alias.name}"):
                yield f"{start}.{alias.name}"
            elif (spec := _spec(start)) is not None and spec.submodule_search_locations is not None:
                yield from modules_below(start)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        match = _NAMED.fullmatch(node.value)
        if match is not None:
            yield match.group(1)
