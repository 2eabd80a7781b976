"""A small system without torch, as another package would bring it by an entry point."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pilotage.core.claims import Arm, Claim, Criterion
from pilotage.core.configuration import INPUT_FILE
from pilotage.core.system import Card, Paper, Result, System


@dataclass(frozen=True)
class Training:
    """Options that many systems share."""

    lr: float = 1e-3
    """Learning rate, above 0 (paper: η)."""
    steps: int = 3
    """Updates."""
    levels: tuple[int, ...] = (1, 2)
    """Levels of difficulty."""
    task: Literal["add", "sort-of"] = "add"
    """What is learnt."""
    shuffle: bool = True
    """Whether items are shuffled."""
    clip: float | None = None
    """Largest gradient norm; none: no limit."""

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"--lr: given {self.lr}, expected a number above 0")


@dataclass(frozen=True)
class Config(Training):
    advantage: str | Callable[..., Any] = "mine"
    """The advantage."""
    judge: Callable[..., Any] | None = None
    """A function that judges."""
    window: tuple[float, float] = (0.0, 1.0)
    """Lowest and highest ratio."""
    data: Annotated[str | None, INPUT_FILE] = None
    """Questions of your own."""
    fail: bool = False
    """Whether the run fails half-way."""


def run(config: Config, run: Any) -> Result:
    if config.fail:
        raise RuntimeError("the loss is not finite at step 2")
    directory = Path(run.directory)
    (directory / "fake.json").write_text(json.dumps({"steps": config.steps}))
    return Result(run=str(directory), metrics={"accuracy": 0.5 + config.lr, "loss": 1.25})


def estimate_cost(config: Config) -> dict[str, float]:
    return {"steps": config.steps, "tokens": 100.0 * config.steps, "seconds": 2.0 * config.steps}


def mine(reward: Any, *, scale: float = 2.0) -> Any:
    """Return the reward times a factor.

    Args:
        reward: one number per answer.
        scale: the factor.
    """
    return reward * scale


SYSTEM = System(
    Card(
        name="fake-pilot",
        family="reasoning",
        summary="Learns nothing, quickly.",
        audience="Tests.",
        use_when="the command line is tested",
        avoid_when="anything is to be learnt",
        paper=Paper("On Doing Nothing", "0000.00000"),
        notes="- A *note* of the card.",
    ),
    Config(),
    run,
    {"estimate_cost": estimate_cost},
)

CLAIMS = [
    Claim(
        name="faster",
        statement="Nothing is faster than nothing.",
        source="section 1",
        arms={"fake": Arm("fake-pilot"), "slow": Arm("fake-pilot --lr 0.1")},
        metric="accuracy",
        criterion=Criterion("better", 0.1),
        compare=("fake", "slow"),
        primary=True,
    )
]
