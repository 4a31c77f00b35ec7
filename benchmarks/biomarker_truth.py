"""Shapes whose values are known by construction, measured by Fovea and by PVBM.

Every shape is drawn as all pixels within half a width of a path, so that its truth does not
depend on how a line is rasterised. The disc lies where PVBM needs it: its trees must start
near the disc, and its equivalents come from the ring of 2 to 3 disc radii.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from biomarker_cases import Bools, Case, Place

FINE = 4
"""Shapes are drawn this many times finer, then a pixel counts when half of it is inside."""


@dataclass(frozen=True)
class Shape:
    """A drawn shape.

    Attributes:
        words: What it is.
        case: Its masks.
        truth: The value by construction.
        ours, theirs: What Fovea and PVBM call the value.
    """

    words: str
    case: Case
    truth: float
    ours: str
    theirs: str


def tube(size: int, *paths: Any, width: float) -> Bools:
    """All that lies within half a width of polylines of points x, y; ends are round."""
    fine = np.zeros((size * FINE, size * FINE), np.uint8)
    for path in paths:
        points = np.round((np.asarray(path, float) + 0.5) * FINE * 16 - 8).astype(np.int32)
        line = np.full_like(fine, 1)
        cv2.polylines(line, [points], False, 0, 1, cv2.LINE_8, 4)
        fine |= (cv2.distanceTransform(line, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
                 <= width * FINE / 2.0).astype(np.uint8)  # fmt: skip
    coverage = cv2.resize(fine.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(coverage >= 0.5)


def ray(x: float, y: float, angle_deg: float, start: float, stop: float) -> list[Any]:
    """Two points on a ray from x, y."""
    turn = math.radians(angle_deg)
    return [(x + r * math.cos(turn), y + r * math.sin(turn)) for r in (start, stop)]


def shapes() -> Iterator[Shape]:
    """Every shape, simple ones first."""
    corner = Place((30.0, 30.0, 10.0), None)
    for angle in (0, 5, 10, 22.5, 30, 45):
        mask = tube(600, ray(45, 45, angle, 0, 480), width=7)
        yield Shape(f"straight line at {angle:g} deg: tortuosity", _case(mask, corner), 1.0,
                    "tortuosity", "tortuosity_index")  # fmt: skip
    turn = np.linspace(0, math.pi, 400)
    arc = np.column_stack([300 - 200 * np.cos(turn), 450 - 200 * np.sin(turn)])
    place = Place((100.0, 480.0, 10.0), None)
    yield Shape("half circle: tortuosity", _case(tube(600, arc, width=7), place), math.pi / 2,
                "tortuosity", "tortuosity_index")  # fmt: skip
    x = np.linspace(0, 480, 800)
    wave = np.column_stack([60 + x, 300 + 25 * np.sin(x / 20)])
    length = np.hypot(*np.diff(wave, axis=0).T).sum()
    place = Place((40.0, 300.0, 10.0), None)
    yield Shape("sine wave: tortuosity", _case(tube(600, wave, width=7), place),
                float(length / np.hypot(*(wave[-1] - wave[0]))), "tortuosity",
                "tortuosity_index")  # fmt: skip
    yield Shape("sine wave: length, px", _case(tube(600, wave, width=7), place), float(length),
                "vessel_length", "length")  # fmt: skip
    for angle in (40, 60, 75, 90):
        arms = [ray(300, 300, side * angle / 2, 0, 220) for side in (-1, 1)]
        mask = tube(600, [(60, 300), (300, 300)], *arms, width=7)
        yield Shape(f"fork of {angle} deg: branching angle", _case(mask, place), angle,
                    "branching_angle", "branching_angle")  # fmt: skip
    cross = tube(600, ray(300, 300, 0, -240, 240), ray(300, 300, 60, -240, 240), width=7)
    yield Shape("two vessels that cross: bifurcations", _case(cross, place), 0.0,
                "bifurcations", "intersections")  # fmt: skip
    tree = np.zeros((1200, 1200), bool)
    for level in range(TREE_LEVELS + 1):
        tree |= tube(1200, *_branches(level), width=14 - 2 * level)
    place = Place((60.0, 600.0, 20.0), None)
    yield Shape(f"tree of {TREE_LEVELS} forkings: ends", _case(tree, place),
                2.0**TREE_LEVELS + 1, "ends", "endpoints")  # fmt: skip
    yield Shape(f"tree of {TREE_LEVELS} forkings: bifurcations", _case(tree, place),
                2.0**TREE_LEVELS - 1, "bifurcations", "intersections")  # fmt: skip
    yield from _widths()
    yield from _fractals()


TREE_LEVELS = 4


def _branches(level: int) -> list[list[Any]]:
    """The branches of one level of a tree from the left, 0.62 times as long each level."""
    if not level:
        return [ray(90, 600, 0, 0, 400)]
    found = []
    for (x0, y0), (x1, y1) in _branches(level - 1):
        before = math.degrees(math.atan2(y1 - y0, x1 - x0))
        length = 0.62 * math.hypot(x1 - x0, y1 - y0)
        found += [ray(x1, y1, before + side * 40, 0, length) for side in (-1, 1)]
    return found


def _widths() -> Iterator[Shape]:
    """One vessel through the ring: its equivalent is its width; and six, at two sizes."""
    for width in (4, 8, 12):
        for angle in (0, 22.5, 45):
            bar = tube(800, ray(400, 400, angle, 60, 380), width=width)
            yield Shape(f"one vessel of {width} px at {angle:g} deg: its width",
                        _case(bar, Place((400.0, 400.0, 80.0), None), artery=True),
                        _drawn(bar, width, 320.0), "width_mean", "craek")  # fmt: skip
    for size in (1, 2):
        width, radius, centre = 10 * size, 60 * size, 300 * size
        spokes = [ray(centre, centre, 15 + 60 * k, 1.5 * radius, 4.5 * radius) for k in range(6)]
        wheel = tube(600 * size, *spokes, width=width)
        place = Place((float(centre), float(centre), float(radius)), None)
        case = _case(wheel, place, artery=True)
        three = 0.88 * math.sqrt(2) * _drawn(wheel, width, 3.0 * radius, count=6)
        truth = 0.88 * math.hypot(0.88 * math.sqrt(2) * three, three)
        yield Shape(f"six vessels of {width} px: CRAE by Knudtson", case, truth, "crae_px", "craek")


def _drawn(mask: Bools, width: float, length: float, count: int = 1) -> float:
    """Width of tubes with round ends as they came out: whole pixels are wider than asked for."""
    return (float(mask.sum()) / count - math.pi * width**2 / 4) / length


def _fractals() -> Iterator[Shape]:
    place = Place((2.0, 2.0, 1.0), None)
    side = 729
    carpet = np.ones((1, 1), bool)
    for _ in range(6):
        carpet = np.block([[carpet, carpet, carpet], [carpet, np.zeros_like(carpet), carpet],
                           [carpet, carpet, carpet]])  # fmt: skip
    row = np.arange(1024)
    triangle = (row[:, None] & row[None, :]) == 0
    line = np.zeros((900, 900), bool)
    line[450, 50:850] = True
    koch = _koch(6)
    for words, mask, truth in (
        ("Sierpinski triangle: D0", triangle, math.log(3) / math.log(2)),
        ("Sierpinski carpet: D0", np.pad(carpet, side // 4), math.log(8) / math.log(3)),
        ("Koch curve: D0", koch, math.log(4) / math.log(3)),
        ("line: D0", line, 1.0),
    ):
        yield Shape(words, _case(mask, place), truth, "fractal_dimension", "D0")


def _koch(times: int) -> Bools:
    points = np.array([0j, 1 + 0j])
    for _ in range(times):
        step = np.diff(points) / 3
        turned = step * np.exp(1j * math.pi / 3)
        parts = [points[:-1], points[:-1] + step, points[:-1] + step + turned,
                 points[:-1] + 2 * step]  # fmt: skip
        points = np.append(np.column_stack(parts).ravel(), points[-1])
    path = np.column_stack([points.real * 900 + 50, 400 - points.imag * 900])
    mask = np.zeros((1000, 1000), np.uint8)
    cv2.polylines(mask, [np.round(path * 16).astype(np.int32)], False, 1, 1, cv2.LINE_8, 4)
    return np.asarray(mask > 0)


def _case(mask: Bools, place: Place, *, artery: bool = False) -> Case:
    masks = {"vessels": mask, "artery": mask} if artery else {"vessels": mask}
    return Case("shape", masks, place)


Run = Callable[..., list[dict[str, Any]]]
"""What a toolbox measured in folders, as `run_peer` gives it."""


def print_truth(cache: Path, tools: dict[str, Run]) -> None:
    """Each shape with its truth, and how far Fovea and PVBM are from it."""
    drawn = list(shapes())
    folders = [
        shape.case.write(cache / "shapes" / f"{k:02d}", fractals=shape.theirs == "D0")
        for k, shape in enumerate(drawn)
    ]
    found = {name: run(*folders) for name, run in tools.items() if name in ("fovea", "pvbm")}
    print(f"\nKnown truth\n{'':44}{'truth':>9}{'Fovea':>10}{'error':>8}{'PVBM':>10}{'error':>8}")
    for k, shape in enumerate(drawn):
        line = f"{shape.words:44}{shape.truth:9.4g}"
        for name in found:
            key = shape.ours if name == "fovea" else shape.theirs
            value = found[name][k]["values"].get(key, "-")
            if isinstance(value, str):
                line += f"{value[:16]:>18}"
            elif shape.truth:
                line += f"{value:10.4g}{(value / shape.truth - 1):+8.1%}"
            else:
                line += f"{value:10.4g}{'':8}"
        print(line)
    _print_hubbard(cache, tools)


def _print_hubbard(cache: Path, tools: dict[str, Run]) -> None:
    """AVR by Hubbard of the same wheel at two sizes: its constants are square micrometres."""
    print("\nAVR by Hubbard: six arterioles of 10 px, six venules of 14 px, and twice as large")
    for size in (1, 2):
        radius, centre = 80 * size, 400 * size
        masks = {}
        for name, first, width in (("artery", 15, 10), ("vein", 45, 14)):
            spokes = [ray(centre, centre, first + 60 * k, 1.5 * radius, 4.5 * radius)
                      for k in range(6)]  # fmt: skip
            masks[name] = tube(800 * size, *spokes, width=width * size)
        masks["vessels"] = masks["artery"] | masks["vein"]
        # The fovea is put where a pixel is 10 micrometres, or 5 in the larger picture.
        place = Place(
            (float(centre), float(centre), float(radius)), (centre + 476.0 * size, float(centre))
        )
        folder = Case("wheel", masks, place).write(
            cache / "shapes" / f"wheel{size}", fractals=False
        )
        line = f"  {size}x:"
        for name, run in tools.items():
            values = run(folder)[0]["values"]
            if name == "fovea":
                line += f" Fovea {values.get('avr_hubbard', math.nan):.3f}"
            elif name == "pvbm":
                line += f" PVBM {values['craeh'] / values['crveh']:.3f}"
        print(line)


SCALE_FREE = (
    # Fovea's measure, PVBM's, and the power of the length that it has
    ("vessel_area", "area", 2), ("vessel_length", "length", 1), ("perimeter", None, 1),
    ("vessel_density", None, 0), ("vessel_length_density", None, 0),
    ("vessel_length_per_area", None, -1),
    ("width_mean", None, 1), ("width_median", None, 1), ("width_sd", None, 1),
    ("crae_px", "craek", 1), ("crve_px", "crvek", 1), ("avr", "avr_k", 0),
    ("crae_hubbard", None, 0), ("crve_hubbard", None, 0), ("avr_hubbard", None, 0),
    ("tortuosity", "tortuosity_index", 0), ("tortuosity_median", "tortuosity_median", 0),
    ("squared_curvature", None, -2), ("tortuosity_density", None, -1),
    ("branching_angle", "branching_angle", 0), ("asymmetry_ratio", None, 0),
    ("junction_exponent", None, 0), ("bifurcations", None, 0), ("crossings", None, 0),
    ("nodes", "intersections", 0), ("ends", "endpoints", 0),
    ("fractal_dimension", "D0", 0), ("information_dimension", "D1", 0),
    ("correlation_dimension", "D2", 0), ("singularity_length", "singularity_length", 0),
    ("lacunarity", None, 0), ("strahler_order", None, 0), ("strahler_ratio", None, 0),
)  # fmt: skip


def print_resolution(
    cases: list[Case],
    cache: Path,
    peers: dict[str, Path],
    measured: Callable[[Path, dict[str, Path]], dict[str, dict[str, Any]]],
) -> None:
    """The same outlines with fewer pixels: each value over that of the full size.

    Lengths and areas are brought back to pixels of the full size first, so 1 is no change.
    """
    # Not 0.5: of four pixels two are often inside, and the rule for that would decide.
    factors = (1.0, 0.7, 0.45)
    found = [
        [
            measured(
                case.shrunk(factor).write(cache / "masks" / f"{case.name} x {factor:g}"),
                {name: python for name, python in peers.items() if name == "pvbm"},
            )
            for factor in factors
        ]
        for case in cases
    ]
    print(f"\nFewer pixels: value at 0.7 and 0.45 of the size, {len(cases)} pictures, median")
    print(f"{'':24}{'Fovea 0.7':>11}{'0.45':>8}{'PVBM 0.7':>11}{'0.45':>8}")
    for ours, theirs, power in SCALE_FREE:
        line = f"{ours:24}"
        for tool, key in (("fovea", ours), ("pvbm", theirs)):
            for factor, width in zip(factors[1:], (11, 8), strict=True):
                ratios = [
                    _change(sizes[0], sizes[factors.index(factor)], tool, key) for sizes in found
                ]
                known = [ratio / factor**power for ratio in ratios if ratio is not None]
                line += f"{np.median(known):{width}.3f}" if known else " " * (width - 1) + "-"
        print(line)


def _change(
    full: dict[str, dict[str, Any]], small: dict[str, dict[str, Any]], tool: str, key: str | None
) -> float | None:
    one, other = (found.get(tool, {}).get("values", {}).get(key) for found in (full, small))
    if isinstance(one, int | float) and isinstance(other, int | float) and one and other > 0:
        return other / one
    return None
