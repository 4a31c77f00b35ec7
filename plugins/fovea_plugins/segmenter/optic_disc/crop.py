"""The square around the disc that the network looks at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Mask, Photograph

Floats = NDArray[np.float32]

INPUT_PX = 144
"""Side of the square in pixels."""

LOCAL_PX = 10.0
"""Gaussian of the local brightness of the green channel, in pixels of the square."""

CHANNELS = 4


@dataclass(frozen=True)
class Crop:
    """A square of the photograph, resampled.

    Attributes:
        pixels: (INPUT_PX, INPUT_PX, 3) uint8 RGB.
        inside: (INPUT_PX, INPUT_PX) bool, the field of view.
        left, top: Place of its corner in the original, in pixels.
        step: Original pixels per pixel of the square.
    """

    pixels: NDArray[np.uint8]
    inside: Mask
    left: int
    top: int
    step: float

    def to_original(self, points_xy: NDArray[Any]) -> NDArray[np.float64]:
        """Points (N, 2) or (2,) of the square in pixels of the original."""
        corner = np.array([self.left, self.top])
        return np.asarray((np.asarray(points_xy) + 0.5) * self.step + corner - 0.5, np.float64)


def cut_crop(photograph: Photograph, centre_xy: NDArray[Any], width_px: float) -> Crop:
    """The square of `width_px` original pixels around a point (x, y) of the original.

    What lies beyond the photograph is black and outside the field of view.
    """
    side = max(2, round(width_px))
    left, top = (int(value) for value in np.rint(np.asarray(centre_xy) + 0.5 - side / 2))
    x0, x1 = max(0, left), min(photograph.width, left + side)
    y0, y1 = max(0, top), min(photograph.height, top + side)
    pixels = np.zeros((side, side, 3), np.uint8)
    inside = np.zeros((side, side), np.uint8)
    if x0 < x1 and y0 < y1:
        here = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        pixels[here] = photograph.pixels[y0:y1, x0:x1]
        inside[here] = photograph.field_of_view[y0:y1, x0:x1]
    size = (INPUT_PX, INPUT_PX)
    how = cv2.INTER_AREA if side > INPUT_PX else cv2.INTER_LINEAR
    return Crop(
        np.asarray(cv2.resize(pixels, size, interpolation=how), np.uint8),
        cv2.resize(inside, size, interpolation=cv2.INTER_NEAREST) > 0,
        left,
        top,
        side / INPUT_PX,
    )


def network_input(pixels: NDArray[Any], inside: Mask) -> Floats:
    """What the network sees, (CHANNELS, H, W) float32: standardised RGB, local green contrast.

    Each colour is standardised within the square, so that exposure and colour
    balance of the camera drop out; the fourth layer drops slow shading as well.

    Args:
        pixels: (H, W, 3) RGB, 0 to 255.
        inside: (H, W) bool, the field of view.
    """
    values = np.asarray(pixels, np.float32)
    if not inside.any():
        return np.zeros((CHANNELS, *inside.shape), np.float32)
    seen = values[inside]
    standard = np.clip((values - seen.mean(axis=0)) / (seen.std(axis=0) + 2.0), -4.0, 4.0)
    weight = inside.astype(np.float32)
    share = cv2.GaussianBlur(weight, (0, 0), LOCAL_PX) + 1e-3
    green = values[..., 1]
    local = green - cv2.GaussianBlur(green * weight, (0, 0), LOCAL_PX) / share
    spread = float(local[inside].std()) + 1.0
    layers = np.stack([*standard.transpose(2, 0, 1), np.clip(local / spread, -4.0, 4.0)])
    return np.asarray(layers * weight, np.float32)
