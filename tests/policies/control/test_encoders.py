import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import generator

from pilotage.core.errors import UsageError
from pilotage.policies.control.encoders import (
    FlattenEncoder,
    ImageEncoder,
    MLPEncoder,
    RecurrentEncoder,
    drop_goal,
    without_goal,
)

B, TO, S, G = 3, 2, 4, 2
OBSERVATIONS = {
    "state": torch.randn(B, TO, S, generator=generator()),
    "goal": torch.randn(B, G, generator=generator(1)),
    "image/top": torch.rand(B, TO, 3, 64, 64, generator=generator(2)),
    "image/hand": torch.rand(B, TO, 3, 64, 48, generator=generator(3)),
}
ENCODERS = {
    "flatten": lambda **k: FlattenEncoder(S, TO, goal_dim=G, **k),
    "mlp": lambda **k: MLPEncoder(S, TO, width=16, goal_dim=G, **k),
    "recurrent": lambda **k: RecurrentEncoder(S, TO, width=16, goal_dim=G, **k),
    "image": lambda **k: ImageEncoder(
        ["top", "hand"], S, TO, features=8, keypoints=4, widths=(16, 16, 16, 16), goal_dim=G, **k
    ),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_the_sizes_are_those_that_it_states(name):
    encoder = ENCODERS[name]()
    condition = encoder(OBSERVATIONS)
    assert condition.vector.shape == (B, encoder.vector_dim)
    assert condition.tokens.shape == (B, TO, encoder.token_dim)
    assert condition.goal.shape == (B, 1, G)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_vector_depends_on_every_observation_it_is_made_for(name):
    encoder = ENCODERS[name]()
    before = encoder(OBSERVATIONS).vector
    keys = ["state", "goal"] + (["image/top", "image/hand"] if name == "image" else [])
    for key in keys:
        other = OBSERVATIONS | {key: OBSERVATIONS[key].flip(0)}
        assert (encoder(other).vector - before).abs().max() > 1e-6
    torch.testing.assert_close(encoder({k: v[1:2] for k, v in OBSERVATIONS.items()}).vector, before[1:2])


def test_flatten_is_the_window_and_the_goal():
    condition = ENCODERS["flatten"]()(OBSERVATIONS)
    assert torch.equal(condition.vector, torch.cat([OBSERVATIONS["state"].flatten(1), OBSERVATIONS["goal"]], 1))
    assert torch.equal(condition.tokens, OBSERVATIONS["state"])
    assert FlattenEncoder(S, 5)({"state": OBSERVATIONS["state"]}).tokens.shape == (B, TO, S)


@given(probability=st.floats(0, 1), seed=st.integers(0, 50))
def test_dropped_goals_are_zero_by_element_or_whole(probability, seed):
    goal = torch.ones(50, 2, 3)
    for kind in ("element", "whole"):
        dropped = drop_goal(goal, generator(seed), probability=probability, kind=kind)
        assert set(dropped.unique().tolist()) <= {0.0, 1.0}
        if kind == "whole":
            assert (dropped.amax((1, 2)) == dropped.amin((1, 2))).all()


@pytest.mark.parametrize("kind", ["element", "whole"])
def test_goals_are_dropped_as_often_as_asked_and_in_training_only(kind):
    encoder = FlattenEncoder(1, 1, goal_dim=3, goals=2, goal_dropout=0.3, dropout_kind=kind)
    observations = {"state": torch.zeros(4000, 1, 1), "goal": torch.ones(4000, 2, 3)}
    goal = encoder(observations, generator()).goal
    assert (goal == 0).float().mean().item() == pytest.approx(0.3, abs=0.03)
    mixed = ((goal == 0).any(2).any(1) & (goal != 0).any(2).any(1)).float().mean()
    assert mixed > 0.5 if kind == "element" else mixed == 0
    with pytest.raises(UsageError, match="give the encoder a generator"):
        encoder(observations)
    assert (encoder.eval()(observations).goal == 1).all()


def test_without_goal_nothing_of_the_goal_is_left():
    free = without_goal(OBSERVATIONS)
    assert (free["goal"] == 0).all()
    assert torch.equal(free["state"], OBSERVATIONS["state"])
    assert (OBSERVATIONS["goal"] != 0).any()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": None}, "no observation called 'state'"),
        ({"state": torch.zeros(B, TO, S + 1)}, r"expected \[batch, 2, 4\]"),
        ({"goal": torch.zeros(B, 1, G + 1)}, r"expected \[batch, 1, 2\]"),
        ({"goal": None}, "no observation called 'goal'"),
    ],
)
def test_observations_that_do_not_fit_are_refused(change, said):
    observations = {k: v for k, v in (OBSERVATIONS | change).items() if v is not None}
    with pytest.raises(UsageError, match=said):
        ENCODERS["flatten"]()(observations)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(UsageError, match="probability"):
        FlattenEncoder(1, 1, goal_dropout=1.5)
    with pytest.raises(UsageError, match="at least one camera"):
        ImageEncoder([], 1, 1)
    with pytest.raises(UsageError, match="no observation called 'image/top'"):
        ENCODERS["image"]()({"state": OBSERVATIONS["state"], "goal": OBSERVATIONS["goal"]})
    with pytest.raises(UsageError, match="choose element or whole"):
        drop_goal(torch.ones(1, 1, 1), generator(), probability=0.5, kind="row")


def test_a_causal_encoders_token_knows_the_frames_up_to_its_own():
    from pilotage.policies.control.causal_encoder import CausalEncoder

    torch.manual_seed(0)
    encoder = CausalEncoder(3, 4, width=16, depth=2, heads=2).eval()
    state = torch.randn(2, 4, 3)
    later = state.clone()
    later[:, 2] += 1
    before, after = (encoder({"state": value}).tokens for value in (state, later))
    torch.testing.assert_close(before[:, :2], after[:, :2])
    assert ((before - after)[:, 2:].abs().amax(-1) > 1e-4).all()
    torch.testing.assert_close(encoder({"state": state}).vector, before[:, -1])
    with pytest.raises(UsageError, match="multiple"):
        CausalEncoder(3, 4, width=15, heads=2)
