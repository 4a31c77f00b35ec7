"""What cannot be measured says why, and leaves what can be measured alone."""

from __future__ import annotations

import numpy as np
import pytest

from fovea.errors import BadArguments
from fovea_plugins.biomarkers.disc import DEFINITIONS, DESCRIPTORS, disc_fovea_line, measure_disc

SHAPE = (200, 220)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
ALL = {*DEFINITIONS, *DESCRIPTORS}
NEEDS_CUP = {name for name, meant in DEFINITIONS.items() if "cup" in meant.needs} | {"isnt_order"}


def circle(x, y, radius):
    return np.hypot(X - x, Y - y) <= radius


DISC, CUP = circle(110, 100, 60), circle(110, 100, 30)


def reasons(measures):
    return {item.name: item.reason for item in measures.not_measured}


def one_pixel():
    mask = np.zeros(SHAPE, bool)
    mask[100, 110] = True
    return mask


@pytest.mark.parametrize(
    ("disc", "words"),
    [
        (np.zeros(SHAPE, bool), "empty"),
        (one_pixel(), "1.1 pixels across"),
        (circle(110, 100, 14), "pixels across"),
        (np.ones(SHAPE, bool), "cut by the border"),
        (circle(110, 30, 60), "cut by the border"),
        (circle(110, 60, 60), "cut by the border"),
        (circle(70, 100, 30) | circle(150, 100, 30), "2 parts"),
        (DISC.astype(float) * 0.7, "other values"),
        (DISC.astype(np.uint8) + CUP, "other values"),
        (np.where(DISC, 1.0, np.nan), "other values"),
        (DISC.astype(str), "not True and False"),
        (np.dstack([DISC] * 3), "shape (200, 220, 3)"),
        (np.zeros((0, 5), bool), "shape (0, 5)"),
        (DISC[100], "shape (220,)"),
        (circle(110, 100, 60) & ~circle(135, 100, 59), "shape of a disc"),
    ],
)
def test_without_a_whole_disc_everything_is_missing_for_one_reason(disc, words):
    m = measure_disc(disc, CUP, eye="OD", um_per_px=10.0, fovea_xy=(0.0, 100.0))
    assert m.measurements == m.descriptors == ()
    assert reasons(m).keys() == ALL
    assert all(words in reason for reason in reasons(m).values())


@pytest.mark.parametrize(
    ("cup", "words"),
    [
        (None, "No cup mask"),
        (np.zeros(SHAPE, bool), "empty"),
        (one_pixel(), "too small"),
        (np.ones(SHAPE, bool), "outside the disc"),
        (circle(160, 100, 30), "outside the disc"),
        (CUP.astype(np.uint8) * 7, "other values"),
        (CUP[:-1], "shape (199, 220)"),
        (np.dstack([CUP] * 3), "shape (200, 220, 3)"),
    ],
)
def test_without_a_cup_the_disc_is_still_measured(cup, words):
    fovea = (0.0, 110.0)
    m = measure_disc(DISC, cup, eye="OD", um_per_px=10.0, fovea_xy=fovea, atrophy=DISC & ~DISC)
    lacking = reasons(m)
    round_disc = {"disc_orientation", "disc_torsion"}
    assert lacking.keys() == NEEDS_CUP | round_disc
    assert all(words in lacking[name] for name in NEEDS_CUP)
    whole = measure_disc(DISC, CUP, eye="OD", um_per_px=10.0, fovea_xy=fovea)
    for measurement in m.measurements:
        if not measurement.name.startswith("atrophy"):
            assert measurement.value == whole.value(measurement.name, zone=measurement.zone)


def test_masks_of_numbers_count_like_masks_of_truth():
    known = measure_disc(DISC, CUP, eye="OD")
    for high, kind in ((1, np.uint8), (255, np.uint8), (1, float), (1, np.int64)):
        found = measure_disc(DISC.astype(kind) * high, CUP.astype(kind) * high, eye="OD")
        assert found == known


def test_specks_and_holes_do_not_count():
    disc, cup = DISC.copy(), CUP.copy()
    disc[5, 5] = True
    disc[100:104, 80:84] = False
    cup[60, 110] = True  # a lone pixel far above the cup
    cup[100:104, 100:104] = False
    found, known = measure_disc(disc, cup, eye="OD"), measure_disc(DISC, CUP, eye="OD")
    for name in ("vertical_cdr", "horizontal_cdr", "disc_area_px2", "disc_ovality"):
        assert found.value(name) == pytest.approx(known.value(name), rel=1e-9), name
    assert found.value("cup_area_px2") == known.value("cup_area_px2") + 1


def test_a_cup_that_spills_a_little_is_cut_off_at_the_disc():
    cup = circle(140, 100, 29.5) | circle(171, 100, 1)
    m = measure_disc(DISC, cup, eye="OD")
    inside = measure_disc(DISC, cup & DISC, eye="OD")
    assert (cup & ~DISC).any()
    assert m == inside
    assert m.value("rim_width", zone="clock_3") >= 0


def test_a_disc_at_the_edge_of_the_field_is_cut():
    field = X > 55
    m = measure_disc(DISC & field, CUP, eye="OD", field_of_view=field)
    assert all("cut by the border" in reason for reason in reasons(m).values())
    assert measure_disc(DISC, CUP, eye="OD", field_of_view=X > 20).value("vertical_cdr") is not None
    wrong = measure_disc(DISC, CUP, eye="OD", field_of_view=field[1:])
    assert "field of view has shape" in wrong.reason("vertical_cdr")


@pytest.mark.parametrize(
    ("fovea", "words"),
    [
        (None, "not known"),
        ((110.0, 100.0), "in or beside the disc"),
        ((40.0, 100.0), "in or beside the disc"),
        ((110.0, 10.0), "in or beside the disc"),
        ((100.0, -300.0), "not upright"),
    ],
)
def test_without_a_fovea_what_needs_it_is_missing(fovea, words):
    disc = (X - 110) ** 2 / 60**2 + (Y - 100) ** 2 / 75**2 <= 1
    m = measure_disc(disc, CUP, eye="OD", fovea_xy=fovea)
    for name in ("disc_fovea_distance", "disc_fovea_angle", "disc_torsion"):
        assert words in m.reason(name)
    assert m.value("disc_orientation") is not None


@pytest.mark.parametrize(
    ("atrophy", "words"),
    [
        (None, "No mask"),
        (np.ones(SHAPE, bool), "cut by the border"),
        (DISC[1:], "shape (199, 220)"),
        (DISC.astype(np.uint8) * 3, "other values"),
        (np.zeros((3, 3), bool), "empty"),
    ],
)
def test_atrophy_that_cannot_be_measured_says_why(atrophy, words):
    m = measure_disc(DISC, CUP, eye="OD", atrophy=atrophy)
    assert words in m.reason("atrophy_area_px2")
    assert m.value("vertical_cdr") == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    "options",
    [
        {"eye": "left"},
        {"axis_deg": float("nan")},
        {"um_per_px": 0.0},
        {"um_per_px": -3.0},
        {"um_per_px": float("inf")},
        {"scale_relative_sd": -0.1},
        {"scale_relative_sd": float("nan")},
        {"fovea_xy": (float("nan"), 3.0)},
    ],
)
def test_arguments_out_of_range_are_refused_by_name(options):
    with pytest.raises(BadArguments) as caught:
        measure_disc(DISC, CUP, **{"eye": "OD", **options})
    assert next(iter(options)) in str(caught.value)


def test_a_line_needs_two_points():
    with pytest.raises(BadArguments):
        disc_fovea_line((3.0, 3.0), (3.0, 3.0))
    with pytest.raises(BadArguments):
        disc_fovea_line((3.0, 3.0), (float("inf"), 3.0))
