"""Where lesions lie: quadrants, ETDRS fields, distance to the fovea."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fovea.contract import Context
from fovea.image import Mask, Photograph, Scale
from fovea_plugins import regions
from fovea_plugins.regions import Labels, Landmarks, NotPlaced
from fovea_plugins.segmenter.lesions.reading import Spot

LEAST_SEEN = 0.9
"""Share of an ETDRS field that must be in the picture for its lesions to be counted."""


@dataclass(frozen=True)
class Grid:
    """Regions of one kind, or why they have no place here.

    Attributes:
        names: Of label 1 and up.
        labels: (H, W), or None when the regions have no place.
        why_not: The reason, where there are none.
        unseen: Regions that the picture does not show, or not enough of.
    """

    names: tuple[str, ...]
    labels: Labels | None
    why_not: str = ""
    unseen: tuple[str, ...] = ()

    def region(self, spot: Spot) -> str | None:
        """The region in which the centre of a spot lies, or None."""
        if self.labels is None:
            return None
        label = int(self.labels[round(spot.y), round(spot.x)])
        return self.names[label - 1] if label else None

    def counts(self, spots: tuple[Spot, ...]) -> dict[str, int]:
        """Spots by region; regions that are not seen are left out."""
        found = dict.fromkeys((name for name in self.names if name not in self.unseen), 0)
        for spot in spots:
            name = self.region(spot)
            if name in found:
                found[name] += 1
        return found


@dataclass(frozen=True)
class Distance:
    """From the fovea to the nearest pixel of some lesions, with relative errors (90 %)."""

    disc_diameters: float | None
    um: float | None
    error_disc_diameters: float
    error_um: float
    why_not: str = ""


@dataclass(frozen=True)
class Places:
    """Everything needed to say where a lesion of this photograph lies."""

    quadrants: Grid
    etdrs: Grid
    landmarks: Landmarks
    scale: Scale | None
    fovea_error_px: float
    diameter_error: float

    @classmethod
    def from_context(cls, context: Context) -> Places:
        """The regions of the first image, as far as disc and fovea are known."""
        image, landmarks = context.image, Landmarks.from_context(context)
        scale = landmarks.scale(image.scale)
        return cls(
            quadrants=_quadrants(image, landmarks),
            etdrs=_etdrs(image, landmarks, scale),
            landmarks=landmarks,
            scale=scale,
            fovea_error_px=_half_width(context, "fovea_x"),
            diameter_error=_relative_error(context, "disc_diameter_vertical"),
        )

    def distance(self, lesions: Mask) -> Distance:
        """From the fovea to the nearest pixel of a mask (H, W) that is not empty."""
        fovea = self.landmarks.fovea_xy
        if fovea is None or not self.landmarks.fovea_seen:
            state = "not found" if fovea is None else "not seen, only put at its usual place"
            return Distance(None, None, 0.0, 0.0, f"The fovea was {state}.")
        rows, columns = np.nonzero(lesions)
        nearest = float(np.hypot(columns - fovea[0], rows - fovea[1]).min())
        disc, scale = self.landmarks.disc_diameter_px, self.scale
        return Distance(
            disc_diameters=nearest / disc if disc else None,
            um=nearest * scale.um_per_px if scale else None,
            error_disc_diameters=_both(
                self.fovea_error_px / disc if disc else 0.0,
                self.diameter_error * nearest / disc if disc else 0.0,
            ),
            error_um=_both(
                self.fovea_error_px * scale.um_per_px if scale else 0.0,
                1.645 * scale.relative_sd * nearest * scale.um_per_px if scale else 0.0,
            ),
        )


def _quadrants(image: Photograph, landmarks: Landmarks) -> Grid:
    shape = (image.height, image.width)
    try:
        return Grid(regions.QUADRANTS, regions.quadrants(shape, landmarks))
    except NotPlaced as error:
        return Grid(regions.QUADRANTS, None, error.why)


def _etdrs(image: Photograph, landmarks: Landmarks, scale: Scale | None) -> Grid:
    names = regions.ETDRS_FIELDS
    if scale is None:
        return Grid(names, None, "The pixel scale is not known.")
    try:
        labels = regions.etdrs_fields((image.height, image.width), landmarks, scale)
    except NotPlaced as error:
        return Grid(names, None, error.why)
    shares: Mapping[str, float] = regions.etdrs_shares(labels, image.field_of_view, scale)
    return Grid(names, labels, unseen=tuple(n for n in names if shares[n] < LEAST_SEEN))


def _half_width(context: Context, name: str) -> float:
    measured = context.measured(name)
    interval = measured.interval if measured else None
    return interval.high - measured.value if measured and interval else 0.0


def _relative_error(context: Context, name: str) -> float:
    measured = context.measured(name)
    return _half_width(context, name) / measured.value if measured else 0.0


def _both(first: float, second: float) -> float:
    return math.hypot(first, second)
