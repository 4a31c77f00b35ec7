"""Runs a network that labels the pixels of a whole field of view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fovea.image import Frame, Mask, Photograph
from fovea_plugins.training.nets import WNet, read_net

CHANNELS = 5

LOCAL_PX = 24.0
"""Gaussian of the local brightness and contrast."""

Floats = NDArray[np.float32]


def network_input(pixels: NDArray[Any], inside: Mask) -> Floats:
    """What the network sees, (5, H, W) float32: standardised RGB, locally normalised red, green.

    Green shows vessels and lesions best; red tells veins (dark in it) from arteries.

    Args:
        pixels: (H, W, 3) RGB, 0 to 255.
        inside: (H, W) bool, the field of view.
    """
    values = np.asarray(pixels, np.float32)
    if not inside.any():
        return np.zeros((CHANNELS, *inside.shape), np.float32)
    seen = values[inside]
    mean, spread = seen.mean(axis=0), seen.std(axis=0) + 2.0
    standard = np.clip((values - mean) / spread, -4.0, 4.0)
    weight = inside.astype(np.float32)
    share = _blurred(weight) + 1e-3
    layers = list(standard.transpose(2, 0, 1))
    for channel in (0, 1):
        values_of = values[..., channel]
        local = _blurred(values_of * weight) / share
        variance = _blurred((values_of - local) ** 2 * weight) / share
        layers.append(np.clip((values_of - local) / (np.sqrt(variance) + 2.0), -4.0, 4.0))
    return np.asarray(np.stack(layers) * weight, np.float32)


def _blurred(values: Floats) -> Floats:
    # A wide Gaussian loses nothing on a four times coarser grid, and is thirty times faster.
    height, width = values.shape
    small = cv2.resize(values, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), LOCAL_PX / 4, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


class FieldNetwork:
    """Probabilities of every output of a `WNet`, at the field diameter that it was trained at.

    Args:
        network: The network.
        field_diameter_px: Field diameter that it was trained at.
        mirrors: Average over this many mirror images: 1, 2 or 4 (2: as it is and turned by
            half).
        facts: What the weight file says about itself.
    """

    def __init__(
        self,
        network: WNet,
        field_diameter_px: int,
        *,
        mirrors: int = 4,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self._network = network.eval()
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._mirrors = MIRRORS[mirrors]
        self.field_diameter_px = field_diameter_px
        self.facts = facts or {}

    @classmethod
    def read(cls, path: Path, *, mirrors: int = 4) -> FieldNetwork:
        """The network in a weight file written by the trainer."""
        network, facts = read_net(path)
        return cls(network, int(facts["field_diameter_px"]), mirrors=mirrors, facts=facts)

    def probabilities(self, pixels: NDArray[np.uint8], inside: Mask) -> Floats:
        """Probability of each output, (C, H, W) float32; 0 outside the field.

        Args:
            pixels: (H, W, 3) uint8 RGB.
            inside: (H, W) bool, the field of view.
        """
        layers = network_input(pixels, inside)
        height, width = inside.shape
        multiple = self._network.config.multiple
        down, right = -height % multiple, -width % multiple
        padded = torch.from_numpy(np.pad(layers, ((0, 0), (0, down), (0, right))))[None]
        total = torch.zeros(1)
        with torch.inference_mode():
            for mirror in self._mirrors:
                view = padded.flip(mirror).contiguous(memory_format=torch.channels_last)
                logits: torch.Tensor = self._network(view)[-1]
                total = total + torch.sigmoid(logits).flip(mirror)
        found = (total[0] / len(self._mirrors)).numpy()[:, :height, :width]
        return np.asarray(found * inside, np.float32)

    def on_photograph(
        self, photograph: Photograph, *, field_diameter_px: int | None = None
    ) -> tuple[Floats, Frame]:
        """Probabilities (C, h, w) in a view of the photograph, and the frame of that view."""
        view = photograph.view(field_diameter_px or self.field_diameter_px)
        return self.probabilities(view.pixels, view.field_of_view), view.frame


MIRRORS: dict[int, tuple[tuple[int, ...], ...]] = {
    1: ((),),
    2: ((), (2, 3)),
    4: ((), (2,), (3,), (2, 3)),
}
