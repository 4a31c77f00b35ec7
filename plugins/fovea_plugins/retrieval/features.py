"""Hand-made descriptors of a retinal photograph: colour, texture and layout.

Everything is computed on the field of view brought to one diameter and centred
on its circle, so that cameras differ in colour but not in scale. Descriptors of
the photograph and of its mirror image are combined, so that right and left eyes
can be compared.

Sources: relative contrast by shade correction, Foracchia 2005
(doi:10.1016/j.media.2004.07.001); Gabor energy, Daugman 1985
(doi:10.1364/JOSAA.2.001160); gist-like pooling over cells, Oliva and Torralba
2001 (doi:10.1023/A:1011139631724).
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.errors import NotApplicable
from fovea.image import Mask, Photograph

Floats = NDArray[np.float32]

DIAMETER_PX = 256
BLOCKS = ("colour", "texture", "layout")
SPOT_SCALES_PX = (1.5, 3.0, 6.0, 12.0)
OCTAVES = 4
ORIENTATIONS = 6
LAYOUT_SIDE = 16
EDGE_FRACTION = 0.96
"""Part of the field radius that is used: the rim is vignetted and holds reflections."""


def describe(image: Photograph) -> dict[str, Floats]:
    """The raw descriptor of each block, (N,) float32, equal for an eye and its mirror image."""
    pixels, inside = _centred(image)
    weight = inside.astype(np.float32)
    contrast = _relative_contrast(pixels, weight)
    return {
        "colour": _colour(pixels, inside),
        "texture": _texture(contrast[:, :, 1], inside),
        "layout": _layout(pixels, contrast, weight),
    }


def _centred(image: Photograph) -> tuple[Floats, Mask]:
    """The field of view on a square canvas: pixels (D, D, 3) in 0 to 1, and its mask (D, D)."""
    view = image.view(DIAMETER_PX)
    circle = image.field_circle
    x, y = view.frame.to_view(np.array([circle.x, circle.y]))
    middle = (DIAMETER_PX - 1) / 2
    shift = np.array([[1.0, 0.0, middle - x], [0.0, 1.0, middle - y]])
    size = (DIAMETER_PX, DIAMETER_PX)
    pixels = cv2.warpAffine(view.pixels, shift, size, flags=cv2.INTER_LINEAR)
    seen = cv2.warpAffine(view.field_of_view.astype(np.uint8), shift, size, flags=cv2.INTER_NEAREST)
    inside = (seen > 0) & (_radius() <= EDGE_FRACTION)
    if not inside.any():
        raise NotApplicable(
            "find_similar_cases",
            "The photograph shows no retina to compare",
            why="No field of view was found",
            fix="Use a photograph of the whole retinal field",
        )
    return pixels.astype(np.float32) / 255.0, inside


@cache
def _offsets() -> tuple[Floats, Floats]:
    rows, columns = np.mgrid[:DIAMETER_PX, :DIAMETER_PX].astype(np.float32)
    middle = (DIAMETER_PX - 1) / 2
    return columns - middle, rows - middle


@cache
def _radius() -> Floats:
    """Distance of each canvas pixel from the middle; 1 at the edge of the field."""
    return np.asarray(np.hypot(*_offsets()) / (DIAMETER_PX / 2), np.float32)


RINGS = (0.35, 0.68)
CELLS = 9
MIRRORED_CELLS = (0, 3, 2, 1, 4, 7, 6, 5, 8)


@cache
def _cells() -> NDArray[np.intp]:
    """Cell of each pixel: 0 the centre; 1-4 and 5-8 right, lower, left, upper of two rings."""
    dx, dy = _offsets()
    sector = np.round(np.arctan2(dy, dx) / (np.pi / 2)).astype(np.intp) % 4
    ring = np.digitize(_radius(), RINGS)
    return np.where(ring == 0, 0, 4 * ring - 3 + sector)


@cache
def _gabors() -> tuple[Floats, ...]:
    """Zero-mean even Gabor kernels, one per orientation; the k-th mirrors into the (-k)-th."""
    kernels = []
    for step in range(ORIENTATIONS):
        angle = np.pi * step / ORIENTATIONS
        kernel = cv2.getGaborKernel((9, 9), 1.5, angle, 4.5, 0.6, 0.0)
        kernel -= kernel.mean()
        kernels.append((kernel / np.abs(kernel).sum()).astype(np.float32))
    return tuple(kernels)


def _fold(values: Floats, mirrored: Floats) -> Floats:
    """Half sum and half absolute difference: unchanged when the eye is mirrored."""
    half_sum, half_difference = (values + mirrored) / 2, np.abs(values - mirrored) / 2
    return np.concatenate([half_sum.ravel(), half_difference.ravel()])


def _relative_contrast(pixels: Floats, weight: Floats) -> Floats:
    """(value - local mean) / local mean of each channel, 0 outside the field."""
    local = _local_mean(pixels, weight, DIAMETER_PX / 14)
    relative = (pixels - local) / (local + 0.04)
    return np.clip(relative, -1.0, 1.5) * weight[:, :, None]


def _local_mean(pixels: Floats, weight: Floats, sigma: float) -> Floats:
    # Normalised convolution: pixels outside the field must not darken the mean at its edge.
    # A wide blur loses nothing at a quarter of the size and takes a hundredth of the time.
    stack = np.dstack([pixels * weight[:, :, None], weight])
    small = cv2.resize(stack, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 4)
    mean = small[:, :, :3] / np.maximum(small[:, :, 3:], 1e-3)
    size = (DIAMETER_PX, DIAMETER_PX)
    return np.asarray(cv2.resize(mean, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _pool(values: Floats, inside: Mask) -> Floats:
    """Mean of a map over each cell, (9,); a cell that was hardly seen gets the overall mean."""
    cells = _cells()
    here = cells[inside]
    totals = np.bincount(here, weights=values[inside], minlength=CELLS)
    counts = np.bincount(here, minlength=CELLS)
    enough = counts > 0.1 * np.bincount(cells.ravel(), minlength=CELLS)
    overall = totals.sum() / counts.sum()
    return np.where(enough, totals / np.maximum(counts, 1), overall).astype(np.float32)


def _colour(pixels: Floats, inside: Mask) -> Floats:
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB) / np.float32(50.0)
    values = lab[inside]
    pooled = np.stack([_pool(lab[:, :, channel], inside) for channel in range(3)])
    parts = [
        np.percentile(values, (2, 10, 25, 50, 75, 90, 98), axis=0).ravel(),
        values.std(axis=0),
        _fold(pooled, pooled[:, MIRRORED_CELLS]),
    ]
    red, green, blue = (pixels[inside][:, channel] + 0.02 for channel in range(3))
    for ratio, low, high in ((red / green, -0.5, 2.0), (green / blue, -1.0, 2.5)):
        counts, _ = np.histogram(np.log(ratio), bins=12, range=(low, high))
        # Square root of the shares: Euclidean distance becomes the Hellinger distance.
        parts.append(np.sqrt(counts / len(red)))
    return np.concatenate(parts).astype(np.float32)


def _texture(green: Floats, inside: Mask) -> Floats:
    lines = np.stack([_line_energy(green, inside, octave) for octave in range(OCTAVES)])
    mirrored_angle = [-step % ORIENTATIONS for step in range(ORIENTATIONS)]
    spots, extremes = [], []
    for sigma in SPOT_SCALES_PX:
        wide = cv2.GaussianBlur(green, (0, 0), 1.6 * sigma)
        spot = cv2.GaussianBlur(green, (0, 0), sigma) - wide
        for part in (np.maximum(spot, 0), np.maximum(-spot, 0)):  # bright spots, dark spots
            spots.append(_pool(part, inside))
            extremes.append(np.percentile(part[inside], (90, 97, 99.3, 99.9)))
    pooled = np.log(np.stack(spots) + 1e-3)
    return np.concatenate(
        [
            _fold(lines, lines[:, mirrored_angle][:, :, MIRRORED_CELLS]),
            _fold(pooled, pooled[:, MIRRORED_CELLS]),
            np.log(np.concatenate(extremes) + 1e-3),
        ]
    ).astype(np.float32)


def _line_energy(green: Floats, inside: Mask, octave: int) -> Floats:
    """Log mean Gabor energy (orientations, 9) at one octave."""
    full = (DIAMETER_PX, DIAMETER_PX)
    size = (DIAMETER_PX >> octave, DIAMETER_PX >> octave)
    small = cv2.resize(green, size, interpolation=cv2.INTER_AREA)
    pooled = []
    for kernel in _gabors():
        energy = np.abs(cv2.filter2D(small, cv2.CV_32F, kernel, borderType=cv2.BORDER_REFLECT))
        wide = np.asarray(cv2.resize(energy, full, interpolation=cv2.INTER_NEAREST), np.float32)
        pooled.append(_pool(wide, inside))
    return np.asarray(np.log(np.stack(pooled) + 1e-3), np.float32)


def _layout(pixels: Floats, contrast: Floats, weight: Floats) -> Floats:
    # Against a wide mean the disc and the macula remain; the relative contrast has lost them.
    wide = _local_mean(pixels, weight, DIAMETER_PX / 4)
    broad = (pixels - wide) / (wide + 0.04) * weight[:, :, None]
    maps = np.dstack([broad[:, :, 1], broad[:, :, 0], np.abs(contrast[:, :, 1])])
    side = (LAYOUT_SIDE, LAYOUT_SIDE)
    small = np.asarray(cv2.resize(maps, side, interpolation=cv2.INTER_AREA), np.float32)
    return _fold(small, small[:, ::-1])
