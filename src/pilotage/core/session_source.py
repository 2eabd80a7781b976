"""The source of functions that stand in no module: those of a notebook cell, lambdas, partials, callable objects.

`session_source` writes a text that defines one anew, with what it uses, and that runs as a file of its own.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import inspect
import linecache
import math
import symtable
import sys
import textwrap
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any

FROM_FILE = "pilotage_user_"
"""Prefix of the names under which files of users are imported."""
_FUTURE = "from __future__ import annotations\n"
_NOTHING = object()


class NotKept(Exception):  # noqa: N818 - it says what happens to the source, and is no fault
    """The source of a function cannot be written down. The message says why, as the end of a sentence."""


def session_source(function: Any, name: str) -> str:
    """Return Python text that defines `function` as `name`, with the imports, constants and functions that it uses.

    Raises NotKept for a function whose text cannot be found, or which uses what cannot be written as text.
    """
    writer = _Writer()
    writer.bind(name, function)
    return _FUTURE + "\n".join([*writer.imports, "", *writer.definitions]) + "\n"


def is_importable(value: Any) -> bool:
    """Return whether another process can import a function or class by its module and name."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__" or "<" in name:
        return False
    if module.startswith(FROM_FILE):
        return False
    try:
        found: Any = importlib.import_module(module)
    except ImportError:
        return False
    for part in name.split("."):
        found = getattr(found, part, _NOTHING)
    return found is value


class _Writer:
    """Imports and definitions that bind names, each before it is used."""

    def __init__(self) -> None:
        self.imports: dict[str, None] = {}
        self.definitions: list[str] = []
        self._bound: dict[str, Any] = {}

    def bind(self, name: str, value: Any) -> None:
        """Write what makes `name` stand for `value`."""
        if name in self._bound:
            if self._bound[name] is not value:
                raise NotKept(f"two things that it uses are called {name}")
            return
        self._bound[name] = value
        if isinstance(value, types.ModuleType):
            self.imports[f"import {value.__name__} as {name}"] = None
        elif place := _place(value):
            module, top, rest = place
            self.imports[f"from {module} import {top}" + (f" as {name}" if name != top else "")] = None
            if rest:
                self.imports[f"{name} = {name}.{rest}"] = None
        elif isinstance(value, types.FunctionType):
            self._function(name, value)
        elif isinstance(value, type):
            self._class(name, value)
        elif isinstance(value, functools.partial):
            self._partial(name, value)
        elif isinstance(value, types.MethodType):
            self.definitions.append(f"{name} = {self._expression(value.__self__)}.{value.__name__}")
        else:
            self.definitions.append(f"{name} = {self._written(value)}")

    def _function(self, name: str, function: types.FunctionType) -> None:
        plain = inspect.unwrap(function)
        cells = zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True)
        text = _function_text(plain)
        self._bind_uses(text, {**plain.__globals__, **{key: cell.cell_contents for key, cell in cells}}, plain.__name__)
        if plain.__name__ == "<lambda>":
            self.definitions.append(f"{name} = {text}")
            return
        self.definitions.append(text.rstrip())
        if plain.__name__ != name:
            self.definitions.append(f"{name} = {plain.__name__}")

    def _class(self, name: str, cls: type) -> None:
        text, around = _class_text(cls)
        self._bind_uses(text, around, cls.__name__)
        self.definitions.append(text.rstrip())
        if cls.__name__ != name:
            self.definitions.append(f"{name} = {cls.__name__}")

    def _bind_uses(self, text: str, around: Mapping[str, Any], own: str) -> None:
        for used in sorted(_globals_used(text)):
            if used != own and used in around and not hasattr(builtins, used):
                self.bind(used, around[used])

    def _partial(self, name: str, value: functools.partial[Any]) -> None:
        arguments = [self._expression(value.func), *(self._expression(given) for given in value.args)]
        arguments += [f"{key}={self._expression(given)}" for key, given in value.keywords.items()]
        self.imports["import functools"] = None
        self.definitions.append(f"{name} = functools.partial({', '.join(arguments)})")

    def _expression(self, value: Any) -> str:
        """Return an expression that gives `value`, after writing what it needs."""
        known = next((name for name, bound in self._bound.items() if bound is value), None)
        return self._written(value) if known is None else known

    def _written(self, value: Any) -> str:
        if isinstance(value, float) and not math.isfinite(value):
            return f"float({str(value)!r})"
        if _is_literal(value):
            return repr(value)
        bindable = type | types.FunctionType | types.ModuleType | types.MethodType | functools.partial
        if isinstance(value, bindable) or _place(value):
            name = getattr(value, "__name__", "")
            name = name if name.isidentifier() and name not in self._bound else f"value_{len(self._bound)}"
            self.bind(name, value)
            return name
        return self._object(value)

    def _object(self, value: Any) -> str:
        cls = type(value)
        state = getattr(value, "__dict__", None)
        if not isinstance(state, dict) or not callable(value):
            raise NotKept(f"it uses {_short(value)}, a {cls.__name__}, which cannot be written as text")
        made = self._expression(cls)
        name = f"object_{len(self._bound)}"
        self._bound[name] = value
        content = ", ".join(f"{key!r}: {self._expression(entry)}" for key, entry in state.items())
        self.definitions += [f"{name} = {made}.__new__({made})", f"{name}.__dict__.update({{{content}}})"]
        return name


def _place(value: Any) -> tuple[str, str, str] | None:
    """Return module, name and further attributes under which a value can be imported; None when it cannot."""
    if is_importable(value):
        top, _, rest = value.__qualname__.partition(".")
        return value.__module__, top, rest
    name = getattr(value, "__name__", None)
    if isinstance(name, str) and not isinstance(value, type | types.FunctionType | types.ModuleType):
        # Functions written in C often do not know their module.
        for module in [module for module in sys.modules if "." not in module and not module.startswith("_")]:
            if vars(sys.modules[module]).get(name) is value:
                return module, name, ""
    return None


def _is_literal(value: Any) -> bool:
    """Return whether the text of a value gives that value again."""
    if type(value) is float:
        return math.isfinite(value)
    if type(value) in (type(None), bool, int, str, bytes):
        return True
    if type(value) in (list, tuple, set):
        return all(map(_is_literal, value)) and (type(value) is not set or bool(value))
    return type(value) is dict and all(_is_literal(part) for pair in value.items() for part in pair)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "…"


def _globals_used(text: str) -> set[str]:
    """Return the names that a text takes from around it."""

    def walk(table: symtable.SymbolTable, is_top: bool) -> Iterator[str]:
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (is_top or symbol.is_global()):
                yield symbol.get_name()
        for child in table.get_children():
            yield from walk(child, False)

    return set(walk(symtable.symtable(_FUTURE + text, "<session>", "exec"), True))


def _lines(file: str) -> list[str]:
    """Return the lines of a file, of a cell, or of what `python -c` was given."""
    if file == "<string>" and "-c" in sys.orig_argv[:-1]:
        return sys.orig_argv[sys.orig_argv.index("-c") + 1].splitlines(keepends=True)
    return linecache.getlines(file)


def _parsed(file: str) -> tuple[list[str], ast.Module]:
    lines = _lines(file)
    try:
        return lines, ast.parse("".join(lines))
    except SyntaxError as error:
        raise NotKept("the text around it cannot be parsed") from error


def _function_text(function: types.FunctionType) -> str:
    """Return the definition of a function, or the expression of a lambda, as it was written."""
    code = function.__code__
    lines, tree = _parsed(code.co_filename)
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and code.co_name == "<lambda>" and node.lineno == code.co_firstlineno:
            text = ast.get_source_segment("".join(lines), node)
            text = f"({text})" if text and "\n" in text else text
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first != code.co_firstlineno:
                continue
            text = textwrap.dedent("".join(lines[first - 1 : node.end_lineno]))
        else:
            continue
        if text and _is_of(text, code):
            found[text] = None
    if len(found) != 1:
        where = "no file or cell holds its text" if not lines else "its text has changed since it was defined"
        raise NotKept(where)
    return next(iter(found))


def _is_of(text: str, code: types.CodeType) -> bool:
    """Return whether a text compiles to the code of a function (not asked of closures, which compile otherwise)."""
    if code.co_freevars:
        return True
    for future in ("", _FUTURE):  # annotations of inner functions compile otherwise
        try:
            module = compile(future + text, "<session>", "exec", dont_inherit=True)
        except SyntaxError:
            return False
        inner = [const for const in module.co_consts if isinstance(const, types.CodeType)]
        if any(const.co_name == code.co_name and _content(const) == _content(code) for const in inner):
            return True
    return False


def _content(code: types.CodeType) -> tuple[Any, ...]:
    constants = [_content(const) if isinstance(const, types.CodeType) else repr(const) for const in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, tuple(constants)


def _class_text(cls: type) -> tuple[str, Mapping[str, Any]]:
    """Return the definition of a class as it was written, and the names around it."""
    functions = [getattr(value, "fget", None) or getattr(value, "__func__", value) for value in vars(cls).values()]
    methods: list[Callable[..., Any]] = [value for value in functions if isinstance(value, types.FunctionType)]
    for method in map(inspect.unwrap, methods):
        code = method.__code__
        try:
            lines, tree = _parsed(code.co_filename)
        except NotKept:
            continue
        nodes = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            and node.name == cls.__name__
            and node.lineno <= code.co_firstlineno <= (node.end_lineno or node.lineno)
        ]
        if nodes and lines:
            node = nodes[-1]
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return textwrap.dedent("".join(lines[first - 1 : node.end_lineno])), method.__globals__
    raise NotKept(f"no file or cell holds the text of the class {cls.__name__}")
