"""Pixel chains of a skeleton: what lies between its junctions, without spurs.

Only the skeleton's pixels are looked at, as sorted flat indices into the picture, so the
work grows with the length of the vessels and not with the size of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Points = NDArray[np.float64]

LOOP_WIDTHS = 4.0
"""A loop shorter than this runs round a hole smaller than the vessel."""


@dataclass(frozen=True)
class Chain:
    """A line of skeleton pixels.

    Attributes:
        pixels: Indices into `Skeleton.flat`, in order, junction pixels left out.
        start, end: Junctions at its ends, -1 for a free end.
        closed: A ring without any junction.
    """

    pixels: list[int]
    start: int
    end: int
    closed: bool

    @property
    def free_ends(self) -> int:
        """How many of its ends lead nowhere: 0, 1 or 2."""
        return 0 if self.closed else (self.start < 0) + (self.end < 0)


@dataclass(frozen=True)
class Skeleton:
    """Skeleton pixels with their chains.

    Attributes:
        flat: (N,) sorted flat indices of the pixels.
        depths: (N,) their distance to the background.
        points: (N, 2) x, y of the pixels.
        chains: The lines between junctions.
        junctions: (J, 2) x, y of the junctions, each the centre of its pixels.
        radii: (J,) largest distance to the background on each junction's pixels.
    """

    flat: Indices
    depths: NDArray[np.float32]
    points: Points
    chains: list[Chain]
    junctions: Points
    radii: NDArray[np.float64]


def pruned_skeleton(flat: Indices, stride: int, depths: NDArray[np.float32]) -> Skeleton:
    """The chains of a skeleton without spurs, specks and loops round pinholes.

    Args:
        flat: Sorted flat indices of the skeleton's pixels; none on the picture's border.
        stride: Width of the picture in pixels.
        depths: Distance of these pixels to the background.
    """
    while True:
        skeleton = _traced(flat, stride, depths)
        dead = [
            pixel
            for chain in skeleton.chains
            if _is_artefact(chain, skeleton)
            for pixel in chain.pixels
        ]
        if not dead:
            return skeleton
        flat, depths = np.delete(flat, dead), np.delete(depths, dead)


def _is_artefact(chain: Chain, skeleton: Skeleton) -> bool:
    points = skeleton.points[[chain.pixels[0], chain.pixels[-1]]]
    if chain.free_ends == 1:
        node = max(chain.start, chain.end)
        tip = points[0] if chain.start < 0 else points[1]
        # Not longer than the vessel it leaves is wide (and a pixel): a spur of the thinning,
        # whose tip has hardly come out of the wall.
        reach = float(np.hypot(*(tip - skeleton.junctions[node])))
        return reach < 2.0 * float(skeleton.radii[node])
    if chain.free_ends == 2:
        # Not longer than wide: a speck, not a vessel.
        widest = float(skeleton.depths[chain.pixels].max())
        return len(chain.pixels) < 2 or float(np.hypot(*(points[1] - points[0]))) < _width(widest)
    if chain.closed or chain.start == chain.end:
        radius = float(np.median(skeleton.depths[chain.pixels]))
        return len(chain.pixels) < LOOP_WIDTHS * _width(radius)
    return False


def _width(radius: float) -> float:
    """The width of a vessel whose centre pixel is this far from the background's pixels."""
    return 2.0 * radius - 1.0


def _traced(flat: Indices, stride: int, depths: NDArray[np.float32]) -> Skeleton:
    links = _links(flat, stride)
    count = len(flat)
    degree = np.bincount(links.ravel(), minlength=count)
    junction = _junction_of(links, degree)
    points = np.column_stack([flat % stride, flat // stride]).astype(np.float64)
    inner = np.flatnonzero(junction >= 0)
    label = junction[inner]
    total = int(label.max(initial=-1)) + 1
    size = np.maximum(np.bincount(label, minlength=total), 1)
    centres = [np.bincount(label, points[inner, axis], minlength=total) / size for axis in (0, 1)]
    radii = np.zeros(total)
    np.maximum.at(radii, label, depths[inner])
    chains = _walks(links, degree, junction)
    return Skeleton(flat, depths, points, chains, np.column_stack(centres), radii)


def _links(flat: Indices, stride: int) -> Indices:
    """Pairs (M, 2) of neighbouring pixels, each once.

    A diagonal step is left out where a pixel beside both makes it a corner, so
    that three links do mean a junction.
    """

    def neighbour(step: int) -> Indices:
        wanted = flat + step
        place = np.minimum(np.searchsorted(flat, wanted), len(flat) - 1)
        return np.where(flat[place] == wanted, place, -1)

    if not len(flat):
        return np.empty((0, 2), np.int64)
    left, right, below = neighbour(-1), neighbour(1), neighbour(stride)
    below_right, below_left = neighbour(stride + 1), neighbour(stride - 1)
    below_right[(right >= 0) | (below >= 0)] = -1
    below_left[(left >= 0) | (below >= 0)] = -1
    pairs = [
        np.column_stack([np.flatnonzero(other >= 0), other[other >= 0]])
        for other in (right, below, below_right, below_left)
    ]
    return np.concatenate(pairs)


def _junction_of(links: Indices, degree: Indices) -> Indices:
    """The junction of each pixel, -1 elsewhere; touching junction pixels are one junction."""
    junction = np.full(len(degree), -1, np.int64)
    member = np.flatnonzero(degree >= 3)
    junction[member] = np.arange(len(member))
    first, second = junction[links[(junction[links] >= 0).all(axis=1)]].T
    # Each takes the lowest number that it touches: a junction is a few pixels across.
    lowest, before = np.arange(len(member)), None
    while before is None or (lowest != before).any():
        before = lowest.copy()
        np.minimum.at(lowest, first, before[second])
        np.minimum.at(lowest, second, before[first])
    junction[member] = np.unique(lowest, return_inverse=True)[1]
    return junction


def _walks(links: Indices, degree: Indices, junction: Indices) -> list[Chain]:
    """The chains, each walked from one of its ends."""
    count = len(degree)
    both = np.concatenate([links, links[:, ::-1]])
    other = both[np.argsort(both[:, 0], kind="stable"), 1]
    first = np.concatenate([[0], np.cumsum(degree)[:-1]]) if count else degree
    other = np.append(other, [-1, -1])
    one = np.where(degree >= 1, other[first], -1)
    two = np.where(degree == 2, other[first + 1], -1)
    line = junction < 0
    at_one = (one < 0) | (junction[one] >= 0)
    at_two = (two < 0) | (junction[two] >= 0)
    starts = np.flatnonzero(line & (at_one | at_two))
    rings = np.flatnonzero(line & ~(at_one | at_two))
    nexts, befores, nodes = one.tolist(), two.tolist(), [*junction.tolist(), -1]
    from_one = at_one.tolist()
    done = [node >= 0 for node in nodes]
    done[-1] = True
    chains = []
    for start in (*starts.tolist(), *rings.tolist()):
        if done[start]:
            continue
        before = nexts[start] if from_one[start] else befores[start]
        closed = nodes[before] < 0 <= before
        pixels: list[int] = []
        here, origin, take = start, nodes[before], pixels.append
        while not done[here]:
            done[here] = True
            take(here)
            ahead = nexts[here]
            if ahead == before:
                ahead = befores[here]
            before, here = here, ahead
        chains.append(Chain(pixels, origin, -1 if closed else nodes[here], closed))
    return chains
