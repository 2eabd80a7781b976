"""Health of a running training: warnings about what goes wrong without an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage.training.language.piece_set import PieceSet
from pilotage.types import FinishedStep, Rollouts

PATIENCE = 20
"""Steps in a row without any signal before a warning."""
MOST_TRUNCATED = 0.2
"""Share of answers cut at the token limit above which there is a warning."""

Event = tuple[str, str]
"""(kind, text)"""


class HealthMonitor:
    """Monitor of the finished steps of a run; it draws no random numbers and changes no number of the run.

    Beside its own warnings it asks the `alarms` of the method's pieces. Its state is part of a checkpoint.
    """

    def __init__(self, pieces: PieceSet) -> None:
        self.state: dict[str, Any] = {"reported": [], "silent": 0, "alarms": {}}
        self._alarms = {
            f"{piece.slot}.{index}.{piece.name}.{alarm.__name__}": (alarm, piece.options)
            for index, piece in enumerate(pieces.all)
            for alarm in piece.alarms
        }

    def __call__(
        self, metrics: Mapping[str, float], rollouts: Rollouts | None, initial_entropy: float | None
    ) -> list[Event]:
        """Return the new events of a step; each kind is reported once in a run.

        Args:
            metrics: the metrics of the step.
            rollouts: the answers that it trained on; None when every group was filtered out.
            initial_entropy: entropy of the untrained policy in nats per token; None when it is unknown.

        Raises:
            RunError: when an alarm of a piece ends the run.
        """
        found = [self._equal_rewards(metrics), _unfinished(metrics)]
        if rollouts is not None:
            found.append(_truncated(metrics))
            for key, (alarm, options) in self._alarms.items():
                memory = self.state["alarms"].setdefault(key, {})
                found.append(alarm(FinishedStep(metrics, rollouts, initial_entropy, options, memory)))
        new = {event[0]: event for event in found if event is not None and event[0] not in self.state["reported"]}
        self.state["reported"] += new
        return list(new.values())

    def state_dict(self) -> dict[str, Any]:
        """Return what was reported, and the memory of every alarm."""
        return self.state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a state written by `state_dict`."""
        self.state = dict(state)

    def _equal_rewards(self, metrics: Mapping[str, float]) -> Event | None:
        self.state["silent"] = self.state["silent"] + 1 if metrics["groups/zero_variance"] == 1.0 else 0
        if self.state["silent"] < PATIENCE:
            return None
        return (
            "equal rewards",
            f"for {PATIENCE} steps the answers to each prompt all got the same reward, from which a comparison within "
            "a group learns nothing: look at rollouts.jsonl, then try easier prompts (--difficulties), more answers, a "
            "graded reward or a longer pretraining (--pretrain-to-accuracy)",
        )


def _unfinished(metrics: Mapping[str, float]) -> Event | None:
    count = metrics.get("unfinished_reasoning", 0.0)
    if not count:
        return None
    return (
        "unfinished reasoning",
        f"{count:.0f} answers of a step hold reasoning that was never finished: they have no answer and count as "
        "wrong; raise --max-tokens",
    )


def _truncated(metrics: Mapping[str, float]) -> Event | None:
    share = metrics["truncated"]
    if share <= MOST_TRUNCATED:
        return None
    return (
        "truncated",
        f"{share:.0%} of the answers were cut at the token limit (reported once, when above {MOST_TRUNCATED:.0%}); "
        "what was cut is judged without its end: raise --max-tokens, or punish length (--reward exact+overlong:…)",
    )
