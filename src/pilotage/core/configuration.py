"""Configurations, one frozen dataclass per system, read from options, from Python values and from JSON.

A field's annotation says how its option is read, the string literal below it is the option's help.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union

from pilotage.core.docstrings import field_docs
from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.ranges import missed_range
from pilotage.core.references import NamesCode, function_name, is_reference, load_function

FORMAT = 1
"""Format number of the dictionary that `config_to_dict` writes."""

INPUT_FILE, OUTPUT_FILE = "input file", "output file"
"""Markers of fields that may name a file or folder which a run reads or writes, as in `Annotated[str, INPUT_FILE]`."""

_NOT_FINITE = ("inf", "-inf", "nan")
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@cache
def field_types(config_type: Any) -> Mapping[str, Any]:
    """Return the resolved annotation of every field of a dataclass, in the order of the fields."""
    hints = typing.get_type_hints(config_type)
    return {f.name: hints[f.name] for f in dataclasses.fields(config_type)}


@cache
def _annotations(config_type: Any) -> Mapping[str, Any]:
    return typing.get_type_hints(config_type, include_extras=True)


def check_ranges(config: Any) -> None:
    """Raise UsageError, with the name of the option, for a number outside the range that its annotation notes."""
    config_type: Any = type(config)
    for name in field_types(config_type):
        missed = missed_range(_annotations(config_type)[name], getattr(config, name))
        if missed:
            raise _refuse(config_type, name, getattr(config, name), within=missed)


def code_fields(config_type: Any) -> frozenset[str]:
    """Return the fields of a dataclass that may name code: pieces and functions. Text of other fields is only text."""
    return _code_fields(config_type)


@cache
def _code_fields(config_type: Any) -> frozenset[str]:
    hints = typing.get_type_hints(config_type, include_extras=True)
    return frozenset(f.name for f in dataclasses.fields(config_type) if _may_name_code(hints[f.name]))


def _may_name_code(kind: Any) -> bool:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Callable or origin is Callable:
        return True
    return any(isinstance(part, NamesCode) or _may_name_code(part) for part in arguments)


@cache
def _marked(config_type: Any, marker: str) -> tuple[str, ...]:
    hints = typing.get_type_hints(config_type, include_extras=True)
    return tuple(name for name in field_types(config_type) if marker in getattr(hints[name], "__metadata__", ()))


def input_files(config: Any) -> dict[str, Path]:
    """Return the files and folders that a configuration names for reading, absolute, by field.

    Names of what is no file here, such as a data set's, are left out.
    """
    config_type: Any = type(config)
    values = {name: getattr(config, name) for name in _marked(config_type, INPUT_FILE)}
    return {name: Path(value).expanduser().absolute() for name, value in values.items() if _names_a_file(value)}


def with_absolute_paths(config: Any) -> Any:
    """Return the configuration with absolute paths, so that it means the same files from every folder."""
    config_type: Any = type(config)
    paths = input_files(config)
    for name in _marked(config_type, OUTPUT_FILE):
        if getattr(config, name):
            paths[name] = Path(getattr(config, name)).expanduser().absolute()
    return dataclasses.replace(config, **{name: type(getattr(config, name))(path) for name, path in paths.items()})


def _names_a_file(value: Any) -> bool:
    try:
        return bool(value) and Path(value).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long for a name, a null character, no such user
        return False


def option(field: str) -> str:
    """Return the option of a field: `group_size` is `--group-size`; `lambda_`, a Python keyword, is `--lambda`."""
    return "--" + field.rstrip("_").replace("_", "-")


def field_named(config_type: type, key: str) -> str | None:
    """Return the field that an option `--key` sets; None when there is none."""
    name = key.replace("-", "_")
    return next((n for n in (name, name + "_") if n in field_types(config_type)), None)


def configure(system: Any, options: Sequence[str] = (), **overrides: Any) -> Any:
    """Return the configuration of a system: its defaults, changed by options.

    Args:
        system: a `System`, or a configuration itself.
        options: words of a command line: `--lr 1e-4`, `--lr=1e-4`, `--sizes 1,2,3`, `--flag`, `--no-flag`; the last of
            equal options counts.
        overrides: Python values by field, which win over options.

    Raises:
        UsageError: for a name that is no field (with the nearest ones), and for a value that does not fit.
    """
    defaults: Any = getattr(system, "config", system)
    config_type: Any = type(defaults)
    label = getattr(system, "name", config_type.__name__)
    values = read_options(config_type, options, label)
    for name, value in overrides.items():
        if name not in field_types(config_type):
            raise _unknown(config_type, name, label, spelled=name)
        values[name] = _from_python(config_type, name, value)
    return _replace(defaults, values)


def read_options(config_type: type, options: Sequence[str], label: str) -> dict[str, Any]:
    """Return the values of fields that options set.

    Args:
        config_type: the dataclass that has the fields.
        options: words of a command line, as in `configure`.
        label: the name of the system or command, for errors.

    Raises:
        UsageError: for a name that is no field, and for a value that does not fit.
    """
    kinds = field_types(config_type)
    values: dict[str, Any] = {}
    words = list(options)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or word == "--":
            raise UsageError(
                f"{label}: {word!r} stands where an option was expected; options look like --name value or --name=value"
            )
        key, equals, text = word[2:].partition("=")
        name = field_named(config_type, key)
        negated = field_named(config_type, key[3:]) if key.startswith("no-") and not equals else None
        if name is None and negated is not None and is_switch(kinds[negated]):
            values[negated] = False
            continue
        if name is None:
            raise _unknown(config_type, key.replace("-", "_"), label, spelled=f"--{key}")
        if is_switch(kinds[name]) and not equals:
            values[name] = True
            continue
        if not equals:
            if not words or words[0].startswith("--"):
                raise UsageError(
                    f"{label}: --{key} needs a value: {describe_type(kinds[name])}{_meaning(config_type, name)}"
                )
            text = words.pop(0)
        values[name] = _from_text(config_type, name, text)
    return values


def describe_type(kind: Any) -> str:
    """Return in words what a value of an annotation is: "a number", "one of 'a', 'b'", "whole numbers …"."""
    plain = {
        int: "a whole number",
        float: "a number",
        str: "text",
        bool: "true or false",
        type(None): "none",
        Path: "a path",
    }
    if isinstance(kind, type) and kind in plain:
        return plain[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(repr(a) for a in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(a) for a in arguments)
    if origin is tuple:
        many = {int: "whole numbers", float: "numbers", str: "words"}
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return f"{many.get(arguments[0], describe_type(arguments[0]))} separated by commas"
        return ", ".join(describe_type(a) for a in arguments) + " separated by commas"
    if origin is Callable or kind is Callable:
        return "module:function"
    return getattr(kind, "__name__", str(kind))


# ---- JSON ------------------------------------------------------------------------------------------------------------


def config_to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as a dictionary that JSON can hold: the fields and `format`.

    A function becomes "module:function". When it is read back, such a name becomes a function again where only
    functions are allowed, and stays a name where names are allowed.
    """
    return {
        "format": FORMAT,
        **{f.name: _to_json(f.name, getattr(config, f.name)) for f in dataclasses.fields(config)},
    }


def config_from_dict(system: Any, data: Mapping[str, Any]) -> Any:
    """Return the configuration that `config_to_dict` wrote. Fields that `data` lacks keep the defaults of `system`.

    Raises UsageError for another format number, for an unknown key (with the nearest) and for a value that does not
    fit.
    """
    defaults: Any = getattr(system, "config", system)
    config_type: Any = type(defaults)
    label = getattr(system, "name", config_type.__name__)
    if data.get("format") != FORMAT:
        raise UsageError(
            f"the configuration of {label} has format {data.get('format')!r}, this version of pilotage reads {FORMAT}; "
            "use the version that wrote it"
        )
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name == "format":
            continue
        if name not in field_types(config_type):
            raise _unknown(config_type, name, label, spelled=name)
        values[name] = _from_python(config_type, name, value)
    return _replace(defaults, values)


def differing_fields(config: Any, defaults: Any) -> list[str]:
    """Return the fields in which two configurations of one class differ as JSON."""
    values, others = config_to_dict(config), config_to_dict(defaults)
    return [name for name in values if name != "format" and values[name] != others[name]]


def config_to_options(config: Any, defaults: Any) -> list[str]:
    """Return the words of a command line that turn `defaults` into `config`.

    Raises UsageError for a value that no option can be given.
    """
    words: list[str] = []
    for name in differing_fields(config, defaults):
        value, key = getattr(config, name), option(name)
        if isinstance(value, bool):
            words.append(key if value else f"--no-{key[2:]}")
            continue
        text = _as_option(name, value)
        words += [f"{key}={text}"] if not text or text.startswith("--") else [key, text]
        if _to_json(name, _from_text(type(config), name, text)) != _to_json(name, value):
            raise UsageError(f"{key}: {value!r} cannot be written on a command line, which compare needs")
    return words


def _as_option(name: str, value: Any) -> str:
    if isinstance(value, tuple | list):
        return ",".join(_as_option(name, part) for part in value)
    return "none" if value is None else str(_to_json(name, value))


# ---- one value -------------------------------------------------------------------------------------------------------


def _replace(defaults: Any, values: Mapping[str, Any]) -> Any:
    try:
        config = dataclasses.replace(defaults, **values)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error
    check_ranges(config)
    return config


def _unknown(config_type: type, name: str, label: str, spelled: str) -> UsageError:
    names = field_types(config_type)
    dashed = spelled.startswith("--")
    close = nearest(option(name) if dashed else name, [option(n) if dashed else n for n in names])
    return UsageError(f"{label} has no option {spelled}{close}; `pilotage run {label} --help` lists them")


def _meaning(config_type: type, name: str) -> str:
    doc = field_docs(config_type).get(name)
    return f" ({doc.rstrip('.')})" if doc else ""


def _refuse(config_type: type, name: str, given: Any, within: str = "") -> UsageError:
    expected = describe_type(field_types(config_type)[name]) + (f" in {within}" if within else "")
    return UsageError(f"{option(name)}: given {given!r}, expected {expected}{_meaning(config_type, name)}")


def is_switch(kind: Any) -> bool:
    """Return whether an option of this annotation takes no value: `--x` and `--no-x`."""
    return kind is bool or bool in typing.get_args(kind)


def _members(kind: Any) -> tuple[Any, ...]:
    """Return the alternatives of a union, the strictest first, since text fits everything."""
    if typing.get_origin(kind) not in (Union, types.UnionType):
        return (kind,)

    def rank(member: Any) -> int:
        if typing.get_origin(member) is Callable or member is Callable:
            return 10  # a name stays a name where names are allowed; the user of the piece looks it up
        return {type(None): 0, bool: 1, int: 2, float: 3, str: 9}.get(member, 5) if isinstance(member, type) else 5

    return tuple(sorted(typing.get_args(kind), key=rank))


def _from_text(config_type: type, name: str, text: str) -> Any:
    kind = field_types(config_type)[name]
    for member in _members(kind):
        try:
            return _parse(member, text)
        except UsageError:
            raise
        except ValueError:
            continue
    raise _refuse(config_type, name, text)


def _parse(kind: Any, text: str) -> Any:
    """Parse a text as a value of `kind`. Raises ValueError when it is none."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is type(None):
        if text.lower() in ("none", "null"):
            return None
    elif kind is bool:
        if text.lower() in (*_TRUE, *_FALSE):
            return text.lower() in _TRUE
    elif kind in (int, float):
        return _number(kind, text)
    elif kind in (str, Any):
        return text
    elif kind is Path:
        return Path(text)
    elif origin is Literal:
        for choice in arguments:
            if str(choice).replace("-", "_") == text.replace("-", "_"):
                return choice
    elif origin is tuple:
        return _parse_tuple(arguments, text)
    elif origin is Callable or kind is Callable:
        return load_function(text)
    raise ValueError(text)


def _number(kind: type, text: str) -> Any:
    if kind is float:
        return float(text)
    try:
        return int(text.replace("_", ""))
    except ValueError:
        value = float(text)  # 1e6 means 1000000
        if not value.is_integer():
            raise
        return int(value)


def _parse_tuple(arguments: tuple[Any, ...], text: str) -> tuple[Any, ...]:
    parts = [part.strip() for part in text.strip("()[]").split(",") if part.strip()]
    many = len(arguments) == 2 and arguments[1] is Ellipsis
    if not many and len(parts) != len(arguments):
        raise ValueError(text)
    values = []
    for kind, part in zip([arguments[0]] * len(parts) if many else arguments, parts, strict=True):
        for member in _members(kind):
            try:
                values.append(_parse(member, part))
                break
            except ValueError:
                continue
        else:
            raise ValueError(text)
    return tuple(values)


def _from_python(config_type: type, name: str, value: Any) -> Any:
    kind = field_types(config_type)[name]
    if kind is str and callable(value) and name in code_fields(config_type):
        return function_name(value)
    for member in _members(kind):
        try:
            return _accept(member, value)
        except TypeError:
            continue
    raise _refuse(config_type, name, value)


def _accept(kind: Any, value: Any) -> Any:
    """Return a value from Python or JSON as a value of `kind`. Raises TypeError when it is none."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is Literal:
        fits = value in arguments
    elif origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise TypeError(value)
        many = len(arguments) == 2 and arguments[1] is Ellipsis
        if not many and len(value) != len(arguments):
            raise TypeError(value)
        kinds = [arguments[0]] * len(value) if many else arguments
        return tuple(accept_value(k, v) for k, v in zip(kinds, value, strict=True))
    elif origin is Callable or kind is Callable:
        if isinstance(value, str) and is_reference(value):
            return load_function(value)
        fits = callable(value)
    elif kind is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, str) and value in _NOT_FINITE:
            return float(value)
        fits = False
    elif kind is int:
        fits = isinstance(value, int) and not isinstance(value, bool)
    elif kind is Path:
        return Path(value)
    elif origin in (dict, Mapping):
        fits = isinstance(value, Mapping)
    else:
        fits = isinstance(value, kind)
    if not fits:
        raise TypeError(value)
    return value


def accept_value(kind: Any, value: Any) -> Any:
    """Return a value from Python or JSON as a value of an annotation, a union too. Raises TypeError when it is none."""
    for member in _members(kind):
        try:
            return _accept(member, value)
        except TypeError:
            continue
    raise TypeError(value)


def _to_json(name: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        # JSON has no infinity.
        return value if json.dumps(value) not in ("Infinity", "-Infinity", "NaN") else str(value)
    if isinstance(value, (list, tuple)):
        return [_to_json(name, v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _to_json(name, v) for k, v in value.items()}
    if isinstance(value, Path):
        return str(value)
    if callable(value):
        return function_name(value)
    raise UsageError(
        f"{option(name)}: a {type(value).__name__} cannot be written as JSON; give text, numbers or a function"
    )
