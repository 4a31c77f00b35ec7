"""The landmark network: where disc and fovea lie, and how much of the picture is retina."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fovea.image import Mask, Photograph
from fovea_plugins.quality.maps import FIELD_PX, Floats, Seen
from fovea_plugins.training.nets import WNet, read_net

CHANNELS = 4


def network_input(pixels: NDArray[Any], inside: Mask) -> Floats:
    """What the network sees, (4, H, W) float32: standardised RGB, and the field of view.

    Standardised colours differ little between cameras; which colours a retina can have
    is judged elsewhere.

    Args:
        pixels: (H, W, 3) RGB, 0 to 255.
        inside: (H, W) bool, the field of view.
    """
    weight = inside.astype(np.float32)
    if not inside.any():
        return np.zeros((CHANNELS, *inside.shape), np.float32)
    values = np.asarray(pixels, np.float32)
    seen = values[inside]
    standard = np.clip((values - seen.mean(axis=0)) / (seen.std(axis=0) + 2.0), -4.0, 4.0)
    return np.asarray(np.stack([*standard.transpose(2, 0, 1), weight]) * weight, np.float32)


class LandmarkNetwork:
    """Looks at a whole photograph at `FIELD_PX`, and at its mirror image."""

    def __init__(self, network: WNet, facts: dict[str, Any] | None = None) -> None:
        self._network = network.eval()
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.facts = facts or {}

    @classmethod
    def read(cls, path: Path) -> LandmarkNetwork:
        """The network in a weight file written by the trainer."""
        return cls(*read_net(path))

    def look(self, photograph: Photograph) -> Seen:
        """Probabilities over the whole field of view of a photograph."""
        view = photograph.view(FIELD_PX)
        return Seen(self.maps(view.pixels, view.field_of_view), view.field_of_view, view.frame)

    def maps(self, pixels: NDArray[Any], inside: Mask) -> Floats:
        """Probabilities (3, H, W) of pixels (H, W, 3) RGB; 0 outside the field (H, W)."""
        layers = network_input(pixels, inside)
        height, width = inside.shape
        multiple = self._network.config.multiple
        down, right = -height % multiple, -width % multiple
        picture = torch.from_numpy(np.pad(layers, ((0, 0), (0, down), (0, right))))[None]
        with torch.inference_mode():
            both = torch.cat([picture, picture.flip(3)])
            logits = self._network(both.contiguous(memory_format=torch.channels_last))[-1]
            found = torch.sigmoid(logits)
            mean = 0.5 * (found[0] + found[1].flip(2))
        return np.asarray(mean.numpy()[:, :height, :width] * inside, np.float32)
