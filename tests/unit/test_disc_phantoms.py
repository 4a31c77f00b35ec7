"""Discs and cups whose measures are known by construction."""

from __future__ import annotations

import doctest
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fovea_plugins.biomarkers import disc_values
from fovea_plugins.biomarkers.disc import DEFINITIONS, DESCRIPTORS, disc_fovea_line, measure_disc

CLOCK = np.arange(360) + 0.5
OTHER_EYE = {"OD": "OS", "OS": "OD", None: None}
LENGTHS = [name for name, meant in DEFINITIONS.items() if meant.unit == "px"]


@dataclass(frozen=True)
class Ellipse:
    """Semi-axes `a`, `b`; `a` lies at `lean` degrees from the vertical, anticlockwise."""

    x: float
    y: float
    a: float
    b: float
    lean: float = 0.0

    @property
    def axes(self):
        angle = math.radians(self.lean)
        along = np.array([-math.sin(angle), -math.cos(angle)])
        return along, np.array([along[1], -along[0]])

    def mask(self, shape):
        y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
        away = x - self.x, y - self.y
        along, across = (away[0] * way[0] + away[1] * way[1] for way in self.axes)
        return (along / self.a) ** 2 + (across / self.b) ** 2 <= 1

    def extent(self, clock_deg):
        angle = math.radians(clock_deg)
        way = np.array([math.sin(angle), -math.cos(angle)])
        along, across = self.axes
        return 2 * math.hypot(self.a * (way @ along), self.b * (way @ across))

    @property
    def area(self):
        return math.pi * self.a * self.b

    def radii(self, x, y, turned=0.0):
        """Distance from a point to the farther edge along each ray; 0 where missed."""
        angle = np.deg2rad(CLOCK - turned)
        ways = np.stack([np.sin(angle), -np.cos(angle)])
        turn = np.stack(self.axes) / np.array([[self.a], [self.b]])
        start, way = turn @ np.array([x - self.x, y - self.y]), turn @ ways
        a, b, c = (way**2).sum(0), 2 * start @ way, start @ start - 1
        root = np.sqrt(np.maximum(b * b - 4 * a * c, 0))
        return np.where(b * b >= 4 * a * c, np.maximum((root - b) / (2 * a), 0), 0)

    def turned(self, by_deg, about=(0.0, 0.0)):
        """Turned anticlockwise, as seen, about a point."""
        angle = math.radians(by_deg)
        x, y = self.x - about[0], self.y - about[1]
        return replace(
            self,
            x=about[0] + x * math.cos(angle) + y * math.sin(angle),
            y=about[1] - x * math.sin(angle) + y * math.cos(angle),
            lean=self.lean + by_deg,
        )

    def scaled(self, by):
        return replace(self, x=self.x * by, y=self.y * by, a=self.a * by, b=self.b * by)


def hours(per_ray):
    """Means over the rays of the clock hours 1 to 12."""
    near = [np.abs((CLOCK - 30 * hour + 180) % 360 - 180) < 15 for hour in range(1, 13)]
    return np.array([per_ray[rays].mean() for rays in near])


def rim(measures, name="rim_width"):
    return np.array([measures.value(name, zone=f"clock_{hour}") for hour in range(1, 13)])


def measured(disc, cup, shape, **options):
    return measure_disc(disc.mask(shape), cup.mask(shape), **{"eye": "OD", **options})


def everything(measures):
    return {(m.name, m.zone): m.value for m in measures.measurements}


SHAPE = (420, 440)
PHANTOMS = [
    (Ellipse(210, 205, 45, 45), Ellipse(210, 205, 20, 20)),
    (Ellipse(210.3, 205.7, 45, 45), Ellipse(212.1, 203.2, 27, 27)),
    (Ellipse(210.5, 205.5, 60, 50), Ellipse(205, 210, 22, 30)),
    (Ellipse(210.2, 205.9, 90, 75, 25), Ellipse(214, 200, 50, 40, -40)),
    (Ellipse(215, 205, 120, 100, -10), Ellipse(205.4, 215.3, 90, 80, 60)),
    (Ellipse(220.7, 209.4, 160, 125, 80), Ellipse(210, 205, 40, 35, 5)),
]


@pytest.mark.parametrize(("disc", "cup"), PHANTOMS)
def test_known_ratios_sizes_and_rims(disc, cup):
    m = measured(disc, cup, SHAPE)
    assert m.value("vertical_cdr") == pytest.approx(cup.extent(0) / disc.extent(0), abs=0.01)
    assert m.value("horizontal_cdr") == pytest.approx(cup.extent(90) / disc.extent(90), abs=0.01)
    assert m.value("area_cdr") == pytest.approx(cup.area / disc.area, abs=0.01)
    assert m.value("disc_area_px2") == pytest.approx(disc.area, rel=0.01)
    assert m.value("cup_area_px2") == pytest.approx(cup.area, rel=0.01)
    assert m.value("rim_area_px2") == pytest.approx(disc.area - cup.area, rel=0.01)
    assert m.value("disc_diameter") == pytest.approx(2 * math.sqrt(disc.a * disc.b), rel=0.005)
    assert m.value("disc_diameter_vertical") == pytest.approx(disc.extent(0), abs=1.0)
    assert m.value("disc_diameter_horizontal") == pytest.approx(disc.extent(90), abs=1.0)
    assert m.value("disc_ovality") == pytest.approx(disc.b / disc.a, abs=0.005)
    to_edge = disc.radii(disc.x, disc.y)
    width = to_edge - cup.radii(disc.x, disc.y)
    ratio = width / (to_edge + np.roll(to_edge, 180))
    assert np.abs(rim(m) - hours(width)).max() < 1.0
    assert np.abs(rim(m, "rim_disc_ratio") - hours(ratio)).max() < 0.01
    assert m.value("rim_disc_ratio_min") == pytest.approx(ratio.min(), abs=0.01)


@pytest.mark.parametrize("lean", [-60, -20, 5, 45, 89])
@pytest.mark.parametrize("ovality", [0.6, 0.8, 0.93])
def test_long_axis_and_ovality(lean, ovality):
    disc = Ellipse(200, 201, 80, 80 * ovality, lean)
    m = measured(disc, Ellipse(200, 201, 30, 30), SHAPE)
    assert m.value("disc_ovality") == pytest.approx(ovality, abs=0.005)
    assert m.value("disc_orientation") == pytest.approx(lean, abs=1.0)


def test_a_round_disc_has_no_long_axis():
    m = measured(Ellipse(200, 200, 80, 79.5), Ellipse(200, 200, 30, 30), SHAPE, fovea_xy=(0, 220))
    assert m.value("disc_ovality") > 0.98
    assert "round" in m.reason("disc_orientation")
    assert "round" in m.reason("disc_torsion")


def test_narrowest_rim_is_found_where_the_cup_was_moved_to():
    for hour in range(1, 13):
        angle = math.radians(30 * hour)
        disc = Ellipse(200.4, 200.8, 100, 100)
        cup = Ellipse(200.4 + 30 * math.sin(angle), 200.8 - 30 * math.cos(angle), 50, 50)
        m = measured(disc, cup, SHAPE)
        assert m.value("rim_disc_ratio_min_clock_hour") == hour
        assert m.value("rim_disc_ratio_min") == pytest.approx(20 / 200, abs=0.006)
    even = measured(disc, replace(disc, a=50, b=50), SHAPE)
    assert even.value("rim_disc_ratio_min") == pytest.approx(0.25, abs=0.006)
    assert "equally narrow" in even.reason("rim_disc_ratio_min_clock_hour")


def test_arc_without_rim():
    disc, cup = Ellipse(200, 200, 100, 100), Ellipse(200, 200, 70, 70)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    wedge = disc.mask(SHAPE) & (x > 200) & (np.abs(y - 200) < x - 200)
    m = measure_disc(disc.mask(SHAPE), cup.mask(SHAPE) | wedge, eye="OD")
    assert m.value("rim_absent_arc") == pytest.approx(90, abs=3)
    assert m.value("rim_disc_ratio_min") == pytest.approx(0, abs=0.005)
    assert m.value("rim_disc_ratio_min_clock_hour") == 3
    assert measured(disc, cup, SHAPE).value("rim_absent_arc") == 0


def test_a_cup_as_large_as_the_disc_leaves_no_rim():
    disc = Ellipse(200, 200, 80, 70)
    m = measured(disc, disc, SHAPE)
    ones = ("vertical_cdr", "horizontal_cdr", "area_cdr")
    assert [m.value(name) for name in ones] == [1.0, 1.0, 1.0]
    assert m.value("rim_area_px2") == 0
    assert m.value("rim_absent_arc") == 360


def test_rays_that_miss_a_small_decentred_cup_see_rim_all_the_way():
    m = measured(Ellipse(200, 200, 100, 100), Ellipse(200, 150, 20, 20), SHAPE)
    assert m.value("rim_width_inferior") == pytest.approx(100, abs=1)
    assert m.value("rim_width", zone="clock_12") < 50


def test_nasal_and_temporal_change_sides_with_the_eye():
    disc, cup = Ellipse(200, 200, 100, 100), Ellipse(185, 194, 50, 50)
    right, left = (measured(disc, cup, SHAPE, eye=eye) for eye in ("OD", "OS"))
    unknown = measured(disc, cup, SHAPE, eye=None)
    assert right.value("rim_width_nasal") == left.value("rim_width_temporal")
    assert right.value("rim_width_nasal") > right.value("rim_width_temporal") + 20
    assert right.said("isnt_order") == "N > I > S > T"
    assert left.said("isnt_order") == "T > I > S > N"
    assert np.array_equal(rim(unknown), rim(right))
    for name in ("rim_width_nasal", "rim_width_temporal", "isnt_order"):
        assert "which eye" in unknown.reason(name)
    assert unknown.value("rim_width_inferior") == right.value("rim_width_inferior")


def test_widths_within_a_pixel_are_not_ranked():
    m = measured(Ellipse(200, 200, 100, 100), Ellipse(200, 196, 50, 50), SHAPE)
    assert m.said("isnt_order") in ("I > N ≈ T > S", "I > T ≈ N > S")


DISC, CUP = Ellipse(221.3, 198.6, 90, 72, 20), Ellipse(230.1, 190.2, 48, 38, -30)
FOVEA = (20.0, 240.0)


def turned_by(name, masks, eye, axis, fovea):
    """Masks and what goes with them after a flip or turn of the picture."""
    height, width = masks[0].shape
    x, y = fovea
    if name == "mirrored":
        return [m[:, ::-1] for m in masks], OTHER_EYE[eye], -axis, (width - 1 - x, y)
    if name == "upside down":
        return [m[::-1] for m in masks], eye, -axis, (x, height - 1 - y)
    if name == "quarter turn":
        return [np.rot90(m) for m in masks], eye, axis + 90, (y, width - 1 - x)
    return [np.rot90(m, 2) for m in masks], eye, axis + 180, (width - 1 - x, height - 1 - y)


@pytest.mark.parametrize("turn", ["mirrored", "upside down", "quarter turn", "half turn"])
@pytest.mark.parametrize("axis", [0.0, 7.5])
def test_flips_and_quarter_turns_are_exact(turn, axis):
    masks = [DISC.mask(SHAPE), CUP.mask(SHAPE)]
    known = everything(measure_disc(*masks, eye="OD", axis_deg=axis, fovea_xy=FOVEA))
    masks, eye, angle, fovea = turned_by(turn, masks, "OD", axis, FOVEA)
    found = everything(measure_disc(*masks, eye=eye, axis_deg=angle, fovea_xy=fovea))
    if turn == "mirrored":
        hour, swapped = (lambda h: 12 - h), {}
        opposite = ["disc_orientation"]
    elif turn == "upside down":
        hour = lambda h: 6 - h  # noqa: E731
        swapped = {"rim_width_superior": "rim_width_inferior"}
        opposite = ["disc_orientation", "disc_torsion", "disc_fovea_angle"]
    else:
        hour, swapped, opposite = (lambda h: h), {}, []
    swapped |= {b: a for a, b in swapped.items()}
    assert known.keys() == found.keys()
    for (name, zone), value in known.items():
        if zone:
            zone = f"clock_{hour(int(zone.removeprefix('clock_'))) % 12 or 12}"
        if name == "rim_disc_ratio_min_clock_hour":
            value = hour(value) % 12 or 12
        sign = -1 if name in opposite else 1
        other = found[swapped.get(name, name), zone]
        assert other == pytest.approx(sign * value, rel=1e-9, abs=1e-9), name


@pytest.mark.parametrize("angle", [3, 11.3, 30, 45, 58, 77.7, 123, 251])
def test_any_turn_of_the_picture_changes_little_when_the_axis_turns_with_it(angle):
    middle = (219.5, 209.5)
    fovea = Ellipse(*FOVEA, 1, 1)
    known = measured(DISC, CUP, SHAPE, fovea_xy=FOVEA)
    turned = fovea.turned(angle, middle)
    found = measured(
        DISC.turned(angle, middle),
        CUP.turned(angle, middle),
        SHAPE,
        axis_deg=angle,
        fovea_xy=(turned.x, turned.y),
    )
    assert found.value("disc_area_px2") == pytest.approx(known.value("disc_area_px2"), rel=0.005)
    for name in ("vertical_cdr", "horizontal_cdr", "area_cdr", "disc_ovality"):
        assert found.value(name) == pytest.approx(known.value(name), abs=0.01), name
    for name in ("disc_diameter_vertical", "disc_diameter_horizontal", "disc_fovea_distance"):
        assert found.value(name) == pytest.approx(known.value(name), rel=0.02), name
    for name in ("disc_orientation", "disc_torsion", "disc_fovea_angle"):
        assert found.value(name) == pytest.approx(known.value(name), abs=0.5), name
    assert np.abs(rim(found) - rim(known)).max() < 1.0
    assert np.abs(rim(found) / rim(known) - 1).max() < 0.04  # one pixel of the narrowest hour
    assert found.said("isnt_order") == known.said("isnt_order")


def test_disc_fovea_line_and_torsion():
    line = disc_fovea_line((300, 200), (100, 235))
    assert line.distance_px == pytest.approx(math.hypot(200, 35))
    assert line.below_deg == pytest.approx(math.degrees(math.atan2(35, 200)))
    assert line.side == "left"
    assert line.axis_deg == pytest.approx(line.below_deg)
    mirrored = disc_fovea_line((100, 200), (300, 235))
    assert (mirrored.side, mirrored.below_deg) == ("right", line.below_deg)
    assert mirrored.axis_deg == pytest.approx(-line.axis_deg)
    # The upper end leans left: temporally in a right eye, whose fovea lies left of the disc.
    disc, cup = Ellipse(300, 200, 80, 60, 20), Ellipse(300, 200, 30, 30)
    right = measured(disc, cup, SHAPE, eye="OD", fovea_xy=(40, 200))
    assert right.value("disc_torsion") == pytest.approx(20, abs=0.5)
    left = measured(replace(disc, x=130), replace(cup, x=130), SHAPE, eye="OS", fovea_xy=(390, 200))
    assert left.value("disc_torsion") == pytest.approx(-20, abs=0.5)
    tilted = measured(disc, cup, SHAPE, eye="OD", fovea_xy=(40, 200 + 260 * math.tan(0.2)))
    assert tilted.value("disc_torsion") == pytest.approx(20 - math.degrees(0.2), abs=0.5)
    assert tilted.value("disc_fovea_angle") == pytest.approx(math.degrees(0.2), abs=0.1)
    levelled = measured(
        disc,
        cup,
        SHAPE,
        fovea_xy=(40, 250),
        axis_deg=disc_fovea_line((300, 200), (40, 250)).axis_deg,
    )
    assert levelled.value("disc_fovea_angle") == pytest.approx(0, abs=0.1)
    assert levelled.value("disc_orientation") == pytest.approx(levelled.value("disc_torsion"))


def test_fovea_on_the_nasal_side_contradicts_the_eye():
    m = measured(DISC, CUP, SHAPE, eye="OS", fovea_xy=FOVEA)
    for name in ("disc_torsion", "rim_width_nasal", "rim_width_temporal_um", "isnt_order"):
        assert m.value(name) is None
    assert "nasal side" in m.reason("disc_torsion")
    assert m.value("disc_fovea_distance") > 150
    assert m.value("rim_width_superior") > 0


def test_physical_sizes_have_an_interval_from_the_scale():
    disc, cup = Ellipse(200, 200, 100, 90), Ellipse(200, 200, 50, 45)
    m = measured(disc, cup, SHAPE, um_per_px=9.0, scale_relative_sd=0.02)
    by_name = {(x.name, x.zone): x for x in m.measurements}
    height = by_name["disc_diameter_vertical_mm", None]
    assert height.value == pytest.approx(1.8, rel=0.01)
    assert height.interval.high / height.value == pytest.approx(1 + 1.645 * 0.02)
    area = by_name["disc_area", None]
    assert area.value == pytest.approx(math.pi * 0.9 * 0.81, rel=0.01)
    assert area.interval.low / area.value == pytest.approx(1 - 2 * 1.645 * 0.02)
    assert m.value("rim_width_superior_um") == pytest.approx(9 * m.value("rim_width_superior"))
    assert m.said("disc_size_class") == "average"
    vague = measured(disc, cup, SHAPE, um_per_px=9.0, scale_relative_sd=0.09)
    assert "boundary" in vague.reason("disc_size_class")
    exact = {um: measured(disc, cup, SHAPE, um_per_px=um) for um in (5.0, 12.0)}
    assert [exact[um].said("disc_size_class") for um in exact] == ["small", "large"]
    assert all(x.interval is None for x in exact[5.0].measurements)


def test_atrophy_counts_outside_the_disc_only():
    disc, cup = Ellipse(200, 200, 80, 80), Ellipse(200, 200, 40, 40)
    ring = replace(disc, a=100, b=100).mask(SHAPE)
    m = measured(disc, cup, SHAPE, atrophy=ring, um_per_px=10.0)
    area = math.pi * (100**2 - 80**2)
    assert m.value("atrophy_area_px2") == pytest.approx(area, rel=0.01)
    assert m.value("atrophy_area") == pytest.approx(area * 1e-4, rel=0.01)
    assert m.value("atrophy_disc_ratio") == pytest.approx(area / disc.area, rel=0.01)
    none_seen = measured(disc, cup, SHAPE, atrophy=np.zeros(SHAPE, bool))
    assert none_seen.value("atrophy_area_px2") == 0


def test_rim_given_as_a_ring_is_a_disc():
    ring = DISC.mask(SHAPE) & ~CUP.mask(SHAPE)
    found = measure_disc(ring, CUP.mask(SHAPE), eye="OD")
    assert everything(found) == everything(measured(DISC, CUP, SHAPE))


SMALL = (180, 190)
ellipses = st.builds(
    Ellipse,
    x=st.floats(90, 95),
    y=st.floats(87, 92),
    a=st.floats(45, 75),
    b=st.floats(45, 75),
    lean=st.floats(0, 180),
)


@settings(max_examples=25, deadline=None)
@given(disc=ellipses, share=st.floats(0.4, 0.8), factor=st.sampled_from([0.8, 1.5, 2.0]))
def test_lengths_grow_with_the_picture_and_ratios_do_not(disc, share, factor):
    cup = replace(disc, a=disc.a * share, b=disc.b * share)
    one = measured(disc, cup, SMALL)
    shape = tuple(round(side * factor) for side in SMALL)
    two = measured(disc.scaled(factor), cup.scaled(factor), shape)
    for name in ("vertical_cdr", "horizontal_cdr", "area_cdr", "disc_ovality"):
        assert two.value(name) == pytest.approx(one.value(name), abs=0.015), name
    for name in LENGTHS:
        if one.value(name) is not None:
            known = one.value(name) * factor
            assert two.value(name) == pytest.approx(known, abs=1.0 + factor), name
    for name in ("disc_area_px2", "cup_area_px2", "rim_area_px2"):
        assert two.value(name) == pytest.approx(one.value(name) * factor**2, rel=0.02), name


@settings(max_examples=25, deadline=None)
@given(disc=ellipses, um=st.floats(1, 30), factor=st.floats(1.1, 10))
def test_physical_sizes_grow_with_the_scale(disc, um, factor):
    cup = replace(disc, a=disc.a / 2, b=disc.b / 2)
    one, two = (measured(disc, cup, SMALL, um_per_px=s) for s in (um, um * factor))
    powers = {"um": 1, "mm": 1, "mm2": 2}
    for key, value in everything(one).items():
        power = powers.get(DEFINITIONS[key[0]].unit, 0)
        assert everything(two)[key] == pytest.approx(value * factor**power, rel=1e-9), key


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_larger_cup_never_has_a_smaller_ratio_or_a_wider_rim(data):
    disc = data.draw(ellipses)
    mask = disc.mask(SMALL)
    spots = st.builds(
        Ellipse,
        x=st.floats(50, 140),
        y=st.floats(50, 130),
        a=st.floats(1, 30),
        b=st.floats(1, 30),
        lean=st.floats(0, 180),
    )
    cup = np.zeros(SMALL, bool)
    before = None
    for spot in data.draw(st.lists(spots, min_size=2, max_size=4)):
        cup = cup | (spot.mask(SMALL) & mask)
        m = measure_disc(mask, cup, eye="OD")
        if before and before.value("vertical_cdr") is not None:
            for name in ("vertical_cdr", "horizontal_cdr", "area_cdr", "rim_absent_arc"):
                assert m.value(name) >= before.value(name) - 1e-9, name
            for name in ("rim_area_px2", "rim_disc_ratio_min", "rim_width_nasal"):
                assert m.value(name) <= before.value(name) + 1e-9, name
            assert (rim(m) <= rim(before) + 1e-9).all()
        before = m


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    share=st.floats(0, 1),
    smooth=st.booleans(),
    eye=st.sampled_from(["OD", "OS", None]),
    axis=st.floats(-400, 400),
    um=st.none() | st.floats(0.1, 100),
)
def test_any_masks_give_finite_values_or_reasons(seed, share, smooth, eye, axis, um):
    rng = np.random.default_rng(seed)
    disc, cup = rng.random((2, 70, 80)) < share
    if smooth:
        y, x = np.mgrid[:70, :80]
        disc = np.hypot(x - 40, y - 35) < rng.uniform(10, 34)
        cup &= np.hypot(x - 40, y - 35) < rng.uniform(1, 20)
    m = measure_disc(disc, cup, eye=eye, axis_deg=axis, um_per_px=um, fovea_xy=(5.0, 30.0))
    has = {x.name for x in m.measurements} | {d.name for d in m.descriptors}
    lacks = [n.name for n in m.not_measured]
    assert not has & set(lacks)
    assert sorted([*has, *lacks]) == sorted([*DEFINITIONS, *DESCRIPTORS])
    for x in m.measurements:
        assert math.isfinite(x.value)
        assert x.unit == DEFINITIONS[x.name].unit
        assert x.value >= 0 or x.unit == "deg"


def test_the_example_in_the_documentation_holds():
    assert doctest.testmod(disc_values).failed == 0
    assert doctest.testmod(disc_values).attempted > 0
