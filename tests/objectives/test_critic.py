import pytest
import torch

from pilotage.objectives.critic import value_loss

MASK = torch.tensor([[True, True, True, False]])
VALUE, OLD, TARGET = ([[0.5, 1.0, 0.1, torch.nan]], [[0.0, 1.0, 0.0, torch.nan]], [[1.0, 0.0, 0.0, torch.nan]])


def column(values):
    return torch.tensor(values, dtype=torch.float64)


def test_the_larger_of_the_plain_and_the_clipped_error_counts():
    # First: V leaves the interval towards the target, the clipped value .2 is further away and wins.
    loss = value_loss(column(VALUE), column(OLD), column(TARGET), MASK, clip=0.2)
    assert loss.tolist() == [pytest.approx([0.5 * 0.8**2, 0.5, 0.5 * 0.1**2, 0])]


def test_without_a_clip_it_is_the_squared_error():
    loss = value_loss(column(VALUE), column(OLD), column(TARGET), MASK, clip=None)
    assert loss.tolist() == [pytest.approx([0.125, 0.5, 0.005, 0])]


def test_only_the_value_gets_a_gradient_and_not_where_it_was_clipped():
    value, old, target = (column(v).requires_grad_() for v in (VALUE, OLD, TARGET))
    value_loss(value, old, target, MASK).sum().backward()
    assert value.grad.tolist() == [pytest.approx([0, 1.0, 0.1, 0])]
    assert old.grad is None
    assert target.grad is None
