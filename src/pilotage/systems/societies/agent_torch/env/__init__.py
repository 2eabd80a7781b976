"""A city of agents as tensors: an epidemic and a labour market, person by person.

    from pilotage.systems.societies.agent_torch.env import Parameters, simulate, tiny_city, weekly

    city = tiny_city(10_000)
    parameters = Parameters(
        transmission=torch.tensor([2.4, 2.2, 2.0, 2.0]),  # [weeks] R_w
        isolation=torch.full((4, 6), 0.1),                # [weeks, groups] or callable(week, history) -> [groups]
        initial=torch.full((6,), 0.002),                  # [ages] share infected on day 0
    )
    outcome = simulate(city, parameters, days=28, seed=0)
    weekly(outcome.cases)                                 # [4, boroughs]

The contract that calibration, behaviour and counterfactuals build on:

`simulate(population, parameters, *, days, seed, disease=…, groups=None, differentiable=False, …) -> Outcome`

* `groups` [N] says which column of `isolation` an agent has (its archetype); None: its age group.
* `isolation` may be a tensor, or a function `(week, history) -> [groups]` that is asked on the first day of each week;
  `history` is an `Outcome` of the days so far, so that behaviour can answer to cases.
* `Outcome.exposed`, `.cases`, `.deaths` are [days, boroughs] persons (agents times `population.weight`);
  `simulate(…, start=(day, outcome))` goes on, and equals having gone through.
* With `differentiable=True` the same draws are made and the outputs have the same values; gradients reach whatever
  in `parameters` requires them, through every day (`differentiable` has the estimators). Without it nothing is
  recorded and the full city fits in memory.

Noise is a hash of (seed, day, purpose, agents), so that two scenarios under one seed differ only by what they change,
and cutting a population into shards (`shards.simulate_in_shards`) changes nothing.

State is a dictionary of tensors, a day is a list of substeps `(state, action, noise) -> state` (`substeps`). The
labour market of months is `labour_months.simulate_labour`.
"""

from pilotage.systems.societies.agent_torch.env.city import city, sample_counts, tiny_city
from pilotage.systems.societies.agent_torch.env.diagnostics import WITH_TESTS
from pilotage.systems.societies.agent_torch.env.disease import Diagnostics, Disease
from pilotage.systems.societies.agent_torch.env.epidemic import simulate, weekly
from pilotage.systems.societies.agent_torch.env.parameters import Outcome, Parameters
from pilotage.systems.societies.agent_torch.env.people import AGES, Population
from pilotage.systems.societies.agent_torch.env.tables import population_from

__all__ = [
    "AGES",
    "WITH_TESTS",
    "Diagnostics",
    "Disease",
    "Outcome",
    "Parameters",
    "Population",
    "city",
    "population_from",
    "sample_counts",
    "simulate",
    "tiny_city",
    "weekly",
]
