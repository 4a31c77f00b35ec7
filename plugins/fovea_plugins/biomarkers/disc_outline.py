"""Masks of disc and cup, judged and turned into outlines of sub-pixel accuracy.

The edge is the 0.5 level of the mask after a Gaussian of one pixel. That takes the
staircase off the edge, moves it inwards by only 1 / (2 r) pixels at radius r, and keeps
the order of nested masks: a larger cup is never measured as smaller.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.scale import Mask
from fovea_plugins.biomarkers.masks import as_mask

Floats = NDArray[np.float64]

SMOOTHING_PX = 1.0
MARGIN_PX = 8
RAY_STEP_PX = 0.5
RAYS = 360
RAY_ANGLES_DEG: Floats = np.arange(RAYS, dtype=np.float64) + 0.5
"""Clock angles: 0 at 12 o'clock, clockwise. Half degrees: none lies on a sector's border, and
flips and quarter turns map them onto each other."""

MIN_DIAMETER_PX = 32.0
"""Below it a cup-to-disc ratio of a rasterised disc is not right to 0.03."""

MIN_LARGEST_PART = 0.99
"""Share of the disc mask that must hang together; the rest is taken for specks."""

MIN_SOLIDITY = 0.9
"""Share of its convex hull that a disc must fill."""

MAX_CUP_OUTSIDE = 0.01
"""Share of the cup that may lie outside the disc, as resampling leaves it; it is cut off."""

POLE_SWEEP_PX = 1.5
"""Depth of the cap over which an extent is averaged, see `Outline.extent`."""


def direction(clock_deg: Floats, axis_deg: float) -> Floats:
    """Unit vectors (x, y), shape (2, N), at clock angles of a frame.

    Args:
        clock_deg: (N,) angles, 0 upwards, clockwise as seen.
        axis_deg: How far the frame is turned anticlockwise, as seen.
    """
    angle = np.deg2rad(clock_deg - axis_deg)
    return np.stack([np.sin(angle), -np.cos(angle)])


def filled(mask: Mask) -> Mask:
    """The mask (H, W) with its holes filled."""
    from scipy.ndimage import binary_fill_holes

    return np.asarray(binary_fill_holes(mask), np.bool_)


@dataclass(frozen=True)
class Box:
    """A rectangle of the image with a margin, which may reach beyond the image."""

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def around(cls, mask: Mask) -> Box:
        """The bounding box of a mask that is not empty, with a margin."""
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        size = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        return cls(
            int(rows[0]) - MARGIN_PX,
            int(columns[0]) - MARGIN_PX,
            int(size[0]) + 2 * MARGIN_PX,
            int(size[1]) + 2 * MARGIN_PX,
        )

    def cut(self, mask: Mask) -> Mask:
        """The part of a mask (H, W) in the box; what lies beyond the image is False."""
        part = np.zeros((self.height, self.width), bool)
        y0, x0 = max(self.top, 0), max(self.left, 0)
        y1 = min(self.top + self.height, mask.shape[0])
        x1 = min(self.left + self.width, mask.shape[1])
        part[y0 - self.top : y1 - self.top, x0 - self.left : x1 - self.left] = mask[y0:y1, x0:x1]
        return part


@dataclass(frozen=True)
class Ellipse:
    """The ellipse with the second moments of a mask.

    Attributes:
        major, minor: Full axes in pixels.
        lean_deg: Angle of the major axis from the image vertical, anticlockwise, in (-90, 90].
    """

    major: float
    minor: float
    lean_deg: float


@dataclass(frozen=True)
class Outline:
    """A filled mask in its box.

    Attributes:
        mask: (height, width) of the box, not empty, with a margin of False all round.
        box: Where that is in the image.
    """

    mask: Mask
    box: Box

    @cached_property
    def area(self) -> float:
        """Number of pixels."""
        return float(np.count_nonzero(self.mask))

    @cached_property
    def _centre(self) -> Floats:
        rows, columns = np.nonzero(self.mask)
        return np.array([columns.mean(), rows.mean()])

    @property
    def centre_xy(self) -> tuple[float, float]:
        """Centroid (x, y) in pixels of the image."""
        x, y = self._centre
        return float(x) + self.box.left, float(y) + self.box.top

    @cached_property
    def _soft(self) -> Floats:
        blurred = cv2.GaussianBlur(self.mask.astype(np.float64), (0, 0), SMOOTHING_PX)
        return np.asarray(blurred, np.float64)

    @cached_property
    def edge_xy(self) -> Floats:
        """Points (N, 2) where the grid lines of the box cross the edge; none if too small."""
        points = []
        for axis in (0, 1):
            first = self._soft[:-1] if axis == 0 else self._soft[:, :-1]
            second = self._soft[1:] if axis == 0 else self._soft[:, 1:]
            crossed = (first >= 0.5) != (second >= 0.5)
            rows, columns = (index.astype(np.float64) for index in np.nonzero(crossed))
            share = (first[crossed] - 0.5) / (first[crossed] - second[crossed])
            moved = (columns, rows + share) if axis == 0 else (columns + share, rows)
            points.append(np.stack(moved, axis=1))
        return np.concatenate(points)

    def extent(self, clock_deg: float, axis_deg: float, *, disc_radius: float) -> float:
        """Calliper width in pixels along a direction of a frame.

        At its poles a rasterised outline is up to half a pixel off, whole rows at a time.
        So this is the mean width over the directions in which the pole of the disc falls
        by `POLE_SWEEP_PX` rows at most: within 7 degrees for a radius of 100 pixels. That is
        exact for circles, and at most 0.3 % less than the width of an ellipse of axes 1 and 1.3
        from a radius of 40 pixels on.

        Args:
            clock_deg: Direction in the frame.
            axis_deg: How far the frame is turned.
            disc_radius: Radius of the disc in pixels; the same for disc and cup, so that
                widths of nested masks are comparable.
        """
        half = math.degrees(math.sqrt(POLE_SWEEP_PX / disc_radius))
        angles = clock_deg + np.linspace(-half, half, 21)
        along = self.edge_xy @ direction(angles, axis_deg)
        return float(np.ptp(along, axis=0).mean())

    def radii(self, centre_xy: tuple[float, float], axis_deg: float) -> Floats:
        """Distance (RAYS,) from a point of the image to the outermost edge along each ray.

        Zero where a ray does not meet the mask.
        """
        from scipy.ndimage import map_coordinates

        start = np.array(centre_xy) - (self.box.left, self.box.top)
        far = np.maximum(start, [self.box.width, self.box.height] - start)
        distance = np.arange(0.0, math.hypot(*far), RAY_STEP_PX)
        x, y = start[:, None, None] + direction(RAY_ANGLES_DEG, axis_deg)[:, :, None] * distance
        level = map_coordinates(self._soft, [y, x], order=1, mode="constant", cval=0.0)
        within = level >= 0.5
        last = len(distance) - 1 - np.argmax(within[:, ::-1], axis=1)
        ray = np.arange(RAYS)
        met = within[ray, last]
        # The margin keeps the end of every ray outside the mask.
        after = np.minimum(last + 1, len(distance) - 1)
        inner, outer = level[ray, last], level[ray, after]
        drop = np.where(met, inner - outer, 1.0)
        share = np.where(met, (inner - 0.5) / drop, 0.0)
        return np.asarray(np.where(met, (last + share) * RAY_STEP_PX, 0.0), np.float64)

    @property
    def solidity(self) -> float:
        """Share of its convex hull that the mask fills."""
        points = cv2.findNonZero(self.mask.astype(np.uint8))
        hull = cv2.fillConvexPoly(np.zeros(self.mask.shape, np.uint8), cv2.convexHull(points), 1)
        return self.area / float(np.count_nonzero(hull))

    @cached_property
    def ellipse(self) -> Ellipse:
        """The ellipse with the same second moments."""
        rows, columns = np.nonzero(self.mask)
        x, y = columns - self._centre[0], rows - self._centre[1]
        xx, yy, xy = float((x * x).mean()), float((y * y).mean()), float((x * y).mean())
        spread = math.hypot((xx - yy) / 2, xy)
        middle = (xx + yy) / 2
        # The image's y axis points down: an angle from the x axis in it is clockwise as seen.
        from_horizontal = -math.degrees(0.5 * math.atan2(2 * xy, xx - yy))
        return Ellipse(
            major=4.0 * math.sqrt(middle + spread),
            minor=4.0 * math.sqrt(max(middle - spread, 0.0)),
            lean_deg=folded(from_horizontal - 90.0),
        )


def folded(angle_deg: float) -> float:
    """The angle of a line, which has no direction, in (-90, 90]."""
    angle = math.fmod(angle_deg, 180.0)
    if angle > 90.0:
        return angle - 180.0
    return angle + 180.0 if angle <= -90.0 else angle


def disc_outline(disc: NDArray[Any], field_of_view: NDArray[Any] | None) -> Outline | str:
    """The outline of the disc, or why nothing can be measured on it."""
    mask = as_mask(disc, "disc")
    if isinstance(mask, str):
        return mask
    field = np.ones(mask.shape, bool)
    if field_of_view is not None:
        seen = as_mask(field_of_view, "field of view")
        if isinstance(seen, str):
            return seen
        if seen.shape != mask.shape:
            return f"The field of view has shape {seen.shape}, the disc mask {mask.shape}"
        field = seen
    box = Box.around(mask)
    whole = filled(box.cut(mask))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(whole.astype(np.uint8))
    sizes = stats[1:, cv2.CC_STAT_AREA]
    share = sizes.max() / sizes.sum()
    if share < MIN_LARGEST_PART:
        return f"The disc mask is in {count - 1} parts, the largest with {share:.0%} of it"
    outline = Outline(np.asarray(labels == 1 + int(np.argmax(sizes))), box)
    around = cv2.dilate(outline.mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    if (around & ~box.cut(field)).any():
        return "The disc is cut by the border of the image or of the field of view"
    diameter = 2.0 * math.sqrt(outline.area / math.pi)
    if diameter < MIN_DIAMETER_PX:
        return f"The disc is {diameter:.1f} pixels across; {MIN_DIAMETER_PX:.0f} are needed"
    if outline.solidity < MIN_SOLIDITY or not outline.radii(outline.centre_xy, 0.0).all():
        return "The disc mask has not the shape of a disc"
    return outline


def cup_outline(cup: NDArray[Any] | None, shape: tuple[int, ...], disc: Outline) -> Outline | str:
    """The outline of the cup in the box of the disc, or why there is none."""
    if cup is None:
        return "No cup mask was given"
    mask = as_mask(cup, "cup")
    if isinstance(mask, str):
        return mask
    if mask.shape != shape:
        return f"The cup mask has shape {mask.shape}, the disc mask {shape}"
    inside = disc.box.cut(mask) & disc.mask
    outside = 1.0 - np.count_nonzero(inside) / np.count_nonzero(mask)
    if outside > MAX_CUP_OUTSIDE:
        return f"{outside:.0%} of the cup lies outside the disc"
    outline = Outline(filled(inside), disc.box)
    if not len(outline.edge_xy):
        return f"The cup is too small to be measured: {outline.area:.0f} pixels"
    return outline
