"""Regions of one picture as label maps, so that a pixel or point finds its own at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fovea.scale import Mask, Scale
from fovea_plugins import regions
from fovea_plugins.biomarkers.definitions import FIELD
from fovea_plugins.biomarkers.fractal import Boxes, boxes_inside
from fovea_plugins.biomarkers.frame import Frame
from fovea_plugins.biomarkers.paths import Floats
from fovea_plugins.regions import Labels, Landmarks, NotPlaced

LEAST_SEEN = 0.5
"""Share of a zone or ring that must lie in the field of view for anything to be measured."""

RINGS = ("etdrs_centre", "etdrs_inner", "etdrs_outer")
_RING_OF_FIELD = np.array([0, 1, 2, 2, 2, 2, 3, 3, 3, 3], np.uint8)

NAMES = (FIELD, *regions.ZONES, *regions.QUADRANTS, *RINGS)


class Disc(NamedTuple):
    """The optic disc as a circle: centre and diameter in pixels, None where not known."""

    x: float
    y: float
    diameter_px: float | None

    @classmethod
    def of_mask(cls, mask: Mask) -> Disc:
        """Centroid, and mean of height and width, of a mask (H, W) that is not empty."""
        rows, columns = mask.sum(axis=1), mask.sum(axis=0)
        x, y = (float(n @ np.arange(len(n)) / n.sum()) for n in (columns, rows))
        height, width = (np.ptp(np.flatnonzero(n)) + 1 for n in (rows, columns))
        return cls(x, y, float(height + width) / 2.0)


@dataclass(frozen=True)
class Region:
    """A part of the picture.

    Attributes:
        name: Such as `zone_b`.
        map: Which label map tells it.
        labels: Its labels there.
        area_px: Pixels that lie in the field of view.
        seen: Share (0 to 1) of it that lies in the field; 1 for regions that end with it.
    """

    name: str
    map: int
    labels: tuple[int, ...]
    area_px: float
    seen: float = 1.0


@dataclass
class Placed:
    """The regions of a picture.

    Attributes:
        maps: Label maps (H, W) in the frame; 0 outside the field.
        regions: Those that have a place here.
        missing: Why the others have none.
        root_xy: Where vessels come from: the disc's centre in the frame, where it is known.
    """

    maps: list[Labels] = field(default_factory=list)
    regions: list[Region] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    root_xy: tuple[float, float] | None = None

    def labels_at(self, points: Floats) -> list[NDArray[np.uint8]]:
        """For each map, the labels (N,) at points (N, 2); those outside count at the border."""
        pixels = np.rint(points).astype(np.int64)
        height, width = self.maps[0].shape
        x, y = np.clip(pixels[:, 0], 0, width - 1), np.clip(pixels[:, 1], 0, height - 1)
        return [labels[y, x] for labels in self.maps]

    @cached_property
    def boxes(self) -> dict[str, Boxes]:
        """Where the boxes of the lacunarity fit into each region."""
        return {region.name: boxes_inside(within(self.maps, region)) for region in self.regions}


def place(
    seen: Mask, disc: Disc | None, landmarks: Landmarks, scale: Scale | None, frame: Frame
) -> Placed:
    """The field, zones, quadrants and ETDRS rings, as far as disc and fovea are known.

    Args:
        seen: (H, W), the field of view.
        disc: The optic disc, which is left out of all regions.
        landmarks: Disc and fovea.
        scale: For the ETDRS rings.
        frame: The turn in which the maps are to be.
    """
    inside = seen & ~disc_circle(seen.shape, disc) if disc and disc.diameter_px else seen
    found = Placed(root_xy=frame.forth(disc.x, disc.y) if disc else None)

    def add(labels: Labels, parts: Iterator[tuple[str, tuple[int, ...], float | None]]) -> None:
        labels = labels * inside.view(np.uint8)
        for name, own, whole in parts:
            area = float(sum(np.count_nonzero(labels == label) for label in own))
            share = min(1.0, area / whole) if whole else 1.0
            if share < LEAST_SEEN or not area:
                found.missing[name] = f"Only {share:.0%} of it lies in the field of view"
                continue
            found.regions.append(Region(name, len(found.maps), own, area, share))
        found.maps.append(np.ascontiguousarray(frame.of(labels)))

    add(np.ones(seen.shape, np.uint8), iter([(FIELD, (1,), None)]))
    shape = (seen.shape[0], seen.shape[1])
    for names, make in (
        (tuple(regions.ZONES), lambda: _zones(shape, landmarks)),
        (regions.QUADRANTS, lambda: _quadrants(shape, landmarks)),
        (RINGS, lambda: _rings(shape, landmarks, scale)),
    ):
        try:
            add(*_made(make))
        except NotPlaced as error:
            found.missing |= dict.fromkeys(names, error.why.rstrip("."))
    return found


_Parts = Iterator[tuple[str, tuple[int, ...], float | None]]


def _made(make: Callable[[], tuple[Labels, _Parts]]) -> tuple[Labels, _Parts]:
    return make()


def disc_circle(shape: tuple[int, ...], disc: Disc) -> Mask:
    """The disc as a filled circle (H, W)."""
    radius = (disc.diameter_px or 0.0) / 2.0
    filled = np.zeros(shape, bool)
    rows, columns = (
        slice(max(0, math.floor(place - radius)), max(0, math.ceil(place + radius) + 1))
        for place in (disc.y, disc.x)
    )
    across = (np.arange(shape[1])[columns] - disc.x) ** 2
    down = (np.arange(shape[0])[rows] - disc.y) ** 2
    filled[rows, columns] = across[None, :] + down[:, None] <= radius**2
    return filled


def _zones(shape: tuple[int, int], landmarks: Landmarks) -> tuple[Labels, _Parts]:
    masks = regions.zones(shape, landmarks)
    a, b, c = (mask.view(np.uint8) for mask in masks.values())
    radius = (landmarks.disc_diameter_px or 0.0) / 2.0
    own = {"zone_a": (1,), "zone_b": (2,), "zone_c": (2, 3)}
    sizes = {
        name: math.pi * radius**2 * (outer**2 - inner**2)
        for name, (inner, outer) in regions.ZONES.items()
    }
    # C holds B: what is in C alone is 3.
    return a + 3 * c - b, ((name, own[name], sizes[name]) for name in masks)


def _quadrants(shape: tuple[int, int], landmarks: Landmarks) -> tuple[Labels, _Parts]:
    labels = regions.quadrants(shape, landmarks)
    return labels, ((name, (label,), None) for label, name in enumerate(regions.QUADRANTS, 1))


def _rings(
    shape: tuple[int, int], landmarks: Landmarks, scale: Scale | None
) -> tuple[Labels, _Parts]:
    if scale is None:
        why = "The pixel scale is not known"
        raise NotPlaced("The rings cannot be placed", why=why, fix="Give disc and fovea")
    labels = _RING_OF_FIELD[regions.etdrs_fields(shape, landmarks, scale)]
    radii = [0.0, *(r * 1000.0 / scale.um_per_px for r in regions.ETDRS_RADII_MM)]
    areas = [math.pi * (radii[k + 1] ** 2 - radii[k] ** 2) for k in range(3)]
    return labels, ((name, (k + 1,), areas[k]) for k, name in enumerate(RINGS))


def within(labels: list[NDArray[np.uint8]], region: Region) -> NDArray[np.bool_]:
    """Which of the points or pixels with these labels lie in a region, in their shape."""
    own: NDArray[Any] = labels[region.map] == region.labels[0]
    for label in region.labels[1:]:
        own |= labels[region.map] == label
    return own
