"""What one archived case may hold, checked before it is written."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import cv2
import numpy as np

from fovea.errors import ArchiveError
from fovea.image import Eye, Photograph

Vector = np.ndarray[Any, np.dtype[np.float32]]

THUMBNAIL_PX = 256
LABEL_PATTERN = re.compile(r"[^\W_][\w \-/(),.'+%&]{0,59}")
"""Labels reach the language model: words only, no markup and no line breaks."""


@dataclass(frozen=True, order=True)
class Label:
    """What somebody called the case, and who or what said so (such as `metadata`)."""

    name: str
    source: str

    def __post_init__(self) -> None:
        for value in (self.name, self.source):
            if not LABEL_PATTERN.fullmatch(value) or unicodedata.normalize("NFKC", value) != value:
                raise ArchiveError(
                    f"{value[:60]!r} cannot be a label or its source",
                    where="archive",
                    why="A label has at most 60 letters, digits, spaces and -/(),.'+%&",
                    fix="Shorten or rename it",
                )


@dataclass(frozen=True)
class NewCase:
    """A photograph to archive, embedded by one encoder.

    Attributes:
        sha256: Digest of the image file: the same photograph is archived once.
        encoder_id: Encoder that made `vector`; vectors of others are kept apart.
        vector: (D,) float32; stored with unit length as float16.
        thumbnail: JPEG of at most 256 px a side, without metadata: see `thumbnail_of`;
            None for a case without a picture.
        patient_id: As the source calls the patient. Only a keyed hash is stored.
        eye, device, date, labels: None when unknown; what is unknown overwrites nothing.
        evidence: What was found in the photograph, as JSON can say it.
    """

    sha256: str
    encoder_id: str
    vector: Vector = field(repr=False)
    thumbnail: bytes | None = field(repr=False)
    patient_id: str | None = field(default=None, repr=False)
    eye: Eye | None = None
    device: str | None = None
    labels: tuple[Label, ...] | None = None
    date: date | None = None
    evidence: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ArchiveError("`sha256` is not a digest of 64 hexadecimal digits", where="archive")
        if not self.encoder_id:
            raise ArchiveError("`encoder_id` is empty", where="archive")
        if self.eye not in (None, "OD", "OS"):
            raise ArchiveError(f"`eye` is {self.eye!r}", why="It must be OD, OS or None")
        if self.device is not None and not LABEL_PATTERN.fullmatch(self.device):
            raise ArchiveError(
                f"{self.device[:60]!r} cannot be the name of a device",
                where="archive",
                why="It has at most 60 letters, digits, spaces and -/(),.'+%&",
            )
        if self.thumbnail is not None:
            check_thumbnail(self.thumbnail)


def unit_vector(vector: Vector, *, where: str) -> Vector:
    """The vector (D,) as contiguous float32 of length 1.

    Raises:
        ArchiveError: not one-dimensional, empty, not finite, or of length zero.
    """
    values = np.ascontiguousarray(vector, dtype=np.float32)
    length = float(np.linalg.norm(values)) if values.ndim == 1 else 0.0
    if not np.isfinite(length) or length < 1e-6:
        raise ArchiveError(
            "The vector of the photograph cannot be used",
            where=where,
            why=f"It has shape {values.shape} and length {length}",
            fix="Report it to the author of the encoder",
        )
    return values / np.float32(length)


def thumbnail_of(image: Photograph) -> bytes:
    """A JPEG of at most 256 px a side; what lies outside the field of view is black.

    Cameras print names and dates into the corners: those must not reach the archive.
    """
    pixels = np.where(image.field_of_view[:, :, None], image.pixels, np.uint8(0))
    factor = min(1.0, THUMBNAIL_PX / max(image.width, image.height))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    done, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85]
    )
    if not done:
        raise ArchiveError("The thumbnail could not be encoded", where=image.handle)
    return bytes(encoded.tobytes())


def check_thumbnail(jpeg: bytes) -> None:
    """Refuse a thumbnail that is no JPEG, is too large, or carries metadata.

    Raises:
        ArchiveError: saying which.
    """
    if not jpeg.startswith(b"\xff\xd8\xff"):
        raise ArchiveError("The thumbnail is not a JPEG", where="archive")
    if b"Exif\x00" in jpeg or b"http://ns.adobe.com/xap" in jpeg:
        raise ArchiveError(
            "The thumbnail carries metadata", where="archive", fix="Make it with `thumbnail_of`"
        )
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    if picture is None or max(picture.shape[:2]) > THUMBNAIL_PX:
        raise ArchiveError(
            "The thumbnail is damaged or too large",
            where="archive",
            why=f"At most {THUMBNAIL_PX} px a side are stored",
            fix="Make it with `thumbnail_of`",
        )


def labels_to_json(labels: Iterable[Label]) -> str:
    """Labels as sorted JSON: equal sets give equal text."""
    pairs = sorted({(label.name, label.source) for label in labels})
    return json.dumps([{"name": name, "source": source} for name, source in pairs])


def labels_from_json(text: str) -> tuple[Label, ...]:
    """The labels in the JSON that `labels_to_json` writes."""
    return tuple(Label(item["name"], item["source"]) for item in json.loads(text))


def evidence_to_json(evidence: Mapping[str, Any]) -> str:
    """Evidence as sorted JSON.

    Raises:
        ArchiveError: JSON cannot hold it.
    """
    try:
        return json.dumps(evidence, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArchiveError(
            "The evidence of a case cannot be stored", where="archive", why=str(error)
        ) from error


def sha256_of(content: bytes) -> str:
    """SHA-256 of bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def digest(*parts: object) -> str:
    """SHA-256 over the parts with their types and lengths, so that no two rows share one."""
    total = hashlib.sha256()
    for part in parts:
        value = part if isinstance(part, bytes) else str(part).encode()
        total.update(f"{type(part).__name__}:{len(value)}:".encode())
        total.update(value)
    return total.hexdigest()
