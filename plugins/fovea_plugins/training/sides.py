"""Artery or vein: one opinion for each vessel segment, agreed with its continuations.

A network judges pixels, so its answer can change along one vessel. Here each
segment between two junctions gathers the evidence of its centreline, and
segments that continue one another across a junction pull each other along: a
Gaussian Markov random field on the vessel graph, solved by Jacobi iteration
(cf. Dashtbozorg et al. 2014, IEEE Trans Image Process 23:1073-1083, who label
the graph by its junction types).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Mask
from fovea_plugins.biomarkers.graph import Segment, VesselGraph, vessel_graph

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

PULL_PX = 30.0
"""A straight continuation counts as much as this length of a segment's own centreline.
Chosen on the held-out photographs of the training sets."""

MOST_PX = 120.0
"""Longer segments count as this long: their pixels repeat one another."""

REACH_PX = 10
"""The direction of a segment at its end is taken over this much of its path."""

ROUNDS = 30


def artery_share(probabilities: Floats) -> Floats:
    """How far a pixel is artery rather than vein, (H, W) 0..1, from (3, H, W)."""
    _, artery, vein = probabilities
    return np.asarray((artery + 1e-4) / (artery + vein + 2e-4), np.float32)


def settle_sides(probabilities: Floats, vessels: Mask, *, pull_px: float = PULL_PX) -> Floats:
    """The artery share (H, W), equal along each vessel segment.

    Args:
        probabilities: Vessel, artery, vein, (3, H, W).
        vessels: (H, W) bool, the vessel mask in the same frame.
        pull_px: Weight of neighbouring segments; 0: each segment decides alone.
    """
    share = artery_share(probabilities)
    graph = vessel_graph(vessels)
    if not graph.segments:
        return share
    pixels = [_pixels(segment, vessels.shape) for segment in graph.segments]
    odds = np.log(np.clip(share, 0.02, 0.98) / np.clip(1.0 - share, 0.02, 0.98))
    evidence = np.array([odds[y, x].mean() for x, y in pixels])
    weight = np.array([min(len(x), MOST_PX) for x, _ in pixels])
    settled_odds = _agreed(evidence, weight, _continuations(graph), pull_px)
    on_line = np.full(vessels.shape, np.nan, np.float32)
    for (x, y), value in zip(pixels, settled_odds, strict=True):
        on_line[y, x] = 1.0 / (1.0 + np.exp(-value))
    return _spread(on_line, share, vessels)


def _pixels(segment: Segment, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Columns and rows under the centreline; without the ends, which other segments share."""
    path = np.rint(segment.path).astype(int)
    inner = path[2:-2] if len(path) > 8 else path
    return np.clip(inner[:, 0], 0, shape[1] - 1), np.clip(inner[:, 1], 0, shape[0] - 1)


def _continuations(graph: VesselGraph) -> list[tuple[int, int, float]]:
    """Pairs of segments that meet, and how straight one runs on into the other, 0 to 1."""
    node = _merged_nodes(graph)
    meeting: dict[int, list[tuple[int, Doubles]]] = {}
    for index, segment in enumerate(graph.segments):
        if node[segment.start] == node[segment.end]:
            continue
        reach = min(REACH_PX, len(segment.path) - 1)
        for end, away in (
            (segment.start, segment.path[reach] - segment.path[0]),
            (segment.end, segment.path[-1 - reach] - segment.path[-1]),
        ):
            size = max(float(np.hypot(*away)), 1e-9)
            meeting.setdefault(node[end], []).append((index, away / size))
    pairs = []
    for ends in meeting.values():
        for k, (one, away) in enumerate(ends):
            for other, elsewhere in ends[k + 1 :]:
                straight = max(0.0, -float(away @ elsewhere))
                if one != other and straight > 0:
                    pairs.append((one, other, straight**2))
    return pairs


def _merged_nodes(graph: VesselGraph) -> list[int]:
    """A label per node; nodes at both ends of a bridge shorter than it is wide share one.

    Thinning turns a crossing of two vessels into two junctions with such a bridge.
    """
    label = list(range(len(graph.nodes)))

    def root(node: int) -> int:
        while label[node] != node:
            node = label[node]
        return node

    for segment in graph.segments:
        joined = graph.degrees[segment.start] >= 3 and graph.degrees[segment.end] >= 3
        if joined and segment.arc < 1.5 * float(np.median(segment.widths)) + 2.0:
            label[root(segment.start)] = root(segment.end)
    return [root(node) for node in label]


def _agreed(
    evidence: Doubles, weight: Doubles, pairs: list[tuple[int, int, float]], pull_px: float
) -> Doubles:
    if not pairs or pull_px <= 0:
        return evidence
    one, other, straight = (np.array(column) for column in zip(*pairs, strict=True))
    strength = pull_px * straight
    total = weight.astype(np.float64).copy()
    np.add.at(total, one, strength)
    np.add.at(total, other, strength)
    value = evidence.copy()
    for _ in range(ROUNDS):
        pulled = weight * evidence
        np.add.at(pulled, one, strength * value[other])
        np.add.at(pulled, other, strength * value[one])
        value = pulled / total
    return np.asarray(value)


def _spread(on_line: Floats, share: Floats, vessels: Mask) -> Floats:
    """The value of the nearest centreline pixel on every vessel pixel, `share` elsewhere."""
    known = ~np.isnan(on_line)
    if not known.any():
        return share
    _, nearest = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    by_label = np.zeros(int(nearest.max()) + 1, np.float32)
    by_label[nearest[known]] = on_line[known]
    settled = share.copy()
    settled[vessels] = by_label[nearest[vessels]]
    return settled
