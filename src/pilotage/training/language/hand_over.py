"""The check before the first step: the sampler, and what would be exported, are the policy that is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from pilotage.core.errors import UsageError
from pilotage.engines.noise import agreement
from pilotage.policies.language.adapters import is_adapted, named_weights
from pilotage.policies.language.policy import merged_model
from pilotage.policies.language.scoring import sampler_gap, score
from pilotage.rollouts.groups import sample_groups
from pilotage.types import Engine, Rollouts, Sampling

TOKENS = 4
"""Length of the sampled answers."""
NOISE = (0.02, 0.1, 0.5, 2.0)
"""Changes of an adapter's weights, as parts of their own size, tried until the change is plain to see."""


def check_hand_over(model: Any, engine: Engine) -> None:
    """Compare the log-probabilities of the engine, and of the exported weights, with the model's on two short texts.

    A new adapter has no effect, so that it could not be seen whether its effect arrives: its weights are disturbed for
    the comparison and put back. No generator is drawn from.

    Args:
        model: the causal LM that is trained, with or without adapters.
        engine: holds the model's weights; afterwards, too.

    Raises:
        UsageError: the log-probabilities differ.
    """
    kind = getattr(model.config, "model_type", type(model).__name__)
    limit = agreement(model.dtype)
    before = _sampled(model, engine)
    _compare(
        before.logp_sampled,
        score(model, before).logp,
        limit,
        f"the engine {type(engine).__name__} does not compute this {kind} model as transformers does: choose another "
        "one with --engine (transformers runs any causal language model)",
    )
    if not is_adapted(model):
        return
    remedy = (
        "the adapter has effects that do not lie on the weights handed over: give another kind, such as LoRA "
        "(--adapter lora:8), or train without one"
    )
    with _disturbed(model, before, 10 * limit):
        engine.load(0, named_weights(model))
        after = _sampled(model, engine)
        expected = score(model, after).logp
        _compare(after.logp_sampled, expected, limit, remedy)
        _compare(score(merged_model(model), after).logp, expected, limit, remedy)
    engine.load(0, named_weights(model))


def _compare(logp: Tensor, expected: Tensor, limit: float, remedy: str) -> None:
    gap = sampler_gap(logp, expected, torch.ones_like(expected, dtype=torch.bool))
    if gap.alarming(limit):
        raise UsageError(
            "what is sampled from is not the policy that is trained: on two short texts log-probabilities differ by "
            f"{gap.mean:.3g} nats a token ({gap.largest:.3g} at most), expected {limit:g} or less; {remedy}"
        )


def _sampled(model: Any, engine: Engine) -> Rollouts:
    """Return answers to two prompts of different lengths, as training would sample them."""
    vocabulary = model.config.get_text_config().vocab_size
    prompts = [[token % vocabulary for token in text] for text in ([5, 3, 4], [6, 4, 5, 3, 4, 6, 5])]
    return sample_groups(
        engine,
        prompts,
        [0, 1],
        answers=2,
        max_tokens=[TOKENS, TOKENS],
        seeds=[1, 2],
        sampling=Sampling(ignore_eos=True),
        pad_id=0,
    )


@contextmanager
def _disturbed(model: Any, rollouts: Rollouts, wanted: float) -> Iterator[None]:
    """Disturb what is trained until log-probabilities change by `wanted` nats a token; afterwards it is as before."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    kept = [parameter.detach().clone() for parameter in trained]
    before = score(model, rollouts).logp
    generator = torch.Generator().manual_seed(0)
    try:
        for scale in NOISE:
            with torch.no_grad():
                for parameter, own in zip(trained, kept, strict=True):
                    size = float(own.float().square().mean().sqrt()) or 0.1
                    noise = torch.randn(own.shape, generator=generator).to(own)
                    parameter.copy_(own + scale * size * noise)
            if sampler_gap(score(model, rollouts).logp, before, rollouts.mask).mean >= wanted:
                break
        yield
    finally:
        with torch.no_grad():
            for parameter, own in zip(trained, kept, strict=True):
                parameter.copy_(own)
