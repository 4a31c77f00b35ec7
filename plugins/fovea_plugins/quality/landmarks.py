"""Optic disc and fovea centres, without trained weights.

The disc is where a bright blob meets the point from which vessels run up and
down (cf. Hoover & Goldbaum 2003, IEEE Trans Med Imaging 22:951-958). The fovea
is the darkest vessel-free spot at the expected place beside the disc (cf.
Niemeijer et al. 2009, Med Image Anal 13:859-870). Coordinates are pixels of a
view of `lines.FIELD_DIAMETER_PX`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import View
from fovea_plugins.quality.lines import LineMaps, Map, erode, masked_blur

GRID = 4
"""Search maps are this many times coarser than the view."""

RADII_PX = (18.0, 24.0, 31.0, 40.0)
"""Disc radii tried: fields of 60 to 25 degrees."""

MIN_DISC_EVIDENCE = 6e-4
FOVEA_EDGE_PX = 16
MIN_FOVEA_DARKNESS = 0.02
MIN_SIDE_MARGIN = 1.0


@dataclass(frozen=True)
class Disc:
    """Disc centre (x, y), coarse radius in pixels, and how strongly it was seen.

    `evidence` is blob contrast times vessel convergence, both relative to the
    background; it ranks candidates and decides whether there is a disc at all.
    """

    x: float
    y: float
    radius: float
    contrast: float
    evidence: float

    @property
    def found(self) -> bool:
        """Whether the evidence suffices to speak of a disc."""
        return self.evidence >= MIN_DISC_EVIDENCE


@dataclass(frozen=True)
class Fovea:
    """Fovea centre (x, y).

    Attributes:
        darkness: Contrast of the dark spot, about 0.1 in a clear image.
        side_margin: Lead of this side of the disc over the other, in log units.
    """

    x: float
    y: float
    darkness: float
    side_margin: float

    @property
    def seen(self) -> bool:
        """True: a dark spot was seen; False: placed by distance from the disc alone."""
        return self.darkness >= MIN_FOVEA_DARKNESS

    @property
    def side_known(self) -> bool:
        """Whether the side of the disc on which it lies is beyond doubt."""
        return self.side_margin >= MIN_SIDE_MARGIN


def _coarse(values: NDArray[Any]) -> Map:
    factor = 1.0 / GRID
    small = cv2.resize(
        values.astype(np.float32), None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA
    )
    return np.asarray(small)


def _fine(index: float) -> float:
    return (index + 0.5) * GRID - 0.5


def _convolve(values: Map, kernel: NDArray[Any]) -> Map:
    out = cv2.filter2D(
        values, cv2.CV_32F, kernel.astype(np.float32), borderType=cv2.BORDER_CONSTANT
    )
    return np.asarray(out)


def _polar(reach_px: float) -> tuple[Map, Map]:
    half = int(np.ceil(reach_px / GRID))
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32) * GRID
    return np.hypot(x, y), np.arctan2(y, x)


@cache
def _blob_kernels(radius_px: float) -> tuple[Map, Map]:
    r, _ = _polar(1.9 * radius_px)
    inner = (r < 0.9 * radius_px).astype(np.float32)
    ring = ((r > 1.15 * radius_px) & (r < 1.9 * radius_px)).astype(np.float32)
    return inner / inner.sum(), ring / ring.sum()


@cache
def _spot_kernels(radius_px: float) -> tuple[Map, Map]:
    r, _ = _polar(3.0 * radius_px)
    inner = np.exp(-(r**2) / (2 * (0.8 * radius_px) ** 2))
    ring = ((r > 1.5 * radius_px) & (r < 3.0 * radius_px)).astype(np.float32)
    return inner / inner.sum(), ring / ring.sum()


@cache
def _upward_kernels() -> tuple[Map, Map]:
    r, angle = _polar(112.0)
    weight = np.where((r > 7) & (r < 112) & (np.sin(angle) < 0), 1 / np.maximum(r, 14), 0)
    weight /= weight.sum()
    return weight * np.cos(2 * angle), weight * np.sin(2 * angle)


def _convergence(lines: LineMaps) -> Map:
    strength = np.minimum(lines.dark, 0.25) * lines.vessels
    cosine = _coarse(strength * np.cos(2 * lines.angle_rad))
    sine = _coarse(strength * np.sin(2 * lines.angle_rad))
    along_cos, along_sin = _upward_kernels()
    up = _convolve(cosine, along_cos) + _convolve(sine, along_sin)
    # The lower half is the upper one mirrored, for which the sine changes its sign.
    down = _convolve(cosine, along_cos[::-1]) - _convolve(sine, along_sin[::-1])
    up, down = np.maximum(up, 0), np.maximum(down, 0)
    return np.asarray(np.sqrt(up * down) + 0.3 * (up + down))


def _bright_blobs(view: View) -> Map:
    """Contrast of a bright blob of each radius: (radii, H, W) on the coarse grid."""
    rgb = view.pixels.astype(np.float32)
    inside = view.field_of_view
    light = masked_blur(0.5 * (rgb[..., 0] + rgb[..., 1]), inside, 1.0)
    background = masked_blur(light, inside, 50.0)
    contrast = np.where(inside, light / np.maximum(background, 10.0) - 1.0, 0.0)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (11, 11))  # wider than any vessel
    closed = cv2.morphologyEx(
        np.clip(contrast, -0.5, 0.8).astype(np.float32), cv2.MORPH_CLOSE, kernel
    )
    values, cover = _coarse(closed * inside), _coarse(inside)
    maps = []
    for radius in RADII_PX:
        inner, ring = _blob_kernels(radius)
        inner_cover, ring_cover = _convolve(cover, inner), _convolve(cover, ring)
        difference = _convolve(values, inner) / np.maximum(inner_cover, 0.05)
        difference -= _convolve(values, ring) / np.maximum(ring_cover, 0.05)
        maps.append(np.where((inner_cover > 0.6) & (ring_cover > 0.3), difference, 0.0))
    return np.maximum(np.stack(maps), 0)


def find_disc(view: View, lines: LineMaps) -> Disc | None:
    """The best disc candidate of a view, or None when nothing resembles one at all."""
    blobs = _bright_blobs(view)
    blob = blobs.max(axis=0)
    evidence = blob * _convergence(lines) * (_coarse(view.field_of_view) > 0.5)
    row, column = np.unravel_index(int(np.argmax(evidence)), evidence.shape)
    best = float(evidence[row, column])
    if best <= 0:
        return None
    scale = int(np.argmax(blobs[:, row, column]))
    # Vessels pull the product off centre: settle on the blob alone, nearby.
    rows, columns = np.mgrid[: blob.shape[0], : blob.shape[1]]
    near = np.hypot(rows - row, columns - column) * GRID < 0.8 * RADII_PX[scale]
    weight = np.where(near, blobs[scale], 0)
    weight = np.maximum(weight - 0.85 * weight.max(), 0)
    total = float(weight.sum())
    if total > 0:
        y, x = float((weight * rows).sum() / total), float((weight * columns).sum() / total)
    else:
        y, x = float(row), float(column)
    return Disc(_fine(x), _fine(y), RADII_PX[scale], float(blob[row, column]), best)


def find_fovea(view: View, lines: LineMaps, disc: Disc) -> Fovea | None:
    """The fovea of a view, or None when its expected place is outside the field."""
    rgb = view.pixels.astype(np.float32)
    inside = view.field_of_view
    light = 0.7 * rgb[..., 1] + 0.3 * rgb[..., 0]
    background = masked_blur(light, inside, 45.0)
    contrast = np.where(inside, light / np.maximum(background, 8.0) - 1.0, 0.0)
    values, cover = _coarse(np.clip(contrast, -0.5, 0.15)), _coarse(inside)
    spots = []
    for radius in (12.0, 20.0):
        inner, ring = _spot_kernels(radius)
        outer = _convolve(values, ring) / np.maximum(_convolve(cover, ring), 0.05)
        spots.append(outer - _convolve(values, inner) / np.maximum(_convolve(cover, inner), 0.05))
    darkness = np.maximum(*spots)
    vessels = cv2.GaussianBlur(
        _coarse(np.minimum(lines.dark, 0.25) * lines.vessels), (0, 0), 18.0 / GRID
    )
    score = 30 * darkness - 20 * vessels + _expected_place(cover.shape, view, disc)
    # At the very edge, vignetting looks like a fovea.
    score[_coarse(erode(inside, FOVEA_EDGE_PX)) < 0.5] = -np.inf
    columns = np.arange(cover.shape[1])[None, :]
    left = np.where(_fine(columns) < disc.x, score, -np.inf)
    right = np.where(_fine(columns) >= disc.x, score, -np.inf)
    chosen, other = (left, right) if left.max() > right.max() else (right, left)
    if not np.isfinite(chosen.max()) or chosen.max() < -6:
        return None
    row, column = np.unravel_index(int(np.argmax(chosen)), chosen.shape)
    margin = float(chosen.max() - max(other.max(), -30.0))
    return Fovea(_fine(column), _fine(row), float(darkness[row, column]), margin)


def _expected_place(shape: tuple[int, ...], view: View, disc: Disc) -> Map:
    """Log prior (H, W): beside the disc, slightly below its centre, not at the field's edge.

    Distance and angle are those of IDRiD train (median 153 px at a field of 400, 7 degrees
    down); the distance grows with the disc where the camera's field is narrower.
    """
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    dx, dy = _fine(columns) - disc.x, _fine(rows) - disc.y
    distance = np.hypot(dx, dy)
    angle_deg = np.degrees(np.arctan2(dy, np.abs(dx)))
    expected = 85.0 + 2.6 * disc.radius
    # Some cameras deliver the picture upside down: then the fovea lies above the disc.
    tilt = np.minimum(((angle_deg - 7.0) / 8.0) ** 2, ((angle_deg + 7.0) / 8.0) ** 2 + 2.0)
    prior = -0.5 * ((distance - expected) / 22.0) ** 2 - 0.5 * tilt
    height, width = view.field_of_view.shape
    from_centre = np.hypot(_fine(columns) - width / 2, _fine(rows) - height / 2)
    return np.asarray(prior - 0.5 * (from_centre / 110.0) ** 2, dtype=np.float32)
