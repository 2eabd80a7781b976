"""Functions written as text: "module:function" or "path/to/file.py:function".

A function that stands in no module (typed into a notebook, a lambda, a partial, a callable object) is given the name
"session:NAME_DIGEST". `load_function` finds it in the process in which it was named and in those to which it was sent
by `dump_functions`, in memory; a run keeps its source, from which it is made again (`--from`).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import re
import sys
import types
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.session_source import FROM_FILE, NotKept, is_importable, session_source

Reference = str | Callable[..., Any]
"""A function, or its name: "module:function"."""


@dataclass(frozen=True)
class NamesCode:
    """Mark of a field of a configuration whose text may name a function. Text of other fields is never code."""


PieceName = Annotated[str, NamesCode()]
"""A piece as text: `name:option=value`, `module:function` or `file.py:function`."""

_FUNCTION = re.compile(r"^(?P<module>[\w./~ -]+):(?P<name>[A-Za-z_][\w.]*)$")
_PLAIN_PATH = re.compile(r"[\w./~ -]+")
_LOADING: list[Path] = []
_SESSION = "session"
_KNOWN: dict[str, Callable[..., Any]] = {}
"""Functions that this process was given as objects, by reference."""
_RECEIVED: dict[int, str] = {}
"""References, by identity, of the functions that our parent process sent."""


def function_source(function: Callable[..., Any], reference: str = "") -> str:
    """Return the source that a run keeps of a user function.

    It is the file that defines the function; for one of a session the function with what it uses.

    Args:
        function: the function.
        reference: its reference; empty: what `function_name` gives.

    Raises:
        UsageError: for a function without source (written in C, or typed into a session that keeps no text).
    """
    reference = reference or function_name(function)
    module, _, name = reference.rpartition(":")
    try:
        if module == _SESSION:
            return session_source(function, name)
        path = inspect.getsourcefile(inspect.unwrap(function))
        if path and Path(path).is_file():
            return Path(path).read_text(encoding="utf-8")
        return inspect.getsource(function)
    except NotKept as reason:
        raise UsageError(
            f"the source of {reference} could not be kept, because {reason}; the run cannot be made again from its "
            "folder alone (a function in a file of its own is kept)"
        ) from reason
    except (OSError, TypeError) as error:
        raise UsageError(f"the source of {function!r} cannot be found; put the function into a file") from error


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
    """Return the reference of a function, by which this process finds it again.

    It is "module:function", "path/to/script.py:function" for one of a script, and "session:NAME_DIGEST" for a function
    that stands in no module; equal definitions have equal digests.
    """
    if id(function) in _RECEIVED and _KNOWN.get(_RECEIVED[id(function)]) is function:
        return _RECEIVED[id(function)]
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if is_importable(function):
        return f"{module}:{name}"
    script = getattr(sys.modules.get(module or ""), "__file__", None)
    is_of_script = module == "__main__" or (module or "").startswith(FROM_FILE)
    if script and is_of_script and name and _is_attribute(sys.modules[str(module)], name, function):
        reference = f"{Path(script).resolve()}:{name}"
        if _PLAIN_PATH.fullmatch(str(Path(script).resolve())):
            return _remember(reference, function)
    label = re.sub(r"\W+", "_", _label(function)).strip("_") or "function"
    return _remember(f"{_SESSION}:{label}_{_digest(function, label)}", function)


def _is_attribute(module: types.ModuleType, name: str, function: Callable[..., Any]) -> bool:
    return "<" not in name and "." not in name and getattr(module, name, None) is function


def _label(function: Any) -> str:
    name = getattr(function, "__name__", None) or getattr(getattr(function, "func", None), "__name__", None)
    return name or type(function).__name__


def _digest(function: Callable[..., Any], label: str) -> str:
    """Return eight digits that change with what a function does."""
    try:
        content = session_source(function, label).encode()
    except NotKept:
        try:
            content = _by_value(function)
        except Exception:  # pickling runs code of whatever the function holds
            content = uuid.uuid4().bytes
    return hashlib.sha256(content).hexdigest()[:8]


def _remember(reference: str, function: Callable[..., Any]) -> str:
    _KNOWN[reference] = function
    return reference


def dump_functions(references: Iterable[str]) -> bytes:
    """Return those of `references` that were given as objects, for `load_functions` in a process of ours.

    The bytes travel through memory and pipes between our own processes and are never written to a file. They are empty
    when there is nothing to send.

    Raises:
        UsageError: for a function that holds what cannot be sent, such as an open file or a lock.
    """
    sent = {reference: _KNOWN[reference] for reference in references if reference in _KNOWN}
    try:
        return _by_value(sent) if sent else b""
    except Exception as error:  # pickling runs code of whatever the functions hold
        raise UsageError(
            f"{', '.join(sent)} cannot be sent to another process ({type(error).__name__}: {error}); put the function "
            "into a file, or take out of it what cannot be copied"
        ) from error


def load_functions(sent: bytes) -> None:
    """Make functions that `dump_functions` wrote in our parent process known in this one."""
    if sent:
        import pickle

        functions = pickle.loads(sent)
        _KNOWN.update(functions)
        _RECEIVED.update({id(function): reference for reference, function in functions.items()})


def is_of_session(reference: str) -> bool:
    """Return whether a reference names a function that this process was given as an object."""
    return reference in _KNOWN


def _by_value(value: Any) -> bytes:
    import cloudpickle

    from_files = [module for name, module in sys.modules.items() if name.startswith(FROM_FILE)]
    for module in from_files:
        cloudpickle.register_pickle_by_value(module)
    try:
        return bytes(cloudpickle.dumps(value))
    finally:
        for module in from_files:
            cloudpickle.unregister_pickle_by_value(module)


def load_function(reference: str) -> Callable[..., Any]:
    """Import the function "module:function" or "path/to/file.py:function". Raises UsageError when there is none."""
    if reference in _KNOWN:
        return _KNOWN[reference]
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


def look_in_current_folder() -> None:
    """Put the current folder at the end of the import path, so that modules in it can be named in references."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)


def load_file(name: str) -> types.ModuleType:
    """Execute a Python file as a module, once per process, and return it. Raises UsageError when it is not there."""
    return _load_module(name, name)


def _load_module(name: str, reference: str) -> types.ModuleType:
    if name.endswith(".py"):
        path = Path(name).expanduser().resolve()
        if not path.is_file():
            raise UsageError(f"{reference!r}: there is no file {path}")
        # The same file is executed once per process, however often it is named.
        known = FROM_FILE + hashlib.sha256(str(path).encode()).hexdigest()[:12]
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
    if name == "__main__" or (name == _SESSION and re.search(r"_[0-9a-f]{8}$", reference)):
        raise UsageError(
            f"{reference!r} was defined in a session that is over, and its source could not be kept; "
            "give the function again, or put it into a file and name it as path/to/file.py:function"
        )
    look_in_current_folder()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{reference!r}: Python finds no module {error.name!r}; run in the folder that holds it, or set PYTHONPATH"
        ) from error
