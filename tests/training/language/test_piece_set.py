"""A method's slots are resolved before anything runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.properties.batches import context, random_rollouts

from pilotage.core.configuration import configure
from pilotage.core.errors import UsageError
from pilotage.core.registry import all_systems
from pilotage.systems.reasoning import baselines, bnpo, gtpo, riskpo, vade
from pilotage.training.language.config import TextConfig
from pilotage.training.language.credit import assign_credit
from pilotage.training.language.piece_set import check_reward_bounds, make_piece_set, sampler_term

SYSTEMS = [*baselines.SYSTEMS, gtpo.SYSTEM, bnpo.SYSTEM, riskpo.SYSTEM, vade.SYSTEM]


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_every_system_resolves(system):
    assert make_piece_set(system.config).all


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


@pytest.mark.parametrize(
    ("slots", "named"),
    [
        ({"regulariser": "0.1*kl:kind=k9"}, "kind='k9'"),
        ({"regulariser": "0.1*kl:kind=k1"}, "kind='k1'"),
        ({"surrogate": "clip:dual=0.5"}, "dual=0.5"),
        ({"surrogate": "clip:low=2"}, "low=2"),
        ({"surrogate": "clip:level=answer"}, "level='answer'"),
        ({"advantage": "mvar:alpha=0.01"}, "alpha=0.01"),
        ({"advantage": "mvar:alpha=0.9,beta=0.2"}, "'mvar'.*alpha=0.9"),
        ({"advantage": "mvar:size=1.5"}, "size=1.5"),
        ({"advantage": "bnpo:alpha=2"}, "give both"),
        ({"weights": "importance:cap=-1"}, "cap=-1"),
        ({"shaping": "entropy_shape:threshold=nan"}, "threshold=nan"),
        ({"aggregate": "const_norm:maximum=0"}, "maximum=0"),
        ({"aggregate": "token_mean:dtype=float64"}, "dtype='float64'"),
        ({"advantage": "gae:gae_lambda=1.1"}, "gae_lambda=1.1"),
        ({"advantage": "1e999*zscore"}, "1e999"),
    ],
)
def test_hyper_parameters_outside_their_type_or_range_are_refused(slots, named):
    with pytest.raises(UsageError, match=named):
        make_piece_set(TextConfig(**slots))


@pytest.mark.parametrize(
    ("sampler", "named"),
    [
        ("thompson:mixing=2", "mixing"),
        ("thompson:seed=3", "seed"),
        ("thompson:score=p", "score='p'"),
        ("uniform+uniform", "one piece"),
    ],
)
def test_options_of_the_sampler_are_checked(sampler, named):
    def made():
        kind, options = sampler_term(sampler)
        return kind(10, seed=0, **options)

    with pytest.raises(UsageError, match=named):
        made()


@pytest.mark.parametrize("advantage", ["0.5*mvar:size=2+0.5*mvar:size=3", "0.5*gae+0.5*gae:gae_lambda=0.9"])
def test_two_pieces_that_write_one_column_are_refused(advantage):
    with pytest.raises(UsageError, match="both write the column"):
        make_piece_set(TextConfig(advantage=advantage))


@pytest.mark.parametrize(
    "slots",
    [
        {"advantage": "gae", "shaping": "entropy_shape"},
        {"advantage": "0.5*zscore+0.5*token_return", "shaping": "entropy_shape"},
        {"shaping": "whiten then entropy_shape"},
    ],
)
def test_a_shaping_of_answers_after_advantages_of_tokens_is_refused(slots):
    with pytest.raises(UsageError, match=r"'entropy_shape'.*one advantage for each answer"):
        make_piece_set(TextConfig(**slots))
    assert make_piece_set(TextConfig(shaping="entropy_shape then whiten"))


@pytest.mark.parametrize("advantage", ["bnpo", "bnpo_smoothed", "0.5*zscore+0.5*bnpo_decomposed"])
def test_a_penalty_under_an_advantage_of_bounded_rewards_is_refused(advantage):
    with pytest.raises(UsageError, match=r"bounds.*--regulariser"):
        make_piece_set(TextConfig(advantage=advantage, penalty="kl"))


@pytest.mark.parametrize(
    ("advantage", "components", "remedy"),
    [
        ("bnpo", [(1.0, "exact"), (1.0, "format")], "bnpo:low=0,high=2"),
        ("bnpo", [(1.0, "exact"), (0.5, "overlong")], "bnpo:low=-0.5,high=1"),
        ("bnpo", [(-1.0, "exact")], "bnpo:low=-1,high=0"),
        ("bnpo_decomposed", [(1.0, "exact"), (1.0, "overlong")], "bnpo_decomposed:low=-1,high=1"),
    ],
)
def test_a_reward_outside_the_bounds_of_the_advantage_is_refused_with_its_bounds(advantage, components, remedy):
    with pytest.raises(UsageError, match=remedy):
        check_reward_bounds(make_piece_set(TextConfig(advantage=advantage)), components)
    check_reward_bounds(make_piece_set(TextConfig(advantage=remedy)), components)
    check_reward_bounds(make_piece_set(TextConfig(advantage=advantage)), [(1.0, "exact")])
    check_reward_bounds(make_piece_set(TextConfig(advantage=advantage)), [(3.0, "mine.py:reward")])


@pytest.mark.parametrize(
    ("changes", "named"),
    [({"minibatches": 7}, "--minibatches 7"), ({"advantage": "mvar:size=7"}, "--prompts-per-step 7")],
)
def test_a_batch_of_too_few_prompts_is_refused(changes, named):
    with pytest.raises(UsageError, match=named):
        make_piece_set(TextConfig(prompts_per_step=6, **changes))


@pytest.mark.parametrize("slot", ["advantage", "shaping", "weights"])
def test_a_piece_that_gives_another_shape_is_named(slot):
    def crooked(mask):
        return mask.float().mean(0)

    pieces = make_piece_set(TextConfig(**{slot: crooked}))
    with pytest.raises(UsageError, match=rf"{slot} piece 'crooked' gave \(9,\)"):
        assign_credit(pieces, random_rollouts(), context())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--steps", "-3"], "--steps: given -3"),
        (["--lr", "0"], r"--lr: given 0\.0"),
        (["--lr", "nan"], "--lr: given nan"),
        (["--group-size", "0"], "--group-size"),
        (["--temperature", "0"], "--temperature"),
        (["--failure-limit", "1.5"], "--failure-limit"),
    ],
)
def test_options_outside_their_range_are_refused_by_their_name(options, named):
    with pytest.raises(UsageError, match=named):
        configure(gtpo.SYSTEM, options)


@pytest.mark.parametrize("system", all_systems(), ids=lambda system: system.name)
def test_the_defaults_of_every_system_lie_in_their_ranges(system):
    assert configure(system) == system.config
