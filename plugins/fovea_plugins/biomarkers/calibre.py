"""Central retinal artery and vein equivalents from the vessels of zone B."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fovea_plugins.biomarkers.graph import VesselGraph
from fovea_plugins.biomarkers.junctions import Junctions
from fovea_plugins.biomarkers.paths import Floats
from fovea_plugins.biomarkers.shape import Pieces, Shape

Side = Literal["artery", "vein"]

BIG_SIX = 6
"""Knudtson's formula is defined for the six widest vessels of each kind."""

LEAST_ZONE_SEEN = 0.75
"""Share of zone B that must lie in the field of view: else a trunk may lie outside it."""

LEAST_WIDTHS = 1.0
"""A vessel shorter in zone B than it is wide only cuts its corner."""

GAP_WIDTHS, GAP_BEND_DEG = 4.0, 30.0
"""Two ends that face each other within 30 degrees across less than 4 widths are one vessel,
hidden where the other kind crosses it."""


@dataclass(frozen=True)
class VesselUsed:
    """A vessel measured in zone B.

    Attributes:
        x, y: Middle of the measured stretch, in pixels of the mask as it was given.
        width_px: Mean width over the stretch.
        length_px: Length of the stretch.
        path: (N, 2) its centreline, in pixels of the mask as it was given.
    """

    x: float
    y: float
    width_px: float
    length_px: float
    path: Floats = field(compare=False, repr=False)


def knudtson(widths: Sequence[float], side: Side) -> float:
    """CRAE or CRVE by Knudtson et al. (Curr Eye Res 2003;27(3):143-149).

    The widest of the vessels pairs with the narrowest, and so on, each pair becoming
    0.88 sqrt(a^2 + b^2) for arterioles, 0.95 sqrt(a^2 + b^2) for venules; an odd one is carried
    over; until one is left. The unit is that of the widths.
    """
    factor = 0.88 if side == "artery" else 0.95
    return _paired(widths, lambda narrow, wide: factor * sqrt(narrow**2 + wide**2))


def hubbard(widths_um: Sequence[float], side: Side) -> float | None:
    """CRAE or CRVE in micrometres by Hubbard et al. (Ophthalmology 1999;106(12):2269-2280).

    Pairs as `knudtson`, each becoming, with a the narrower and b the wider,
    sqrt(0.87 a^2 + 1.01 b^2 - 0.22 a b - 10.76) for arterioles (Parr and Spears) and
    sqrt(0.72 a^2 + 0.91 b^2 + 450.05) for venules. Its constants are square micrometres: it
    means nothing in pixels. None where vessels are so thin that the root has no value.
    """

    def artery(narrow: float, wide: float) -> float:
        return sqrt(0.87 * narrow**2 + 1.01 * wide**2 - 0.22 * narrow * wide - 10.76)

    def vein(narrow: float, wide: float) -> float:
        return sqrt(0.72 * narrow**2 + 0.91 * wide**2 + 450.05)

    try:
        return _paired(widths_um, artery if side == "artery" else vein)
    except ValueError:
        return None


def vessels_in_zone(
    graph: VesselGraph, junctions: Junctions, inside: NDArray[np.bool_]
) -> list[VesselUsed]:
    """The vessels that pass through a zone, widest first, each once.

    What hangs together inside the zone is one vessel with its branches, and its widest
    stretch stands for it: the trunk before it branches. Vessels that cross stay two;
    a vessel interrupted by a crossing stays one.

    Args:
        graph: The graph of the arterioles or of the venules.
        junctions: Its junctions.
        inside: (P,) which of the graph's points lie in the zone.
    """
    shape = Shape(graph)
    pieces = shape.pieces(inside)
    owner = graph.lines.owner[pieces.first] if len(pieces.first) else np.empty(0, np.int64)
    group = _groups(graph, junctions, pieces, owner)
    long = np.isfinite(pieces.calibres) & (pieces.arcs >= LEAST_WIDTHS * pieces.calibres)
    found = []
    for vessel in np.unique(group[long]).tolist():
        members = np.flatnonzero(long & (group == vessel))
        trunk = int(members[np.argmax(pieces.calibres[members])])
        path = graph.lines.points[pieces.first[trunk] : pieces.stop[trunk]]
        middle = path[(len(path) - 1) // 2]
        found.append(
            VesselUsed(
                float(middle[0]),
                float(middle[1]),
                float(pieces.calibres[trunk]),
                float(pieces.arcs[trunk]),
                path,
            )
        )
    return sorted(found, key=lambda vessel: (-vessel.width_px, vessel.x, vessel.y))


def _paired(widths: Sequence[float], joined: Callable[[float, float], float]) -> float:
    left = sorted(widths)
    if not left:
        raise ValueError("no widths")
    while len(left) > 1:
        half = len(left) // 2
        odd = left[half : len(left) - half]
        left = sorted([joined(left[k], left[-1 - k]) for k in range(half)] + odd)
    return left[0]


def _groups(
    graph: VesselGraph, junctions: Junctions, pieces: Pieces, owner: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(K,) the vessel of each piece: pieces that meet in the zone belong together."""
    group = np.arange(len(owner))
    at_arm: dict[int, int] = {}
    for piece, segment in enumerate(owner.tolist()):
        if pieces.first[piece] == graph.lines.first[segment]:
            at_arm[2 * segment] = piece
        if pieces.stop[piece] == graph.lines.first[segment + 1]:
            at_arm[2 * segment + 1] = piece
    crossing = {arm for pairs in junctions.through for pair in pairs for arm in pair}
    meeting = [
        [arm for arm in pair if arm in at_arm] for pairs in junctions.through for pair in pairs
    ]
    by_node: dict[int, list[int]] = {}
    for arm in at_arm:
        if arm not in crossing and not junctions.bridges[arm // 2]:
            by_node.setdefault(int(graph.ends[arm // 2, arm % 2]), []).append(arm)
    meeting += by_node.values()
    meeting += _across_gaps(graph, at_arm, pieces)
    for arms in meeting:
        members = [group[at_arm[arm]] for arm in arms]
        if members:
            group[np.isin(group, members)] = min(members)
    return group


def _across_gaps(graph: VesselGraph, at_arm: dict[int, int], pieces: Pieces) -> list[list[int]]:
    """Pairs of free ends that face each other across a short gap."""
    degrees = graph.degrees
    free = [arm for arm in at_arm if degrees[graph.ends[arm // 2, arm % 2]] == 1]
    tips = {arm: _tip(graph, arm) for arm in free}
    joined = []
    for k, one in enumerate(free):
        for other in free[k + 1 :]:
            if one // 2 == other // 2:
                continue
            (start, outward), (end, back) = tips[one], tips[other]
            gap = end - start
            size = float(np.hypot(*gap))
            widths = pieces.calibres[[at_arm[one], at_arm[other]]]
            reach = GAP_WIDTHS * float(np.nan_to_num(widths, nan=0.0).max())
            limit = np.cos(np.deg2rad(GAP_BEND_DEG))
            if (
                0.0 < size <= reach
                and outward @ gap >= limit * size
                and -(back @ gap) >= limit * size
            ):
                joined.append([one, other])
    return joined


def _tip(graph: VesselGraph, arm: int) -> tuple[Floats, Floats]:
    """A free end and the direction in which it points, over its last two widths or so."""
    segment, side = divmod(arm, 2)
    first, stop = graph.lines.first[segment], graph.lines.first[segment + 1]
    path = graph.lines.points[first:stop] if side else graph.lines.points[first:stop][::-1]
    width = 2.0 * float(graph.radii[graph.ends[segment, side]])
    inner = path[max(len(path) - 1 - max(round(2.0 * width), 4), 0)]
    outward = path[-1] - inner
    return path[-1], outward / max(float(np.hypot(*outward)), 1e-9)
