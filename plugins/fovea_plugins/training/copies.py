"""Altered copies of a photograph: as other cameras, phones and archives deliver it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import cv2
import numpy as np

from fovea.image import Photograph, Pixels, find_field_of_view


def _grey(pixels: Pixels) -> Pixels:
    """Red-free: the green channel alone."""
    return np.repeat(pixels[..., 1:2], 3, axis=2)


def _turned(pixels: Pixels) -> Pixels:
    return np.rot90(pixels)


def _upside_down(pixels: Pixels) -> Pixels:
    return np.rot90(pixels, 2)


def _mirrored(pixels: Pixels) -> Pixels:
    return pixels[:, ::-1]


def _bordered(pixels: Pixels) -> Pixels:
    """In a black frame of half its size on each side."""
    height, width = pixels.shape[:2]
    return cv2.copyMakeBorder(  # type: ignore[return-value]
        pixels, *((height // 2,) * 2), *((width // 2,) * 2), cv2.BORDER_CONSTANT
    )


def _dark(pixels: Pixels) -> Pixels:
    """A quarter of the light, with the noise that goes with it."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0.0, 2.0, pixels.shape)
    return np.clip(np.round(0.25 * pixels + noise), 0, 255).astype(np.uint8)


def _out_of_focus(pixels: Pixels) -> Pixels:
    """Blurred until only large vessels are seen."""
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), 0.012 * pixels.shape[1]), np.uint8)


def _phone(pixels: Pixels) -> Pixels:
    """One megapixel, soft, warm, the light to one side, strongly compressed."""
    height, width = pixels.shape[:2]
    factor = (1e6 / (height * width)) ** 0.5
    size = (round(width * factor), round(height * factor))
    big = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(big, (0, 0), 1.5e-3 * size[0]).astype(np.float32)
    light = np.linspace(0.65, 1.1, size[0])[None, :, None] * np.array([1.05, 0.95, 0.8])
    _, code = cv2.imencode(
        ".jpg", np.clip(soft * light, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 45]
    )
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), np.uint8)


COPIES: Mapping[str, Callable[[Pixels], Pixels]] = MappingProxyType(
    {
        "grey": _grey,
        "turned_90": _turned,
        "upside_down": _upside_down,
        "mirrored": _mirrored,
        "heavy_border": _bordered,
        "low_light": _dark,
        "out_of_focus": _out_of_focus,
        "phone": _phone,
    }
)


def copy_of(photograph: Photograph, name: str) -> Photograph:
    """The photograph, altered; `name` is a key of `COPIES`."""
    pixels = np.ascontiguousarray(COPIES[name](photograph.pixels))
    mask, circle = find_field_of_view(pixels)
    return replace(
        photograph,
        pixels=pixels,
        field_of_view=mask,
        field_circle=circle,
        grey=photograph.grey or name == "grey",
    )
