"""The slots of a method resolved into pieces that fit together, before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pilotage.core.errors import UsageError
from pilotage.core.pieces import Piece, PieceChoice, Term, check_columns, load_term, parse_chain, parse_sum, resolve
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
    terms = parse_sum(choice)
    if len(terms) != 1:
        raise UsageError(f"the slot sampler takes one piece, given {choice!r}")
    return load_term("sampler", terms[0], given=("size", "seed")), dict(terms[0].options)


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
    """Check columns, shapes, refusals and sizes of a batch. Raises UsageError with the piece and the remedy."""
    given = ALWAYS | set(ON_DEMAND)
    if pieces.penalty:
        pieces.penalty[0].writes = (*pieces.penalty[0].writes, "token_reward")
    else:
        given |= {"token_reward"}
    pieces.advantage[-1].writes = (*pieces.advantage[-1].writes, "advantage")
    check_columns(pieces.before_update, given)
    written = given | {"advantage"} | {column for piece in pieces.before_update for column in piece.writes}
    check_columns(pieces.in_update, written | LIVE | {"token_weight"})
    _check_shapes(pieces)
    _check_batch(pieces, config)
    bounded = [piece for piece in pieces.all if piece.bounded]
    if bounded and pieces.penalty:
        raise UsageError(
            f"the {bounded[0].slot} piece {bounded[0].name!r} needs a reward within bounds, which the penalty "
            f"{pieces.penalty[0].name!r} leaves: put the divergence into the loss (--regulariser 0.001*kl:kind=k2)"
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


def _check_shapes(pieces: PieceSet) -> None:
    """Raise UsageError for a shaping that takes one advantage per answer after a piece that gives one per token."""
    per_token = next((piece for piece in pieces.advantage if piece.per_token), None)
    for piece in pieces.shaping:
        if piece.per_answer and per_token is not None:
            raise UsageError(
                f"the shaping piece {piece.name!r} takes one advantage for each answer, but the {per_token.slot} piece "
                f"{per_token.name!r} before it gives one for each token: leave one of them out, or put it first"
            )
        per_token = piece if piece.per_token else per_token


def _check_batch(pieces: PieceSet, config: TextConfig) -> None:
    """Raise UsageError for a batch of too few prompts or answers for a piece, or for its minibatches."""
    relative = [piece for piece in pieces.all if piece.needs_group]
    if config.group_size < 2 and relative:
        raise UsageError(
            f"the {relative[0].slot} piece {relative[0].name!r} compares answers to one prompt, but "
            f"group_size={config.group_size}: "
            "give --group-size 2 or more, or an advantage without groups (batch_center, greedy_baseline, gae)"
        )
    for piece in pieces.all:
        if piece.least_prompts > config.prompts_per_step:
            raise UsageError(
                f"the {piece.slot} piece {piece.name!r} needs {piece.least_prompts} prompts in a batch: give "
                f"--prompts-per-step {piece.least_prompts} or more, not {config.prompts_per_step}"
            )
    if config.minibatches > config.prompts_per_step:
        raise UsageError(
            f"--minibatches {config.minibatches}: a batch of {config.prompts_per_step} prompts has at most as many "
            "parts of whole groups; give fewer, or more --prompts-per-step"
        )


COMPONENT_BOUNDS = dict.fromkeys(("exact", "math", "partial", "format"), (0.0, 1.0)) | dict.fromkeys(
    ("overlong", "length"), (-1.0, 0.0)
)
"""Smallest and largest score of the rewards that have bounds, by name."""


def check_reward_bounds(pieces: PieceSet, components: Iterable[tuple[float, str]]) -> None:
    """Check that the reward lies within the bounds of every piece that has some, where its own bounds are known.

    Args:
        pieces: the method.
        components: weight and name of each component of the reward.

    Raises:
        UsageError: with the bounds of the reward and the options to set.
    """
    components = list(components)
    known = [(weight, *COMPONENT_BOUNDS[name]) for weight, name in components if name in COMPONENT_BOUNDS]
    for piece in pieces.all:
        if not piece.bounded or not known or (piece.bounded == "reward" and len(known) < len(components)):
            continue
        if piece.bounded == "scores":
            low, high = min(low for _, low, _ in known), max(high for _, _, high in known)
        else:
            low = sum(min(weight * low, weight * high) for weight, low, high in known)
            high = sum(max(weight * low, weight * high) for weight, low, high in known)
        if low < piece.settings["low"] or high > piece.settings["high"]:
            raise UsageError(
                f"the {piece.slot} piece {piece.name!r} takes rewards from {piece.settings['low']:g} to "
                f"{piece.settings['high']:g}, but this reward goes from {low:g} to {high:g}: write "
                f"{piece.name}:low={low:g},high={high:g}"
            )
