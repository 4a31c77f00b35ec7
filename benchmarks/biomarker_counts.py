"""Ends and junctions: how PVBM counts them, how Fovea does, and where the two part.

PVBM walks the skeleton of each tree away from the disc. Where no pixel is left to go to is an
end, where there are several is an intersection. That is sound; four steps round it are not:
trees that begin further than 100 pixels from the disc or have fewer than 50 are left out; side
branches of less than 10 pixels, and places less than 10 pixels after the last one, are not
counted; and a walk that comes back to its own path, as round every mesh that crossing vessels
make, counts an end there or loses a junction.

So both count on the same lines: Fovea's centre lines without the disc, of the trees that PVBM
keeps, without end branches shorter than `LEAST_PX` pixels. Drawn six times larger, ten pixels
are less than two of the mask: then nothing but touching pixels is one place, for PVBM's own code
too. Meshes are opened in the middle of their longest vessel, which gives two ends each, for both.
Bends lose the pixel in their corner: PVBM sees two ways on there and counts an intersection.

A crossing drawn as lines is often two junctions close together. Fovea's measures read them as one
crossing, PVBM does not: so only the first row has Fovea's count as published (bifurcations and
crossings), all others count each place where three lines or more meet.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from biomarker_cases import Bools, Case, Place
from biomarker_truth import _branches, ray, tube

from fovea_plugins.biomarkers.borders import borders
from fovea_plugins.biomarkers.chains import Skeleton, pruned_skeleton
from fovea_plugins.biomarkers.depths import Depths
from fovea_plugins.biomarkers.graph import vessel_graph, without_pinholes
from fovea_plugins.biomarkers.thinning import thinned

LARGER = 6
LEAST_PX = 6
PVBM_NEAR_PX, PVBM_LEAST_PX = 100, 50

Run = Callable[..., list[dict[str, Any]]]


class Count(NamedTuple):
    """Ends, those where PVBM starts included, and places where three lines or more meet."""

    ends: int
    nodes: int


def traced(lines: Bools) -> Skeleton:
    """The lines (H, W) as Fovea's graph has them; nothing is taken off."""
    flat = np.flatnonzero(np.pad(lines, 1))
    return pruned_skeleton(flat, lines.shape[1] + 2, np.zeros(len(flat), np.float32))


def counted(lines: Bools) -> Count:
    """Fovea's count on lines (H, W), before crossings are read."""
    found = traced(lines)
    return Count(sum(chain.free_ends for chain in found.chains), len(found.junctions))


def meetings(mask: Bools, place: Place) -> int:
    """Junctions of Fovea's graph of a mask (H, W) outside the disc, before crossings are read."""
    graph = vessel_graph(mask, 2.0 * math.sqrt(mask.size / math.pi))
    nodes = np.rint(graph.nodes[graph.degrees >= 3])
    x, y, radius = place.disc or (0.0, 0.0, 0.0)
    return int((np.hypot(nodes[:, 0] - x, nodes[:, 1] - y) > radius).sum())


def centre_lines(mask: Bools) -> Bools:
    """Fovea's centre lines of a mask (H, W), as pixels."""
    padded = without_pinholes(borders(mask))
    flat = np.flatnonzero(thinned(padded))
    found = pruned_skeleton(flat, padded.shape[1], Depths(padded).at(flat))
    lines = np.zeros(padded.shape, bool)
    lines.ravel()[found.flat] = True
    return lines[1:-1, 1:-1]


def kept(lines: Bools, place: Place) -> Bools:
    """The lines outside the disc that PVBM keeps, without short end branches."""
    x, y, radius = (round(part) for part in place.disc or (0, 0, 0))
    down, across = np.ogrid[: lines.shape[0], : lines.shape[1]]
    distance = np.hypot(across - x, down - y)
    lines = lines & (distance > radius)
    lines = _pruned(lines)
    count, labels = cv2.connectedComponents(lines.view(np.uint8), connectivity=8)
    size = np.bincount(labels.ravel(), minlength=count)
    nearest = np.full(count, np.inf)
    np.minimum.at(nearest, labels[lines], distance[lines])
    good = (size >= PVBM_LEAST_PX) & (nearest < PVBM_NEAR_PX + radius)
    return np.asarray(good[labels] & lines)


def opened(lines: Bools) -> tuple[Bools, int]:
    """The lines with every mesh cut open in the middle of its longest vessel; how many."""
    found = traced(lines)
    tree = list(range(len(found.junctions)))

    def root(node: int) -> int:
        while tree[node] != node:
            node = tree[node]
        return node

    between = [chain for chain in found.chains if chain.start >= 0 and chain.end >= 0]
    cut: list[int] = []
    meshes = 0
    for chain in sorted(between, key=lambda chain: len(chain.pixels)):
        one, other = root(chain.start), root(chain.end)
        if one == other:
            middle = len(chain.pixels) // 2
            cut += chain.pixels[max(middle - 1, 0) : middle + 2]
            meshes += 1
        tree[one] = other
    return _pruned(_without(lines, found, cut)), meshes


def without_corners(lines: Bools) -> Bools:
    """The lines without pixels in the corner of a bend, whose two neighbours touch anyway.

    PVBM looks at all eight neighbours: from the pixel before a corner it sees the corner and
    the one after it, and takes the bend for a junction.
    """
    padded = np.pad(lines, 1)
    for y, x in np.argwhere(padded):
        near = padded[y - 1 : y + 2, x - 1 : x + 2]
        beside = near[0, 1] + near[2, 1], near[1, 0] + near[1, 2]
        if near.sum() == 3 and beside == (1, 1):
            padded[y, x] = False
    return padded[1:-1, 1:-1]


def _pruned(lines: Bools) -> Bools:
    """The lines without end branches shorter than `LEAST_PX`."""
    while True:
        found = traced(lines)
        short = [
            pixel
            for chain in found.chains
            if chain.free_ends == 1 and len(chain.pixels) < LEAST_PX
            for pixel in chain.pixels
        ]
        if not short:
            return lines
        lines = _without(lines, found, short)


def _without(lines: Bools, found: Skeleton, pixels: list[int]) -> Bools:
    lines = np.pad(lines, 1)
    lines.ravel()[found.flat[pixels]] = False
    return lines[1:-1, 1:-1]


def larger(lines: Bools) -> Bools:
    """The same lines drawn larger, one pixel wide."""
    found = traced(lines)
    width = lines.shape[1] + 2
    drawn = np.zeros(((lines.shape[0] + 2) * LARGER, width * LARGER), np.uint8)
    known = np.zeros(((lines.shape[0] + 2), width), bool)
    known.ravel()[found.flat] = True
    y, x = np.nonzero(known)
    for right, down in ((1, 0), (0, 1), (1, 1), (-1, 1)):
        beside = known[y + down, x + right]
        if right and down:  # no diagonal where a corner pixel joins the two
            beside &= ~known[y, x + right] & ~known[y + down, x]
        for step in range(LARGER + 1):
            rows = y[beside] * LARGER + down * step + LARGER // 2
            drawn[rows, x[beside] * LARGER + right * step + LARGER // 2] = 1
    return drawn.view(np.bool_)


def shapes() -> list[tuple[str, Bools, Place, Count]]:
    """Trees of 15 forkings with 17 ends, at several sizes and turns; a vessel with a mesh."""
    found = []
    for size, turn in ((800, 0), (500, 0), (500, 20), (500, 45), (300, 0)):
        scale = size / 1200.0
        rotate = np.exp(1j * math.radians(turn))
        tree = np.zeros((size, size), bool)
        for level in range(5):
            paths = []
            for path in _branches(level):
                z = np.array([complex(*point) for point in path]) - (600 + 600j)
                z = (z * rotate * 0.9 + (600 + 600j)) * scale
                paths.append(np.column_stack([z.real, z.imag]))
            tree |= tube(size, *paths, width=(14 - 2 * level) * scale)
        z = ((-540 + 0j) * rotate * 0.9 + (600 + 600j)) * scale
        place = Place((z.real, z.imag, 20.0 * scale), None)
        found.append((f"tree, {size} px, turned {turn} deg", tree, place, Count(17, 15)))
    angle = np.linspace(0, 2 * math.pi, 200)
    ring = np.column_stack([300 + 80 * np.cos(angle), 300 + 80 * np.sin(angle)])
    mesh = tube(600, ring, ray(300, 300, 180, 80, 240), ray(300, 300, 0, 80, 240), width=7)
    place = Place((40.0, 300.0, 10.0), None)
    found.append(("vessel that parts and joins", mesh, place, Count(2, 2)))
    return found


def print_counts(cases: list[Case], cache: Path, pvbm: Run | None) -> None:
    """Both counts on drawn shapes and, step by step, on real masks."""
    print(f"\nEnds and junctions\n{'':46}{'ends':>8}{'':8}{'junctions':>10}")
    print(f"{'':46}{'PVBM':>8}{'Fovea':>8}{'truth':>8}{'PVBM':>8}{'Fovea':>8}{'truth':>8}")
    from fovea_plugins.biomarkers import measure

    for words, mask, place, truth in shapes():
        theirs = _by_pvbm(pvbm, Case(words, {"vessels": mask}, place), cache)
        found = measure(mask)
        nodes = (found.value("bifurcations") or 0) + (found.value("crossings") or 0)
        own = Count(round(found.value("ends") or 0), round(nodes))
        print(f"{words:46}{_cell(theirs, 0)}{own.ends:8d}{truth.ends:8d}"
              f"{_cell(theirs, 1)}{own.nodes:8d}{truth.nodes:8d}")  # fmt: skip
    for case in cases:
        mask, place = case.masks["vessels"], case.place
        lines = kept(centre_lines(mask), place)
        tree, meshes = opened(lines)
        bends = without_corners(tree)
        print(f"\n{case.name}, {mask.shape[1]} x {mask.shape[0]}, {meshes} meshes")
        print(f"{'':46}{'ends':>8}{'':8}{'':8}{'junctions':>10}")
        print(f"{'':46}{'PVBM':>8}{'Fovea':>8}{'ratio':>8}{'PVBM':>8}{'Fovea':>8}{'ratio':>8}")
        found = measure(mask, disc=_disc(place))
        nodes = (found.value("bifurcations") or 0) + (found.value("crossings") or 0)
        whole = Count(round(found.value("ends") or 0), round(nodes))
        unread = Count(whole.ends, meetings(mask, place))
        for words, key, given, own in (
            ("each as it measures", "vessels", mask, whole),
            ("the same, crossings not read", "vessels", mask, unread),
            ("on the same lines of the same trees", "lines", lines, counted(lines)),
            (f"the same, drawn {LARGER} times larger", "lines", larger(lines), counted(lines)),
            ("the same, meshes opened", "lines", larger(tree), counted(tree)),
            ("the same, corners of bends cut", "lines", larger(bends), counted(bends)),
        ):
            scale = LARGER if given.shape != mask.shape else 1
            shown = Case(case.name, {key: given}, place.scaled(scale))
            theirs = _by_pvbm(pvbm, shown, cache)
            print(f"{words:46}{_row(theirs, own)}")


def _disc(place: Place) -> Any:
    from fovea_plugins.biomarkers import Disc

    return Disc(place.disc[0], place.disc[1], 2.0 * place.disc[2]) if place.disc else None


def _by_pvbm(pvbm: Run | None, case: Case, cache: Path) -> Count | None:
    if pvbm is None:
        return None
    folder = cache / "counts"
    for old in folder.glob("*.npy"):
        old.unlink()
    (found,) = pvbm(case.write(folder))
    return Count(round(found["ends"]), round(found["nodes"]))


def _cell(count: Count | None, index: int) -> str:
    return f"{'-' if count is None else count[index]:>8}"


def _row(theirs: Count | None, own: Count) -> str:
    return "".join(
        f"{_cell(theirs, k)}{own[k]:8d}" + (f"{theirs[k] / own[k]:8.3f}" if theirs else f"{'-':>8}")
        for k in (0, 1)
    )
