"""S8: an answer that could not be scored is left out, counted and said; it never counts as zero or disturbs others."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.properties import breaking
from tests.properties.batches import choices, context, random_rollouts
from tests.properties.runs import SYSTEMS, run_in, small

from pilotage.report.page import write_run_report
from pilotage.rewards import ScoredAnswers, TooManyFailuresError, build_rewards, score_answers
from pilotage.training.language.config import TextConfig
from pilotage.training.language.credit import assign_credit
from pilotage.training.language.piece_set import make_piece_set
from pilotage.types import Item

BREAKING = Path(breaking.__file__)
KINDS = {
    "raising": "exception",
    "hanging": "timeout",
    "abstaining": "none",
    "not_a_number": "nan",
    "forking": "exception",
}
"""How a fifth of the scores breaks, and the reason under which it is counted."""
TEXTS = [f"{number * 37 % 100:02d}" for number in range(20)]
ITEMS = [Item(id=str(number // 4), prompt="", answer="") for number in range(20)]


def scored(kind: str, task: object = None, limit: float = 1.0) -> ScoredAnswers:
    rewards = build_rewards(f"{BREAKING}:{kind}", task, limit=limit)
    try:
        return score_answers(rewards, TEXTS, ITEMS, None)
    finally:
        rewards.close()


@pytest.fixture(scope="module", params=KINDS)
def broken(request: pytest.FixtureRequest) -> tuple[str, ScoredAnswers]:
    return request.param, scored(request.param)


def test_a_fifth_of_the_scores_breaks_and_is_counted_by_reason(broken: tuple[str, ScoredAnswers]) -> None:
    kind, scores = broken
    assert scores.reasons == {KINDS[kind]: 4}
    assert (~scores.valid).sum() == 4
    assert np.isnan(scores.total[~scores.valid]).all()


@pytest.mark.parametrize("advantage", choices("advantage"))
def test_the_others_advantages_are_those_of_a_batch_without_the_broken(
    broken: tuple[str, ScoredAnswers], advantage: str
) -> None:
    _, scores = broken
    pieces = make_piece_set(TextConfig(advantage=advantage))
    kept = torch.as_tensor(scores.valid)

    def credited(values: np.ndarray) -> torch.Tensor:
        rollouts = random_rollouts(groups=5, answers=4)
        score = torch.as_tensor(values, dtype=torch.float64)
        rollouts.columns |= {"reward": score, "score": score, "scores": score[:, None].expand(-1, 2).clone()}
        rollouts = rollouts.select(kept)
        assign_credit(pieces, rollouts, context())
        return rollouts.column("advantage")

    whole = np.array([breaking.sound(text, None) for text in TEXTS])
    got, expected = credited(scores.total), credited(whole)
    assert torch.isfinite(got).all()
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    assert got.abs().max() > 0


@pytest.mark.parametrize("kind", ["raising", "forking", "mixed"])
def test_the_scores_are_the_same_from_the_main_thread_a_thread_and_a_process(kind: str) -> None:
    here = scored(kind)
    found: list[ScoredAnswers] = []
    thread = threading.Thread(target=lambda: found.append(scored(kind)))
    thread.start()
    thread.join()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found.append(pool.apply(scored, (kind,)))
    for other in found:
        np.testing.assert_array_equal(other.total, here.total)
        assert (other.reasons, other.valid.tolist()) == (here.reasons, here.valid.tolist())


def test_failures_stand_in_the_metrics_and_in_the_report(tmp_path: Path) -> None:
    written = run_in(tmp_path / "run", small("grpo", reward=f"{BREAKING}:raising_on_some"))
    counted = sum(line.get("failures/exception", 0) for line in written.metrics)
    assert counted > 0
    assert counted + len(written.rollouts) == 3 * 24
    page = write_run_report(tmp_path / "run").read_text()
    assert f"{counted:.0f} exception" in page


def test_past_the_limit_the_run_stops_and_says_why(tmp_path: Path) -> None:
    with pytest.raises(TooManyFailuresError, match=r"of 24 answers could not be scored \(exception: \d+\); the limit"):
        run_in(tmp_path / "run", small("grpo", reward=f"{BREAKING}:raising_on_some", failure_limit=0.01))


def test_held_out_prompts_are_scored_with_the_reward_that_is_trained_on(tmp_path: Path) -> None:
    config = small("grpo", reward=f"{BREAKING}:always_one", steps=1)
    written = run_in(tmp_path / "run", config)
    assert written.result.metrics["held_out/reward"] == 1.0
    assert SYSTEMS["grpo"].metric_for(config) == "held_out/reward"
    assert SYSTEMS["grpo"].metric_for(small("grpo", reward="exact+0.5*format")) == "held_out/accuracy"
    assert all(row["ids"] and len(row["ids"]) == row["length"] for row in written.rollouts)
