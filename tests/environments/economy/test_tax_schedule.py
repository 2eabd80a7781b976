import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.environments.economy.tax_schedule import (
    STATUSES,
    Schedule,
    bracket_of,
    check_edges,
    check_rates,
    federal_schedule,
    tax,
)

THREE = (0.0, 90_000.0, 159_100.0)
SEVEN = (0.0, 11_600.0, 47_150.0, 100_525.0, 191_950.0, 243_725.0, 609_350.0)


def dollars(*values):
    return torch.tensor(values, dtype=torch.float64)


def by_hand(income, rates, edges):
    """The tax of one income, bracket by bracket, in plain Python."""
    total = 0.0
    for rate, low, high in zip(rates, edges, [*edges[1:], float("inf")], strict=True):
        total += rate / 100 * max(0.0, min(income, high) - low)
    return total


def test_tax_at_100_000_for_a_single_person_in_2024_is_exact_and_marginal():
    assert federal_schedule(2024, "single").tax(dollars(100_000)).item() == 17_053
    assert federal_schedule(2024, "single", deduct=True).tax(dollars(114_600)).item() == 17_053


def test_the_seven_brackets_of_2024_are_those_of_the_law():
    schedule = federal_schedule(2024, "single")
    assert tuple(schedule.edges.tolist()) == SEVEN
    assert schedule.rates.tolist() == [10, 12, 22, 24, 32, 35, 37]
    assert federal_schedule(2013).rates[-1] == 39.6


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("year", [2013, 2017, 2018, 2024, 2026])
def test_every_year_and_status_has_seven_rising_brackets(year, status):
    schedule = federal_schedule(year, status)
    assert len(schedule.edges) == 7
    assert (schedule.rates.diff() > 0).all()
    assert federal_schedule(year, status, deduct=True).deduction > 5000


@given(
    st.lists(st.floats(0, 100), min_size=3, max_size=3),
    st.lists(st.floats(0, 1e6), min_size=1, max_size=5),
)
def test_tax_is_what_brackets_add_up_to_in_batches_too(rates, incomes):
    both = torch.tensor([rates, rates[::-1]], dtype=torch.float64)
    found = tax(torch.tensor(incomes, dtype=torch.float64), both, check_edges(THREE))
    assert found.shape == (2, len(incomes))
    for row, own in zip(found, (rates, rates[::-1]), strict=True):
        assert row.tolist() == pytest.approx([by_hand(income, own, THREE) for income in incomes], abs=1e-6)


def test_income_above_the_last_edge_pays_the_last_rate_and_loss_pays_nothing():
    schedule = Schedule(dollars(*THREE), dollars(10, 20, 30))
    top = schedule.tax(dollars(1e9, 1e9 + 1))
    assert top.diff().item() == pytest.approx(0.30, abs=1e-6)
    assert schedule.tax(dollars(-5000, 0)).tolist() == [0, 0]


def test_an_income_on_an_edge_belongs_to_the_bracket_above():
    edges = check_edges(THREE)
    assert bracket_of(dollars(-1, 0, 89_999.99, 90_000, 159_100, 1e12), edges).tolist() == [0, 0, 0, 1, 2, 2]


def test_tax_has_the_gradient_of_the_band():
    rates = dollars(10, 20, 30).requires_grad_()
    tax(dollars(120_000), rates, check_edges(THREE)).sum().backward()
    assert rates.grad.tolist() == pytest.approx([900, 300, 0])


@pytest.mark.parametrize("edges", [[0, 5, 3], [1, 2], [0, 0], [], [0, float("nan")], [[0, 1]]])
def test_unsorted_edges_are_refused(edges):
    with pytest.raises(UsageError, match="begin with 0 and rise"):
        check_edges(edges)


@pytest.mark.parametrize("rates", [[-1, 0, 0], [0, 101, 0], [0, float("nan"), 0]])
def test_rates_outside_are_refused(rates):
    with pytest.raises(UsageError, match="0 to 100"):
        check_rates(rates, 3)


def test_wrong_number_of_rates_unknown_year_and_status_are_refused():
    with pytest.raises(UsageError, match="each of 3 brackets"):
        check_rates([10, 20], 3)
    with pytest.raises(UsageError, match="2013 to 2026"):
        federal_schedule(1999)
    with pytest.raises(UsageError, match="headhh"):
        federal_schedule(2024, "divorced")
    with pytest.raises(UsageError, match="deduction"):
        Schedule(dollars(0), dollars(10), -1)


# ---- against Tax-Calculator ------------------------------------------------------------------------------------------

TAXCALC = json.loads(Path(__file__).with_name("taxcalc.json").read_text())["cases"]
"""Made by `make oracles`."""


def test_brackets_give_the_tax_of_tax_calculator():
    assert len(TAXCALC) == 300
    for case in TAXCALC:
        schedule = federal_schedule(case["year"], case["status"])
        found = schedule.tax(dollars(case["taxable"])).item()
        assert found == pytest.approx(case["tax"], abs=0.02), case


def test_deductions_are_those_of_tax_calculator_since_personal_exemptions_ended():
    checked = 0
    for case in TAXCALC:
        if case["year"] < 2018:
            continue
        schedule = federal_schedule(case["year"], case["status"], deduct=True)
        assert schedule.tax(dollars(case["wages"])).item() == pytest.approx(case["tax"], abs=0.02), case
        checked += 1
    assert checked == 200
