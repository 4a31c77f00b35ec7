"""Length of the outline of a mask, at any angle."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fovea.image import Mask
from fovea_plugins.biomarkers.paths import LEAST_WINDOW_PX, Floats, Lines, Smoother


@dataclass(frozen=True)
class Outline:
    """Stretches of outline, about a pixel each.

    Attributes:
        points: (N, 2) x, y of the end of each stretch.
        lengths: (N,) in pixels.
    """

    points: Floats
    lengths: Floats


EMPTY = Outline(np.empty((0, 2)), np.empty(0))


def outline(mask: Mask) -> Outline:
    """The outline of a mask (H, W), its holes and the part along the picture's border included.

    Chains of outer pixels would be up to 8 % too long: they are smoothed as centrelines are.
    Moving them half a pixel out, to the edge of the pixels, adds half the angle by which they
    turn: pi for the outline of a part, minus pi for that of a hole.
    """
    contours, parents = cv2.findContours(
        np.pad(mask, 1).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    if not contours:
        return EMPTY
    # A ring repeats its first point at its end.
    sizes = np.array([len(contour) + 1 for contour in contours])
    points = np.concatenate([part[:, 0] for contour in contours for part in (contour, contour[:1])])
    first = np.concatenate([[0], np.cumsum(sizes)])
    lines = Lines(points - 1.0, first, np.ones(len(contours), bool))
    smooth = Smoother(lines, np.full(len(contours), LEAST_WINDOW_PX))(lines.points)
    steps = np.hypot(*np.diff(smooth, axis=0, prepend=smooth[:1]).T)
    steps[first[:-1]] = 0.0
    turn = np.where(parents[0][:, 3] >= 0, -np.pi, np.pi)
    share = np.repeat(turn / (sizes - 1), sizes)
    share[first[:-1]] = 0.0
    return Outline(lines.points, steps + share)
