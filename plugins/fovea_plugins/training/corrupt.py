"""Twelve ways in which photographs get worse, at five severities.

After Hendrycks and Dietterich (ICLR 2019, arXiv 1903.12261), those that happen to
retinal photographs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
SEVERITIES = (1, 2, 3, 4, 5)


def corrupt(name: str, pixels: Picture, severity: int, rng: np.random.Generator) -> Picture:
    """The picture (H, W, 3) made worse.

    Args:
        name: A key of `CORRUPTIONS`.
        pixels: uint8 RGB.
        severity: 1 to 5.
        rng: Source of chance.
    """
    worse = CORRUPTIONS[name](pixels.astype(np.float32), severity, rng)
    return np.asarray(np.clip(worse, 0, 255), np.uint8)


def _defocus(p: Any, s: int, rng: Any) -> Any:
    return cv2.GaussianBlur(p, (0, 0), 0.4 + 0.5 * s * p.shape[1] / 320)


def _motion(p: Any, s: int, rng: Any) -> Any:
    length = 2 * max(1, round(s * p.shape[1] / 320)) + 1
    kernel = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1.0 / length
    turn = cv2.getRotationMatrix2D((length // 2, length // 2), float(rng.uniform(0, 180)), 1.0)
    kernel = cv2.warpAffine(kernel, turn, (length, length))
    return cv2.filter2D(p, -1, np.asarray(kernel / max(float(kernel.sum()), 1e-6), np.float64))


def _noise(p: Any, s: int, rng: Any) -> Any:
    return p + rng.normal(0, 4.0 * s, p.shape).astype(np.float32)


def _shot(p: Any, s: int, rng: Any) -> Any:
    photons = (400.0, 200.0, 100.0, 50.0, 25.0)[s - 1]
    return rng.poisson(np.maximum(p, 0) / 255 * photons).astype(np.float32) / photons * 255


def _jpeg(p: Any, s: int, rng: Any) -> Any:
    quality = (60, 40, 25, 15, 8)[s - 1]
    options = [int(cv2.IMWRITE_JPEG_QUALITY), quality]
    _, code = cv2.imencode(".jpg", np.clip(p, 0, 255).astype(np.uint8), options)
    return cv2.imdecode(code, cv2.IMREAD_COLOR)


def _coarse(p: Any, s: int, rng: Any) -> Any:
    height, width = p.shape[:2]
    factor = (0.8, 0.65, 0.5, 0.4, 0.3)[s - 1]
    small = cv2.resize(p, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)


def _dark(p: Any, s: int, rng: Any) -> Any:
    return p * (1 - 0.14 * s)


def _bright(p: Any, s: int, rng: Any) -> Any:
    return p * (1 + 0.2 * s)


def _flat(p: Any, s: int, rng: Any) -> Any:
    mean = p.mean(axis=(0, 1), keepdims=True)
    return mean + (p - mean) * (1 - 0.15 * s)


def _uneven(p: Any, s: int, rng: Any) -> Any:
    height, width = p.shape[:2]
    angle = float(rng.uniform(0, 2 * np.pi))
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slope = np.cos(angle) * x + np.sin(angle) * y
    return p * (1 + 0.16 * s * slope[..., None]).astype(np.float32)


def _colour(p: Any, s: int, rng: Any) -> Any:
    gains = 1 + 0.08 * s * rng.choice([-1.0, 1.0], 3)
    return p * gains.astype(np.float32)


def _haze(p: Any, s: int, rng: Any) -> Any:
    veil = np.array([150.0, 130.0, 110.0], np.float32)
    share = 0.12 * s
    return (1 - share) * cv2.GaussianBlur(p, (0, 0), 0.3 * s) + share * veil


CORRUPTIONS: Mapping[str, Callable[[Any, int, Any], Any]] = {
    "defocus": _defocus,
    "motion": _motion,
    "gaussian_noise": _noise,
    "shot_noise": _shot,
    "jpeg": _jpeg,
    "low_resolution": _coarse,
    "dark": _dark,
    "bright": _bright,
    "low_contrast": _flat,
    "uneven_light": _uneven,
    "colour_cast": _colour,
    "haze": _haze,
}
