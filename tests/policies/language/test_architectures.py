"""What «any causal LM» means: samplers and trainer agree on tiny models of every architecture that was tried."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.engines.models import random_model
from tests.policies.language.architectures import QUICK, SMALL, examine, small_model
from torch import nn

from pilotage.core.errors import UsageError
from pilotage.engines.hugging_face import TransformersEngine
from pilotage.policies.language.scoring import can_share_prompts
from pilotage.types import Request, Sampling

PAGE = Path(__file__).resolve().parents[3] / "docs" / "language-trainer.md"
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in SMALL if name not in QUICK]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_sampler_and_trainer_agree_before_and_after_an_update(name):
    outcome = examine(name)
    assert outcome.gap < 1e-4
    assert outcome.gradient < 1e-4
    states_alone = {"Mamba", "RWKV-4", "Qwen3-Next"}
    assert name not in QUICK or outcome.shared == (name not in states_alone)


def test_the_documentation_lists_what_was_run():
    (listed,) = re.findall(r"Run with transformers .*: (\d+) architectures", PAGE.read_text())
    assert int(listed) == len(SMALL)
    cells = [
        line.split("|")[3] for line in PAGE.read_text().splitlines() if line.startswith("| ") and "rchitec" not in line
    ]
    assert sorted(name.strip() for cell in cells for name in cell.split(",")) == sorted(SMALL)


class Foreign(nn.Module):
    """A model around another, whose forward pass fails or lies where it is asked for a cache."""

    def __init__(self, inner: Any, fault: str) -> None:
        super().__init__()
        self.inner, self.config, self.dtype, self.fault = inner, inner.config, inner.dtype, fault

    def forward(self, input_ids, past_key_values=None, use_cache=True, position_ids=None, **rest):
        if past_key_values is not None and self.fault == "raises":
            raise AttributeError("no such cache")
        output = self.inner(
            input_ids, past_key_values=past_key_values, use_cache=use_cache, position_ids=position_ids, **rest
        )
        if past_key_values is not None and self.fault == "lies":
            output.logits = output.logits.roll(1, -1)
        return output


@pytest.mark.parametrize("fault", ["", "raises", "lies"])
def test_prompts_are_shared_only_where_the_results_are_the_same(fault):
    assert can_share_prompts(Foreign(random_model(), fault)) == (not fault)


@pytest.mark.parametrize(("fault", "memory"), [("", "padded"), ("raises", "whole"), ("lies", "whole")])
def test_the_engine_finds_what_a_model_remembers(monkeypatch, fault, memory):
    model = random_model("gpt2")
    monkeypatch.setattr("pilotage.engines.hugging_face.empty_model", lambda *_: Foreign(random_model("gpt2"), fault))
    weights = [(f"inner.{name}", parameter) for name, parameter in model.named_parameters()]
    engine = TransformersEngine(model, weights=weights)
    assert engine.memory == memory
    assert (engine.meter.prefilled, engine.meter.decoded) == (0, 0)


def test_a_forward_pass_that_never_runs_is_refused(monkeypatch):
    model = random_model("gpt2")

    def refuse(*_: Any, **__: Any) -> None:
        raise TypeError("pixel_values are missing")

    monkeypatch.setattr(type(model), "forward", refuse)
    with pytest.raises(UsageError, match=r"cannot be sampled from \(TypeError: pixel_values are missing\)"):
        TransformersEngine(model)


def test_answers_come_back_in_order_where_prompts_are_sorted_by_length():
    model = small_model("Mamba")
    engine = TransformersEngine(model)
    requests = [Request([5, 6, 7, 8], 3, n=2, seed=1), Request([5, 6], 4, seed=2), Request([9, 8, 7, 6], 2, seed=3)]
    together = engine.generate(requests, Sampling(ignore_eos=True))
    apart = [engine.generate([request], Sampling(ignore_eos=True))[0] for request in requests]
    ids = [[[completion.ids.tolist() for completion in group] for group in found] for found in (together, apart)]
    assert ids[0] == ids[1]
    assert [len(group) for group in together] == [2, 1, 1]
