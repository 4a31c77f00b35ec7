"""Length, width and tortuosity of vessels, in the whole picture or in a region of it.

A vessel that leaves a region and comes back counts as two pieces there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fovea_plugins.biomarkers.graph import VesselGraph
from fovea_plugins.biomarkers.paths import Floats, Indices

Bools = NDArray[np.bool_]

LEAST_WIDTHS, LEAST_PX, LEAST_SHARE = 5.0, 10.0, 0.02
"""A piece shorter than five of its widths, ten pixels or 2 % of the field's diameter has no shape
of its own."""

LEAST_CHORD_SHARE = 0.1
"""A piece that comes back to where it started is a loop, not a tortuous vessel."""

CURVATURE_WIDTHS, CURVATURE_PX, CURVATURE_SHARE = 1.0, 8.0, 0.015
"""Curvature is that of the circle through a point and the points one width, at least 8 pixels and
1.5 % of the field's diameter, before and after it. The pixel grid then passes for a radius of about
300 pixels, and pictures of 550 pixels and more give the same."""

LEAST_TURN_RAD = 0.2
"""A bend of less than 11 degrees is noise of the outline, not a turn of the vessel."""


@dataclass(frozen=True)
class Spread:
    """A distribution along the vessels: mean, median and standard deviation."""

    mean: float
    median: float
    sd: float
    count: int


@dataclass(frozen=True)
class Pieces:
    """Runs of path points, K in all, each within one segment.

    Attributes:
        first, stop: (K,) first point and the one after the last, into the graph's points.
        arcs, chords: (K,) length along the path, and straight from end to end.
        calibres: (K,) mean width; NaN where no point is clear of the junctions.
        field_px: Diameter of the field, 0 where it is not known.
    """

    first: Indices
    stop: Indices
    arcs: Floats
    chords: Floats
    calibres: Floats
    field_px: float

    @cached_property
    def shaped(self) -> Bools:
        """(K,) whether a piece is long and open enough to have a tortuosity."""
        least = np.maximum(
            LEAST_WIDTHS * np.nan_to_num(self.calibres, nan=np.inf),
            max(LEAST_PX, LEAST_SHARE * self.field_px),
        )
        return (self.arcs >= least) & (self.chords >= LEAST_CHORD_SHARE * self.arcs)


class Shape:
    """What is measured along the centrelines of one graph."""

    def __init__(self, graph: VesselGraph) -> None:
        self.graph = graph
        self._turns: dict[tuple[int, int], float] = {}

    def widths(self, inside: Bools | None = None) -> Spread | None:
        """Width across the path in pixels, each stretch weighted by its length.

        Points within half a width of a junction or an end are left out. None where none is
        left.
        """
        use = self.graph.clear if inside is None else self.graph.clear & inside
        values, weights = self.graph.widths[use], self.weights[use]
        if not len(values) or not weights.sum():
            return None
        mean = float(np.average(values, weights=weights))
        sd = float(np.sqrt(np.average((values - mean) ** 2, weights=weights)))
        return Spread(mean, weighted_median(values, weights), sd, len(values))

    def pieces(self, inside: Bools | None = None) -> Pieces:
        """The runs of points in a region: with None, the segments."""
        graph = self.graph
        starts = np.zeros(len(graph.widths), bool)
        starts[graph.lines.first[:-1]] = True
        if inside is None:
            first, stop = graph.lines.first[:-1], graph.lines.first[1:]
        else:
            before = np.concatenate([[False], inside[:-1]]) & ~starts
            after = np.concatenate([inside[1:] & ~starts[1:], [False]])
            first = np.flatnonzero(inside & ~before)
            stop = np.flatnonzero(inside & ~after) + 1
        points = graph.lines.points
        arcs = graph.along[stop - 1] - graph.along[first]
        chords = np.hypot(*(points[stop - 1] - points[first]).T)
        total, size = (
            np.concatenate([[0.0], np.cumsum(np.where(graph.clear, value, 0.0))])
            for value in (graph.widths, np.ones(len(points)))
        )
        count = size[stop] - size[first]
        calibres = np.where(
            count > 0, (total[stop] - total[first]) / np.maximum(count, 1.0), np.nan
        )
        return Pieces(first, stop, arcs, chords, calibres, graph.field_px)

    @cached_property
    def curvature(self) -> Floats:
        """(P,) signed curvature in 1/px; NaN near the ends of a path.

        Menger: 2 sin(turn) / chord of three points, exactly 1 / R on a circle.
        """
        graph = self.graph
        lengths = graph.lines.lengths
        least = max(CURVATURE_PX, CURVATURE_SHARE * graph.field_px)
        width = np.nan_to_num(graph.calibres, nan=0.0)
        reach = np.repeat(np.maximum(CURVATURE_WIDTHS * width, least), lengths)
        whole = (graph.along >= reach) & (np.repeat(graph.arcs, lengths) - graph.along >= reach)
        reach = np.where(whole, reach, 0.0)
        low, high = graph.at(graph.ruler - reach), graph.at(graph.ruler + reach)
        before, after = graph.lines.points - low, high - graph.lines.points
        chord = high - low
        scale = np.hypot(*before.T) * np.hypot(*after.T) * np.hypot(*chord.T)
        area = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
        known = whole & (scale > 0.0)
        return np.where(known, 2.0 * area / np.where(known, scale, 1.0), np.nan)

    def squared_curvature(self, pieces: Pieces) -> tuple[float, int] | None:
        """Mean over length of the squared curvature in 1/px^2, and how many pieces."""
        known = np.isfinite(self.curvature)
        total, length = (
            np.concatenate([[0.0], np.cumsum(np.where(known, value, 0.0))])
            for value in (self.curvature**2 * self.weights, self.weights)
        )
        first, stop = pieces.first[pieces.shaped], pieces.stop[pieces.shaped]
        lengths = length[stop] - length[first]
        if not (lengths > 0.0).any():
            return None
        mean = float((total[stop] - total[first]).sum() / lengths.sum())
        return max(mean, 0.0), int((lengths > 0.0).sum())

    def tortuosity_density(self, pieces: Pieces) -> tuple[float, int] | None:
        """Grisan's tortuosity density in 1/px, its mean over length, and how many pieces.

        (n - 1) / L * sum(arc_i / chord_i - 1) over the n turns between inflections of a
        piece of length L: 0 for any vessel that bends one way only.
        """
        chosen = np.flatnonzero(pieces.shaped)
        if not len(chosen):
            return None
        ends = zip(pieces.first[chosen].tolist(), pieces.stop[chosen].tolist(), strict=True)
        # (n - 1) / L times L: the weight of the mean over length.
        total = sum(self._turning(first, stop) for first, stop in ends)
        return total / float(pieces.arcs[chosen].sum()), len(chosen)

    def _turning(self, first: int, stop: int) -> float:
        """(n - 1) * sum(arc_i / chord_i - 1) of a piece, which regions share."""
        if (first, stop) not in self._turns:
            cuts = self._inflections(first, stop)
            several = len(cuts) > 2
            self._turns[first, stop] = (len(cuts) - 2) * self._excess(cuts) if several else 0.0
        return self._turns[first, stop]

    @cached_property
    def weights(self) -> Floats:
        """(P,) the stretch of path that each point stands for."""
        steps = self.graph.steps
        return np.asarray(0.5 * (steps + np.append(steps[1:], 0.0)))

    def _inflections(self, first: int, stop: int) -> Indices:
        """Where a piece starts, turns the other way, and ends."""
        turn = self.curvature[first:stop] * self.weights[first:stop]
        known = np.flatnonzero(np.isfinite(turn))
        ends = np.array([first, stop - 1])
        if not len(known):
            return ends
        turn = turn[known]
        change = np.flatnonzero(np.diff(np.sign(turn))) + 1
        start = np.concatenate([[0], change])
        size = np.add.reduceat(turn, start)
        real = np.flatnonzero(np.abs(size) >= LEAST_TURN_RAD)
        opposite = np.flatnonzero(np.diff(np.sign(size[real])))
        last = np.append(start[1:], len(turn)) - 1
        # Between two real turns there may be small ones: the middle of the gap.
        middle = (last[real[opposite]] + start[real[opposite + 1]] + 1) // 2
        return np.concatenate([ends[:1], first + known[middle], ends[1:]])

    def _excess(self, cuts: Indices) -> float:
        points, along = self.graph.lines.points, self.graph.along
        arcs = np.diff(along[cuts])
        chords = np.hypot(*np.diff(points[cuts], axis=0).T)
        return float((arcs / np.maximum(chords, 1e-9) - 1.0).sum())


def tortuosity(pieces: Pieces) -> tuple[float, float, int] | None:
    """Arc over chord: the mean over length, the median over pieces, and how many."""
    arcs, chords = pieces.arcs[pieces.shaped], pieces.chords[pieces.shaped]
    if not len(arcs):
        return None
    # A straight path may be longer than its chord by the last digit only.
    ratio = np.maximum(arcs / chords, 1.0)
    return float(np.average(ratio, weights=arcs)), float(np.median(ratio)), len(arcs)


def weighted_median(values: Floats, weights: Floats) -> float:
    """The value with half of the weight below it."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])
