"""Fractal dimension of a mask by box counting."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fovea.image import Mask

BOX_SIZES_PX = (8, 16, 32, 64, 128, 256)
"""1 % to 32 % of the reference field diameter of 800 pixels. Smaller boxes see the inside of a
vessel, which is a plane, and larger ones see the field, which is one too."""

OFFSETS_PER_SIDE = 8


def box_counts(mask: Mask, sizes: tuple[int, ...] = BOX_SIZES_PX) -> NDArray[np.int64]:
    """How many boxes of each size cover the mask (H, W): the least of 64 grid offsets.

    The least cover is what the definition asks for; the mean over offsets grows
    with the box (a filled square then reads 1.88 instead of 2). Sizes are multiples
    of 8 pixels.
    """
    counts = []
    for size in sizes:
        coarse = _any_of(_any_of(mask, size // OFFSETS_PER_SIDE, 0), size // OFFSETS_PER_SIDE, 1)
        least = mask.size
        for down in range(OFFSETS_PER_SIDE):
            strips = _any_of(np.pad(coarse, ((down, 0), (0, 0))), OFFSETS_PER_SIDE, 0)
            for right in range(OFFSETS_PER_SIDE):
                boxes = _any_of(np.pad(strips, ((0, 0), (right, 0))), OFFSETS_PER_SIDE, 1)
                least = min(least, int(boxes.sum()))
        counts.append(least)
    return np.array(counts, np.int64)


def _any_of(mask: Mask, count: int, axis: int) -> Mask:
    """Whether any of each `count` neighbours along an axis is set; the last group may be short."""
    starts = np.arange(0, mask.shape[axis], count)
    return np.asarray(np.logical_or.reduceat(mask, starts, axis=axis))


def fractal_dimension(mask: Mask, sizes: tuple[int, ...] = BOX_SIZES_PX) -> float | None:
    """The box-counting dimension D0 of a mask (H, W), or None for an empty mask.

    Slope of log(count) on -log(size), unweighted least squares.
    """
    if not mask.any():
        return None
    counts = box_counts(mask, sizes)
    return float(-np.polyfit(np.log(sizes), np.log(counts), 1)[0])
