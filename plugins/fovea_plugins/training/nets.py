"""Small encoder-decoder networks that train and run on one CPU core.

A U-Net (Ronneberger et al. 2015, arXiv 1505.04597) whose finest level works on
2x2 pixel blocks (space to depth), and two of them in a row, the second reading
what the first found: the W-Net of Galdran et al. (2022, Sci Rep 12:6174).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the customary name)


@dataclass(frozen=True)
class NetConfig:
    """Shape of a W-Net.

    Attributes:
        inputs: Input channels.
        outputs: Output channels, one logit each.
        first, second: Channels per level of the two U-Nets, finest first; level k
            works at 1 / 2^(k+1) of the resolution. An empty `second` gives a U-Net.
        detail: Channels of the last convolution, at full resolution.
    """

    inputs: int
    outputs: int
    first: tuple[int, ...] = (32, 48, 64, 64)
    second: tuple[int, ...] = (32, 48, 64)
    detail: int = 16

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @property
    def multiple(self) -> int:
        """Height and width of the input must be multiples of this."""
        return int(2 ** max(len(self.first), len(self.second)))


class _Block(nn.Module):
    """Two 3x3 convolutions with batch norm, and a shortcut past them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.path(x) + self.shortcut(x))


class _UNet(nn.Module):
    """Features of the finest level, (N, levels[0], h, w) from (N, inputs, h, w)."""

    def __init__(self, inputs: int, levels: tuple[int, ...]) -> None:
        super().__init__()
        widths = (inputs, *levels)
        self.down = nn.ModuleList(_Block(a, b) for a, b in zip(widths, levels, strict=False))
        pairs = list(zip(levels[1:], levels[:-1], strict=True))[::-1]
        self.narrow = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairs)
        self.up = nn.ModuleList(_Block(b, b) for _, b in pairs)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for narrow, block, skip in zip(self.narrow, self.up, skips[-2::-1], strict=True):
            x = F.interpolate(narrow(x), scale_factor=2.0, mode="nearest")
            x = block(x + skip)
        return x


class _Head(nn.Module):
    """Logits (N, outputs, 2h, 2w) from features (N, c, h, w) and the picture itself."""

    def __init__(self, features: int, inputs: int, outputs: int, detail: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(features, 4 * detail, 1)
        self.see = nn.Conv2d(inputs, detail, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(detail)
        self.logits = nn.Conv2d(detail, outputs, 3, padding=1)

    def forward(self, features: Tensor, picture: Tensor) -> Tensor:
        both = F.pixel_shuffle(self.spread(features), 2) + self.see(picture)
        return self.logits(F.relu(self.norm(both)))


class WNet(nn.Module):
    """Logits of both U-Nets, best last: a list of (N, outputs, H, W)."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        blocks = 4 * config.inputs
        self.first = _UNet(blocks, config.first)
        self.heads = nn.ModuleList(
            [_Head(config.first[0], config.inputs, config.outputs, config.detail)]
        )
        if config.second:
            self.second = _UNet(blocks + 4 * config.outputs + config.first[0], config.second)
            self.heads.append(_Head(config.second[0], config.inputs, config.outputs, config.detail))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits of the picture (N, inputs, H, W); H, W multiples of `config.multiple`."""
        blocks = F.pixel_unshuffle(x, 2)
        features = self.first(blocks)
        found = [self.heads[0](features, x)]
        if self.config.second:
            seen = F.pixel_unshuffle(torch.sigmoid(found[0]), 2)
            features = self.second(torch.cat([blocks, seen, features], dim=1))
            found.append(self.heads[1](features, x))
        return found
