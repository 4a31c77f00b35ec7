"""Narrower and wider vessel masks, from moved thresholds of their probability."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.scale import Mask

THRESHOLD_CHANGE = 0.2
"""How far the threshold of the vessel probability is moved either way."""


def by_threshold(vessels: Mask, probability: NDArray[np.float32]) -> tuple[Mask, Mask]:
    """The mask (H, W) with its threshold raised and lowered: a narrower and a wider one.

    What the lower threshold adds must touch the mask.

    Args:
        vessels: The mask, not empty.
        probability: (H, W), 0 to 1, whose threshold gave the mask.
    """
    threshold = float(np.percentile(probability[vessels], 1))
    narrow = vessels & (probability >= threshold + THRESHOLD_CHANGE)
    lower = vessels | (probability >= max(threshold - THRESHOLD_CHANGE, 0.004))
    count, labels = cv2.connectedComponents(lower.view(np.uint8), connectivity=8)
    touched = np.zeros(count, bool)
    touched[np.unique(labels[vessels])] = True
    touched[0] = False
    return narrow, np.asarray(touched[labels])


def with_sides(
    vessels: Mask, sides: tuple[Mask, ...], narrow: Mask, wide: Mask
) -> tuple[list[Mask], list[Mask]]:
    """Each side's part of the narrower and of the wider mask.

    What the wider mask adds goes where the nearest vessel pixel belongs.

    Args:
        vessels: The mask (H, W).
        sides: Artery and vein masks, or one of them.
        narrow: The narrower mask from `by_threshold`.
        wide: The wider one.
    """
    known = vessels.copy()
    for side in sides:
        known |= side
    _, nearest = cv2.distanceTransformWithLabels(
        (~known).view(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    added = np.flatnonzero(wide & ~known)
    source = np.zeros(int(nearest.max()) + 1, np.int64)
    flat = np.flatnonzero(known)
    source[nearest.ravel()[flat]] = flat
    origin = source[nearest.ravel()[added]]
    wider = []
    for side in sides:
        grown = side.copy()
        grown.ravel()[added] = side.ravel()[origin]
        wider.append(grown)
    return [side & narrow for side in sides], wider
