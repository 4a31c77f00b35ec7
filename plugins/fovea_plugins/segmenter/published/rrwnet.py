"""RRWNet: a U-Net for arteries, veins and vessels, and one that mends its answer again and again.

Written from Morano J, Aresta G, Bogunović H. RRWNet: recursive refinement network
for effective retinal artery/vein segmentation and classification. Expert Syst Appl
2024;256:124970. Modules are named as in the authors' weight files.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the customary name)

WIDTHS = (64, 128, 256, 512, 1024)
LEVELS = len(WIDTHS) - 1
MULTIPLE = 32
"""The authors pad the sides of a picture to multiples of this; 16 would do for the layers."""

REFINEMENTS = 6
"""The second U-Net runs once on the first one's answer and five times on its own."""


class _Pair(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu_(self.conv2(F.relu_(self.conv1(x))))


class _UNet(nn.Module):
    """Logits (N, outputs, H, W): `conv1` to `conv5` downwards, `conv6` to `conv9` upwards."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        for level, width in enumerate(WIDTHS, 1):
            before = WIDTHS[level - 2] if level > 1 else inputs
            self.add_module(f"conv{level}", _Pair(before, width))
        for step, width in enumerate(reversed(WIDTHS[:-1]), 1):
            enlarge = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
            self.add_module(f"upconv{step}", nn.Sequential(OrderedDict(conv=enlarge)))
            self.add_module(f"conv{LEVELS + 1 + step}", _Pair(2 * width, width))
        self.outconv = nn.Conv2d(WIDTHS[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        part, beside = self.get_submodule, []
        for level in range(1, LEVELS + 1):
            x = part(f"conv{level}")(x)
            beside.append(x)
            x = F.max_pool2d(x, 2)
        x = part(f"conv{LEVELS + 1}")(x)
        for step in range(1, LEVELS + 1):
            joined = torch.cat([beside.pop(), part(f"upconv{step}")(x)], dim=1)
            x = part(f"conv{LEVELS + 1 + step}")(joined)
        logits: Tensor = self.outconv(x)
        return logits


class RRWNet(nn.Module):
    """Probabilities (N, 3, H, W) of artery, vein and vessel.

    `first` and then `REFINEMENTS` times `refine` give what `forward` gives; apart,
    they let a long run say how far it is, and be stopped.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first_u = _UNet(3, 3)
        self.second_u = _UNet(3, 2)

    def first(self, x: Tensor) -> Tensor:
        """A first answer (N, 3, H, W) to an enhanced picture (N, 3, H, W), RGB from 0 to 1."""
        return torch.sigmoid(self.first_u(x))

    def refine(self, found: Tensor) -> Tensor:
        """A better answer from an answer, both (N, 3, H, W); vessels stay as they are."""
        return torch.cat([torch.sigmoid(self.second_u(found)), found[:, 2:]], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        """The last answer to an enhanced picture (N, 3, H, W); H, W multiples of 16."""
        found = self.first(x)
        for _ in range(REFINEMENTS):
            found = self.refine(found)
        return found
