"""Counters: uniform, independent, and the same whatever stands beside them."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy import stats

from pilotage.systems.societies.agent_torch.env.noise import Noise, thresholds

COUNT = 20_000
AGENTS = torch.arange(COUNT, dtype=torch.int32)


def test_numbers_are_uniform_on_consecutive_and_on_far_apart_agents():
    for agents in (AGENTS, AGENTS * 100_003):
        drawn = Noise(3, 5).uniforms("isolate", agents)
        assert float(drawn.min()) >= 0
        assert float(drawn.max()) < 1
        assert stats.kstest(drawn.numpy(), "uniform").pvalue > 1e-3


def test_draws_of_other_steps_seeds_purposes_indices_and_partners_are_independent():
    base = Noise(3, 5)
    series = [
        base.uniforms("isolate", AGENTS),
        base.at(6).uniforms("isolate", AGENTS),
        Noise(4, 5).uniforms("isolate", AGENTS),
        base.uniforms("death", AGENTS),
        base.uniforms("isolate", AGENTS, index=1),
        base.uniforms("isolate", AGENTS, AGENTS + 1),
        base.uniforms("isolate", AGENTS + 1, AGENTS),
        base.uniforms("isolate", AGENTS, AGENTS + 2),
        base.uniforms("isolate", AGENTS + 1),
    ]
    for first, second in itertools.combinations(series, 2):
        table = torch.bincount((first * 8).long() * 8 + (second * 8).long(), minlength=64).numpy()
        assert stats.chisquare(table).pvalue > 1e-4


def test_an_agents_number_depends_on_nobody_else():
    noise = Noise(-7, 2)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    everybody = noise.random_bits("x", AGENTS, AGENTS // 3)
    assert torch.equal(noise.random_bits("x", AGENTS[order], AGENTS[order] // 3), everybody[order])
    assert torch.equal(noise.random_bits("x", AGENTS[70:71], AGENTS[70:71] // 3), everybody[70:71])
    assert torch.equal(torch.arange(COUNT, dtype=torch.int32), AGENTS)  # the ids were not written to


@pytest.mark.parametrize("probability", [0.0, 1e-3, 0.25, 1.0])
def test_thresholds_give_the_probability_and_are_exact_at_the_ends(probability):
    hits = int((Noise(0, 0).random_bits("y", AGENTS) < thresholds(torch.tensor(probability))).sum())
    if probability in (0.0, 1.0):
        assert hits == COUNT * probability
    else:
        assert stats.binomtest(hits, COUNT, probability).pvalue > 1e-3


def test_integers_differ_by_every_argument():
    values = {Noise(s, d).integer(p, i) for s in range(3) for d in (-1, 0, 1) for p in ("a", "b") for i in range(3)}
    assert len(values) == 54
