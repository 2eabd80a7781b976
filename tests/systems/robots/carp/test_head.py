"""The head over tokens: who sees whom, cached passes, draws, order, and what does not fit."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from pilotage.core.errors import UsageError
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.saving import describe, rebuild
from pilotage.systems.robots.carp.head import NextScaleTokens
from pilotage.systems.robots.carp.model import NextScaleTransformer
from pilotage.systems.robots.carp.tokeniser import MultiscaleTokeniser

ORDERS = ("scale", "token")


def head(order: str = "scale", scales=(1, 2, 3, 4), **options) -> NextScaleTokens:
    torch.manual_seed(0)
    tokeniser = MultiscaleTokeniser(2, 16, codes=16, channels=2, scales=scales)
    sizes = [getattr(tokeniser, name) for name in ("scales", "signals", "codes", "latent")]
    network = NextScaleTransformer(*sizes, 3, width=16, depth=2, order=order)
    with torch.no_grad():
        network.output_proj.weight *= 200
        tokeniser.codebook *= 50
    return NextScaleTokens(network, tokeniser, **options).eval()


def condition(rows: int = 4) -> Condition:
    return Condition(torch.randn(rows, 3, generator=torch.Generator().manual_seed(7)))


def generators(rows: int = 4) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(row) for row in range(rows)]


def chunks(rows: int = 4) -> torch.Tensor:
    return torch.rand(rows, 16, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize("order", ORDERS)
def test_a_token_changes_the_logits_of_its_own_group_and_later_ones_alone(order):
    network = head(order).network
    inputs, vector = torch.randn(1, 20, 8), condition(1).vector
    plain = network(inputs, vector)
    firsts = network.firsts
    for group in range(1, len(network.groups)):
        for token in range(firsts[group], firsts[group + 1]):
            moved = inputs.clone()
            moved[0, token] += 1
            changed = (network(moved, vector) - plain).abs().amax((0, 2)) > 1e-7
            assert changed[firsts[group] :].all()
            assert not changed[: firsts[group]].any()


@pytest.mark.parametrize("order", ORDERS)
def test_cached_passes_equal_one_pass_over_the_same_tokens(order):
    one = head(order)
    tokens, inputs = one.teacher_inputs(chunks())
    whole, cache = one.network(inputs, condition().vector), []
    firsts = one.network.firsts
    for first, end in pairwise(firsts):
        part = one.network(inputs[:, first:end], condition().vector, first=first, cache=cache)
        torch.testing.assert_close(part, whole[:, first:end], atol=1e-5, rtol=0)
    assert tokens.shape == (4, 20)


@pytest.mark.parametrize("order", ORDERS)
def test_what_is_drawn_is_what_teaching_on_it_would_have_said(order):
    """Acting shows the network its own reconstruction so far: teaching with the drawn tokens gives the same choices."""
    one = head(order)
    drawn = one.draw(condition(), generators())
    if order == "scale":
        sums, first, shown = [], 0, [torch.zeros(4, 2, 8)]
        for count in one.tokeniser.per_scale:
            first += count
            sums.append(one.tokeniser.latent_of(drawn.tokens[:, :first]))
        shown += [one.tokeniser.downsampled(total, k + 1) for k, total in enumerate(sums[:-1])]
        inputs = torch.cat(shown, 1)
    else:
        inputs = torch.cat([torch.zeros(4, 1, 8), one.tokeniser.vectors(drawn.tokens)[:, :-1]], 1)
    logits = one.network(inputs, condition().vector)
    assert torch.equal(logits.argmax(-1), drawn.tokens)
    total = logits.log_softmax(-1).amax(-1).sum(1)
    torch.testing.assert_close(drawn.log_probability, total, atol=1e-4, rtol=0)
    chunk = one.sample(condition(), generators())
    torch.testing.assert_close(chunk, one.tokeniser.chunk_of(drawn.tokens).clamp(-1, 1))


@pytest.mark.parametrize(("order", "passes"), [("scale", 4), ("token", 20)])
def test_passes_are_as_many_as_groups(order, passes):
    one, counted = head(order), []
    one.network.register_forward_hook(lambda *_: counted.append(1))
    one.sample(condition(), generators())
    assert len(counted) == passes


def test_a_row_does_not_depend_on_the_others():
    one = head(top_k=5, candidates=3)
    whole = one.sample(condition(), generators())
    alone = one.sample(Condition(condition().vector[2:3]), generators()[2:3])
    torch.testing.assert_close(whole[2:3], alone)


def test_draws_are_among_the_likeliest_and_the_finest_scale_may_take_the_likeliest():
    one = head(top_k=3)
    with torch.no_grad():
        one.network.output_proj.weight /= 20  # flat, so that draws differ
    many = Condition(condition(1).vector.repeat(200, 1))
    drawn = one.draw(many, torch.Generator().manual_seed(0)).tokens
    logits = one.network(torch.zeros(1, 2, 8), many.vector[:1])
    assert set(drawn[:, 0].tolist()) == set(logits[0, 0].topk(3).indices.tolist())
    one.argmax_scales = 4
    assert len(one.draw(many, torch.Generator().manual_seed(0)).tokens.unique(dim=0)) == 1
    one.argmax_scales = 1
    drawn = one.draw(many, torch.Generator().manual_seed(0)).tokens
    for coarse in drawn[:, :12].unique(dim=0)[:5]:
        same = (drawn[:, :12] == coarse).all(1)
        assert len(drawn[same, 12:].unique(dim=0)) == 1


def test_of_several_chunks_the_likeliest_is_taken():
    one = head(top_k=5, candidates=6)
    drawn = one.draw(condition(), generators())
    best = drawn.log_probability.view(4, 6).argmax(1)
    tokens = drawn.tokens.view(4, 6, -1)[torch.arange(4), best]
    torch.testing.assert_close(one.sample(condition(), generators()), one.tokeniser.chunk_of(tokens).clamp(-1, 1))


def test_the_loss_trains_the_network_and_leaves_the_tokeniser_alone():
    one = head().train()
    mask = torch.ones(4, 16, dtype=torch.bool)
    loss = one.loss(chunks(), condition(), torch.Generator().manual_seed(0), mask)
    assert loss.shape == (4,)
    loss.mean().backward()
    # The last φ shapes no input of the network, and the first group's input is not looked at.
    assert all(parameter.grad is not None for parameter in one.network.parameters())
    assert all(parameter.grad is None for parameter in one.tokeniser.parameters())
    padded = chunks().clone()
    padded[:, 12:] = float("nan")
    mask[:, 12:] = False
    assert one.loss(padded, condition(), torch.Generator(), mask).isfinite().all()
    with pytest.raises(ValueError, match="mask"):
        one.loss(chunks(), condition(), torch.Generator(), None)


def test_numbers_with_two_values_come_out_as_one_of_them():
    one = head()
    one.tokeniser.binary_dims[1] = True
    chunk = one.sample(condition(), generators())
    assert set(chunk[..., 1].unique().tolist()) <= {-1.0, 1.0}
    assert len(chunk[..., 0].unique()) > 2


def test_one_scale_takes_one_pass():
    one = head(scales=(4,))
    assert one.network.groups == (8,)
    assert one.sample(condition(), generators()).shape == (4, 16, 2)


def test_it_is_made_again_from_what_is_written_of_it():
    one = head("token", top_k=5, candidates=2)
    again = rebuild(describe(one))
    again.load_state_dict(one.state_dict())
    torch.testing.assert_close(again.eval().sample(condition(), generators()), one.sample(condition(), generators()))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: head(top_k=17), "1 to 16"),
        (lambda: head(candidates=0), "candidates=0"),
        (lambda: NextScaleTransformer((1, 4), 2, 16, 8, 3, width=18, depth=4), "heads=4"),
        (lambda: NextScaleTransformer((1, 4), 2, 16, 8, 3, order="scales"), "scale or token"),
        (lambda: NextScaleTokens(head().network, MultiscaleTokeniser(2, 16, codes=8)), "codes 16"),
        (lambda: head().sample(condition(), generators(), guide=lambda f: f), "guidance"),
    ],
)
def test_what_does_not_fit(make, said):
    with pytest.raises(UsageError, match=said):
        make()
