"""S17: the reference is not the trained policy. S5: what samples is what is trained, also with an adapter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.properties.runs import run_in, small

from pilotage.training.language.trainer import TextTrainer


@pytest.mark.parametrize("adapter", [None, "lora:4"])
def test_reference_log_probabilities_stay_while_the_policys_move(
    adapter: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one probe, the first batch, before the first and after every step."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    probe = []
    learn = TextTrainer.learn

    def spied(self, step, rollouts):
        if not probe:
            probe.append(rollouts.select(torch.arange(len(rollouts))))
        metrics = learn(self, step, rollouts)
        assert self.reference is not None
        scores = [self.likelihood.score(model, probe[0]).logp for model in (self.reference, self.model)]
        seen.append((scores[0], scores[1]))
        return metrics

    monkeypatch.setattr(TextTrainer, "learn", spied)
    config = small("grpo", regulariser="0.04*kl:kind=k3", adapter=adapter, lr=1e-2, steps=10)
    written = run_in(tmp_path / "run", config)
    for reference, _ in seen[1:]:
        assert torch.equal(reference, seen[0][0])
    torch.testing.assert_close(seen[0][0], probe[0].logp_sampled, atol=1e-4, rtol=1e-4)
    moved = [float((policy - reference).abs().mean()) for reference, policy in seen]
    assert moved[0] > 1e-4
    assert moved[-1] > 2 * moved[0]
    assert max(line["sampler_gap"] for line in written.metrics[1:]) < 1e-4


def test_the_divergence_from_the_reference_is_zero_at_the_first_step(tmp_path: Path) -> None:
    """With the divergence as the only reward, so that it alone makes the loss."""
    config = small("grpo", regulariser="1.0*kl:kind=k3", steps=1, lr=0.0, advantage="0*zscore")
    (line,) = run_in(tmp_path / "run", config).metrics[1:]
    assert line["loss"] == pytest.approx(0.0, abs=1e-9)
