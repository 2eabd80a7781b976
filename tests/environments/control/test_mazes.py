from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage.core.errors import UsageError
from pilotage.environments.control import control_env
from pilotage.environments.control.homotopy import RouteWord


def word(points, obstacles) -> str:
    route = RouteWord(obstacles, points[0])
    for point in points[1:]:
        route.move(point)
    return route.word


PAIR = [(0.0, 0.0), (0.0, 2.0)]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(-1, -1), (1, -1)], "-"),
        ([(-1, 1), (1, 1)], "a"),
        ([(-1, 3), (1, 3)], "ab"),
        ([(1, 1), (-1, 1)], "A"),
        ([(-1, 1), (1, 1), (-1, 1)], "-"),
        ([(-1, 1), (1, 1), (1, -1), (-1, -1), (-1, 1), (1, 1)], "aa"),
        ([(-1, 3), (1, 3), (-1, 0.5)], "abA"),
    ],
)
def test_words_spell_the_way_round(points, expected):
    assert word(points, PAIR) == expected


angles = st.lists(st.floats(-0.4, 0.4), min_size=6, max_size=6)


@given(angles, st.integers(2, 9), st.sampled_from([1, -1]))
def test_wobbling_and_finer_steps_leave_the_word_as_it_is(wobbles, finer, side):
    """A path over or under one pillar, bent at will on its side."""
    xs = np.linspace(-2, 2, 6)
    bent = [(-2.0, 0.0), *[(x, side * (1 + w)) for x, w in zip(xs, wobbles, strict=True)], (2.0, 0.0)]
    fine = [tuple(np.array(a) + s * (np.array(b) - a)) for a, b in pairwise(bent) for s in np.linspace(0, 1, finer)]
    assert word(bent, [(0.0, 0.0)]) == word(fine, [(0.0, 0.0)]) == ("a" if side > 0 else "-")


halves = st.integers(-6, 6)
places = st.tuples(halves.map(lambda n: n / 2 + 2**0.5 / 7), halves.map(lambda n: n / 2 + 3**0.5 / 9))
"""Offsets without a rational ratio, so that no path leads through a pillar's very point."""


@given(st.lists(places, min_size=2, max_size=8))
def test_going_back_the_same_way_undoes_the_word(points):
    assert word([*points, *points[::-1]], PAIR) == "-"


def test_the_layouts_have_two_and_six_ways():
    pytest.importorskip("gymnasium_robotics")
    from pilotage.environments.control.mazes import route_word, shortest_routes

    for name, ways in (("ring", 2), ("lattice", 6)):
        maze = control_env(name)
        routes = shortest_routes(maze, (1, 1), (5, 5))
        assert {len(route) for route in routes} == {9}
        assert len(routes) == len({route_word(maze, route) for route in routes}) == ways
        assert len(maze.pillars) == {"ring": 1, "lattice": 4}[name]


def test_starts_and_goals_are_where_they_were_asked_for():
    pytest.importorskip("gymnasium_robotics")
    env = control_env("lattice-goals")
    ends = set()
    for seed in range(30):
        shown, info = env.reset(seed=seed)
        start, goal = shown["state"][:2], shown["goal"]
        assert not env.walls[env.cell(start)]
        assert not env.walls[env.cell(goal)]
        assert not info["success"]
        ends.add((env.cell(start), env.cell(goal)))
    assert len(ends) > 20
    shown, _ = env.reset(seed=0, options={"start": [2.0, 0.25], "goal": [-2.0, -2.0]})
    assert shown["state"].tolist() == [2.0, 0.25, 0.0, 0.0]
    assert shown["goal"].tolist() == [-2.0, -2.0]
    fixed = control_env("ring-fixed")
    assert len({fixed.reset(seed=seed)[0].tobytes() for seed in range(5)}) == 1


def test_no_file_is_left_behind(tmp_path, monkeypatch):
    pytest.importorskip("gymnasium_robotics")
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    control_env("ring").close()
    assert list(tmp_path.iterdir()) == []


def test_play_goes_on_to_the_limit_and_visits_many_places():
    pytest.importorskip("gymnasium_robotics")
    from pilotage.environments.control import control_expert

    env, expert = control_env("lattice-play"), control_expert("lattice-play")
    env.reset(seed=2)
    expert.reset(env, np.random.default_rng(0), 0)
    cells, truncated = set(), False
    while not truncated:
        _, _, terminated, truncated, _ = env.step(expert.act(env))
        assert not terminated
        cells.add(env.cell(env.state[:2]))
    assert len(cells) >= 8


def test_what_is_no_maze_is_refused():
    pytest.importorskip("gymnasium_robotics")
    for options, words in (
        ({"layout": "spiral"}, "there are ring, lattice"),
        ({"layout": ["###", "#  ", "###"]}, "walls all round"),
        ({"start_cell": (0, 0)}, "is a wall"),
    ):
        with pytest.raises(UsageError, match=words):
            control_env("ring", **options)
    with pytest.raises(UsageError, match="outside its walls"):
        control_env("ring").reset(options={"goal": [0.0, 0.0]})
