"""Artery or vein: one opinion for each vessel segment.

A network judges pixels, so its answer can change along one vessel. Here each
segment between two junctions gathers the evidence of its whole centreline
(cf. Dashtbozorg et al. 2014, IEEE Trans Image Process 23:1073-1083).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Mask
from fovea_plugins.biomarkers.graph import Segment, vessel_graph

Floats = NDArray[np.float32]


def artery_share(probabilities: Floats) -> Floats:
    """How far a pixel is artery rather than vein, (H, W) 0..1, from (3, H, W)."""
    _, artery, vein = probabilities
    return np.asarray((artery + 1e-4) / (artery + vein + 2e-4), np.float32)


def around_half(share: Floats, cut: float) -> Floats:
    """Shares (H, W) whose odds are shifted so that `cut` becomes one half.

    Networks lean towards veins, which are wider and darker; the cut undoes that.
    """
    odds = share / np.maximum(1.0 - share, 1e-6) * ((1.0 - cut) / cut)
    return np.asarray(odds / (1.0 + odds), np.float32)


def settle_sides(probabilities: Floats, vessels: Mask) -> Floats:
    """The artery share (H, W), equal along each vessel segment.

    Args:
        probabilities: Vessel, artery, vein, (3, H, W).
        vessels: (H, W) bool, the vessel mask in the same frame.
    """
    share = artery_share(probabilities)
    # Odds, not shares: a few certain pixels outweigh many that could be either.
    odds = np.log(np.clip(share, 0.02, 0.98) / np.clip(1.0 - share, 0.02, 0.98))
    on_line = np.full(vessels.shape, np.nan, np.float32)
    for segment in vessel_graph(vessels).segments:
        x, y = _pixels(segment, vessels.shape)
        on_line[y, x] = 1.0 / (1.0 + np.exp(-odds[y, x].mean()))
    return _spread(on_line, share, vessels)


def _pixels(segment: Segment, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Columns and rows under the centreline; without the ends, which other segments share."""
    path = np.rint(segment.path).astype(int)
    inner = path[2:-2] if len(path) > 8 else path
    return np.clip(inner[:, 0], 0, shape[1] - 1), np.clip(inner[:, 1], 0, shape[0] - 1)


def _spread(on_line: Floats, share: Floats, vessels: Mask) -> Floats:
    """The value of the nearest centreline pixel on every vessel pixel, `share` elsewhere."""
    known = ~np.isnan(on_line)
    if not known.any():
        return share
    _, nearest = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    by_label = np.zeros(int(nearest.max()) + 1, np.float32)
    by_label[nearest[known]] = on_line[known]
    settled = share.copy()
    settled[vessels] = by_label[nearest[vessels]]
    return settled
