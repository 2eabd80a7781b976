"""What the resolver accepts runs: every option of every piece with good and bad values, and every pair of pieces."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest
import torch
from tests.properties.batches import OPTIONS, choices, context, random_rollouts

from pilotage.core.errors import UsageError
from pilotage.core.pieces import load_piece, piece_options
from pilotage.core.registry import find_pieces
from pilotage.training.language.config import Method, TextConfig
from pilotage.training.language.credit import apply_filter, assign_credit, columns_of
from pilotage.training.language.piece_set import PieceSet, check_reward_bounds, make_piece_set, sampler_term
from pilotage.training.language.update import coefficients, token_losses

SLOTS = [field.name for field in fields(PieceSet)]
VALUES = ["nan", "inf", "-inf", "-1", "0", "0.5", "1", "3", "1e30", "-1e30", "1000000000", "a_word", "none", "true"]
SET = {
    "low": "high=2e30,",  # -1e30 lies below it
    "alpha": "beta=0.9,",
    "beta": "alpha=0.1,",
}
"""Options without which another one is refused whatever its value is."""
GIVEN = ("size", "seed")
"""Arguments of a sampler that are not the user's."""


def options_of(slot: str, name: str) -> list[str]:
    return [key for key in piece_options(load_piece(slot, name)) if slot != "sampler" or key not in GIVEN]


def with_option(slot: str, name: str, key: str, value: str) -> str:
    others = [one for one in OPTIONS.get(name, "").lstrip(":").split(",") if one and not one.startswith(f"{key}=")]
    known = options_of(slot, name)
    others += [one for one in SET.get(key, "").split(",") if one and one.partition("=")[0] in known]
    return f"{name}:" + ",".join([*others, f"{key}={value}"])


def step(config: TextConfig) -> bool:
    """Do one step on made-up answers; return whether the configuration was accepted."""
    try:
        pieces = make_piece_set(config)
        check_reward_bounds(pieces, [(1.0, "exact")])
    except UsageError:
        return False
    rollouts = random_rollouts(groups=4, answers=3, width=5, vocabulary=6, dtype=torch.float32)
    kept = apply_filter(pieces, rollouts, context())
    assert kept.dtype == torch.bool
    assign_credit(pieces, rollouts, context())
    rows = torch.arange(len(rollouts))
    logp = rollouts.column("logp_old").clone().requires_grad_()
    entropy = rollouts.column("entropy").clone().requires_grad_()
    losses, _ = token_losses(pieces, rollouts, rows, rollouts.mask.shape[1], logp, entropy, on_policy=False)
    loss = (losses * coefficients(pieces.aggregate[0], rollouts, rows)).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert logp.grad is not None
    assert torch.isfinite(logp.grad).all()
    for piece in pieces.all:
        piece.update(columns_of(rollouts, context())[0])
    return True


def fields_with(slot: str, choice: str) -> dict[str, object]:
    return {slot: choice, **({"refill_rounds": 0} if slot == "filter" else {})}


def every_option() -> Iterator[tuple[str, str, str]]:
    for slot in [*SLOTS, "sampler"]:
        for name in find_pieces(slot):
            yield from ((slot, name, key) for key in options_of(slot, name))


@pytest.mark.parametrize(("slot", "name", "key"), list(every_option()))
def test_an_accepted_option_runs_and_numbers_that_are_none_are_refused(slot: str, name: str, key: str) -> None:
    for value in VALUES:
        choice = with_option(slot, name, key, value)
        if slot == "sampler":
            accepted = sample(choice)
        else:
            accepted = step(TextConfig(**fields_with(slot, choice)))
        if not math.isfinite(float(value) if value not in ("a_word", "none", "true") else 0.0):
            assert not accepted, choice


def sample(choice: str) -> bool:
    try:
        sampler, options = sampler_term(choice)
        made = sampler(12, seed=0, **options)
    except UsageError:
        return False
    rows = made.select(4)
    made.update(rows, np.ones(4), np.full(4, 2))
    return True


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(SLOTS, 2)))
def test_every_accepted_pair_of_pieces_runs(first: str, second: str) -> None:
    accepted = [
        step(TextConfig(**fields_with(first, one), **fields_with(second, other)))
        for one, other in itertools.product(choices(first), choices(second))
    ]
    assert any(accepted)


def test_mixtures_and_chains_of_two_pieces_run() -> None:
    for slot, joined in (("advantage", "0.5*{}+0.5*{}"), ("shaping", "{} then {}"), ("weights", "{} then {}")):
        accepted = [
            step(TextConfig(**fields_with(slot, joined.format(*pair))))
            for pair in itertools.product(choices(slot), repeat=2)
        ]
        assert any(accepted)


def test_every_slot_of_a_method_is_walked() -> None:
    slots = {field.name for field in fields(Method)} - {"refill_rounds"}
    assert slots == {*SLOTS, "sampler"}
    assert all(inspect.signature(load_piece(slot, name)) for slot in slots for name in find_pieces(slot))
