"""Small encoder-decoder networks that train and run on one CPU core.

A U-Net (Ronneberger et al. 2015, arXiv 1505.04597) whose finest level works on
pixels or on blocks of them (space to depth), and two of them in a row, the second
reading what the first found: the W-Net of Galdran et al. (2022, Sci Rep 12:6174).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the customary name)


@dataclass(frozen=True)
class NetConfig:
    """Shape of a W-Net.

    Attributes:
        inputs: Input channels.
        outputs: Output channels, one logit each.
        first, second: Channels per level of the two U-Nets, finest first; level k
            works at 1 / (block 2^k) of the resolution. An empty `second` gives a U-Net.
        detail: Channels of the last convolution, at full resolution.
        block: The finest level works on blocks of this many pixels a side: 2 is
            faster, 1 keeps lines of one pixel.
    """

    inputs: int
    outputs: int
    first: tuple[int, ...] = (32, 48, 64, 64)
    second: tuple[int, ...] = (32, 48, 64)
    detail: int = 16
    block: int = 2

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @property
    def multiple(self) -> int:
        """Height and width of the input must be multiples of this."""
        return int(self.block * 2 ** (max(len(self.first), len(self.second)) - 1))


class Block(nn.Module):
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
        """(N, outputs, H, W) from (N, inputs, H, W)."""
        return F.relu(self.path(x) + self.shortcut(x))


class _UNet(nn.Module):
    """Features of the finest level, (N, levels[0], h, w) from (N, inputs, h, w)."""

    def __init__(self, inputs: int, levels: tuple[int, ...]) -> None:
        super().__init__()
        widths = (inputs, *levels)
        self.down = nn.ModuleList(Block(a, b) for a, b in zip(widths, levels, strict=False))
        pairs = list(zip(levels[1:], levels[:-1], strict=True))[::-1]
        self.narrow = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairs)
        self.up = nn.ModuleList(Block(b, b) for _, b in pairs)

    def forward(self, x: Tensor) -> Tensor:
        skips: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for narrow, block, skip in zip(self.narrow, self.up, skips[-2::-1], strict=True):
            x = F.interpolate(narrow(x), scale_factor=2.0, mode="nearest")
            x = block(x + skip)
        return x


class _Head(nn.Module):
    """Logits at full resolution from features per block and the picture itself."""

    def __init__(self, features: int, config: NetConfig) -> None:
        super().__init__()
        self.block, detail = config.block, config.detail
        inputs, outputs = config.inputs, config.outputs
        self.spread = nn.Conv2d(features, self.block**2 * detail, 1)
        self.see = nn.Conv2d(inputs, detail, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(detail)
        self.logits = nn.Conv2d(detail, outputs, 3, padding=1)

    def forward(self, features: Tensor, picture: Tensor) -> Tensor:
        both = F.pixel_shuffle(self.spread(features), self.block) + self.see(picture)
        logits: Tensor = self.logits(F.relu(self.norm(both)))
        return logits


class _PixelHead(nn.Conv2d):
    """Logits (N, outputs, H, W) from features that are at full resolution already."""

    def __init__(self, features: int, config: NetConfig) -> None:
        super().__init__(features, config.outputs, 1)

    def forward(self, features: Tensor, picture: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(features)


class WNet(nn.Module):
    """Logits of both U-Nets, best last: a list of (N, outputs, H, W)."""

    def __init__(self, config: NetConfig) -> None:
        super().__init__()
        self.config = config
        area = config.block**2
        blocks = area * config.inputs
        self.first = _UNet(blocks, config.first)
        head = _Head if config.block > 1 else _PixelHead
        self.heads = nn.ModuleList([head(config.first[0], config)])
        if config.second:
            self.second = _UNet(blocks + area * config.outputs + config.first[0], config.second)
            self.heads.append(head(config.second[0], config))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits of the picture (N, inputs, H, W); H, W multiples of `config.multiple`."""
        blocks = F.pixel_unshuffle(x, self.config.block)
        features = self.first(blocks)
        found = [self.heads[0](features, x)]
        if self.config.second:
            seen = F.pixel_unshuffle(torch.sigmoid(found[0]), self.config.block)
            features = self.second(torch.cat([blocks, seen, features], dim=1))
            found.append(self.heads[1](features, x))
        return found


def read_net(path: Path) -> tuple[WNet, dict[str, Any]]:
    """The network in a weight file written by the trainer, and what the file says of itself."""
    with safe_open(path, framework="pt") as weights:
        facts: dict[str, Any] = json.loads(weights.metadata()["fovea"])
        tensors = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118
    shape: dict[str, Any] = facts["network"]
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in shape.items()}
    config = NetConfig(**values)
    network = WNet(config)
    network.load_state_dict(tensors)
    return network, facts
