"""A small network that changes tax rates: it reads what any planner is told, and was trained on simulated years."""

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
"""What relative differences of welfare are multiplied by: one percent is 0.2."""


@dataclass(frozen=True)
class Seen:
    """What the network is shown of E games at once. [E, ...]"""

    rates: Tensor
    """[E, B] in percent, now."""
    before: Tensor
    """[E, B], a year ago; the same as now in the first year."""
    best: Tensor
    """[E, B], of the best year so far."""
    welfare: Tensor
    """[E], now."""
    welfare_before: Tensor
    welfare_best: Tensor
    people: Tensor
    """[E, B], share of people whose income lies in each bracket."""
    hours: Tensor
    """[E], mean a week."""
    progress: Tensor
    """[E], part of the years that is over."""

    def features(self) -> Tensor:
        """[E, 4 B + 4] float32, each of the order of 1."""
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
    """Logits of five changes for every bracket: two hidden layers."""

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
        """[E, 4 B + 4] -> [E, B, 5]."""
        logits: Tensor = self.layers(features)
        return logits.reshape(len(features), self.brackets, len(CHANGES))

    def save(self, folder: Path) -> None:
        """Weights as safetensors, sizes as JSON."""
        save_file(self.state_dict(), folder / "weights.safetensors")
        (folder / "network.json").write_text(json.dumps({"brackets": self.brackets, "width": self.width}))

    @classmethod
    def load(cls, folder: Path) -> RateNetwork:
        sizes = json.loads((folder / "network.json").read_text())
        network = cls(sizes["brackets"], sizes["width"])
        network.load_state_dict(load_file(folder / "weights.safetensors"))
        return network


class NetworkPlanner:
    """Answers with the likeliest change of every rate."""

    scripted = True

    def __init__(self, network: RateNetwork) -> None:
        self.network = network

    def reply(self, state: str) -> str:
        told = read_state(state)
        if len(told["rates"]) != self.network.brackets:
            raise UsageError(
                f"the network was trained for {self.network.brackets} brackets, and there are {len(told['rates'])}"
            )
        with torch.no_grad():
            choice = self.network(seen_in(told).features()).argmax(-1)[0]
        return json.dumps({"DELTA": [CHANGES[place] for place in choice.tolist()]})


def seen_in(told: Mapping[str, Any]) -> Seen:
    """What the state that planners are told says, as one game."""
    history = told.get("history") or [[told["rates"], told["welfare"]]]
    before = history[-2] if len(history) > 1 else history[-1]
    best = (told.get("best") or [max(history, key=lambda entry: entry[1])])[0]
    people = told["income"]["people_by_bracket"]
    total = max(1, sum(people))

    def row(values: Any) -> Tensor:
        return torch.tensor([values], dtype=torch.float64)

    return Seen(
        rates=row(told["rates"]),
        before=row(before[0]),
        best=row(best[0]),
        welfare=row(told["welfare"]),
        welfare_before=row(before[1]),
        welfare_best=row(best[1]),
        people=row([count / total for count in people]),
        hours=row(told["hours"]),
        progress=row((told["year"] + 1) / told["years"]),
    )
