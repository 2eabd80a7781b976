"""Answers of rtamt's discrete-time offline monitor on random formulas and signals: `make oracles`.

    python -m tests.oracles.rtamt_robustness tests/rewards/temporal_logic/rtamt.json

Runs in an environment of its own, because rtamt pins antlr4 4.7. Where rtamt and Pilotage mean different things no
question is asked: a window wholly past the end is worth ±inf to rtamt and the last step to Pilotage."""

from __future__ import annotations

import json
import random
import sys
from importlib.metadata import version
from pathlib import Path

CASES = 200
NAMES = ("x", "y", "z")


def predicate(rng: random.Random) -> str:
    """A linear predicate in text that both sides read."""
    left, right = rng.sample(NAMES, 2)
    relation = rng.choice(("<=", ">="))
    bound = rng.randint(-15, 15) / 10
    shape = rng.randrange(3)
    if shape == 0:
        return f"({left} {relation} {bound})"
    if shape == 1:
        return f"({left} + {right} {relation} {bound})"
    return f"({rng.choice((0.5, 2, 3))} * {left} - {right} {relation} {bound})"


def formula(rng: random.Random, depth: int, latest: int, end: int) -> str:
    """A formula that is judged at steps 0 to `latest` of a trajectory whose last step is `end`."""
    if depth == 0 or rng.random() < 0.1:
        return predicate(rng)
    kind = rng.choice(("not", "and", "or", "->", "always", "eventually", "until", "always", "eventually", "until"))
    if kind == "not":
        return f"not({formula(rng, depth - 1, latest, end)})"
    if kind in ("and", "or", "->"):
        return f"({formula(rng, depth - 1, latest, end)} {kind} {formula(rng, depth - 1, latest, end)})"
    window, reach = "", end
    if rng.random() < 0.7:
        lower = rng.randint(0, min(4, end - latest))
        upper = lower + rng.randint(0, 6)
        window, reach = f"[{lower},{upper}]", min(latest + upper, end)
    if kind == "until":
        left, right = (formula(rng, depth - 1, reach, end) for _ in range(2))
        return f"(({left}) until{window} ({right}))"
    return f"{kind}{window}({formula(rng, depth - 1, reach, end)})"


def judged(text: str, signals: dict[str, list[float]]) -> float:
    """rtamt's robustness at step 0."""
    import rtamt

    specification = rtamt.StlDiscreteTimeSpecification()
    for name in signals:
        specification.declare_var(name, "float")
    specification.spec = text
    specification.parse()
    steps = len(next(iter(signals.values())))
    data = {"time": list(range(steps)), **{name: list(values) for name, values in signals.items()}}
    return float(specification.evaluate(data)[0][1])


def main(path: Path) -> int:
    """Write the answers to `path`."""
    cases = []
    for seed in range(CASES):
        rng = random.Random(seed)
        steps = rng.randint(6, 16)
        signals = {name: [round(rng.gauss(0, 1.5), 2) for _ in range(steps)] for name in NAMES}
        text = formula(rng, 1 + seed % 4, 0, steps - 1)
        cases.append({"formula": text, "signals": signals, "robustness": judged(text, signals)})
    made = {
        "command": "python -m tests.oracles.rtamt_robustness tests/rewards/temporal_logic/rtamt.json",
        "versions": {name: version(name) for name in ("rtamt", "antlr4-python3-runtime")},
    }
    head = json.dumps(made, indent=1)[:-2]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path.write_text(f'{head},\n "cases": [\n{lines}\n ]\n}}\n', encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
