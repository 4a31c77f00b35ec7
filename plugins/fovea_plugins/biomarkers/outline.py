"""Length of the outline of a mask, at any angle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fovea_plugins.biomarkers.borders import Borders
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


def outline(borders: Borders) -> Outline:
    """The outline of a mask, its holes and the part along the picture's border included.

    Chains of outer pixels would be up to 8 % too long: they are smoothed as centrelines are.
    Moving them half a pixel out, to the edge of the pixels, adds half the angle by which they
    turn: pi for the outline of a part, minus pi for that of a hole.
    """
    pixels, starts = borders.rings
    # A ring repeats its first point at its end.
    first = starts + np.arange(len(starts))
    sizes = np.diff(first)
    again = np.insert(pixels, starts[1:], pixels[starts[:-1]])
    stride = borders.padded.shape[1]
    points = np.column_stack([again % stride, again // stride]) - 1.0
    lines = Lines(points, first, np.ones(len(sizes), bool))
    smooth = Smoother(lines, np.full(len(sizes), LEAST_WINDOW_PX))(points)
    steps = np.hypot(*np.diff(smooth, axis=0, prepend=smooth[:1]).T)
    steps[first[:-1]] = 0.0
    turn = np.where(borders.holes, -np.pi, np.pi)
    share = np.repeat(turn / (sizes - 1), sizes)
    share[first[:-1]] = 0.0
    return Outline(points, steps + share)
