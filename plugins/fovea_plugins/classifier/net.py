"""The image network: a small residual encoder whose features are pooled at three scales."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the customary name)

from fovea_plugins.training.nets import Block


@dataclass(frozen=True)
class ClassifierConfig:
    """Shape of the network.

    Attributes:
        inputs: Input channels.
        style: Numbers about the photograph as a whole, beside the pixels.
        outputs: Logits.
        levels: Channels per level; level k works at 1 / 2^(k+1) of the resolution. All but
            the last are those of the artery-vein network, whose weights they start from.
        pooled: Of that many last levels, mean and soft maximum are read.
        hidden: Width of the layer before the logits.
        dropout: Share of pooled features left out while training.
        pooled_px: Size of picture to whose number of places the soft maximum is referred: a
            larger picture has more places and must not thereby get a higher maximum. The
            geometric mean of the sizes that are trained on.
    """

    inputs: int = 5
    style: int = 6
    outputs: int = 14
    levels: tuple[int, ...] = (16, 32, 48, 64, 96, 128)
    pooled: int = 3
    hidden: int = 128
    dropout: float = 0.3
    pooled_px: float = 241.2

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class ClassifierNet(nn.Module):
    """Logits (N, outputs) of pictures (N, inputs, S, S) and their style numbers (N, style)."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        widths = (4 * config.inputs, *config.levels)
        pairs = zip(widths, config.levels, strict=False)
        self.down = nn.ModuleList(Block(a, b) for a, b in pairs)
        features = 2 * sum(config.levels[-config.pooled :]) + config.style
        self.norm = nn.BatchNorm1d(features)
        self.hidden = nn.Linear(features, config.hidden)
        self.logits = nn.Linear(config.hidden, config.outputs)

    def maps(self, x: Tensor) -> list[Tensor]:
        """Feature maps of the pooled levels, finest first; S must be a multiple of 64."""
        x = F.pixel_unshuffle(x, 2)
        found = []
        for index, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if index else x)
            found.append(x)
        return found[-self.config.pooled :]

    def pooled(self, x: Tensor, style: Tensor) -> Tensor:
        """Style numbers, and mean and soft maximum of every channel, (N, F)."""
        found = [style]
        more_places = 2.0 * math.log(x.shape[-1] / self.config.pooled_px)
        for level in self.maps(x):
            flat = level.flatten(2)
            # A small bright spot must count as well as a wide change: mean and soft maximum.
            found += [flat.mean(2), (torch.logsumexp(4.0 * flat, 2) - more_places) / 4.0]
        return torch.cat(found, 1)

    def hidden_of(self, pooled: Tensor) -> Tensor:
        """The layer before the logits, (N, hidden)."""
        features = F.dropout(self.norm(pooled), self.config.dropout, self.training)
        return F.relu(self.hidden(features))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Logits (N, outputs)."""
        hidden = F.dropout(
            self.hidden_of(self.pooled(x, style)), self.config.dropout, self.training
        )
        logits: Tensor = self.logits(hidden)
        return logits
