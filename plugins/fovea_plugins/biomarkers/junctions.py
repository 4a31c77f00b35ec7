"""Where vessels branch, cross, touch or end, and how they branch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fovea.scale import Mask
from fovea_plugins.biomarkers.graph import VesselGraph
from fovea_plugins.biomarkers.paths import Floats, Indices

SAMPLES = 16
FAR_WIDTHS, LEAST_RUN_PX, LEAST_RUN_SHARE = 4.0, 20.0, 0.035
"""An arm's direction is fitted over 4 junction widths, at least 20 pixels and 3.5 % of the field's
diameter, as far as it goes."""


@dataclass(frozen=True)
class _Reading:
    """Where the fit of a direction starts and how short it may be, in widths and pixels."""

    near_widths: float
    least_widths: float
    least_px: float


_FOR_ANGLES = _Reading(1.25, 1.5, 5.0)
"""The walls of two daughters have parted; nearer, the skeleton runs into the crotch. A shorter
arm has no direction: its junction is counted, its angle is not measured."""

_FOR_CROSSINGS = _Reading(0.5, 0.25, 2.0)
"""Crossings lie close together and their arms are short: a rough direction is enough."""

BRIDGE_WIDTHS = 4.0
"""Two junctions closer than this may be one crossing: two vessels at 30 degrees share so
much of their way."""

STRAIGHT_DEG = 40.0
"""A vessel that crosses another goes on within this angle of straight."""

TIED_DEG = 10.0
"""Angles this near leave open which two arms are the daughters: then the widest is the parent."""

Bools = NDArray[np.bool_]
Pairs = tuple[tuple[int, int], ...]


class Kind(IntEnum):
    """What a node is."""

    RING = 0
    END = 1
    PASSAGE = 2
    BIFURCATION = 3
    CROSSING = 4
    CONTACT = 5


class Vessel(IntEnum):
    """What a segment is, where artery and vein masks say so."""

    UNKNOWN = 0
    ARTERY = 1
    VEIN = 2


@dataclass(frozen=True)
class Branchings:
    """Bifurcations with three measurable arms, B in all.

    Attributes:
        node: (B,) index of the node.
        angle_deg: (B,) angle between the daughters.
        parent, wide, narrow: (B,) widths of the parent and of the wider and the narrower
            daughter in pixels; NaN where an arm is too short for one.
    """

    node: Indices
    angle_deg: Floats
    parent: Floats
    wide: Floats
    narrow: Floats

    @cached_property
    def exponents(self) -> Floats:
        """(B,) x in parent^x = wide^x + narrow^x; infinite where the parent is not the widest.

        By bisection: the sum of (daughter / parent)^x falls with x. NaN where widths are unknown.
        """
        known = np.isfinite(self.parent)
        wide, narrow = (np.where(known, w / self.parent, 0.5) for w in (self.wide, self.narrow))
        low, high = np.full(len(wide), 1e-3), np.full(len(wide), 100.0)
        for _ in range(40):
            middle = 0.5 * (low + high)
            above = wide**middle + narrow**middle > 1.0
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        exponents = np.where(wide < 1.0, 0.5 * (low + high), np.inf)
        return np.where(known, exponents, np.nan)


@dataclass(frozen=True)
class Junctions:
    """The nodes of a graph told apart.

    Attributes:
        kind: (M,) `Kind` of each node. Of the two nodes of a crossing one is the
            crossing, the other a passage, so that counting kinds counts crossings.
        through: For each crossing, two pairs of arms (segment, side) that belong together.
        bridges: (S,) segments that are the shared stretch of a crossing.
        vessels: (S,) `Vessel` of each segment.
        branchings: How the bifurcations branch.
    """

    kind: NDArray[np.int8]
    through: tuple[tuple[tuple[int, int], ...], ...]
    bridges: Bools
    vessels: NDArray[np.int8]
    branchings: Branchings


def read_junctions(graph: VesselGraph, vessels: NDArray[np.int8] | None = None) -> Junctions:
    """Tell bifurcations from crossings and measure how vessels branch.

    A crossing is a node of four arms, or two nodes of three joined by a short bridge, whose
    opposite arms go on nearly straight. With artery and vein labels it must be two arteries
    opposite each other and two veins likewise; three arms of both kinds are a contact, not a
    bifurcation.

    Args:
        graph: The graph.
        vessels: (S,) `Vessel` of each segment, from `label_segments`; None when unknown.
    """
    arms = _arms(graph, _FOR_CROSSINGS)
    kind = _by_degree(graph)
    known = np.zeros(len(graph.ends), np.int8) if vessels is None else vessels
    through, bridges = [], np.zeros(len(graph.ends), bool)
    for nodes, bridge, pairs in _crossings(graph, arms, known, kind):
        kind[nodes[0]] = Kind.CROSSING
        kind[nodes[1:]] = Kind.PASSAGE
        if bridge is not None:
            bridges[bridge] = True
        through.append(pairs)
    if vessels is not None:
        _mark_contacts(kind, arms, known)
    return Junctions(kind, tuple(through), bridges, known, _branchings(graph, kind))


def label_segments(graph: VesselGraph, arteries: Mask, veins: Mask) -> NDArray[np.int8]:
    """(S,) `Vessel` of each segment: what most of its points lie on, at least 60 %."""
    pixels = np.rint(graph.lines.points).astype(np.int64)
    x, y = (np.clip(pixels[:, k], 0, arteries.shape[1 - k] - 1) for k in (0, 1))
    owner, count = graph.lines.owner, len(graph.ends)
    on_artery = np.bincount(owner, arteries[y, x], minlength=count)
    on_vein = np.bincount(owner, veins[y, x], minlength=count)
    total = np.maximum(on_artery + on_vein, 1)
    labels = np.full(count, Vessel.UNKNOWN, np.int8)
    labels[on_artery >= 0.6 * total] = Vessel.ARTERY
    labels[on_vein >= 0.6 * total] = Vessel.VEIN
    return labels


@dataclass(frozen=True)
class _Arms:
    """Segment ends: arm 2 * s + side is the start (0) or end (1) of segment s.

    `at` lists for each node its arms; `direction` is the unit vector (2S, 2) away from the
    node, NaN for short arms, and `middle` the point (2S, 2) in the middle of where it was read.
    """

    at: list[list[int]]
    direction: Floats
    middle: Floats


def _arms(graph: VesselGraph, reading: _Reading) -> _Arms:
    count = len(graph.ends)
    if not count:
        return _Arms([], np.empty((0, 2)), np.empty((0, 2)))
    node = graph.ends.ravel()
    at: list[list[int]] = [[] for _ in range(len(graph.nodes))]
    for arm, index in enumerate(node.tolist()):
        at[index].append(arm)
    width = 2.0 * graph.radii[node]
    arc = np.repeat(graph.arcs, 2)
    least = max(LEAST_RUN_PX, LEAST_RUN_SHARE * graph.field_px)
    near = reading.near_widths * width
    far = np.minimum(near + np.maximum(FAR_WIDTHS * width, least), arc)
    run = far - near
    short = run < np.maximum(reading.least_widths * width, reading.least_px)
    share = (np.arange(SAMPLES) + 0.5) / SAMPLES
    place = np.minimum(near[:, None] + share * np.maximum(run, 0.0)[:, None], arc[:, None])
    from_end = np.tile([False, True], count)
    place = np.where(from_end[:, None], arc[:, None] - place, place)
    place = place + np.repeat(graph.ruler[graph.lines.first[:-1]], 2)[:, None]
    weight = share - share.mean()
    x, y = np.moveaxis(graph.at(place), -1, 0)
    direction = np.column_stack([x @ weight, y @ weight])
    direction /= np.maximum(np.hypot(*direction.T), 1e-12)[:, None]
    direction[short | np.repeat(graph.lines.closed, 2)] = np.nan
    return _Arms(at, direction, np.column_stack([x.mean(axis=1), y.mean(axis=1)]))


def _by_degree(graph: VesselGraph) -> NDArray[np.int8]:
    kind = np.minimum(graph.degrees, Kind.BIFURCATION).astype(np.int8)
    kind[graph.ends[graph.lines.closed, 0]] = Kind.RING
    return kind


def _crossings(
    graph: VesselGraph, arms: _Arms, vessels: NDArray[np.int8], kind: NDArray[np.int8]
) -> list[tuple[list[int], int | None, Pairs]]:
    """Nodes, bridge and pairs of arms of each crossing, the straightest first, none twice."""
    found: list[tuple[float, Pairs, list[int], int | None]] = []
    for node in np.flatnonzero(graph.degrees == 4).tolist():
        found.append((*_straightness(arms, arms.at[node], vessels), [node], None))
    degrees = graph.degrees
    width = 2.0 * graph.radii[graph.ends].max(axis=1, initial=0.0)
    near = (graph.arcs < BRIDGE_WIDTHS * width) & (degrees[graph.ends] == 3).all(axis=1)
    near &= graph.ends[:, 0] != graph.ends[:, 1]
    for bridge in np.flatnonzero(near).tolist():
        start, end = graph.ends[bridge].tolist()
        outer = [a for a in (*arms.at[start], *arms.at[end]) if a // 2 != bridge]
        if len(outer) == 4:
            found.append((*_straightness(arms, outer, vessels), [start, end], bridge))
    taken: set[int] = set()
    crossings: list[tuple[list[int], int | None, Pairs]] = []
    for bend, pairs, nodes, bridge_or_none in sorted(found, key=lambda item: item[0]):
        if bend < np.inf and not taken & set(nodes):
            taken |= set(nodes)
            crossings.append((nodes, bridge_or_none, pairs))
    return crossings


def _straightness(
    arms: _Arms, four: list[int], vessels: NDArray[np.int8]
) -> tuple[float, tuple[tuple[int, int], ...]]:
    """The larger bend of the two vessels that would cross here, infinite if they do not."""
    around = arms.middle[four] - arms.middle[four].mean(axis=0)
    a, b, c, d = (four[i] for i in np.argsort(np.arctan2(around[:, 1], around[:, 0])))
    pairs = ((a, c), (b, d))
    (first, second), (third, fourth) = [[vessels[arm // 2] for arm in pair] for pair in pairs]
    bend = float(np.max([_bend(arms, p, q) for p, q in pairs]))
    if Vessel.UNKNOWN not in (first, second, third, fourth):
        # An artery opposite itself and a vein opposite itself, however they bend.
        crosses = first == second != third == fourth
        return (np.nan_to_num(bend, nan=180.0) if crosses else np.inf), pairs
    return (bend if bend <= STRAIGHT_DEG else np.inf), pairs


def _bend(arms: _Arms, one: int, other: int) -> float:
    """How far from one straight line two arms and the gap between them are, in degrees."""
    gap = arms.middle[other] - arms.middle[one]
    gap /= max(float(np.hypot(*gap)), 1e-12)
    back, on = -arms.direction[one], arms.direction[other]
    return float(np.max([_angle(back, on), _angle(back, gap), _angle(gap, on)]))


def _angle(first: Floats, second: Floats) -> float:
    """The angle between two unit vectors in degrees."""
    return float(np.degrees(np.arccos(np.clip(first @ second, -1.0, 1.0))))


def _mark_contacts(kind: NDArray[np.int8], arms: _Arms, vessels: NDArray[np.int8]) -> None:
    for node in np.flatnonzero(kind == Kind.BIFURCATION).tolist():
        labels = {int(vessels[arm // 2]) for arm in arms.at[node]} - {int(Vessel.UNKNOWN)}
        if len(labels) == 2:
            kind[node] = Kind.CONTACT


def _branchings(graph: VesselGraph, kind: NDArray[np.int8]) -> Branchings:
    arms = _arms(graph, _FOR_ANGLES)
    rows = []
    for node in np.flatnonzero((kind == Kind.BIFURCATION) & (graph.degrees == 3)).tolist():
        three = arms.at[node]
        direction = arms.direction[three]
        if not np.isfinite(direction).all():
            continue
        widths = graph.calibres[[arm // 2 for arm in three]]
        # For each arm as the parent, the angle between the other two.
        angles = [_angle(direction[(k + 1) % 3], direction[(k + 2) % 3]) for k in range(3)]
        tied = [k for k in range(3) if angles[k] <= min(angles) + TIED_DEG]
        parent = max(tied, key=lambda k: (np.nan_to_num(widths[k]), -angles[k]))
        others = sorted(widths[k] for k in range(3) if k != parent)
        rows.append((node, angles[parent], widths[parent], others[1], others[0]))
    table = np.array(rows, np.float64).reshape(-1, 5)
    nodes, angles_deg, parent_width, wide, narrow = table.T
    unknown = np.isnan(wide) | np.isnan(narrow) | np.isnan(parent_width)
    wide, narrow = np.where(unknown, np.nan, wide), np.where(unknown, np.nan, narrow)
    return Branchings(nodes.astype(np.int64), angles_deg, parent_width, wide, narrow)
