"""The edges of disc and cup in a view of `FIELD_DIAMETER_PX`.

Disc: the circle, then the closed path, of steepest fall of brightness outwards
in red, where vessels and cup disturb least. Cup: the closed path that best parts
the pale from the less pale area of the disc in green, drawn towards a scaled copy
of the disc because pallor and excavation do not coincide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Mask, View
from fovea_plugins.segmenter.optic_disc.contours import (
    Array,
    Ellipse,
    closed_path,
    directions,
    fit_ellipse,
    sample_polar,
)

FIELD_DIAMETER_PX = 1000
HALF_WIDTH_PX = 260
DISC_RADII_PX = np.arange(44, 118, 4, dtype=np.float32)
"""Disc radii searched: fields of about 60 to 25 degrees."""

EDGE_CAP = 0.25
STEP_PX = 5.0
SATURATED_LEVEL = 250
SATURATED_SHARE = 0.15

RHO = np.linspace(0.1, 1.0, 46, dtype=np.float32)
PALLOR_THRESHOLD = 0.4
SIZE_OFFSET, SIZE_SLOPE = 0.32, 0.72
"""Mean cup radius (of the disc's) from that of the pale area: DRISHTI-GS, tuning half."""

OWN_SHAPE = 0.4
"""How much of the pale area's own shape is kept; the rest is a scaled copy of the disc."""


@dataclass(frozen=True)
class Crop:
    """A square around the disc: RGB (H, W, 3), field mask, and its offset in the view."""

    pixels: NDArray[np.uint8]
    inside: Mask
    left: int
    top: int


@dataclass(frozen=True)
class DiscEdge:
    """The disc as an ellipse in crop pixels; `strength` is the mean log fall at its edge."""

    ellipse: Ellipse
    strength: float


@dataclass(frozen=True)
class CupEdge:
    """The cup as an ellipse in crop pixels; `pallor` is its lead over the rim, 0 to 255."""

    ellipse: Ellipse
    pallor: float


def cut_crop(view: View, centre_xy: NDArray[Any]) -> Crop:
    """The square of `HALF_WIDTH_PX` around a point of the view, padded at the borders."""
    size = HALF_WIDTH_PX
    column, row = int(centre_xy[0]), int(centre_xy[1])
    pixels = cv2.copyMakeBorder(view.pixels, *(size,) * 4, cv2.BORDER_REPLICATE)
    inside = cv2.copyMakeBorder(
        view.field_of_view.astype(np.uint8), *(size,) * 4, cv2.BORDER_CONSTANT
    )
    window = (slice(row, row + 2 * size), slice(column, column + 2 * size))
    return Crop(np.asarray(pixels[window], np.uint8), inside[window] > 0, column - size, row - size)


def _without_vessels(values: Array, width_px: int) -> Array:
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width_px, width_px))
    closed = cv2.morphologyEx(values, cv2.MORPH_CLOSE, kernel)
    return np.asarray(cv2.GaussianBlur(closed, (0, 0), 2.0), dtype=np.float32)


def _filled_beyond_field(values: Array, inside: Mask) -> Array:
    # The edge of the field is a steeper fall than that of any disc.
    weight = cv2.erode(inside.astype(np.float32), np.ones((9, 9)), borderValue=0)
    total = cv2.GaussianBlur(values * weight, (0, 0), 12.0)
    spread = total / np.maximum(cv2.GaussianBlur(weight, (0, 0), 12.0), 1e-3)
    return np.asarray(np.where(weight > 0, values, spread), dtype=np.float32)


def _disc_light(crop: Crop) -> Array:
    """Log brightness in which the disc stands out and vessels do not."""
    rgb = crop.pixels.astype(np.float32)
    middle = slice(HALF_WIDTH_PX // 2, HALF_WIDTH_PX // 2 + HALF_WIDTH_PX)
    saturated = float((crop.pixels[middle, middle, 0] >= SATURATED_LEVEL).mean())
    red = 1.0 if saturated < SATURATED_SHARE else 0.5
    mixed = red * rgb[..., 0] + (1 - red) * rgb[..., 1]
    light = _without_vessels(_filled_beyond_field(mixed, crop.inside), 17)
    return np.asarray(np.log(light + 8.0), dtype=np.float32)


def _fall(light: Array, centre: tuple[float, float], radii: Array, *, step_px: float) -> Array:
    """Outward fall of log brightness (ANGLES, radii), capped against cup edges."""
    both = sample_polar(light, centre, np.concatenate([radii - step_px, radii + step_px]))
    count = len(radii)
    return np.asarray(np.clip(both[:, :count] - both[:, count:], -0.05, EDGE_CAP))


def find_disc_edge(crop: Crop) -> DiscEdge:
    """The disc edge nearest to the middle of the crop."""
    light = _disc_light(crop)
    best, centre, radius = -np.inf, (0.0, 0.0), 0.0
    for dy in range(-36, 37, 9):
        for dx in range(-36, 37, 9):
            middle = (float(HALF_WIDTH_PX + dx), float(HALF_WIDTH_PX + dy))
            strength = _fall(light, middle, DISC_RADII_PX, step_px=STEP_PX).mean(axis=0)
            index = int(np.argmax(strength))
            if strength[index] > best:
                best, centre = float(strength[index]), middle
                radius = float(DISC_RADII_PX[index])
    first = _refined(light, centre, radius, band=(0.75, 1.3), around=None)
    second = _refined(
        light, (first.x, first.y), first.radius, band=(0.8, 1.22), around=first.radii(directions())
    )
    return DiscEdge(second, best)


def _refined(
    light: Array,
    centre: tuple[float, float],
    radius: float,
    *,
    band: tuple[float, float],
    around: Array | None,
) -> Ellipse:
    radii = np.arange(band[0] * radius, band[1] * radius, 1.0, dtype=np.float32)
    fall = _fall(light, centre, radii, step_px=4.0)
    expected = np.full((len(fall), 1), radius) if around is None else around[:, None]
    cost = 0.3 * ((radii[None, :] - expected) / radius) ** 2 - fall
    path = closed_path(cost.astype(np.float32), bend=0.02)
    return fit_ellipse(centre, radii[path])


def find_cup_edge(crop: Crop, disc: Ellipse, *, threshold: float = PALLOR_THRESHOLD) -> CupEdge:
    """The cup inside the disc; `threshold` lies between rim (0) and palest part (1)."""
    green = _without_vessels(crop.pixels[..., 1].astype(np.float32), 25)
    angle = directions()
    reach = disc.radii(angle)[:, None] * RHO
    x = (disc.x + np.cos(angle)[:, None] * reach).astype(np.float32)
    y = (disc.y + np.sin(angle)[:, None] * reach).astype(np.float32)
    polar = cv2.remap(green, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rim = float(np.median(polar[:, (RHO > 0.8) & (RHO < 0.9)]))
    palest = float(np.percentile(polar[:, RHO < 0.5], 90))
    pallor = (polar - rim) / max(palest - rim, 1.0)
    # Pale pixels belong inside, others outside; the weight is their area.
    gain = np.clip(pallor - threshold, -0.5, 0.5) * RHO
    inside = np.cumsum(gain, axis=1)
    region = (2 * inside - inside[:, -1:]) / len(RHO)
    edge = np.zeros_like(pallor)
    edge[:, 2:-2] = pallor[:, :-4] - pallor[:, 4:]
    cost = 0.1 * (RHO[None, :] - 0.6) ** 2 - region - 0.3 * np.clip(edge, -0.1, 0.5)
    cost[:, RHO > 0.92] += 1.0
    rho = RHO[closed_path(cost.astype(np.float32), bend=0.01)]
    mean = float(rho.mean())
    calibrated = SIZE_OFFSET + SIZE_SLOPE * mean + OWN_SHAPE * (rho - mean)
    radii = np.clip(calibrated, 0.15, 0.95) * disc.radii(angle)
    return CupEdge(fit_ellipse((disc.x, disc.y), radii), palest - rim)
