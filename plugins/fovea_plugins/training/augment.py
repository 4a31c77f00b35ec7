"""Random variation of training photographs: geometry, camera style, image faults.

Every function draws from the generator it is given, so a seed repeats a run.
Geometry moves photograph and labels together; style touches the photograph only.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fovea_plugins.training.data import Bytes, Floats, Sample

MIXES = 0.1
"""Largest share of one colour channel added to another (sensors differ in their filters)."""


@dataclass(frozen=True)
class Patch:
    """A cut-out of `size` pixels.

    Attributes:
        pixels: (S, S, 3) float32, 0 to 255.
        inside: (S, S) bool.
        target, known: (C, S, S) float32, 0 to 1.
    """

    pixels: Floats
    inside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    target: Floats
    known: Floats


def cut_patch(
    rng: np.random.Generator,
    sample: Sample,
    *,
    size: int,
    scale: tuple[float, float] = (0.7, 1.5),
    rotation_deg: float = 45.0,
    bend_px: float = 3.0,
    around: Floats | None = None,
) -> Patch:
    """A patch at a random place, angle and scale, mirrored or not, slightly bent.

    Args:
        rng: Source of chance.
        sample: What to cut from.
        size: Height and width in pixels.
        scale: Smallest and largest magnification.
        rotation_deg: Largest angle either way; half of the patches are also turned over.
        bend_px: Size of the bending.
        around: Centre (x, y) in the sample; None: a random place in the field.
    """
    centre = _place(rng, sample) if around is None else around
    angle = np.deg2rad(rng.uniform(-rotation_deg, rotation_deg))
    zoom = np.exp(rng.uniform(*np.log(scale))) * sample.step
    squeeze = np.exp(rng.uniform(-0.06, 0.06))
    flip = 1.0 if rng.random() < 0.5 else -1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag([flip * squeeze, 1.0 / squeeze]) / zoom
    if rng.random() < 0.5:
        matrix = -matrix
    coarse = rng.normal(0.0, bend_px, (2, 5, 5)).astype(np.float32)
    bend = [cv2.resize(one, (size, size), interpolation=cv2.INTER_CUBIC) for one in coarse]
    grid = np.arange(size, dtype=np.float32) - (size - 1) / 2
    x, y = grid[None, :] + bend[0], grid[:, None] + bend[1]
    map_x = (matrix[0, 0] * x + matrix[0, 1] * y + centre[0]).astype(np.float32)
    map_y = (matrix[1, 0] * x + matrix[1, 1] * y + centre[1]).astype(np.float32)

    def moved(values: Bytes, how: int) -> Floats:
        return np.asarray(cv2.remap(values, map_x, map_y, how), np.float32)

    inside = moved(sample.inside.astype(np.uint8), cv2.INTER_NEAREST) > 0
    return Patch(
        moved(sample.pixels, cv2.INTER_LINEAR),
        inside,
        np.stack([moved(one, cv2.INTER_LINEAR) for one in sample.target]) / 255.0,
        np.stack([moved(one, cv2.INTER_NEAREST) for one in sample.known]) / 255.0,
    )


def _place(rng: np.random.Generator, sample: Sample) -> Floats:
    """A place (x, y) of the field, drawn to its middle: patches on its edge are half empty."""
    rows, columns = np.nonzero(sample.inside[::8, ::8])
    pick = int(rng.integers(len(rows)))
    height, width = sample.inside.shape
    place = 8.0 * np.array([columns[pick], rows[pick]])
    return np.asarray(0.65 * place + 0.35 * np.array([width / 2, height / 2]), np.float32)


def tone_curve(sample: Sample) -> Floats:
    """Cumulative brightness distribution (3, 256) inside the field: one camera's style."""
    pixels = sample.pixels[sample.inside]
    counts = [np.bincount(pixels[:, c], minlength=256).astype(np.float64) for c in range(3)]
    return np.stack([np.cumsum(c + 1e-3) / (c + 1e-3).sum() for c in counts]).astype(np.float32)


def restyle(
    rng: np.random.Generator, pixels: Floats, *, own: Floats, others: list[Floats]
) -> Floats:
    """Pixels (H, W, 3) as another camera, flash and film might have shown them.

    Args:
        rng: Source of chance.
        pixels: 0 to 255.
        own: Tone curve of the photograph.
        others: Tone curves to move towards.
    """
    styled = pixels
    if rng.random() < 0.35:
        styled = _retone(rng, styled, own, others[int(rng.integers(len(others)))])
    unit = np.clip(styled / 255.0, 0.0, 1.0)
    if rng.random() < 0.8:
        unit = unit ** np.exp(rng.normal(0.0, 0.2, 3)).astype(np.float32)
    if rng.random() < 0.5:
        mix = np.eye(3) + rng.uniform(-MIXES, MIXES, (3, 3))
        unit = unit @ mix.astype(np.float32).T
    if rng.random() < 0.08:
        unit = np.repeat(unit[..., 1:2], 3, axis=2)  # red-free: one grey channel
    unit = unit * _lighting(rng, unit.shape[0], unit.shape[1])[..., None]
    return np.asarray(np.clip(unit * np.float32(rng.uniform(0.7, 1.25)), 0, 1) * 255, np.float32)


def damage(rng: np.random.Generator, pixels: Floats) -> Floats:
    """Pixels (H, W, 3) 0 to 255 with blur, sharpening, noise or JPEG artefacts at random."""
    worse = pixels
    chance = rng.random()
    if chance < 0.25:
        worse = np.asarray(
            cv2.GaussianBlur(worse, (0, 0), float(rng.uniform(0.4, 1.3))), np.float32
        )
    elif chance < 0.35:
        soft = cv2.GaussianBlur(worse, (0, 0), 1.5)
        worse = worse + float(rng.uniform(0.3, 1.0)) * (worse - soft)
    if rng.random() < 0.4:
        noise = rng.standard_normal(worse.shape, dtype=np.float32)
        worse = worse + np.float32(rng.uniform(1.0, 8.0)) * noise
    worse = np.clip(worse, 0, 255)
    if rng.random() < 0.15:
        quality = int(rng.integers(35, 95))
        _, code = cv2.imencode(
            ".jpg", worse.astype(np.uint8), [int(cv2.IMWRITE_JPEG_QUALITY), quality]
        )
        return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.float32)
    return np.asarray(worse, np.float32)


def _retone(rng: np.random.Generator, pixels: Floats, own: Floats, other: Floats) -> Floats:
    """Histogram matching per channel, part of the way."""
    levels = np.arange(256, dtype=np.float32)
    share = float(rng.uniform(0.3, 1.0))
    moved = np.empty_like(pixels)
    for c in range(3):
        table = np.interp(own[c], other[c], levels)
        curve = (share * table + (1.0 - share) * levels).astype(np.float32)
        moved[..., c] = curve[np.clip(pixels[..., c], 0, 255).astype(np.uint8)]
    return moved


def _lighting(rng: np.random.Generator, height: int, width: int) -> Floats:
    """A smooth multiplicative light field (H, W) around 1."""
    coarse = np.exp(rng.normal(0.0, 0.15, (3, 3))).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
