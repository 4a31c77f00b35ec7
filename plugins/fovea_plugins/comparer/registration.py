"""Lays one photograph over another of the same eye by its vessels, and says how well it fits.

Starts from disc and fovea where both are known, and from turned copies shifted by phase
correlation (Kuglin and Hines 1975); refines by the enhanced correlation coefficient
(Evangelidis and Psarakis, IEEE Trans Pattern Anal Mach Intell 2008;30(10):1858-1865).
The fit is judged on the vessel centrelines, which the refinement never saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Circle, Mask

SIDE_PX = 384
"""Side of the square that each field of view is brought to."""
TURNS_DEG = (-12.0, -6.0, 0.0, 6.0, 12.0)
TOLERANCE_PX = 3.0
"""Centrelines that lie this near count as the same: 0.8 % of the field diameter."""
BLUR_PX = (8.0, 3.0)
LEAST_OVERLAP = 0.3
"""Of the field: below it there is too little to compare."""
LEAST_VESSELS_PX = 150
"""Length of centreline in the common field, below which no fit can be judged."""

Matrix = NDArray[np.float64]
Picture = NDArray[np.float32]
Points = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Outlines:
    """What is laid over: vessels (H, W), the field, and disc and fovea where both are seen."""

    vessels: Mask
    field: Mask
    circle: Circle
    landmarks: Points | None = None


@dataclass(frozen=True)
class Registration:
    """Where the pixels of the first photograph lie in the second.

    Attributes:
        matrix: (2, 3), from x, y of the first photograph to x, y of the second.
        quality: Share of the vessel centrelines in the common field that meet those of the
            other photograph, the lower of both directions; 0 to 1.
        overlap: Share of the first field that the second one holds too.
        turn_deg: Turn between both, positive clockwise as seen.
    """

    matrix: Matrix
    quality: float
    overlap: float
    turn_deg: float


def register(first: Outlines, second: Outlines) -> Registration:
    """The best fit of both; whether it is good enough is for the caller to judge."""
    to_first, to_second = _to_square(first.circle), _to_square(second.circle)
    one, other = _Square.of(first, to_first), _Square.of(second, to_second)
    coarse = one.blurred(BLUR_PX[0]), other.blurred(BLUR_PX[0])
    starts = list(_starts(first, second, to_first, to_second, coarse))
    starts.sort(key=lambda m: _likeness(*coarse, m), reverse=True)
    fits = [_refined(one, other, start) for start in starts[:3]]
    best = max(fits, key=lambda m: _agreement(one, other, m))
    matrix = _joined(_inverse(to_second), _joined(best, to_first))
    return Registration(
        matrix=matrix,
        quality=_agreement(one, other, best),
        overlap=_overlap(one, other, best),
        turn_deg=float(np.degrees(np.arctan2(best[1, 0], best[0, 0]))),
    )


def laid_over(mask: Mask, matrix: Matrix, shape: tuple[int, int]) -> Mask:
    """A mask of the second photograph as it lies in the first, of height and width `shape`."""
    height, width = shape
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(mask.astype(np.uint8), matrix, (width, height), flags=flags) > 0


@dataclass(frozen=True)
class _Square:
    """Vessels, centrelines and field, each (SIDE_PX, SIDE_PX)."""

    vessels: Mask
    lines: Mask
    field: Mask

    @classmethod
    def of(cls, outlines: Outlines, matrix: Matrix) -> _Square:
        from skimage.morphology import skeletonize

        vessels, field = (
            cv2.warpAffine(
                mask.astype(np.float32), matrix, (SIDE_PX, SIDE_PX), flags=cv2.INTER_AREA
            )
            >= 0.5
            for mask in (outlines.vessels, outlines.field)
        )
        return cls(vessels, np.asarray(skeletonize(vessels & field), bool), field)

    def blurred(self, sigma: float) -> Picture:
        soft = cv2.GaussianBlur(self.vessels.astype(np.float32), (0, 0), sigma)
        return np.asarray(soft / max(float(soft.max()), 1e-6), np.float32)


def _to_square(circle: Circle) -> Matrix:
    share = SIDE_PX / (2.0 * circle.radius)
    middle = SIDE_PX / 2.0
    return np.array(
        [[share, 0.0, middle - share * circle.x], [0.0, share, middle - share * circle.y]]
    )


def _starts(
    first: Outlines, second: Outlines, to_first: Matrix, to_second: Matrix,
    coarse: tuple[Picture, Picture],
) -> Iterator[Matrix]:  # fmt: skip
    if first.landmarks and second.landmarks:
        source, target = _moved(first.landmarks, to_first), _moved(second.landmarks, to_second)
        yield _similarity(source, target)
    one, other = coarse
    middle = (SIDE_PX / 2.0, SIDE_PX / 2.0)
    for turn in TURNS_DEG:
        turned = np.asarray(cv2.getRotationMatrix2D(middle, -turn, 1.0), np.float64)
        moved = cv2.warpAffine(one, turned, (SIDE_PX, SIDE_PX))
        (x, y), _ = cv2.phaseCorrelate(moved.astype(np.float64), other.astype(np.float64))
        yield turned + np.array([[0.0, 0.0, x], [0.0, 0.0, y]])


def _similarity(source: NDArray[np.float64], target: NDArray[np.float64]) -> Matrix:
    """Turn, scale and shift that take two points to two others."""
    a, b = complex(*source[0]), complex(*source[1])
    c, d = complex(*target[0]), complex(*target[1])
    turn = (d - c) / (b - a)
    shift = c - turn * a
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def _moved(points: Points, matrix: Matrix) -> NDArray[np.float64]:
    return np.asarray(np.array(points) @ matrix[:, :2].T + matrix[:, 2], np.float64)


def _refined(one: _Square, other: _Square, start: Matrix) -> Matrix:
    """The start after ECC on ever sharper vessels; as it was where that finds nothing better."""
    matrix = start
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 60, 1e-5)
    for sigma in BLUR_PX:
        try:
            _, found = cv2.findTransformECC(
                one.blurred(sigma), other.blurred(sigma), matrix.astype(np.float32),
                cv2.MOTION_AFFINE, criteria, one.field.astype(np.uint8), 1,
            )  # fmt: skip
        except cv2.error:  # it does not converge: these are not alike
            return matrix
        if not _is_plausible(found):
            return matrix
        matrix = np.asarray(found, np.float64)
    return matrix


def _is_plausible(matrix: NDArray[Any]) -> bool:
    """Whether two photographs of one eye can lie so: no strong stretch, shear or mirror."""
    sizes = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(np.linalg.det(matrix[:, :2]) > 0 and sizes.max() < 1.5 and sizes.min() > 0.67)


def _likeness(one: Picture, other: Picture, matrix: Matrix) -> float:
    """Correlation of both where both are, for the order of the starts."""
    size, flags = (SIDE_PX, SIDE_PX), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(other, matrix, size, flags=flags)
    left, right = one - one.mean(), moved - moved.mean()
    norm = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float((left * right).sum()) / norm if norm else 0.0


def _overlap(one: _Square, other: _Square, matrix: Matrix) -> float:
    common = one.field & laid_over(other.field, matrix, (SIDE_PX, SIDE_PX))
    return float(common.sum()) / max(float(one.field.sum()), 1.0)


def _agreement(one: _Square, other: _Square, matrix: Matrix) -> float:
    """Share of centreline that meets the other's, the lower of both directions."""
    size = (SIDE_PX, SIDE_PX)
    common = one.field & laid_over(other.field, matrix, size)
    if common.sum() < LEAST_OVERLAP * one.field.sum():
        return 0.0
    # Lines that are warped break: points are moved instead.
    rows, columns = np.nonzero(other.lines)
    points = np.stack([columns, rows], axis=1).astype(np.float64)
    moved = points @ _inverse(matrix)[:, :2].T + _inverse(matrix)[:, 2]
    x, y = np.rint(moved).astype(int).T
    inside = (x >= 0) & (x < SIDE_PX) & (y >= 0) & (y < SIDE_PX)
    lines = np.zeros(size, bool)
    lines[y[inside], x[inside]] = True
    lines &= common
    own = one.lines & common
    if min(own.sum(), lines.sum()) < LEAST_VESSELS_PX:
        return 0.0
    shares = []
    for here, there in ((own, lines), (lines, own)):
        away = cv2.distanceTransform((~there).astype(np.uint8), cv2.DIST_L2, 5)
        shares.append(float((away[here] <= TOLERANCE_PX).mean()))
    return min(shares)


def _joined(after: Matrix, before: Matrix) -> Matrix:
    """The matrix that does `before`, then `after`."""
    whole = np.vstack([after, [0.0, 0.0, 1.0]]) @ np.vstack([before, [0.0, 0.0, 1.0]])
    return np.asarray(whole[:2], np.float64)


def _inverse(matrix: Matrix) -> Matrix:
    return np.asarray(cv2.invertAffineTransform(matrix), np.float64)
