"""From a vessel score to a vessel mask."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Mask

LOW, HIGH = 0.30, 0.70
"""A vessel is a connected region of score LOW or more that reaches HIGH. DRIVE 21-40."""

SMALLEST_PART = 2.5e-4
"""Parts below this share of the squared field diameter are dropped as specks."""


def vessels_from_score(score: NDArray[np.floating[Any]], field_diameter_px: float) -> Mask:
    """The vessel mask (H, W) of a score 0..1 (H, W) by hysteresis, without specks.

    Args:
        score: Vessel score.
        field_diameter_px: Diameter of the field of view in pixels of `score`.
    """
    candidates = (score >= LOW).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(candidates, connectivity=8)
    strong = np.zeros(count, bool)
    strong[np.unique(labels[score >= HIGH])] = True
    large = stats[:, cv2.CC_STAT_AREA] >= SMALLEST_PART * field_diameter_px**2
    keep = strong & large
    keep[0] = False
    return np.asarray(keep[labels])
