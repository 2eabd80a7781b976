"""Gradients: the same values, through every day, as large as finite differences; a warning where there is none."""

from __future__ import annotations

import statistics
import warnings

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.objectives.discrete_gradients import mean_of_others, score_function
from pilotage.systems.societies.agent_torch.env import Disease, Parameters, simulate, tiny_city

CITY = tiny_city(3000, seed=2)
DAYS, WEEKS = 28, 4
ESTIMATORS = ("left", "straight_through", "smoothed")


def parameters(transmission=3.5, initial=0.02, isolation=0.1, **given):
    return Parameters(
        torch.full((WEEKS,), transmission), torch.full((WEEKS, 6), isolation), torch.full((6,), initial), **given
    )


def learnt(**given):
    made = parameters(**given)
    for value in made.tensors().values():
        value.requires_grad_()
    return made


def gradients(estimator="left", seed=0, output="cases", **settings):
    made = learnt()
    outcome = simulate(CITY, made, days=DAYS, seed=seed, differentiable=True, estimator=estimator, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        getattr(outcome, output).sum().backward()
    return {name: value.grad for name, value in made.tensors().items()}


@pytest.mark.parametrize("estimator", [*ESTIMATORS, "score"])
def test_values_are_those_without_gradients(estimator):
    made = parameters(fatality=torch.full((6,), 0.3))
    plain = simulate(CITY, made, days=DAYS, seed=1)
    soft = simulate(CITY, made, days=DAYS, seed=1, differentiable=True, estimator=estimator)
    for name in ("exposed", "cases", "deaths"):
        assert torch.equal(getattr(plain, name), getattr(soft, name))
    assert plain.deaths.sum() > 20
    assert torch.equal(plain.state["stage"], soft.state["stage"])


def test_left_gradients_agree_with_finite_differences_and_straight_through_does_not():
    """Means over seeds against central differences with common random numbers: total cases per unit of R and per unit
    of the initial share, all weeks and ages together."""

    def cases(seed, **change):
        return simulate(CITY, parameters(**change), days=DAYS, seed=seed).cases.sum().item()

    left = [gradients(seed=s) for s in range(5)]
    straight = gradients("straight_through")
    for name, centre, step in (("transmission", 3.5, 0.7), ("initial", 0.02, 0.01)):
        slopes = [
            (cases(s, **{name: centre + step}) - cases(s, **{name: centre - step})) / (2 * step) for s in range(10)
        ]
        truth, error = statistics.mean(slopes), statistics.stdev(slopes) / len(slopes) ** 0.5
        values = [g[name].sum().item() for g in left]
        spread = statistics.stdev(values) / len(values) ** 0.5
        assert abs(statistics.mean(values) - truth) < 3 * (error + spread), name
        assert error + spread < truth / 4, name
    assert straight["initial"].sum() > 1.5 * truth


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_cross_days_and_a_detached_stage_loses_them(estimator):
    """Reference trap: R of the first week must reach cases of the last, through the stages in between."""
    whole, single = {}, {}
    for cross_day, kept in ((True, whole), (False, single)):
        made = learnt()
        outcome = simulate(CITY, made, days=DAYS, seed=0, differentiable=True, estimator=estimator, cross_day=cross_day)
        outcome.cases[21:].sum().backward()
        kept.update({name: value.grad for name, value in made.tensors().items() if value.grad is not None})
    assert (whole["transmission"][:3] > 0).all()
    assert (whole["initial"].sum() > 0).all()
    # Cases of the last week were exposed on the days 16 to 22: nothing before week 2 is left.
    assert (single["transmission"][:2] == 0).all()
    assert single["transmission"][2] > 0
    assert "initial" not in single or (single["initial"] == 0).all()


def test_every_week_and_group_has_its_own_gradient_of_the_right_sign():
    grads = gradients()
    assert (grads["transmission"] > 0).all()
    assert (grads["isolation"].sum(0) < 0).all()
    assert (grads["initial"] > 0).all()
    assert gradients(output="exposed")["transmission"][-1] > grads["transmission"][-1]


def test_recomputing_contacts_changes_nothing():
    kept, again = gradients(), gradients(recompute=True)
    assert all(torch.equal(kept[name], again[name]) for name in kept)


def test_fatality_has_the_gradient_of_the_number_of_those_who_leave():
    fatality = torch.full((6,), 0.3, requires_grad=True)
    outcome = simulate(CITY, parameters(fatality=fatality), days=DAYS, seed=0, differentiable=True)
    outcome.deaths.sum().backward()
    assert float(fatality.grad.sum()) == pytest.approx(float(outcome.deaths.detach().sum()) / 0.3, rel=0.15)


def test_the_score_is_zero_on_average_and_its_product_with_the_loss_is_the_slope():
    """A small town for two days, total exposures; slopes of R and of isolation by finite differences."""
    town, days = tiny_city(150, seed=0), 2

    def run(strength, isolation, seed, **settings):
        made = Parameters(strength, isolation.expand(6), torch.full((6,), 0.2))
        return simulate(town, made, days=days, seed=seed, **settings)

    def mean(strength, isolation):
        rows = [run(torch.tensor(strength), torch.tensor(isolation), s) for s in range(50)]
        return statistics.mean(float(row.exposed.sum()) for row in rows)

    at = torch.tensor(3.0, requires_grad=True), torch.tensor(0.3, requires_grad=True)
    rows = [run(*at, s, differentiable=True, estimator="score") for s in range(100)]
    loss = torch.stack([row.exposed.sum() for row in rows])
    surrogate = score_function(torch.stack([row.log_probability for row in rows]), loss, mean_of_others(loss))
    assert torch.equal(surrogate.detach(), loss)
    scores = [torch.autograd.grad(row.log_probability, at, retain_graph=True) for row in rows]
    slopes = mean(3.8, 0.3) - mean(2.2, 0.3), mean(3.0, 0.5) - mean(3.0, 0.1)
    found = torch.autograd.grad(surrogate.mean(), at)
    for column, slope, gradient, step in zip(zip(*scores, strict=True), slopes, found, (1.6, 0.4), strict=True):
        score = torch.stack(column)
        assert abs(float(score.mean())) < 4 * float(score.std()) / len(rows) ** 0.5
        product = score * (loss - mean_of_others(loss))
        error = float(product.std()) / len(rows) ** 0.5
        assert float(gradient) == pytest.approx(float(product.mean()), rel=1e-3)
        assert float(gradient) == pytest.approx(slope / step, abs=4 * error)
        assert abs(slope / step) > 2 * error


def test_a_parameter_without_a_gradient_is_named_at_the_first_backward_pass():
    fatality = torch.full((6,), 0.3, requires_grad=True)
    transmission = torch.full((WEEKS,), 3.0, requires_grad=True)
    made = Parameters(transmission, initial=torch.full((6,), 0.02), fatality=fatality)
    outcome = simulate(CITY, made, days=DAYS, seed=0, differentiable=True)
    with pytest.warns(UserWarning, match="no gradient reaches fatality from cases"):
        outcome.cases.sum().backward()
    outcome = simulate(CITY, made, days=DAYS, seed=0, differentiable=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (outcome.cases.sum() + outcome.deaths.sum()).backward()


def test_a_parameter_that_is_only_used_through_a_detached_stage_is_named():
    made = learnt()
    outcome = simulate(CITY, made, days=DAYS, seed=0, differentiable=True, cross_day=False)
    with pytest.warns(UserWarning, match="initial"):
        outcome.exposed[10:].sum().backward()


def test_gradients_reach_what_made_the_parameters():
    free = torch.zeros(WEEKS, requires_grad=True)
    made = Parameters(1.4 + 3.1 * torch.sigmoid(free), initial=torch.tensor(0.02))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        simulate(CITY, made, days=DAYS, seed=0, differentiable=True).exposed.sum().backward()
    assert (free.grad > 0).all()


def test_transmission_is_recovered_from_weekly_cases_by_descent():
    """Plant R of two weeks, start elsewhere: fifteen steps of Adam come within a tenth."""
    city, truth = tiny_city(20_000, seed=3), torch.tensor([3.6, 2.4])
    target = simulate(city, Parameters(truth, initial=torch.tensor(0.03)), days=14, seed=0).exposed
    free = torch.tensor([2.8, 2.8], requires_grad=True)
    optimiser = torch.optim.Adam([free], lr=0.12)
    for step in range(15):
        outcome = simulate(
            city, Parameters(free, initial=torch.tensor(0.03)), days=14, seed=1 + step, differentiable=True
        )
        weeks = (outcome.exposed - target).unflatten(0, (2, 7)).sum((1, 2))
        optimiser.zero_grad()
        (weeks**2).mean().backward()
        optimiser.step()
    assert torch.allclose(free.detach(), truth, rtol=0.1)


def test_what_gradients_cannot_do_is_refused():
    with pytest.raises(UsageError, match="one of left, straight_through, smoothed, score; got 'pathwise'"):
        gradients("pathwise")
    with pytest.raises(UsageError, match="a decision a day"):
        gradients("score", disease=Disease(decision_days=7))
    before = simulate(CITY, parameters(), days=3, seed=0)
    with pytest.raises(UsageError, match="begin on day 0"):
        simulate(CITY, parameters(), days=3, seed=0, differentiable=True, start=(3, before))
