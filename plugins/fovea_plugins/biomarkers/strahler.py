"""Strahler orders of vessel trees."""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from fovea_plugins.biomarkers.graph import VesselGraph
from fovea_plugins.biomarkers.junctions import Junctions, Kind, Vessel
from fovea_plugins.biomarkers.paths import Floats, Indices

Links = dict[int, list[tuple[int, int]]]
"""For each vertex its links: segment and the vertex at the segment's other end."""


@dataclass(frozen=True)
class Orders:
    """Orders of the segments of all trees of a graph.

    Attributes:
        order: (S,) Strahler order, 1 for the outermost vessels; 0 for rings and for the
            stretch that two crossing vessels share.
        streams: How many vessels of each order there are, from order 1 on; a vessel keeps
            its order from where two of the order below meet.
    """

    order: Indices
    streams: tuple[int, ...]

    @property
    def highest(self) -> int:
        """The order of the trunk; 0 where there is no tree."""
        return len(self.streams)

    @property
    def bifurcation_ratio(self) -> float | None:
        """Geometric mean of how many times more vessels one order has than the next.

        None where there is one order only.
        """
        if len(self.streams) < 2:
            return None
        return float((self.streams[0] / self.streams[-1]) ** (1.0 / (len(self.streams) - 1)))


def strahler_orders(
    graph: VesselGraph, junctions: Junctions, root_xy: tuple[float, float] | None = None
) -> Orders:
    """Strahler's orders (Trans Am Geophys Union 1957;38:913-920), through crossings.

    Each connected tree is rooted at its point nearest to `root_xy`, or without one at the
    free end of its widest vessel. A loop is cut where it is furthest from the root.

    Args:
        graph: The graph.
        junctions: Its junctions: two vessels that cross go on undisturbed.
        root_xy: Where vessels come from (the optic disc's centre), in the graph's pixels.
    """
    order = np.zeros(len(graph.ends), np.int64)
    starts: dict[int, int] = defaultdict(int)
    links, places = _links(graph, junctions)
    reached: set[int] = set()
    for vertex in list(links):
        if vertex not in reached:
            tree = _connected(vertex, links)
            reached |= tree
            root = _root(tree, links, places, graph, root_xy)
            _number(root, links, graph.arcs, order, starts)
    return Orders(order, tuple(starts[level] for level in range(1, max(starts, default=0) + 1)))


def _links(graph: VesselGraph, junctions: Junctions) -> tuple[Links, list[Floats]]:
    """Segments between vertices: nodes, of which a crossing has one for each vessel."""
    vertex = graph.ends.copy()
    places = list(graph.nodes)
    for pairs in junctions.through:
        for pair in pairs:
            for arm in pair:
                vertex[arm // 2, arm % 2] = len(places)
            places.append(graph.nodes[graph.ends[pair[0] // 2, pair[0] % 2]])
    # Where an artery only touches a vein the two trees stay apart.
    for node in np.flatnonzero(junctions.kind == Kind.CONTACT).tolist():
        for label in (Vessel.ARTERY, Vessel.VEIN):
            arms = (graph.ends == node) & (junctions.vessels == label)[:, None]
            vertex[arms] = len(places)
            places.append(graph.nodes[node])
    links: Links = defaultdict(list)
    for segment in np.flatnonzero(~junctions.bridges & ~graph.lines.closed).tolist():
        tail, head = vertex[segment].tolist()
        links[tail].append((segment, head))
        links[head].append((segment, tail))
    return dict(links), places


def _connected(vertex: int, links: Links) -> set[int]:
    tree, waiting = {vertex}, [vertex]
    while waiting:
        for _, other in links[waiting.pop()]:
            if other not in tree:
                tree.add(other)
                waiting.append(other)
    return tree


def _root(
    tree: set[int],
    links: Links,
    places: list[Floats],
    graph: VesselGraph,
    root_xy: tuple[float, float] | None,
) -> int:
    if root_xy is not None:
        return min(
            sorted(tree),
            key=lambda v: float(np.hypot(places[v][0] - root_xy[0], places[v][1] - root_xy[1])),
        )
    tips = [vertex for vertex in sorted(tree) if len(links[vertex]) == 1] or sorted(tree)
    widths = np.nan_to_num(graph.calibres, nan=0.0)
    return max(tips, key=lambda v: max(float(widths[segment]) for segment, _ in links[v]))


def _number(
    root: int, links: Links, lengths: Floats, order: Indices, starts: dict[int, int]
) -> None:
    """Writes the orders of one tree and counts where its vessels begin."""
    distance, parent = {root: 0.0}, {root: -1}
    settled: list[int] = []
    done: set[int] = set()
    queue = [(0.0, root)]
    while queue:
        far, vertex = heapq.heappop(queue)
        if vertex in done:
            continue
        done.add(vertex)
        settled.append(vertex)
        for segment, other in links[vertex]:
            way = far + float(lengths[segment])
            if other not in distance or way < distance[other]:
                distance[other], parent[other] = way, segment
                heapq.heappush(queue, (way, other))
    inward = set(parent.values())
    for vertex in reversed(settled):
        outward = [segment for segment, _ in links[vertex] if segment != parent[vertex]]
        for segment in outward:
            if segment not in inward and not order[segment]:
                order[segment] = 1  # closes a loop: cut in the middle, two ends
                starts[1] += 1
        if vertex == root:
            continue
        orders = [int(order[segment]) for segment in outward]
        highest = max(orders, default=1)
        grows = orders.count(highest) > 1
        order[parent[vertex]] = highest + grows
        if grows or not orders:
            starts[highest + grows] += 1
