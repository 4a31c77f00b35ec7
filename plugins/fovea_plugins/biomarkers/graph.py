"""The vessel tree as a graph: centreline segments between ends and junctions.

Built once per mask; every measurement of length, shape or width reads from it.
Coordinates are (x, y) in pixels of the mask, pixel centres at whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, map_coordinates
from skimage.morphology import skeletonize

from fovea.image import Mask

Points = NDArray[np.float64]

SMOOTHING_PX = 3.0
"""Gaussian along the path. A chain of pixel steps overstates length by up to 8 %; this takes
the staircase out and leaves half circles of 30 px radius within 1 %."""

WIDTH_STEP_PX = 0.25
_EIGHT = ((-1, -1), (0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0))


@dataclass(frozen=True)
class Segment:
    """One vessel segment between two nodes.

    Attributes:
        path: (N, 2) smoothed centreline, ends fixed.
        widths: (N,) vessel width in pixels, across the path.
        start, end: Indices into `VesselGraph.nodes`; equal for a closed loop.
    """

    path: Points
    widths: NDArray[np.float64]
    start: int
    end: int

    @cached_property
    def arc(self) -> float:
        """Length along the path in pixels."""
        return float(np.hypot(*np.diff(self.path, axis=0).T).sum())

    @cached_property
    def chord(self) -> float:
        """Straight distance between the ends in pixels."""
        return float(np.hypot(*(self.path[-1] - self.path[0])))


@dataclass(frozen=True)
class VesselGraph:
    """All segments, with the nodes (M, 2) that they share and how many ends meet in each."""

    segments: tuple[Segment, ...]
    nodes: Points
    degrees: NDArray[np.int64]

    @property
    def length(self) -> float:
        """Total centreline length in pixels."""
        return sum(segment.arc for segment in self.segments)


def vessel_graph(mask: Mask) -> VesselGraph:
    """The graph of a vessel mask (H, W).

    Side branches shorter than the vessel they sit on is wide are spurs of the
    thinning, not vessels, and are left out.
    """
    if not mask.any():
        return VesselGraph((), np.empty((0, 2)), np.empty(0, np.int64))
    padded = np.pad(mask, 1)
    radius = cv2.distanceTransform(padded.astype(np.uint8), cv2.DIST_L2, 5)
    skeleton = _thinned(skeletonize(padded))
    chains = _Chains(skeleton)
    for spur in chains.spurs(radius):
        skeleton[spur[:, 1], spur[:, 0]] = False
    chains = _Chains(_thinned(skeleton))
    paths = [_smoothed(path) for path in chains.paths]
    widths = _widths(padded, paths, radius)
    segments = tuple(
        Segment(path - 1.0, width, start, end)
        for path, width, (start, end) in zip(paths, widths, chains.ends, strict=True)
    )
    return VesselGraph(segments, np.array(chains.nodes).reshape(-1, 2) - 1.0, chains.degrees)


class _Chains:
    """Ordered pixel chains of a skeleton: what is left between its junctions."""

    def __init__(self, skeleton: Mask) -> None:
        crossing = skeleton & (_neighbour_count(skeleton) >= 3)
        count, self._cluster, _, centres = cv2.connectedComponentsWithStats(
            crossing.astype(np.uint8), connectivity=8
        )
        self.nodes: list[Any] = list(centres[1:count])
        self.cores: list[NDArray[np.int64]] = []
        self.paths: list[Points] = []
        self.ends: list[tuple[int, int]] = []
        for core, closed in _walks(skeleton & ~crossing):
            self._add(core, closed)

    @property
    def degrees(self) -> NDArray[np.int64]:
        """How many chain ends meet in each node."""
        flat = np.array(self.ends, np.int64).ravel()
        return np.bincount(flat, minlength=len(self.nodes))

    def spurs(self, radius: NDArray[np.float32]) -> list[NDArray[np.int64]]:
        """Chains with one free end, shorter than the width of the vessel they leave."""
        degrees = self.degrees
        found = []
        for core, path, (start, end) in zip(self.cores, self.paths, self.ends, strict=True):
            free = (degrees[start] == 1, degrees[end] == 1)
            if free[0] == free[1]:
                continue
            x, y = path[-1 if free[0] else 0].astype(int)
            if len(core) < 2.0 * radius[y, x]:
                found.append(core)
        return found

    def _add(self, core: NDArray[np.int64], closed: bool) -> None:
        if closed:
            self.nodes.append(core[0].astype(float))
            start = end = len(self.nodes) - 1
            path = np.concatenate([core, core[:1]])
        else:
            first, start = self._joint(core[0], None)
            last, end = self._joint(core[-1], first if len(core) == 1 else None)
            path = np.concatenate([part for part in (first, core, last) if part is not None])
        self.cores.append(core)
        self.paths.append(path.astype(np.float64))
        self.ends.append((start, end))

    def _joint(self, pixel: Any, taken: Any) -> tuple[NDArray[np.int64] | None, int]:
        """The junction pixel (1, 2) beside a chain's end, or None, with the node's index."""
        for dx, dy in sorted(_EIGHT, key=lambda step: abs(step[0]) + abs(step[1])):
            x, y = int(pixel[0]) + dx, int(pixel[1]) + dy
            label = int(self._cluster[y, x])
            if label and not (taken is not None and (x, y) == tuple(taken[0])):
                return np.array([[x, y]]), label - 1
        self.nodes.append(np.asarray(pixel, float))
        return None, len(self.nodes) - 1


def _neighbour_count(skeleton: Mask) -> NDArray[np.uint8]:
    kernel = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], np.uint8)
    count = cv2.filter2D(skeleton.astype(np.uint8), -1, kernel, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(count, np.uint8)


def _thinned(skeleton: Mask) -> Mask:
    """The skeleton without corner pixels, so that three neighbours do mean a junction.

    Deletes pixels whose removal keeps the eight-connectivity (Yokoi's number is 1)
    and that are no ends. Pixels of one of the four sub-grids never touch.
    """
    thin = skeleton.copy()
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        ring = [np.roll(thin, (-dy, -dx), (0, 1)) for dx, dy in _EIGHT]
        empty = [~side for side in ring]
        yokoi = sum(
            (empty[k] & ~(empty[k] & empty[k + 1] & empty[(k + 2) % 8])).astype(np.int8)
            for k in (1, 3, 5, -1)
        )
        removable = thin & (yokoi == 1) & (_neighbour_count(thin) >= 2)
        thin[row::2, column::2] &= ~removable[row::2, column::2]
    return thin


def _walks(lines: Mask) -> list[tuple[NDArray[np.int64], bool]]:
    """Pixels (N, 2) of each unbranched line in order, and whether it is closed."""
    rows, columns = np.nonzero(lines)
    points = np.column_stack([columns, rows]).astype(np.int64)
    index = np.full(lines.shape, -1, np.int64)
    index[rows, columns] = np.arange(len(points))
    beside = np.stack([index[rows + dy, columns + dx] for dx, dy in _EIGHT], axis=1)
    neighbours = [[j for j in row if j >= 0] for row in beside.tolist()]
    seen = np.zeros(len(points), bool)
    ends_first = sorted(range(len(points)), key=lambda i: len(neighbours[i]) > 1)
    walks = []
    for start in ends_first:
        if seen[start]:
            continue
        order, here = [], start
        while here >= 0:
            seen[here] = True
            order.append(here)
            here = next((j for j in neighbours[here] if not seen[j]), -1)
        walks.append((points[order], len(neighbours[start]) > 1))
    return walks


def _smoothed(path: Points) -> Points:
    """The path after a Gaussian, with its ends where they were."""
    if len(path) < 3:
        return path
    # Point reflection at the ends keeps both the ends and a straight line unmoved.
    reach = min(len(path) - 1, int(4 * SMOOTHING_PX))
    before = 2.0 * path[0] - path[reach:0:-1]
    after = 2.0 * path[-1] - path[-2 : -reach - 2 : -1]
    longer = np.concatenate([before, path, after])
    smooth = gaussian_filter1d(longer, SMOOTHING_PX, axis=0, mode="nearest")
    return np.asarray(smooth[reach : reach + len(path)])


def _widths(
    mask: Mask, paths: list[Points], radius: NDArray[np.float32]
) -> list[NDArray[np.float64]]:
    """The vessel width at each point: the run of mask along the normal, to a fraction of a pixel.

    The mask is interpolated and cut at one half, which puts the edge of a bar where
    it is; stepping from pixel to pixel reads one pixel too few.
    """
    if not paths:
        return []
    points = np.concatenate(paths)
    tangent = np.concatenate([np.gradient(p, axis=0) if len(p) > 1 else p * 0 for p in paths])
    size = np.maximum(np.hypot(*tangent.T), 1e-9)
    normal = np.column_stack([-tangent[:, 1], tangent[:, 0]]) / size[:, None]
    reach = 1.5 * float(radius.max()) + 2.0
    steps = np.arange(0.0, reach, WIDTH_STEP_PX)
    values = mask.astype(np.float32)
    total = np.zeros(len(points))
    for sign in (-1.0, 1.0):
        x = points[:, 0, None] + sign * steps * normal[:, 0, None]
        y = points[:, 1, None] + sign * steps * normal[:, 1, None]
        inside = map_coordinates(values, [y, x], order=1) >= 0.5
        run = np.where(inside.all(axis=1), len(steps), np.argmin(inside, axis=1))
        # The edge lies between the last sample inside and the first outside.
        total += np.maximum(run - 0.5, 0.0) * WIDTH_STEP_PX
    return np.split(total, np.cumsum([len(p) for p in paths])[:-1])
