"""Open a retinal photograph: pixels, hash, field of view, eye and scale.

Decoding happens in a separate process (`fovea.decode`); what comes back is
8-bit RGB, upright, with the field of view found. All coordinates are (x, y) in
pixels of this upright original, pixel centres at whole numbers.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea import errors
from fovea.scale import Eye as Eye
from fovea.scale import Mask as Mask
from fovea.scale import Scale as Scale

if TYPE_CHECKING:
    from fovea.settings import Settings

Pixels = NDArray[np.uint8]

DECODE_TIMEOUT_S = 30.0
MIN_SIDE_PX = 100


@dataclass(frozen=True)
class Circle:
    """A circle in pixels: centre (x, y) and radius."""

    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Frame:
    """Maps pixels of a resampled view to pixels of the original image.

    original = (view + 0.5) * step + (left, top) - 0.5, per axis.
    """

    width: int
    height: int
    step: float
    left: float
    top: float
    original_width: int
    original_height: int

    @property
    def _corner(self) -> NDArray[np.float64]:
        return np.array([self.left, self.top])

    def to_original(self, points_xy: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Points (N, 2) or (2,) of the view, in original pixels."""
        points = np.asarray(points_xy, dtype=np.float64)
        original: NDArray[np.float64] = (points + 0.5) * self.step + self._corner - 0.5
        return original

    def to_view(self, points_xy: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Points (N, 2) or (2,) of the original, in view pixels."""
        points = np.asarray(points_xy, dtype=np.float64)
        view: NDArray[np.float64] = (points + 0.5 - self._corner) / self.step - 0.5
        return view

    def map_to_original(self, values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """A float map (height, width) of the view, linearly resampled to the original size."""
        # warpAffine wants the inverse map: original pixel -> view pixel.
        shift = 0.5 / self.step - 0.5
        matrix = np.array(
            [
                [1.0 / self.step, 0.0, shift - self.left / self.step],
                [0.0, 1.0 / self.step, shift - self.top / self.step],
            ]
        )
        warped = cv2.warpAffine(
            np.asarray(values, dtype=np.float32),
            matrix,
            (self.original_width, self.original_height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=0,
        )
        return np.asarray(warped, dtype=np.float32)

    def mask_to_original(self, mask: Mask) -> Mask:
        """A mask (height, width) of the view as a mask of the original size."""
        return self.map_to_original(mask.astype(np.float32)) >= 0.5


@dataclass(frozen=True)
class View:
    """A resampled copy of the photograph: what a method computes on."""

    pixels: Pixels
    field_of_view: Mask
    frame: Frame


@dataclass(frozen=True)
class Photograph:
    """One opened retinal photograph.

    Attributes:
        handle: Name inside the session, such as `img1`.
        pixels: (H, W, 3) uint8 RGB, upright, read-only.
        field_of_view: (H, W) bool, where the camera saw the retina.
        field_circle: Circle fitted to the edge of the field of view.
        sha256: Digest of the file as it was given.
        eye: `OD`, `OS` or None when unknown; `eye_source` says who said so.
        scale: Pixel scale, or None when unknown.
        notes: What was done to the pixels on opening, in words.
    """

    handle: str
    pixels: Pixels
    field_of_view: Mask
    field_circle: Circle
    sha256: str
    format: str
    grey: bool
    eye: Eye | None = None
    eye_source: Literal["person", "dicom", "inferred"] | None = None
    scale: Scale | None = None
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Width of the original in pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height of the original in pixels."""
        return int(self.pixels.shape[0])

    def view(self, field_diameter_px: int) -> View:
        """The field of view, cropped and resampled to a fixed diameter.

        Cameras differ mostly in scale; a method tuned at one field diameter holds
        on others only when the image is brought to that diameter first.
        """
        circle = self.field_circle
        step = 2.0 * circle.radius / field_diameter_px
        rows, columns = np.nonzero(self.field_of_view)
        left, right = float(columns.min()), float(columns.max() + 1)
        top, bottom = float(rows.min()), float(rows.max() + 1)
        width = max(1, round((right - left) / step))
        height = max(1, round((bottom - top) / step))
        frame = Frame(width, height, step, left, top, self.width, self.height)
        x0, y0, x1, y1 = int(left), int(top), int(right), int(bottom)
        how = cv2.INTER_AREA if step > 1 else cv2.INTER_CUBIC
        pixels = cv2.resize(self.pixels[y0:y1, x0:x1], (width, height), interpolation=how)
        inside = cv2.resize(
            self.field_of_view[y0:y1, x0:x1].astype(np.uint8),
            (width, height),
            interpolation=cv2.INTER_NEAREST,
        )
        return View(np.asarray(pixels, np.uint8), inside.astype(bool), frame)

    def labelled(self, eye: Eye | None) -> Photograph:
        """The same photograph with the eye that a person named."""
        return replace(self, eye=eye, eye_source="person") if eye else self


def open_photograph(
    path: Path, handle: str = "img1", *, eye: Eye | None = None, settings: Settings | None = None
) -> Photograph:
    """The photograph in a JPEG, PNG, TIFF, BMP, WebP or DICOM file.

    Args:
        path: File to read.
        handle: Name by which the session calls it.
        eye: What a person says the eye is; overrides the file.
        settings: Limits; the defaults when omitted.

    Raises:
        UnreadableImage, ImageTooSmall, ImageTooLarge, NotAFundusPhotograph.
    """
    from fovea.settings import Settings

    settings = settings or Settings()
    if not path.is_file():
        raise errors.UnreadableImage(
            f"There is no file `{path.name or '.'}`",
            why="The path does not exist or is a folder",
            fix="Check the spelling",
        )
    if path.stat().st_size > settings.max_file_mb * 1e6:
        raise errors.ImageTooLarge(
            f"The file has {path.stat().st_size / 1e6:.0f} MB",
            where=handle,
            why=f"The limit is {settings.max_file_mb} MB",
            fix="Raise `max_file_mb`, or compress it",
        )
    pixels, facts = _decode(path, handle, settings)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    mask, circle = find_field_of_view(pixels)
    pixels.setflags(write=False)
    mask.setflags(write=False)
    mm_per_px = facts.get("mm_per_px")
    dicom_eye = facts.get("eye")
    photograph = Photograph(
        handle=handle,
        pixels=pixels,
        field_of_view=mask,
        field_circle=circle,
        sha256=sha256,
        format=facts["format"],
        grey=bool(facts["grey"]) or _is_grey(pixels),
        eye=dicom_eye,
        eye_source="dicom" if dicom_eye else None,
        scale=Scale(mm_per_px * 1000.0, 0.0, "dicom") if mm_per_px else None,
        notes=tuple(facts["notes"]),
        facts={"dicom_eye": dicom_eye},
    )
    return photograph.labelled(eye)


def _decode(path: Path, handle: str, settings: Settings) -> tuple[Pixels, dict[str, Any]]:
    worker = Path(__file__).with_name("decode.py")
    with tempfile.TemporaryDirectory(prefix="fovea-decode-") as folder:
        out = Path(folder) / "pixels.npy"
        # -P: the worker's own folder must not shadow other packages' modules.
        command = [sys.executable, "-P", str(worker), str(path.absolute()), str(out)]
        command += [str(settings.max_megapixels), str(MIN_SIDE_PX)]
        try:
            done = subprocess.run(
                command, capture_output=True, timeout=DECODE_TIMEOUT_S, check=False, cwd=folder
            )
            reply = json.loads(done.stdout)
        except subprocess.TimeoutExpired as error:
            raise errors.UnreadableImage(
                f"Decoding took longer than {DECODE_TIMEOUT_S:.0f} seconds",
                where=handle,
                why="The file is damaged or built to be slow",
                fix="Export it again",
            ) from error
        except ValueError as error:
            raise errors.UnreadableImage(
                "The image decoder stopped without an answer",
                where=handle,
                why="The file is damaged, or needs more memory than is allowed",
                fix="Export it again as PNG or JPEG",
            ) from error
        if not reply["ok"]:
            kind: type[errors.ImageError] = getattr(errors, reply["error"])
            raise kind(reply["what"], where=handle, why=reply["why"], fix=reply["fix"])
        pixels: Pixels = np.load(out, allow_pickle=False)
    return pixels, reply


def _is_grey(pixels: Pixels) -> bool:
    sample = pixels[::8, ::8].astype(np.int16)
    return bool(np.abs(sample - sample.mean(axis=2, keepdims=True)).max() <= 3)


def find_field_of_view(pixels: Pixels) -> tuple[Mask, Circle]:
    """Where the camera saw the retina: a mask (H, W) and the circle of its edge.

    Background is what resembles the corners (black, or the colour of a border).
    A photograph that fills the frame has a field of view of the whole frame.
    """
    height, width = pixels.shape[:2]
    factor = min(1.0, 512.0 / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    inside = _foreground(small.astype(np.float32))
    circle = _fit_circle(inside)
    if inside.mean() < 0.05:  # too dark to tell: claim nothing about the edge
        inside[:] = True
        circle = _fit_circle(inside)
    mask = cv2.resize(inside.astype(np.uint8), (width, height), interpolation=cv2.INTER_LINEAR)
    to_full = 1.0 / factor
    return mask.astype(bool), Circle(
        (circle.x + 0.5) * to_full - 0.5, (circle.y + 0.5) * to_full - 0.5, circle.radius * to_full
    )


def _foreground(small: NDArray[np.float32]) -> Mask:
    height, width = small.shape[:2]
    side = max(2, min(height, width) // 40)
    corners = np.stack(
        [
            np.median(patch.reshape(-1, 3), axis=0)
            for patch in (
                small[:side, :side],
                small[:side, -side:],
                small[-side:, :side],
                small[-side:, -side:],
            )
        ]
    )
    agree = float(np.ptp(corners, axis=0).max()) < 24
    background = np.median(corners, axis=0) if agree else np.zeros(3, np.float32)
    distance = np.abs(cv2.GaussianBlur(small, (0, 0), 1.5) - background).max(axis=2)
    reference = float(np.percentile(distance, 95))
    inside = (distance > max(6.0, 0.12 * reference)).astype(np.uint8)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
    inside = cv2.morphologyEx(inside, cv2.MORPH_OPEN, kernel)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside)
    if count < 2:
        return np.ones((height, width), bool)
    largest = labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    contours, _ = cv2.findContours(
        largest.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    # The field of a camera is convex: the hull takes in dark vessels and shadows at its edge.
    hull = cv2.convexHull(np.concatenate(contours))
    filled = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(filled, hull, 1)
    return filled.astype(bool)


def _fit_circle(inside: Mask) -> Circle:
    height, width = inside.shape
    contours, _ = cv2.findContours(
        inside.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    if not contours:
        return Circle(width / 2 - 0.5, height / 2 - 0.5, max(height, width) / 2)
    edge = np.concatenate(contours)[:, 0, :].astype(np.float64)
    free = (
        (edge[:, 0] > 2) & (edge[:, 0] < width - 3) & (edge[:, 1] > 2) & (edge[:, 1] < height - 3)
    )
    span = edge.max(axis=0) - edge.min(axis=0) + 1
    centre = (edge.max(axis=0) + edge.min(axis=0)) / 2
    by_extent = Circle(float(centre[0]), float(centre[1]), float(span.max() / 2))
    points = edge[free]
    if len(points) < 0.2 * len(edge) or len(points) < 20:
        return by_extent
    # Algebraic (Kasa) least squares, once more without outliers such as a notch or a label.
    circle = by_extent
    for _ in range(2):
        matrix = np.column_stack([2 * points, np.ones(len(points))])
        solution, *_ = np.linalg.lstsq(matrix, (points**2).sum(axis=1), rcond=None)
        radius = float(np.sqrt(max(solution[2] + solution[0] ** 2 + solution[1] ** 2, 1.0)))
        circle = Circle(float(solution[0]), float(solution[1]), radius)
        error = np.abs(np.hypot(points[:, 0] - circle.x, points[:, 1] - circle.y) - radius)
        keep = error < max(2.0, 0.02 * radius)
        if keep.sum() < 20:
            return by_extent
        points = points[keep]
    plausible = 0.45 * span.max() < circle.radius < 0.75 * np.hypot(*span)
    return circle if plausible else by_extent
