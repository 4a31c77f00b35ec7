"""Vessel measures on shapes whose values are known by construction."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fovea_plugins.biomarkers import Disc, Measure, PhysicalScale, measure
from fovea_plugins.biomarkers.calibre import hubbard, knudtson
from fovea_plugins.biomarkers.fractal import grid_dimensions, multifractal
from fovea_plugins.biomarkers.graph import vessel_graph

SIZE, FINE = 300, 3


def tube(points, width, size=SIZE):
    """All that lies within half a width of a polyline, sampled three times finer."""
    fine = np.zeros((size * FINE, size * FINE), bool)
    points = np.asarray(points, float)
    for start, end in pairwise(points):
        low, high = np.minimum(start, end) - width, np.maximum(start, end) + width
        x0, y0 = np.clip(np.floor(low).astype(int), 0, size)
        x1, y1 = np.clip(np.ceil(high).astype(int) + 1, 0, size)
        x, y = ((np.arange(p * FINE, q * FINE) + 0.5) / FINE - 0.5 for p, q in ((x0, x1), (y0, y1)))
        along = end - start
        share = ((x[None] - start[0]) * along[0] + (y[:, None] - start[1]) * along[1]) / (
            along @ along
        )
        share = np.clip(share, 0.0, 1.0)
        near = np.hypot(
            x[None] - start[0] - share * along[0], y[:, None] - start[1] - share * along[1]
        )
        fine[y0 * FINE : y1 * FINE, x0 * FINE : x1 * FINE] |= near <= width / 2.0
    return cv2.resize(fine.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA) >= 0.5


def turned(points, angle_deg, centre=150.0):
    angle = np.deg2rad(angle_deg)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(points, float) @ turn.T + centre


def arm(angle_deg, length=125.0):
    return turned([(0, 0), (length, 0)], angle_deg)


@pytest.mark.parametrize("width", [3, 5, 8, 13])
@pytest.mark.parametrize("angle", [0, 7, 22.5, 45, 71, 90])
def test_tubes_have_the_width_that_was_drawn_and_are_straight(angle, width):
    mask = tube(turned([(-100, 0), (100, 0)], angle), width)
    # Round ends add a circle: what is drawn across is the area less that, over the length.
    drawn = (mask.sum() - np.pi * width**2 / 4.0) / 200.0
    found = measure(mask)
    for name in ("width_mean", "width_median"):
        assert found.value(name) == pytest.approx(drawn, rel=0.03)
    assert found.value("width_sd") < 0.06 * width
    assert found.value("tortuosity") == pytest.approx(1.0, abs=0.002)
    assert found.value("vessel_length") == pytest.approx(200 + width / 2, rel=0.02)
    assert found.value("perimeter") == pytest.approx(400 + np.pi * width, rel=0.025)
    assert (found.value("bifurcations"), found.value("ends")) == (0, 2)


@pytest.mark.parametrize("angle", [0, 25])
@pytest.mark.parametrize(("height", "period", "width"), [(10, 65, 5), (20, 80, 7), (30, 130, 5)])
def test_sinusoids_have_the_tortuosity_of_their_integral(height, period, width, angle):
    x = np.linspace(-120, 120, 400)
    points = np.column_stack([x, height * np.sin(2 * np.pi * x / period)])
    arc = np.hypot(*np.diff(points, axis=0).T).sum()
    chord = np.hypot(*(points[-1] - points[0]))
    found = measure(tube(turned(points, angle), width))
    assert found.value("tortuosity") == pytest.approx(arc / chord, rel=0.02)
    assert found.value("tortuosity_median") == pytest.approx(arc / chord, rel=0.02)
    assert found.value("tortuosity_density") > 0


@pytest.mark.parametrize("radius", [40, 70, 110])
def test_half_circles_have_the_tortuosity_and_curvature_of_circles(radius):
    angle = np.linspace(0, np.pi, 200)
    points = radius * np.column_stack([np.cos(angle), np.sin(angle)])
    found = measure(tube(turned(points, 17), 4))
    assert found.value("tortuosity") == pytest.approx(np.pi / 2, rel=0.02)
    # The pixel grid alone passes for a radius of 300 pixels.
    assert found.value("squared_curvature") == pytest.approx(radius**-2, rel=0.03, abs=300**-2)
    assert found.value("tortuosity_density") == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("angle", [40, 60, 75, 90, 110])
@pytest.mark.parametrize("turn", [0, 10, 33, 77])
def test_forks_have_the_angle_that_was_drawn(angle, turn):
    arms = [tube(arm(a + turn), 7) for a in (180, angle / 2, -angle / 2)]
    found = measure(arms[0] | arms[1] | arms[2])
    assert found.value("branching_angle") == pytest.approx(angle, abs=2)
    assert (found.value("bifurcations"), found.value("ends")) == (1, 3)
    assert found.value("crossings") == 0


@pytest.mark.parametrize("exponent", [2.0, 3.0])
def test_forks_have_the_ratio_and_exponent_that_were_drawn(exponent):
    wide, narrow = 16.0, 11.0
    parent = (wide**exponent + narrow**exponent) ** (1.0 / exponent)
    masks = [tube(arm(a, 140.0), w) for a, w in ((180, parent), (35, wide), (-40, narrow))]
    found = measure(masks[0] | masks[1] | masks[2])
    assert found.value("asymmetry_ratio") == pytest.approx((narrow / wide) ** 2, rel=0.06)
    # A width off by 1 % moves an exponent of 3 by 10 %.
    assert found.value("junction_exponent") == pytest.approx(exponent, rel=0.25)


@pytest.mark.parametrize("angle", [35, 60, 90])
@pytest.mark.parametrize("turn", [0, 13])
def test_crossing_vessels_are_one_crossing_and_no_fork(angle, turn):
    one, two = (tube(turned([(-120, 0), (120, 0)], a), 7) for a in (turn, turn + angle))
    found = measure(one | two)
    assert (found.value("crossings"), found.value("bifurcations")) == (1, 0)
    assert found.value("ends") == 4


def test_artery_and_vein_masks_tell_a_crossing_that_looks_like_two_forks():
    artery = tube([(30, 100), (120, 140), (180, 160), (270, 200)], 6)
    vein = tube([(30, 200), (120, 160), (180, 140), (270, 100)], 6)
    found = measure(artery | vein, arteries=artery, veins=vein)
    assert (found.value("crossings"), found.value("bifurcations")) == (1, 0)
    assert found.value("bifurcations", vessels="artery") == 0


def koch(level):
    points = [0.0 + 0.0j, 1.0 + 0.0j]
    for _ in range(level):
        longer = [points[0]]
        for a, b in pairwise(points):
            step = (b - a) / 3.0
            longer += [a + step, a + step * (1 + np.exp(1j * np.pi / 3)), a + 2 * step, b]
        points = longer
    return np.array([(p.real, p.imag) for p in points])


def test_fractals_have_their_dimension():
    y, x = np.mgrid[:729, :729]
    gasket = (x[:512, :512] & y[:512, :512]) == 0
    carpet = np.ones((729, 729), bool)
    for level in range(6):
        carpet &= ~((x // 3**level % 3 == 1) & (y // 3**level % 3 == 1))
    curve = np.zeros((760, 1300), np.uint8)
    line = np.round((koch(5) * [1200, 1200] + [40, 40]) * 256).astype(np.int32)
    cv2.polylines(curve, [line], False, 1, 1, cv2.LINE_8, 8)
    straight = np.zeros((600, 600), np.uint8)
    cv2.line(straight, (20, 40), (570, 411), 1)
    for mask, truth in (
        (np.ones((400, 400), bool), 2.0),
        (gasket, np.log2(3)),
        (carpet, np.log(8) / np.log(3)),
        (curve > 0, np.log(4) / np.log(3)),
        (straight > 0, 1.0),
    ):
        found = multifractal(mask)
        assert found.d0 == pytest.approx(truth, abs=0.02)
        assert (found.d1, found.d2) == pytest.approx((truth, truth), abs=0.025)


def test_one_scaling_law_has_a_narrow_spectrum_and_two_have_a_wide_one():
    even = multifractal(np.ones((400, 400), bool))
    assert even.singularity_length == pytest.approx(0.0, abs=0.01)
    both = np.zeros((500, 900), bool)
    both[50:450, 450:850] = True
    both[248:251, 20:450] = True
    assert multifractal(both).singularity_length > 0.4


def test_box_counting_on_one_grid_agrees_on_a_plane():
    sides = np.array([4, 8, 16, 32])
    assert grid_dimensions(np.ones((256, 256), bool), sides) == pytest.approx((2.0,) * 3)


def star(widths, spokes=None, size=SIZE, centre=150.0, radius=25.0):
    """Straight vessels of given widths that leave a disc."""
    mask = np.zeros((size, size), bool)
    for angle, width in zip(spokes or np.arange(len(widths)) * 360 / len(widths), widths,
                            strict=True):  # fmt: skip
        step = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
        mask |= tube([centre + step * radius * 0.8, centre + step * radius * 4.5], width, size)
    return mask


ARTERIES, VEINS = (9, 8, 8, 7, 6, 5, 4), (11, 10, 9, 9, 8, 7)


def test_equivalents_follow_from_the_six_widest_vessels_of_zone_b():
    arteries = star(ARTERIES, spokes=[5, 57, 109, 161, 213, 265, 317])
    veins = star(VEINS, spokes=[31, 83, 135, 187, 239, 291])
    found = measure(
        arteries | veins, arteries=arteries, veins=veins, disc=Disc(150.0, 150.0, 50.0),
        scale=PhysicalScale(20.0, 0.05),
    )  # fmt: skip
    crae, crve = knudtson(ARTERIES[:6], "artery"), knudtson(VEINS, "vein")
    assert found.value("crae_px") == pytest.approx(crae, rel=0.03)
    assert found.value("crve_px") == pytest.approx(crve, rel=0.03)
    assert found.value("avr") == pytest.approx(crae / crve, rel=0.03)
    assert found.value("crae") == pytest.approx(20 * crae, rel=0.03)
    assert found.value("crae_dd") == pytest.approx(crae / 50, rel=0.03)
    by_hubbard = hubbard([20.0 * w for w in ARTERIES[:6]], "artery")
    assert found.value("crae_hubbard") == pytest.approx(by_hubbard, rel=0.03)
    used = [vessel.width_px for vessel in found.vessels_used["artery"]]
    assert used == pytest.approx(ARTERIES[:6], rel=0.05)
    interval = found.get("crae").interval
    half = 1.645 * 0.05 * found.value("crae")
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=1e-6)


def test_formulas_of_knudtson_and_hubbard_by_hand():
    # Two pairs, then their pair: 0.88 sqrt(3^2 + 4^2) = 4.4 and so on.
    assert knudtson([3, 4], "artery") == pytest.approx(4.4)
    assert knudtson([3, 4, 3, 4], "vein") == pytest.approx(0.95 * np.hypot(4.75, 4.75))
    assert knudtson([5, 3, 4], "artery") == pytest.approx(0.88 * np.hypot(4, 0.88 * np.hypot(3, 5)))
    assert hubbard([100, 120], "artery") == pytest.approx(
        np.sqrt(0.87 * 100**2 + 1.01 * 120**2 - 0.22 * 100 * 120 - 10.76)
    )
    assert hubbard([100, 120], "vein") == pytest.approx(
        np.sqrt(0.72 * 100**2 + 0.91 * 120**2 + 450.05)
    )


def tree(scale=1.0, angle=0.0, shift=(0.0, 0.0), size=SIZE):
    """A small tree with forks, bends and vessels of several widths."""
    bends = np.linspace(-105, 20, 200)
    lines = [
        (np.column_stack([bends, 8 * np.sin(bends / 14)]), 8.0),
        ([(20, 8 * np.sin(20 / 14)), (70, -50), (75, -95)], 6.0),
        ([(20, 8 * np.sin(20 / 14)), (80, 45), (110, 52)], 5.0),
        ([(80, 45), (85, 90)], 4.0),
        ([(-50, 8 * np.sin(-50 / 14)), (-60, -80)], 4.0),
        ([(-20, 8 * np.sin(-20 / 14)), (-10, 85)], 4.5),
    ]
    mask = np.zeros((size, size), bool)
    for points, width in lines:
        placed = turned(np.asarray(points) * scale, angle, size / 2) + shift
        mask |= tube(placed, width * scale, size)
    return mask


TURNS = (
    lambda m: m[:, ::-1], np.flipud, np.transpose, np.rot90, lambda m: np.rot90(m, 2),
    lambda m: np.rot90(m, 3), lambda m: np.rot90(m)[::-1],
)  # fmt: skip


@pytest.mark.parametrize("turn", TURNS)
def test_mirrored_and_quarter_turned_pictures_give_the_same_to_the_last_bit(turn):
    mask, veins = tree(angle=20), tree(angle=20) & (np.mgrid[:SIZE, :SIZE][1] > 150)
    grey = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2)
    pictures = (mask, mask & ~veins, veins, grey)
    one, two = (
        measure(vessels, arteries=arteries, veins=veins, probability=grey)
        for vessels, arteries, veins, grey in (
            pictures, [np.ascontiguousarray(turn(p)) for p in pictures]
        )
    )  # fmt: skip
    assert one.found == two.found
    assert sum(isinstance(value, Measure) for value in one.found.values()) > 60


ROTATION_FREE = (
    "vessel_area", "vessel_length", "width_mean", "tortuosity", "perimeter", "fractal_dimension",
    "information_dimension", "correlation_dimension",
)  # fmt: skip


@settings(max_examples=8, deadline=None, derandomize=True)
@given(angle=st.floats(0, 360), x=st.floats(-4, 4), y=st.floats(-4, 4))
def test_any_rotation_changes_nothing_by_more_than_two_percent(angle, x, y):
    one, two = measure(tree()), measure(tree(angle=angle, shift=(x, y)))
    for name in ROTATION_FREE:
        assert two.value(name) == pytest.approx(one.value(name), rel=0.02), name
    for name in ("bifurcations", "ends", "crossings", "strahler_order"):
        assert two.value(name) == one.value(name), name


@settings(max_examples=5, deadline=None, derandomize=True)
@given(scale=st.floats(1.3, 2.5))
def test_scaling_laws(scale):
    big = round(SIZE * scale)
    found = [
        measure(mask, disc=Disc(size * 0.15, size * 0.85, size * 0.1))
        for mask, size in ((tree(), SIZE), (tree(big / SIZE, size=big), big))
    ]
    for name, power in (
        ("vessel_area", 2), ("vessel_length", 1), ("perimeter", 1), ("width_mean", 1),
        ("width_median", 1), ("vessel_length_per_area", -1),
        ("vessel_density", 0), ("vessel_length_density", 0), ("tortuosity", 0),
        ("vessel_area_dd", 0), ("vessel_length_dd", 0), ("width_mean_dd", 0),
        ("fractal_dimension", 0),
    ):  # fmt: skip
        one, two = (each.value(name) for each in found)
        tolerance = {"fractal_dimension": 0.005, "width_median": 0.05}.get(name, 0.025)
        assert two == pytest.approx(one * (big / SIZE) ** power, rel=tolerance), name


@settings(max_examples=10, deadline=None, derandomize=True)
@given(top=st.integers(0, 25), left=st.integers(0, 25))
def test_empty_margins_change_nothing_but_densities(top, left):
    mask = tree()
    one = measure(mask)
    two = measure(np.pad(mask, ((top, 3), (left, 9))))
    for name in ("vessel_area", "width_mean", "fractal_dimension", "branching_angle", "ends"):
        assert two.value(name) == pytest.approx(one.value(name), rel=0.002), name


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.45))
def test_the_graph_of_any_mask_is_consistent(seed, share):
    graph = vessel_graph(np.random.default_rng(seed).random((60, 60)) < share)
    for segment in graph.segments:
        assert len(segment.widths) == len(segment.path)
        assert max(segment.start, segment.end) < len(graph.nodes)
        assert np.isfinite(segment.path).all()
    assert (graph.arcs >= graph.chords - 1e-9).all()
    assert graph.degrees.sum() == 2 * len(graph.ends)
