"""The tokeniser: there and back, scales, straight-through gradients, cosine search, merging, bad sizes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from pilotage.core.errors import UsageError
from pilotage.systems.robots.carp.tokeniser import (
    MultiscaleTokeniser,
    area_matrix,
    cubic_matrix,
    nearest_codes,
    resized,
)
from pilotage.systems.robots.carp.tokeniser_training import (
    code_use,
    cosine_basis,
    high_frequency_share,
    scale_errors,
    tokeniser_report,
)


def smooth_chunks(count: int, dimensions: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(count, dimensions, 3, generator=generator) * torch.tensor([1.5, 0.8, 0.3])
    return (weights @ cosine_basis(16)[:3].float()).mT.clamp(-1, 1)


def small(dimensions: int = 2, seed: int = 0, **options) -> MultiscaleTokeniser:
    torch.manual_seed(seed)
    return MultiscaleTokeniser(dimensions, 16, **{"codes": 32, "channels": 4, **options})


@pytest.fixture(scope="module")
def trained() -> MultiscaleTokeniser:
    tokeniser, chunks = small(), smooth_chunks(1024)
    optimiser = torch.optim.AdamW(tokeniser.parameters(), lr=4e-3, betas=(0.5, 0.9))
    generator = torch.Generator().manual_seed(1)
    for _ in range(200):
        tokeniser.loss(chunks[torch.randint(1024, (64,), generator=generator)]).mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    return tokeniser


def test_resizing_is_what_torch_does():
    signal = torch.randn(2, 3, 4, 5)
    area = functional.adaptive_avg_pool1d(signal.mT.flatten(0, 1), 3).unflatten(0, (2, 3)).mT
    torch.testing.assert_close(resized(signal, area_matrix(4, 3)), area)
    coarse = torch.randn(2, 5, 3)
    cubic = functional.interpolate(coarse[..., None], (4, 1), mode="bicubic")[..., 0]
    torch.testing.assert_close(resized(coarse.mT, cubic_matrix(3, 4)), cubic.mT)
    torch.testing.assert_close(cosine_basis(16) @ cosine_basis(16).T, torch.eye(16, dtype=torch.float64))


@pytest.mark.parametrize("options", [{}, {"per_dimension": False}, {"scales": (2, 4)}, {"similarity": "euclidean"}])
def test_the_sum_of_refined_codes_is_what_the_decoder_gets(options):
    tokeniser, chunks = small(3, **options), smooth_chunks(5, 3)
    found = tokeniser.quantise(tokeniser.encode(chunks))
    assert found.tokens.shape == (5, tokeniser.count)
    assert tokeniser.count == sum(tokeniser.scales) * (1 if "per_dimension" in options else 3)
    torch.testing.assert_close(tokeniser.latent_of(found.tokens), found.sums[-1])
    torch.testing.assert_close(tokeniser.latent_of(found.tokens[:, : tokeniser.per_scale[0]]), found.sums[0])
    assert tokeniser.chunk_of(found.tokens).shape == chunks.shape


def test_each_scale_answers_what_the_coarser_ones_left_over():
    """Against a direct computation of one signal with torch's own interpolation, VAR's way."""
    tokeniser, chunks = small(1), smooth_chunks(6, 1)
    with torch.no_grad():
        tokeniser.codebook *= 40  # so that what is taken away matters
        latent = tokeniser.encode(chunks)
        rest, expected = latent[:, 0].mT, []
        for k, scale in enumerate((1, 2, 3, 4)):
            short = functional.interpolate(rest, scale, mode="area").mT
            found = functional.cosine_similarity(short[:, :, None], tokeniser.codebook[0], dim=-1).argmax(-1)
            raised = functional.interpolate(tokeniser.codebook[0][found].mT[..., None], (4, 1), mode="bicubic")[..., 0]
            rest = rest - 0.5 * raised - 0.5 * tokeniser.refine[k](raised)
            expected.append(found)
    assert torch.equal(tokeniser.quantise(latent).tokens, torch.cat(expected, 1))


def test_error_falls_with_every_scale_and_reconstructions_keep_their_tokens(trained):
    chunks = smooth_chunks(256, seed=5)
    errors = scale_errors(trained, chunks)
    assert (errors.diff() < 0).all()
    report = tokeniser_report(trained, chunks)
    assert report["mse"] == pytest.approx(float(errors[-1]))
    assert report["mse"] < 0.2 * float(chunks.var())
    finest = trained.tokens(chunks)[:, -trained.per_scale[-1] :]
    again = trained.tokens(trained.chunk_of(trained.tokens(chunks)))[:, -trained.per_scale[-1] :]
    assert report["finest_changed"] == pytest.approx(float((again != finest).double().mean()))
    assert report["finest_changed"] < 0.9  # chance is .97; what is claimed of a real one is measured elsewhere
    assert report["coarse_energy"] < 0.2
    assert report["ready"] == 0.0


def test_gradients_go_straight_through_and_codes_learn_from_their_own_term_alone():
    tokeniser, chunks = small(), smooth_chunks(8)
    latent = tokeniser.encode(chunks)
    through = latent + (tokeniser.quantise(latent).sums[-1] - latent).detach()
    (tokeniser.decode(through) - chunks).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tokeniser.encoder.parameters())
    assert tokeniser.codebook.grad is None
    tokeniser.zero_grad()
    tokeniser.loss(chunks).mean().backward()
    assert tokeniser.codebook.grad.abs().sum() > 0
    # The whole loss gives codes exactly what the error of the sums gives them.
    whole = tokeniser.codebook.grad.clone()
    tokeniser.zero_grad()
    latent = tokeniser.encode(chunks).detach()
    torch.stack([(s - latent).square().mean() for s in tokeniser.quantise(latent).sums]).mean().backward()
    torch.testing.assert_close(tokeniser.codebook.grad, whole)


def test_cosine_search_does_not_see_the_length_of_codes():
    points, codes = torch.randn(3, 2, 5, 8), torch.randn(2, 16, 8)
    scaled = codes * torch.rand(2, 16, 1).add(0.1)
    assert torch.equal(nearest_codes(points, codes, "cosine"), nearest_codes(points, scaled, "cosine"))
    doubled = torch.cat([codes, 4 * codes], 1)  # exact in binary, so duplicates tie and the first is taken
    assert torch.equal(nearest_codes(points, doubled, "cosine"), nearest_codes(points, codes, "cosine"))
    nearest = torch.cdist(points[:, 0], codes[0]).argmin(-1)
    assert torch.equal(nearest_codes(points, codes, "euclidean")[:, 0], nearest)


def test_dimensions_trained_apart_and_merged_have_the_same_tokens():
    apart, chunks = [small(1, seed) for seed in range(3)], smooth_chunks(6, 3)
    whole, states = small(3), [one.state_dict() for one in apart]
    whole.load_state_dict({name: torch.cat([state[name] for state in states]) for name in states[0]})
    tokens = whole.tokens(chunks).unflatten(1, (-1, 3))
    for dimension, one in enumerate(apart):
        assert torch.equal(tokens[..., dimension], one.tokens(chunks[..., dimension, None]))
        one_answer = one.chunk_of(one.tokens(chunks[..., dimension, None]))
        torch.testing.assert_close(whole.chunk_of(whole.tokens(chunks))[..., dimension, None], one_answer)


def test_use_of_codes_is_counted_by_scale_and_dimension():
    tokens = torch.tensor([[0, 0, 1, 2, 3, 2], [0, 1, 1, 2, 0, 2]])  # scales 1 and 2, two signals
    np.testing.assert_allclose(code_use(tokens, (2, 4), 2, 4), [[0.25, 0.5], [0.75, 0.25]])


def test_high_frequencies_are_those_of_the_cosines():
    waves = cosine_basis(16)[[1, 6]]
    chunk = (2 * waves[0] + waves[1] + 3)[None, :, None]
    assert float(high_frequency_share(chunk)) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("horizon", "options", "said"),
    [
        (10, {}, "give 8 or 12"),
        (16, {"scales": (1, 2, 3)}, r"1\|2\|3\|4"),
        (16, {"scales": (2, 1, 4)}, "must rise"),
        (16, {"similarity": "cosin"}, "cosine or euclidean"),
        (16, {"codes": 0}, "at least 1"),
    ],
)
def test_sizes_that_do_not_fit(horizon, options, said):
    with pytest.raises(UsageError, match=said):
        MultiscaleTokeniser(2, horizon, **options)


def test_chunks_and_tokens_of_another_size_are_refused():
    with pytest.raises(UsageError, match="16, 2"):
        small().tokens(torch.zeros(1, 16, 3))
    with pytest.raises(UsageError, match="5 tokens"):
        small().latent_of(torch.zeros(1, 5, dtype=torch.int64))
