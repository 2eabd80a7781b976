"""The slots of a method resolved into pieces that fit together, before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.pieces import Piece, PieceChoice, Term, check_columns, parse_chain, parse_sum, resolve
from pilotage.core.references import load_function
from pilotage.core.registry import find_pieces
from pilotage.training.language.columns import ALWAYS, LIVE, ON_DEMAND
from pilotage.training.language.config import TextConfig


@dataclass
class PieceSet:
    """Resolved pieces of a method by slot: sums of advantages, regularisers; chains of filters, shapings, weights."""

    filter: list[Piece]
    penalty: list[Piece]
    advantage: list[Piece]
    shaping: list[Piece]
    weights: list[Piece]
    surrogate: list[Piece]
    aggregate: list[Piece]
    regulariser: list[Piece]

    @property
    def before_update(self) -> list[Piece]:
        """Return the pieces that run once per batch, before its first update."""
        return [*self.filter, *self.penalty, *self.advantage, *self.shaping, *self.weights]

    @property
    def in_update(self) -> list[Piece]:
        """Return the pieces that run at every update of a batch."""
        return [*self.aggregate, *self.surrogate, *self.regulariser]

    @property
    def all(self) -> list[Piece]:
        """Return every piece, in the order in which they run."""
        return [*self.before_update, *self.in_update]

    def asks_for(self, column: str) -> bool:
        """Return whether any piece needs the column."""
        return any(column in (*piece.needs, *piece.update_needs) for piece in self.all)

    def asks_before_update(self, column: str) -> bool:
        """Return whether a piece that runs before the first update needs the column."""
        return any(column in (*piece.needs, *piece.update_needs) for piece in self.before_update)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of every stateful piece, by slot, position and name."""
        return {
            f"{piece.slot}.{index}.{piece.name}": piece.stateful.state_dict()
            for index, piece in enumerate(self.all)
            if hasattr(piece.stateful, "state_dict")
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state written by `state_dict`."""
        for index, piece in enumerate(self.all):
            if hasattr(piece.stateful, "load_state_dict"):
                piece.stateful.load_state_dict(state[f"{piece.slot}.{index}.{piece.name}"])


def _terms(choice: PieceChoice, parse: Callable[[str], list[Term]]) -> list[Term | Callable[..., Any]]:
    if callable(choice):
        return [choice]
    if choice.strip() in ("", "none"):
        return []
    return list(parse(choice))


def sampler_term(choice: PieceChoice) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the sampler's class and options; the sampler is built once the number of training prompts is known."""
    if callable(choice):
        return choice, {}
    (term,) = parse_sum(choice)
    there = find_pieces("sampler")
    reference = there.get(term.reference, term.reference)
    if ":" not in reference:
        raise UsageError(f"no sampler is called {choice!r} (there are {', '.join(sorted(there))})")
    return load_function(reference), dict(term.options)


def make_piece_set(config: TextConfig) -> PieceSet:
    """Resolve every slot of a configuration. Raises UsageError for pieces that are unknown or do not fit together."""

    def resolved(slot: str, parse: Callable[[str], list[Term]], most: int | None = None) -> list[Piece]:
        found = [resolve(slot, term) for term in _terms(getattr(config, slot), parse)]
        if most is not None and len(found) > most:
            raise UsageError(f"the slot {slot} takes one piece, not {[p.name for p in found]}")
        return found

    pieces = PieceSet(
        filter=resolved("filter", parse_chain),
        penalty=resolved("penalty", parse_sum, most=1),
        advantage=resolved("advantage", parse_sum),
        shaping=resolved("shaping", parse_chain),
        weights=resolved("weights", parse_chain),
        surrogate=resolved("surrogate", parse_sum, most=1),
        aggregate=resolved("aggregate", parse_sum, most=1),
        regulariser=resolved("regulariser", parse_sum),
    )
    for slot in ("advantage", "surrogate", "aggregate"):
        if not getattr(pieces, slot):
            raise UsageError(f"a method needs a piece in the slot {slot}; it is empty")
    check_fit(pieces, config)
    return pieces


def check_fit(pieces: PieceSet, config: TextConfig) -> None:
    """Check columns, refusals, group size and number of updates. Raises UsageError with the piece and the remedy."""
    given = ALWAYS | set(ON_DEMAND)
    if pieces.penalty:
        pieces.penalty[0].writes = (*pieces.penalty[0].writes, "token_reward")
    else:
        given |= {"token_reward"}
    pieces.advantage[-1].writes = (*pieces.advantage[-1].writes, "advantage")
    check_columns(pieces.before_update, given)
    written = given | {"advantage"} | {column for piece in pieces.before_update for column in piece.writes}
    check_columns(pieces.in_update, written | LIVE | {"token_weight"})
    relative = [piece for piece in pieces.all if piece.needs_group]
    if config.group_size < 2 and relative:
        raise UsageError(
            f"the {relative[0].slot} piece {relative[0].name!r} compares answers to one prompt, but "
            f"group_size={config.group_size}: "
            "give --group-size 2 or more, or an advantage without groups (batch_center, greedy_baseline, gae)"
        )
    if config.refill_rounds and not pieces.filter:
        raise UsageError(
            f"refill_rounds={config.refill_rounds} fills the batch again after a filter, but there is none: "
            "add --filter informative or set --refill-rounds 0"
        )
    once = [piece for piece in pieces.surrogate if piece.single_update]
    if once and config.minibatches * config.epochs > 1:
        raise UsageError(
            f"the {once[0].slot} piece {once[0].name!r} is exactly on-policy: it takes one update per batch, "
            f"not {config.minibatches} minibatches x {config.epochs} epochs"
        )
