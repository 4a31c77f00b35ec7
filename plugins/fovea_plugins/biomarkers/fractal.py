"""Fractal dimensions, multifractal spectrum and lacunarity of a mask.

The sandbox method (Tel, Fulop, Vicsek 1989; for retinal vessels Stosic and Stosic 2006):
how much of the mask M(r) lies in the box of side r round a pixel of it, averaged over
pixels. Every pixel is the middle of a box, so there is no grid to place or to turn; box
counting takes its value from where the grid happens to lie, and picking the best grid biases it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fovea.scale import Mask
from fovea_plugins.biomarkers.rectangle import smallest_rectangle
from fovea_plugins.biomarkers.sample import sample

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

SIZES = 12
SMALLEST_SHARE, LARGEST_SHARE = 0.014, 0.35
"""Box sides as shares of the extent. Smaller boxes see the inside of a vessel, larger ones
hardly fit between the ends of the tree."""

LEAST_EXTENT_PX = 50.0
"""A smaller mask has no decade of box sizes."""

CENTRES = 10_000
"""Boxes of one size: a fixed random sample of the mask's pixels where it has more."""

BLOCK = 2_000
"""Centres that are looked at together."""

LEAST_CENTRES = 100
"""Fewer boxes of a size have no distribution to speak of."""

MOMENTS = np.arange(-10.0, 11.0)

LACUNARITY_SHARES = (0.02, 0.04, 0.08, 0.16)


@dataclass(frozen=True)
class Multifractal:
    """Generalised dimensions of a mask.

    Attributes:
        d0, d1, d2: Capacity, information and correlation dimension.
        alpha, f: The spectrum f(alpha) at the moments q = -10 to 10.
        singularity_length: Width of the spectrum, largest less smallest alpha; 0 for one
            scaling law.
        centres: Least number of boxes of a size.
    """

    d0: float
    d1: float
    d2: float
    alpha: tuple[float, ...]
    f: tuple[float, ...]
    singularity_length: float
    centres: int


def extent(total: NDArray[np.int32]) -> float:
    """Side of the filled square with the mask's moment of inertia: 0 for one pixel.

    It turns and scales with the mask and hardly notices a stray pixel or the picture's size.

    Args:
        total: (H + 1, W + 1) integral of the mask, which is not empty.
    """
    sums = np.diff(total[-1]), np.diff(total[:, -1])
    return float(np.sqrt(6.0 * sum(_variance(part) for part in sums)))


class Sandbox:
    """How much of a mask lies in boxes of many sizes round its pixels: counted once.

    A box counts only where it fits between the ends of the mask: beyond them it would find
    nothing and lower the dimension.

    Args:
        mask: (H, W).

    Attributes:
        centres: (N, 2) x, y of the middles of the boxes.
        total: (H + 1, W + 1) integral of the mask.
    """

    def __init__(self, mask: Mask) -> None:
        self.centres: Indices = np.empty((0, 2), np.int64)
        self.total = integral(mask)
        size = extent(self.total) if self.total[-1, -1] else 0.0
        if size < LEAST_EXTENT_PX:
            return
        self._exact = np.log(np.geomspace(SMALLEST_SHARE * size, LARGEST_SHARE * size, SIZES))
        self._sides, self.centres = box_sides(size), _centres(mask)
        self._inner = _inner_distance(mask, self.centres, float(self._sides[-1]))

    def spectra(self, inside: NDArray[np.bool_]) -> list[Multifractal | None]:
        """The dimensions of the mask as seen from its pixels in each region.

        (q - 1) D_q is the slope of log mean M(r)^(q-1) on log r, D_1 that of mean log M(r);
        alpha = d((q - 1) D_q) / dq, f = q alpha - (q - 1) D_q. Unweighted least squares over
        box sides from 1.4 % to 35 % of the extent.

        Args:
            inside: (N, R) which centres lie in which region. Boxes reach beyond it. None is
                given for a region with few boxes.
        """
        if not len(self.centres):
            return [None] * inside.shape[1]
        counts, logs, powers, weighted = [], [], [], []
        for side in self._sides.tolist():
            log_mass = np.log(_masses(self.total, self.centres, side))
            fits = inside & (self._inner >= side / 2.0)[:, None]
            found = fits.sum(axis=0).astype(np.float64)
            count = np.maximum(found, 1.0)
            typical = log_mass.mean()
            mean_log, total, mean = _sums(log_mass, typical, fits)
            total = np.maximum(total, np.finfo(float).tiny)
            counts.append(found)
            logs.append(mean_log / count)
            powers.append(np.log(total / count) + ((MOMENTS - 1.0) * typical)[:, None])
            weighted.append(mean / total)
        d1 = self._slopes(np.array(logs))
        tau, alpha = (
            self._slopes(np.array(values).reshape(len(self._sides), -1)).reshape(len(MOMENTS), -1)
            for values in (powers, weighted)
        )
        least = np.min(counts, axis=0)
        return [
            _multifractal(tau[:, k], alpha[:, k], float(d1[k]), int(least[k]))
            for k in range(inside.shape[1])
        ]

    def _slopes(self, values: Floats) -> Floats:
        """Slopes of the columns of values (K, M), brought from odd to evenly spaced sides."""
        known = np.log(self._sides)
        above = np.clip(np.searchsorted(known, self._exact), 1, len(known) - 1)
        share = (self._exact - known[above - 1]) / (known[above] - known[above - 1])
        between = values[above - 1] + share[:, None] * (values[above] - values[above - 1])
        return _slopes(self._exact, between)


def multifractal(mask: Mask) -> Multifractal | None:
    """The dimensions of a whole mask (H, W); None where it is too small for a scaling law."""
    sandbox = Sandbox(mask)
    return sandbox.spectra(np.ones((len(sandbox.centres), 1), bool))[0]


def _sums(
    log_mass: Floats, typical: float, fits: NDArray[np.bool_]
) -> tuple[Floats, Floats, Floats]:
    """Over the centres of each region: log mass (R,), its moments (Q, R), moments times it.

    Block by block: all moments of all centres at once would be most of the memory.
    """
    moments, regions = len(MOMENTS), fits.shape[1]
    logs, total, mean = (
        np.zeros(regions),
        np.zeros((moments, regions)),
        np.zeros((moments, regions)),
    )
    for start in range(0, len(log_mass), BLOCK):
        part = log_mass[start : start + BLOCK]
        weights = fits[start : start + BLOCK].astype(np.float64)
        mass = _powers(np.exp(part - typical))
        logs += part @ weights
        total += mass @ weights
        mean += np.multiply(mass, part, out=mass) @ weights
    return logs, total, mean


def _powers(ratio: Floats) -> Floats:
    """(Q, N) ratio to the powers q - 1 of the moments, by multiplication."""
    powers = np.empty((len(MOMENTS), len(ratio)))
    powers[0] = ratio ** (MOMENTS[0] - 1.0)
    for k in range(1, len(MOMENTS)):
        np.multiply(powers[k - 1], ratio, out=powers[k])
    return powers


def _multifractal(tau: Floats, alpha: Floats, d1: float, centres: int) -> Multifractal | None:
    if centres < LEAST_CENTRES:
        return None
    zero, two = (int(np.flatnonzero(q == MOMENTS)[0]) for q in (0.0, 2.0))
    return Multifractal(
        d0=float(-tau[zero]),
        d1=d1,
        d2=float(tau[two]),
        alpha=tuple(alpha.tolist()),
        f=tuple((MOMENTS * alpha - tau).tolist()),
        singularity_length=float(alpha.max() - alpha.min()),
        centres=centres,
    )


def box_sides(size: float) -> Indices:
    """The odd box sides next to `SIZES` ones that are evenly spaced in their logarithm.

    Only an odd box has a middle pixel. Values are interpolated between the two: rounding
    would move the small boxes by a third, and dimensions with the picture's size.
    """
    sides = np.geomspace(SMALLEST_SHARE * size, LARGEST_SHARE * size, SIZES)
    below = np.maximum(2 * np.floor((sides - 1.0) / 2.0).astype(np.int64) + 1, 1)
    return np.unique(np.concatenate([below, below + 2]))


class Boxes(NamedTuple):
    """Where gliding boxes fit into a region.

    Attributes:
        rows, columns: The rectangle round the region.
        sides, steps: Of the boxes in pixels, and by how much they are moved.
        fits: For each side, which boxes lie in the region.
    """

    rows: slice
    columns: slice
    sides: tuple[int, ...]
    steps: tuple[int, ...]
    fits: tuple[NDArray[np.bool_], ...]


def boxes_inside(region: Mask) -> Boxes:
    """The boxes of the lacunarity in a region (H, W) that is not empty.

    Their sides are 2, 4, 8 and 16 % of the region's extent; they are moved by a quarter of it.
    """
    spans = []
    for axis in (1, 0):
        places = np.flatnonzero(region.any(axis=axis))
        spans.append(slice(int(places[0]), int(places[-1]) + 1))
    own = np.ascontiguousarray(region[spans[0], spans[1]])
    room = integral(own)
    size = extent(room)
    sides = tuple(max(round(share * size), 2) for share in LACUNARITY_SHARES)
    steps = tuple(max(side // 4, 1) for side in sides)
    fits = tuple(
        _gliding(room, side, step) == side * side for side, step in zip(sides, steps, strict=True)
    )
    return Boxes(spans[0], spans[1], sides, steps, fits)


def lacunarity(total: NDArray[np.int32], boxes: Boxes) -> float | None:
    """Mean over box sizes of E[M^2] / E[M]^2 (Allain and Cloitre 1991): 1 is evenly filled.

    Args:
        total: (H + 1, W + 1) integral of the mask.
        boxes: Those of a region; None is given where boxes of some size do not fit or are empty.
    """
    own = total[
        boxes.rows.start : boxes.rows.stop + 1, boxes.columns.start : boxes.columns.stop + 1
    ]
    values = []
    for side, step, fits in zip(boxes.sides, boxes.steps, boxes.fits, strict=True):
        mass = _gliding(own, side, step)[fits].astype(np.float64)
        if not mass.any():
            return None
        mean = mass.mean()
        values.append(float(np.square(mass, out=mass).mean() / mean**2))
    return float(np.mean(values))


def grid_dimensions(mask: Mask, sides: Indices) -> tuple[float, float, float]:
    """D0, D1, D2 by box counting on one grid from the top left corner, for comparison.

    What most toolboxes give (PVBM with one rotation takes 20 sides from 5 pixels to 60 % of
    the shorter side). Boxes at the right and lower border may be partly outside. Not used for
    the measures: one grid reads a Sierpinski triangle 0.05 too high, a line 0.05 too low.

    Args:
        mask: (H, W), not empty.
        sides: Box sides in pixels, two different ones at least.
    """
    rows = []
    for side in sides.tolist():
        height, width = (-(-length // side) * side for length in mask.shape)
        padded = np.zeros((height, width), np.uint8)
        padded[: mask.shape[0], : mask.shape[1]] = mask
        blocks = padded.reshape(height // side, side, width // side, side)
        counts = blocks.sum(axis=(1, 3), dtype=np.float64).ravel()
        share = counts[counts > 0] / counts.sum()
        rows.append((np.log(len(share)), -(share * np.log(share)).sum(), -np.log((share**2).sum())))
    d0, d1, d2 = _slopes(-np.log(sides), np.array(rows))
    return float(d0), float(d1), float(d2)


def _variance(weights: NDArray[np.int32]) -> float:
    places = np.arange(len(weights))
    mean = float(np.average(places, weights=weights))
    return float(np.average((places - mean) ** 2, weights=weights))


def _centres(mask: Mask) -> Indices:
    flat = np.flatnonzero(mask)
    if len(flat) > CENTRES:
        # Not every n-th pixel: that could keep step with a regular pattern.
        flat = flat[sample(len(flat), CENTRES)]
    return np.column_stack([flat % mask.shape[1], flat // mask.shape[1]])


def _inner_distance(mask: Mask, centres: Indices, largest: float) -> Floats:
    """How large half a box round each centre may be before it leaves the mask's extent.

    The extent is the smallest rectangle, at any angle, round the mask. A direction
    in which the mask is narrower than two of the largest boxes is not looked at: a line has
    no sides.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    outer = np.concatenate([np.column_stack([first, rows]), np.column_stack([last, rows])])
    room = np.full(len(centres), np.inf)
    for axis, low, high in smallest_rectangle(outer):
        if high - low + 1.0 >= 2.0 * largest:
            offset = np.abs(centres @ axis - (low + high) / 2.0)
            room = np.minimum(room, (high - low + 1.0) / 2.0 - offset)
    return room


def integral(mask: Mask) -> NDArray[np.int32]:
    """(H + 1, W + 1) pixels of a mask (H, W) above and to the left of each corner."""
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int32)
    for row, values in enumerate(mask.view(np.uint8)):
        np.add(total[row, 1:], values, out=total[row + 1, 1:])
    return np.cumsum(total, axis=1, dtype=np.int32, out=total)


def _masses(total: NDArray[np.int32], centres: Indices, side: int) -> Floats:
    """Mask pixels in the box of an odd side round each centre."""
    half = side // 2
    left, right = (
        np.clip(centres[:, 0] + reach, 0, total.shape[1] - 1) for reach in (-half, half + 1)
    )
    top, bottom = (
        np.clip(centres[:, 1] + reach, 0, total.shape[0] - 1) for reach in (-half, half + 1)
    )
    mass = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return mass.astype(np.float64)


def _gliding(total: NDArray[np.int32], side: int, step: int) -> NDArray[np.int32]:
    upper, lower = total[:-side:step], total[side::step]
    mass = lower[:, side::step] - lower[:, :-side:step]
    mass -= upper[:, side::step]
    mass += upper[:, :-side:step]
    return mass


def _slopes(x: Floats, values: Floats) -> Floats:
    """Least-squares slopes of the columns of values (N, K) on x (N,)."""
    centred = x - x.mean()
    return np.asarray(centred @ values / (centred @ centred))
