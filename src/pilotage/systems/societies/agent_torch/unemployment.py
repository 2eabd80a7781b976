"""Unemployment in the city of a finished run, by month and borough.

The model is asked who goes to work in each month, a labour market turns the answers into claims, and a regression with
three numbers per borough for all months turns these into published rates (`data.nyc_unemployment`). It is fitted on
the observed months and scored on later ones. Later months need cases too: the mean of the last four observed weeks, or
the reported ones, which makes a forecast given the cases and not a forecast of the future.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pilotage.core.atomic_io import write_atomically
from pilotage.core.errors import UsageError
from pilotage.llm import Service
from pilotage.runs import Run
from pilotage.systems.societies.agent_torch.config import EpidemicConfig
from pilotage.systems.societies.agent_torch.counterfactuals import effect_row
from pilotage.systems.societies.agent_torch.data.epidemic_series import read_weekly
from pilotage.systems.societies.agent_torch.data.nyc_unemployment import BOROUGHS, MONTHS, unemployment_rates
from pilotage.systems.societies.agent_torch.env.labour import LabourRules, market
from pilotage.systems.societies.agent_torch.env.labour_months import borough_unemployment, fit_tied, simulate_labour
from pilotage.systems.societies.agent_torch.model import Epidemic
from pilotage.systems.societies.agent_torch.scenario import series_path
from pilotage.systems.societies.agent_torch.scripted import AGE_WORDS, WORK_PROMPT
from pilotage.systems.societies.agent_torch.train import open_epidemic
from pilotage.systems.societies.agent_torch.yes_no import poll

UNEMPLOYMENT = "unemployment.json"
"""File of a run with the curves of its report."""
STIMULUS = {"2020-12": 1200, "2021-03": 1200}
"""Payment by month in dollars, as in the paper."""
WAGES = ("low", "high")
"""Wage groups: below and above the median skill."""
CONSUMPTION = 0.6
"""Share of cash that each agent spends in a month; it moves prices, not who works."""
MIN_MONTHS, INTERVAL_DRAWS = 4, 50


@dataclass(frozen=True)
class WorkPropensities:
    """Probabilities of work [months, kinds] by age, borough and wage, with and without the stimulus."""

    paid: Tensor
    unpaid: Tensor


def month_cases(series_weeks: list[str], cases: Tensor, last_observed: str, *, reported: bool) -> tuple[Tensor, int]:
    """Return the cases of each of MONTHS by borough, and the number of observed months.

    Args:
        series_weeks: last day of each week of the series; a week counts to the month in which it ends.
        cases: weekly cases [weeks, boroughs].
        last_observed: last day of the last observed week.
        reported: whether later weeks have their reported cases; otherwise the mean of the last four observed weeks.

    Returns:
        Cases [17, boroughs], and the number of months whose weeks all end by `last_observed`.
    """
    observed = sum(week <= last_observed for week in series_weeks)
    table = cases.clone()
    if not reported:
        table[observed:] = cases[max(0, observed - 4) : observed].mean(0)
    rows, count = [], 0
    for month in MONTHS:
        weeks = [index for index, week in enumerate(series_weeks) if week[:7] == month]
        if len(weeks) < 4:
            raise UsageError(f"the series has {len(weeks)} weeks of {month}; months from {MONTHS[0]} on are needed")
        rows.append(table[weeks].sum(0))
        count += weeks[-1] < observed
    return torch.stack(rows), count


def ask_work(service: Service, config: EpidemicConfig, cases: Tensor, people: Tensor) -> WorkPropensities:
    """Ask who goes to work in each month; equal prompts are asked once.

    Args:
        service: answers the questions.
        config: sampling.
        cases: cases [months, boroughs].
        people: persons [boroughs].
    """
    texts: dict[str, int] = {}

    def placed(paid: bool) -> list[list[int]]:
        rows = []
        for month, label in enumerate(MONTHS):
            row = []
            for age in AGE_WORDS:
                for place, borough in enumerate(BOROUGHS):
                    rate = f"{1e4 * float(cases[month, place] / people[place]):.0f}"
                    for wage in WAGES:
                        money = STIMULUS.get(label, 0) if paid else 0
                        text = WORK_PROMPT.format(age=age, borough=borough, wage=wage, cases=rate, stimulus=money)
                        row.append(texts.setdefault(text, len(texts)))
            rows.append(row)
        return rows

    with_, without = placed(True), placed(False)
    polls = poll(
        service,
        [[("user", text)] for text in texts],
        draws=config.draws,
        first_token=config.first_token,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
    )
    shares = torch.tensor([each.share for each in polls])
    return WorkPropensities(shares[torch.tensor(with_)], shares[torch.tensor(without)])


def simulate_work(epidemic: Epidemic, work: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Simulate the labour market.

    Args:
        epidemic: its city is used.
        work: probability of work [months, kinds].
        seed: seed of the noise.

    Returns:
        Persons who work, and persons of working age who do not, [months, boroughs] each.
    """
    population, rules = epidemic.scenario.population, LabourRules()
    skill = market(population, rules, population.age, seed).skill
    kind = (population.age.long() * len(BOROUGHS) + population.borough.long()) * 2 + (skill >= 1).long()
    consumption = torch.full((work.shape[1],), CONSUMPTION)
    made = simulate_labour(
        population, work=work, consumption=consumption, months=len(work), seed=seed, rules=rules, groups=kind
    )
    return made.willing, made.claims


def unemployment(
    config: EpidemicConfig, run: Path, seeds: int = 5, cases: Literal["carried", "reported"] = "carried"
) -> dict[str, Any]:
    """Fit and forecast monthly unemployment by borough, 2020-08 to 2021-12, for a finished run of New York City.

    A regression of fifteen numbers on who goes to work is fitted on the observed months and forecasts later ones,
    beside the same with constant behaviour, and without the stimulus of December 2020 and March 2021. The report of
    the run shows the result.

    Args:
        config: configuration of the run.
        run: directory of the run.
        seeds: number of pairs of simulations; five or more for a verdict.
        cases: cases of held-out months. carried: the mean of the last four observed weeks; reported: the reported
            ones, which no forecast of the future has.
    """
    if config.series is None:
        raise UsageError("an invented city has no published rates; run with --series nyc")
    if config.populations is not None or not config.asks_a_model:
        raise UsageError("unemployment is asked of New York City's people: --behaviour archetypes, aligned or agents")
    if seeds < 2:
        raise UsageError(f"{seeds} pairs give no interval; give 2 or more, and 5 or more for a verdict")
    if not (run / "result.json").is_file():
        raise UsageError(f"{run} is not finished; let the run finish first (pilotage run {run})")
    series = read_weekly(series_path(config))
    with open_epidemic(config, run, Run.read_recipe(run).seed) as (epidemic, service):
        assert service is not None
        last = epidemic.scenario.labels[epidemic.observed_weeks - 1]
        counts, observed = month_cases([str(w) for w in series.weeks], series.cases, last, reported=cases == "reported")
        if observed < MIN_MONTHS:
            raise UsageError(
                f"the run observed {observed} of the months from {MONTHS[0]} on; three numbers per borough need "
                f"{MIN_MONTHS} or more: run with a later --end-week or more --observed-weeks"
            )
        work = ask_work(service, config, counts, epidemic.scenario.people)
        flat = work.paid[:observed].mean(0, keepdim=True).expand_as(work.paid)
        sides = {
            name: [simulate_work(epidemic, propensity, seed) for seed in range(seeds)]
            for name, propensity in (("behaviour", work.paid), ("constant", flat), ("no_stimulus", work.unpaid))
        }
    truth = unemployment_rates()

    def predicted(side: str, fitted_to: str) -> Tensor:
        """Return rates [seed, months, boroughs]."""
        rows = []
        for (willing, claims), basis in zip(sides[side], sides[fitted_to], strict=True):
            fit = fit_tied(basis[0][:observed], basis[1][:observed], truth[:observed])
            rows.append(borough_unemployment(willing, claims, *fit))
        return torch.stack(rows)

    pairs = (("behaviour", "behaviour"), ("no_stimulus", "behaviour"), ("constant", "constant"))
    table = {side: predicted(side, fitted_to).double().numpy() for side, fitted_to in pairs}
    kept = _curves(table, truth.double().numpy(), observed, seeds, cases)
    write_atomically(run / UNEMPLOYMENT, json.dumps(kept).encode() + b"\n")
    paid = [month for month, label in enumerate(MONTHS) if label in STIMULUS]
    persons = [[float(side[0][paid].sum(1).mean()) for side in sides[name]] for name in ("no_stimulus", "behaviour")]
    rates = [table[name][:, paid].mean((1, 2)).tolist() for name in ("no_stimulus", "behaviour")]
    return {
        "months": f"{MONTHS[0]} to {MONTHS[observed - 1]} fitted, {len(MONTHS) - observed} held out; "
        f"cases of these {cases}",
        "rates": "a copy of BLS LAUS that is not checked against BLS; month labels agree with the seasons' rises only",
        "error in percentage points, mean over months and boroughs": _errors(table, truth.double().numpy(), observed),
        "without the stimulus of Dec 2020 and Mar 2021, mean of these months": [
            effect_row("persons who work", *persons),
            effect_row("unemployment, per cent", *rates),
        ],
        "rows": _rows(kept),
    }


def _errors(table: Mapping[str, Any], truth: Any, observed: int) -> list[dict[str, Any]]:
    """Return the error of the mean over seeds of each side, and of the last observed month repeated."""
    sides = {name: table[name].mean(0) for name in ("behaviour", "constant")}
    last = np.repeat(truth[observed - 1 : observed], len(truth) - observed, 0)
    sides["last observed month"] = np.concatenate([truth[:observed], last])
    return [
        {
            "input": name,
            "fitted": None if name == "last observed month" else float(np.abs(made - truth)[:observed].mean()),
            "held_out": float(np.abs(made - truth)[observed:].mean()) if observed < len(truth) else None,
        }
        for name, made in sides.items()
    ]


def _curves(table: Mapping[str, Any], truth: Any, observed: int, seeds: int, cases: str) -> dict[str, Any]:
    """Return medians and central 95 % intervals over seeds and residuals of months.

    Residuals are normal with the fit's variance per borough over observed months less three. Uncertainty about the
    fifteen fitted numbers is not included.
    """
    draw = np.random.default_rng(0)
    simulated: dict[str, Any] = {}
    for name in ("behaviour", "constant"):
        made = table[name]
        off = (made[:, :observed] - truth[:observed]) ** 2
        spread = np.sqrt(off.sum(1, keepdims=True) / (observed - 3))
        many = made[None] + spread * draw.standard_normal((INTERVAL_DRAWS, *made.shape))
        low, median, high = np.quantile(many.reshape(-1, *made.shape[1:]), (0.025, 0.5, 0.975), axis=0)
        simulated[name] = {"low": low.tolist(), "median": median.tolist(), "high": high.tolist()}
    return {
        "format": 1,
        "what": "unemployment, per cent",
        "months": list(MONTHS),
        "places": list(BOROUGHS),
        "observed_months": observed,
        "cases": cases,
        "seeds": seeds,
        "published": truth.tolist(),
        "simulated": simulated,
    }


def _rows(kept: Mapping[str, Any]) -> list[dict[str, Any]]:
    made = kept["simulated"]["behaviour"]
    return [
        {
            "month": month,
            "borough": place,
            "published": kept["published"][i][j],
            "observed": i < kept["observed_months"],
            "low_95": made["low"][i][j],
            "median": made["median"][i][j],
            "high_95": made["high"][i][j],
            "behaviour_constant": kept["simulated"]["constant"]["median"][i][j],
        }
        for i, month in enumerate(kept["months"])
        for j, place in enumerate(kept["places"])
    ]
