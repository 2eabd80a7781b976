"""Bounded numbers, and the network that gives a simulation's parameters week by week."""

from __future__ import annotations

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.systems.societies.agent_torch.bounded import Bounded
from pilotage.systems.societies.agent_torch.calibration_network import CalibNN

LOW, HIGH = torch.tensor([1.4, 0.0]), torch.tensor([4.5, 1.0])


def network(**settings: int) -> CalibNN:
    torch.manual_seed(0)
    return CalibNN(3, LOW, HIGH, **{"width": 8, **settings})


def test_bounded_numbers_begin_where_told_and_never_leave() -> None:
    bounded = Bounded(torch.tensor([2.0, 4.4]), 1.4, 4.5)
    assert torch.allclose(bounded(), torch.tensor([2.0, 4.4]), atol=1e-5)
    optimiser = torch.optim.SGD(bounded.parameters(), lr=1e4)
    for sign in (1, -1, -1):
        optimiser.zero_grad()
        (sign * bounded().sum()).backward()
        optimiser.step()
        assert bool(((bounded() >= 1.4) & (bounded() <= 4.5)).all())


def test_bounded_numbers_outside_are_refused() -> None:
    with pytest.raises(UsageError, match="inside"):
        Bounded(torch.tensor([5.0]), 1.4, 4.5)
    with pytest.raises(UsageError, match="low below high"):
        Bounded(torch.tensor([1.0]), 1.0, 1.0)


def test_outputs_are_inside_the_bounds_for_any_number_of_weeks() -> None:
    net = network()
    for observed, weeks in ((3, 1), (3, 10), (20, 4)):
        out = net(100 * torch.randn(observed, 3), weeks)
        assert out.shape == (weeks, 2)
        assert bool(((out >= LOW) & (out <= HIGH)).all())


def test_every_parameter_matters_and_weeks_differ() -> None:
    net = network()
    out = net(torch.randn(3, 3), 5)
    out.square().sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert float(out[:, 0].detach().diff().abs().min()) > 0


def test_what_was_observed_matters_at_every_week() -> None:
    net = network()
    observed = torch.randn(3, 3)
    for week in range(3):
        other = observed.clone()
        other[week] += 1
        assert not torch.allclose(net(observed, 4), net(other, 4), atol=1e-5)


def test_it_learns_a_curve_over_the_weeks() -> None:
    net = network(width=12)
    target = 2.5 + torch.sin(torch.linspace(0, 6, 8))
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    observed = torch.randn(3, 3)
    for _ in range(100):
        optimiser.zero_grad()
        (net(observed, 8)[:, 0] - target).square().mean().backward()
        optimiser.step()
    assert float((net(observed, 8)[:, 0] - target).abs().mean()) < 0.15


def test_wrong_features_are_refused() -> None:
    with pytest.raises(UsageError, match=r"\[weeks, 3\]"):
        network()(torch.zeros(4, 5), 3)
    with pytest.raises(UsageError, match="heads"):
        network(heads=3)
