"""A method's slots are resolved before anything runs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pilotage.core.errors import UsageError
from pilotage.systems.reasoning import baselines, bnpo, gtpo, riskpo, vade
from pilotage.training.language.config import TextConfig
from pilotage.training.language.piece_set import make_piece_set

SYSTEMS = [*baselines.SYSTEMS, gtpo.SYSTEM, bnpo.SYSTEM, riskpo.SYSTEM, vade.SYSTEM]


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_every_system_resolves(system):
    assert make_piece_set(system.config).pieces


@pytest.mark.parametrize("advantage", ["zscore", "bnpo", "center", "0.5*zscore+0.5*bnpo", "leave_one_out"])
@pytest.mark.parametrize("surrogate", ["clip", "reinforce", "gspo", "cispo"])
def test_pieces_of_different_methods_combine(advantage, surrogate):
    pieces = make_piece_set(replace(gtpo.SYSTEM.config, advantage=advantage, surrogate=surrogate))
    assert [piece.name for piece in pieces.weights] == ["conflict"]


def test_one_answer_per_prompt_is_refused_for_a_group_relative_advantage():
    with pytest.raises(UsageError, match="group_size=1"):
        make_piece_set(TextConfig(group_size=1))
    assert make_piece_set(TextConfig(group_size=1, advantage="greedy_baseline"))


def test_dynamic_sampling_under_bundles_is_refused():
    with pytest.raises(UsageError, match="cannot be combined"):
        make_piece_set(replace(riskpo.SYSTEM.config, filter="informative"))


def test_a_refill_without_a_filter_is_refused():
    with pytest.raises(UsageError, match="refill_rounds=3"):
        make_piece_set(TextConfig(refill_rounds=3))


def test_an_empty_slot_that_a_method_needs_is_refused():
    with pytest.raises(UsageError, match="slot surrogate"):
        make_piece_set(TextConfig(surrogate="none"))


def test_two_surrogates_are_refused():
    with pytest.raises(UsageError, match="takes one piece"):
        make_piece_set(TextConfig(surrogate="clip+cispo"))


def test_several_updates_of_an_on_policy_surrogate_are_refused():
    with pytest.raises(UsageError, match="exactly on-policy"):
        make_piece_set(replace(gtpo.SYSTEM.config, minibatches=4))


def test_a_column_missing_in_the_update_is_named():
    def surrogate(logp, teacher):
        return logp * teacher

    with pytest.raises(UsageError, match="'teacher'"):
        make_piece_set(TextConfig(surrogate=surrogate))
