"""Photographs as content blocks: downscaled, re-encoded from pixels alone, so without EXIF."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fovea.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST_SIDE = 896
"""Pixels: what current vision-language models take at most without tiling."""


def image_block(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """A langchain content block with a photograph.

    Args:
        pixels: (height, width, 3) RGB.
    """
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "PNG")
    text = base64.b64encode(out.getvalue()).decode("ascii")
    return {"type": "image", "base64": text, "mime_type": "image/png"}


def is_image(block: Any) -> bool:
    """Whether a content block is an image, in langchain's or OpenAI's spelling."""
    return isinstance(block, Mapping) and block.get("type") in {"image", "image_url"}


def picture_of(block: Mapping[str, Any]) -> Image.Image:
    """The image of a content block; only what the block itself holds is read.

    Raises:
        ModelError: it points elsewhere, or is no image.
    """
    url = block.get("image_url", block.get("url", ""))
    url = url.get("url", "") if isinstance(url, Mapping) else url
    text = block.get("base64") or block.get("data") or ""
    if not text and isinstance(url, str) and url.startswith("data:"):
        text = url.partition(",")[2]
    if not text:
        raise ModelError(
            "An image block holds no pixels", why="Addresses are not followed",
            fix="Send the image as base64",
        )  # fmt: skip
    try:
        raw = base64.b64decode(text, validate=True)
        picture = Image.open(io.BytesIO(raw)).convert("RGB")
    except (ValueError, OSError, Image.DecompressionBombError) as error:
        raise ModelError("An image block cannot be decoded", why=str(error)[:100]) from error
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return picture


def without_images(content: str | Sequence[Any]) -> str | list[Any]:
    """Message content with every image block left out."""
    if isinstance(content, str):
        return content
    return [block for block in content if not is_image(block)]
