"""Closed smooth outlines around a point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Mask

ANGLES = 120
RAY_STEP_PX = 0.25
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Outline:
    """A closed polygon (N, 2) of points (x, y) in pixels."""

    points_xy: NDArray[np.float64]

    @property
    def extent(self) -> tuple[float, float]:
        """Full width and full height in pixels."""
        width, height = np.ptp(self.points_xy, axis=0)
        return float(width), float(height)

    @property
    def area(self) -> float:
        """Enclosed area in square pixels."""
        return float(cv2.contourArea(self.points_xy.astype(np.float32)))

    @property
    def diameter(self) -> float:
        """Diameter of the circle of equal area in pixels."""
        return 2.0 * float(np.sqrt(self.area / np.pi))

    @property
    def centre(self) -> NDArray[np.float64]:
        """Mean of the points (x, y): they are evenly spaced in angle."""
        return np.asarray(self.points_xy.mean(axis=0), np.float64)

    def mask(self, shape: tuple[int, int]) -> Mask:
        """The filled outline as (H, W) bool."""
        filled = np.zeros(shape, np.uint8)
        points = np.rint(self.points_xy * 16).astype(np.int32)
        cv2.fillPoly(filled, [points], 1, shift=4)
        return filled > 0

    def share_inside(self, field: Mask) -> float:
        """Share of the points that lie inside a mask (H, W)."""
        height, width = field.shape
        x, y = np.rint(self.points_xy).astype(int).T
        within = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        return float(field[y[within], x[within]].sum() / len(x))


def directions() -> Array:
    """The sampled directions (ANGLES,) in radians, 0 to the right, growing downwards."""
    return np.linspace(0, 2 * np.pi, ANGLES, endpoint=False, dtype=np.float32)


def largest_part(mask: Mask) -> Mask:
    """The largest connected part of a mask (H, W); empty where the mask is."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return np.zeros_like(mask)
    return np.asarray(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def smooth_outline(
    probability: NDArray[Any], *, threshold: float, harmonics: int
) -> Outline | None:
    """The outline of the largest part above a threshold, or None when there is none.

    The distance from its centroid to its edge is taken in `ANGLES` directions and
    low-pass filtered: vessels that cross the edge leave no notch.

    Args:
        probability: (H, W) 0..1.
        threshold: What counts as inside.
        harmonics: Highest angular frequency kept; 2 gives nearly an ellipse.
    """
    part = largest_part(np.asarray(probability) >= threshold)
    if not part.any():
        return None
    rows, columns = np.nonzero(part)
    x, y = float(columns.mean()), float(rows.mean())
    angle = directions()
    reach = np.hypot(columns - x, rows - y).max() + 2.0
    radii = np.arange(0.0, reach, RAY_STEP_PX, dtype=np.float32)
    polar = cv2.remap(
        np.where(cv2.dilate(part.astype(np.uint8), np.ones((3, 3))) > 0, probability, 0).astype(
            np.float32
        ),
        x + np.cos(angle)[:, None] * radii,
        y + np.sin(angle)[:, None] * radii,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
    )
    # Counting what is inside, rather than taking the first edge, passes over holes.
    distance = (polar >= threshold).sum(axis=1) * RAY_STEP_PX
    spectrum = np.fft.rfft(distance)
    spectrum[harmonics + 1 :] = 0
    smooth = np.fft.irfft(spectrum, n=ANGLES)
    return Outline(np.stack([x + np.cos(angle) * smooth, y + np.sin(angle) * smooth], axis=1))
