"""Pieces by name: the grammar of the command line, and the check that pieces fit together before anything runs.

A piece is a function whose positional argument names are columns of the roll-outs and whose keyword-only arguments
are hyper-parameters; or a class whose constructor takes the hyper-parameters by keyword and whose `__call__` takes the
columns. A class may bring state (`state_dict`, `load_state_dict`) and an `update` whose argument names are columns too,
called after every step. What else a trainer must know of a piece is declared at the piece (`declare`). A piece that
returns a dictionary writes its entries as columns.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import inspect
import math
import operator
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, Union

from pilotage.core.configuration import accept_value, code_fields, describe_type
from pilotage.core.errors import UsageError
from pilotage.core.names import nearest
from pilotage.core.ranges import missed_range
from pilotage.core.references import function_name, is_of_session, load_function, look_in_current_folder
from pilotage.core.registry import all_pieces, find_pieces

P = TypeVar("P")

PieceChoice = str | Callable[..., Any]
"""A piece by name (`name:option=value`, `module:function`, a mixture `0.5*a+0.5*b`), or the function itself."""


@dataclass(frozen=True)
class Term:
    """Single piece of an expression: `weight*name:option=value,…`."""

    reference: str
    options: Mapping[str, Any]
    weight: float = 1.0


_TERM = re.compile(
    r"^(?:(?P<weight>[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*\*\s*)?"
    r"(?P<reference>[\w./~ -]+?\.py:[A-Za-z_]\w*(?=$|:)|[\w./~-]+?(?::[A-Za-z_][\w.]*(?=$|:))?)"
    r"(?::(?P<options>[^:]*))?$"
)
_THEN = re.compile(r"\s+then\s+")
_PLUS = re.compile(r"(?<![eE])\+|(?<=[a-zA-Z_][eE])\+")
"""A plus sign between pieces, not one inside a number (1e+3)."""
_QUOTED = re.compile(r"""=\s*(?:'[^']*'|"[^"]*")""")


def _without_quoted(text: str) -> str:
    """Return the text with the characters of quoted values as NUL, so that no mark in them is taken for grammar."""
    return _QUOTED.sub(lambda match: "=" + "\0" * (len(match[0]) - 1), text)


def _split(text: str, mark: re.Pattern[str] | str) -> list[str]:
    """Return the parts of a text between the marks that do not stand in a quoted value."""
    parts, start = [], 0
    for match in re.finditer(mark, _without_quoted(text)):
        parts.append(text[start : match.start()])
        start = match.end()
    return [*parts, text[start:]]


def parse_value(text: str) -> Any:
    """Return a hyper-parameter given as text: none, true, false, an integer, a number, a word or a quoted text."""
    if text[:1] in ("'", '"') and text[-1:] == text[:1] and len(text) > 1:
        return text[1:-1]
    words = {"none": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_term(text: str) -> Term:
    """Parse one piece, such as `0.5*mvar:alpha=0.1`. Raises UsageError for text that is none."""
    text = text.strip()
    match = _TERM.match(_without_quoted(text))
    if not match:
        raise UsageError(
            f"cannot read the piece {text!r}: expected name, name:option=value,option=value, "
            "module:function or file.py:function, with an optional factor such as 0.5* before it"
        )
    options: dict[str, Any] = {}
    written = text[match.start("options") :] if match["options"] else ""
    for pair in filter(None, _split(written, ",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"cannot read {pair!r} in the piece {text!r}: expected option=value")
        options[key.strip().replace("-", "_")] = parse_value(value.strip())
    weight = float(match["weight"] or 1.0)
    if not math.isfinite(weight):
        raise UsageError(f"the factor {match['weight']!r} of the piece {text!r} is too large for a number")
    return Term(match["reference"], options, weight)


def parse_sum(text: str) -> list[Term]:
    """Parse a mixture, such as `0.5*grpo+0.5*mine`. A plus sign inside a number (1e+3) does not separate.

    Raises UsageError for a summand that is empty or cannot be read.
    """
    first, *others = _split(text, _PLUS)
    return [parse_term(part) for part in ([first] if first.strip() else []) + others]


def parse_chain(text: str) -> list[Term]:
    """Parse pieces that follow each other, such as `entropy_shape then whiten`."""
    return [parse_term(part) for part in _split(text.strip(), _THEN) if part.strip()]


def parse_pieces(text: str) -> list[Term]:
    """Parse an expression of either kind, a mixture or a chain."""
    return [term for part in _split(text.strip(), _THEN) for term in parse_sum(part)]


def references_in(text: str) -> list[str]:
    """Return the user functions that a text names: `0.5*grpo+0.5*my.py:mine` gives ["my.py:mine"].

    A text that is no expression of pieces names none. Neither does `lora:rank`, because no module is called lora.
    """
    try:
        references = [term.reference for term in parse_pieces(text)]
    except UsageError:
        return []
    return [reference for reference in references if _is_importable(reference.partition(":")[::2])]


def user_functions(config: Any) -> list[str]:
    """Return the references of the functions that a configuration names, in the fields whose type allows code."""
    found: dict[str, None] = {}
    for name in sorted(code_fields(type(config))):
        value = getattr(config, name)
        for part in value if isinstance(value, tuple | list) else (value,):
            if isinstance(part, str):
                found |= dict.fromkeys(references_in(part))
            elif callable(part):
                found[function_name(part)] = None
    return list(found)


def _is_importable(parts: tuple[str, str]) -> bool:
    place, function = parts
    if not function or place.endswith(".py") or is_of_session(":".join(parts)):
        return bool(function)
    if place == "__main__":
        return False
    look_in_current_folder()
    return all(p.isidentifier() for p in place.split(".")) and bool(importlib.util.find_spec(place.split(".")[0]))


@dataclass
class Piece:
    """Piece that is ready to be called on roll-outs."""

    slot: str
    name: str
    function: Callable[..., Any]
    needs: tuple[str, ...]
    accepts: tuple[str, ...] = ()
    """Columns it uses when they are there (positional arguments with a default)."""
    writes: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()
    needs_group: bool = False
    single_update: bool = False
    per_token: bool = False
    per_answer: bool = False
    bounded: str = ""
    least_prompts: int = 1
    alarms: tuple[Callable[..., Any], ...] = ()
    """What to warn about while training with it: see `pilotage.types.FinishedStep`."""
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All hyper-parameters, with their defaults."""
    stateful: Any = None
    """The instance, for pieces that bring state."""

    def __call__(self, columns: Callable[[str], Any], present: Callable[[str], bool] = lambda _: False) -> Any:
        """Call the piece on the columns that it takes; `present` tells whether an optional column exists."""
        arguments = [columns(name) for name in self.needs]
        optional = {name: columns(name) for name in self.accepts if present(name)}
        return self.function(*arguments, **optional, **self.options)

    def update(self, columns: Callable[[str], Any]) -> None:
        """Update a stateful piece after a finished step."""
        update = getattr(self.stateful, "update", None)
        if update is not None:
            update(*(columns(name) for name in _positional(update)[0]))

    @property
    def update_needs(self) -> tuple[str, ...]:
        """Return the columns that `update` takes."""
        update = getattr(self.stateful, "update", None)
        return _positional(update)[0] if update is not None else ()


def _positional(function: Callable[..., Any]) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, inspect.Parameter]]:
    """Return the needed columns, the accepted columns and the hyper-parameters of a piece."""
    needs: list[str] = []
    accepts: list[str] = []
    options: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            (needs if parameter.default is parameter.empty else accepts).append(name)
        elif parameter.kind is parameter.KEYWORD_ONLY:
            options[name] = parameter
    return tuple(needs), tuple(accepts), options


def declare(
    *,
    writes: tuple[str, ...] = (),
    refuses: tuple[str, ...] = (),
    needs_group: bool = False,
    single_update: bool = False,
    per_token: bool = False,
    per_answer: bool = False,
    bounded: Literal["", "reward", "scores"] = "",
    least_prompts: int = 1,
    check: Callable[..., None] | None = None,
    alarms: tuple[Callable[..., Any], ...] = (),
    **facts: Any,
) -> Callable[[P], P]:
    """Return a decorator that notes at a piece what the trainer must know of it before anything runs.

    The type and the range of a hyper-parameter are no part of it: they are those of its annotation, such as
    `Literal["k2", "k3"]` or `Annotated[float, Range("[0, 1)")]` (`pilotage.core.ranges`).

    Args:
        writes: columns that the piece writes beside its slot's own; no two pieces of a run may write the same one.
        refuses: names of pieces with which it cannot work.
        needs_group: whether it compares the answers to one prompt and means nothing with a single answer.
        single_update: whether it has no importance ratio, so that its gradient is wrong after the first update of a
            batch.
        per_token: whether the advantage that it gives has a value for each token.
        per_answer: whether it takes an advantage with one value for each answer only.
        bounded: "reward" or "scores" when the reward, or every component of it, must lie between its options `low` and
            `high`.
        least_prompts: number of prompts that a batch must have.
        check: `check(**hyper_parameters)` raises UsageError for values that do not go together; a class checks them in
            its constructor.
        alarms: each `alarm(step: pilotage.types.FinishedStep)` is asked after every step with a batch; it returns an
            event (kind, text), which is logged once, or None, or raises RunError to end the run.
        facts: what pieces of one slot alone declare, such as the `path` that a denoising sampler walks.
    """

    def note(piece: P) -> P:
        for name, value in (
            ("writes", writes),
            ("refuses", refuses),
            ("needs_group", needs_group),
            ("single_update", single_update),
            ("per_token", per_token),
            ("per_answer", per_answer),
            ("bounded", bounded),
            ("least_prompts", least_prompts),
            ("check_options", check),
            ("alarms", alarms),
            *facts.items(),
        ):
            setattr(piece, name, value)
        return piece

    return note


def is_piece_choice(annotation: Any) -> bool:
    """Return whether a field of this (resolved) annotation chooses pieces."""
    return bool(annotation == PieceChoice)


def load_piece(slot: str, name: str) -> Callable[..., Any]:
    """Return the class or function called `name` in a slot, or the user's own, "module:function".

    Raises UsageError, with the nearest names, when there is none.
    """
    reference = find_pieces(slot).get(name, name)
    if ":" not in reference:
        raise UsageError(_unknown(slot, name))
    return load_function(reference)


def make_piece(
    slot: str, text: str, given: Mapping[str, Any] | None = None, offered: Mapping[str, Any] | None = None
) -> Any:
    """Return the part that `text` ("name:option=value,several=1|2") names in a slot, made by `fill`."""
    term = parse_term(text)
    name = f"{slot} {term.reference}"
    return fill(load_piece(slot, term.reference), split_values(term.options), given, offered, name=name)


def fill(
    kind: Callable[..., Any],
    options: Mapping[str, Any],
    given: Mapping[str, Any] | None = None,
    offered: Mapping[str, Any] | None = None,
    *,
    name: str = "",
) -> Any:
    """Return what `kind` makes of the user's options, all of `given`, and what it takes of `offered`.

    Args:
        kind: class or function of the part.
        options: the user's.
        given: arguments that are not the user's to set.
        offered: arguments that it may take, unless the user set them.
        name: its name in errors; that of `kind` when empty.

    Raises:
        UsageError: for an option that it has not, or when it takes none of those it is given.
    """
    given, name = given or {}, name or getattr(kind, "__name__", str(kind))
    known = inspect.signature(kind).parameters
    settable = [option for option in known if option not in given]
    for option in options:
        if option not in settable:
            raise UsageError(
                f"the {name} has no option {option!r}{nearest(option, settable)}; it has "
                f"{', '.join(settable) or 'none'}"
            )
    strange = [option for option in given if option not in known]
    if strange and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
        raise UsageError(f"the {name} does not go with the other parts: it takes no {', '.join(strange)}")
    taken = {option: value for option, value in (offered or {}).items() if option in known and option not in options}
    return kind(**{**given, **taken, **options})


def split_values(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options in which every "64|128|256" is a tuple of numbers."""
    return {
        name: tuple(map(parse_value, value.split("|"))) if isinstance(value, str) and "|" in value else value
        for name, value in options.items()
    }


def piece_options(piece: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the hyper-parameters of a piece: keyword-only arguments of a function, those of a class's constructor."""
    return _constructor_options(piece) if inspect.isclass(piece) else _positional(piece)[2]


def load_term(slot: str, term: Term, given: Sequence[str] = ()) -> Callable[..., Any]:
    """Return the class or function that a term names, after a check of the term's options.

    Args:
        slot: the slot of the piece.
        term: the piece and its options as text.
        given: arguments of a class that are not the user's to set.

    Raises:
        UsageError: for a name that no slot has, an option that the piece has not, or one that it lacks, and for a value
            that is outside the option's type or range.
    """
    target = load_piece(slot, term.reference)
    _check_options(slot, term.reference, target, term.options, given)
    return target


def _check_options(
    slot: str, name: str, target: Callable[..., Any], options: Mapping[str, Any], given: Sequence[str] = ()
) -> None:
    parameters = {key: p for key, p in piece_options(target).items() if key not in given}
    unknown = set(options) - set(parameters)
    if unknown:
        wrong = sorted(unknown)[0]
        raise UsageError(
            f"the {slot} piece {name!r} has no option {wrong!r}{nearest(wrong, parameters)}; "
            f"it has {', '.join(sorted(parameters)) or 'none'}"
        )
    lacking = [key for key, p in parameters.items() if p.default is p.empty and key not in options]
    if lacking:
        written = ",".join(f"{key}=…" for key in lacking)
        raise UsageError(f"the {slot} piece {name!r} needs {', '.join(lacking)}: write {name}:{written}")
    annotations = _annotations(target)
    for key, value in options.items():
        expected = _expected(annotations.get(key), value)
        if expected:
            raise UsageError(f"the {slot} piece {name!r} was given {key}={value!r}, expected {expected}")
    check = None if inspect.isclass(target) else getattr(target, "check_options", None)
    if check is not None:
        check(**_settings(target, options))


def _settings(target: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: p.default for key, p in piece_options(target).items() if p.default is not p.empty} | dict(options)


def _annotations(target: Callable[..., Any]) -> Mapping[str, Any]:
    """Return the resolved annotations of a piece's arguments; none where they name what cannot be found."""
    try:
        return typing.get_type_hints(target.__init__ if inspect.isclass(target) else target, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def _expected(annotation: Any, value: Any) -> str:
    """Return what was expected in place of a hyper-parameter, empty when it fits the type and range of its annotation.

    Classes, choices and unions of them are checked; of other annotations only that a number is finite.
    """
    if _is_checked(annotation):
        try:
            accept_value(_without_ranges(annotation), value)
        except TypeError:
            return describe_type(_without_ranges(annotation))
    missed = missed_range(annotation, value)
    if not missed and isinstance(value, float) and not math.isfinite(value):
        missed = "(-inf, inf)"
    return f"a number in {missed}" if missed else ""


def _is_checked(annotation: Any) -> bool:
    plain = _without_ranges(annotation)
    if typing.get_origin(plain) in (Union, types.UnionType):
        return all(map(_is_checked, typing.get_args(plain)))
    return isinstance(plain, type) or typing.get_origin(plain) is Literal


def _without_ranges(annotation: Any) -> Any:
    if hasattr(annotation, "__metadata__"):
        return annotation.__origin__
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return functools.reduce(operator.or_, map(_without_ranges, typing.get_args(annotation)))
    return annotation


def resolve(slot: str, term: Term | Callable[..., Any]) -> Piece:
    """Return the piece that a term names, or that a function is, with its options bound.

    Raises UsageError for a name that no slot has, an option that the piece has not, or one that it lacks, and for
    hyper-parameters that the piece refuses.
    """
    target: Callable[..., Any]
    options: dict[str, Any] = {}
    if not isinstance(term, Term):
        target, name, weight = term, getattr(_inner(term), "__name__", type(term).__name__), 1.0
        _check_options(slot, name, target, options)
    else:
        target, name, weight = load_term(slot, term), term.reference, term.weight
        options |= term.options
    settings = _settings(target, options)
    stateful: Any = None
    if inspect.isclass(_inner(target)):
        try:
            stateful = target(**options)
        except ValueError as error:
            raise UsageError(f"the {slot} piece {name!r}: {error}") from error
        target, options = stateful, {}
    elif not inspect.isroutine(target) and not isinstance(target, functools.partial):
        # An object: every run begins with it as it was given.
        target = stateful = copy.deepcopy(target)
    needs, accepts, _ = _positional(target)
    carrier = stateful if stateful is not None else _inner(target)
    return Piece(
        slot=slot,
        name=name,
        function=target,
        needs=needs,
        accepts=accepts,
        writes=tuple(getattr(carrier, "writes", ())),
        refuses=tuple(getattr(carrier, "refuses", ())),
        needs_group=bool(getattr(carrier, "needs_group", False)),
        single_update=bool(getattr(carrier, "single_update", False)),
        per_token=bool(getattr(carrier, "per_token", False)),
        per_answer=bool(getattr(carrier, "per_answer", False)),
        bounded=str(getattr(carrier, "bounded", "")),
        least_prompts=int(getattr(carrier, "least_prompts", 1)),
        alarms=tuple(getattr(carrier, "alarms", ())),
        weight=weight,
        options=options,
        settings=settings,
        stateful=stateful if hasattr(stateful, "state_dict") or hasattr(stateful, "update") else None,
    )


def _inner(target: Callable[..., Any]) -> Any:
    """Return the function or class of which a piece is a partial; a piece that is none as it is."""
    while isinstance(target, functools.partial):
        target = target.func
    return target


def _constructor_options(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return {
        name: parameter
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def _unknown(slot: str, name: str) -> str:
    names = find_pieces(slot)
    elsewhere = [other for other, of in all_pieces().items() if other != slot and name in of]
    hint = f"; {name!r} is a piece of the slot {elsewhere[0]}" if elsewhere else nearest(name, names)
    return f"no {slot} piece is called {name!r}{hint} (there are {', '.join(sorted(names))}; or give module:function)"


def _writer_of(column: str) -> str | None:
    """Return a known piece that would write the column, for an error message."""
    for slot, names in all_pieces().items():
        for name, reference in names.items():
            if column in getattr(load_function(reference), "writes", ()):
                return f"the {slot} piece {name!r}"
    return None


def check_columns(pieces: Sequence[Piece], given: Iterable[str]) -> None:
    """Check that every column a piece needs is written before it, once, and that no piece meets one that it refuses.

    Args:
        pieces: in the order in which they run.
        given: columns that exist before the first piece.

    Raises:
        UsageError: with the piece that would write a missing column, where one is known.
    """
    there = set(given)
    names = {piece.name for piece in pieces}
    writers: dict[str, Piece] = {}
    for piece in pieces:
        for refused in piece.refuses:
            if refused in names:
                raise UsageError(f"the {piece.slot} piece {piece.name!r} cannot be combined with {refused!r}")
        for column in piece.needs:
            if column not in there:
                writer = _writer_of(column)
                raise UsageError(
                    f"the {piece.slot} piece {piece.name!r} needs the column {column!r}, which no piece writes"
                    + (f"; {writer} would write it" if writer else f"; the columns at that point are {sorted(there)}")
                )
        for column in piece.writes:
            if writers.setdefault(column, piece) is not piece:
                other = writers[column]
                raise UsageError(
                    f"the {other.slot} piece {other.name!r} and the {piece.slot} piece {piece.name!r} both write the "
                    f"column {column!r}, and what learns from it would read the other's: give one of them"
                )
        there.update(piece.writes)
