"""Whatever stands in masked slots changes nothing: values and gradients are the same bit for bit."""

from types import SimpleNamespace

import pytest
import torch

from pilotage.objectives import (
    advantages,
    aggregation,
    conflict,
    critic,
    divergences,
    normalisation,
    penalties,
    surrogates,
)

N, T = 4, 6
GENERATOR = torch.Generator().manual_seed(5)
MASK = torch.arange(T) < torch.tensor([[6], [3], [1], [0]])
COLUMNS = {name: torch.randn(N, T, generator=GENERATOR) for name in ("a", "b", "c", "advantage")}
REWARD, GROUP = torch.tensor([1.0, 0, 0, 1]), torch.tensor([0, 0, 0, 0])
IDS, TRUNCATED = torch.randint(0, 3, (N, T), generator=GENERATOR), torch.tensor([False, False, True, False])


def mean(loss):
    return aggregation.weighted_sum(loss, aggregation.token_mean(MASK))


TOKEN_PIECES = {
    "reinforce": lambda x: surrogates.reinforce(x.a, x.advantage, MASK),
    "clip token": lambda x: surrogates.clip(x.a, x.b, x.advantage, MASK, dual=3.0, delta=2.0),
    "clip sequence": lambda x: surrogates.clip(x.a, x.b, x.advantage, MASK, level="sequence"),
    "clip trajectory": lambda x: surrogates.clip(x.a, x.b, x.advantage, MASK, level="trajectory"),
    "cispo": lambda x: surrogates.cispo(x.a, x.b, x.advantage, MASK),
    "gspo": lambda x: surrogates.gspo(x.a, x.b, x.advantage, MASK),
    "ratio": lambda x: surrogates.ratio(x.a, x.b, MASK),
    "weighted sum": lambda x: mean(x.a).expand(N, T),
    "k1": lambda x: divergences.k1(x.a, x.b, MASK, limit=20.0),
    "k2": lambda x: divergences.k2(x.a, x.b, MASK),
    "k3": lambda x: divergences.k3(x.a, x.b, MASK, ceiling=10.0),
    "k3_plus": lambda x: divergences.k3_plus(x.a, x.b, MASK),
    "value loss": lambda x: critic.value_loss(x.a, x.b, x.c, MASK),
}
PLAIN_PIECES = {
    "clipped": lambda x: surrogates.clipped(x.a, x.b, x.advantage, MASK),
    "importance weight": lambda x: surrogates.importance_weight(x.a, x.b, MASK),
    "whiten": lambda x: normalisation.whiten(x.advantage, MASK),
    "gae": lambda x: torch.cat(advantages.generalised_advantage(x.a, x.b, MASK, discount=0.9, gae_lambda=0.8)),
    "token return": lambda x: advantages.token_return(x.a, MASK, discount=0.9),
    "kl in reward": lambda x: penalties.kl_in_reward(REWARD, x.a, x.b, MASK),
    "kl in score": lambda x: penalties.kl_in_score(REWARD, x.a, x.b, MASK),
    "entropy shape": lambda x: conflict.entropy_shape(REWARD, x.a, MASK),
}


def filled(value, dtype=torch.float32):
    """The columns with `value` in their masked slots."""
    return SimpleNamespace(**{name: torch.where(MASK, column, value).to(dtype) for name, column in COLUMNS.items()})


@pytest.mark.parametrize("name", TOKEN_PIECES | PLAIN_PIECES)
@pytest.mark.parametrize("filling", [float("nan"), 1e30, float("-inf")])
def test_results_do_not_depend_on_masked_slots(name, filling):
    piece = (TOKEN_PIECES | PLAIN_PIECES)[name]
    clean, spoiled = piece(filled(0.0)), piece(filled(filling))
    assert clean.isfinite().all()
    assert torch.equal(clean, spoiled)


@pytest.mark.parametrize("name", TOKEN_PIECES)
@pytest.mark.parametrize("filling", [float("nan"), 1e30, float("-inf")])
def test_gradients_do_not_depend_on_masked_slots(name, filling):
    slopes = []
    for value in (0.0, filling):
        columns = filled(value)
        columns.a.requires_grad_()
        mean(TOKEN_PIECES[name](columns)).backward()
        slopes.append(columns.a.grad)
    assert torch.equal(*slopes)
    assert (slopes[0][~MASK] == 0).all()
    assert (slopes[0][MASK] != 0).any()


@pytest.mark.parametrize("filling", [-1, 10**9])
def test_conflict_weights_do_not_depend_on_masked_ids(filling):
    results = [
        conflict.conflict_weights(torch.where(MASK, IDS, value), MASK, REWARD, GROUP, TRUNCATED)
        for value in (0, filling)
    ]
    assert torch.equal(*results)


@pytest.mark.parametrize("name", TOKEN_PIECES | PLAIN_PIECES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_type_of_numbers_is_kept(name, dtype):
    result = (TOKEN_PIECES | PLAIN_PIECES)[name](filled(0.0, dtype))
    if result.dtype != torch.bool and name not in {"kl in reward", "kl in score", "entropy shape"}:
        assert result.dtype == dtype
