"""One vessel mask measured in all its regions: one graph, one sandbox, one integral."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fovea.scale import Mask
from fovea_plugins.biomarkers.borders import borders
from fovea_plugins.biomarkers.calibre import (
    BIG_SIX,
    LEAST_ZONE_SEEN,
    Side,
    VesselUsed,
    hubbard,
    knudtson,
    vessels_in_zone,
)
from fovea_plugins.biomarkers.definitions import FIELD, ZONE_B, Key, Vessels
from fovea_plugins.biomarkers.fractal import Multifractal, Sandbox, lacunarity
from fovea_plugins.biomarkers.frame import Frame
from fovea_plugins.biomarkers.graph import upright_graph
from fovea_plugins.biomarkers.junctions import Kind, label_segments, read_junctions
from fovea_plugins.biomarkers.outline import outline
from fovea_plugins.biomarkers.paths import Floats
from fovea_plugins.biomarkers.placing import Placed, Region, within
from fovea_plugins.biomarkers.shape import Shape, tortuosity
from fovea_plugins.biomarkers.strahler import strahler_orders
from fovea_plugins.biomarkers.values import Raw

Values = Iterator[tuple[str, Raw | str]]

NO_VESSEL = "No vessel lies in the region"
TOO_SHORT = "No vessel segment in the region is long enough to have a shape"
NO_WIDTH = "No vessel in the region is clear of junctions"
NO_FORK = "No bifurcation in the region has three arms long enough to measure"
TOO_SMALL = "The vessels in the region have too small an extent for a scaling law"
NO_BOXES = "The region is too small for the boxes, or boxes of some size are all empty"

CUT_PX = 3.0
"""A free end that lies this near to the edge of the field, beyond its own half width, is cut."""

_ROUND = np.deg2rad(np.arange(8) * 45.0)


class Tree:
    """All measures of one mask.

    Args:
        mask: (H, W), in the frame.
        vessels: Which vessels these are.
        placed: The regions, in the frame.
        frame: The turn of the picture.
        seen: (H, W), the field of view as it was given.
        sides: Artery and vein masks in the frame, to tell crossings from bifurcations.
    """

    def __init__(
        self,
        mask: Mask,
        vessels: Vessels,
        placed: Placed,
        frame: Frame,
        seen: Mask,
        sides: tuple[Mask, Mask] | None = None,
    ) -> None:
        self.vessels, self._placed = vessels, placed
        found = borders(mask)
        self._graph = upright_graph(found, 2.0 * float(np.sqrt(np.count_nonzero(seen) / np.pi)))
        edge = outline(found)
        self._edges = [_by_label(labels, edge.lengths) for labels in placed.labels_at(edge.points)]
        del found, edge
        self._shape = Shape(self._graph)
        labels = label_segments(self._graph, *sides) if sides else None
        self._junctions = read_junctions(self._graph, labels)
        self._boxes = placed.boxes  # before the sandbox: large arrays one after the other
        sandbox = Sandbox(mask)
        self._total = sandbox.total
        flat = np.flatnonzero(mask)
        self._areas = [_by_label(labels.ravel()[flat]) for labels in placed.maps]
        self._points = placed.labels_at(self._graph.lines.points)
        self._nodes = placed.labels_at(self._graph.nodes)
        self._lengths = [_by_label(labels, self._shape.weights) for labels in self._points]
        self._cut = _cut_off(frame.back(self._graph.nodes), self._graph.radii, seen)
        centres = placed.labels_at(sandbox.centres.astype(np.float64))
        inside = [within(centres, region) for region in placed.regions]
        names = [region.name for region in placed.regions]
        self.spectra = dict(zip(names, sandbox.spectra(np.column_stack(inside)), strict=True))

    def values(self) -> Iterator[tuple[Key, Raw | str]]:
        """Every value in pixels, in every region that has a place."""
        for region in self._placed.regions:
            for part in (self._size, self._along, self._forks, self._texture):
                for name, value in part(region):
                    yield Key(name, self.vessels, region.name), value
        for name, value in self._orders():
            yield Key(name, self.vessels, FIELD), value

    def in_zone_b(self) -> list[VesselUsed] | str:
        """The vessels of zone B, widest first, in the frame; or why they cannot be told."""
        zone = next((r for r in self._placed.regions if r.name == ZONE_B), None)
        if zone is None:
            return self._placed.missing[ZONE_B]
        if zone.seen < LEAST_ZONE_SEEN:
            return f"Only {zone.seen:.0%} of zone B lies in the field of view"
        return vessels_in_zone(self._graph, self._junctions, within(self._points, zone))

    def _size(self, region: Region) -> Values:
        area, length, edge = (
            float(totals[region.map][list(region.labels)].sum())
            for totals in (self._areas, self._lengths, self._edges)
        )
        yield "vessel_area", Raw(area)
        yield "vessel_density", Raw(area / region.area_px)
        yield "vessel_length", Raw(length)
        yield "vessel_length_per_area", Raw(length / region.area_px)
        round_px = float(np.sqrt(4.0 / np.pi / region.area_px))
        yield "vessel_length_density", Raw(length * round_px)
        yield "perimeter", Raw(edge)

    def _along(self, region: Region) -> Values:
        inside = within(self._points, region)
        why = TOO_SHORT if inside.any() else NO_VESSEL
        spread = self._shape.widths(inside)
        for name in ("mean", "median", "sd"):
            value: Raw | str = NO_WIDTH if inside.any() else NO_VESSEL
            if spread is not None:
                value = Raw(float(getattr(spread, name)), spread.count)
            yield f"width_{name}", value
        pieces = self._shape.pieces(None if inside.all() else inside)
        ratio = tortuosity(pieces)
        yield "tortuosity", Raw(ratio[0], ratio[2]) if ratio else why
        yield "tortuosity_median", Raw(ratio[1], ratio[2]) if ratio else why
        squared = self._shape.squared_curvature(pieces)
        yield "squared_curvature", Raw(*squared) if squared else why
        density = self._shape.tortuosity_density(pieces)
        yield "tortuosity_density", Raw(*density) if density else why

    def _forks(self, region: Region) -> Values:
        inside = within(self._nodes, region)
        kind = self._junctions.kind
        yield "bifurcations", Raw(int((inside & (kind == Kind.BIFURCATION)).sum()))
        yield "ends", Raw(int((inside & (kind == Kind.END) & ~self._cut).sum()))
        if self.vessels == "all":
            yield "crossings", Raw(int((inside & (kind == Kind.CROSSING)).sum()))
        forks = self._junctions.branchings
        own = inside[forks.node] if len(forks.node) else np.empty(0, bool)
        angles = forks.angle_deg[own]
        yield "branching_angle", _median(angles)
        yield "asymmetry_ratio", _median((forks.narrow[own] / forks.wide[own]) ** 2)
        exponent = _median(forks.exponents[own])
        if isinstance(exponent, Raw) and not np.isfinite(exponent.value):
            exponent = "In most bifurcations of the region no parent is wider than its daughters"
        yield "junction_exponent", exponent

    def _texture(self, region: Region) -> Values:
        found: Multifractal | None = self.spectra[region.name]
        for name, part in (
            ("fractal_dimension", "d0"),
            ("information_dimension", "d1"),
            ("correlation_dimension", "d2"),
            ("singularity_length", "singularity_length"),
        ):
            value: Raw | str = TOO_SMALL
            if found is not None:
                value = Raw(float(getattr(found, part)), found.centres)
            yield name, value
        gaps = lacunarity(self._total, self._boxes[region.name])
        yield "lacunarity", NO_BOXES if gaps is None else Raw(gaps)

    def _orders(self) -> Values:
        root = self._placed.root_xy
        orders = strahler_orders(self._graph, self._junctions, root)
        ratio = orders.bifurcation_ratio
        yield "strahler_order", Raw(orders.highest) if orders.highest else "There is no tree"
        yield "strahler_ratio", Raw(ratio) if ratio else "The trees have one order only"


def _by_label(labels: NDArray[np.uint8], weights: Floats | None = None) -> Floats:
    """(256,) how many points have each label, or the sum of their weights."""
    return np.bincount(labels, weights, minlength=256).astype(np.float64)


def _median(values: Floats) -> Raw | str:
    known = values[~np.isnan(values)]
    return Raw(float(np.median(known)), len(known)) if len(known) else NO_FORK


def _cut_off(nodes: Floats, radii: Floats, seen: Mask) -> NDArray[np.bool_]:
    """(M,) whether a node lies so near to the edge of the field that a vessel ends by it."""
    cut = np.zeros(len(nodes), bool)
    for angle in _ROUND:
        reach = (radii + CUT_PX)[:, None] * np.array([np.cos(angle), np.sin(angle)])
        x, y = np.rint(nodes + reach).astype(np.int64).T
        inside = (x >= 0) & (y >= 0) & (x < seen.shape[1]) & (y < seen.shape[0])
        inside[inside] = seen[y[inside], x[inside]]
        cut |= ~inside
    return cut


def equivalents(
    found: dict[Side, list[VesselUsed] | str], um_per_px: float | None
) -> Iterator[tuple[Key, Raw | str]]:
    """CRAE, CRVE and their ratio from the vessels of zone B.

    Args:
        found: The vessels of each kind, widest first, or why there are none.
        um_per_px: Pixel scale, for Hubbard's formula.
    """
    made: dict[str, Raw | str] = {}
    names: tuple[tuple[str, Side, str], ...] = (
        ("crae", "artery", "arterioles"), ("crve", "vein", "venules"),
    )  # fmt: skip
    for name, side, called in names:
        vessels = found[side]
        if not isinstance(vessels, str) and len(vessels) < BIG_SIX:
            vessels = f"{len(vessels)} {called} were found in zone B, and it takes {BIG_SIX}"
        made |= _equivalents(name, side, vessels, um_per_px)
    for ending in ("", "_hubbard"):
        base = ending or "_px"
        above, below = made[f"crae{base}"], made[f"crve{base}"]
        gap = next((part for part in (above, below) if isinstance(part, str)), None)
        if gap is None and isinstance(above, Raw) and isinstance(below, Raw):
            made[f"avr{ending}"] = Raw(above.value / below.value)
        else:
            made[f"avr{ending}"] = gap or NO_VESSEL
    owner: dict[str, Vessels] = {"crae": "artery", "crve": "vein", "avr": "all"}
    for name, value in made.items():
        yield Key(name, owner[name.split("_")[0]], ZONE_B), value


def _equivalents(
    name: str, side: Side, vessels: list[VesselUsed] | str, um_per_px: float | None
) -> dict[str, Raw | str]:
    if isinstance(vessels, str):
        return {f"{name}_px": vessels, f"{name}_hubbard": vessels}
    widths = [vessel.width_px for vessel in vessels[:BIG_SIX]]
    by_hubbard: Raw | str = "The pixel scale is not known"
    if um_per_px is not None:
        value = hubbard([width * um_per_px for width in widths], side)
        by_hubbard = "The vessels are too thin for the formula" if value is None else Raw(value, 6)
    return {f"{name}_px": Raw(knudtson(widths, side), BIG_SIX), f"{name}_hubbard": by_hubbard}
