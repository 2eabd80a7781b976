"""`add` and `chain10`: sums whose steps a small model can learn to write out."""

from __future__ import annotations

import random
import re

from pilotage.environments.text.task import TextTask, share_of_equal
from pilotage.types import Item


class Add(TextTask):
    """Sums of two numbers with as many digits as the difficulty says: `47+85=` → `7+5+0=12,4+8+1=13#132`.

    A step adds two digits and the carry, from the right. Difficulty 1 has 100 prompts, difficulty d > 1
    has (9·10^(d-1))².
    """

    name = "add"
    known_difficulties = (1, 2, 3, 4, 5)
    default_difficulties = known_difficulties
    vocabulary = "0123456789+=,#"
    instruction = (
        "Add the two numbers. Write one step for each digit, from the right: digit+digit+carry=sum, "
        "separated by commas, then # and the result. Example: 47+85= gives 7+5+0=12,4+8+1=13#132"
    )
    step_pattern = re.compile(r"[0-9]\+[0-9]\+[01]=1?[0-9]")
    answer_pattern = re.compile(r"[0-9]{1,6}")

    def make(self, difficulty: int, rng: random.Random) -> Item:
        """Return a new item of a difficulty."""
        low = 10 ** (difficulty - 1) if difficulty > 1 else 0
        a, b = rng.randrange(low, 10**difficulty), rng.randrange(low, 10**difficulty)
        steps, carry = [], 0
        for x, y in zip(reversed(str(a)), reversed(str(b)), strict=True):
            total = int(x) + int(y) + carry
            steps.append(f"{x}+{y}+{carry}={total}")
            carry = total // 10
        return self._item(difficulty, f"{a}+{b}=", ",".join(steps), str(a + b))

    def longest(self, difficulty: int) -> int:
        """Return the longest answer of a difficulty, in tokens."""
        return len("9+9+1=18,") * difficulty - 1 + 1 + difficulty + 1

    def partial(self, item: Item, text: str) -> float:
        """Return the share of the digits of the result that are right, aligned at the ones."""
        parts = self._parts(text)
        return 0.0 if parts is None else share_of_equal(parts[1], item.answer)


class Chain10(TextTask):
    """Chains of operations modulo 10, from left to right: `7+5*3-2>` → `7+5=2,2*3=6,6-2=4#264`.

    The answer is the last three running values (all of them when there are fewer), so that guessing does not pay. The
    difficulty is the number of operations; 10 and 12 are for tests of extrapolation. Difficulty 1 has 300 prompts.
    """

    name = "chain10"
    known_difficulties = (1, 2, 3, 4, 6, 8, 10, 12)
    default_difficulties = (1, 2, 3, 4, 6, 8)
    vocabulary = "0123456789+-*>=,#"
    instruction = (
        "Work from left to right, every result modulo 10. Write each step as a+b=c, separated by commas, then # and "
        "the last three results (all of them when there are fewer). Example: 7+5*3-2> gives 7+5=2,2*3=6,6-2=4#264"
    )
    step_pattern = re.compile(r"[0-9][+\-*][0-9]=[0-9]")
    answer_pattern = re.compile(r"[0-9]{1,3}")

    def make(self, difficulty: int, rng: random.Random) -> Item:
        """Return a new item of a difficulty."""
        value = rng.randrange(10)
        prompt, steps, values = str(value), [], []
        for _ in range(difficulty):
            operation, operand = rng.choice("+-*"), rng.randrange(10)
            result = {"+": value + operand, "-": value - operand, "*": value * operand}[operation] % 10
            prompt += f"{operation}{operand}"
            steps.append(f"{value}{operation}{operand}={result}")
            values.append(str(result))
            value = result
        return self._item(difficulty, f"{prompt}>", ",".join(steps), "".join(values[-3:]))

    def longest(self, difficulty: int) -> int:
        """Return the longest answer of a difficulty, in tokens."""
        return len("7+5=2,") * difficulty - 1 + 1 + min(difficulty, 3)

    def partial(self, item: Item, text: str) -> float:
        """Return the share of the running values in the answer that are right, aligned at the last."""
        parts = self._parts(text)
        return 0.0 if parts is None else share_of_equal(parts[1], item.answer)
