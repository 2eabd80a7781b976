"""Unemployment of a finished run's city: who goes to work in each month is asked, a labour market makes claims of it,
and a regression with fifteen numbers, three a borough for all months, makes published rates of these.

Rates are those of `data.nyc_unemployment`, fitted on the months that the run knew and scored on later ones. Later
months need cases too: those of the last four known weeks again, unless the reported ones are asked for, which makes
the forecast one given the cases and no forecast of the future."""

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
from pilotage.llm.yes_no import poll
from pilotage.runs import Run
from pilotage.systems.societies.agent_torch.config import EpidemicConfig
from pilotage.systems.societies.agent_torch.counterfactuals import effect_row
from pilotage.systems.societies.agent_torch.data.epidemic_series import read_weekly
from pilotage.systems.societies.agent_torch.data.nyc_unemployment import BOROUGHS, MONTHS, unemployment
from pilotage.systems.societies.agent_torch.env.labour import LabourRules, market
from pilotage.systems.societies.agent_torch.env.labour_months import borough_unemployment, fit_tied, simulate_labour
from pilotage.systems.societies.agent_torch.model import Epidemic
from pilotage.systems.societies.agent_torch.scenario import series_path
from pilotage.systems.societies.agent_torch.scripted import AGE_WORDS, WORK_PROMPT
from pilotage.systems.societies.agent_torch.train import opened

UNEMPLOYMENT = "unemployment.json"
"""File of a run, which its report shows."""
STIMULUS = {"2020-12": 1200, "2021-03": 1200}
"""Dollars, as the paper has it."""
WAGES = ("low", "high")
"""Below and above the median skill."""
CONSUMPTION = 0.6
"""Share of cash that everybody spends in a month; it moves prices, not who works."""
LEAST_MONTHS, BAND_DRAWS = 4, 50


@dataclass(frozen=True)
class Asked:
    """Work propensities [months, kinds] by age, borough and wage, with and without the stimulus."""

    paid: Tensor
    unpaid: Tensor


def month_cases(series_weeks: list[str], cases: Tensor, last_known: str, *, reported: bool) -> tuple[Tensor, int]:
    """Cases of each of MONTHS by borough, [17, boroughs], and how many of the months were known: those with all their
    Saturdays up to `last_known`. Weeks count to the month in which they end. reported: of later weeks too; else those
    after `last_known` have the mean of the last four known ones."""
    known = sum(week <= last_known for week in series_weeks)
    table = cases.clone()
    if not reported:
        table[known:] = cases[max(0, known - 4) : known].mean(0)
    rows, count = [], 0
    for month in MONTHS:
        weeks = [index for index, week in enumerate(series_weeks) if week[:7] == month]
        if len(weeks) < 4:
            raise UsageError(f"the series has {len(weeks)} weeks of {month}; months from {MONTHS[0]} on are needed")
        rows.append(table[weeks].sum(0))
        count += weeks[-1] < known
    return torch.stack(rows), count


def ask_work(service: Service, config: EpidemicConfig, cases: Tensor, people: Tensor) -> Asked:
    """cases [months, boroughs]; equal prompts are asked once."""
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
    )
    shares = torch.tensor([each.share for each in polls])
    return Asked(shares[torch.tensor(with_)], shares[torch.tensor(without)])


def simulated(epidemic: Epidemic, work: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Persons who work and persons of working age who do not, [months, boroughs] each. work [months, kinds]"""
    population, rules = epidemic.world.population, LabourRules()
    skill = market(population, rules, population.age, seed).skill
    kind = (population.age.long() * len(BOROUGHS) + population.borough.long()) * 2 + (skill >= 1).long()
    consumption = torch.full((work.shape[1],), CONSUMPTION)
    made = simulate_labour(
        population, work=work, consumption=consumption, months=len(work), seed=seed, rules=rules, groups=kind
    )
    return made.willing, made.claims


def rates_of_run(
    config: EpidemicConfig, directory: Path, *, seeds: int, cases: Literal["carried", "reported"]
) -> dict[str, Any]:
    """See the action `unemployment` of the configuration. Raises UsageError for a run that it cannot be asked of."""
    if config.series is None:
        raise UsageError("an invented city has no published rates; run with --series nyc")
    if config.populations is not None or not config.asks_a_model:
        raise UsageError("unemployment is asked of New York City's people: --behaviour archetypes, aligned or agents")
    if seeds < 2:
        raise UsageError(f"{seeds} pairs give no interval; give 2 or more, and 5 or more for a verdict")
    if not (directory / "result.json").is_file():
        raise UsageError(f"{directory} is not finished; let the run finish first (pilotage run {directory})")
    series = read_weekly(series_path(config))
    with opened(config, directory, Run.read_recipe(directory).seed) as (epidemic, service):
        assert service is not None
        last = epidemic.world.labels[epidemic.known - 1]
        counts, known = month_cases([str(w) for w in series.weeks], series.cases, last, reported=cases == "reported")
        if known < LEAST_MONTHS:
            raise UsageError(
                f"the run knew {known} of the months from {MONTHS[0]} on; three numbers a borough need {LEAST_MONTHS} "
                "or more: run with a later --last or larger --known"
            )
        asked = ask_work(service, config, counts, epidemic.world.people)
        flat = asked.paid[:known].mean(0, keepdim=True).expand_as(asked.paid)
        sides = {
            name: [simulated(epidemic, work, seed) for seed in range(seeds)]
            for name, work in (("behaviour", asked.paid), ("constant", flat), ("no stimulus", asked.unpaid))
        }
    truth = unemployment()

    def predicted(side: str, fitted_to: str) -> Tensor:
        """[seed, months, boroughs]"""
        rows = []
        for (willing, claims), known_of in zip(sides[side], sides[fitted_to], strict=True):
            fit = fit_tied(known_of[0][:known], known_of[1][:known], truth[:known])
            rows.append(borough_unemployment(willing, claims, *fit))
        return torch.stack(rows)

    pairs = (("behaviour", "behaviour"), ("no stimulus", "behaviour"), ("constant", "constant"))
    table = {side: predicted(side, fitted_to).double().numpy() for side, fitted_to in pairs}
    kept = _kept(table, truth.double().numpy(), known, seeds, cases)
    write_atomically(directory / UNEMPLOYMENT, json.dumps(kept).encode() + b"\n")
    paid = [month for month, label in enumerate(MONTHS) if label in STIMULUS]
    persons = [[float(side[0][paid].sum(1).mean()) for side in sides[name]] for name in ("no stimulus", "behaviour")]
    rates = [table[name][:, paid].mean((1, 2)).tolist() for name in ("no stimulus", "behaviour")]
    return {
        "months": f"{MONTHS[0]} to {MONTHS[known - 1]} fitted, {len(MONTHS) - known} held out; cases of these {cases}",
        "rates": "a copy of BLS LAUS that is not checked against BLS; month labels agree with the seasons' rises only",
        "error in percentage points, mean over months and boroughs": _errors(table, truth.double().numpy(), known),
        "without the stimulus of Dec 2020 and Mar 2021, mean of these months": [
            effect_row("persons who work", *persons),
            effect_row("unemployment, per cent", *rates),
        ],
        "rows": _rows(kept),
    }


def _errors(table: Mapping[str, Any], truth: Any, known: int) -> list[dict[str, Any]]:
    """Of the mean over seeds; and of the last known month again."""
    sides = {name: table[name].mean(0) for name in ("behaviour", "constant")}
    sides["last known month"] = np.concatenate([truth[:known], np.repeat(truth[known - 1 : known], 17 - known, 0)])
    return [
        {
            "input": name,
            "fitted": None if name == "last known month" else float(np.abs(made - truth)[:known].mean()),
            "held out": float(np.abs(made - truth)[known:].mean()) if known < len(truth) else None,
        }
        for name, made in sides.items()
    ]


def _kept(table: Mapping[str, Any], truth: Any, known: int, seeds: int, cases: str) -> dict[str, Any]:
    """Medians and central 95 % of seeds and of months' residuals: normal, with the fit's variance per borough over
    known months less three. Doubt about the fifteen numbers themselves is not in them."""
    draw = np.random.default_rng(0)
    simulated: dict[str, Any] = {}
    for name in ("behaviour", "constant"):
        made = table[name]
        off = (made[:, :known] - truth[:known]) ** 2
        spread = np.sqrt(off.sum(1, keepdims=True) / (known - 3))
        many = made[None] + spread * draw.standard_normal((BAND_DRAWS, *made.shape))
        low, median, high = np.quantile(many.reshape(-1, *made.shape[1:]), (0.025, 0.5, 0.975), axis=0)
        simulated[name] = {"low": low.tolist(), "median": median.tolist(), "high": high.tolist()}
    return {
        "format": 1,
        "what": "unemployment, per cent",
        "months": list(MONTHS),
        "places": list(BOROUGHS),
        "known": known,
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
            "known": i < kept["known"],
            "low 95": made["low"][i][j],
            "median": made["median"][i][j],
            "high 95": made["high"][i][j],
            "behaviour constant": kept["simulated"]["constant"]["median"][i][j],
        }
        for i, month in enumerate(kept["months"])
        for j, place in enumerate(kept["places"])
    ]
