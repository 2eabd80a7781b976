import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilotage.objectives.normalisation import whiten, whiten_rows


@given(st.integers(0, 10_000))
def test_whitened_tokens_have_mean_zero_and_deviation_one(seed):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(5, 7, generator=generator) < 0.6
    mask[0, :2] = True
    advantage = torch.randn(5, 7, generator=generator, dtype=torch.float64) * 3 + 2
    tokens = whiten(torch.where(mask, advantage, torch.nan), mask)
    assert tokens[mask].mean().item() == pytest.approx(0, abs=1e-9)
    assert tokens[mask].std().item() == pytest.approx(1, abs=1e-6)
    assert (tokens[~mask] == 0).all()


def test_every_token_counts_once():
    mask = torch.tensor([[True] * 3, [True, False, False]])
    tokens = torch.tensor([1.0, 1, 1, -1], dtype=torch.float64)
    expected = (tokens - tokens.mean()) / tokens.std()
    result = whiten(torch.tensor([1.0, -1.0], dtype=torch.float64), mask)
    torch.testing.assert_close(result[mask], expected, rtol=1e-7, atol=1e-7)
    uncentred = whiten(torch.tensor([1.0, -1.0], dtype=torch.float64), mask, center=False)
    torch.testing.assert_close(uncentred[mask], tokens / tokens.std(), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [1, 3])
def test_equal_advantages_give_exactly_zero(rows, dtype):
    advantage = torch.full((rows,), 0.1, dtype=dtype)
    assert (whiten(advantage, torch.ones(rows, 3, dtype=torch.bool)) == 0).all()
    assert (whiten_rows(advantage) == 0).all()


def test_an_empty_batch_gives_zero():
    assert (whiten(torch.full((2, 3), torch.nan), torch.zeros(2, 3, dtype=torch.bool)) == 0).all()


def test_rows_count_once_each():
    advantage = torch.tensor([1.0, 2, 6], dtype=torch.float64)
    torch.testing.assert_close(whiten_rows(advantage, epsilon=0.5), (advantage - 3) / (advantage.std() + 0.5))
