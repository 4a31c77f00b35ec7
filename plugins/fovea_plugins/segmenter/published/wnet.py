"""The W-Net for vessels, or for arteries and veins: two small U-Nets in a row.

Written from Galdran A, Anjos A, Dolz J, Chakor H, Lombaert H, Ben Ayed I.
State-of-the-art retinal vessel segmentation with minimalistic models. Sci Rep
2022;12:6174. Modules are named as in the authors' weight files.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the customary name)


def _unit(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(), nn.BatchNorm2d(outputs)


class _Residual(nn.Module):
    """Two convolutions, and one of a single pixel beside them, on half the size if `halve`."""

    def __init__(self, inputs: int, outputs: int, *, halve: bool) -> None:
        super().__init__()
        self.halve = halve
        self.block = nn.Sequential(*_unit(inputs, outputs), *_unit(outputs, outputs))
        self.shortcut = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.halve:
            x = F.max_pool2d(x, 2)
        both: Tensor = self.block(x) + self.shortcut(x)
        return both


class _Up(nn.Module):
    """Doubles the size and takes in the features of the way down, convolved once."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        enlarge = nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 2, stride=2))
        self.up_layer = nn.Sequential(OrderedDict(block=enlarge))
        bridge = nn.Sequential(*_unit(outputs, outputs))
        self.conv_bridge_layer = nn.Sequential(OrderedDict(block=bridge))
        self.conv_layer = _Residual(2 * outputs, outputs, halve=False)

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        joined = torch.cat([self.up_layer(x), self.conv_bridge_layer(beside)], dim=1)
        found: Tensor = self.conv_layer(joined)
        return found


class _UNet(nn.Module):
    """Logits (N, outputs, H, W)."""

    def __init__(self, inputs: int, outputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        steps = tuple(pairwise(widths))
        self.first = _Residual(inputs, widths[0], halve=False)
        self.down_path = nn.ModuleList(_Residual(a, b, halve=True) for a, b in steps)
        self.up_path = nn.ModuleList(_Up(b, a) for a, b in reversed(steps))
        self.final = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.first(x)]
        for down in self.down_path:
            features.append(down(features[-1]))
        x = features.pop()
        for up in self.up_path:
            x = up(x, features.pop())
        logits: Tensor = self.final(x)
        return logits


class WNet(nn.Module):
    """Logits (N, outputs, H, W) of the second U-Net, which sees the picture and the first's logits.

    Args:
        outputs: 1 for vessels; 4 for background, uncertain, artery and vein.
        widths: Channels per level; the picture's sides are multiples of 2 ** (levels - 1).
    """

    def __init__(self, outputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.unet1 = _UNet(3, outputs, widths)
        self.unet2 = _UNet(3 + outputs, outputs, widths)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a picture (N, 3, H, W), RGB from 0 to 1."""
        logits: Tensor = self.unet2(torch.cat([x, self.unet1(x)], dim=1))
        return logits
