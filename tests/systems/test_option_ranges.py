"""Refused numbers of societies, their language-model service and driving name their own option alone."""

import pytest

from pilotage.core.configuration import configure
from pilotage.core.errors import UsageError
from pilotage.systems.robots.stl_diffusion.config import DrivingConfig
from pilotage.systems.societies.agent_torch.config import EpidemicConfig
from pilotage.systems.societies.llm_economist.config import TaxDesignConfig
from pilotage.systems.societies.stock_agent.config import StockMarketConfig

BAD = [
    (config, option, value)
    for config, options in {
        EpidemicConfig: {"agents": (-5, 99), "horizon": (0,), "steps": (-1,), "reporting": (0, 1.5), "lr": (0, "nan")},
        TaxDesignConfig: {"agents": (-5, 1), "years": (0,), "hours_step": (0, "inf"), "temperature": (-1, "nan")},
        StockMarketConfig: {"agents": (-5, 1), "days": (0,), "spam_share": (1, "nan"), "budget_calls": (-1,)},
        DrivingConfig: {"steps": (-3,), "scenes": (0,), "lr": (0, -1, "nan", "inf")},
    }.items()
    for option, values in options.items()
    for value in values
]


@pytest.mark.parametrize(("config", "option", "value"), BAD)
def test_a_number_out_of_range_is_refused_with_its_option_alone(config, option, value):
    flag = "--" + option.replace("_", "-")
    with pytest.raises(UsageError) as raised:
        configure(config(), [f"{flag}={value}"])
    assert str(raised.value).startswith(flag)
    assert str(raised.value).count("--") == 1
