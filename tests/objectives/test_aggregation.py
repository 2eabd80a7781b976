from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilotage.objectives import aggregation
from pilotage.objectives.aggregation import weighted_sum

MODES = {
    "token_mean": aggregation.token_mean,
    "seq_mean_token_mean": aggregation.seq_mean_token_mean,
    "seq_mean_token_sum": aggregation.seq_mean_token_sum,
    "const_norm": partial(aggregation.const_norm, maximum=4),
    "token_sum_norm": aggregation.token_sum_norm,
}
LOSS = torch.tensor([[1.0, 1, torch.nan, torch.nan], [2, 2, 2, 2]])
REFERENCE = {"token_mean": 10 / 6, "seq_mean_token_mean": 1.5, "seq_mean_token_sum": 5, "const_norm": 1.25}


@pytest.mark.parametrize("mode", REFERENCE)
def test_reference_values(mode):
    assert weighted_sum(LOSS, MODES[mode](~LOSS.isnan())).item() == pytest.approx(REFERENCE[mode])


def test_token_sum_norm_weighs_a_sequence_loss_by_its_length():
    assert weighted_sum(LOSS, MODES["token_sum_norm"](~LOSS.isnan())).item() == pytest.approx((1 * 2 + 2 * 4) / 2)


def test_empty_answers_count_only_where_the_mode_says():
    mask = torch.tensor([[True, True], [False, False]])
    loss = torch.where(mask, 3.0, torch.nan)
    values = {name: weighted_sum(loss, mode(mask)).item() for name, mode in MODES.items()}
    assert values == pytest.approx(
        {"token_mean": 3, "seq_mean_token_mean": 3, "seq_mean_token_sum": 6, "const_norm": 0.75, "token_sum_norm": 3}
    )


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_a_batch_without_tokens_gives_zero(mode):
    mask = torch.zeros(3, 2, dtype=torch.bool)
    assert weighted_sum(torch.full((3, 2), torch.nan), mode(mask)).item() == 0


@given(st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_token_and_sequence_means_agree_on_equal_lengths(rows, length, seed):
    loss = torch.rand(rows, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mask = (torch.arange(6) < length).expand(rows, 6)
    values = [
        weighted_sum(loss, mode(mask, dtype=torch.float64))
        for mode in (aggregation.token_mean, aggregation.seq_mean_token_mean)
    ]
    torch.testing.assert_close(*values, rtol=1e-12, atol=0)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("size", [1, 2, 4, 7])
def test_micro_batches_add_up_to_the_whole(mode, size):
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(5) < torch.randint(0, 6, (7, 1), generator=generator)
    logits = torch.randn(7, 5, generator=generator, dtype=torch.float64).requires_grad_()
    coefficients = mode(mask, dtype=torch.float64)
    whole = torch.autograd.grad(weighted_sum(logits.sin(), coefficients), logits)[0]
    order = torch.randperm(7, generator=generator)
    for rows in order.split(size):
        weighted_sum(logits[rows].sin(), coefficients[rows]).backward()
    torch.testing.assert_close(logits.grad, whole, rtol=1e-12, atol=0)


def test_const_norm_needs_a_limit():
    with pytest.raises(ValueError, match="token limit"):
        aggregation.const_norm(torch.ones(1, 1, dtype=torch.bool), maximum=0)
