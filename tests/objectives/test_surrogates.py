import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilotage.objectives.aggregation import seq_mean_token_mean, seq_mean_token_sum, weighted_sum
from pilotage.objectives.surrogates import cispo, clip, clipped, gspo, importance_weight, ratio, reinforce

LEVELS = ["token", "sequence", "trajectory"]


def batch(seed=0, rows=4, width=6, distance=0.3):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, width + 1, (rows, 1), generator=generator)
    mask = torch.arange(width) < lengths
    logp = -torch.rand(rows, width, generator=generator, dtype=torch.float64) * 3
    old = logp + distance * torch.randn(rows, width, generator=generator, dtype=torch.float64)
    advantage = torch.randn(rows, generator=generator, dtype=torch.float64)
    return logp.requires_grad_(), old, advantage, mask


def gradient(loss, logp):
    return torch.autograd.grad(loss, logp, retain_graph=True)[0]


@given(st.integers(0, 1000))
def test_with_unchanged_weights_all_have_the_gradient_of_reinforce(seed):
    logp, _, advantage, mask = batch(seed)
    expected = gradient(reinforce(logp, advantage, mask).sum(), logp)
    torch.testing.assert_close(expected, torch.where(mask, -advantage[:, None], 0))
    columns = (logp, logp.detach(), advantage, mask)
    losses = [clip(*columns, level=level) for level in LEVELS]
    losses += [gspo(*columns), cispo(*columns), clip(*columns, dual=3.0), clip(*columns, delta=2.0)]
    for loss in losses:
        torch.testing.assert_close(gradient(loss.sum(), logp), expected)


def slow_clip(rho, advantage, low, high, dual):
    bounded = min(max(rho, 1 - low), 1 + high)
    loss = max(-rho * advantage, -bounded * advantage)
    return min(loss, -dual * advantage) if dual is not None and advantage < 0 else loss


@given(st.floats(0.05, 20), st.floats(-2, 2), st.floats(0.05, 0.5), st.floats(0.05, 0.5), st.sampled_from([None, 3.0]))
def test_the_clip_equals_its_definition(rho, advantage, low, high, dual):
    logp, mask = torch.tensor([[rho]], dtype=torch.float64).log(), torch.tensor([[True]])
    advantage_row = torch.tensor([advantage], dtype=torch.float64)
    loss = clip(logp, torch.zeros_like(logp), advantage_row, mask, low=low, high=high, dual=dual)
    assert loss.item() == pytest.approx(slow_clip(rho, advantage, low, high, dual), rel=1e-9, abs=1e-12)


@given(st.integers(0, 1000))
def test_clipped_tokens_are_those_without_a_gradient(seed):
    logp, old, advantage, mask = batch(seed, distance=0.5)
    slope = gradient(clip(logp, old, advantage, mask).sum(), logp)
    assert torch.equal(clipped(logp, old, advantage, mask), mask & (slope == 0))


def test_delta_bounds_the_ratio_of_bad_answers():
    logp, mask = torch.tensor([[2.0]], requires_grad=True), torch.tensor([[True]])
    columns = (logp, torch.zeros(1, 1), torch.tensor([-1.0]), mask)
    assert clip(*columns).item() == pytest.approx(torch.tensor(2.0).exp().item())
    bounded = clip(*columns, delta=4.0)
    assert bounded.item() == 4.0
    assert gradient(bounded.sum(), logp).item() == 0


@given(st.integers(0, 1000))
def test_sequence_and_token_ratio_agree_on_answers_of_one_token(seed):
    logp, old, advantage, mask = batch(seed, width=1)
    losses = [clip(logp, old, advantage, mask, level=level) for level in LEVELS]
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0])
        torch.testing.assert_close(gradient(loss.sum(), logp), gradient(losses[0].sum(), logp))


@pytest.mark.parametrize("level", ["sequence", "trajectory"])
@given(seed=st.integers(0, 1000))
def test_token_gradients_add_up_to_that_of_the_sequence_form(level, seed):
    logp, old, advantage, mask = batch(seed)
    difference = torch.where(mask, logp - old, 0).sum(-1)
    s = (difference / mask.sum(-1) if level == "sequence" else difference).exp()
    direct = -torch.minimum(s * advantage, s.clamp(0.8, 1.2) * advantage).mean()
    aggregation = seq_mean_token_mean if level == "sequence" else seq_mean_token_sum
    coefficients = aggregation(mask, dtype=torch.float64)
    ours = weighted_sum(clip(logp, old, advantage, mask, level=level), coefficients)
    torch.testing.assert_close(ours, direct)
    torch.testing.assert_close(gradient(ours, logp), gradient(direct, logp))


def test_a_ratio_spans_its_level():
    logp, old = torch.tensor([[0.1, 0.3, 9.0]]), torch.tensor([[0.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, False]])
    for level, exponents in {"token": [0.1, 0.3], "sequence": [0.2, 0.2], "trajectory": [0.4, 0.4]}.items():
        expected = torch.tensor([[*exponents, 0.0]]).exp()
        torch.testing.assert_close(ratio(logp, old, mask, level=level), expected)
    with pytest.raises(ValueError, match="'token', 'sequence' or 'trajectory'"):
        ratio(logp, old, mask, level="word")


def test_cispo_keeps_a_bounded_gradient_for_every_token():
    logp, old = torch.tensor([[2.0, -2.0]], requires_grad=True), torch.zeros(1, 2)
    loss = cispo(logp, old, torch.tensor([1.5]), torch.ones(1, 2, dtype=torch.bool), high=3.0)
    slope = gradient(loss.sum(), logp)
    torch.testing.assert_close(slope, torch.tensor([[-4.5, -1.5 * torch.tensor(-2.0).exp().item()]]))


def test_importance_weights_are_capped_and_carry_no_gradient():
    old = torch.tensor([[1.0, 0.5, torch.nan]], requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    weight = importance_weight(old, torch.tensor([[0.0, 0.6, torch.nan]]), mask, cap=2.0)
    assert not weight.requires_grad
    torch.testing.assert_close(weight, torch.tensor([[2.0, torch.tensor(-0.1).exp().item(), 0]]))


def test_gspo_has_the_narrow_bounds_of_its_paper():
    logp, old, advantage, mask = batch()
    expected = clip(logp, old, advantage, mask, low=3e-4, high=4e-4, level="sequence")
    assert torch.equal(gspo(logp, old, advantage, mask), expected)


def test_a_dual_clip_below_one_is_refused():
    logp, old, advantage, mask = batch()
    with pytest.raises(ValueError, match="above 1"):
        clip(logp, old, advantage, mask, dual=1.0)


def test_advantages_may_differ_by_token():
    logp, old, advantage, mask = batch()
    spread = torch.where(mask, advantage[:, None], torch.nan)
    assert torch.equal(clip(logp, old, spread, mask), clip(logp, old, advantage, mask))
