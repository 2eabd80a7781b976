"""Two scenarios under one seed: no change makes no difference, and a change is seen with fewer seeds than apart."""

from __future__ import annotations

import numpy as np
import torch

from pilotage.core.intervals import t_interval
from pilotage.systems.societies.agent_torch.env import Parameters, simulate, tiny_city

TOWN = tiny_city(3000, seed=0)


def exposed(isolation: float, seed: int) -> float:
    parameters = Parameters(torch.tensor(3.5), torch.full((6,), isolation), torch.tensor(0.02))
    return float(simulate(TOWN, parameters, days=21, seed=seed).exposed.sum())


def test_isolation_prevents_infections_and_common_noise_narrows_the_interval():
    before, after = (np.array([exposed(share, seed) for seed in range(10)]) for share in (0.1, 0.2))
    paired = t_interval(after - before)
    assert paired.high < 0
    apart = before.var(ddof=1) + after.var(ddof=1)
    assert (after - before).var(ddof=1) < 0.8 * apart
    assert exposed(0.1, 3) == before[3]


def test_a_change_makes_no_difference_before_it_is_made():
    weeks = torch.full((4, 6), 0.1)
    ordered = weeks.clone()
    ordered[2:] = 0.7
    plain, changed = (
        simulate(TOWN, Parameters(torch.tensor(3.5), share, torch.tensor(0.03)), days=28, seed=1).exposed
        for share in (weeks, ordered)
    )
    assert torch.equal(plain[:14], changed[:14])
    assert changed[14:].sum() < 0.5 * plain[14:].sum()
