"""Decode one image file in a process of its own, under a memory limit.

Run as a script by `fovea.image`, never imported by it: a decoder that crashes,
hangs or asks for gigabytes takes only this process with it. Imports nothing of
Fovea. Writes pixels to OUT as .npy and one JSON object to standard output:
either {"ok": true, ...} or {"ok": false, "error": NAME, "what", "why", "fix"}.
"""

from __future__ import annotations

import io
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

MEMORY_LIMIT_BYTES = 3 << 30
RASTER_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
ACCEPTED = "JPEG, PNG, TIFF, BMP, WebP or DICOM"
OPHTHALMIC_PHOTOGRAPHY = frozenset({"OP", "XC", "SC", "OT", ""})


class Refused(Exception):
    """The file cannot be used; carries the four parts of the message."""

    def __init__(self, error: str, what: str, why: str = "", fix: str = "") -> None:
        self.reply = {"ok": False, "error": error, "what": what, "why": why, "fix": fix}


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no address-space limit; the pixel cap still holds there
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))


def _check_size(width: int, height: int, max_megapixels: float, min_side: int) -> None:
    if width * height > max_megapixels * 1e6:
        raise Refused(
            "ImageTooLarge",
            f"The image has {width * height / 1e6:.0f} megapixels ({width} x {height})",
            f"The limit is {max_megapixels:.0f} megapixels",
            "Export the photograph at the camera's own size, or raise `max_megapixels`",
        )
    if min(width, height) < min_side:
        raise Refused(
            "ImageTooSmall",
            f"The image is {width} x {height} pixels",
            f"Nothing can be measured below {min_side} pixels a side",
            "Use the original photograph, not a thumbnail",
        )


def _damaged(kind: str, error: Exception) -> Refused:
    return Refused(
        "UnreadableImage",
        f"The {kind} file is damaged or incomplete",
        str(error).split("\n")[0][:120],
        "Copy or export it again from its source",
    )


def read_raster(content: bytes, max_megapixels: float, min_side: int) -> tuple[Any, dict[str, Any]]:
    """Pixels (H, W, 3) uint8 and facts of a JPEG, PNG, TIFF, BMP or WebP file."""
    import numpy as np
    from PIL import Image, ImageOps

    Image.MAX_IMAGE_PIXELS = None  # our own cap is checked before any pixel is decoded
    try:
        image = Image.open(io.BytesIO(content), formats=RASTER_FORMATS)
    except Exception as error:
        raise Refused(
            "UnreadableImage",
            "The file is not an accepted image",
            "Its first bytes are not those of " + ACCEPTED,
            "Export it as one of these; SVG, PDF and archives are not photographs",
        ) from error
    _check_size(image.width, image.height, max_megapixels, min_side)
    notes = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"first of {frames} frames used")
    try:
        image.load()  # Image.verify() passes a truncated JPEG; only decoding finds it
        orientation = image.getexif().get(0x0112, 1)
        upright = ImageOps.exif_transpose(image)
    except Exception as error:
        raise _damaged(image.format or "image", error) from error
    if orientation not in (0, 1):
        notes.append(f"turned upright by EXIF orientation {orientation}")
    grey = upright.mode in ("1", "L", "LA", "I", "F") or upright.mode.startswith("I;16")
    if upright.mode.startswith(("I", "F")):
        array = _to_8_bit(np.asarray(upright))
        notes.append("more than 8 bits a channel, reduced to 8")
    else:
        if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
            rgba = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
            notes.append("transparency laid on black")
        elif upright.mode == "CMYK":
            notes.append("converted from CMYK")
        array = np.asarray(upright.convert("RGB"))
    return _three_channels(array), {
        "format": image.format,
        "grey": grey,
        "notes": notes,
    }


def read_dicom(content: bytes, max_megapixels: float, min_side: int) -> tuple[Any, dict[str, Any]]:
    """Pixels (H, W, 3) uint8 and facts of a DICOM ophthalmic photograph.

    Only coded attributes are read. Names, dates, free text and private
    attributes never leave this process.
    """
    import numpy as np
    import pydicom
    from pydicom.pixels import pixel_array

    try:
        dataset = pydicom.dcmread(io.BytesIO(content), specific_tags=None)
        modality = str(dataset.get("Modality", ""))[:16]
    except Exception as error:
        raise _damaged("DICOM", error) from error
    if modality not in OPHTHALMIC_PHOTOGRAPHY:
        shown = modality if modality.isalnum() else "an unknown code"
        raise Refused(
            "NotAFundusPhotograph",
            f"The DICOM file is of modality {shown}, not OP (ophthalmic photography)",
            "Only retinal photographs can be measured",
            "Choose the fundus photograph of the same visit",
        )
    rows, columns = int(dataset.get("Rows", 0) or 0), int(dataset.get("Columns", 0) or 0)
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise Refused(
            "UnreadableImage",
            "The DICOM file holds no pixel data",
            "It may be a report or a reference to an image",
            "Export the image object itself",
        )
    _check_size(columns, rows, max_megapixels, min_side)
    notes = []
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if frames > 1:
        notes.append(f"first of {frames} frames used")
    try:
        array = pixel_array(io.BytesIO(content), index=0)  # YCbCr comes back as RGB
    except Exception as error:
        raise _damaged("DICOM", error) from error
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if array.dtype != np.uint8:
        array = _to_8_bit(array)
        notes.append("more than 8 bits a channel, reduced to 8")
    if photometric == "MONOCHROME1":
        array = 255 - array
    laterality = str(dataset.get("ImageLaterality", "") or dataset.get("Laterality", "") or "")
    spacing = dataset.get("PixelSpacing")
    mm_per_px = None
    if spacing is not None and len(spacing) == 2:
        row_mm, column_mm = float(spacing[0]), float(spacing[1])
        if 0.0005 < row_mm < 0.2 and abs(row_mm - column_mm) <= 0.01 * row_mm:
            mm_per_px = (row_mm + column_mm) / 2
        else:
            notes.append("DICOM pixel spacing is implausible or not square, not used")
    return _three_channels(array), {
        "format": "DICOM",
        "grey": array.ndim == 2,
        "notes": notes,
        "eye": {"R": "OD", "L": "OS"}.get(laterality),
        "mm_per_px": mm_per_px,
    }


def _to_8_bit(array: Any) -> Any:
    import numpy as np

    values = np.asarray(array, dtype=np.float32)
    if not np.isfinite(values).all():
        raise Refused(
            "UnreadableImage",
            "The image holds values that are not numbers",
            "NaN or infinite pixels",
            "Export it again as 8-bit or 16-bit integers",
        )
    low, high = float(values.min()), float(values.max())
    # A 12-bit camera in a 16-bit file fills a part of the range: stretch to what is used.
    return ((values - low) * (255.0 / max(high - low, 1.0))).round().astype(np.uint8)


def _three_channels(array: Any) -> Any:
    import numpy as np

    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    return np.ascontiguousarray(array[:, :, :3], dtype=np.uint8)


def main(source: str, out: str, max_megapixels: float, min_side: int) -> dict[str, Any]:
    """Decode `source` into `out`; the reply says what was found or refused."""
    import numpy as np

    content = Path(source).read_bytes()
    if not content:
        raise Refused("UnreadableImage", "The file is empty", "It has 0 bytes", "Copy it again")
    reader = read_dicom if content[128:132] == b"DICM" else read_raster
    pixels, facts = reader(content, max_megapixels, min_side)
    np.save(out, pixels, allow_pickle=False)
    return {"ok": True, **facts}


def _run() -> NoReturn:
    warnings.simplefilter("ignore")
    _limit_memory()
    source, out, megapixels, side = sys.argv[1:5]
    try:
        reply = main(source, out, float(megapixels), int(side))
    except Refused as refused:
        reply = refused.reply
    except MemoryError:
        reply = Refused(
            "ImageTooLarge",
            "Decoding needs more memory than is allowed",
            f"The limit is {MEMORY_LIMIT_BYTES >> 30} GB",
            "Export the photograph uncompressed at the camera's own size",
        ).reply
    sys.stdout.write(json.dumps(reply))
    sys.exit(0)


if __name__ == "__main__":
    _run()
