"""What a result depends on besides its configuration: the source of what computed it and the files it read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.experiments.imports import is_module, modules_behind, modules_below, source_of

OUTSIDE = tuple(
    f"pilotage.{room}" for room in ("cli", "catalogue", "launch", "experiment", "report", "runs", "claims", "systems")
)
"""What chooses, remembers and shows. It does not decide what a run computes, but for a system's and a measure's own
modules, which are named."""

_REFERENCE = re.compile(r"([\w./\\~-]+\.py|[A-Za-z_][\w.]*):[A-Za-z_]\w*")
_SHOWN_WHOLE = 64 * 2**20


@cache
def code_hash(modules: tuple[str, ...]) -> str:
    """SHA-256 (hex) over the sources of `modules` (dotted names; packages with everything below them), in an order
    that does not depend on how they are listed. Raises UsageError for a module that cannot be found."""
    digest = hashlib.sha256()
    for module in sorted(set(modules)):
        for name, path in _sources(module):
            digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


@cache
def computing_modules(*roots: str) -> tuple[str, ...]:
    """The modules of a system or of a measure, and all of this library (or of their own package) that they reach by
    imports, OUTSIDE left out. A change elsewhere changes no result."""
    return modules_behind(roots, OUTSIDE)


def inputs_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 (hex) over the files that a configuration names: user functions (`my.py:advantage` and
    `package.module:function` outside this library), data files, model folders. Empty when it names none."""
    lines = [line for text in _strings(config) for line in _named_files(text)]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest() if lines else ""


def _sources(module: str) -> Iterator[tuple[str, Path]]:
    if not is_module(module.removesuffix(".__init__")):
        raise UsageError(f"cannot find the source of module {module!r}; is it installed or on PYTHONPATH?")
    for name in [module] if module.endswith(".__init__") else [module, *modules_below(module)]:
        path = source_of(name)
        if path is not None:
            yield name, path


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, Iterable):
        for inner in value:
            yield from _strings(inner)


def _named_files(text: str) -> Iterator[str]:
    for match in _REFERENCE.finditer(text):
        where = match.group(1)
        if where.endswith(".py"):
            if Path(where).is_file():
                yield _fingerprint(Path(where))
        elif not where.startswith("pilotage.") and "." in where:
            yield f"{where} {code_hash((where,))}"
    # A path is anything that exists; a name such as "add" is not mistaken for a folder of that name here.
    if ("/" in text or "." in text) and len(text) < 4096 and "\n" not in text and Path(text).exists():
        path = Path(text)
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            yield _fingerprint(file)


def _fingerprint(path: Path) -> str:
    about = path.stat()
    if about.st_size <= _SHOWN_WHOLE:
        return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return f"{path.name} {about.st_size} {about.st_mtime_ns}"
