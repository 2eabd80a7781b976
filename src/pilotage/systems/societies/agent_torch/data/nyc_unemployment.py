"""Monthly unemployment of New York City's five boroughs, August 2020 to December 2021, per cent.

The numbers are a copy, made by others, of the Local Area Unemployment Statistics (US Bureau of Labor Statistics and New
York State Department of Labor), not seasonally adjusted as far as can be seen. **Not checked against BLS**: no copy of
the original was at hand. What could be checked is inside the table:

* In that copy months are numbers, and 7 stands for August: they count from 0. If they counted from 1, all rates
  would lie a month earlier.
* In all five boroughs the rate rises exactly twice, in January 2021 and in June 2021 as labelled here, and falls or
  stays in every other month. Rates that are not seasonally adjusted usually rise when seasonal work ends in January and
  when school ends in June; one month earlier the rises would lie in December and May. This speaks for the labels and is
  no proof: for more than a demonstration, fetch the counties 36005, 36047, 36061, 36081 and 36085 from BLS.
* BLS revises every spring. Which revision this is cannot be seen from the table.
"""

from __future__ import annotations

import torch
from torch import Tensor

BOROUGHS = ("Bronx", "Brooklyn", "Manhattan", "Queens", "Staten Island")
MONTHS = tuple(f"2020-{month:02d}" for month in range(8, 13)) + tuple(f"2021-{month:02d}" for month in range(1, 13))
_PERCENT = {
    "Bronx": "19.8 19.4 17.5 16.7 16.2 17.3 16.6 15.5 15.2 14.0 14.6 14.1 13.6 11.9 11.3 10.6 10.3",
    "Brooklyn": "15.2 14.5 13.2 12.6 12.2 13.1 12.7 11.7 11.2 10.5 11.0 10.7 10.3 8.9 8.4 7.8 7.6",
    "Manhattan": "11.7 11.2 10.2 9.7 9.2 9.8 9.5 8.7 8.4 7.8 8.3 8.1 7.7 6.7 6.4 5.9 5.8",
    "Queens": "15.0 14.2 13.0 12.2 11.5 12.5 12.1 11.1 10.8 10.1 10.6 10.1 9.6 8.3 7.8 7.3 7.1",
    "Staten Island": "12.5 11.7 10.6 10.1 9.9 10.9 10.8 9.8 9.6 8.8 9.5 9.5 9.2 7.9 7.5 7.0 6.9",
}


def unemployment_rates() -> Tensor:
    """Return per cent of the labour force, [17 months, 5 boroughs] float32, in the order of MONTHS and BOROUGHS."""
    return torch.tensor([[float(rate) for rate in _PERCENT[name].split()] for name in BOROUGHS]).T.contiguous()
