"""What is measured for VADE: a drifting bandit, trainings that are looked in on and its estimates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pilotage.data.pass_rates import BetaPassRate
from pilotage.evaluation.matched import value_at
from pilotage.systems.reasoning.vade.simulation import VARIANTS, simulate_bandit

COMPLETIONS = 4800
"""Answers generated, discarded ones included, at which accuracies are compared."""
PASS_RATE = "pool_pass_rate/"
RETAIN = {"two-scale": (0.2, 0.999), "no decay": (1.0, 1.0)}
"""What is kept of a prompt's counts when it is chosen, and when it is not, by the name of the estimator."""
STALE_AFTER = 10
"""Steps since the last visit from which a prompt counts as stale."""


# ---- the bandit ------------------------------------------------------------------------------------------------------


def bandit(arm: str, seed: int, context: Any) -> Mapping[str, float]:
    """Return a curriculum `arm` on a bandit of 500 prompts whose pass rates drift; 20 of them, 8 answers each, 100
    steps.
    """
    result = simulate_bandit(VARIANTS[arm], 500, 10 if context.quick else 100, 20, 8, 0.01, seed)
    numbers = {name: float(value) for name, value in result.items() if name != "gains"}
    return {**numbers, "share_of_oracle": numbers["gain"] / numbers["oracle"]}


# ---- trainings -------------------------------------------------------------------------------------------------------


def look(trainer: Any, step: int) -> dict[str, float]:
    """Pass rates of some pool prompts from 64 answers, where the sampler estimates them; at the end its coverage."""
    from pilotage.training.language import callbacks

    rates = getattr(trainer.sampler, "rates", None)
    if rates is None or step == 0:
        return {}
    short = trainer.config.steps < 10
    answers = 8 if short else 64
    items = [trainer.items[i] for i in callbacks.first_of_each_difficulty(trainer.items, 2 if short else 6)]
    right = callbacks.right_counts(callbacks.sample_answers(trainer, items, answers, "pass rates", step), answers)
    seen = {f"{PASS_RATE}{item.id}": float(share) for item, share in zip(items, right / answers, strict=True)}
    if step == trainer.config.steps:
        visits = rates.answers[rates.answers > 0] / rates.answers.sum()
        seen["coverage"] = float((rates.answers > 0).mean())
        seen["visits/entropy"] = float(-(visits * np.log(visits)).sum())
        seen["visits/mean"] = float(rates.answers.mean() / trainer.config.group_size)
        seen["never_solved"] = float(len(rates.never_solved()))
    return seen


def trained(arm: str, seed: int, context: Any) -> dict[str, float]:
    """Return one training: accuracy at equal completions, groups without variance, what every completion bought."""
    del arm, seed
    from pilotage.runs.metrics import read_lines

    result = context.train(callback=look)
    lines = read_lines(Path(result.run) / "metrics.jsonl")
    return {**result.metrics, **training_numbers(lines, quick=context.quick)}


def training_numbers(lines: Sequence[Mapping[str, Any]], *, quick: bool = False) -> dict[str, float]:
    """Return what a training's metrics say, line by line. A quick one compares at what the first step took.

    `effective`: groups with a gradient among those trained on, for each answer generated; `answers per step` in it.
    """
    steps = [line for line in lines if "groups/trained" in line]
    looks = [line for line in lines if "held_out/accuracy" in line]
    spent = [line["samples/total"] for line in looks]
    at = float(spent[-1] if quick else COMPLETIONS)
    # Groups have equally many answers, so the share of answers with an advantage is that of groups.
    effective = sum(line["groups/trained"] * line.get("advantage/nonzero", 0.0) for line in steps)
    generated = float(lines[-1]["samples/total"])
    numbers = {
        "zero_variance": float(np.mean([line["groups/zero_variance"] for line in steps])),
        "log_effective": float(np.log(effective / generated)) if effective > 0 else float("nan"),
        "accuracy_at_equal_completions": value_at(spent, [line["held_out/accuracy"] for line in looks], at),
        "easy_accuracy_at_equal_completions": value_at(
            spent, [line["held_out/accuracy/level_1"] for line in looks], at
        ),
        "rounds": float(np.mean([line["samples/rounds"] for line in steps])),
        "no_extra_rollouts": float(all(line["samples/rounds"] == 1 for line in steps)),
    }
    for name in ("coverage", "visits/entropy", "visits/mean", "never_solved"):
        if name in lines[-1]:
            numbers[name] = lines[-1][name]
    return numbers


# ---- estimates -------------------------------------------------------------------------------------------------------


def estimate(arm: str, seed: int, context: Any) -> dict[str, float]:
    """Error of the estimator `arm` on what VADE's training saw, against pass rates of 64 answers at each look."""
    del seed
    from pilotage.runs.metrics import read_lines

    run = Path(context.train(callback=look).run)
    lines = read_lines(run / "metrics.jsonl")
    numbers = estimate_errors(lines, read_lines(run / "rollouts.jsonl"), RETAIN[arm])
    accuracy = training_numbers(lines, quick=context.quick)["accuracy_at_equal_completions"]
    return {**numbers, "accuracy_at_equal_completions": accuracy}


def estimate_errors(
    lines: Sequence[Mapping[str, Any]], rollouts: Sequence[Mapping[str, Any]], retain: tuple[float, float]
) -> dict[str, float]:
    """Replays the answers of a training, all of which must have been saved, into a posterior that retains so much.

    At every look: `error`, mean |posterior mean − pass rate| over the probed prompts that were ever visited, `fresh`
    and `stale` parts of it by the steps since; `rank`, Spearman's correlation; `covered`, share within the 80 %
    interval, wide as the posterior of the rate itself. All are means over looks.
    """
    from scipy.stats import spearmanr

    probed = list(dict.fromkeys(n.removeprefix(PASS_RATE) for line in lines for n in line if n.startswith(PASS_RATE)))
    places = {item: place for place, item in enumerate(dict.fromkeys([*probed, *(r["item"] for r in rollouts)]))}
    seen: dict[int, dict[str, list[float]]] = {}
    for rollout in rollouts:
        seen.setdefault(rollout["step"], {}).setdefault(rollout["item"], []).append(rollout["score"])
    rates = BetaPassRate(max(1, len(places)))
    found: dict[str, list[float]] = {name: [] for name in ("error", "fresh", "stale", "rank", "covered")}
    for line in lines:
        answers = seen.get(line["step"], {})
        rows = np.array([places[item] for item in answers], dtype=np.int64)
        right = np.array([sum(scores) for scores in answers.values()])
        total = np.array([len(scores) for scores in answers.values()])
        if len(rows):
            rates.observe(rows, right, total, retain_rows=retain[0], retain_others=retain[1])
        truth = {places[item]: line[PASS_RATE + item] for item in probed if PASS_RATE + item in line}
        known = np.array([row for row in truth if rates.visited[row] >= 0], dtype=np.int64)
        if not len(known):
            continue
        true = np.array([truth[row] for row in known])
        mean, stale = rates.mean()[known], rates.staleness()[known] >= STALE_AFTER
        low, high = rates.interval(0.8, known)
        found["error"].append(float(np.abs(mean - true).mean()))
        found["fresh"].append(float(np.abs(mean - true)[~stale].mean()) if (~stale).any() else np.nan)
        found["stale"].append(float(np.abs(mean - true)[stale].mean()) if stale.any() else np.nan)
        varied = len(known) > 2 and np.ptp(mean) > 0 and np.ptp(true) > 0
        found["rank"].append(float(spearmanr(mean, true).statistic) if varied else np.nan)
        found["covered"].append(float(((true >= low) & (true <= high)).mean()))
    return {name: float(np.nanmean(v)) if np.isfinite(v).any() else float("nan") for name, v in found.items()}
