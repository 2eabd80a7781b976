"""What Tax-Calculator makes of wages: taxable income, and tax before credits: `make oracles`.

    python -m tests.oracles.taxcalc_income_tax tests/environments/economy/taxcalc.json

Runs in an environment of its own, because of numba. People are 40 years old and have wages only, so that tax is that of
the ordinary brackets."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

YEARS = (2013, 2017, 2018, 2021, 2024, 2026)
STATUSES = {"single": 1, "mjoint": 2, "mseparate": 3, "headhh": 4, "widow": 5}
WAGES = (0, 9_000, 14_601, 38_500, 61_750, 114_600, 208_000, 333_333, 654_321, 2_500_000)


def cases() -> list[dict[str, object]]:
    import pandas as pd
    import taxcalc

    found: list[dict[str, object]] = []
    for year in YEARS:
        rows = [(name, mars, wage) for name, mars in STATUSES.items() for wage in WAGES]
        table = pd.DataFrame(
            {
                "RECID": range(1, len(rows) + 1),
                "MARS": [mars for _, mars, _ in rows],
                "e00200": [float(wage) for *_, wage in rows],
                "e00200p": [float(wage) for *_, wage in rows],
                "age_head": 40,
                "XTOT": [2 if mars == 2 else 1 for _, mars, _ in rows],
                "s006": 1.0,
            }
        )
        records = taxcalc.Records(data=table, start_year=year, gfactors=None, weights=None, adjust_ratios=None)
        policy = taxcalc.Policy()
        policy.set_year(year)
        calculator = taxcalc.Calculator(policy=policy, records=records, sync_years=False, verbose=False)
        calculator.calc_all()
        taxable, before_credits = calculator.array("c04800"), calculator.array("taxbc")
        for (name, _, wage), income, due in zip(rows, taxable, before_credits, strict=True):
            found.append(
                {
                    "year": year,
                    "status": name,
                    "wages": wage,
                    "taxable": round(float(income), 2),
                    "tax": round(float(due), 2),
                }
            )
    return found


if __name__ == "__main__":
    kept = {"taxcalc": version("taxcalc"), "cases": cases()}
    rows = ",\n".join(json.dumps(case) for case in kept["cases"])
    Path(sys.argv[1]).write_text(f'{{"taxcalc": "{kept["taxcalc"]}", "cases": [\n{rows}\n]}}\n', encoding="utf-8")
