"""Density, length and shape of a vessel mask, at one reference resolution."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Mask
from fovea_plugins.biomarkers.fractal import fractal_dimension
from fovea_plugins.biomarkers.graph import VesselGraph, vessel_graph

REFERENCE_FIELD_PX = 800
"""Masks are brought to this field diameter, so that values do not depend on the camera."""

SHORTEST_SEGMENT_PX = 20.0
"""Shorter segments (2.5 % of the field) are too short for a shape; they count as length only."""


@dataclass(frozen=True)
class VesselMeasures:
    """What is measured on one mask; None where the mask does not allow it."""

    vessel_density: float | None
    vessel_length_density: float | None
    fractal_dimension: float | None
    tortuosity: float | None

    def get(self, name: str) -> float | None:
        """The measure of that name."""
        value: float | None = getattr(self, name)
        return value


def measure(vessels: Mask, field: Mask, field_diameter_px: float) -> VesselMeasures:
    """All measures of a vessel mask (H, W) inside a field (H, W).

    Args:
        vessels: Vessel mask.
        field: Where vessels count: the field of view, less the disc when it is known.
        field_diameter_px: Diameter of the camera's field in pixels of the masks.
    """
    inside = vessels & field
    area = int(field.sum())
    if not area or not inside.any():
        return VesselMeasures(None, None, None, None)
    factor = REFERENCE_FIELD_PX / field_diameter_px
    reference = resampled(inside, factor)
    graph = vessel_graph(reference)
    length_density = graph.length * REFERENCE_FIELD_PX / (area * factor**2)
    return VesselMeasures(
        vessel_density=float(inside.sum()) / area,
        vessel_length_density=length_density if graph.segments else None,
        fractal_dimension=fractal_dimension(reference),
        tortuosity=tortuosity(graph),
    )


def tortuosity(graph: VesselGraph) -> float | None:
    """Length-weighted mean of arc over chord, 1 for a straight tree; None without long segments.

    Closed loops have no chord and are left out.
    """
    long = [s for s in graph.segments if s.arc >= SHORTEST_SEGMENT_PX and s.start != s.end]
    arcs = np.array([segment.arc for segment in long])
    chords = np.array([segment.chord for segment in long])
    open_ = chords >= 0.1 * arcs
    if not open_.any():
        return None
    arcs, chords = arcs[open_], chords[open_]
    # Rounding of the last digit must not leave the range of the definition.
    return max(1.0, float((arcs * arcs / chords).sum() / arcs.sum()))


def resampled(mask: Mask, factor: float) -> Mask:
    """The mask (H, W) enlarged or reduced by a factor, with smooth outlines."""
    height, width = mask.shape
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=how) >= 0.5)


def by_threshold(vessels: Mask, score: NDArray[np.uint8], change: float) -> tuple[Mask, Mask]:
    """The mask with its score threshold raised and lowered: a narrower and a wider one.

    Args:
        vessels: Vessel mask (H, W).
        score: Score (H, W), 0 to 255, whose threshold gave the mask.
        change: Change of the threshold as a share of the full score.
    """
    threshold = float(np.percentile(score[vessels], 1))
    narrow = vessels & (score >= threshold + 255.0 * change)
    lower = (score >= max(threshold - 255.0 * change, 1.0)) | vessels
    count, labels = cv2.connectedComponents(lower.astype(np.uint8), connectivity=8)
    touched = np.zeros(count, bool)
    touched[np.unique(labels[vessels])] = True
    touched[0] = False
    return narrow, np.asarray(touched[labels])


def by_half_a_pixel(vessels: Mask) -> tuple[Mask, Mask]:
    """The mask (H, W) with its outline moved half a pixel in and half a pixel out."""
    outline = cv2.GaussianBlur(vessels.astype(np.float32), (0, 0), 1.0)
    # Across a straight edge this blur falls to Phi(-0.5) = 0.309 half a pixel outside it.
    return vessels & (outline >= 0.691), vessels | (outline >= 0.309)
