"""Point mazes with several ways to the goal: Gymnasium-Robotics' PointMaze on maps of ours.

A ball of 4 kg is pushed by a force in x and y through corridors one metre wide, 100 steps a second. The route is
labelled by its homotopy class, so that two ways round an obstacle have two labels however they wobble.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from pilotage.core.errors import UsageError
from pilotage.environments.control.drawing import BLUE, INK, GroundPlan, draw_plan
from pilotage.environments.control.homotopy import RouteWord

Cell = tuple[int, int]
REACHED = 0.45
"""Distance in metres at which PointMaze counts the goal as reached."""

LAYOUTS: dict[str, tuple[str, ...]] = {
    "ring": ("#######", "#     #", "# ### #", "# ### #", "# ### #", "#     #", "#######"),
    "lattice": ("#######", "#     #", "# # # #", "#     #", "# # # #", "#     #", "#######"),
}
"""The ring has two shortest routes between opposite corners, the lattice six."""


class PointMaze(gymnasium.Env):
    """Reach the goal. Reward 1 there, which ends the episode.

    Observes [x, y, vx, vy, goal x, goal y], or with `goal_conditioned` {"state": [x, y, vx, vy], "goal": [x, y]};
    metres and metres a second. Acts by a force [fx, fy] in [-1, 1]. The info has "success", "mode" (the route's word)
    and "distance" to the goal. `reset(options={"start": [x, y], "goal": [x, y]})` sets either exactly.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # Gymnasium declares it per instance
        "render_modes": ["rgb_array"],
        "render_fps": 100,
    }

    place_dims = (0, 1)
    """Entries of the state that say where on the map the acting body is."""

    def __init__(
        self,
        layout: str | Sequence[str] = "ring",
        *,
        start_cell: Cell | None = (1, 1),
        goal_cell: Cell | None = (5, 5),
        noise: float = 0.25,
        goal_conditioned: bool = False,
        ends_at_goal: bool = True,
        max_steps: int = 400,
        render_mode: str | None = None,
    ) -> None:
        """
        Args:
            layout: a name in LAYOUTS, or rows of "#" (wall) and " ".
            start_cell, goal_cell: (row, column); None: drawn among the free cells, two or more apart.
            noise: half width in metres of the square within the cell in which start and goal are drawn; 0: one fixed
                start and goal.
            goal_conditioned: shows the goal apart from the state.
            ends_at_goal: False: the episode goes on to its limit, for play.
            max_steps: after so many steps the episode is truncated.
        """
        from gymnasium_robotics.envs.maze.point_maze import PointMazeEnv

        rows = _rows(layout)
        self.walls = np.array([[letter == "#" for letter in row] for row in rows])
        for name, cell in (("start_cell", start_cell), ("goal_cell", goal_cell)):
            if cell is not None and self.walls[cell]:
                raise UsageError(f"{name} {cell} is a wall of the maze")
        self._maze = PointMazeEnv(maze_map=self.walls.astype(int).tolist(), continuing_task=False)
        os.unlink(self._maze.tmp_xml_file_path)  # PointMaze leaves it behind, one for every environment
        self._start_cell, self._goal_cell, self._noise = start_cell, goal_cell, noise
        self._goal_conditioned, self._ends_at_goal, self._max_steps = goal_conditioned, ends_at_goal, max_steps
        self.goal_dims = (0, 1) if goal_conditioned else None
        """Entries of the state that the goal speaks of, in the goal's order."""
        self.render_mode = render_mode
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        half = np.array([self.walls.shape[1], self.walls.shape[0]], np.float32) / 2
        bounds = np.concatenate([half, [10, 10]]).astype(np.float32)  # PointMaze holds speeds below 5.3
        state = spaces.Box(-bounds, bounds, dtype=np.float32)
        goal = spaces.Box(-half, half, dtype=np.float32)
        self.observation_space: spaces.Space = (
            spaces.Dict({"state": state, "goal": goal})
            if goal_conditioned
            else spaces.Box(np.concatenate([-bounds, -half]), np.concatenate([bounds, half]), dtype=np.float32)
        )
        self.pillars = self._islands()
        self.goal = np.zeros(2)
        self._trail: list[np.ndarray] = []

    # ---- geometry

    def centre(self, cell: Cell) -> np.ndarray:
        """Return the middle [x, y] of a cell (row, column)."""
        return np.asarray(self._maze.maze.cell_rowcol_to_xy(np.array(cell)))

    def cell(self, point: np.ndarray) -> Cell:
        """Return the cell (row, column) that a point is in."""
        row, column = self._maze.maze.cell_xy_to_rowcol(point)
        return int(row), int(column)

    def neighbours(self, cell: Cell) -> list[Cell]:
        """Return the free cells beside a cell."""
        row, column = cell
        around = [(row, column + 1), (row + 1, column), (row, column - 1), (row - 1, column)]
        return [near for near in around if not self.walls[near]]

    def free_cells(self) -> list[Cell]:
        """Return the cells without a wall."""
        return [(int(row), int(column)) for row, column in np.argwhere(~self.walls)]

    def _islands(self) -> list[tuple[float, float]]:
        """A point in every piece of wall that is not joined to the border: what can be gone round."""
        height, width = self.walls.shape
        left = {(int(r), int(c)) for r, c in np.argwhere(self.walls)}
        found = []
        while left:
            piece, edge = [], deque([min(left)])
            left.discard(edge[0])
            while edge:
                row, column = edge.popleft()
                piece.append((row, column))
                for near in ((row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
                    if near in left:
                        left.discard(near)
                        edge.append(near)
            if all(0 < row < height - 1 and 0 < column < width - 1 for row, column in piece):
                middle = min(piece, key=lambda cell: np.hypot(*(np.array(cell) - np.mean(piece, axis=0))))
                found.append(_pair(self.centre(middle)))
        return found

    def plan(self) -> GroundPlan:
        """Walls, and start and goal where they are fixed to a cell."""
        half_width, half_height = self.walls.shape[1] / 2, self.walls.shape[0] / 2
        corners = [self.centre((int(r), int(c))) - 0.5 for r, c in np.argwhere(self.walls)]
        starts = [] if self._start_cell is None else [_pair(self.centre(self._start_cell))]
        goals = [] if self._goal_cell is None else [(*_pair(self.centre(self._goal_cell)), REACHED)]
        return GroundPlan(
            extent=(-half_width, half_width, -half_height, half_height),
            boxes=[(float(x), float(y), 1.0, 1.0) for x, y in corners],
            starts=starts,
            goals=goals,
        )

    # ---- the Gymnasium interface

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        given = options or {}
        start, self.goal = self._ends()
        start = np.asarray(given.get("start", start), dtype=np.float64)
        self.goal = np.asarray(given.get("goal", self.goal), dtype=np.float64)
        for name, point in (("start", start), ("goal", self.goal)):
            if point.shape != (2,) or self.walls[self.cell(point)]:
                raise UsageError(f"the {name} of a maze is a point [x, y] outside its walls; {point} was given")
        point_env = self._maze.point_env
        point_env.init_qpos[:2] = start
        state, _ = point_env.reset(seed=0)  # draws nothing
        self._steps, self._route, self._trail = 0, RouteWord(self.pillars, state[:2]), [state[:2].copy()]
        return self._shown(state), self._info(state)

    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """Start and goal as drawn: always the same count of random numbers."""
        free = self.free_cells()
        drawn = [free[int(i)] for i in self.np_random.permutation(len(free))]
        goal_cell = self._goal_cell or drawn[0]
        apart = [cell for cell in drawn if abs(cell[0] - goal_cell[0]) + abs(cell[1] - goal_cell[1]) >= 2]
        start_cell = self._start_cell or apart[0]
        shift = self.np_random.uniform(-self._noise, self._noise, (2, 2))
        return self.centre(start_cell) + shift[0], self.centre(goal_cell) + shift[1]

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Act for one step; see `gymnasium.Env.step`."""
        state, *_ = self._maze.point_env.step(np.asarray(action, dtype=np.float64))
        self._steps += 1
        self._route.move(state[:2])
        self._trail.append(state[:2].copy())
        info = self._info(state)
        terminated = info["success"] and self._ends_at_goal
        return self._shown(state), float(info["success"]), terminated, self._steps >= self._max_steps, info

    def _shown(self, state: np.ndarray) -> Any:
        if self._goal_conditioned:
            return {"state": state.astype(np.float32), "goal": self.goal.astype(np.float32)}
        return np.concatenate([state, self.goal]).astype(np.float32)

    def _info(self, state: np.ndarray) -> dict[str, Any]:
        distance = float(np.hypot(*(state[:2] - self.goal)))
        return {"success": distance <= REACHED, "mode": self._route.word, "distance": distance}

    @property
    def state(self) -> np.ndarray:
        """Return float64, [x, y, vx, vy]."""
        data = self._maze.point_env.data
        return np.concatenate([data.qpos, data.qvel])

    def render(self) -> np.ndarray | None:
        """Return the current frame, [height, width, 3] uint8."""
        if self.render_mode is None:
            return None
        plan = self.plan()
        canvas = draw_plan(GroundPlan(plan.extent, plan.boxes, goals=[(*_pair(self.goal), REACHED)]))
        canvas.path(self._trail, BLUE)
        canvas.disc(self.state[:2], 0.1, INK)
        return canvas.frame()

    def close(self) -> None:
        """Release what was opened."""
        self._maze.close()


def _pair(point: np.ndarray) -> tuple[float, float]:
    return float(point[0]), float(point[1])


def _rows(layout: str | Sequence[str]) -> Sequence[str]:
    if isinstance(layout, str):
        if layout not in LAYOUTS:
            raise UsageError(
                f"there is no maze {layout!r}; there are {', '.join(LAYOUTS)}, or give rows of '#' and ' '"
            )
        return LAYOUTS[layout]
    edge = {*layout[0], *layout[-1], *(row[0] for row in layout), *(row[-1] for row in layout)}
    if len({len(row) for row in layout}) != 1 or edge != {"#"} or not set("".join(layout)) <= {"#", " "}:
        raise UsageError("a maze is given as rows of equal length of '#' (wall) and ' ', with walls all round")
    return layout


# ---- experts ---------------------------------------------------------------------------------------------------------


def shortest_routes(env: PointMaze, start: Cell, goal: Cell) -> list[list[Cell]]:
    """Return all shortest routes between two cells, as lists of cells from start to goal."""
    steps = {goal: 0}
    edge = deque([goal])
    while edge:
        cell = edge.popleft()
        for near in env.neighbours(cell):
            if near not in steps:
                steps[near] = steps[cell] + 1
                edge.append(near)
    routes = [[start]]
    for _ in range(steps[start]):
        routes = [[*route, n] for route in routes for n in env.neighbours(route[-1]) if steps[n] < steps[route[-1]]]
    return routes


def route_word(env: PointMaze, route: Sequence[Cell]) -> str:
    """Return the mode that a route through the middles of these cells has."""
    word = RouteWord(env.pillars, env.centre(route[0]))
    for cell in route[1:]:
        word.move(env.centre(cell))
    return word.word


class WaypointExpert:
    """Follows a shortest route from corner to corner by a spring and a damper: a = clip(10 d - 2 v, ±1), the next
    waypoint at 0.3 m. Takes the routes of different modes in turn.
    """

    disturbance = 0.0

    def __init__(self, noise: float = 0.1) -> None:
        """noise: standard deviation of what is added to every action."""
        self.noise = noise
        self._waypoints: list[np.ndarray] = []

    def reset(self, env: gymnasium.Env, generator: np.random.Generator, turn: int) -> None:
        """Begin an episode."""
        maze = _maze_of(env)
        self._generator = generator
        routes = shortest_routes(maze, maze.cell(maze.state[:2]), maze.cell(maze.goal))
        modes = sorted({route_word(maze, route) for route in routes})
        mode = modes[turn % len(modes)]
        self._follow(maze, next(route for route in routes if route_word(maze, route) == mode), maze.goal)

    def _follow(self, maze: PointMaze, route: Sequence[Cell], last: np.ndarray) -> None:
        turns = [
            here
            for before, here, after in zip(route, route[1:], route[2:], strict=False)
            if (here[0] - before[0], here[1] - before[1]) != (after[0] - here[0], after[1] - here[1])
        ]
        self._waypoints = [*(maze.centre(cell) for cell in turns), last]

    def act(self, env: gymnasium.Env) -> np.ndarray:
        """Return the next action of each row."""
        state = _maze_of(env).state
        while len(self._waypoints) > 1 and np.hypot(*(self._waypoints[0] - state[:2])) < 0.3:
            self._waypoints.pop(0)
        pull = 10 * (self._waypoints[0] - state[:2]) - 2 * state[2:]
        return np.clip(np.clip(pull, -1, 1) + self.noise * self._generator.normal(size=2), -1, 1)


class PlayExpert(WaypointExpert):
    """Walks from one free cell drawn at random to the next, by a shortest route drawn at random, for as long as the
    episode lasts: play, whose future states are the goals. For mazes with ends_at_goal=False.
    """

    disturbance = 0.0

    def reset(self, env: gymnasium.Env, generator: np.random.Generator, turn: int) -> None:  # noqa: ARG002
        """Begin an episode."""
        self._generator = generator
        self._choose(_maze_of(env))

    def _choose(self, maze: PointMaze) -> None:
        here = maze.cell(maze.state[:2])
        others = [cell for cell in maze.free_cells() if cell != here]
        target = others[int(self._generator.integers(len(others)))]
        routes = shortest_routes(maze, here, target)
        self._follow(maze, routes[int(self._generator.integers(len(routes)))], maze.centre(target))

    def act(self, env: gymnasium.Env) -> np.ndarray:
        """Return the next action of each row."""
        maze = _maze_of(env)
        if len(self._waypoints) == 1 and np.hypot(*(self._waypoints[0] - maze.state[:2])) < 0.3:
            self._choose(maze)
        return super().act(env)


def ring_fixed(**options: Any) -> PointMaze:
    """Return the ring with one fixed start and goal."""
    return PointMaze(**{"layout": "ring", "noise": 0.0, **options})


def lattice(**options: Any) -> PointMaze:
    """Return the lattice, with a corner to start from and the opposite one as goal."""
    return PointMaze(**{"layout": "lattice", **options})


def lattice_fixed(**options: Any) -> PointMaze:
    """Return the lattice with one fixed start and goal."""
    return lattice(**{"noise": 0.0, **options})


def lattice_goals(**options: Any) -> PointMaze:
    """Return the lattice with starts and goals anywhere; the goal is shown apart from the state."""
    return lattice(**{"goal_conditioned": True, "start_cell": None, "goal_cell": None, **options})


def lattice_play(**options: Any) -> PointMaze:
    """Return the lattice in which an episode goes on to its limit, for play."""
    return lattice_goals(**{"ends_at_goal": False, "max_steps": 500, **options})


def _maze_of(env: gymnasium.Env) -> PointMaze:
    assert isinstance(env.unwrapped, PointMaze)
    return env.unwrapped
