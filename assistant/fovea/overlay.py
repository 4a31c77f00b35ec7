"""Draw masks on a photograph: the colours are the same in every picture of Fovea."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Mask, Pixels

# Chosen to stay apart for red-green colour blindness on an orange fundus (after Okabe and Ito).
COLOURS: dict[str, tuple[int, int, int]] = {
    "vessels": (86, 180, 233),
    "arteries": (255, 64, 64),
    "veins": (64, 110, 255),
    "optic_disc": (0, 220, 160),
    "optic_cup": (240, 228, 66),
    "microaneurysms": (255, 0, 200),
    "haemorrhages": (200, 30, 30),
    "hard_exudates": (255, 255, 120),
    "soft_exudates": (230, 230, 255),
    "etdrs_grid": (255, 255, 255),
    "zone_circles": (90, 220, 255),
}
SPARE_COLOURS = ((204, 121, 167), (213, 94, 0), (0, 158, 115), (160, 110, 255))
OUTLINED = frozenset({"optic_disc", "optic_cup"})
LINES = frozenset({"etdrs_grid", "zone_circles"})
"""Masks that are line drawings already: drawn as they are, and solid."""


def colour_of(layer: str) -> tuple[int, int, int]:
    """RGB colour of a layer; one that Fovea does not know gets a stable spare colour."""
    return COLOURS.get(layer) or SPARE_COLOURS[sum(layer.encode()) % len(SPARE_COLOURS)]


def draw_overlay(pixels: Pixels, masks: Mapping[str, Mask], *, opacity: float = 0.45) -> Pixels:
    """The photograph (H, W, 3) with each mask (H, W) tinted, disc and cup as outlines."""
    picture: NDArray[Any] = pixels.astype(np.float32)
    for name, mask in masks.items():
        if name not in OUTLINED:
            colour = np.array(colour_of(name), np.float32)
            share = 1.0 if name in LINES else opacity
            picture[mask] = (1 - share) * picture[mask] + share * colour
    drawn = np.ascontiguousarray(picture.round().astype(np.uint8))
    thickness = max(1, round(max(pixels.shape) / 500))
    for name, mask in masks.items():
        if name in OUTLINED:
            contours, _ = cv2.findContours(
                mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
            )
            cv2.drawContours(drawn, contours, -1, colour_of(name), thickness)
    return drawn
