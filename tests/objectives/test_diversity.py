import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.objectives.diversity import diversity_loss, expected_size, rule_quality, similarity


def items(*rows):
    return torch.tensor([rows], dtype=torch.float64)


def size(of, quality):
    return expected_size(of, torch.full(of.shape[:2], quality, dtype=of.dtype)).item()


def test_one_item_counts_by_its_quality():
    assert size(items([0.3, 1.0]), 1.0) == pytest.approx(0.5)
    assert size(items([0.3, 1.0]), 3.0) == pytest.approx(9 / 10)


def test_identical_items_count_as_one_and_distant_ones_add_up():
    same, apart = items([0.0, 0.0], [0.0, 0.0]), items([0.0, 0.0], [500.0, 0.0])
    for quality in (1.0, 5.0, 300.0):
        alone = size(items([0.0, 0.0]), quality)
        assert size(apart, quality) == pytest.approx(2 * alone)
        assert size(same, quality) == pytest.approx(size(items([0.0, 0.0]), math.sqrt(2) * quality))
    assert size(same, 300.0) == pytest.approx(1.0, abs=1e-4)
    assert size(apart, 300.0) == pytest.approx(2.0, abs=1e-4)


@given(st.integers(1, 16), st.integers(1, 40), st.integers(0, 2**31), st.floats(0, 100), st.floats(0, 3))
@settings(max_examples=40)
def test_the_size_lies_between_zero_and_the_number_of_items(n, width, seed, quality, scale):
    generator = torch.Generator().manual_seed(seed)
    of = scale * torch.randn(3, n, width, generator=generator)
    value = expected_size(of, quality * torch.rand(3, n, generator=generator))
    assert (value >= -1e-6).all()
    assert (value <= n + 1e-6).all()


def test_the_size_is_the_sum_over_eigenvalues():
    generator = torch.Generator().manual_seed(0)
    of, quality = torch.randn(2, 6, 3, generator=generator).double(), torch.rand(2, 6, generator=generator).double()
    kernel = quality[:, :, None] * similarity(of) * quality[:, None]
    eigenvalues = torch.linalg.eigvalsh(kernel)
    torch.testing.assert_close(expected_size(of, quality), (eigenvalues / (1 + eigenvalues)).sum(-1))


def test_items_that_break_the_rule_do_not_count_and_get_no_gradient():
    of = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    robustness = torch.tensor([[0.5, -0.1, 2.0, 0.0]], requires_grad=True)
    loss = diversity_loss(of, robustness)
    torch.testing.assert_close(loss, diversity_loss(of[:, [0, 2]], robustness[:, [0, 2]]))
    loss.sum().backward()
    assert (of.grad[0, [1, 3]] == 0).all()
    assert (robustness.grad[0, [1, 3]] == 0).all()
    assert (robustness.grad[0, [0, 2]] < 0).all()
    assert diversity_loss(of, -robustness.detach().abs() - 1).item() == 0


def test_gradients_are_finite_with_copies_and_huge_margins():
    of = torch.zeros(1, 3, 2, requires_grad=True)
    loss = diversity_loss(of + torch.tensor([[[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]]), torch.tensor([[1e4, 1e4, 3.0]]))
    loss.sum().backward()
    assert loss.isfinite().all()
    assert of.grad.isfinite().all()
    assert rule_quality(torch.tensor(1e4)).item() == pytest.approx(math.exp(5.0))


def test_descent_drives_items_apart():
    of = (0.01 * torch.randn(1, 4, 2, generator=torch.Generator().manual_seed(2))).requires_grad_()
    before = diversity_loss(of, torch.ones(1, 4))
    (gradient,) = torch.autograd.grad(before.sum(), of)
    assert diversity_loss(of - 0.05 * gradient, torch.ones(1, 4)).item() < before.item()


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="expected tensors"):
        expected_size(torch.zeros(2, 3, 4), torch.zeros(2, 4))
