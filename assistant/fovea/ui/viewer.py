"""The scene of the overlay viewer: every photograph of a session with its layers.

Everything travels inside the page as data URIs: the pixels of a patient are never
a file that a server address leads to. What was encoded once is kept in the
session's own folder and goes when the session goes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fovea.contract import Artifact, read_mask
from fovea.evidence import Evidence, ImageRecord
from fovea.image import Mask
from fovea.session import Session
from fovea.ui.render import in_words

ASSETS = Path(__file__).with_name("assets")
LONG_SIDE_PX = 1400
JPEG_QUALITY = 88
COLOURS = {
    "vessels": "#3df5c4",
    "arteries": "#ff6b6b",
    "veins": "#5db2ff",
    "optic_disc": "#ffe45c",
    "optic_cup": "#ff9cf0",
    "microaneurysms": "#ff4fd8",
    "haemorrhages": "#b58cff",
    "hard_exudates": "#fff7a8",
    "soft_exudates": "#a8e6ff",
    "etdrs_grid": "#ffffff",
    "zone_circles": "#70e1ff",
}
"""Bright on the red of a retina, and apart from each other without red-green vision."""
OTHER_COLOURS = ("#9dff70", "#ffb86b", "#70e1ff", "#ff8fab", "#d0b3ff")
POINTS = (("disc", "Disc centre"), ("fovea", "Fovea"))
REGION_RADIUS = 12
"""A mask that keeps a third of its area when worn down by this many pixels is a region."""


def scene(session: Session, *, current: str | None = None) -> str:
    """All photographs and layers of a session, as the JSON that `assets/viewer.js` draws.

    Args:
        session: Whose photographs.
        current: Handle of the photograph to show first; the newest one when omitted.
    """
    pictures = [_picture(session, record) for record in session.images.values()]
    handles = list(session.images)
    shown = current if current in handles else (handles[-1] if handles else None)
    return json.dumps({"pictures": pictures, "current": shown})


def _picture(session: Session, record: ImageRecord) -> dict[str, Any]:
    own = [e for e in session.evidence.values() if e.images == (record.handle,)]
    layers = [layer for evidence in own for layer in _layers(session, record, evidence)]
    names = {layer["name"] for layer in layers}
    for index, layer in enumerate(layers):
        # Arteries and veins are the same pixels as the vessels: all three at once hide each other.
        doubled = layer["name"] == "vessels" and {"arteries", "veins"} <= names
        layer["on"] = layer["kind"] in {"mask", "points"} and not doubled
        if not layer["colour"]:
            layer["colour"] = OTHER_COLOURS[index % len(OTHER_COLOURS)]
    return {
        "handle": record.handle,
        "title": " · ".join(filter(None, (record.handle, record.eye))),
        "width": record.width,
        "height": record.height,
        "src": _photograph(session, record.handle),
        "layers": layers,
    }


def _layers(session: Session, record: ImageRecord, evidence: Evidence) -> Iterator[dict[str, Any]]:
    for artifact in evidence.result.artifacts:
        if artifact.kind not in {"mask", "heatmap", "overlay"} or not artifact.path.is_file():
            continue
        colour = COLOURS.get(artifact.name, "")
        yield {
            "key": f"{evidence.id}:{artifact.name}",
            "name": artifact.name,
            "label": in_words(artifact.name),
            "kind": artifact.kind,
            "evidence": evidence.id,
            "colour": colour,
            "src": _raster(session, record, artifact, evidence.id),
        }
    points = []
    for name, label in POINTS:
        x = evidence.result.measurement(f"{name}_x")
        y = evidence.result.measurement(f"{name}_y")
        if x is not None and y is not None:
            points.append({"x": x.value, "y": y.value, "label": label})
    if points:
        yield {
            "key": f"{evidence.id}:points",
            "name": "points",
            "label": "Landmarks",
            "kind": "points",
            "evidence": evidence.id,
            "colour": "#ffffff",
            "points": points,
        }


def _photograph(session: Session, handle: str) -> str:
    kept = _kept(session, f"{handle}.jpg")
    if not kept.is_file():
        pixels = _fit(session.photograph(handle).pixels)
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(kept), bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return _data_uri(kept, "image/jpeg")


def _raster(session: Session, record: ImageRecord, artifact: Artifact, evidence_id: str) -> str:
    is_mask = artifact.kind == "mask"
    ending = "png" if is_mask else "webp"  # a score map is ten times larger as PNG
    kept = _kept(session, f"{record.handle}-{evidence_id}-{artifact.name}.{ending}")
    if not kept.is_file():
        if is_mask:
            _write_alpha(kept, layer_alpha(read_mask(artifact.path)))
        else:
            picture = np.asarray(cv2.imread(str(artifact.path), cv2.IMREAD_UNCHANGED), np.uint8)
            cv2.imwrite(str(kept), _fit(picture), [cv2.IMWRITE_WEBP_QUALITY, JPEG_QUALITY])
    return _data_uri(kept, f"image/{ending}")


def layer_alpha(mask: Mask) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Opacity (h, w) uint8 of a mask (H, W) for drawing it over the photograph.

    Thin things are drawn solid. Regions such as the disc get a solid edge and a
    faint inside, so that what they lie on stays visible.
    """
    small = _fit(mask.astype(np.uint8) * 255)
    inside = (small > 127).astype(np.uint8)
    worn = cv2.erode(inside, _disk(REGION_RADIUS))
    if inside.sum() == 0 or worn.sum() < inside.sum() / 3:
        return small
    core = cv2.erode(inside, _disk(4))
    return np.where(core > 0, np.uint8(51), small).astype(np.uint8)


def _write_alpha(path: Path, alpha: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    """A white picture with that opacity in 16 steps; the page gives it its colour.

    A 4-bit palette makes the vessels of a whole fundus a few tens of kB.
    """
    from PIL import Image

    height, width = alpha.shape
    steps = np.round(alpha / 17).astype(np.uint8)
    palette = Image.frombytes("P", (width, height), steps.tobytes())
    palette.putpalette([255, 255, 255] * 16)
    palette.save(path, transparency=bytes(step * 17 for step in range(16)), bits=4, optimize=True)


def _disk(radius: int) -> np.ndarray[Any, Any]:
    size = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))


def _fit(
    pixels: np.ndarray[Any, np.dtype[np.uint8]],
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The picture, made smaller until its long side fits the viewer."""
    height, width = pixels.shape[:2]
    factor = min(1.0, LONG_SIDE_PX / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _kept(session: Session, name: str) -> Path:
    folder = session.folder / "view"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / name


def _data_uri(path: Path, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
