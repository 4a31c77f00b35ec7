"""Runs the vessel network on a view of a photograph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from fovea.image import Frame, Mask, Photograph
from fovea_plugins.training.nets import NetConfig, WNet

FIELD_DIAMETER_PX = 608
"""Field diameter that the network was trained at."""

SPECK = 4e-5
"""Connected parts below this share of the squared field diameter are dropped: two thirds
of all parts, at 0.0015 Dice, on the held-out photographs of the training sets."""

LOCAL_PX = 24.0
"""Gaussian of the local brightness and contrast of the green channel."""

Floats = NDArray[np.float32]


def network_input(pixels: NDArray[Any], inside: Mask) -> Floats:
    """What the network sees, (5, H, W) float32: standardised RGB, locally normalised red, green.

    Green shows vessels best; red tells veins (dark in it) from arteries.

    Args:
        pixels: (H, W, 3) RGB, 0 to 255.
        inside: (H, W) bool, the field of view.
    """
    values = np.asarray(pixels, np.float32)
    if not inside.any():
        return np.zeros((5, *inside.shape), np.float32)
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


class VesselNetwork:
    """Probabilities of vessel, artery and vein.

    Args:
        network: A `WNet` with three outputs.
        flips: Average over the two mirror images and the half turn: four runs.
        threshold: Vessel probability from which a pixel counts as vessel.
        artery_cut: Artery share from which a vessel pixel counts as artery.
    """

    def __init__(
        self,
        network: WNet,
        *,
        flips: bool = True,
        threshold: float = 0.5,
        artery_cut: float = 0.5,
    ) -> None:
        self._network = network.eval().to(memory_format=torch.channels_last)
        self._multiple = network.config.multiple
        self._flips = flips
        self.threshold = threshold
        self.artery_cut = artery_cut

    @classmethod
    def read(cls, path: Path, *, flips: bool = True) -> VesselNetwork:
        """The network in a weight file written by the trainer."""
        with safe_open(path, framework="pt") as weights:
            facts = json.loads(weights.metadata()["fovea"])
            tensors = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118
        shape = facts["network"]
        config = NetConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in shape.items()})
        network = WNet(config)
        network.load_state_dict(tensors)
        return cls(
            network,
            flips=flips,
            threshold=float(facts.get("threshold", 0.5)),
            artery_cut=float(facts.get("artery_cut", 0.5)),
        )

    def probabilities(self, pixels: NDArray[np.uint8], inside: Mask) -> Floats:
        """Vessel, artery and vein probability, (3, H, W) float32; 0 outside the field.

        Args:
            pixels: (H, W, 3) uint8 RGB with a field diameter of `FIELD_DIAMETER_PX`.
            inside: (H, W) bool, the field of view.
        """
        layers = network_input(pixels, inside)
        height, width = inside.shape
        down, right = -height % self._multiple, -width % self._multiple
        padded = torch.from_numpy(np.pad(layers, ((0, 0), (0, down), (0, right))))[None]
        axes: tuple[tuple[int, ...], ...] = ((),)
        if self._flips:
            axes = ((), (2,), (3,), (2, 3))
        with torch.inference_mode():
            total = torch.zeros(1, 3, height + down, width + right)
            for flip in axes:
                view = padded.flip(flip).contiguous(memory_format=torch.channels_last)
                logits: torch.Tensor = self._network(view)[-1]
                total += torch.sigmoid(logits).flip(flip)
        found = (total[0] / len(axes)).numpy()[:, :height, :width]
        return np.asarray(found * inside, np.float32)

    def on_photograph(self, photograph: Photograph) -> tuple[Floats, Frame]:
        """Probabilities (3, h, w) in a view of the photograph, and the frame of that view."""
        view = photograph.view(FIELD_DIAMETER_PX)
        return self.probabilities(view.pixels, view.field_of_view), view.frame


def without_specks(mask: Mask, field_diameter_px: float) -> Mask:
    """The mask (H, W) without its smallest connected parts.

    Args:
        mask: Vessels.
        field_diameter_px: Diameter of the field of view in pixels of the mask.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= SPECK * field_diameter_px**2
    keep[0] = False
    return np.asarray(keep[labels])
