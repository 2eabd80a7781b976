"""Calibration of a simulator that is a formula: planted values come back, and what goes wrong is said."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor, nn

from pilotage.core.errors import NonFinite, UsageError
from pilotage.systems.societies.agent_torch.bounded import Bounded
from pilotage.systems.societies.agent_torch.calibration import Calibrator, search

PLANTED = torch.tensor([1.2, 0.9, 1.1, 1.3, 0.8, 1.0])
LOW, HIGH = torch.full((6,), 0.5), torch.full((6,), 2.0)


def grows(rates: Tensor, seed: int = 0) -> Tensor:  # noqa: ARG001
    """Counts multiplied by a rate each week, in two places. [6] -> [6, 2]"""
    return 100 * rates.cumprod(0)[:, None] * torch.tensor([1.0, 2.0])


def calibrator(**settings: object) -> Calibrator:
    given = {"lr": 0.1, **settings}
    return Calibrator(Bounded(torch.ones(6), 0.5, 2.0), grows, grows(PLANTED), **given)  # type: ignore[arg-type]


def test_planted_rates_are_recovered() -> None:
    made, restless = calibrator(decay_over=100), calibrator()
    losses = [made.step().loss for _ in range(100)]
    assert losses[-1] < 1e-3 * losses[0]
    assert [restless.step().loss for _ in range(100)][-1] > losses[-1]
    assert made.best is not None
    assert torch.allclose(made.best, PLANTED, rtol=0.05)


def test_validation_weeks_are_not_fitted() -> None:
    made = calibrator(num_validation_weeks=2)
    found = [made.step() for _ in range(60)]
    assert torch.allclose(found[-1].values[:4], PLANTED[:4], rtol=0.05)
    # Nothing moves the rates of weeks that are held out.
    assert torch.allclose(found[-1].values[4:], torch.ones(2), atol=1e-3)
    assert math.isnan(calibrator().step().validation_loss)
    assert made.best_value == pytest.approx(min(step.validation_loss for step in found))


def test_parameters_without_gradient_are_named_at_the_first_step_only() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rates, self.fatality = Bounded(torch.ones(6), 0.5, 2.0), nn.Parameter(torch.ones(1))

        def forward(self) -> Tensor:
            return self.rates() * self.fatality.detach()

    made = Calibrator(Two(), grows, grows(PLANTED))
    with pytest.warns(UserWarning, match="no gradient reaches fatality:"):
        made.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.step()


def test_a_simulation_without_any_gradient_is_an_error() -> None:
    made = Calibrator(Bounded(torch.ones(6), 0.5, 2.0), lambda v, s: grows(v.detach(), s), grows(PLANTED))
    with pytest.raises(UsageError, match="no gradient"):
        made.step()


@pytest.mark.parametrize("at", ["value", "gradient"])
def test_non_finite_numbers_stop_before_they_spoil_the_model(at: str) -> None:
    def broken(rates: Tensor, seed: int) -> Tensor:
        out = grows(rates, seed)
        if seed == 3:
            # The root's gradient at 0 is infinite though its value is finite.
            return out * float("nan") if at == "value" else out + (rates - rates.detach()).sum().clamp(min=0).sqrt()
        return out

    made = Calibrator(Bounded(torch.ones(6), 0.5, 2.0), broken, grows(PLANTED), fresh_noise=True)
    for _ in range(3):
        made.step()
    before = {name: value.clone() for name, value in made.model.state_dict().items()}
    with pytest.raises(NonFinite, match="step 4"):
        made.step()
    assert all(torch.equal(value, before[name]) for name, value in made.model.state_dict().items())


def test_put_away_and_taken_up_again_it_goes_on_exactly() -> None:
    whole, first = calibrator(num_validation_weeks=1), calibrator(num_validation_weeks=1)
    for _ in range(10):
        whole.step()
    for _ in range(5):
        first.step()
    again = calibrator(num_validation_weeks=1)
    again.load_state_dict(first.state_dict())
    found = [again.step().loss for _ in range(5)]
    rest = calibrator(num_validation_weeks=1)
    assert [rest.step().loss for _ in range(10)][5:] == found
    assert whole.best is not None
    assert again.best is not None
    assert torch.equal(whole.best, again.best)


@pytest.mark.parametrize(("method", "within"), [("cma", 0.05), ("abc", 0.4)])
def test_searches_find_the_planted_values_with_the_simulations_they_were_given(method: str, within: float) -> None:
    calls = 0

    def counted(values: Tensor, seed: int) -> Tensor:
        nonlocal calls
        calls += 1
        return grows(values, seed)

    found, tried = search(
        counted,
        grows(PLANTED),
        LOW,
        HIGH,
        torch.Generator().manual_seed(0),
        method=method,  # type: ignore[arg-type]
        evaluations=600,
    )
    assert calls == tried.evaluations <= 600
    assert float((found - PLANTED).abs().max()) < within


def test_shapes_and_methods_are_checked() -> None:
    with pytest.raises(UsageError, match="weeks, places"):
        Calibrator(Bounded(torch.ones(6), 0.5, 2.0), grows, torch.ones(5, 2)).step()
    with pytest.raises(UsageError, match="validation"):
        calibrator(num_validation_weeks=6)
    with pytest.raises(UsageError, match="cma or abc"):
        search(grows, grows(PLANTED), LOW, HIGH, torch.Generator(), method="guess")  # type: ignore[arg-type]
