"""A drawn picture that resembles a retinal photograph, with known geometry.

For tests only: it shows no patient, and no figure of merit may rest on it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Eye, Mask, Photograph, Pixels, find_field_of_view

_DISC_SHARE = 0.085
"""Disc radius as a share of the field radius times two; about that of a 45 degree field."""


@dataclass(frozen=True)
class SyntheticFundus:
    """A drawn fundus and the truth about it.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        disc, cup, vessels: (H, W) bool masks, as drawn.
        disc_x, disc_y, fovea_x, fovea_y: Centres in pixels.
        vertical_cdr: Height of the cup over height of the disc, as asked for.
    """

    pixels: Pixels
    disc: Mask
    cup: Mask
    vessels: Mask
    disc_x: float
    disc_y: float
    fovea_x: float
    fovea_y: float
    vertical_cdr: float
    eye: Eye


def synthetic_fundus(
    height: int = 600,
    width: int = 640,
    *,
    vertical_cdr: float = 0.5,
    eye: Eye = "OD",
    seed: int = 0,
) -> SyntheticFundus:
    """A drawn fundus photograph of known geometry, for tests only.

    Args:
        height: Height in pixels, at least 200.
        width: Width in pixels, at least 200.
        vertical_cdr: Vertical cup-to-disc ratio, 0.1 to 0.9.
        eye: The disc lies right of the fovea in `OD`, left of it in `OS`.
        seed: Of the noise.

    Raises:
        ValueError: an argument is out of bounds.
    """
    if min(height, width) < 200 or not 0.1 <= vertical_cdr <= 0.9:
        raise ValueError("needs at least 200 x 200 pixels and a ratio of 0.1 to 0.9")
    radius = 0.48 * min(height, width)
    centre_x, centre_y = (width - 1) / 2, (height - 1) / 2
    side = 1 if eye == "OD" else -1
    disc_x, disc_y = centre_x + side * 0.42 * radius, centre_y
    fovea_x, fovea_y = centre_x - side * 0.14 * radius, centre_y + 0.04 * radius
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    disc_radius = 2 * _DISC_SHARE * radius
    disc = _ellipse(rows, columns, disc_x, disc_y, 0.92 * disc_radius, disc_radius)
    cup_height = vertical_cdr * disc_radius
    cup = _ellipse(rows, columns, disc_x, disc_y, 0.92 * cup_height, cup_height)
    vessels = _vessels((height, width), (disc_x, disc_y), side, radius)
    field = np.hypot(columns - centre_x, rows - centre_y) <= radius
    vessels &= field
    picture = _paint(rows, columns, (centre_x, centre_y, radius), (fovea_x, fovea_y))
    picture[disc] = (235, 190, 120)
    picture[cup] = (250, 232, 190)
    picture[vessels] = picture[vessels] * (0.62, 0.45, 0.5)
    picture += np.random.default_rng(seed).normal(0.0, 2.0, picture.shape)
    picture = cv2.GaussianBlur(picture, (0, 0), 0.8)
    picture[~field] = 0
    return SyntheticFundus(
        pixels=np.clip(picture, 0, 255).astype(np.uint8),
        disc=disc,
        cup=cup,
        vessels=vessels,
        disc_x=disc_x,
        disc_y=disc_y,
        fovea_x=fovea_x,
        fovea_y=fovea_y,
        vertical_cdr=vertical_cdr,
        eye=eye,
    )


def synthetic_photograph(
    handle: str = "img1", *, fundus: SyntheticFundus | None = None
) -> Photograph:
    """A drawn fundus as an opened photograph, for tests only."""
    fundus = fundus or synthetic_fundus()
    mask, circle = find_field_of_view(fundus.pixels)
    pixels = fundus.pixels.copy()
    pixels.setflags(write=False)
    mask.setflags(write=False)
    return Photograph(
        handle=handle,
        pixels=pixels,
        field_of_view=mask,
        field_circle=circle,
        sha256=hashlib.sha256(pixels.tobytes()).hexdigest(),
        format="PNG",
        grey=False,
        eye=fundus.eye,
        eye_source="person",
        notes=("drawn for a test",),
    )


def _ellipse(
    rows: NDArray[np.float64], columns: NDArray[np.float64], x: float, y: float, a: float, b: float
) -> Mask:
    return np.asarray(((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1.0)


def _paint(
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    circle: tuple[float, float, float],
    fovea: tuple[float, float],
) -> NDArray[Any]:
    """Red-orange ground that darkens to the edge and at the fovea, (H, W, 3) float."""
    x, y, radius = circle
    ground = 1.0 - 0.25 * (np.hypot(columns - x, rows - y) / radius) ** 2
    away = np.hypot(columns - fovea[0], rows - fovea[1]) / (0.13 * radius)
    shade = ground * (1.0 - 0.4 * np.exp(-(away**2)))
    painted: NDArray[np.float64] = shade[..., None] * np.array([190.0, 95.0, 45.0])
    return painted


def _vessels(shape: tuple[int, int], disc: tuple[float, float], side: int, radius: float) -> Mask:
    """Four arcades that leave the disc and bend towards the fovea, tapering."""
    canvas = np.zeros(shape, np.uint8)
    along = np.linspace(0.0, 1.0, 60)
    for up in (-1, 1):
        for reach, width in ((1.35, 0.022), (0.95, 0.016)):
            x = disc[0] - side * radius * reach * along**1.4
            y = disc[1] + up * radius * (0.62 if reach > 1 else 0.8) * np.sin(along * 1.9)
            points = np.stack([x, y], axis=1).round().astype(np.int32)
            for place in range(len(points) - 1):
                thick = max(2, round(width * radius * 2 * (1 - 0.6 * along[place])))
                start, end = points[place], points[place + 1]
                cv2.line(
                    canvas, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), 1, thick
                )
    return canvas.astype(bool)
