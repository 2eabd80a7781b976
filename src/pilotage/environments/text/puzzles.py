"""`countdown`, `sort` and `maze`: a right answer is one that a check accepts, not always one that was stored."""

from __future__ import annotations

import random
import re
from collections import Counter, deque

from pilotage.environments.text.task import TextTask, share_of_equal
from pilotage.types import Item

_STEP = re.compile(r"(-?[0-9]{1,9})([+\-*])(-?[0-9]{1,9})=(-?[0-9]{1,18})")


def _apply(a: int, operation: str, b: int) -> int:
    return a + b if operation == "+" else a - b if operation == "-" else a * b


class Countdown(TextTask):
    """Puzzles in which a target is reached with every number used once: `2,3,7:13=` → `2*3=6,6+7=13#13`.

    Each step takes two of the numbers at hand (+, - or *) and puts their result in their place; a completion is right
    when the steps are true, exactly one number remains, and it is the target after the `#`. Any such derivation counts.
    The difficulty is the number of operations; numbers are 1 to 9, targets and the gold steps' results 0 to 99.
    """

    name = "countdown"
    known_difficulties = (1, 2, 3)
    default_difficulties = known_difficulties
    vocabulary = "0123456789+-*:=,#"
    instruction = (
        "Reach the number after the colon with +, - and *, using each number before it exactly once. Write each step "
        "as a*b=c, separated by commas, then # and the target. Example: 2,3,7:13= gives 2*3=6,6+7=13#13"
    )
    step_pattern = _STEP
    answer_pattern = re.compile(r"[0-9]{1,2}")

    def make(self, difficulty: int, rng: random.Random) -> Item:
        """Return a new item of a difficulty."""
        while True:
            numbers = [rng.randint(1, 9) for _ in range(difficulty + 1)]
            value, steps = numbers[0], []
            for number in numbers[1:]:
                operation = rng.choice("+-*")
                result = _apply(value, operation, number)
                steps.append(f"{value}{operation}{number}={result}")
                value = result
                if not 0 <= value <= 99:
                    break
            else:
                break
        rng.shuffle(numbers)
        prompt = ",".join(map(str, numbers)) + f":{value}="
        return self._item(difficulty, prompt, ",".join(steps), str(value), {"numbers": tuple(numbers)})

    def longest(self, difficulty: int) -> int:
        """Return the longest answer of a difficulty, in tokens."""
        return len("9*9=81,") + len("81+9=90,") * (difficulty - 1) - 1 + len("#90")

    def right(self, item: Item, steps: str, answer: str) -> bool:
        """Return whether answers are right."""
        if answer != item.answer:
            return False
        at_hand = Counter(item.meta["numbers"])
        for step in steps.split(","):
            match = _STEP.fullmatch(step.strip())
            if match is None:
                return False
            a, b, result = int(match[1]), int(match[3]), int(match[4])
            at_hand.subtract((a, b))
            if min(at_hand[a], at_hand[b]) < 0 or _apply(a, match[2], b) != result:
                return False
            at_hand[result] += 1
        return +at_hand == Counter([int(item.answer)])


class Sort(TextTask):
    """Lists of two-digit numbers to be put in rising order: `45,07,93>` → `#07,45,93`.

    The difficulty is how many there are. There are no steps, so the bare list `07,45,93` is taken as an answer, too.
    Slow to learn: for stress only.
    """

    name = "sort"
    known_difficulties = (3, 4, 5, 6, 7)
    default_difficulties = known_difficulties
    vocabulary = "0123456789>,#"
    instruction = (
        "Sort the two-digit numbers from small to large. Write # and the sorted numbers, separated by commas. "
        "Example: 45,07,93> gives #07,45,93"
    )
    step_pattern = None
    answer_pattern = re.compile(r"[0-9]{2}(,[0-9]{2}){2,6}")

    def make(self, difficulty: int, rng: random.Random) -> Item:
        """Return a new item of a difficulty."""
        numbers = [f"{rng.randrange(100):02d}" for _ in range(difficulty)]
        return self._item(difficulty, ",".join(numbers) + ">", "", ",".join(sorted(numbers)))

    def longest(self, difficulty: int) -> int:
        """Return the longest answer of a difficulty, in tokens."""
        return len("#") + len("07,") * difficulty - 1

    def partial(self, item: Item, text: str) -> float:
        """Return the share of the numbers that stand in their place."""
        parts = self._parts(text)
        return 0.0 if parts is None else share_of_equal(parts[1].split(","), item.answer.split(","))

    def _parts(self, text: str) -> tuple[str, str] | None:
        return super()._parts(text if "#" in text else f"#{text}")


_MOVES = {"u": (-1, 0), "r": (0, 1), "d": (1, 0), "l": (0, -1)}


class Maze(TextTask):
    """Mazes through which a way is to be found.

    A prompt is the rows of a grid, of `.` (free), `x` (wall), `s` (start), `g` (goal), joined by `/`, then `>`; the
    answer is `#` and the moves `u`, `r`, `d`, `l`. Any path from start to goal over free cells is right.

    The difficulty is the width and height of the grid. Shortest paths take 2 to twice that many moves.
    """

    name = "maze"
    known_difficulties = (5, 6, 7, 8, 9)
    default_difficulties = known_difficulties
    vocabulary = ".xsg/>urdl#"
    instruction = (
        "Find a way from s to g in the grid (rows separated by /, x is a wall). Write # and the moves: u up, r right, "
        "d down, l left. Example: s.x/x.g/xx.> gives #rdr"
    )
    step_pattern = None
    answer_pattern = re.compile(r"[urdl]{1,1000}")

    wall_share = 0.3

    def make(self, difficulty: int, rng: random.Random) -> Item:
        """Return a new item of a difficulty."""
        while True:
            grid = [
                ["x" if rng.random() < self.wall_share else "." for _ in range(difficulty)] for _ in range(difficulty)
            ]
            row, column, goal_row, goal_column = (rng.randrange(difficulty) for _ in range(4))
            grid[row][column], grid[goal_row][goal_column] = "s", "g"
            path = shortest_path(grid, (row, column), (goal_row, goal_column))
            if path is not None and 2 <= len(path) <= 2 * difficulty:
                rows = tuple("".join(line) for line in grid)
                return self._item(difficulty, "/".join(rows) + ">", "", path, {"grid": rows})

    def longest(self, difficulty: int) -> int:
        """Return the longest answer of a difficulty, in tokens."""
        return len("#") + 2 * difficulty

    def right(self, item: Item, steps: str, answer: str) -> bool:
        """Return whether answers are right."""
        if steps or self.answer_pattern.fullmatch(answer) is None:
            return False
        grid = item.meta["grid"]
        row, column = next((i, line.index("s")) for i, line in enumerate(grid) if "s" in line)
        for move in answer:
            row, column = row + _MOVES[move][0], column + _MOVES[move][1]
            if not (0 <= row < len(grid) and 0 <= column < len(grid[0])) or grid[row][column] == "x":
                return False
        return grid[row][column] == "g"


def shortest_path(grid: list[list[str]], start: tuple[int, int], goal: tuple[int, int]) -> str | None:
    """Return the moves of a shortest path over cells that are not `x`; None when there is none."""
    paths = {start: ""}
    waiting = deque([start])
    while waiting:
        cell = waiting.popleft()
        if cell == goal:
            return paths[cell]
        for move, (down, right) in _MOVES.items():
            row, column = cell[0] + down, cell[1] + right
            inside = 0 <= row < len(grid) and 0 <= column < len(grid[0])
            if inside and grid[row][column] != "x" and (row, column) not in paths:
                paths[row, column] = paths[cell] + move
                waiting.append((row, column))
    return None
