"""A small network as planner: it reads the state that any planner is given and answers with changes of rates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pilotage.core.errors import UsageError
from pilotage.systems.societies.llm_economist.scripted_planners import read_state

CHANGES = (-20.0, -10.0, 0.0, 10.0, 20.0)
"""Points by which a rate may change in a year."""
SHARP = 20.0
"""Factor on relative differences of welfare in the features: one percent is 0.2."""


@dataclass(frozen=True)
class PlannerObservation:
    """What the network observes of several games at once; every tensor is [game, ...]."""

    rates: Tensor
    """Rates in percent of this year, [game, bracket]."""
    before: Tensor
    """Rates of the year before, [game, bracket]; in the first year those of this year."""
    best: Tensor
    """Rates of the best year so far, [game, bracket]."""
    welfare: Tensor
    """Welfare of this year, [game]."""
    welfare_before: Tensor
    welfare_best: Tensor
    people: Tensor
    """Share of people whose income lies in each bracket, [game, bracket]."""
    hours: Tensor
    """Mean weekly hours, [game]."""
    progress: Tensor
    """Part of the years that is over, [game]."""

    def features(self) -> Tensor:
        """Return the features, float32 [game, 4 · brackets + 4], each of the order of 1."""
        scale = self.welfare_best.abs().clamp(min=1e-9)
        columns = [
            self.rates / 50 - 1,
            (self.rates - self.before) / 20,
            (self.best - self.rates) / 20,
            2 * self.people - 1,
            (SHARP * (self.welfare - self.welfare_before) / scale).clamp(-3, 3)[:, None],
            (SHARP * (self.welfare_best - self.welfare) / scale).clamp(-3, 3)[:, None],
            self.hours[:, None] / 40 - 1,
            2 * self.progress[:, None] - 1,
        ]
        return torch.cat(columns, -1).float()


class RateNetwork(nn.Module):
    """Network with two hidden layers that gives the logits of five changes for every bracket."""

    def __init__(self, brackets: int, width: int = 64) -> None:
        super().__init__()
        self.brackets, self.width = brackets, width
        self.layers = nn.Sequential(
            nn.Linear(4 * brackets + 4, width),
            nn.Tanh(),
            nn.Linear(width, width),
            nn.Tanh(),
            nn.Linear(width, 5 * brackets),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [game, bracket, change] for features [game, 4 · brackets + 4]."""
        logits: Tensor = self.layers(features)
        return logits.reshape(len(features), self.brackets, len(CHANGES))

    def save(self, folder: Path) -> None:
        """Write the weights as safetensors and the sizes as JSON."""
        save_file(self.state_dict(), folder / "weights.safetensors")
        (folder / "network.json").write_text(json.dumps({"brackets": self.brackets, "width": self.width}))

    @classmethod
    def load(cls, folder: Path) -> RateNetwork:
        """Return the network that `save` wrote into `folder`."""
        sizes = json.loads((folder / "network.json").read_text(encoding="utf-8"))
        network = cls(sizes["brackets"], sizes["width"])
        network.load_state_dict(load_file(folder / "weights.safetensors"))
        return network


class NetworkPlanner:
    """Planner that answers with the network's most probable change of every rate."""

    scripted = True

    def __init__(self, network: RateNetwork) -> None:
        self.network = network

    def reply(self, state: str) -> str:
        """Return the changes as JSON. Raises UsageError for another number of brackets than in the training."""
        given = read_state(state)
        if len(given["rates"]) != self.network.brackets:
            raise UsageError(
                f"the network was trained for {self.network.brackets} brackets, and there are {len(given['rates'])}"
            )
        with torch.no_grad():
            choice = self.network(parse_observation(given).features()).argmax(-1)[0]
        return json.dumps({"DELTA": [CHANGES[place] for place in choice.tolist()]})


def parse_observation(given: Mapping[str, Any]) -> PlannerObservation:
    """Return the observation in the state that a planner is given, as one game."""
    history = given.get("history") or [[given["rates"], given["welfare"]]]
    before = history[-2] if len(history) > 1 else history[-1]
    best = (given.get("best") or [max(history, key=lambda entry: entry[1])])[0]
    people = given["income"]["people_by_bracket"]
    total = max(1, sum(people))

    def row(values: Any) -> Tensor:
        return torch.tensor([values], dtype=torch.float64)

    return PlannerObservation(
        rates=row(given["rates"]),
        before=row(before[0]),
        best=row(best[0]),
        welfare=row(given["welfare"]),
        welfare_before=row(before[1]),
        welfare_best=row(best[1]),
        people=row([count / total for count in people]),
        hours=row(given["hours"]),
        progress=row((given["year"] + 1) / given["years"]),
    )
