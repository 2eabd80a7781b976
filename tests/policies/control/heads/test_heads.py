import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
from toys import generator, small_mlp, trained, two_modes, unknown

from pilotage.core.errors import UsageError
from pilotage.networks.framewise import Framewise
from pilotage.networks.gpt import GPT
from pilotage.networks.unet1d import UNet1d
from pilotage.objectives.noise_paths import Karras, Linear, VariancePreserving
from pilotage.policies.control.condition import Condition
from pilotage.policies.control.encoders import RecurrentEncoder
from pilotage.policies.control.heads.denoiser import Denoiser, flow
from pilotage.policies.control.heads.direct import BinsWithOffsets, LatentVariable, Mixture, Regression
from pilotage.policies.control.heads.energy import ContrastiveEnergy, EnergyByDescent
from pilotage.policies.control.sampling.sampling import InitialSample


def bins():
    head = BinsWithOffsets(small_mlp(outputs=4 * 2), bins=4, offset_weight=10)
    head.find_bins(two_modes(500, 0)[0].flatten(0, 1), generator())
    return head


HEADS = {
    "denoiser of clean": lambda: Denoiser(small_mlp(), VariancePreserving(20)),
    "denoiser of noise": lambda: Denoiser(small_mlp(), VariancePreserving(20), predicts="noise"),
    "edm": lambda: Denoiser(small_mlp(), Karras(sigma_min=0.02, sigma_max=3.0), predicts="residual", sampler="heun"),
    "flow": lambda: flow(small_mlp(), steps=15),
    "mixture": lambda: Mixture(small_mlp(outputs=2 * 3), modes=2),
    "mixture per step": lambda: Mixture(small_mlp(outputs=2 * 3), modes=2, per_step=True),
    "bins": bins,
    "contrast": lambda: ContrastiveEnergy(small_mlp(takes_level=False), negatives=48, candidates=128, bound=1.2),
    "descent": lambda: EnergyByDescent(small_mlp(takes_level=False), step_size=0.15, steps=40),
    "regression": lambda: Regression(small_mlp()),
    "latent": lambda: LatentVariable(small_mlp(vector_dim=5), small_mlp(takes_level=False, outputs=8), latent=4),
}
MULTIMODAL = [name for name in HEADS if name not in ("regression", "latent")]


@pytest.mark.parametrize("name", MULTIMODAL)
def test_multimodal_heads_find_both_modes(name):
    head = trained(HEADS[name](), steps=150 if name == "contrast" else 250, rows=64 if name == "contrast" else 128)
    with torch.no_grad():
        chunk = head.sample(unknown(400), generator(5))
    near = (chunk[:, 0, 0].abs() - 1).abs() < 0.3
    assert near.float().mean() > 0.85
    assert 0.25 < (chunk[:, 0, 0] > 0).float().mean() < 0.75
    if name not in ("bins", "mixture per step"):  # which draw each step by itself
        same = (chunk[:, 0] * chunk[:, 1] > 0).float().mean()
        assert same > 0.95


@pytest.mark.parametrize("name", ["regression", "latent"])
def test_heads_that_answer_the_centre_land_between(name):
    chunk = trained(HEADS[name](), steps=80).sample(unknown(3), generator())
    torch.testing.assert_close(chunk[0], chunk[1], rtol=0, atol=1e-5)
    if name == "regression":
        assert chunk.abs().max() < 0.3


@pytest.mark.parametrize("name", HEADS)
def test_what_stands_in_the_padding_changes_no_loss_and_no_gradient(name):
    head, (chunk, mask) = HEADS[name](), two_modes(6, 0)
    mask[:3, 1] = False
    mask[3, 0] = False
    results = []
    for garbage in (0.0, 1e20, float("nan")):
        dirty = torch.where(mask[..., None], chunk, torch.full_like(chunk, garbage))
        loss = head.loss(dirty, unknown(6), generator(), mask)
        assert loss.shape == (6,)
        gradients = torch.autograd.grad(loss.sum(), list(head.parameters()), allow_unused=True)
        results.append([loss, *(g for g in gradients if g is not None)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("name", HEADS)
def test_a_missing_mask_raises(name):
    with pytest.raises(ValueError, match="without its mask"):
        HEADS[name]().loss(two_modes(2, 0)[0], unknown(2), generator(), None)


@pytest.mark.parametrize("name", HEADS)
def test_a_row_with_its_own_generator_does_not_depend_on_the_batch(name):
    head = HEADS[name]().double().eval()

    def sample(seeds):
        condition = Condition(torch.tensor([[0.1 * seed] for seed in seeds], dtype=torch.float64))
        return head.sample(condition, [generator(seed) for seed in seeds])

    torch.testing.assert_close(sample([1, 2, 3])[1:2], sample([2]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["mixture", "bins", "contrast", "regression", "latent"])
def test_heads_that_answer_at_once_take_neither_start_nor_guidance(name):
    with pytest.raises(UsageError, match="takes no warm start"):
        HEADS[name]().sample(unknown(1), generator(), InitialSample(torch.zeros(1, 2, 1)))
    with pytest.raises(UsageError, match="takes no guidance"):
        HEADS[name]().sample(unknown(1), generator(), None, lambda denoise: denoise)
    with pytest.raises(UsageError, match="does not denoise"):
        HEADS[name]().denoiser(unknown(1))


# ---- denoisers -------------------------------------------------------------------------------------------------------


def test_the_loss_of_edm_is_that_of_its_equation():
    path, head = Karras(), Denoiser(small_mlp(), Karras(), predicts="residual", sampler="euler")
    (chunk, mask), condition = two_modes(5, 0), unknown(5)
    g = generator(3)
    sigma = path.draw(5, g)
    noise = torch.randn(5, 2, 1, generator=g)
    s, x = sigma.float()[:, None, None], chunk + sigma.float()[:, None, None] * noise
    total = s**2 + 0.25
    output = head.network(x / total.sqrt(), (sigma.log() / 4).float(), *condition)
    target = (chunk - 0.25 / total * x) / (s * 0.5 / total.sqrt())
    torch.testing.assert_close(
        head.loss(chunk, condition, generator(3), mask), (output - target).square().mean((1, 2)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("predicts", ["noise", "clean", "velocity"])
def test_the_loss_on_a_discrete_path_is_the_plain_squared_error(predicts):
    path = VariancePreserving(20)
    head, (chunk, mask) = Denoiser(small_mlp(), path, predicts=predicts), two_modes(5, 0)
    g = generator(3)
    level = path.draw(5, g)
    noise = torch.randn(5, 2, 1, generator=g)
    a, b = (f.float()[:, None, None] for f in path.scales(level))
    output = head.network(a * chunk + b * noise, level / 20, *unknown(5))
    target = {"noise": noise, "clean": chunk, "velocity": a * noise - b * chunk}[predicts]
    torch.testing.assert_close(
        head.loss(chunk, unknown(5), generator(3), mask), (output - target).square().mean((1, 2)), rtol=1e-4, atol=1e-6
    )


def test_the_flow_loss_is_the_squared_error_of_the_velocity():
    head, (chunk, mask), g = flow(small_mlp()), two_modes(5, 0), generator(3)
    t = torch.rand(5, generator=g, dtype=torch.float64)
    noise = torch.randn(5, 2, 1, generator=g)
    share = t.float()[:, None, None]
    output = head.network(share * chunk + (1 - share) * noise, t.float(), *unknown(5))
    torch.testing.assert_close(
        head.loss(chunk, unknown(5), generator(3), mask), (output - (chunk - noise)).square().mean((1, 2))
    )


def test_a_full_list_from_a_gaussian_start_equals_sampling_from_noise_bit_for_bit():
    head = Denoiser(small_mlp(), VariancePreserving(20)).eval()
    g = generator(2)
    noise = torch.randn(3, 2, 1, generator=g)
    warm = head.sample(unknown(3), g, InitialSample(noise, list(range(19, -1, -1))))
    assert torch.equal(warm, head.sample(unknown(3), generator(2)))


def test_an_empty_list_returns_the_start():
    start = torch.randn(3, 2, 1)
    assert torch.equal(
        Denoiser(small_mlp(), VariancePreserving(20)).sample(unknown(3), generator(), InitialSample(start, [])), start
    )


def test_sampler_and_steps_are_chosen_without_retraining():
    head = Denoiser(small_mlp(), Karras(), predicts="residual", sampler="ddim_sigma", steps=3, schedule="linear")
    assert head.sampling_levels().tolist() == pytest.approx([1.0, 0.525, 0.05, 0.0])
    head.sampler, head.levels = "heun", [0.7, 0.0]
    start = 0.7 * torch.randn(4, 2, 1, generator=generator(1))
    one = head.denoiser(unknown(4))(start, torch.full((4,), 0.7, dtype=torch.float64))
    torch.testing.assert_close(head.sample(unknown(4), generator(1)), one)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Denoiser(small_mlp(), VariancePreserving(), sampler="heun"),
        lambda: Denoiser(small_mlp(), VariancePreserving(), predicts="residual"),
        lambda: Denoiser(small_mlp(takes_level=False), Linear(), sampler="flow_euler"),
        lambda: Denoiser(small_mlp(), Karras(), sampler="euler", schedule="cosine").sampling_levels(),
        lambda: Mixture(small_mlp(), modes=2),
        lambda: ContrastiveEnergy(small_mlp()),
        lambda: EnergyByDescent(small_mlp(takes_level=False), noise=[0.1, 0.0], steps=3),
        lambda: EnergyByDescent(small_mlp(takes_level=False), training_loss="mse"),
        lambda: LatentVariable(small_mlp(vector_dim=5), small_mlp(outputs=8), latent=4),
        lambda: BinsWithOffsets(small_mlp(outputs=8), bins=4).sample(unknown(1), generator()),
    ],
)
def test_heads_that_cannot_work_are_refused(make):
    with pytest.raises(UsageError, match=r"no energy_loss piece|choose|make its network|give one|fit\("):
        make()


def test_any_network_serves_any_head():
    torch.manual_seed(0)
    tokens = torch.randn(3, 4, 2)
    condition, mask = Condition(tokens.flatten(1), tokens), torch.ones(3, 4, dtype=torch.bool)
    unet = UNet1d(1, 4, 8, widths=(8, 8), level_width=8)
    gpt = GPT(1, 4, token_dim=2, width=16, depth=1, heads=2)
    quiet = GPT(1, 4, token_dim=2, width=16, depth=1, heads=2, takes_level=False, outputs=1)
    for head in (
        Denoiser(unet, Linear(), predicts="velocity", sampler="flow_euler"),
        Denoiser(gpt, Karras(), predicts="residual", sampler="dpm_solver_2m", steps=3),
        Regression(gpt),
        ContrastiveEnergy(quiet, negatives=4, candidates=4),
        EnergyByDescent(quiet, steps=2),
    ):
        head.eval()
        assert head.loss(torch.zeros(3, 4, 1), condition, generator(), mask).shape == (3,)
        assert head.sample(condition, generator()).shape == (3, 4, 1)


# ---- the others ------------------------------------------------------------------------------------------------------


def test_the_latent_of_act_is_used_in_training_and_zero_in_acting():
    head, (chunk, mask) = HEADS["latent"](), two_modes(4, 0)
    losses = [head.loss(chunk, unknown(4), generator(seed), mask) for seed in (0, 1)]
    assert not torch.equal(*losses)
    zero = Condition(torch.zeros(4, 5))
    assert torch.equal(head.sample(unknown(4), generator()), head._answer(zero))


def test_a_latent_with_little_divergence_carries_the_mode():
    head = LatentVariable(
        small_mlp(vector_dim=5), small_mlp(takes_level=False, outputs=8), latent=4, divergence_weight=1e-3
    )
    trained(head, steps=200)
    chunk, mask = two_modes(64, 3)
    assert head.loss(chunk, unknown(64), generator(), mask).mean() < 0.3  # without z it would be near 1


def test_low_noise_sampling_gives_the_mean_of_a_mode():
    head = Mixture(small_mlp(outputs=6), modes=2).eval()
    _, mean, _ = head._mixture(unknown(1))
    chunk = head.sample(unknown(50), generator())
    distance = (chunk[:, None] - mean[:, 0]).abs().amax((2, 3)).amin(1)
    assert distance.max() < 1e-6
    head.low_noise = False
    assert (head.sample(unknown(50), generator())[:, None] - mean[:, 0]).abs().amax((2, 3)).amin(1).max() > 0.05


def test_a_mixture_per_step_is_an_lstm_gmm_that_knows_nothing_of_later_frames():
    torch.manual_seed(0)
    encoder = RecurrentEncoder(3, 4, width=8, depth=1)
    head = Mixture(Framewise(2, 4, token_dim=8, outputs=3 * 5), modes=3, per_step=True)
    state = torch.randn(5, 4, 3, generator=generator(1))
    chunk, mask = torch.randn(5, 4, 2, generator=generator(2)), torch.ones(5, 4, dtype=torch.bool)
    mask[0, 3] = False
    logits, mean, std = head._mixture(encoder({"state": state}))
    mixture = MixtureSameFamily(Categorical(logits=logits), Independent(Normal(mean[..., 0, :], std[..., 0, :]), 1))
    expected = -torch.where(mask, mixture.log_prob(chunk), 0.0).sum(1) / 4
    torch.testing.assert_close(head.loss(chunk, encoder({"state": state}), generator(), mask), expected)
    state[:, 2] += 1
    _, changed, _ = head._mixture(encoder({"state": state}))
    assert torch.equal(changed[:, :2], mean[:, :2])
    assert not torch.isclose(changed[:, 2:], mean[:, 2:]).any()


def test_a_network_that_does_not_see_the_chunk_cannot_denoise():
    with pytest.raises(UsageError, match="cannot denoise"):
        Framewise(2, 4, token_dim=8, takes_level=True)


def test_descent_starts_from_a_given_chunk_and_leaves_no_graph():
    head = EnergyByDescent(small_mlp(takes_level=False), step_size=0.5, steps=1)
    start = torch.randn(2, 2, 1)
    with torch.no_grad():
        end = head.sample(unknown(2), generator(), InitialSample(start))
    x = start.clone().requires_grad_()
    (slope,) = torch.autograd.grad(head.energy(x, unknown(2)).sum(), x)
    torch.testing.assert_close(end, start - 0.5 * slope)
    assert not end.requires_grad


def bowl(energy, chunk, *_):
    return energy(chunk)


def test_another_loss_of_an_energy_is_a_function_of_ones_own():
    head = EnergyByDescent(small_mlp(takes_level=False), training_loss=f"{__name__}:bowl")
    chunk, mask = two_modes(3, 0)
    assert torch.equal(head.loss(chunk, unknown(3), generator(), mask), head.energy(chunk, unknown(3)))


def test_equilibrium_matching_reaches_every_parameter_by_the_second_derivative():
    head, (chunk, mask) = HEADS["descent"](), two_modes(8, 0)
    head.loss(chunk, unknown(8), generator(), mask).sum().backward()
    still = [n for n, p in head.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert still == ["network.output_proj.bias"]  # an energy's constant has no slope
