import pytest
import torch
from torch import nn

from pilotage.core.errors import UsageError
from pilotage.networks.action_transformer import ActionTransformer
from pilotage.networks.gpt import GPT, CausalBlock
from pilotage.networks.level_embedding import LevelEmbedding, sinusoids
from pilotage.networks.residual_mlp import ResidualMLP
from pilotage.networks.unet1d import ConditionedBlock, UNet1d

A, T, S, G = 2, 8, 3, 5
MAKERS = {
    "mlp": lambda **k: ResidualMLP(A, T, S * T, width=64, depth=3, level_width=16, **k),
    "mlp film": lambda **k: ResidualMLP(A, T, S * T, width=64, depth=3, level_width=16, conditioning="film", **k),
    "unet": lambda **k: UNet1d(A, T, S * T, widths=(16, 16, 16), level_width=16, **k),
    "transformer": lambda **k: ActionTransformer(
        A, T, token_dim=S, frames=T, goal_dim=G, goals=1, width=32, depth=2, dropout=0.0, **k
    ),
    "gpt": lambda **k: GPT(
        A, T, token_dim=S, goal_dim=G, goals=1, width=32, depth=2, heads=4, dropout=0.0, attention_dropout=0.0, **k
    ),
}


def inputs(batch=4, length=T, seed=0):
    g = torch.Generator().manual_seed(seed)
    tokens, goal = torch.randn(batch, length, S, generator=g), torch.randn(batch, 1, G, generator=g)
    x, level = torch.randn(batch, length, A, generator=g), torch.rand(batch, generator=g)
    return {"x": x, "level": level, "vector": tokens.flatten(1), "tokens": tokens, "goal": goal}


def made(name, **options):
    torch.manual_seed(0)
    return MAKERS[name](**options)


@pytest.mark.parametrize("name", MAKERS)
def test_a_network_learns_a_function_of_chunk_level_and_condition(name):
    """Overfits targets that no network blind to one of its inputs could give."""
    network, given = made(name), inputs(8)
    for key in ("x", "tokens"):
        given[key] = given[key][:2].repeat(4, 1, 1)
    given["vector"] = given["tokens"].flatten(1)
    given["level"] = torch.tensor([0.1, 0.1, 0.9, 0.9, 0.1, 0.1, 0.9, 0.9])
    sign = torch.where(given["level"] > 0.5, 1.0, -1.0)[:, None, None]
    target = sign * given["x"].flip(1).tanh() + 0.5 * given["tokens"][:, :1, :A].tanh()
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    first = None
    for _ in range(100):
        loss = (network(**given) - target).square().mean()
        first = first or loss.item()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    # A causal network cannot see the later actions that the flipped target asks for, but can tell the rows apart.
    assert loss.item() < 0.15 * first


@pytest.mark.parametrize("name", MAKERS)
def test_every_parameter_takes_part_and_outputs_can_be_wider(name):
    network = made(name, outputs=7)
    out = network(**inputs())
    assert out.shape == (4, T, 7)
    (out * torch.randn(out.shape)).sum().backward()
    dead = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


@pytest.mark.parametrize("name", MAKERS)
def test_rows_do_not_mix(name):
    network, given = made(name).double().eval(), {k: v.double() for k, v in inputs().items()}
    alone = network(**{key: value[1:2] for key, value in given.items()})
    torch.testing.assert_close(network(**given)[1:2], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MAKERS)
def test_without_a_level_there_is_no_parameter_for_it(name):
    network, given = made(name, takes_level=False), inputs()
    fewer = sum(p.numel() for p in network.parameters()) < sum(p.numel() for p in made(name).parameters())
    assert fewer
    assert torch.equal(network(**given), network(**given | {"level": given["level"] + 1}))
    assert not torch.equal(made(name)(**given), made(name)(**given | {"level": given["level"] + 1}))


@pytest.mark.parametrize("name", MAKERS)
def test_a_chunk_of_another_shape_is_refused(name):
    given = inputs()
    for wrong in (given["x"][:, :, :1], torch.zeros(4, T + 1, A)):
        with pytest.raises(UsageError, match="this network was made for"):
            made(name)(**given | {"x": wrong})


# ---- causality -------------------------------------------------------------------------------------------------------


def test_gpt_is_causal_and_sees_goal_and_level_everywhere():
    network, given = made("gpt").double(), {k: v.double() for k, v in inputs().items()}
    before = network(**given)
    for t in range(T):
        x = given["x"].clone()
        x[:, t] += 1
        changed = (network(**given | {"x": x}) - before).abs().amax((0, 2)) > 1e-9
        assert changed.tolist() == [False] * t + [True] * (T - t)
        tokens = given["tokens"].clone()
        tokens[:, t] += 1
        changed = (network(**given | {"tokens": tokens}) - before).abs().amax((0, 2)) > 1e-9
        assert changed.tolist() == [False] * t + [True] * (T - t)
    for key in ("goal", "level"):
        assert ((network(**given | {key: given[key] + 1}) - before).abs().amax((0, 2)) > 1e-9).all()


def test_gpt_accepts_a_shorter_context_and_agrees_with_the_prefix_of_a_longer_one():
    network, given = made("gpt").double(), {k: v.double() for k, v in inputs().items()}
    short = network(**given | {"x": given["x"][:, :3], "tokens": given["tokens"][:, :3]})
    torch.testing.assert_close(short, network(**given)[:, :3], rtol=0, atol=1e-12)
    with pytest.raises(UsageError, match="states of shape"):
        network(**given | {"x": given["x"][:, :3]})


def test_gpt_shares_the_embedding_of_states_and_goals_of_the_same_width():
    shared = GPT(A, T, token_dim=S, goal_dim=S, goals=2, width=32, depth=1, heads=4)
    assert shared.of_goal is None
    given = inputs() | {"goal": torch.randn(4, 2, S)}
    assert shared(**given).shape == (4, T, A)
    with pytest.raises(UsageError, match="encoder gives none"):
        shared(**given | {"goal": None})


def test_a_causal_block_equals_attention_written_out():
    torch.manual_seed(0)
    block, x = CausalBlock(8, 2, 0.0, 0.0).double(), torch.randn(2, 5, 8, dtype=torch.float64)
    q, k, v = block.query_key_value(block.before_attention(x)).chunk(3, -1)
    heads = []
    for part in (slice(0, 4), slice(4, 8)):
        score = q[..., part] @ k[..., part].transpose(1, 2) / 2
        score = score.masked_fill(torch.ones(5, 5).triu(1).bool(), float("-inf"))
        heads.append(score.softmax(-1) @ v[..., part])
    hidden = x + block.merge(torch.cat(heads, -1))
    torch.testing.assert_close(block(x), hidden + block.mlp(block.before_mlp(hidden)))


def test_the_action_transformer_attends_causally_to_actions_and_frames():
    network, given = made("transformer").double(), {k: v.double() for k, v in inputs().items()}
    before = network(**given)
    for key in ("x", "tokens"):
        for t in range(T):
            value = given[key].clone()
            value[:, t] += 1
            changed = (network(**given | {key: value}) - before).abs().amax((0, 2)) > 1e-9
            assert changed.tolist() == [False] * t + [True] * (T - t)
    for key in ("goal", "level"):
        assert ((network(**given | {key: given[key] + 1}) - before).abs().amax((0, 2)) > 1e-9).all()


def test_the_action_transformer_takes_a_vector_token():
    network = ActionTransformer(A, T, vector_dim=4, width=32, depth=1, takes_level=False)
    x, level = torch.zeros(3, T, A), torch.zeros(3)
    assert not torch.equal(network(x, level, torch.zeros(3, 4)), network(x, level, torch.ones(3, 4)))
    with pytest.raises(UsageError, match="something to attend to"):
        ActionTransformer(A, T, takes_level=False)


# ---- the U-Net -------------------------------------------------------------------------------------------------------


def test_a_horizon_that_cannot_be_halved_is_refused_with_those_that_fit():
    with pytest.raises(UsageError, match=r"multiple of 4, such as 8 or 12"):
        UNet1d(A, 10, 1, widths=(16, 16, 16))
    with pytest.raises(UsageError, match=r"such as 4,"):
        UNet1d(A, 3, 1, widths=(16, 16, 16))
    with pytest.raises(UsageError, match="multiples of groups"):
        UNet1d(A, 8, 1, widths=(16, 20))
    assert UNet1d(A, 10, 1, widths=(16, 16))(torch.zeros(1, 10, A), torch.zeros(1), torch.zeros(1, 1)).shape == (
        1,
        10,
        A,
    )


def test_a_conditioned_block_scales_and_shifts_between_its_convolutions():
    torch.manual_seed(0)
    block, x, known = ConditionedBlock(3, 16, 4, 5, 8), torch.randn(2, 3, 6), torch.randn(2, 4)
    scale, shift = block.film(known)[..., None].split(16, 1)
    expected = block.second(block.first(x) * scale + shift) + block.shortcut(x)
    torch.testing.assert_close(block(x, known), expected)
    assert block.first[0].kernel_size == (5,)
    assert block.first[1].num_groups == 8


def test_the_u_net_has_the_size_of_the_published_one():
    """65.88 million parameters in the low-dimensional experiments (the number printed for DP-C in CARP's table)."""
    with torch.device("meta"):
        network = UNet1d(10, 16, 2 * 19)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(65.88, rel=0.02)


# ---- the level -------------------------------------------------------------------------------------------------------


def test_sinusoids_tell_every_level_apart_and_are_position_codes():
    t = torch.arange(100, dtype=torch.float64)
    codes = sinusoids(t / 100, 16)
    gaps = torch.cdist(codes, codes) + 10 * torch.eye(100)
    assert gaps.min() > 0.05
    torch.testing.assert_close(codes[:, 0], t.sin())
    torch.testing.assert_close(codes[:, 15], (t / 1e4).cos())
    assert LevelEmbedding(16)(t / 100).dtype == torch.float32
    with pytest.raises(UsageError, match="even width"):
        sinusoids(t, 5)


def test_networks_follow_their_own_type():
    network = nn.Module.double(made("mlp"))
    given = {key: value.double() for key, value in inputs().items()}
    assert network(**given).dtype == torch.float64
