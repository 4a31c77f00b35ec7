"""What the landmark network hands over: probability maps, and the peaks in them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Frame, Mask

FIELD_PX = 128
"""Field diameter at which the network looks."""

DISC, FOVEA, RETINA = range(3)

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Seen:
    """What the network saw.

    Attributes:
        maps: (3, H, W) probabilities: near the disc centre, near the foveal centre, retina.
        inside: (H, W) bool, the field of view.
        frame: Of the maps, to the original.
    """

    maps: Floats
    inside: Mask
    frame: Frame

    @property
    def retina(self) -> float:
        """Mean probability of the field to be retina, 0 to 1."""
        return float(self.maps[RETINA][self.inside].mean()) if self.inside.any() else 0.0


@dataclass(frozen=True)
class Peak:
    """A place (x, y) in pixels of the map, and the probability there."""

    x: float
    y: float
    height: float


def peaks(values: Floats, *, count: int, apart_px: float) -> list[Peak]:
    """The highest places of a map (H, W), at least `apart_px` apart, highest first.

    Each is the centre of mass of what rises above half of its height nearby.
    """
    smooth = cv2.GaussianBlur(values, (0, 0), 1.0)
    rows, columns = np.mgrid[: values.shape[0], : values.shape[1]].astype(np.float32)
    free = np.ones(values.shape, bool)
    found: list[Peak] = []
    for _ in range(count):
        masked = np.where(free, smooth, -1.0)
        row, column = np.unravel_index(int(np.argmax(masked)), values.shape)
        height = float(masked[row, column])
        if height <= 0:
            break
        distance = np.hypot(rows - row, columns - column)
        weight = np.where(distance < 0.5 * apart_px, np.maximum(smooth - 0.5 * height, 0.0), 0.0)
        total = float(weight.sum())
        x = float((weight * columns).sum() / total) if total else float(column)
        y = float((weight * rows).sum() / total) if total else float(row)
        found.append(Peak(x, y, height))
        free &= distance >= apart_px
    return found
