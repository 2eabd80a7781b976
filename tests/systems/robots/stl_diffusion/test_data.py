"""Scenes, logs, calibrated rules, and plans by trajectory optimisation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.systems.robots.stl_diffusion.closed_loop import rules_around
from pilotage.systems.robots.stl_diffusion.data import first_plans, make_drives, optimised
from pilotage.systems.robots.stl_diffusion.metrics import open_loop_metrics
from pilotage.systems.robots.stl_diffusion.model import Plans
from pilotage.systems.robots.stl_diffusion.rules import PARAMETERS, psi_of, sets_of


def test_logs_keep_the_rule_that_is_calibrated_on_them() -> None:
    drives = make_drives(100, 2, 0)
    sets, plans = drives.logged()
    assert (sets.robustness(plans[:, None]) > 0).all()
    torch.testing.assert_close(sets.states(plans[:, None])[:, 0], drives.logs.states[sets.scene], atol=1e-3, rtol=1e-4)


def test_the_same_seed_gives_the_same_drives_and_rules_differ_between_draws() -> None:
    one, two = make_drives(20, 3, 5), make_drives(20, 3, 5)
    assert torch.equal(one.psi, two.psi)
    assert torch.equal(one.logs.controls, two.logs.controls)
    drawn = torch.arange(3) != one.logs.label[:, None]
    assert (one.psi[:, :, 0] != one.psi[:, :, 1]).any(-1)[drawn].all()
    assert (one.psi[:, :, 0] == one.psi[:, :, 1]).all(-1)[~drawn].all()


def test_robustness_of_sets_is_that_of_each_alone() -> None:
    sets = make_drives(10, 1, 1).sets()
    plans = first_plans(len(sets), 3, torch.Generator().manual_seed(0))
    whole = sets.robustness(plans)
    alone = torch.cat([sets[n : n + 1].robustness(plans[n : n + 1]) for n in range(len(sets))])
    torch.testing.assert_close(whole, alone, atol=1e-5, rtol=1e-5)


def test_only_lanes_that_there_are_make_sets() -> None:
    drives = make_drives(30, 1, 2)
    sets = drives.sets()
    assert len(sets) == int(drives.scenes.lane_valid.sum())
    assert drives.scenes.lane_valid[sets.scene, sets.mode].all()
    with pytest.raises(UsageError, match="has no lane"):
        sets_of(drives.scenes, drives.others, drives.psi[:, :, 0], torch.ones(30, 3, dtype=torch.bool))


def test_a_rule_that_nothing_keeps_is_refused() -> None:
    psi = dict.fromkeys(PARAMETERS, torch.zeros(3))
    psi["vmin"] = torch.tensor([0.0, 2.0, 0.0])
    with pytest.raises(UsageError, match="no trajectory"):
        psi_of(psi)


def test_trajectory_optimisation_repairs_most_plans_and_stays_within_the_limits() -> None:
    sets = make_drives(2, 1, 3).sets()
    begun = first_plans(len(sets), 2, torch.Generator().manual_seed(0))
    moved = optimised(sets, begun, steps=150, rate=0.03, margin=0.01, tau=100.0)
    before, after = (sets.robustness(plans) > 0 for plans in (begun, moved))
    assert before.float().mean() < 0.3
    assert after.float().mean() > 0.4
    assert after.float().mean() > before.float().mean() + 0.3
    assert moved.abs().max() <= 1
    assert torch.equal(optimised(sets, begun, steps=0, rate=0.03, margin=0.01, tau=100.0), begun)


def test_gradients_are_finite_where_nobody_is_there_and_at_a_bound() -> None:
    drives = make_drives(6, 1, 4)
    empty = replace(drives.scenes, neighbours=torch.zeros_like(drives.scenes.neighbours))
    sets = replace(drives, scenes=empty).sets()
    psi = sets.psi.clone()
    psi[:, 1] = sets.scenes.start[:, 3]  # vmax is the present speed
    plans = torch.zeros(len(sets), 2, 20, 2, requires_grad=True)
    replace(sets, psi=psi).robustness(plans, 100.0).sum().backward()
    assert plans.grad is not None
    assert plans.grad.isfinite().all()


def test_nothing_compliant_is_worth_nothing_and_the_log_has_no_error() -> None:
    drives = make_drives(8, 1, 6)
    sets = drives.sets()
    psi = sets.psi.clone()
    psi[:, 0], psi[:, 1] = 90.0, 91.0
    plans = torch.zeros(len(sets), 3, 20, 2)
    numbers = open_loop_metrics(drives, replace(sets, psi=psi), plans)
    assert {numbers[name] for name in ("compliance", "success", "area", "entropy", "spread", "hull")} == {0.0}
    logged = drives.logs.controls[sets.scene] / torch.tensor([0.5, 5.0])
    numbers = open_loop_metrics(drives, sets, logged[:, None])
    assert numbers["ade"] == pytest.approx(0, abs=1e-3)
    assert numbers["entropy"] == 0.0
    assert numbers["area"] > 0


def test_a_rule_for_the_closed_loop_is_kept_by_the_present() -> None:
    scenes = make_drives(30, 1, 7).scenes
    sets = rules_around(scenes, torch.full((30,), 2.0), torch.full((30,), 1.0))
    present = replace(sets, others=sets.others[:, :, :1].expand(-1, -1, 2, -1))
    value = present.robustness_of(scenes.start[:, None, None].expand(-1, 1, 2, 4))[:, 0]
    assert (value >= 0).all()
    assert (value[sets.psi[:, 4] > 0] > 0).all()


def test_plans_to_learn_from_know_whether_they_keep_their_rule() -> None:
    drives = make_drives(5, 2, 8)
    plans = first_plans(len(drives.sets()), 2, torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match="plan-steps"):
        Plans.augmented(drives, torch.ones_like(plans))
    table = Plans.logs(drives)
    assert table.valid.all()
    again = table.sets(torch.arange(len(table))).robustness(table.plan[:, None])
    assert (again > 0).all()
