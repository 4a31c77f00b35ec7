"""ETDRS fields, quadrants and zones: geometry, turns and mirrors, missing landmarks."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fovea.contract import Artifact, Caveat, Context, Finding, Measurement, Result
from fovea.image import Eye, Scale
from fovea.testing import synthetic_photograph
from fovea_plugins.regions import (
    ETDRS_FIELDS,
    ETDRS_RADII_MM,
    QUADRANTS,
    ZONES,
    Landmarks,
    NotPlaced,
    etdrs_fields,
    etdrs_shares,
    quadrants,
    zone_shares,
    zones,
)

SHAPE = (90, 120)
UPRIGHT = Landmarks((90.0, 40.0), 16.0, (48.0, 45.0), "OD")
OTHER: dict[Eye | None, Eye | None] = {"OD": "OS", "OS": "OD", None: None}


def at(labels: np.ndarray, x: float, y: float) -> int:
    return int(labels[round(y), round(x)])


# Landmarks


def test_distance_angle_and_scale():
    marks = Landmarks((500.0, 300.0), 100.0, (240.0, 330.0), "OD")
    assert marks.distance_px == pytest.approx(math.hypot(260, 30))
    assert marks.distance_disc_diameters == pytest.approx(math.hypot(2.6, 0.3))
    assert marks.angle_deg == pytest.approx(math.degrees(math.atan(30 / 260)))
    assert replace(marks, fovea_xy=(760.0, 270.0)).angle_deg == pytest.approx(-marks.angle_deg)
    scale = marks.scale(None)
    assert scale.um_per_px == pytest.approx(4760 / marks.distance_px)
    assert scale.relative_sd == pytest.approx(0.34 / 4.76)
    from_file = Scale(5.0, 0.0, "dicom")
    assert marks.scale(from_file) == from_file


@pytest.mark.parametrize(
    ("marks", "why"),
    [
        (Landmarks(), "optic disc was not found"),
        (Landmarks(fovea_xy=(3.0, 4.0)), "optic disc was not found"),
        (Landmarks((50.0, 40.0), 16.0), "fovea was not found"),
        (Landmarks((50.0, 40.0), None, (50.0, 40.0)), "one and the same place"),
        (Landmarks((50.0, 40.0), 16.0, (57.0, 40.0)), "0.4 disc diameters apart"),
        (Landmarks((50.0, 40.0), 16.0, (130.0, 40.0)), "5.0 disc diameters apart"),
        (Landmarks((50.0, 40.0), 16.0, (50.0, 90.0)), "eye is not known"),
    ],
)
def test_a_missing_landmark_is_said(marks, why):
    with pytest.raises(NotPlaced) as caught:
        quadrants(SHAPE, marks)
    assert why in caught.value.why
    with pytest.raises(NotPlaced):
        etdrs_fields(SHAPE, marks, Scale(100.0, 0.0, "dicom"))
    if "eye" not in why:
        assert (marks.distance_px, marks.angle_deg, marks.scale(None)) == (None, None, None)


def test_zones_need_a_disc_and_its_diameter():
    assert set(zones(SHAPE, Landmarks((50.0, 40.0), 16.0))) == set(ZONES)
    for marks, why in (
        (Landmarks(disc_diameter_px=16.0), "disc was not found"),
        (Landmarks((50.0, 40.0)), "diameter of the optic disc is not known"),
    ):
        with pytest.raises(NotPlaced) as caught:
            zones(SHAPE, marks)
        assert why in caught.value.why


def test_a_fovea_that_was_not_seen_gives_a_direction_but_no_distance():
    marks = replace(UPRIGHT, fovea_seen=False)
    assert (marks.distance_px, marks.distance_disc_diameters, marks.angle_deg) == (None, None, None)
    assert marks.scale(None) is None
    np.testing.assert_array_equal(quadrants(SHAPE, marks), quadrants(SHAPE, UPRIGHT))
    with pytest.raises(NotPlaced, match="cannot be placed"):
        etdrs_fields(SHAPE, marks, Scale(100.0, 0.0, "dicom"))


# Geometry


def test_fields_of_a_right_eye_lie_where_they_should():
    marks = Landmarks((876.0, 400.0), 180.0, (400.0, 400.0), "OD")  # 10 um per pixel
    labels = etdrs_fields((800, 1000), marks, marks.scale(None))
    places = {
        "etdrs_centre": (0, 0),
        "etdrs_inner_superior": (0, -100), "etdrs_inner_nasal": (100, 0),
        "etdrs_inner_inferior": (0, 100), "etdrs_inner_temporal": (-100, 0),
        "etdrs_outer_superior": (0, -250), "etdrs_outer_nasal": (250, 0),
        "etdrs_outer_inferior": (0, 250), "etdrs_outer_temporal": (-250, 0),
    }  # fmt: skip
    assert tuple(places) == ETDRS_FIELDS
    for name, (dx, dy) in places.items():
        assert ETDRS_FIELDS[at(labels, 400 + dx, 400 + dy) - 1] == name
    assert at(labels, 400 + 301, 400) == 0
    areas = np.bincount(labels.ravel(), minlength=10)[1:] * 1e-4  # mm2
    centre, middle, outer = (math.pi * r**2 for r in ETDRS_RADII_MM)
    assert areas[0] == pytest.approx(centre, rel=0.01)
    assert areas[1:5] == pytest.approx([(middle - centre) / 4] * 4, rel=0.02)
    assert areas[5:] == pytest.approx([(outer - middle) / 4] * 4, rel=0.02)


def test_the_grid_turns_with_the_axis():
    tilted = Landmarks((876.0, 220.0), 180.0, (400.0, 400.0), "OD")
    labels = etdrs_fields((800, 1000), tilted, Scale(10.0, 0.0, "dicom"))
    angle = math.radians(45 - math.degrees(math.atan2(180, 476)))
    just_below = (400 + 100 * math.cos(angle - 0.05), 400 + 100 * math.sin(angle - 0.05))
    just_above = (400 + 100 * math.cos(angle + 0.05), 400 + 100 * math.sin(angle + 0.05))
    assert ETDRS_FIELDS[at(labels, *just_below) - 1] == "etdrs_inner_nasal"
    assert ETDRS_FIELDS[at(labels, *just_above) - 1] == "etdrs_inner_inferior"


@pytest.mark.parametrize("eye", ["OD", "OS", None])
def test_quadrants_about_fovea_and_disc(eye):
    side = -1 if eye == "OS" else 1
    disc, fovea = (60.0 + side * 25, 45.0), (60.0 - side * 15, 45.0)
    marks = Landmarks(disc, 12.0, fovea, eye)
    about_fovea, about_disc = quadrants(SHAPE, marks), quadrants(SHAPE, marks, "disc")
    for labels, (x, y) in ((about_fovea, fovea), (about_disc, disc)):
        for name, (dx, dy) in {
            "superotemporal": (-5, -5), "inferotemporal": (-5, 5),
            "superonasal": (5, -5), "inferonasal": (5, 5),
        }.items():  # fmt: skip
            assert QUADRANTS[at(labels, x + side * dx, y + dy) - 1] == name
    between = (disc[0] + fovea[0]) / 2
    assert "nasal" in QUADRANTS[at(about_fovea, between, 20) - 1]
    assert "temporal" in QUADRANTS[at(about_disc, between, 20) - 1]


def test_zones_are_those_of_aric():
    marks = Landmarks((500.0, 500.0), 80.0)
    found = zones((1000, 1000), marks)
    distances = np.hypot(*(np.indices((1000, 1000)) - 500.0)) / 40.0
    for name, (inner, outer) in {"zone_a": (1, 2), "zone_b": (2, 3), "zone_c": (2, 5)}.items():
        np.testing.assert_array_equal(found[name], (distances > inner) & (distances <= outer))
    assert not (found["zone_b"] & ~found["zone_c"]).any()


def test_shares_of_a_grid_that_is_cut_by_the_frame():
    marks = Landmarks((676.0, 400.0), 180.0, (200.0, 400.0), "OD")
    scale = marks.scale(None)
    shape = (800, 1000)
    everything = np.ones(shape, bool)
    shares = etdrs_shares(etdrs_fields(shape, marks, scale), everything, scale)
    assert tuple(shares) == ETDRS_FIELDS
    assert shares["etdrs_outer_nasal"] == pytest.approx(1.0, abs=0.01)
    assert 0.1 < shares["etdrs_outer_temporal"] < 0.5  # 100 of its 150 columns are off the frame
    half = everything.copy()
    half[:400] = False
    shares = etdrs_shares(etdrs_fields(shape, marks, scale), half, scale)
    assert shares["etdrs_centre"] == pytest.approx(0.5, abs=0.02)
    assert shares["etdrs_inner_superior"] == 0.0
    masks = zones(shape, marks)
    covered = zone_shares(masks, everything, marks)
    assert covered["zone_a"] == pytest.approx(1.0, abs=0.01)
    assert covered["zone_c"] < 0.9
    assert zone_shares(masks, ~everything, marks) == dict.fromkeys(ZONES, 0.0)


# Turns and mirrors

quarter_pixels = st.integers(-80, 560).map(lambda n: n / 4)


@st.composite
def landmarks(draw: st.DrawFn) -> Landmarks:
    """Disc and fovea anywhere, also beyond the frame; quarter pixels mirror without rounding."""
    disc = (draw(quarter_pixels), draw(quarter_pixels))
    across, down = draw(st.integers(60, 240)) / 4, draw(st.integers(-200, 200)) / 4
    eye = draw(st.sampled_from(["OD", "OS"]))
    side = -1 if eye == "OD" else 1
    fovea = (disc[0] + side * across, disc[1] + down)
    diameter = math.dist(disc, fovea) / draw(st.floats(1.6, 4.4))
    return Landmarks(disc, diameter, fovea, eye)


def mirrored(marks: Landmarks, shape: tuple[int, int]) -> Landmarks:
    def flip(point):
        return shape[1] - 1 - point[0], point[1]

    return replace(
        marks,
        disc_xy=flip(marks.disc_xy),
        fovea_xy=flip(marks.fovea_xy),
        eye=OTHER[marks.eye],
    )


def turned(marks: Landmarks, shape: tuple[int, int]) -> Landmarks:
    """As `np.rot90` turns a picture: left becomes down."""

    def turn(point):
        return point[1], shape[1] - 1 - point[0]

    return replace(marks, disc_xy=turn(marks.disc_xy), fovea_xy=turn(marks.fovea_xy))


def every_region(shape: tuple[int, int], marks: Landmarks) -> list[np.ndarray]:
    return [
        etdrs_fields(shape, marks, Scale(100.0, 0.0, "dicom")),
        quadrants(shape, marks),
        quadrants(shape, marks, "disc"),
        *zones(shape, marks).values(),
    ]


@settings(max_examples=60, deadline=None)
@given(landmarks())
def test_mirrored_landmarks_give_mirrored_regions(marks):
    here = every_region(SHAPE, marks)
    there = every_region(SHAPE, mirrored(marks, SHAPE))
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one[:, ::-1], other)


@settings(max_examples=60, deadline=None)
@given(landmarks(), st.integers(1, 3))
def test_turned_landmarks_give_turned_regions(marks, quarters):
    here = every_region(SHAPE, marks)
    shape = SHAPE
    for _ in range(quarters):
        marks, shape = turned(marks, shape), shape[::-1]
    for one, other in zip(here, every_region(shape, marks), strict=True):
        np.testing.assert_array_equal(np.rot90(one, quarters), other)


@settings(max_examples=60, deadline=None)
@given(landmarks())
def test_an_upright_picture_needs_no_eye(marks):
    if abs(marks.angle_deg or 0.0) > 44:
        return
    unknown = replace(marks, eye=None)
    for one, other in zip(every_region(SHAPE, marks), every_region(SHAPE, unknown), strict=True):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=60, deadline=None)
@given(landmarks(), st.floats(20.0, 300.0))
def test_fields_part_the_grid_and_shares_stay_within_bounds(marks, um_per_px):
    scale = Scale(um_per_px, 0.0, "dicom")
    labels = etdrs_fields(SHAPE, marks, scale)
    assert labels.dtype == np.uint8
    assert labels.max(initial=0) <= len(ETDRS_FIELDS)
    rows, columns = np.indices(SHAPE)
    reach = np.hypot(columns - marks.fovea_xy[0], rows - marks.fovea_xy[1]) * um_per_px / 1000
    inside = np.abs(reach - 3.0) > 1e-4  # single precision
    np.testing.assert_array_equal((labels > 0)[inside], (reach <= 3.0)[inside])
    field = np.ones(SHAPE, bool)
    shares = etdrs_shares(labels, field, scale) | zone_shares(zones(SHAPE, marks), field, marks)
    assert all(0.0 <= share <= 1.0 for share in shares.values())


def test_twelve_megapixels_take_no_third_of_a_second():
    marks = Landmarks((2600.0, 1450.0), 400.0, (1600.0, 1550.0), "OD")
    shape = (3000, 4000)
    for work in (
        lambda: etdrs_fields(shape, marks, marks.scale(None)),
        lambda: quadrants(shape, marks),
        lambda: zones(shape, marks),
    ):
        spent = []
        for _ in range(3):
            clock = time.process_time()
            work()
            spent.append(time.process_time() - clock)
        assert min(spent) < 0.3


# From a context


def measured(name: str, value: float) -> Measurement:
    return Measurement(name=name, value=value, unit="px", method="drawn")


def gate(*, eye: str | None = "OS", caveats: tuple[Caveat, ...] = ()) -> Result:
    return Result(
        summary="Drawn.",
        measurements=tuple(
            measured(name, value)
            for name, value in (
                ("disc_x", 100.0), ("disc_y", 300.0), ("fovea_x", 400.0), ("fovea_y", 320.0),
            )
        ),
        findings=(Finding(concept="eye", state="present" if eye else "indeterminate", value=eye),),
        caveats=caveats,
    )  # fmt: skip


def context(tmp_path: Path, gate_result: Result, *, eye: Eye | None, disc: bool = False) -> Context:
    image = replace(synthetic_photograph(), eye=eye)
    names = ("disc_x", "disc_y", "fovea_x", "fovea_y", "eye")
    earlier = dict.fromkeys(names, gate_result)
    if disc:
        mask = np.zeros((image.height, image.width), np.uint8)
        cv2.ellipse(mask, ((110.0, 305.0), (60.0, 80.0), 0.0), 255, -1)
        path = tmp_path / "optic_disc.png"
        cv2.imwrite(str(path), mask)
        outline = Result(
            summary="Drawn.",
            measurements=(
                measured("disc_diameter_vertical", 80.0), measured("disc_diameter_horizontal", 60.0)
            ),
            artifacts=(Artifact(name="optic_disc", kind="mask", path=path),),
        )  # fmt: skip
        names = ("optic_disc", "disc_diameter_vertical", "disc_diameter_horizontal")
        earlier |= dict.fromkeys(names, outline)
    return Context(images=(image,), work_dir=tmp_path, earlier=earlier)


def test_the_outline_gives_centre_and_diameter_of_the_disc(tmp_path):
    marks = Landmarks.from_context(context(tmp_path, gate(), eye="OS", disc=True))
    assert marks.disc_xy == pytest.approx((110.0, 305.0), abs=0.5)
    assert (marks.disc_diameter_px, marks.fovea_xy) == (70.0, (400.0, 320.0))
    assert (marks.eye, marks.fovea_seen) == ("OS", True)


def test_without_an_outline_the_gate_is_asked(tmp_path):
    marks = Landmarks.from_context(context(tmp_path, gate(), eye=None))
    assert marks == Landmarks((100.0, 300.0), None, (400.0, 320.0), "OS")
    assert Landmarks.from_context(
        Context(images=(synthetic_photograph(),), work_dir=tmp_path)
    ) == Landmarks(eye="OD")


def test_an_eye_that_the_picture_contradicts_decides_nothing(tmp_path):
    disputed = Landmarks.from_context(context(tmp_path, gate(), eye="OD"))
    assert disputed.eye is None
    assert disputed.axes()[1][1] < 0, "superior is at the top"
    upside_down = Landmarks.from_context(context(tmp_path, gate(eye=None), eye="OD"))
    assert upside_down.eye == "OD"
    assert upside_down.axes()[1][1] > 0, "the label tells that the picture is turned by half"


def test_an_estimated_fovea_counts_as_unseen(tmp_path):
    caveat = Caveat(code="fovea_estimated", text="No dark fovea was seen.")
    marks = Landmarks.from_context(context(tmp_path, gate(caveats=(caveat,)), eye="OS"))
    assert marks.fovea_xy is not None
    assert not marks.fovea_seen
