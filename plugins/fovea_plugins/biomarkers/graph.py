"""The vessel tree as a graph: centreline segments between ends and junctions.

Built once per mask; every measure of length, shape, width or branching reads from it.
Coordinates are (x, y) in pixels of the mask, pixel centres at whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fovea.scale import Mask
from fovea_plugins.biomarkers.borders import Borders, borders
from fovea_plugins.biomarkers.chains import Skeleton, pruned_skeleton
from fovea_plugins.biomarkers.depths import Depths
from fovea_plugins.biomarkers.frame import canonical_frame
from fovea_plugins.biomarkers.paths import (
    LEAST_WINDOW_PX,
    LEAST_WINDOW_SHARE,
    SMOOTHING_WIDTHS,
    Floats,
    Indices,
    Lines,
    Smoother,
    directions,
    filled,
    scattered,
)
from fovea_plugins.biomarkers.profiles import Corners
from fovea_plugins.biomarkers.thinning import thinned

RECENTRING_PX = 1.0
"""Thinning leaves the middle of an even width by half a pixel, of a ragged edge by one."""

TIP_SHARE = 0.25
"""A free end is put this share of a width before the tip: within a quarter of the width for
a vessel that is cut straight (whose middle line reaches the tip) and for a rounded one
(whose medial axis ends half a width before it)."""


@dataclass(frozen=True)
class Segment:
    """One vessel segment between two nodes.

    Attributes:
        path: (N, 2) smooth centreline.
        widths: (N,) vessel width in pixels, across the path.
        start, end: Indices into `VesselGraph.nodes`; equal for a closed loop.
    """

    path: Floats
    widths: Floats
    start: int
    end: int


@dataclass(frozen=True)
class VesselGraph:
    """All segments end to end in flat arrays, with the nodes that they share.

    Attributes:
        lines: Centrelines of the S segments, P points in all.
        widths: (P,) vessel width in pixels at each point, across the path.
        clear: (P,) false within half a width of a node, where a width means little.
        ends: (S, 2) node at the start and at the end of each segment.
        nodes: (M, 2) x, y of junctions, free ends and, for rings, one point of them.
        radii: (M,) half the vessel width at each node in pixels.
        field_px: Diameter of the field, by which shapes are brought to one resolution; 0
            where it is not known.
    """

    lines: Lines
    widths: Floats
    clear: NDArray[np.bool_]
    ends: Indices
    nodes: Floats
    radii: Floats
    field_px: float = 0.0

    @cached_property
    def steps(self) -> Floats:
        """(P,) length of the path from the point before; 0 at the start of a segment."""
        step = np.zeros(len(self.lines.points))
        step[1:] = np.hypot(*np.diff(self.lines.points, axis=0).T)
        step[self.lines.first[:-1]] = 0.0
        return step

    @cached_property
    def along(self) -> Floats:
        """(P,) length of the path from the start of the segment."""
        total = np.cumsum(self.steps)
        return np.asarray(total - np.repeat(total[self.lines.first[:-1]], self.lines.lengths))

    @cached_property
    def arcs(self) -> Floats:
        """(S,) length of each segment along its path."""
        return np.asarray(self.along[self.lines.first[1:] - 1])

    @cached_property
    def chords(self) -> Floats:
        """(S,) straight distance between the ends of each segment."""
        points, first = self.lines.points, self.lines.first
        return np.asarray(np.hypot(*(points[first[1:] - 1] - points[first[:-1]]).T))

    @cached_property
    def calibres(self) -> Floats:
        """(S,) mean width of each segment over its clear part; NaN where it has none."""
        weight = np.where(self.clear, 1.0, 0.0)
        count = len(self.ends)
        owner = self.lines.owner
        total = np.bincount(owner, weight * self.widths, minlength=count)
        size = np.bincount(owner, weight, minlength=count)
        return np.where(size > 0, total / np.maximum(size, 1.0), np.nan)

    @cached_property
    def ruler(self) -> Floats:
        """(P,) `along`, one segment after the other on one scale, with a gap of 1 between."""
        offset = np.cumsum(self.arcs + 1.0) - (self.arcs + 1.0)
        return np.asarray(self.along + np.repeat(offset, self.lines.lengths))

    def at(self, places: Floats) -> Floats:
        """Points (N, 2) of the paths at places (N,) of the ruler."""
        if not len(self.ends):
            return np.empty((*places.shape, 2))
        x, y = (np.interp(places, self.ruler, self.lines.points[:, axis]) for axis in (0, 1))
        return np.stack([x, y], axis=-1)

    @property
    def length(self) -> float:
        """Total centreline length in pixels."""
        return float(self.arcs.sum())

    @property
    def degrees(self) -> Indices:
        """(M,) how many segment ends meet in each node."""
        return np.bincount(self.ends.ravel(), minlength=len(self.nodes))

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments one by one."""
        spans = zip(self.lines.first[:-1].tolist(), self.lines.first[1:].tolist(), strict=True)
        return tuple(
            Segment(self.lines.points[a:b], self.widths[a:b], int(start), int(end))
            for (a, b), (start, end) in zip(spans, self.ends, strict=True)
        )


EMPTY = VesselGraph(
    Lines(np.empty((0, 2)), np.zeros(1, np.int64), np.empty(0, bool)),
    np.empty(0),
    np.empty(0, bool),
    np.empty((0, 2), np.int64),
    np.empty((0, 2)),
    np.empty(0),
)


def vessel_graph(mask: Mask, field_px: float = 0.0) -> VesselGraph:
    """The graph of a vessel mask (H, W) bool.

    Side branches shorter than the vessel they leave is wide are spurs of the thinning,
    not vessels, and are left out, as are specks and holes smaller than a vessel. The
    graph of a mirrored or quarter-turned mask is the mirrored or turned graph.

    Args:
        mask: (H, W).
        field_px: Diameter of the field of view in pixels, 0 where it is not known.
    """
    if not mask.any():
        return EMPTY
    frame = canonical_frame(mask)
    graph = upright_graph(borders(frame.of(mask)), field_px)
    lines = Lines(frame.back(graph.lines.points), graph.lines.first, graph.lines.closed)
    return replace(graph, lines=lines, nodes=frame.back(graph.nodes))


def upright_graph(found: Borders, field_px: float) -> VesselGraph:
    """The graph of a mask with these borders, in its orientation: see `vessel_graph`."""
    mask = without_pinholes(found)
    depths = Depths(mask)
    flat = np.flatnonzero(thinned(mask))
    skeleton = pruned_skeleton(flat, mask.shape[1], depths.at(flat))
    if not skeleton.chains:
        return EMPTY
    junctions = len(skeleton.junctions)
    lines, ends, nodes, radii, windows = _raw_lines(skeleton)
    windows = np.maximum(windows, round(LEAST_WINDOW_SHARE * field_px))
    smooth = Smoother(lines, windows)
    points = smooth(lines.points)
    lines = Lines(points, lines.first, lines.closed)
    x, y = np.rint(points).astype(np.int64).T
    near = depths.at(y * mask.shape[1] + x).astype(np.float64)
    del depths, skeleton, flat  # the largest arrays, and not needed any more
    tangents = directions(lines)
    normals = np.column_stack([-tangents[:, 1], tangents[:, 0]])
    corners = Corners(mask)
    sides = corners.half_widths(scattered(lines), normals, near)
    clear = _clear(points, lines, nodes, radii, ends)
    sides = smooth.averaged(filled(sides, clear, lines))
    offset = np.clip((sides[:, 1] - sides[:, 0]) / 2.0, -RECENTRING_PX, RECENTRING_PX)
    points = points + normals * offset[:, None]
    points = smooth(points)
    lines = Lines(points, lines.first, lines.closed)
    nodes = _to_the_tips(lines, ends, nodes, junctions, corners, radii)
    # Pixels of the padded mask become pixels of the mask.
    moved = Lines(points - 1.0, lines.first, lines.closed)
    return VesselGraph(moved, sides.sum(axis=1), clear, ends, nodes - 1.0, radii, field_px)


def without_pinholes(found: Borders) -> Mask:
    """The padded mask without holes of less than half the area of a square one vessel wide."""
    pixels, first = found.rings
    sizes = np.diff(first)
    typical = 2.0 * np.count_nonzero(found.padded) / len(pixels)
    short = found.holes & (sizes <= 8.0 * typical + 8.0)
    y, x = np.divmod(pixels, found.padded.shape[1])
    after = np.arange(1, len(pixels) + 1)
    after[first[1:] - 1] = first[:-1]
    twice = np.abs(np.add.reduceat(x * y[after] - x[after] * y, first[:-1]))
    # Pick's theorem: the pixels that the outline of a hole encloses.
    inner = twice / 2.0 - sizes / 2.0 + 1.0
    return found.filled(np.flatnonzero(short & (inner <= typical**2 / 2.0)))


def _raw_lines(skeleton: Skeleton) -> tuple[Lines, Indices, Floats, Floats, Indices]:
    """Pixel paths from node to node, their nodes, and the smoothing window of each."""
    parts, ends, windows = [], [], []
    nodes, radii = list(skeleton.junctions), list(skeleton.radii - 0.5)
    for chain in skeleton.chains:
        pixels = np.array(chain.pixels)
        half = _median(skeleton.depths[pixels]) - 0.5
        windows.append(max(LEAST_WINDOW_PX, round(2.0 * SMOOTHING_WIDTHS * half)))
        # The last half width of a line turns towards a corner: it is cut and drawn anew.
        cut = int(half) if len(pixels) > 6.0 * half else 0
        pixels = pixels[cut if chain.start < 0 and not chain.closed else 0 :]
        pixels = pixels[: len(pixels) - (cut if chain.end < 0 and not chain.closed else 0)]
        path, nodes_of_chain = [skeleton.points[pixels]], []
        for node, at in ((chain.start, 0), (chain.end, -1)):
            if node >= 0:
                path.insert(0 if at == 0 else len(path), skeleton.junctions[node][None])
            elif not (chain.closed and at):
                node = len(nodes)
                nodes.append(skeleton.points[pixels[at]])
                radii.append(half)
            nodes_of_chain.append(node)
        if chain.closed:
            path.append(path[0][:1])
            nodes_of_chain[1] = nodes_of_chain[0]
        parts.append(np.concatenate(path))
        ends.append(nodes_of_chain)
    first = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    closed = np.array([chain.closed for chain in skeleton.chains])
    lines = Lines(np.concatenate(parts), first, closed)
    return lines, np.array(ends), np.array(nodes), np.array(radii), np.array(windows)


def _median(values: NDArray[np.float32]) -> float:
    """As `np.median`, which takes ten times as long for a few values."""
    ranked = np.sort(values)
    return float((ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / np.float32(2))


def _clear(
    points: Floats, lines: Lines, nodes: Floats, radii: Floats, ends: Indices
) -> NDArray[np.bool_]:
    """(P,) whether a point lies further from both its nodes than these are wide at half."""
    clear = np.ones(len(points), bool)
    for side in (0, 1):
        node = np.repeat(ends[:, side], lines.lengths)
        clear &= np.hypot(*(points - nodes[node]).T) > radii[node]
    return clear | np.repeat(lines.closed, lines.lengths)


def _to_the_tips(
    lines: Lines, ends: Indices, nodes: Floats, junctions: int, corners: Corners, radii: Floats
) -> Floats:
    """Moves the free ends of paths (in place) and their nodes on to the tips of the mask."""
    nodes = nodes.copy()
    for side, sign in ((0, -1.0), (1, 1.0)):
        free = np.flatnonzero((ends[:, side] >= junctions) & ~lines.closed)
        if not len(free):
            continue
        at = lines.first[free] if side == 0 else lines.first[free + 1] - 1
        radius = radii[ends[free, side]]
        # The direction of the last half width, not of the last pixel.
        inner = at - (sign * np.clip(np.rint(radius), 2, lines.lengths[free] - 1)).astype(np.int64)
        outward = lines.points[at] - lines.points[inner]
        outward = outward / np.maximum(np.hypot(*outward.T), 1e-9)[:, None]
        ahead = corners.half_widths(lines.points[at], outward, 2.0 * radius)[:, 1]
        further = np.maximum(ahead - 2.0 * TIP_SHARE * radius, 0.0)
        lines.points[at] += outward * further[:, None]
        nodes[ends[free, side]] = lines.points[at]
    return nodes
