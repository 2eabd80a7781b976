import numpy as np
import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.rewards.temporal_logic import robustness
from pilotage.systems.robots.stl_diffusion.descent import descend
from pilotage.systems.robots.stl_diffusion.env.geometry import (
    circle_distance,
    lane_coordinates,
    poses_along,
    roll_out,
    stations,
)
from pilotage.systems.robots.stl_diffusion.env.highway import (
    ACCELERATION_LIMIT,
    CAR,
    DT,
    FARTHEST,
    LATERAL,
    NEAREST,
    NO_NEIGHBOUR,
    STEPS,
    TURN_LIMIT,
    Scenes,
    draw_scenes,
    futures,
    in_ego_frame,
    signals,
)
from pilotage.systems.robots.stl_diffusion.env.traffic import drive, idm
from pilotage.systems.robots.stl_diffusion.rules import (
    calibrate,
    check_parameters,
    draw_around,
    lane_rule,
    normalised,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def scenes():
    return draw_scenes(400, generator())


@pytest.fixture(scope="module")
def logs(scenes):
    return drive(scenes, generator(1))


def empty(scenes: Scenes) -> Scenes:
    """The same scenes without neighbours."""
    return Scenes(**{**vars(scenes), "neighbours": torch.zeros_like(scenes.neighbours)})


# ---- scenes ----------------------------------------------------------------------------------------------------------


def test_scenes_are_what_the_generator_promises(scenes):
    offset, heading, station = lane_coordinates(scenes.start[:, None, :3], scenes.road)
    assert station.abs().max() < 1e-3
    assert offset.std().item() == pytest.approx(0.3, abs=0.05)
    assert heading.std().item() == pytest.approx(0.05, abs=0.01)
    assert (scenes.start[:, 3] >= 2).all()
    assert (scenes.start[:, 3] <= 12).all()
    apart = stations(scenes.road).diff()
    assert (apart > 1.99).all()
    assert (apart < 4.01).all()
    turn = scenes.road[..., 2].diff() / apart
    bent = turn.abs() > 1e-6
    assert 0.5 < bent[:, 0].float().mean() < 0.8
    assert (turn[bent].abs() < 1 / 29.9).all()
    assert (turn[bent].abs() > 1 / 201).all()
    assert ((turn[:, 0] * turn[:, -1]) < 0).float().mean() > 0.2  # S
    assert scenes.lane_valid[:, 0].all()
    assert {tuple(row) for row in scenes.lane_valid.tolist()} == {
        (True, a, b) for a in (True, False) for b in (True, False)
    }


def test_neighbours_drive_in_lanes_that_there_are(scenes):
    valid = scenes.neighbours[..., 0] > 0
    assert valid.sum(1).unique().tolist() == list(range(9))
    assert scenes.lane_valid.gather(1, scenes.neighbour_lane)[valid].all()
    offset, heading, _ = lane_coordinates(scenes.neighbours[..., 1:4], scenes.road)
    torch.testing.assert_close(offset[valid], torch.tensor(LATERAL)[scenes.neighbour_lane][valid], atol=1e-2, rtol=0)
    assert heading[valid].abs().max() < 1e-3
    assert (scenes.neighbours[~valid] == 0).all()


def test_neighbours_at_constant_speed_stay_in_their_lane_and_pass_through_none(scenes):
    future = futures(scenes)
    valid = scenes.neighbours[..., 0] > 0
    offset, _, _ = lane_coordinates(future.flatten(1, 2), scenes.road)
    offset = offset.reshape(future.shape[:3]) - torch.tensor(LATERAL)[scenes.neighbour_lane][..., None]
    assert offset[valid].abs().max() < 2e-2
    way = scenes.neighbour_station[..., None] + scenes.neighbours[..., 4:5] * DT * torch.arange(STEPS + 1)
    same = (scenes.neighbour_lane[:, :, None] == scenes.neighbour_lane[:, None]) & valid[:, :, None] & valid[:, None]
    same &= ~torch.eye(8, dtype=torch.bool)
    side = (scenes.neighbour_station > 0)[:, :, None] == (scenes.neighbour_station > 0)[:, None]
    gap = (way[:, :, None] - way[:, None]).abs().amin(-1)
    assert gap[same & side].min() > CAR[0]


def test_the_same_generator_gives_the_same_scenes():
    for name, value in vars(draw_scenes(5, generator(3))).items():
        assert torch.equal(value, getattr(draw_scenes(5, generator(3)), name))


def test_the_ego_frame_has_the_ego_at_its_origin(scenes):
    seen = in_ego_frame(scenes)
    assert {name: list(value.shape[1:]) for name, value in seen.items()} == {
        "ego": [6],
        "neighbours": [8, 7],
        "lanes": [3, 15, 3],
    }
    assert (seen["lanes"][~scenes.lane_valid] == 0).all()
    assert (seen["neighbours"][scenes.neighbours[..., 0] == 0] == 0).all()
    first = seen["lanes"][:, 0, 0]
    assert first[:, 0].abs().max() < 0.3
    valid = scenes.neighbours[..., 0] > 0
    away = (scenes.neighbours[..., 1:3] - scenes.start[:, None, :2]).norm(dim=-1)
    torch.testing.assert_close(seen["neighbours"][..., 1:3].norm(dim=-1)[valid], away[valid], atol=1e-3, rtol=1e-4)


# ---- signals ---------------------------------------------------------------------------------------------------------


def test_a_car_on_the_centre_line_of_a_lane_has_no_offset_there(scenes):
    for lane, lateral in enumerate(LATERAL):
        way = 1.5 * torch.arange(STEPS + 1).expand(len(scenes), -1)
        poses = poses_along(scenes.road, way, lateral)
        states = torch.cat([poses, torch.full_like(poses[..., :1], 3.0)], -1)[:, None]
        found = signals(scenes, states, lane, futures(scenes))
        assert found["offset"].abs().max() < 1e-3
        assert found["heading"].abs().max() < 1e-4


def test_clearance_is_clipped_and_nobody_is_far_away(scenes):
    states = scenes.start[:, None, None].expand(-1, 2, STEPS + 1, 4)
    near = signals(scenes, states, 0, futures(scenes))["clearance"]
    nobody = scenes.neighbours[:, :, 0].sum(1) == 0
    assert (near[nobody] == NO_NEIGHBOUR).all()
    assert (near[~nobody] <= FARTHEST).all()
    assert (near >= NEAREST).all()


def test_clearance_is_the_least_distance_to_any_neighbour_at_that_time(scenes):
    few = scenes[:60]
    states = poses_along(few.road, 4.0 * torch.arange(STEPS + 1).expand(60, -1), 1.0)
    states = torch.nn.functional.pad(states, (0, 1))[:, None]
    others = futures(few)
    found = signals(few, states, 0, others)["clearance"][:, 0]
    size, expected = torch.tensor(CAR), torch.full((60, STEPS + 1), NO_NEIGHBOUR)
    for i in range(8):
        distance = circle_distance(states[:, 0, :, :3], others[:, i], size, size).clamp(NEAREST, FARTHEST)
        expected = torch.where(few.neighbours[:, i, :1] > 0, torch.minimum(expected, distance), expected)
    torch.testing.assert_close(found, expected)


def test_gradients_are_finite_also_without_neighbours_and_with_the_speed_on_its_bound(scenes):
    few = scenes[:40]
    for world in (few, empty(few)):
        for mode in range(3):
            controls = torch.zeros(40, 2, STEPS, 2, requires_grad=True)
            states = roll_out(world.start[:, None], controls, DT)
            heard = signals(world, states, mode, futures(world))
            psi = {"vmin": 0.0, "vmax": world.start[:, 3:], "dmin": -1.0, "dmax": 1.0, "dsafe": 0.5, "thmax": 0.2}
            for tau in (None, 100.0):
                value = robustness(lane_rule(mode, STEPS), heard, psi, tau=tau)
                assert value.isfinite().all()
                (gradient,) = torch.autograd.grad(value.sum(), controls, retain_graph=True)
                assert gradient.isfinite().all()


# ---- drivers, calibration --------------------------------------------------------------------------------------------


def own_signals(scenes, logs):
    lane = torch.where(logs.label == 3, 0, logs.label)
    return {name: value[:, 0] for name, value in signals(scenes, logs.states[:, None], lane, futures(scenes)).items()}


def test_drivers_keep_the_limits_and_their_distance_and_do_what_their_label_says(scenes, logs):
    controls = logs.controls.abs().amax((0, 1))
    assert controls[0] <= TURN_LIMIT
    assert controls[1] <= ACCELERATION_LIMIT
    torch.testing.assert_close(roll_out(scenes.start, logs.controls, DT), logs.states, atol=2e-3, rtol=1e-4)
    heard = own_signals(scenes, logs)
    assert (heard["clearance"] > 0).all()
    assert (logs.states[..., 3] >= -1e-4).all()
    named = logs.label < 3
    assert named.float().mean() > 0.9
    assert heard["offset"][named, -1].abs().max() < 0.6
    counts = logs.label.bincount(minlength=4)
    assert (counts[:3] >= 20).all()
    assert scenes.lane_valid.gather(1, logs.label.clamp(max=2)[:, None])[named].all()


def test_calibrated_rules_are_kept_by_the_trajectories_they_come_from(scenes, logs):
    heard = own_signals(scenes, logs)
    psi = calibrate(heard, logs.label)
    check_parameters(psi)
    assert (psi["vmin"] >= -0.3).all()
    assert (psi["dsafe"] >= 0).all()
    kept = []
    for mode in range(3):
        rows = logs.label == mode
        own = ({name: value[rows] for name, value in each.items()} for each in (heard, psi))
        own_signal, own_psi = own
        value = robustness(lane_rule(mode, STEPS), own_signal, own_psi)
        scaled = robustness(lane_rule(mode, STEPS), *normalised(own_signal, own_psi))
        assert torch.equal(value > 0, scaled > 0)
        kept.append(value > 0)
    assert torch.cat(kept).float().mean() >= 0.99


def test_the_rule_of_another_mode_is_broken_by_most(scenes, logs):
    keepers = logs.label == 0
    heard = signals(scenes, logs.states[:, None], 1, futures(scenes))
    psi = calibrate(own_signals(scenes, logs), logs.label)
    value = robustness(
        lane_rule(1, STEPS), {k: v[keepers, 0] for k, v in heard.items()}, {k: v[keepers] for k, v in psi.items()}
    )
    assert (value > 0).float().mean() < 0.05


def test_rules_drawn_around_are_looser_and_satisfiable(scenes, logs):
    psi = calibrate(own_signals(scenes, logs), logs.label)
    around = draw_around(psi, 16, generator(2))
    assert all(value.shape == (400, 16) for value in around.values())
    check_parameters(around)
    assert (around["vmax"] >= psi["vmax"][:, None] + 1.3).all()
    assert (around["thmax"] >= psi["thmax"][:, None]).all()
    assert (around["dsafe"] <= psi["dsafe"][:, None]).all()
    around["dmin"][3, 7] = 4.0
    with pytest.raises(UsageError, match=r"dmin 4 lies above dmax .* the first at \(3, 7\)"):
        check_parameters(around)


def test_a_mode_is_one_of_three():
    with pytest.raises(UsageError, match="no mode 3"):
        lane_rule(3, STEPS)


def test_the_driver_model_has_its_equilibria():
    speed = torch.tensor([6.0])
    assert idm(speed, torch.tensor([torch.inf]), speed, 6.0).item() == pytest.approx(0.0, abs=1e-6)
    steady = (2.0 + 6.0 * 1.2) / (1 - (6.0 / 12.0) ** 4) ** 0.5
    assert idm(speed, torch.tensor([steady]), speed, 12.0).item() == pytest.approx(0.0, abs=1e-5)
    assert idm(speed, torch.tensor([0.0]), torch.zeros(1)).item() == -5.0


# ---- trajectory optimisation -----------------------------------------------------------------------------------------


def test_descent_from_violating_starts_satisfies_nine_of_ten_satisfiable_scenes():
    """Rules that some trajectory keeps: calibrated on a driver whose controls are then forgotten, loosened by .3. A
    scene is solved when one of four random starts is."""
    scenes = draw_scenes(30, generator(5))
    logs = drive(scenes, generator(6))
    psi = calibrate(own_signals(scenes, logs), logs.label)
    psi = {name: value + (-0.3 if name in ("vmin", "dmin", "dsafe") else 0.3) for name, value in psi.items()}
    others = futures(scenes)
    limits = torch.tensor([TURN_LIMIT, ACCELERATION_LIMIT])
    start = torch.randn(30, 4, STEPS, 2, generator=generator(7)) * torch.tensor([0.05, 1.0])
    before, after = [], []
    for mode in range(3):
        rows = (logs.label == mode).nonzero()[:, 0]
        own, own_psi = scenes[rows], {name: value[rows, None] for name, value in psi.items()}

        def score(controls, tau=20.0, own=own, own_psi=own_psi, mode=mode, rows=rows):
            heard = signals(own, roll_out(own.start[:, None], controls, DT), mode, others[rows])
            return robustness(lane_rule(mode, STEPS), *normalised(heard, own_psi), tau=tau)

        controls = descend(start[rows], score, limits, steps=120, rate=0.05)
        assert (controls.abs() <= limits).all()
        before.append(score(start[rows], tau=None))
        after.append(score(controls, tau=None))
    violating, solved = torch.cat(before) <= 0, torch.cat(after) > 0
    assert violating.float().mean() > 0.8
    assert (solved & violating).sum() > 0.6 * violating.sum()
    assert solved.any(-1).float().mean() >= 0.9


def test_descent_leaves_rows_that_do_not_count_alone():
    start = torch.ones(2, 3, 1)
    moved = descend(start, lambda u: -u.sum((-2, -1)), torch.tensor([2.0]), steps=5, valid=torch.tensor([True, False]))
    assert (moved[0] < 1).all()
    assert torch.equal(moved[1], start[1])
    with pytest.raises(UsageError, match="one per row"):
        descend(start, lambda u: u.sum(), torch.tensor([2.0]), steps=1)
    with pytest.raises(UsageError, match="finite"):
        descend(start, lambda u: u.sum((-2, -1)) * np.nan, torch.tensor([2.0]), steps=1)
