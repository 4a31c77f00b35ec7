"""Polar sampling, closed optimal paths and ellipses.

A closed boundary around a point becomes a path through a (angle, radius) cost
image, found exactly by dynamic programming (Timp & Karssemeijer 2004, Med Phys
31:958-971, who used it on masses in mammograms).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Mask

ANGLES = 120
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Ellipse:
    """Centre (x, y), full axes in pixels, and direction of the first axis in degrees."""

    x: float
    y: float
    axis_a: float
    axis_b: float
    angle_deg: float

    @property
    def radius(self) -> float:
        """Radius of the circle of equal area in pixels."""
        return float(np.sqrt(self.axis_a * self.axis_b)) / 2

    def radii(self, angles_rad: NDArray[Any]) -> Array:
        """Distance from the centre to the edge (N,) in the given directions."""
        turned = angles_rad - np.radians(self.angle_deg)
        a, b = self.axis_a / 2, self.axis_b / 2
        distance = a * b / np.hypot(b * np.cos(turned), a * np.sin(turned))
        return np.asarray(distance, dtype=np.float32)

    def extent(self) -> tuple[float, float]:
        """Full width and full height in pixels."""
        turn = np.radians(self.angle_deg)
        a, b = self.axis_a / 2, self.axis_b / 2
        width = 2 * np.hypot(a * np.cos(turn), b * np.sin(turn))
        height = 2 * np.hypot(a * np.sin(turn), b * np.cos(turn))
        return float(width), float(height)

    def mask(self, shape: tuple[int, int]) -> Mask:
        """The filled ellipse as (H, W) bool."""
        y, x = np.mgrid[: shape[0], : shape[1]]
        angle = np.arctan2(y - self.y, x - self.x)
        return np.asarray(np.hypot(x - self.x, y - self.y) <= self.radii(angle))


def directions() -> Array:
    """The sampled directions (ANGLES,) in radians, 0 to the right, growing downwards."""
    return np.linspace(0, 2 * np.pi, ANGLES, endpoint=False, dtype=np.float32)


def sample_polar(values: Array, centre: tuple[float, float], radii_px: Array) -> Array:
    """The map (H, W) along rays from the centre: (ANGLES, len(radii_px))."""
    angle = directions()[:, None]
    x = (centre[0] + np.cos(angle) * radii_px).astype(np.float32)
    y = (centre[1] + np.sin(angle) * radii_px).astype(np.float32)
    sampled = cv2.remap(values, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled, dtype=np.float32)


def closed_path(cost: Array, *, bend: float) -> NDArray[np.intp]:
    """The radius index (N,) per angle of the cheapest closed path through (N, R).

    A step of one radius per angle costs `bend`; larger steps are not allowed.
    """
    # Two turns settle the start; the second half of them is then free of it.
    doubled = np.concatenate([cost, cost])
    steps, size = doubled.shape
    total = doubled[0].copy()
    came = np.zeros((steps, size), np.intp)
    index = np.arange(size)
    for step in range(1, steps):
        lower = np.concatenate([[np.inf], total[:-1]]) + bend
        upper = np.concatenate([total[1:], [np.inf]]) + bend
        options = np.stack([total, lower, upper])
        choice = options.argmin(axis=0)
        came[step] = index + np.array([0, -1, 1])[choice]
        total = options[choice, index] + doubled[step]
    path = np.zeros(steps, np.intp)
    path[-1] = int(np.argmin(total))
    for step in range(steps - 1, 0, -1):
        path[step - 1] = came[step, path[step]]
    quarter = len(cost) // 2
    middle = path[quarter : quarter + len(cost)]
    return np.roll(middle, quarter)


def fit_ellipse(centre: tuple[float, float], radii_px: NDArray[Any]) -> Ellipse:
    """The ellipse through the boundary given by a radius (ANGLES,) per direction."""
    angle = directions()
    points = np.stack(
        [centre[0] + np.cos(angle) * radii_px, centre[1] + np.sin(angle) * radii_px], axis=1
    ).astype(np.float32)
    (x, y), (axis_a, axis_b), turn = cv2.fitEllipseDirect(points[:, None, :])
    return Ellipse(float(x), float(y), float(axis_a), float(axis_b), float(turn))
