"""S16: what a row is trained on and acts by depends on its own pixels, all of them, and on nobody else's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pilotage.objectives.draws import Generators
from pilotage.policies.control.encoders import ImageEncoder
from pilotage.policies.control.heads.direct import BinsWithOffsets
from pilotage.policies.control.heads.head import Head
from pilotage.systems.robots.carp.config import TokensConfig
from pilotage.training.imitation.builder import Builder, Sizes
from pilotage.training.imitation.config import Imitation

ROWS, FRAMES, STATE, ACTIONS, HORIZON = 3, 2, 4, 2, 8
CAMERAS = ("top", "hand")
PARTS = Imitation(
    encoder="image:widths=16|16|16|16,features=6,keypoints=3",
    network="residual_mlp:width=16,depth=1",
    n_obs_steps=FRAMES,
    chunk_size=HORIZON,
    n_action_steps=4,
)
HEADS = {
    "noise": replace(PARTS, head="denoiser:predicts=noise"),
    "noise, U-Net": replace(PARTS, head="denoiser:predicts=noise", network="unet:widths=8|16"),
    "clean, transformer": replace(
        PARTS, head="denoiser:predicts=clean", network="transformer:width=16,depth=1,heads=2"
    ),
    "velocity": replace(
        PARTS, head="denoiser:predicts=velocity", noise_schedule="linear", sampler="flow_euler:steps=2"
    ),
    "regression": replace(PARTS, head="regression"),
    "mixture": replace(PARTS, head="mixture:modes=3"),
    "mixture per step": replace(
        PARTS, head="mixture:per_step=true", network="framewise", chunk_size=FRAMES, n_action_steps=1
    ),
    "bins": replace(
        PARTS, head="bins:bins=4", network="gpt:width=16,depth=1,heads=2", chunk_size=FRAMES, n_action_steps=1
    ),
    "latent": replace(PARTS, head="latent:latent=3", network="transformer:width=16,depth=1,heads=2"),
    "contrastive": replace(PARTS, head="contrastive:negatives=4,candidates=8,rounds=2"),
    "descent": replace(PARTS, head="descent"),
    "energy": replace(PARTS, head="energy"),
    "ebt": replace(PARTS, head="ebt"),
    "tokens": TokensConfig(
        encoder=PARTS.encoder,
        head="tokens:top_k=20",
        network="next_scale:width=16,depth=2",
        tokeniser="multiscale:scales=1|2,codes=64,latent=4,channels=2",
        n_obs_steps=FRAMES,
        chunk_size=HORIZON,
        n_action_steps=4,
    ),
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(parts: Imitation) -> tuple[ImageEncoder, Head]:
    """Encoder and head with random weights; those that begin at zero, so that nothing is seen yet, are stirred."""
    torch.manual_seed(0)
    builder = Builder(parts, Sizes(STATE, ACTIONS, cameras=CAMERAS))
    encoder, head = builder.encoder, builder.head()
    assert isinstance(encoder, ImageEncoder)
    if isinstance(head, BinsWithOffsets):
        head.find_bins(torch.rand(50, ACTIONS, generator=generator(1)) * 2 - 1, generator(2))
    with torch.no_grad():
        for parameter in (*encoder.parameters(), *head.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator(3)), alpha=0.3)
    return encoder.train(), head.train()


def seen() -> dict[str, Tensor]:
    """What three rows see; a leaf per picture, so that each has a gradient of its own."""
    shapes = {f"image/{camera}": (ROWS, FRAMES, 3, 40, 40) for camera in CAMERAS}
    pictures = {name: torch.rand(shape, generator=generator(n)) for n, (name, shape) in enumerate(shapes.items())}
    return {"state": torch.randn(ROWS, FRAMES, STATE, generator=generator(9)), **pictures}


def draws() -> Generators:
    return [generator(row) for row in range(ROWS)]


@pytest.mark.parametrize("name", HEADS)
def test_the_loss_of_a_row_sees_every_frame_of_its_own_pixels_and_no_others(name: str) -> None:
    encoder, head = made(HEADS[name])
    observations = seen()
    pictures = [observations[f"image/{camera}"].requires_grad_() for camera in CAMERAS]
    chunk = torch.rand(ROWS, HEADS[name].chunk_size, ACTIONS, generator=generator(4)) * 2 - 1
    mask = torch.ones(chunk.shape[:2], dtype=torch.bool)
    loss = head.loss(chunk, encoder(observations, draws()), draws(), mask)
    assert loss.shape == (ROWS,)
    for row in range(ROWS):
        gradients = torch.autograd.grad(loss[row], pictures, retain_graph=True)
        for camera, gradient in zip(CAMERAS, gradients, strict=True):
            strength = gradient.abs().amax((2, 3, 4))
            assert (strength[row] > 0).all(), (camera, strength)
            others = torch.arange(ROWS) != row
            assert (strength[others] == 0).all(), (camera, strength)


@pytest.mark.parametrize("name", HEADS)
def test_a_row_acts_by_its_own_pixels_and_no_others(name: str) -> None:
    encoder, head = made(HEADS[name])
    encoder.eval()
    head.eval()
    plain = seen()
    with torch.no_grad():
        before = head.sample(encoder(plain), draws())
        changed = {n: torch.cat([1 - t[:1], t[1:]]) if n.startswith("image") else t for n, t in plain.items()}
        after = head.sample(encoder(changed), draws())
    assert not torch.allclose(before[0], after[0], atol=1e-6)
    torch.testing.assert_close(after[1:], before[1:], rtol=0, atol=1e-6)
