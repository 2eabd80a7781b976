import math

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import affinity

from pilotage.core.errors import UsageError
from pilotage.systems.robots.stl_diffusion.env.geometry import (
    beside,
    chain_of_pieces,
    circle_distance,
    lane_coordinates,
    poses_along,
    roll_out,
    stations,
    wrap,
)

CAR = (4.084, 1.730)
curvatures = st.sampled_from((0.0, 1 / 30, -1 / 30, 1 / 200, -1 / 200)) | st.floats(-1 / 30, 1 / 30)


def doubles(value):
    return torch.tensor(value, dtype=torch.float64)


def road(curvature, spacing=2.5, count=15):
    """A chain of arcs in pieces of equal length with the given curvatures."""
    pieces = doubles([curvature])
    per_piece = (count - 1) // len(curvature)
    return chain_of_pieces(pieces, torch.full_like(pieces, per_piece * spacing), per_piece)


# ---- unicycle --------------------------------------------------------------------------------------------------------


def test_the_roll_out_is_euler_step_by_step():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, generator=generator)
    controls = torch.randn(3, 20, 2, generator=generator)
    states = roll_out(start, controls, 0.5)
    expected = np.zeros((3, 21, 4))
    expected[:, 0] = start.double().numpy()
    for t in range(20):
        _, _, heading, speed = expected[:, t].T
        turn, gas = controls[:, t].double().numpy().T
        step = np.stack([speed * np.cos(heading), speed * np.sin(heading), turn, gas], -1)
        expected[:, t + 1] = expected[:, t] + 0.5 * step
    np.testing.assert_allclose(states.numpy(), expected, atol=2e-4)
    np.testing.assert_allclose(roll_out(start.double(), controls.double(), 0.5).numpy(), expected, atol=1e-12)


def test_many_draws_share_one_start():
    start, controls = torch.randn(2, 1, 4), torch.randn(2, 5, 7, 2)
    states = roll_out(start, controls, 0.1)
    assert states.shape == (2, 5, 8, 4)
    torch.testing.assert_close(states[1, 3], roll_out(start[1, 0], controls[1, 3], 0.1))


# ---- lanes -----------------------------------------------------------------------------------------------------------


@given(st.lists(curvatures, min_size=1, max_size=2), st.floats(-60, 100), st.floats(-8, 8), st.floats(-3, 3))
@settings(max_examples=60)
def test_coordinates_are_those_a_pose_was_made_from(curvature, station, lateral, error):
    chain = road(curvature)
    pose = poses_along(chain, doubles([[station]]), lateral) + doubles([0.0, 0.0, error])
    offset, heading, at = lane_coordinates(pose, chain)
    assert offset.item() == pytest.approx(lateral, abs=1e-6)
    assert at.item() == pytest.approx(station, abs=1e-6)
    assert math.cos(heading.item() - error) == pytest.approx(1.0)
    assert -math.pi <= heading.item() < math.pi


@pytest.mark.parametrize("radius", [30.0, -30.0, 200.0])
def test_a_car_that_follows_an_arc_has_no_offset_and_no_heading_error(radius):
    angle = torch.linspace(0, 1.5, 14 * 14 + 1, dtype=torch.float64) * math.copysign(1, radius)
    circle = torch.stack([radius * angle.sin(), radius * (1 - angle.cos()), angle], -1)[None]
    offset, heading, _ = lane_coordinates(circle, circle[:, ::14])
    assert offset.abs().max() < 1e-9
    assert heading.abs().max() < 1e-9


def test_left_is_positive_and_headings_wrap():
    straight = doubles([[[0.0, 0.0, math.pi - 0.01], [-10.0, 0.1, math.pi - 0.01]]])
    offset, heading, _ = lane_coordinates(doubles([[[-5.0, -1.0, -math.pi + 0.01]]]), straight)
    assert offset.item() == pytest.approx(1.05, abs=0.01)
    assert heading.item() == pytest.approx(0.02, abs=1e-5)
    wrapped = doubles([3.5 - 2 * math.pi, 2 * math.pi - 3.5, -math.pi])
    torch.testing.assert_close(wrap(doubles([3.5, -3.5, math.pi])), wrapped)


@given(st.lists(curvatures, min_size=1, max_size=2), st.floats(-3.5, 3.5), st.floats(0, 35))
@settings(max_examples=30)
def test_a_lane_beside_runs_at_a_constant_distance(curvature, lateral, station):
    chain = road(curvature)
    pose = poses_along(beside(chain, lateral), doubles([[station]]))
    offset, heading, _ = lane_coordinates(pose, chain)
    assert offset.item() == pytest.approx(lateral, abs=1e-6)
    assert heading.item() == pytest.approx(0.0, abs=1e-6)


def test_way_points_lie_at_their_stations():
    chain = road([1 / 40, -1 / 60], spacing=3.0)
    torch.testing.assert_close(stations(chain), 3.0 * torch.arange(15, dtype=torch.float64)[None])
    torch.testing.assert_close(poses_along(chain, stations(chain)), chain)


def test_gradients_are_finite_far_off_on_the_line_and_at_the_centre_of_an_arc():
    chain = road([1 / 30])
    poses = doubles([[[0.0, 0.0, 0.0], [0.0, 30.0, 1.0], [500.0, -300.0, 9.0], [-40.0, 0.0, 0.0]]]).requires_grad_()
    offset, heading, _ = lane_coordinates(poses, chain)
    (offset.sum() + heading.sum()).backward()
    assert poses.grad.isfinite().all()


def test_a_chain_needs_two_way_points():
    with pytest.raises(UsageError, match="P ≥ 2"):
        lane_coordinates(torch.zeros(1, 5, 3), torch.zeros(1, 1, 3))


# ---- cars ------------------------------------------------------------------------------------------------------------


def rectangle(pose):
    box = shapely.box(-CAR[0] / 2, -CAR[1] / 2, CAR[0] / 2, CAR[1] / 2)
    return affinity.translate(affinity.rotate(box, pose[2], origin=(0, 0), use_radians=True), *pose[:2])


def test_circles_never_exceed_the_true_distance_and_fall_short_by_what_they_overhang():
    """A circle about the axis that covers both corners of an end stands out before it by .49 m, beside the car by
    .14 m: that is the least for four equal circles that cover, and a quarter of a metre is not to be had."""
    random = np.random.default_rng(0)
    size = doubles(CAR)
    for _ in range(300):
        poses = random.uniform([-7, -7, -math.pi], [7, 7, math.pi], (2, 3))
        true = rectangle(poses[0]).distance(rectangle(poses[1]))
        if true == 0:
            continue
        ours = circle_distance(doubles(poses[0]), doubles(poses[1]), size, size).item()
        assert true - 2 * 0.495 <= ours <= true + 1e-9
    for ahead in np.linspace(-4, 4, 17):
        poses = np.array([[0.0, 0.0, 0.0], [ahead, 3.5, 0.0]])
        true = rectangle(poses[0]).distance(rectangle(poses[1]))
        ours = circle_distance(doubles(poses[0]), doubles(poses[1]), size, size).item()
        assert true - 0.29 <= ours <= true + 1e-9


def test_the_distance_has_a_gradient_where_centres_meet():
    pose = torch.zeros(3, requires_grad=True)
    circle_distance(pose, torch.zeros(3), torch.tensor(CAR), torch.tensor(CAR)).backward()
    assert pose.grad.isfinite().all()
