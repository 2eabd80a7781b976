"""ResNet-18 for small images of robots: GroupNorm instead of BatchNorm, spatial softmax instead of pooling.

He et al. 2016 (arXiv 1512.03385); Wu & He 2018, GroupNorm; Finn et al. 2016 (arXiv 1509.06113), spatial softmax.
Averaged weights are wrong with BatchNorm, whose statistics belong to the weights that were not averaged.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from pilotage.core.errors import UsageError


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with GroupNorm and a shortcut; `stride` is the first's: [B, in, H, W] -> [B, out, …]."""

    def __init__(self, inputs: int, outputs: int, stride: int, channels_per_group: int) -> None:
        super().__init__()

        def norm() -> nn.GroupNorm:
            return nn.GroupNorm(outputs // channels_per_group, outputs)

        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.first_norm, self.second_norm = norm(), norm()
        plain = stride == 1 and inputs == outputs
        project = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.shortcut: nn.Module = nn.Identity() if plain else nn.Sequential(project, norm())

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the network."""
        inner = self.first_norm(self.first(x)).relu()
        return (self.second_norm(self.second(inner)) + self.shortcut(x)).relu()


class ResNet18(nn.Module):
    """The 18-layer network without its classifier: images [B, C, H, W] -> feature maps [B, widths[-1], H/32, W/32]."""

    def __init__(
        self, channels: int = 3, *, widths: Sequence[int] = (64, 128, 256, 512), channels_per_group: int = 16
    ) -> None:
        super().__init__()
        self.channels, self.widths, self.channels_per_group = channels, tuple(widths), channels_per_group
        if any(width % channels_per_group for width in self.widths):
            raise UsageError(f"widths {self.widths} must be multiples of channels_per_group={channels_per_group}")
        first = self.widths[0]
        self.stem = nn.Conv2d(channels, first, 7, 2, padding=3, bias=False)
        self.stem_norm = nn.GroupNorm(first // channels_per_group, first)
        stages = []
        for number, (inputs, outputs) in enumerate(zip((first, *self.widths[:-1]), self.widths, strict=True)):
            stages.append(ResidualBlock(inputs, outputs, 1 if number == 0 else 2, channels_per_group))
            stages.append(ResidualBlock(outputs, outputs, 1, channels_per_group))
        self.stages = nn.Sequential(*stages)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        """Return the output of the network."""
        if image.dim() != 4 or image.shape[1] != self.channels:
            raise UsageError(f"images of shape {list(image.shape)}; expected [batch, {self.channels}, height, width]")
        hidden = self.stem_norm(self.stem(image)).relu()
        return self.stages(functional.max_pool2d(hidden, 3, 2, padding=1))


def expected_coordinates(maps: Tensor) -> Tensor:
    """Return where each map is high: the mean coordinate under its softmax, x then y in [−1, 1]: [B, K, H, W] -> [B,
    2K].

    Raises UsageError for maps of a single row or column, whose coordinates would not depend on the image.
    """
    height, width = maps.shape[-2:]
    if min(height, width) < 2:
        raise UsageError(
            f"feature maps of {height}×{width} have no place to tell apart; behind a ResNet-18 images must have more "
            "than 32 pixels in height and width"
        )
    share = maps.flatten(2).softmax(-1).view_as(maps)
    x = torch.linspace(-1, 1, width, dtype=maps.dtype, device=maps.device)
    y = torch.linspace(-1, 1, height, dtype=maps.dtype, device=maps.device)
    return torch.stack([(share.sum(2) * x).sum(-1), (share.sum(3) * y).sum(-1)], -1).flatten(1)


class ImageFeatures(nn.Module):
    """ResNet-18, 1×1 convolution to `keypoints` maps, spatial softmax, linear: [B, C, H, W] in [0, 1] -> [B, F]."""

    def __init__(
        self,
        channels: int = 3,
        *,
        features: int = 64,
        keypoints: int = 32,
        widths: Sequence[int] = (64, 128, 256, 512),
        channels_per_group: int = 16,
    ) -> None:
        super().__init__()
        self.channels, self.features, self.keypoints = channels, features, keypoints
        self.widths, self.channels_per_group = tuple(widths), channels_per_group
        self.backbone = ResNet18(channels, widths=widths, channels_per_group=channels_per_group)
        self.to_maps, self.output_proj = nn.Conv2d(self.widths[-1], keypoints, 1), nn.Linear(2 * keypoints, features)

    def forward(self, image: Tensor) -> Tensor:
        """Return the output of the network."""
        # Centred, so that the first convolution does not start with a large common offset.
        return self.output_proj(expected_coordinates(self.to_maps(self.backbone(2 * image - 1))))
