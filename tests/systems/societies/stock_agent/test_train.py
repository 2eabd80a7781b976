"""PPO in markets of scripted traders: it earns more than before, is repeatable, and is trained once for all runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pilotage.core.configuration import config_to_dict
from pilotage.core.errors import UsageError
from pilotage.runs import Run
from pilotage.runs.reader import read_run
from pilotage.systems.societies.stock_agent import train as training
from pilotage.systems.societies.stock_agent.actions import estimate_cost, simulate_market
from pilotage.systems.societies.stock_agent.config import StockMarketConfig
from pilotage.systems.societies.stock_agent.env import scenario
from pilotage.systems.societies.stock_agent.env.scenario import load_scenario
from pilotage.systems.societies.stock_agent.learned_traders import wealth_changes
from pilotage.systems.societies.stock_agent.model import TraderNetwork
from pilotage.systems.societies.stock_agent.report import panels
from pilotage.systems.societies.stock_agent.simulate import simulate
from pilotage.systems.societies.stock_agent.train import kinds_of, trained

SMALL = StockMarketConfig(agents=6, days=8, checkpoint_every=3, traders="learned", trader_updates=2)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("AGENTS", 8), ("DAYS", 10), ("MARKETS", 1)):
        monkeypatch.setattr(training, name, value)


def test_a_trained_trader_gains_more_than_an_untrained_one_on_the_same_seeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("AGENTS", 12), ("DAYS", 44), ("RATE", 1e-2)):
        monkeypatch.setattr(training, name, value)
    settings = training.training_settings(replace(SMALL, trader_updates=8))
    training.train_trader(tmp_path, settings)
    networks = (training.new_network(), TraderNetwork.load(tmp_path))
    gains = np.array(
        [
            [
                wealth_changes(training.play_market(network, load_scenario(), seed, settings)[0]).mean()
                for network in networks
            ]
            for seed in range(6)
        ]
    )
    difference = gains[:, 1] - gains[:, 0]
    assert difference.mean() > 2 * difference.std(ddof=1) / np.sqrt(len(difference))
    updates = json.loads((tmp_path / training.HISTORY).read_text())["updates"]
    assert len(updates) == 8
    assert updates[-1]["entropy"] < updates[0]["entropy"]


@pytest.mark.usefixtures("small")
def test_training_is_repeatable_and_touches_no_global_generator(tmp_path: Path) -> None:
    weights = []
    for number in range(2):
        torch.manual_seed(number)
        before = torch.get_rng_state()
        folder = tmp_path / str(number)
        folder.mkdir()
        training.train_trader(folder, training.training_settings(SMALL))
        assert torch.get_rng_state().equal(before)
        weights.append((folder / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]
    assert weights[0] != (training.new_network().save(tmp_path), (tmp_path / "weights.safetensors").read_bytes())[1]


@pytest.mark.usefixtures("small")
def test_rewards_add_up_to_the_change_of_log_wealth_and_end_with_whoever_leaves() -> None:
    settings = training.training_settings(SMALL)
    market, turns = training.play_market(training.new_network(), load_scenario(), 1, settings)
    gone = turns[0].trader
    market.exchange.ledger.active[gone] = False  # as if it had left after its last turn
    batch = training.gather([(market, turns)])
    for row, trader in enumerate(sorted({turn.trader for turn in turns})):
        own = [turn.wealth for turn in turns if turn.trader == trader]
        end = np.log(training.LEAST) if trader == gone else own[-1]
        assert float(batch.reward[row].sum()) == pytest.approx(100 * (end - own[0]), abs=1e-3)
        assert int(batch.mask[row].sum()) == len(own) - (trader != gone)
        assert bool(batch.terminated[row].any()) == (trader == gone)
    assert int(batch.last.sum()) == 4


@pytest.mark.usefixtures("small")
def test_a_run_trains_once_and_another_seed_finds_the_same_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path / "home"))
    config = replace(SMALL, learned_share=0.5)
    keys = set()
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        with Run.create(folder, system="stock-agent", config=config_to_dict(config), seed=seed) as run:
            result = simulate(config, run)
            assert run.undescribed == []
            run.finish(result.metrics)
        keys.add(run.manifest.artifacts["stock-trader"]["contents"])
        assert {"gain/learned", "gain/value", "gain/trend"} <= set(result.metrics)
    assert len(keys) == 1
    assert len(list((tmp_path / "home" / "artifacts").glob("stock-trader-*"))) == 1
    assert any("trained network" in words for words in run.manifest.scripted_components)
    shown = {panel.key: panel for panel in panels(read_run(folder))}["training"]
    assert "mean change of log wealth a turn, in per cent" in dict(shown.figures)
    market = simulate_market(config, 1)
    assert float(wealth_changes(market).mean()) == pytest.approx(result.metrics["gain/learned"])


@pytest.mark.usefixtures("small")
def test_another_scenario_of_the_package_trains_another_trader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path / "home"))
    own = tmp_path / "scenario.yaml"
    own.write_bytes(scenario.DEFAULT.read_bytes())
    first = trained(SMALL)
    monkeypatch.setattr(scenario, "DEFAULT", own)
    monkeypatch.setattr(training, "DEFAULT", own)
    assert trained(SMALL) == first, "the same contents elsewhere"
    before = load_scenario().prices
    own.write_text(own.read_text(encoding="utf-8").replace("start_price: 30", "start_price: 33"), encoding="utf-8")
    assert load_scenario().prices != before
    assert trained(SMALL) != first


def test_a_critic_that_is_right_has_itself_as_target_and_a_surprise_is_an_advantage() -> None:
    """Two traders, three turns; each earns 1 and goes on for ever, so that its value is 1 / (1 - discount)."""
    worth = 1 / (1 - training.DISCOUNT)
    network = training.new_network()
    with torch.no_grad():
        for parameter in network.critic.parameters():
            parameter.zero_()
        network.critic[-1].bias.fill_(worth)
    shape, stocks = (2, 3), 2
    last = torch.zeros(shape, dtype=torch.bool)
    last[:, 2] = True
    batch = training.Batch(
        observed=torch.zeros(*shape, stocks, training.FEATURES),
        allowed=torch.ones(*shape, stocks * len(training.ORDERS), dtype=torch.bool),
        choice=torch.zeros(shape, dtype=torch.int64),
        mask=torch.ones(shape, dtype=torch.bool),
        reward=torch.ones(shape),
        last=last,
        terminated=torch.zeros(shape, dtype=torch.bool),
        following=torch.zeros(2, stocks, training.FEATURES),
        session=torch.arange(3).expand(shape),
    )
    value, _, target = training.estimate_advantages(network, batch)
    torch.testing.assert_close(target, value)
    batch.reward[0, 1] += 1
    _, advantage, target = training.estimate_advantages(network, batch)
    assert (target - value)[0].tolist() == pytest.approx([training.DISCOUNT * training.GAE_LAMBDA, 1, 0], abs=1e-5)
    torch.testing.assert_close(target[1], value[1])
    assert advantage[0, 1] > advantage[0, 0] > advantage[1, 0]
    batch.terminated[1, 2] = True
    assert (training.estimate_advantages(network, batch)[2] - value)[1, 2].item() == pytest.approx(1 - worth)


def test_kinds_are_spread_and_add_up() -> None:
    assert set(kinds_of(SMALL)) == {"learned"}
    for share, agents in ((0.5, 50), (1 / 3, 50), (0.01, 6)):
        kinds = kinds_of(replace(SMALL, learned_share=share, agents=agents))
        assert len(kinds) == agents
        assert kinds.count("learned") == max(1, round(share * agents))
        assert abs(kinds.count("value") - kinds.count("trend")) <= 1


def test_an_estimate_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTAGE_HOME", str(tmp_path))
    monkeypatch.setattr(training, "DAYS", 3)
    found = estimate_cost(SMALL)
    assert found["seconds of the training, once"] > 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", [{"learned_share": 0.0}, {"learned_share": 1.5}, {"trader_updates": -1}])
def test_configurations_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="--" + next(iter(wrong)).replace("_", "-")):
        replace(SMALL, **wrong)  # type: ignore[arg-type]
