"""What goes wrong without an error: warnings from the numbers of the steps, each once; one state ends the run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from pilotage.core.errors import RunError
from pilotage.core.pieces import Piece
from pilotage.objectives.beta_normalisation import LEAST_PROMPTS, beta_norm, decomposed_beta_norm
from pilotage.objectives.conflict import entropy_shape, filters_entropy
from pilotage.objectives.shapes import answer_mean
from pilotage.training.language.plan import Plan
from pilotage.training.language.risk import BundledRisk
from pilotage.types import Rollouts

PATIENCE = 20
"""Steps in a row without any signal before that is said, or, where an entropy filter is the cause, ends the run."""
MOST_TRUNCATED = 0.2
"""Share of answers cut at the token limit above which that is said (GTPO's card: 20 %)."""
CHECK = 10
"""Steps over which log-probability and reward are averaged for one check of a policy's collapse."""
FALLS = 3
"""Checks in a row at which the log-probability must fall for a warning (RiskPO's card: 3)."""
LEAST_FALL, LEAST_GAIN = 0.01, 0.01
"""Nats per token that count as a fall from one check to the next; gain of the mean reward over all of them that makes
the falls an exploration that pays."""


class Watch:
    """Looks at each finished step. It draws nothing and changes no number of the run.

    plan: the pieces of the method, which say what can go wrong. Its state is part of a checkpoint."""

    def __init__(self, plan: Plan) -> None:
        self.state: dict[str, Any] = {"said": [], "silent": 0, "filtered": 0, "sums": [0, 0.0, 0.0], "checks": []}
        self._is_risk = any(isinstance(piece.stateful, BundledRisk) for piece in plan.advantage)
        fits = [p for p in plan.advantage if p.function in (beta_norm, decomposed_beta_norm)]
        self._fits_beta = any("alpha" not in piece.options for piece in fits)
        self._filter = next((piece for piece in plan.shaping if piece.function is entropy_shape), None)

    def __call__(
        self, metrics: Mapping[str, float], rollouts: Rollouts | None, initial_entropy: float | None
    ) -> list[tuple[str, str]]:
        """Events (kind, text) of a step with `metrics`; `rollouts` are what it trained on, None when nothing was left.

        initial_entropy: of the untrained policy, nats per token; None when it is unknown.
        Raises RunError when an entropy filter has left out every answer for PATIENCE steps."""
        found = [self._equal_rewards(metrics)]
        if rollouts is not None:
            found += [self._truncated(metrics), self._few_prompts(rollouts), self._collapse(metrics)]
            if self._filter is not None:
                self._refuse_silence(self._filter, rollouts, initial_entropy)
        new = [event for event in found if event is not None and event[0] not in self.state["said"]]
        self.state["said"] += [kind for kind, _ in new]
        return new

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.state = dict(state)

    def _equal_rewards(self, metrics: Mapping[str, float]) -> tuple[str, str] | None:
        self.state["silent"] = self.state["silent"] + 1 if metrics["groups/zero_variance"] == 1.0 else 0
        if self.state["silent"] < PATIENCE:
            return None
        return (
            "equal rewards",
            f"for {PATIENCE} steps the answers to each prompt all got the same reward, from which a comparison within "
            "a group learns nothing: look at rollouts.jsonl, then try easier prompts (--difficulties), more answers, a "
            "graded reward or a longer warm-up",
        )

    def _truncated(self, metrics: Mapping[str, float]) -> tuple[str, str] | None:
        share = metrics["truncated"]
        if share <= MOST_TRUNCATED:
            return None
        return (
            "truncated",
            f"{share:.0%} of the answers were cut at the token limit (this is said once, above {MOST_TRUNCATED:.0%}); "
            "what was cut is judged without its end: raise --max-tokens, or punish length (--reward exact+overlong:…)",
        )

    def _few_prompts(self, rollouts: Rollouts) -> tuple[str, str] | None:
        prompts = len(rollouts.group.unique())
        if not self._fits_beta or prompts >= LEAST_PROMPTS:
            return None
        return (
            "few prompts",
            f"a batch of {prompts} prompts is too small to fit a Beta distribution to their pass rates, so α = β = 1: "
            f"this is REINFORCE with the group's mean; expected at least {LEAST_PROMPTS} (--prompts-per-step)",
        )

    def _collapse(self, metrics: Mapping[str, float]) -> tuple[str, str] | None:
        """An objective that never rewards can push all answers down: sampled tokens get less probable, for nothing."""
        if not self._is_risk or "logp" not in metrics:
            return None
        count, logp, reward = self.state["sums"]
        count, logp, reward = count + 1, logp + metrics["logp"], reward + metrics["reward/mean"]
        self.state["sums"] = [count, logp, reward]
        if count < CHECK:
            return None
        self.state["sums"] = [0, 0.0, 0.0]
        checks = [*self.state["checks"], [logp / count, reward / count]][-FALLS - 1 :]
        self.state["checks"] = checks
        falls = [before[0] - after[0] > LEAST_FALL for before, after in pairwise(checks)]
        gained = checks[-1][1] - checks[0][1]
        if len(falls) < FALLS or not all(falls) or gained > LEAST_GAIN:
            return None
        return (
            "falling log-probability",
            f"the mean log-probability of the sampled tokens fell {FALLS} checks of {CHECK} steps in a row, from "
            f"{checks[0][0]:.3f} to {checks[-1][0]:.3f} nats, while the reward went from {checks[0][1]:.3f} to "
            f"{checks[-1][1]:.3f}: the advantage is never positive, and the policy may be pushed apart; lower --lr",
        )

    def _refuse_silence(self, piece: Piece, rollouts: Rollouts, initial_entropy: float | None) -> None:
        options = {name: piece.options.get(name, _default(name)) for name in ("threshold", "always_filter")}
        entropy = answer_mean(rollouts.column("entropy"), rollouts.mask)
        silent = filters_entropy(initial_entropy, **options) and bool((entropy > options["threshold"]).all())
        self.state["filtered"] = self.state["filtered"] + 1 if silent else 0
        if self.state["filtered"] < PATIENCE:
            return
        began = "unknown" if initial_entropy is None else f"{initial_entropy:.3f} nats"
        raise RunError(
            f"for {PATIENCE} steps every answer was above the entropy threshold of {options['threshold']:.3f} nats "
            f"(the last batch's mean is {float(entropy.mean()):.3f}; before training it was {began}), so nothing is "
            "learnt any more: lower --lr, or raise the threshold (--shaping entropy_shape:threshold=…)"
        )


def _default(name: str) -> Any:
    return inspect.signature(entropy_shape).parameters[name].default
