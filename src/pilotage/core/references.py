"""Functions written as text: "module:function" or "path/to/file.py:function"."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest

Reference = str | Callable[..., Any]
"""A function, or its name: "module:function"."""

_FUNCTION = re.compile(r"^(?P<module>[\w./~ -]+):(?P<name>[A-Za-z_][\w.]*)$")
_LOADING: list[Path] = []
_FROM_FILE = "pilotage_user_"


def function_source(function: Callable[..., Any]) -> str:
    """Return the source that a run keeps of a user function: the file that defines it, or its lines without a file.

    Raises UsageError for a function without source (written in C, or in an interactive session).
    """
    plain = inspect.unwrap(function)
    path = inspect.getsourcefile(plain) if inspect.isfunction(plain) or inspect.isclass(plain) else None
    if path and Path(path).is_file():
        return Path(path).read_text(encoding="utf-8")
    try:
        return inspect.getsource(function)
    except (OSError, TypeError) as error:
        raise UsageError(
            f"the source of {function!r} cannot be found, and a run keeps the source of every user function; "
            "put it into a file"
        ) from error


def refuse_while_loading(what: str) -> None:
    """Raise UsageError when a user's file starts `what` while it is imported for the function that it defines."""
    if _LOADING:
        raise UsageError(
            f'{_LOADING[-1]} starts {what} when it is imported; put that under `if __name__ == "__main__":`, so that '
            "the function in it can be loaded without running everything else"
        )


def is_reference(text: str) -> bool:
    """Return whether a text has the form "module:function"."""
    return _FUNCTION.match(text) is not None


def function_name(function: Callable[..., Any]) -> str:
    """Return the reference of a function: "module:function", or "path/to/script.py:function" for one of a script.

    Raises UsageError for a callable that has no name of its own (an instance, a partial).
    """
    name = getattr(function, "__qualname__", None)
    if name is None:
        raise UsageError(
            f"{function!r} cannot be written into the run's configuration, because it has no name to find it by again; "
            "pass a function (def ...) or a piece by name, such as 'mvar:alpha=0.1'"
        )
    module = function.__module__
    script = getattr(sys.modules.get(module), "__file__", None)
    if script and (module == "__main__" or module.startswith(_FROM_FILE)):
        return f"{Path(script).resolve()}:{name}"
    return f"{module}:{name}"


def load_function(reference: str) -> Callable[..., Any]:
    """Import the function "module:function" or "path/to/file.py:function". Raises UsageError when there is none."""
    match = _FUNCTION.match(reference)
    if match is None:
        raise UsageError(f"{reference!r} is no function; expected module:function or path/to/file.py:function")
    module = _load_module(match["module"], reference)
    found: Any = module
    for part in match["name"].split("."):
        if not hasattr(found, part):
            public = [n for n in vars(module) if not n.startswith("_") and callable(getattr(module, n))]
            raise UsageError(f"{reference!r}: {match['module']} has no {part!r}{nearest(part, public)}")
        found = getattr(found, part)
    if not callable(found):
        raise UsageError(f"{reference!r} is a {type(found).__name__}, expected a function")
    return found


def load_reference(reference: Reference) -> Callable[..., Any]:
    """Return the function that a reference names, or the function itself. Raises UsageError when there is none."""
    return load_function(reference) if isinstance(reference, str) else reference


def _load_module(name: str, reference: str) -> types.ModuleType:
    if name.endswith(".py"):
        path = Path(name).expanduser().resolve()
        if not path.is_file():
            raise UsageError(f"{reference!r}: there is no file {path}")
        # The same file is executed once per process, however often it is named.
        known = _FROM_FILE + hashlib.sha256(str(path).encode()).hexdigest()[:12]
        if known in sys.modules:
            return sys.modules[known]
        spec = importlib.util.spec_from_file_location(known, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[known] = module
        _LOADING.append(path)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[known]
            raise
        finally:
            _LOADING.pop()
        return module
    if name == "__main__":
        raise UsageError(
            f"{reference!r} was defined in an interactive session that is over; "
            "put the function into a file and name it as path/to/file.py:function"
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{reference!r}: Python finds no module {error.name!r}; run in the folder that holds it, or set PYTHONPATH"
        ) from error
