"""The slots of a method resolved into pieces that fit together, before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.pieces import Piece, Term, check_columns, parse_chain, parse_sum, resolve
from pilotage.core.references import load_function
from pilotage.core.registry import find_pieces
from pilotage.training.language.columns import ALWAYS, LIVE, ON_DEMAND
from pilotage.training.language.config import PieceChoice, TextConfig


@dataclass
class Plan:
    """Pieces by slot. Sums: advantage, regulariser. Chains: shaping, weights. One at most: the others."""

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
        return [*self.filter, *self.penalty, *self.advantage, *self.shaping, *self.weights]

    @property
    def in_update(self) -> list[Piece]:
        return [*self.aggregate, *self.surrogate, *self.regulariser]

    @property
    def pieces(self) -> list[Piece]:
        return [*self.before_update, *self.in_update]

    def asks_for(self, column: str) -> bool:
        """Whether any piece needs the column."""
        return any(column in (*piece.needs, *piece.update_needs) for piece in self.pieces)

    def asks_before_update(self, column: str) -> bool:
        """Whether a piece that runs before the first update needs the column."""
        return any(column in (*piece.needs, *piece.update_needs) for piece in self.before_update)

    def state_dict(self) -> dict[str, Any]:
        return {
            f"{piece.slot}.{index}.{piece.name}": piece.stateful.state_dict()
            for index, piece in enumerate(self.pieces)
            if hasattr(piece.stateful, "state_dict")
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for index, piece in enumerate(self.pieces):
            if hasattr(piece.stateful, "load_state_dict"):
                piece.stateful.load_state_dict(state[f"{piece.slot}.{index}.{piece.name}"])


def _terms(choice: PieceChoice, parse: Callable[[str], list[Term]]) -> list[Term | Callable[..., Any]]:
    if callable(choice):
        return [choice]
    if choice.strip() in ("", "none"):
        return []
    return list(parse(choice))


def sampler_term(choice: PieceChoice) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The sampler's class and options; it is built once the size of the pool is known."""
    if callable(choice):
        return choice, {}
    (term,) = parse_sum(choice)
    there = find_pieces("sampler")
    reference = there.get(term.reference, term.reference)
    if ":" not in reference:
        raise UsageError(f"no sampler is called {choice!r} (there are {', '.join(sorted(there))})")
    return load_function(reference), dict(term.options)


def make_plan(config: TextConfig) -> Plan:
    """Resolve every slot of a configuration. Raises UsageError for pieces that are unknown or do not fit together."""

    def pieces(slot: str, parse: Callable[[str], list[Term]], most: int | None = None) -> list[Piece]:
        found = [resolve(slot, term) for term in _terms(getattr(config, slot), parse)]
        if most is not None and len(found) > most:
            raise UsageError(f"the slot {slot} takes one piece, not {[p.name for p in found]}")
        return found

    plan = Plan(
        filter=pieces("filter", parse_chain),
        penalty=pieces("penalty", parse_sum, most=1),
        advantage=pieces("advantage", parse_sum),
        shaping=pieces("shaping", parse_chain),
        weights=pieces("weights", parse_chain),
        surrogate=pieces("surrogate", parse_sum, most=1),
        aggregate=pieces("aggregate", parse_sum, most=1),
        regulariser=pieces("regulariser", parse_sum),
    )
    for slot in ("advantage", "surrogate", "aggregate"):
        if not getattr(plan, slot):
            raise UsageError(f"a method needs a piece in the slot {slot}; it is empty")
    check_fit(plan, config)
    return plan


def check_fit(plan: Plan, config: TextConfig) -> None:
    """Columns, refusals, group size and schedule. Raises UsageError with the piece and the remedy."""
    given = ALWAYS | set(ON_DEMAND)
    if plan.penalty:
        plan.penalty[0].writes = (*plan.penalty[0].writes, "token_reward")
    else:
        given |= {"token_reward"}
    plan.advantage[-1].writes = (*plan.advantage[-1].writes, "advantage")
    check_columns(plan.before_update, given)
    written = given | {"advantage"} | {column for piece in plan.before_update for column in piece.writes}
    check_columns(plan.in_update, written | LIVE | {"token_weight"})
    relative = [piece for piece in plan.pieces if piece.needs_group]
    if config.group_size < 2 and relative:
        raise UsageError(
            f"the {relative[0].slot} piece {relative[0].name!r} compares answers to one prompt, but "
            f"group_size={config.group_size}: "
            "give --group-size 2 or more, or an advantage without groups (batch_center, greedy_baseline, gae)"
        )
    if config.refill_rounds and not plan.filter:
        raise UsageError(
            f"refill_rounds={config.refill_rounds} fills the batch again after a filter, but there is none: "
            "add --filter informative or set --refill-rounds 0"
        )
    once = [piece for piece in plan.surrogate if piece.single_update]
    if once and config.minibatches * config.epochs > 1:
        raise UsageError(
            f"the {once[0].slot} piece {once[0].name!r} is exactly on-policy: it takes one update per batch, "
            f"not {config.minibatches} minibatches x {config.epochs} epochs"
        )
