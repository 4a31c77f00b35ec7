"""How deep pixels lie in a mask, where it is asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fovea.scale import Mask

Indices = NDArray[np.int64]

_STRAIGHT, _DIAGONAL, _KNIGHT = 1.0, 1.4, 2.1969
"""Lengths of the steps (Borgefors, Comput Vis Graph Image Process 1986;34:344-371): the sum of
the cheapest ones is within 2 % of the straight distance."""

_MOST = np.uint16(np.iinfo(np.uint16).max - 1)
"""Depths stop here, one short of where the next step would wrap to 0."""


class Depths:
    """Distance of pixels to the background, in steps to the 8 neighbours and knight's moves.

    Down the columns it is known at once for all pixels; across them it is looked for only from
    the pixels that are asked for, and only as far as it can get smaller.

    Args:
        mask: (H, W) with a border of background.
    """

    def __init__(self, mask: Mask) -> None:
        down = np.zeros(mask.shape, np.uint16)
        inside = mask.view(np.uint8)
        for row in range(1, len(mask)):
            np.minimum(down[row - 1], _MOST, out=down[row])
            down[row] += 1
            down[row] *= inside[row]
        for row in range(len(mask) - 2, -1, -1):
            np.minimum(down[row], np.minimum(down[row + 1], _MOST) + np.uint16(1), out=down[row])
        self._down = down.ravel()

    def at(self, pixels: Indices) -> NDArray[np.float32]:
        """(N,) distances in pixels at flat indices (N,) into the mask; 0 outside it."""
        best = self._down[pixels] * _STRAIGHT
        open_ones, reach = np.arange(len(pixels)), 1
        while len(open_ones := open_ones[best[open_ones] > reach * _STRAIGHT]):
            own = pixels[open_ones]
            down = np.minimum(self._down[own - reach], self._down[own + reach]).astype(np.float64)
            best[open_ones] = np.minimum(best[open_ones], _steps(reach, down))
            reach += 1
        return best.astype(np.float32)


def _steps(across: int, down: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cheapest way so many pixels across and down."""
    long, short = np.maximum(down, across), np.minimum(down, across)
    flat = (long - 2 * short) * _STRAIGHT + short * _KNIGHT
    steep = (2 * short - long) * _DIAGONAL + (long - short) * _KNIGHT
    return np.where(long >= 2 * short, flat, steep)
