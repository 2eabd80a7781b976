"""S1: the gradient of a batch does not depend on how it is cut, padded or ordered. S7: unchanged weights, ratio 1."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from tests.properties.batches import choices, context, random_rollouts

from pilotage.policies.language import scoring
from pilotage.policies.language.embedded import tiny_policy
from pilotage.training.language.config import TextConfig
from pilotage.training.language.credit import apply_filter, assign_credit
from pilotage.training.language.piece_set import make_piece_set
from pilotage.training.language.update import accumulate_gradient, minibatches
from pilotage.types import Rollouts


@dataclass
class Cut:
    """An autoregressive likelihood with micro-batches of a given number of rows, or of at most so many tokens."""

    rows_each: int
    share_prompt: bool | None = None
    tokens: int = 10**6

    def micro_batches(self, rollouts: Rollouts, rows: torch.Tensor):
        parts = rows.split(self.rows_each) if self.rows_each else [rows]
        options = {"tokens_per_batch": self.tokens, "share_prompt": self.share_prompt}
        return [m for part in parts for m in scoring.microbatches(rollouts, part, **options)]

    def __call__(self, model, micro, entropy):
        return scoring.logprobs(model, micro, entropy=entropy)


@pytest.fixture(scope="module")
def model():
    return tiny_policy("0.4M", "0123456789+-*=#,<>", 0).model.double()


def gradient(model, pieces, rollouts, rows_each, on_policy=False, **cut) -> torch.Tensor:
    model.zero_grad(set_to_none=True)
    for rows in minibatches(rollouts.group, 1, torch.Generator()):
        accumulate_gradient(pieces, model, Cut(rows_each, **cut), rollouts, rows, on_policy=on_policy)
    grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat(grads) if grads else torch.zeros(1, dtype=torch.float64)


@pytest.mark.parametrize("aggregate", choices("aggregate"))
@pytest.mark.parametrize("surrogate", choices("surrogate"))
@pytest.mark.parametrize("regulariser", ["none", "0.1*kl:kind=k3+0.01*entropy_bonus"])
def test_the_gradient_does_not_depend_on_the_cut(model, aggregate, surrogate, regulariser):
    pieces = make_piece_set(
        TextConfig(aggregate=aggregate, surrogate=surrogate, regulariser=regulariser, weights="conflict")
    )
    rollouts = random_rollouts(groups=2, answers=4, empty_row=True)
    assign_credit(pieces, rollouts, context())
    whole = gradient(model, pieces, rollouts, 0)
    assert whole.abs().max() > 0
    for rows_each in (1, 2, 4):
        torch.testing.assert_close(gradient(model, pieces, rollouts, rows_each), whole, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("filter_", choices("filter"))
@pytest.mark.parametrize("aggregate", choices("aggregate"))
def test_the_gradient_of_what_a_filter_keeps_is_that_of_a_batch_that_never_held_the_rest(model, aggregate, filter_):
    """S1 over dynamic sampling: denominators count what is trained on, however that is cut."""
    pieces = make_piece_set(TextConfig(aggregate=aggregate, filter=filter_))
    rollouts = random_rollouts(groups=4, answers=4, empty_row=True)
    rollouts.columns["reward"][4:8] = 1.0
    rollouts.columns["reward"][8:12] = 0.0
    rollouts.columns["score"] = rollouts.columns["reward"].clone()
    keep = apply_filter(pieces, rollouts, context())
    assert keep.any()
    assert not keep.all()
    kept = rollouts.select(keep)
    assign_credit(pieces, kept, context())
    whole = gradient(model, pieces, kept, 0)
    assert whole.abs().max() > 0
    for rows_each in (1, 2, 4):
        torch.testing.assert_close(gradient(model, pieces, kept, rows_each), whole, rtol=1e-10, atol=1e-10)
    # The same groups in a batch of their own, with an answer's width of padding less or more.
    alone = random_rollouts(groups=4, answers=4, empty_row=True)
    alone.columns["reward"] = rollouts.columns["reward"].clone()
    alone = alone.select(torch.nonzero(keep).flatten())
    assign_credit(make_piece_set(TextConfig(aggregate=aggregate)), alone, context())
    torch.testing.assert_close(gradient(model, pieces, alone, 3), whole, rtol=1e-10, atol=1e-10)


def test_the_gradient_does_not_depend_on_row_order_or_padding(model):
    pieces = make_piece_set(TextConfig(weights="conflict"))
    rollouts = random_rollouts(groups=2, answers=4)
    assign_credit(pieces, rollouts, context())
    whole = gradient(model, pieces, rollouts, 0)
    order = torch.randperm(len(rollouts), generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(gradient(model, pieces, rollouts.select(order), 3), whole, rtol=1e-10, atol=1e-10)
    wider = random_rollouts(groups=2, answers=4)
    pad = torch.nn.functional.pad
    wider.ids, wider.mask = pad(wider.ids, (0, 3), value=7), pad(wider.mask, (0, 3))
    wider.logp_sampled = pad(wider.logp_sampled, (0, 3))
    wider.columns = {k: pad(v, (0, 3)) if v.dim() == 2 and k != "scores" else v for k, v in wider.columns.items()}
    assign_credit(pieces, wider, context())
    torch.testing.assert_close(gradient(model, pieces, wider, 0), whole, rtol=1e-10, atol=1e-10)


@pytest.fixture
def exact_kernels(monkeypatch):
    """Norms and rotations in float64: stock layers compute them in float32, which would hide a difference."""
    monkeypatch.setattr(torch.Tensor, "float", lambda self: self)
    real = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "to", lambda self, *a, **k: self if a[:1] == (torch.float32,) else real(self, *a, **k)
    )


@pytest.mark.usefixtures("exact_kernels")
@pytest.mark.parametrize("aggregate", choices("aggregate"))
def test_the_gradient_does_not_depend_on_the_cut_where_prompts_are_shared(model, aggregate):
    regulariser = "0.1*kl:kind=k3+0.01*entropy_bonus"
    pieces = make_piece_set(TextConfig(aggregate=aggregate, regulariser=regulariser, weights="conflict"))
    rollouts = random_rollouts(groups=3, answers=4, empty_row=True)
    assign_credit(pieces, rollouts, context())
    whole = gradient(model, pieces, rollouts, 0, share_prompt=False)
    assert whole.abs().max() > 0
    for rows_each, tokens in ((0, 10**6), (0, 30), (5, 10**6)):
        shared = gradient(model, pieces, rollouts, rows_each, share_prompt=True, tokens=tokens)
        torch.testing.assert_close(shared, whole, rtol=1e-10, atol=1e-10)


def test_two_processes_sum_to_the_gradient_of_one(model):
    """The coefficients come from the global mask, so each process adds the part of its rows."""
    pieces = make_piece_set(TextConfig(aggregate="token_mean"))
    rollouts = random_rollouts(groups=4, answers=4)
    assign_credit(pieces, rollouts, context())
    whole = gradient(model, pieces, rollouts, 0)
    from pilotage.training.language.update import coefficients, token_losses

    rows = torch.arange(len(rollouts))
    weights = coefficients(pieces.aggregate[0], rollouts, rows)
    total = torch.zeros_like(whole)
    for part in rows.chunk(2):
        model.zero_grad(set_to_none=True)
        for micro in Cut(3).micro_batches(rollouts, part):
            logp, _ = scoring.logprobs(model, micro)
            losses, _ = token_losses(pieces, rollouts, micro.rows, micro.width, logp, None, False)
            (losses * weights[micro.rows, : micro.width]).sum().backward()
        total += torch.cat([p.grad.flatten() for p in model.parameters()])
    torch.testing.assert_close(total, whole, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("surrogate", choices("surrogate"))
def test_at_unchanged_weights_every_surrogate_has_the_same_gradient(model, surrogate):
    rollouts = random_rollouts(groups=2, answers=4)
    rollouts.columns["logp_old"] = scoring.score(model, rollouts).logp.double()
    reference = make_piece_set(TextConfig(surrogate="reinforce"))
    assign_credit(reference, rollouts, context())
    expected = gradient(model, reference, rollouts, 0)
    pieces = make_piece_set(TextConfig(surrogate=surrogate))
    got = gradient(model, pieces, rollouts, 0)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradient(model, pieces, rollouts, 0, on_policy=True), expected, rtol=1e-9, atol=1e-10)
