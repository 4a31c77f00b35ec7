"""Local contrast and dark lines: what vessels look like at one fixed scale.

Line detection follows the matched-filter idea of Chaudhuri et al. 1989 (IEEE
Trans Med Imaging 8:263-269), on green divided by its local background.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Mask, View

FIELD_DIAMETER_PX = 400
"""All of the quality gate works at this field diameter."""

BACKGROUND_SIGMA_PX = 16.0
EDGE_PX = 9
ORIENTATIONS = 12

Map = NDArray[np.float32]


@dataclass(frozen=True)
class LineMaps:
    """Contrast and line responses of a view; all maps are (H, W).

    Attributes:
        contrast: Green relative to its local background, 0 where equal.
        dark: Contrast of the best dark line through each pixel, >= 0.
        bright: The same for bright lines.
        angle_rad: Direction of the best dark line, 0 along x, in [0, pi).
        vessels: Dark lines that are long and strong enough to be vessels.
        inner: Field of view without its edge, where the maps hold.
    """

    contrast: Map
    dark: Map
    bright: Map
    angle_rad: Map
    vessels: Mask
    inner: Mask


def masked_blur(values: NDArray[Any], mask: Mask, sigma_px: float) -> Map:
    """Gaussian mean of the values (H, W) over the mask only."""
    weight = mask.astype(np.float32)
    total = cv2.GaussianBlur(values.astype(np.float32) * weight, (0, 0), sigma_px)
    return np.asarray(total / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma_px), 1e-3))


def erode(mask: Mask, radius_px: int) -> Mask:
    """The mask without a margin; the image border counts as outside."""
    size = 2 * radius_px + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), *(radius_px,) * 4, cv2.BORDER_CONSTANT)
    inner = cv2.erode(padded, kernel)[radius_px:-radius_px, radius_px:-radius_px]
    return np.asarray(inner > 0)


@cache
def _line_kernels(sigma_px: float) -> tuple[Map, ...]:
    half = 11
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    kernels = []
    for index in range(ORIENTATIONS):
        angle = np.pi * index / ORIENTATIONS
        along = x * np.cos(angle) + y * np.sin(angle)
        across = -x * np.sin(angle) + y * np.cos(angle)
        profile = (across**2 / sigma_px**2 - 1) * np.exp(-(across**2) / (2 * sigma_px**2))
        kernel = profile * np.exp(-(along**2) / (2 * 4.5**2))
        kernel -= kernel.mean()
        # Response 1 for a dark Gaussian line of contrast 1 and this width.
        ideal = -np.exp(-(across**2) / (2 * sigma_px**2))
        kernels.append((kernel / (kernel * ideal).sum()).astype(np.float32))
    return tuple(kernels)


def line_maps(view: View) -> LineMaps:
    """Contrast, dark and bright lines of a view of `FIELD_DIAMETER_PX`."""
    green = view.pixels[..., 1].astype(np.float32)
    inside = view.field_of_view
    background = masked_blur(green, inside, BACKGROUND_SIGMA_PX)
    contrast = np.where(inside, green / np.maximum(background, 8.0) - 1.0, 0.0).astype(np.float32)
    inner = erode(inside, EDGE_PX)
    # The rim of a bright disc or exudate is not a line: cap what rises above the background.
    capped = np.minimum(contrast, 0.08)
    dark = np.zeros_like(contrast)
    bright = np.zeros_like(contrast)
    best = np.zeros(contrast.shape, np.uint8)
    for sigma_px in (1.3, 2.2):
        for index, kernel in enumerate(_line_kernels(sigma_px)):
            response = cv2.filter2D(capped, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT)
            stronger = response > dark
            dark[stronger] = response[stronger]
            best[stronger] = index
            np.maximum(bright, -response, out=bright)
    dark[~inner] = 0
    bright[~inner] = 0
    angle = best.astype(np.float32) * np.float32(np.pi / ORIENTATIONS)
    return LineMaps(contrast, dark, bright, angle, _vessels(dark, inner), inner)


def _vessels(dark: Map, inner: Mask) -> Mask:
    if not inner.any():
        return np.zeros_like(inner)
    # Noise and choroidal texture set the middle of the distribution, vessels its tail.
    floor = max(0.02, 2.2 * float(np.median(dark[inner])))
    weak = (dark > floor).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(weak, connectivity=8)
    strong = np.zeros(count, bool)
    strong[np.unique(labels[dark > 1.6 * floor])] = True
    long = np.maximum(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) >= 24
    keep = strong & long & (stats[:, cv2.CC_STAT_AREA] >= 60)
    keep[0] = False
    return np.asarray(keep[labels])
