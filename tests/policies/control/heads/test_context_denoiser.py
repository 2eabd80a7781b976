"""The context of executed actions: what is held when acting, what is asked for in training, and what leaks nothing."""

import numpy as np
import pytest
import torch
from toys import affine, generator

from pilotage.core.errors import UsageError
from pilotage.networks.gpt import GPT
from pilotage.objectives.levels import SCHEDULES
from pilotage.objectives.noise_paths import Karras
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.encoders import FlattenEncoder
from pilotage.policies.control.execution.executors import RecedingHorizon
from pilotage.policies.control.heads.context_denoiser import ContextDenoiser, executed_context, last_actions
from pilotage.policies.control.policy import ActionPolicy
from pilotage.policies.control.sampling.guidance import BestOf

WINDOW = 4


def head(seed=0, **options):
    torch.manual_seed(seed)
    net = GPT(2, WINDOW, token_dim=3, goal_dim=3, goals=1, width=16, depth=1, heads=2, dropout=0, attention_dropout=0)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return ContextDenoiser(net, Karras(), history=WINDOW - 1, **options)


def condition(rows, seed=0):
    source = generator(seed)
    states, goal = torch.randn(rows, WINDOW, 3, generator=source), torch.randn(rows, 1, 3, generator=source)
    return Condition(states.flatten(1), states, goal)


def policy(goal_weight=1.0, **options):
    made = ActionPolicy(
        FlattenEncoder(3, WINDOW, goal_dim=3),
        head(**options),
        RecedingHorizon(WINDOW, WINDOW, 1),
        {"action": affine(0.5, 0.25)},
        goal_weight=goal_weight,
    )
    made.reset([0])
    return made


def observed(step, goal=1.0):
    return {"state": np.full((1, 3), 0.1 * step), "goal": np.full((1, 3), goal)}


def seen_by(made):
    """Records the chunks that reach the network, divided by the factor of their level: the actions themselves."""
    chunks = []

    def look(_, inputs):
        level = (4 * inputs[1].double()).exp()
        chunks.append(inputs[0] / made.head.path.scalings(level).c_in.to(inputs[0].dtype)[:, None, None])

    made.head.network.register_forward_pre_hook(look)
    return chunks


@pytest.mark.parametrize("goal_weight", [0.0, 1.0, 2.0])
def test_the_network_sees_the_executed_actions_in_all_but_the_newest_place(goal_weight):
    made = policy(goal_weight)
    chunks = seen_by(made)
    executed = []
    for step in range(6):
        chunks.clear()
        action = made.act(observed(step), [0])[0]
        expected = torch.zeros(WINDOW - 1, 2)
        for place, earlier in enumerate(reversed(executed[-(WINDOW - 1) :])):
            expected[-1 - place] = (earlier - 0.25) / 0.5
        assert len(chunks) == (6 if goal_weight == 2 else 3)
        for chunk in chunks:
            torch.testing.assert_close(chunk[0, :-1], expected, rtol=0, atol=1e-5)
        executed.append(action)


def test_a_reset_row_has_no_past():
    once = policy()
    first = once.act(observed(0), [0])
    once.act(observed(1), [0])
    once.reset([0])
    torch.testing.assert_close(once.act(observed(0), [0]), first, rtol=0, atol=0)


def test_without_weight_the_goal_is_ignored_bit_for_bit_and_with_weight_one_it_is_the_plain_model():
    def acts(goal, weight):
        made = policy(weight)
        return torch.cat([made.act(observed(step, goal), [0]) for step in range(4)])

    assert torch.equal(acts(1.0, 0.0), acts(-3.0, 0.0))
    assert not torch.equal(acts(1.0, 1.0), acts(-3.0, 1.0))
    made = policy(1.0)
    made.act(observed(0), [0])
    assert made.calls == {0: 3}


def test_a_row_does_not_depend_on_the_rows_beside_it():
    alone, together = policy(2.0), policy(2.0)
    together.reset([0, 1])
    for step in range(4):
        own = alone.act(observed(step), [0])
        both = {"state": np.stack([np.full(3, 0.1 * step), np.full(3, 9.0)]), "goal": np.array([[1.0] * 3, [2.0] * 3])}
        torch.testing.assert_close(together.act(both, [0, 1])[:1], own, rtol=0, atol=1e-5)


def test_samples_are_within_the_limit():
    wild = torch.full((3, WINDOW, 3), 50.0)
    given = Condition(wild.flatten(1), wild, wild[:, :1])
    assert head().sample(given, generator()).abs().max() <= 1
    assert head(limit=None).sample(given, generator()).abs().max() > 1


@pytest.mark.parametrize("context", ["noised", "clean"])
def test_padding_and_what_follows_it_leaks_nothing_of_the_first_action(context):
    """A window that begins before the episode repeats its first action there; the network must see zeros."""
    made = head(context=context)
    chunk = torch.randn(2, WINDOW, 2, generator=generator(3))
    mask = torch.tensor([[False, False, False, True], [True] * WINDOW])
    seen = []
    made.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for first in (chunk[0, 3], torch.full((2,), float("nan"))):
        chunk[0, :3] = first
        made.loss(chunk, condition(2), generator(5), mask)
    assert torch.equal(seen[0], seen[1])
    clean = head(context="clean")
    clean.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    clean.loss(chunk, condition(2), generator(5), mask)
    assert bool((seen[-1][0, :3] == 0).all())


def test_a_clean_context_is_seen_without_noise_and_only_the_newest_is_asked_for():
    chunk, mask = torch.randn(3, WINDOW, 2, generator=generator(1)), torch.ones(3, WINDOW, dtype=torch.bool)
    losses = {}
    for context in ("noised", "clean"):
        made = head(context=context)
        inputs = []

        def look(_, given, made=made, inputs=inputs):
            inputs.append(given[0] / made.path.scalings((4 * given[1].double()).exp()).c_in.float()[:, None, None])

        made.network.register_forward_pre_hook(look)
        losses[context] = made.loss(chunk, condition(3), generator(2), mask)
        same = (inputs[0] - chunk).abs() < 1e-5
        assert bool(same[:, :-1].all()) is (context == "clean")
        assert not bool(same[:, -1].any())
    changed = chunk.clone()
    changed[:, 0] += 5
    again = head(context="clean").loss(changed, condition(3), generator(2), mask)
    assert not torch.equal(again, losses["clean"])  # the past is seen, though it is not asked for
    made = head(context="clean")
    level = made.path.draw(3, source := generator(2))
    noise = torch.randn(3, WINDOW, 2, generator=source)
    noisy = made.path.mix(chunk, noise, level)
    noisy[:, :-1] = chunk[:, :-1]
    scaling = made.path.scalings(level)
    output = made.network(noisy * scaling.c_in.float()[:, None, None], scaling.c_noise.float(), *condition(3))
    target = made.path.target(chunk, noise, level, "residual")
    torch.testing.assert_close(losses["clean"], (output - target)[:, -1].square().mean(-1), rtol=1e-5, atol=1e-6)


def test_the_least_level_may_be_above_that_of_training():
    made = head(sigma_min=0.1)
    assert made.sampling_levels().tolist() == pytest.approx([1.0, 0.55, 0.1, 0.0])
    made.schedule, made.steps = "karras", 5
    torch.testing.assert_close(made.sampling_levels(), SCHEDULES["karras"](5, 0.1, 1.0))


def test_last_actions_are_right_aligned():
    rows = [[], [torch.ones(2)], [torch.full((2,), float(n)) for n in range(5)]]
    found = last_actions(rows, 3, torch.zeros(2))
    assert found[..., 0].tolist() == [[0, 0, 0], [0, 0, 1], [2, 3, 4]]


def test_it_is_saved_and_loaded(tmp_path):
    made = policy(2.0, context="clean", sigma_min=0.1)
    made.save_pretrained(tmp_path)
    loaded = ActionPolicy.from_pretrained(tmp_path)
    loaded.reset([0])
    for step in range(3):
        torch.testing.assert_close(loaded.act(observed(step), [0]), made.act(observed(step), [0]), rtol=0, atol=0)


def test_what_cannot_be():
    with pytest.raises(UsageError, match="noised or clean"):
        head(context="dirty")
    with pytest.raises(UsageError, match="expected 0 to 3"):
        ContextDenoiser(head().network, Karras(), history=WINDOW)
    with pytest.raises(UsageError, match="nothing to sample"):
        executed_context(torch.zeros(1, WINDOW, 2), WINDOW)
    several = BestOf(head(), count=2, score=lambda chunk, _: chunk.sum((1, 2)))
    made = ActionPolicy(
        FlattenEncoder(3, WINDOW, goal_dim=3), several, RecedingHorizon(WINDOW, WINDOW, 1), {"action": affine()}
    )
    made.reset([0])
    with pytest.raises(UsageError, match="one row each"):
        made.act(observed(0), [0])
