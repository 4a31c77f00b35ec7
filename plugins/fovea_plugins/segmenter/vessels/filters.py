"""Vessel score of a fundus photograph by matched filters. No trained network.

Vessels are dark lines on a bright, unevenly lit retina. The green channel, where
their contrast is highest, is divided by its local background; elongated second
derivatives of a Gaussian (Chaudhuri et al. 1989, IEEE TMI 8:263) at two scales
and sixteen orientations answer to dark lines; a logistic function joins the two
answers and the contrast itself. Its four coefficients, the only fitted numbers,
come from the training half of DRIVE (see MODEL_CARD.md).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.special import expit

from fovea.image import Mask, View

Map = NDArray[np.float32]

FIELD_DIAMETER_PX = 560
"""Every photograph is brought to this field diameter before filtering."""

RIM_PX = 5
"""Width of the blurred edge of the field, in pixels of the view, whose brightness is not used."""

MARGIN_PX = 2
"""Width of the edge that gets no score; between the two, contrast is continued outwards."""

BACKGROUND_SIGMA_PX = 10.0
LEAST_SPREAD = 0.025
"""Contrast spread below which an image is hazy: its noise is not raised to vessel height."""

ORIENTATIONS = 16
SCALES = ((1.2, 7.0), (3.0, 9.0))
"""Standard deviation across and along the vessel, in pixels of the view."""

COEFFICIENTS = (12.7, 5.6, 0.39)
INTERCEPT = -4.91
"""Of the fine response, the coarse response and the contrast: logistic regression, DRIVE 21-40."""


def lit_field(green: Map, field_of_view: Mask) -> Mask:
    """The part of the field (H, W) that is lit: no notch, no deep shadow at the edge."""
    lit = cv2.GaussianBlur(green, (0, 0), 3.0) > 0.35 * np.median(green[field_of_view])
    # Opening drops slivers between shadow and rim.
    field = cv2.morphologyEx(
        (field_of_view & lit).astype(np.uint8), cv2.MORPH_OPEN, np.ones((9, 9), np.uint8)
    )
    return np.asarray(field > 0)


def vessel_contrast(green: Map, field: Mask) -> Map:
    """How much darker than its surroundings each pixel is, in units of the image's own spread.

    The background is a Gaussian mean over the field, repeated without the pixels
    that stand out, so that neither vessels nor bright lesions pull it. Outside the
    field the nearest value inside continues, so that the rim is not an edge.
    """
    ordinary = field
    background = _mean_within(green, ordinary)
    contrast = (background - green) / (background + 10.0)
    for _ in range(2):
        spread = np.sqrt(np.mean(contrast[ordinary] ** 2))
        ordinary = field & (np.abs(contrast) < 1.5 * spread)
        background = _mean_within(green, ordinary)
        contrast = (background - green) / (background + 10.0)
    spread = max(float(np.sqrt(np.mean(contrast[field] ** 2))), LEAST_SPREAD)
    # Clipping keeps haemorrhages, and still more the bright disc, from ringing in the filters.
    contrast = np.clip(contrast / spread, -0.4, 3.0)
    distance, nearest = distance_transform_edt(~field, return_indices=True)
    return np.where(distance < 12, contrast[tuple(nearest)], 0.0).astype(np.float32)


def line_response(contrast: Map, sigma: float, length: float) -> Map:
    """The strongest answer over all orientations of a filter for dark lines."""
    angles = np.arange(ORIENTATIONS) * np.pi / ORIENTATIONS
    best = np.full(contrast.shape, -np.inf, np.float32)
    for angle in angles:
        kernel = _line_kernel(float(angle), sigma, length)
        np.maximum(best, cv2.filter2D(contrast, cv2.CV_32F, kernel), out=best)
    return best


def vessel_score(view: View) -> tuple[Map, Mask]:
    """Score 0..1 (H, W) of being vessel, zero outside the field, and the field that was scored.

    The score orders pixels; it is not a calibrated probability.
    """
    green = view.pixels[..., 1].astype(np.float32)
    lit = lit_field(green, view.field_of_view)
    inner, field = _shrunk(lit, RIM_PX), _shrunk(lit, MARGIN_PX)
    if not inner.any():
        return np.zeros(green.shape, np.float32), inner
    contrast = vessel_contrast(green, inner)
    layers = [*(line_response(contrast, sigma, length) for sigma, length in SCALES), contrast]
    weighted = sum(c * layer for c, layer in zip(COEFFICIENTS, layers, strict=True)) + INTERCEPT
    return np.where(field, expit(weighted), 0.0).astype(np.float32), field


def _shrunk(field: Mask, width_px: int) -> Mask:
    side = 2 * width_px + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    # Padding makes the frame of the picture an edge as well.
    return np.asarray(cv2.erode(np.pad(field.astype(np.uint8), 1), kernel)[1:-1, 1:-1] > 0)


def _mean_within(values: Map, field: Mask) -> Map:
    weight = cv2.GaussianBlur(field.astype(np.float32), (0, 0), BACKGROUND_SIGMA_PX)
    total = cv2.GaussianBlur(values * field, (0, 0), BACKGROUND_SIGMA_PX)
    return np.asarray(total / np.maximum(weight, 1e-3), np.float32)


def _line_kernel(angle: float, sigma: float, length: float) -> NDArray[Any]:
    radius = int(np.ceil(3.0 * max(sigma, length)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float64)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    profile = (1.0 - across**2 / sigma**2) * np.exp(-(across**2) / (2.0 * sigma**2))
    kernel = profile * np.exp(-(along**2) / (2.0 * length**2))
    kernel -= kernel.mean()
    return np.asarray(kernel / np.abs(kernel).sum(), np.float32)
