"""The smallest rectangle round points, at any angle."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def smallest_rectangle(points: Indices) -> tuple[tuple[Floats, float, float], ...]:
    """Its two axes, each a unit vector with the least and the greatest place along it.

    One of its sides lies along a side of the convex hull (Freeman and Shapira, Commun ACM
    1975;18:409-413), so all of these are tried; of equal ones the nearest to a square is taken.

    Args:
        points: (N, 2) x, y, of which at least two differ.
    """
    hull = _hull(np.unique(points, axis=0)).astype(np.float64)
    along = np.roll(hull, -1, axis=0) - hull
    along /= np.hypot(*along.T)[:, None]
    across = np.column_stack([-along[:, 1], along[:, 0]])
    spans = [(hull @ axes.T, axes) for axes in (along, across)]
    sizes = np.array([np.ptp(places, axis=0) for places, _ in spans])
    areas = np.prod(sizes, axis=0)
    smallest = areas <= areas.min() * (1.0 + 1e-9)
    best = int(np.argmax(np.where(smallest, sizes.min(axis=0), -1.0)))
    return tuple(
        (axes[best], float(places[:, best].min()), float(places[:, best].max()))
        for places, axes in spans
    )


def _hull(points: Indices) -> Indices:
    """The corners of the convex hull of sorted points, by Andrew's monotone chain."""
    corners: list[tuple[int, int]] = []
    for part in (points, points[::-1]):
        chain: list[tuple[int, int]] = []
        for x, y in part.tolist():
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2], chain[-1]
                if (bx - ax) * (y - ay) > (by - ay) * (x - ax):
                    break
                chain.pop()
            chain.append((x, y))
        corners += chain[:-1]
    return np.array(corners)
