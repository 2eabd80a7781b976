"""Pieces by name: the grammar of the command line, and the check that they fit together before anything runs.

A piece is a function whose positional argument names are columns of the roll-outs and whose keyword-only arguments
are hyper-parameters; or a class whose constructor takes the hyper-parameters by keyword and whose `__call__` takes the
columns. A class may bring state (`state_dict`, `load_state_dict`) and an `update` whose argument names are columns too,
called after every step. It may declare, as attributes, the columns it `writes` beside its slot's own, and the names of
pieces it `refuses` to work with. A piece that returns a dictionary writes its entries as columns.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from pilotage.references import load_function, nearest
from pilotage.system import UsageError


@dataclass(frozen=True)
class Term:
    """One piece of an expression: `weight*name:option=value,…`."""

    reference: str
    options: Mapping[str, Any]
    weight: float = 1.0


_TERM = re.compile(
    r"^(?:(?P<weight>[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*\*\s*)?"
    r"(?P<reference>[\w./\\-]+?(?::[A-Za-z_]\w*(?=$|:))?)"
    r"(?::(?P<options>[^:]*))?$"
)


def parse_value(text: str) -> Any:
    """A hyper-parameter from the command line: none, true, false, an integer, a number or a word."""
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
    """`"0.5*mvar:alpha=0.1"` → Term. Raises UsageError on anything else."""
    match = _TERM.match(text.strip())
    if not match:
        raise UsageError(
            f"cannot read the piece {text!r}: expected name, name:option=value,option=value, "
            "module:function or file.py:function, with an optional factor such as 0.5* before it"
        )
    options: dict[str, Any] = {}
    for pair in filter(None, (match["options"] or "").split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"cannot read {pair!r} in the piece {text!r}: expected option=value")
        options[key.strip().replace("-", "_")] = parse_value(value.strip())
    return Term(match["reference"], options, float(match["weight"] or 1.0))


def parse_sum(text: str) -> list[Term]:
    """`"0.5*grpo+0.5*mine"` → terms. A plus sign inside a number (1e+3) does not separate."""
    return [parse_term(part) for part in re.split(r"(?<![eE])\+|(?<=[a-zA-Z_][eE])\+", text) if part.strip()]


def parse_chain(text: str) -> list[Term]:
    """`"entropy_shape then whiten"` → terms in order."""
    return [parse_term(part) for part in re.split(r"\s+then\s+", text.strip()) if part.strip()]


@dataclass
class Piece:
    """A piece ready to be called on roll-outs."""

    slot: str
    name: str
    function: Callable[..., Any]
    needs: tuple[str, ...]
    accepts: tuple[str, ...] = ()
    """Columns it uses when they are there (positional arguments with a default)."""
    writes: tuple[str, ...] = ()
    refuses: tuple[str, ...] = ()
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)
    stateful: Any = None
    """The instance, for pieces that bring state."""

    def __call__(self, columns: Callable[[str], Any], present: Callable[[str], bool] = lambda _: False) -> Any:
        arguments = [columns(name) for name in self.needs]
        optional = {name: columns(name) for name in self.accepts if present(name)}
        return self.function(*arguments, **optional, **self.options)

    def update(self, columns: Callable[[str], Any]) -> None:
        """Let a stateful piece learn from the finished step."""
        update = getattr(self.stateful, "update", None)
        if update is not None:
            update(*(columns(name) for name in _positional(update)[0]))

    @property
    def update_needs(self) -> tuple[str, ...]:
        update = getattr(self.stateful, "update", None)
        return _positional(update)[0] if update is not None else ()


def _positional(function: Callable[..., Any]) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, inspect.Parameter]]:
    """(needed columns, accepted columns, hyper-parameters) of a piece."""
    needs: list[str] = []
    accepts: list[str] = []
    options: dict[str, inspect.Parameter] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            (needs if parameter.default is parameter.empty else accepts).append(name)
        elif parameter.kind is parameter.KEYWORD_ONLY:
            options[name] = parameter
    return tuple(needs), tuple(accepts), options


@cache
def _entry_point_pieces() -> Mapping[str, Mapping[str, str]]:
    """Pieces of other packages: entry points of the group `pilotage.pieces`, named `slot.name`."""
    found: dict[str, dict[str, str]] = {}
    for point in entry_points(group="pilotage.pieces"):
        slot, _, name = point.name.partition(".")
        found.setdefault(slot, {})[name] = point.value
    return found


def names_of(slot: str, table: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Every piece of a slot by name, ours and other packages', as module:attribute."""
    return {**table.get(slot, {}), **_entry_point_pieces().get(slot, {})}


def resolve(slot: str, term: Term | Callable[..., Any], table: Mapping[str, Mapping[str, str]]) -> Piece:
    """The piece that a term or a function of the user's names.

    Raises UsageError for a name that no slot has, an option that the piece has not, or one that it lacks."""
    if not isinstance(term, Term):
        target, name, options, weight = term, getattr(term, "__name__", type(term).__name__), {}, 1.0
    else:
        names = names_of(slot, table)
        reference = names.get(term.reference, term.reference)
        if ":" not in reference:
            raise UsageError(_unknown(slot, term.reference, names, table))
        target, name, options, weight = load_function(reference), term.reference, dict(term.options), term.weight
    is_class = inspect.isclass(target)
    parameters = _positional(target)[2] if not is_class else _constructor_options(target)
    unknown = set(options) - set(parameters)
    if unknown:
        wrong = sorted(unknown)[0]
        raise UsageError(
            f"the {slot} piece {name!r} has no option {wrong!r}{nearest(wrong, parameters)}; "
            f"it has {', '.join(sorted(parameters)) or 'none'}"
        )
    lacking = [key for key, p in parameters.items() if p.default is p.empty and key not in options]
    if lacking:
        raise UsageError(f"the {slot} piece {name!r} needs {lacking[0]}: write {name}:{lacking[0]}=…")
    stateful = None
    if is_class:
        stateful = target(**options)
        target, options = stateful, {}
    needs, accepts, _ = _positional(target)
    carrier = stateful if stateful is not None else target
    return Piece(
        slot=slot,
        name=name,
        function=target,
        needs=needs,
        accepts=accepts,
        writes=tuple(getattr(carrier, "writes", ())),
        refuses=tuple(getattr(carrier, "refuses", ())),
        weight=weight,
        options=options,
        stateful=stateful if hasattr(stateful, "state_dict") or hasattr(stateful, "update") else None,
    )


def _constructor_options(target: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return {
        name: parameter
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    }


def _unknown(slot: str, name: str, names: Mapping[str, str], table: Mapping[str, Mapping[str, str]]) -> str:
    elsewhere = [other for other in table if other != slot and name in table[other]]
    hint = f"; {name!r} is a piece of the slot {elsewhere[0]}" if elsewhere else nearest(name, names)
    return f"no {slot} piece is called {name!r}{hint} (there are {', '.join(sorted(names))}; or give module:function)"


def check_columns(pieces: Sequence[Piece], given: Iterable[str], writers: Mapping[str, str]) -> None:
    """Every column a piece needs is written before it, and no piece meets one that it refuses.

    `pieces` in the order they run; `given` columns exist before the first; `writers` says which known piece
    (`slot name`) would write a column, for the error."""
    there = set(given)
    names = {piece.name for piece in pieces}
    for piece in pieces:
        for refused in piece.refuses:
            if refused in names:
                raise UsageError(f"the {piece.slot} piece {piece.name!r} cannot be combined with {refused!r}")
        for column in piece.needs:
            if column not in there:
                writer = writers.get(column)
                raise UsageError(
                    f"the {piece.slot} piece {piece.name!r} needs the column {column!r}, which nobody writes"
                    + (f"; {writer} would write it" if writer else f"; the columns at that point are {sorted(there)}")
                )
        there.update(piece.writes)
