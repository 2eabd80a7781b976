"""People of New York City by borough and age, as its health department's case rates imply them.

Cases divided by the rate per 100,000 (totals/group-data-by-boro.csv of nychealth/coronavirus-data at 5733893) give the
number of people behind each rate; ten age groups were spread evenly over ours, see `epidemic_series.read_populations`.
"""

from __future__ import annotations

import torch
from torch import Tensor

AGES = ("U19", "20t29", "30t39", "40t49", "50t64", "65A")
TOTAL = 8336817
_PEOPLE = {
    "Bronx": (386833, 213223, 203388, 176580, 249417, 188766),
    "Brooklyn": (634442, 383469, 414014, 326676, 433418, 367884),
    "Manhattan": (272872, 284975, 298018, 214870, 281850, 276121),
    "Queens": (497000, 302823, 332936, 302698, 450068, 368333),
    "Staten Island": (114310, 60697, 61946, 61673, 98216, 79301),
}


def nyc_people() -> Tensor:
    """Return the people, [5 boroughs, 6 ages] int64, in the order of `epidemic_series.BOROUGHS` and AGES."""
    return torch.tensor(list(_PEOPLE.values()))
