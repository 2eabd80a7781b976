"""Policies that plan first: plans are kept, actions are decoded from what is seen now, both ways are found."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from toys import affine, generator

from pilotage.core.errors import UsageError
from pilotage.networks.residual_mlp import ResidualMLP
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.encoders import FlattenEncoder
from pilotage.policies.control.heads.plans import HeldPlan, LatentPlans, RelayGoals
from pilotage.policies.control.policy import ActionPolicy

FRAMES, STATE = 4, 2


def mlp(vector, outputs, *, actions=1, horizon=1):
    return ResidualMLP(actions, horizon, vector, width=48, depth=2, outputs=outputs, takes_level=False)


def latent_plans(*, goal=0, latent=2, **options):
    torch.manual_seed(0)
    networks = (
        mlp(STATE + goal + latent, 1),
        mlp(STATE + goal, 2 * latent),
        mlp(FRAMES * STATE, 2 * latent, horizon=FRAMES),
    )
    return LatentPlans(*networks, horizon=FRAMES, latent=latent, **options)


def relay(*, goal=0):
    torch.manual_seed(0)
    return RelayGoals(mlp(2 * STATE, 1), mlp(STATE + goal, STATE), horizon=FRAMES)


HEADS = {"latent plans": latent_plans, "relay": relay}


def situation(states, goal=None):
    return Condition(states.flatten(1), states, goal)


def policy(head, *, steps=3, seed=0):
    return ActionPolicy(
        FlattenEncoder(STATE, FRAMES),
        head,
        HeldPlan(FRAMES, FRAMES, steps),
        {"state": affine(2.0), "action": affine(10.0)},
        seed=seed,
    )


def seen(rows, step):
    return np.array([[np.sin(3 * row + step), 0.1 * step - row] for row in rows])


def learnt(head, chunks, states, steps=400):
    optimiser, g = torch.optim.Adam(head.parameters(), lr=3e-3), generator(1)
    real = torch.ones(chunks.shape[:2], dtype=torch.bool)
    for _ in range(steps):
        optimiser.zero_grad()
        head.loss(chunks, situation(states), g, real).mean().backward()
        optimiser.step()
    return head.eval()


def test_a_plan_keeps_to_one_of_two_ways_where_regression_would_take_the_mean():
    """From the same state whole windows go up or down; a plan must settle which, for all of its actions."""
    way = torch.tensor([1.0, -1.0]).repeat(32)
    states = torch.zeros(64, FRAMES, STATE)
    states[:, :, 0] = torch.linspace(0, 1, FRAMES)
    head = learnt(latent_plans(divergence_weight=0.01), way[:, None, None].expand(-1, FRAMES, 1), states)
    with torch.no_grad():
        drawn = head.sample(situation(states[:1].expand(400, -1, -1)), generator(2))[..., 0]
    decided = drawn.abs().min(1).values > 0.7
    kept = (drawn.sign() == drawn[:, :1].sign()).all(1)
    up = (drawn[:, 0] > 0).double().mean()
    assert decided.double().mean() > 0.8
    assert kept.double().mean() > 0.95
    assert 0.3 < up < 0.7


def test_the_divergence_is_that_of_two_normals():
    head = latent_plans(divergence_weight=1.0).double()
    chunk, states = torch.randn(5, FRAMES, 1).double(), torch.randn(5, FRAMES, STATE).double()
    real = torch.ones(5, FRAMES, dtype=torch.bool)
    with torch.no_grad():
        total = head.loss(chunk, situation(states), generator(), real)
        head.divergence_weight = 0.0
        divergence = total - head.loss(chunk, situation(states), generator(), real)
        mean, log_std = head.posterior(chunk, chunk[:, 0, 0], states.flatten(1)).mean(1).chunk(2, -1)
        empty = torch.zeros(5, 1, 1).double()
        other, log_other = head.prior(empty, empty[:, 0, 0], states[:, 0])[:, 0].chunk(2, -1)
    ratio = ((log_std - log_other) * 2).exp()
    expected = (0.5 * (ratio + (mean - other) ** 2 / (2 * log_other).exp() - 1) - log_std + log_other).sum(-1)
    assert torch.allclose(divergence, expected, atol=1e-10)


def test_a_subgoal_is_reached_for():
    """The action is how far the state moves in a step, so the way to a later state tells the action."""
    speed = torch.linspace(-1, 1, 64)
    states = torch.zeros(64, FRAMES, STATE)
    states[:, :, 0] = speed[:, None] * torch.arange(FRAMES) / FRAMES
    states[:, :, 1] = speed[:, None]
    head = learnt(relay(), speed[:, None, None].expand(-1, FRAMES, 1), states)
    with torch.no_grad():
        subgoal = head.plan(situation(states[:, :1].expand(-1, FRAMES, -1)), generator())
        action = head.decode_action(subgoal, situation(states[:, :1].expand(-1, FRAMES, -1)))
    assert (subgoal - states[:, -1]).abs().max() < 0.1
    assert (action[:, 0] - speed).abs().max() < 0.15


def test_the_lower_level_of_a_relay_learns_from_every_later_frame_and_no_earlier_one():
    """The subgoals of a window whose frames are numbered are told apart by their number."""
    told = []

    class Listening(ResidualMLP):
        def forward(self, x, level, vector, tokens=None, goal=None):
            told.append(vector)
            return super().forward(x, level, vector, tokens, goal)

    head = relay()
    head.network = Listening(1, 1, 2 * STATE, width=8, depth=1, outputs=1, takes_level=False)
    states = torch.arange(FRAMES).float()[None, :, None].expand(500, -1, STATE).contiguous()
    head.loss(torch.zeros(500, FRAMES, 1), situation(states), generator(), torch.ones(500, FRAMES, dtype=torch.bool))
    pairs = {(int(vector[0]), int(vector[STATE])) for vector in told[0]}
    assert pairs == {(here, later) for here in range(FRAMES - 1) for later in range(here + 1, FRAMES)}
    of_first = told[0][told[0][:, 0] == 0][:, STATE]
    assert min((of_first == later).sum() for later in range(1, FRAMES)) > 120  # of 500, drawn evenly


@pytest.mark.parametrize("name", HEADS)
def test_what_stands_in_the_padding_changes_no_loss_and_no_gradient(name):
    found = []
    for padding in (0.0, float("nan")):
        head = HEADS[name]()
        chunk, real = torch.linspace(-1, 1, 2 * FRAMES).view(2, FRAMES, 1).clone(), torch.ones(2, FRAMES).bool()
        chunk[1, :2], real[1, :2] = padding, False
        states = torch.linspace(0, 1, 2 * FRAMES * STATE).view(2, FRAMES, STATE)
        loss = head.loss(chunk, situation(states), generator(), real)
        loss.sum().backward()
        found.append([loss.detach(), *(p.grad for p in head.parameters())])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_no_subgoal_lies_in_the_padding():
    """What a relay learns from a window of two real frames does not depend on the frames after them."""
    losses, chunk = [], torch.linspace(-1, 1, 2 * FRAMES).view(2, FRAMES, 1)
    real = torch.tensor([[True, True, False, False], [False, True, True, True]])
    for outside in (0.0, 9.0):
        states = torch.linspace(0, 1, 2 * FRAMES * STATE).view(2, FRAMES, STATE).clone()
        states[~real] = outside
        losses.append(relay().loss(chunk, situation(states), generator(), real).detach())
    assert torch.equal(*losses)


@pytest.mark.parametrize("name", HEADS)
def test_a_plan_is_made_now_and_then_and_actions_see_the_present(name):
    made = policy(HEADS[name]())
    made.reset([0])
    plans = []
    for step in range(7):
        made.act(seen([0], step), [0])
        plans.append(made.executor._chunks[0])
    assert [torch.equal(before, after) for before, after in pairwise(plans)] == [
        *(True, True, False),
        *(True, True, False),
    ]
    assert made.decisions == 3
    assert made.calls[0] == 7 + 3  # an action each, and the plans
    states = [torch.tensor(seen([0], step)[0] / 2, dtype=torch.float32) for step in range(7)]
    window = torch.stack(states[3:])[None]
    with torch.no_grad():
        expected = made.head.decode_action(plans[-1][None], situation(window))
    made.reset([0])
    actions = [made.act(seen([0], step), [0]) for step in range(7)]
    assert torch.allclose(actions[-1], expected * 10, atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_rows_do_not_depend_on_each_other(name):
    def acted(rows):
        made = policy(HEADS[name]())
        made.reset(rows)
        return {
            row: value for step in range(5) for row, value in zip(rows, made.act(seen(rows, step), rows), strict=True)
        }

    alone, together = acted([1]), acted([0, 1, 2])
    assert torch.allclose(alone[1], together[1], atol=1e-6)


@pytest.mark.parametrize("name", HEADS)
def test_a_saved_policy_plans_again_when_it_is_loaded(name, tmp_path):
    made = policy(HEADS[name](), steps=2)
    made.save_pretrained(tmp_path)
    loaded = ActionPolicy.from_pretrained(tmp_path)
    for each in (made, loaded):
        each.reset([0, 1], [5, 6])
    for step in range(5):
        assert torch.equal(made.act(seen([0, 1], step), [0, 1]), loaded.act(seen([0, 1], step), [0, 1]))


@pytest.mark.parametrize("name", HEADS)
def test_a_window_is_acted_out_under_one_plan_as_step_by_step(name):
    head = HEADS[name]().eval()
    states = torch.randn(3, FRAMES, STATE, generator=generator(4))
    with torch.no_grad():
        chunk = head.sample(situation(states), generator(5))
        plan = head.plan(situation(states[:, :1]), generator(5))
        for frame in range(FRAMES):
            here = situation(states[:, : frame + 1])
            assert torch.allclose(chunk[:, frame], head.decode_action(plan, here), atol=1e-6)


def test_the_goal_decides_what_is_planned():
    head, state = latent_plans(goal=2).eval(), torch.zeros(2, FRAMES, STATE)
    goal = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    one, other = head.plan(situation(state, goal), [generator(), generator()])
    assert not torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RelayGoals(mlp(4, 1, horizon=FRAMES), mlp(2, 2), horizon=7), f"horizon=1, not {FRAMES}"),
        (lambda: RelayGoals(mlp(4, 1), mlp(2, 2), horizon=1), "one frame ahead"),
        (lambda: LatentPlans(mlp(4, 1), mlp(2, 3), mlp(8, 4, horizon=4), horizon=4, latent=2), "needs 4 outputs"),
        (lambda: latent_plans().plan(Condition(torch.zeros(1, 2)), generator()), "token"),
        (lambda: latent_plans().sample(situation(torch.zeros(1, 3, STATE)), generator()), "batch, 4"),
        (lambda: latent_plans().sample(situation(torch.zeros(1, 4, STATE)), generator(), start=object()), "warm start"),
        (lambda: HeldPlan(1, 1, 0), "at least 1"),
        (lambda: HeldPlan(1, 1).next([0]), "has no plan"),
    ],
)
def test_what_cannot_work_is_refused(make, words):
    with pytest.raises(UsageError, match=words):
        make()
