"""Vessel and lesion measures when something is wrong or unknown: a reason, never a number."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from fovea.errors import BadArguments
from fovea.image import Scale
from fovea_plugins.biomarkers import (
    DEFINITIONS,
    Disc,
    Measure,
    NotMeasured,
    PhysicalScale,
    measure,
)
from fovea_plugins.biomarkers.fractal import grid_dimensions, multifractal
from fovea_plugins.biomarkers.graph import vessel_graph
from fovea_plugins.biomarkers.lesions import measure_lesions
from fovea_plugins.regions import Landmarks

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
SHAPE = (200, 240)


def vessels():
    image = np.zeros(SHAPE, np.uint8)
    for start, end, width in (
        ((10, 100), (230, 90), 6), ((100, 96), (180, 20), 5), ((120, 95), (170, 190), 4),
    ):  # fmt: skip
        cv2.line(image, start, end, 1, width)
    return image > 0


def numbers(found):
    return {key: value for key, value in found.found.items() if isinstance(value, Measure)}


def assert_sound(found):
    for key, value in found.found.items():
        if isinstance(value, NotMeasured):
            assert len(value.reason) > 3
            continue
        assert np.isfinite(value.value), key
        assert value.value >= 0.0, key
        assert value.unit == DEFINITIONS[key.name].unit


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (np.zeros(SHAPE, bool), "empty"),
        (np.ones(SHAPE, bool), "no vessel tree"),
        (np.arange(48000).reshape(SHAPE) % 7, "other values"),
        (np.zeros((*SHAPE, 3), bool), "shape"),
        (np.zeros((0, 5), bool), "shape"),
        (np.array([["a"]]), "holds"),
        (np.where(vessels(), np.nan, 0.0), "other values"),
    ],
)
def test_a_bad_vessel_mask_is_the_reason_of_every_measure(mask, why):
    found = measure(mask)
    assert found.found
    assert all(isinstance(v, NotMeasured) and why in v.reason for v in found.found.values())
    assert set(found.as_row().values()) == {None}


def test_one_pixel_has_an_area_and_nothing_else_of_a_vessel():
    mask = np.zeros(SHAPE, bool)
    mask[50, 60] = True
    found = measure(mask)
    assert_sound(found)
    assert found.value("vessel_area") == 1.0
    assert found.value("vessel_length") == 0.0
    assert vessel_graph(np.zeros((5, 5), bool)).segments == ()
    for name in ("width_mean", "tortuosity", "branching_angle", "fractal_dimension", "crae_px"):
        assert found.reason(name)


@pytest.mark.parametrize("kind", ["border", "speckle", "blob", "two_pixels", "diagonal"])
def test_odd_masks_give_numbers_or_reasons(kind):
    mask = np.zeros(SHAPE, bool)
    if kind == "border":
        mask[:3] = mask[:, -4:] = mask[:, 50:55] = True
    elif kind == "speckle":
        mask = np.random.default_rng(0).random(SHAPE) < 0.2
    elif kind == "blob":
        mask[50:150, 60:160] = True
    elif kind == "two_pixels":
        mask[5, 5] = mask[100, 100] = True
    else:
        mask[np.arange(200), np.arange(200)] = True
    assert_sound(measure(mask, disc=Disc(60, 60, 20), fovea=(120, 62)))


def test_without_a_disc_zones_are_not_assessable_and_the_rest_is_measured():
    found = measure(vessels())
    assert found.value("tortuosity") is not None
    assert found.reason("tortuosity", region="zone_b") == "The optic disc was not found"
    assert found.reason("vessel_density", region="superotemporal")
    assert found.reason("vessel_length_dd") == "The diameter of the optic disc is not known"
    assert found.reason("vessel_length_mm") == "The pixel scale is not known"
    assert found.regions == ("field",)


@pytest.mark.parametrize(
    ("disc", "field_px"), [(Disc(95.0, 75.0, 260.0), None), (Disc(95.0, 75.0, 100.0), 40.0)]
)
def test_a_disc_that_covers_the_field_is_the_reason_of_every_measure(disc, field_px):
    mask = vessels()[:150, :190]
    rows, columns = np.mgrid[:150, :190]
    seen = None if field_px is None else np.hypot(columns - 95, rows - 75) <= field_px
    found = measure(mask, disc=disc, field=seen, fovea=(20.0, 80.0))
    reasons = {getattr(value, "reason", None) for value in found.found.values()}
    assert reasons == {"The optic disc covers the field of view"}


def test_a_bad_disc_mask_is_the_reason_of_the_zones():
    found = measure(vessels(), disc=np.zeros(SHAPE, bool))
    assert found.reason("vessel_area", region="zone_a") == "The disc mask is empty"
    assert found.value("vessel_area") == np.count_nonzero(vessels())


def test_arteries_without_veins_leave_the_ratio_alone():
    mask = vessels()
    found = measure(mask, arteries=mask, disc=Disc(60, 98, 20))
    assert found.value("tortuosity", vessels="artery") == found.value("tortuosity")
    assert found.reason("tortuosity", vessels="vein") == "No vein mask was given"
    assert found.reason("avr")
    assert "it takes 6" in found.reason("crae_px")


def test_a_bad_artery_mask_costs_only_what_needs_it():
    found = measure(vessels(), arteries=np.zeros((5, 5), bool), veins=vessels().astype(int) * 3)
    assert found.reason("vessel_area", vessels="artery") == "The artery mask is empty"
    assert "other values" in found.reason("vessel_area", vessels="vein")
    assert found.value("vessel_area") is not None
    odd = measure(vessels(), arteries=np.ones((5, 5), bool))
    assert "shape (5, 5)" in odd.reason("vessel_area", vessels="artery")


def test_zones_that_the_field_hardly_shows_are_not_measured():
    field = np.zeros(SHAPE, bool)
    field[:, 65:] = True
    found = measure(vessels(), disc=Disc(60.0, 98.0, 20.0), field=field)
    assert "lies in the field of view" in found.reason("vessel_density", region="zone_b")
    assert found.value("vessel_density") is not None


def test_ends_cut_by_the_edge_of_the_field_do_not_count():
    mask = np.zeros(SHAPE, bool)
    mask[98:103] = True
    assert measure(mask).value("ends") == 0
    field = np.ones(SHAPE, bool)
    field[:, :40] = False
    mask[:, 200:] = False
    assert measure(mask & field, field=field).value("ends") == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": PhysicalScale(0.0)}, {"scale": PhysicalScale(np.nan)},
        {"scale": PhysicalScale(5.0, 0.9)}, {"eye": "left"}, {"fovea": (np.inf, 3.0)},
        {"disc": Disc(3.0, 4.0, -1.0)}, {"disc": Disc(np.nan, 4.0, 1.0)},
        {"probability": np.zeros((3, 3))}, {"probability": np.full(SHAPE, 7.0)},
    ],
)  # fmt: skip
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(BadArguments):
        measure(vessels(), **wrong)


def test_moved_thresholds_bracket_area_and_width():
    mask = vessels()
    probability = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.5)
    found = measure(probability > 0.5, probability=probability)
    for name in ("vessel_area", "width_mean", "vessel_density"):
        interval = found.get(name).interval
        assert interval.low < found.value(name) < interval.high
    assert all(
        value.interval is None or value.interval.low <= value.value <= value.interval.high
        for value in numbers(found).values()
    )


def test_scale_gives_physical_units_with_the_power_of_the_measure():
    one = measure(vessels(), scale=PhysicalScale(10.0, 0.04))
    assert one.value("vessel_length_mm") == pytest.approx(one.value("vessel_length") / 100)
    assert one.value("vessel_area_mm2") == pytest.approx(one.value("vessel_area") / 1e4)
    assert one.value("width_mean_um") == pytest.approx(10 * one.value("width_mean"))
    density = one.value("vessel_length_per_area_per_mm")
    assert density == pytest.approx(100 * one.value("vessel_length_per_area"))
    for name, power in (("vessel_length_mm", 1), ("vessel_area_mm2", 2)):
        interval, value = one.get(name).interval, one.value(name)
        assert (interval.high - value) / value == pytest.approx(1.645 * 0.04 * power)


def test_lesions_by_quadrant_and_field():
    shape, fovea = (400, 500), (250.0, 200.0)
    places = Landmarks((400.0, 190.0), 60.0, fovea, "OD")
    spots = np.zeros(shape, bool)
    spots[100:104, 300:306] = True
    spots[200:202, 250:252] = True
    loads = measure_lesions(
        {"haemorrhages": spots, "soft_exudates": np.zeros(shape, bool), "odd": np.zeros((3, 3))},
        landmarks=places,
        field=np.ones(shape, bool),
        scale=Scale(31.7, 0.07, "disc_fovea_distance"),
    )
    by = {(load.kind, load.region): load for load in loads}
    assert (by["haemorrhages", "field"].count, by["haemorrhages", "field"].area_px2) == (2, 28)
    assert by["haemorrhages", "superonasal"].count == 1
    assert by["haemorrhages", "etdrs_centre"].area_px2 == 4
    assert by["haemorrhages", "etdrs_centre"].fovea_distance_px == pytest.approx(0.0)
    assert by["haemorrhages", "field"].area_mm2 == pytest.approx(28 * 0.0317**2)
    assert by["soft_exudates", "field"].count == 0
    assert by["soft_exudates", "field"].fovea_distance_px is None
    assert "shape" in by["odd", "field"].reason
    assert by["odd", "field"].count is None


@pytest.mark.shared_data
@pytest.mark.parametrize("name", ["01", "02", "03", "04", "05"])
def test_sound_values_of_pvbm_are_ours_within_two_percent(name):
    reference = SHARED / "reference" / "pvbm_reference.json"
    path = SHARED / "data" / "DRIVE" / "vessels" / f"{name}.png"
    if not reference.is_file() or not path.is_file():
        pytest.skip("the reference values or DRIVE are not beside this checkout")
    records = [
        record
        for record in json.loads(reference.read_text())["records"]
        if record["mask"] == f"DRIVE{name}_584x565"
    ]
    theirs = {record["parameter"]: record["value"] for record in records}
    x, y, radius = records[0]["disc"]
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127
    ours = measure(mask, disc=Disc(float(x), float(y), 2.0 * radius))
    assert ours.value("vessel_area") == pytest.approx(theirs["area"], rel=0.02)
    boxes = np.linspace(5, 0.6 * min(mask.shape), 20).astype(np.int64)
    dimensions = [theirs[f"D{q}_rot1"] for q in range(3)]
    assert grid_dimensions(mask, boxes) == pytest.approx(dimensions, rel=0.01)
    # On one grid a Sierpinski triangle reads 0.05 too much: boxes round pixels differ by that.
    whole = multifractal(mask)
    assert (whole.d0, whole.d1, whole.d2) == pytest.approx(dimensions, rel=0.025)
    # A chain of pixels is longer than the line; PVBM leaves out trees away from the disc.
    assert 1.0 < ours.value("tortuosity") < theirs["tortuosity_index"]
