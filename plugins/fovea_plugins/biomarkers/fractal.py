"""Fractal dimension of a mask by box counting."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fovea.image import Mask

OFFSETS_PER_SIDE = 4


def box_counts(mask: Mask, sizes: tuple[int, ...]) -> NDArray[np.float64]:
    """Boxes of each size that hold any of the mask, averaged over sixteen grid offsets."""
    rows, columns = np.nonzero(mask)
    counts = []
    for size in sizes:
        shifts = np.unique(np.arange(OFFSETS_PER_SIDE) * size // OFFSETS_PER_SIDE)
        width = int(columns.max()) // size + 2
        covers = [
            len(np.unique((rows + dy) // size * width + (columns + dx) // size))
            for dy in shifts
            for dx in shifts
        ]
        counts.append(np.mean(covers))
    return np.array(counts)


