"""`measure_biomarkers` on the retina photograph that ships with scikit-image."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

import fovea_plugins.biomarkers.plugin as biomarkers_plugin
import fovea_plugins.segmenter.vessels.plugin as vessels_plugin
from fovea.check_result import check_result
from fovea.contract import Context, Measurement, NoArgs, Result
from fovea.errors import NotApplicable
from fovea.image import open_photograph
from fovea.manifest import read_manifest
from fovea_plugins.biomarkers import DEFINITIONS, data_dictionary
from fovea_plugins.biomarkers.disc_report import REPORTED
from fovea_plugins.biomarkers.headline import HEADLINE, meaning_of

VESSELS = ("vessels", "arteries", "veins", "vessels_undecided", "vessel_probability")
PLACES = ("disc_x", "disc_y", "fovea_x", "fovea_y", "eye")


def plugin_of(module, name):
    folder = Path(module.__file__).parent
    return getattr(module, name)(read_manifest(folder / "plugin.toml"), folder)


@pytest.fixture(scope="module")
def retina(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retina")
    pixels = cv2.cvtColor(skimage.data.retina(), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(folder / "photograph.png"), cv2.resize(pixels, (900, 900)))
    photograph = open_photograph(folder / "photograph.png", eye="OD")
    segmenter = plugin_of(vessels_plugin, "VesselSegmenter")
    segmenter.load("cpu")
    return photograph, segmenter.run(Context((photograph,), folder), NoArgs())


def run(photograph, folder, **earlier):
    plugin = plugin_of(biomarkers_plugin, "Biomarkers")
    context = Context((photograph,), folder, earlier)
    result = plugin.run(context, NoArgs())
    check_result(plugin.manifest, result, context)
    return plugin.manifest, result


def of_vessels(vessels):
    return dict.fromkeys(VESSELS, vessels)


def landmarks(photograph, folder, *, fovea=(480.0, 470.0)):
    """Disc and gate results with a drawn disc where the photograph has its own."""
    context = Context((photograph,), folder)
    y, x = np.mgrid[: photograph.height, : photograph.width]
    mask = context.save_mask("optic_disc", np.hypot(x - 158, y - 452) < 62)
    sizes = ("disc_diameter_vertical", "disc_diameter_horizontal")
    disc = Result(
        summary="A disc.",
        artifacts=(mask,),
        measurements=tuple(
            Measurement(name=name, value=124.0, unit="px", method="drawn") for name in sizes
        ),
    )
    places = {"disc_x": 158.0, "disc_y": 452.0, "fovea_x": fovea[0], "fovea_y": fovea[1]}
    gate = Result(
        summary="Good.",
        measurements=tuple(
            Measurement(name=name, value=value, unit="px", method="drawn")
            for name, value in places.items()
        ),
    )
    return {
        "optic_disc": disc, **dict.fromkeys(sizes, disc), **dict.fromkeys(PLACES, gate)
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole(retina, tmp_path_factory):
    """Everything known: vessels, disc and fovea of a left eye."""
    photograph, vessels = retina
    folder = tmp_path_factory.mktemp("whole")
    photograph = replace(photograph, eye="OS")
    earlier = of_vessels(vessels) | landmarks(photograph, folder)
    return folder, *run(photograph, folder, **earlier)


def test_values_units_and_intervals(whole):
    _, manifest, result = whole
    values = {m.name: m.value for m in result.measurements if m.zone in (None, "zone_b")}
    assert values["vessel_density"] == pytest.approx(0.12, abs=0.03)
    assert 12 < values["vessel_length_density"] < 30
    assert 1.4 < values["fractal_dimension"] < 1.75
    assert 1.01 < values["tortuosity"] < 1.12
    assert 30 < values["width_mean_um"] < 130
    assert 55 < values["branching_angle"] < 100
    for key in HEADLINE:
        measurement = result.measurement(key.column, zone="zone_b" if key.name in
                                         ("crae", "crve", "avr") else None)  # fmt: skip
        if measurement is None:
            assert any(gap.name == key.column for gap in result.not_measured)
            continue
        assert measurement.interval.low <= measurement.value <= measurement.interval.high
        assert "threshold" in measurement.interval.how
        assert measurement.unit == manifest.output(key.column).unit
        assert measurement.eye == "OS"
        assert DEFINITIONS[key.name].source in measurement.method


def test_every_declared_measurement_is_told(whole):
    _, manifest, result = whole
    told = {m.name for m in result.measurements} | {gap.name for gap in result.not_measured}
    assert told == {o.name for o in manifest.outputs if o.kind == "measurement"}
    assert len(result.summary) <= 400
    assert "vessel density" in result.summary


def test_manifest_says_what_the_definitions_say(whole):
    _, manifest, _ = whole
    declared = {o.name: o for o in manifest.outputs if o.kind == "measurement"}
    assert set(declared) == {key.column for key in HEADLINE} | set(REPORTED)
    for key in HEADLINE:
        output, meant = declared[key.column], DEFINITIONS[key.name]
        assert (output.unit, output.low, output.high) == (meant.unit, meant.low, meant.high)
        assert output.meaning == meaning_of(key)


def test_table_holds_every_value_and_the_dictionary_every_name(whole):
    _, _, result = whole
    paths = {a.name: a.path for a in result.artifacts}
    with paths["biomarker_values"].open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with paths["biomarker_dictionary"].open(encoding="utf-8") as file:
        known = {row["name"]: row for row in csv.DictReader(file)}
    assert {row["name"] for row in rows} <= set(known)
    assert {row["name"] for row in data_dictionary()} | set(REPORTED) <= set(known)
    assert all(all(row.values()) for row in known.values())
    keys = [(row["name"], row["vessels"], row["region"]) for row in rows]
    assert len(set(keys)) == len(keys)
    for row in rows:
        assert (row["value"] == "") == (row["reason"] != "")
        assert row["unit"] == known[row["name"]]["unit"] or not row["value"]
        assert "nan" not in row["value"].lower()
        assert "inf" not in row["value"].lower()
    value = {key: float(row["value"]) for key, row in zip(keys, rows, strict=True) if row["value"]}
    density = result.measurement("vessel_density_artery").value
    assert value["vessel_density", "artery", "field"] == pytest.approx(density, rel=1e-5)
    names = ("superotemporal", "inferotemporal", "superonasal", "inferonasal")
    parts = [value["vessel_area", "all", name] for name in names]
    assert sum(parts) == pytest.approx(value["vessel_area", "all", "field"], rel=1e-3)


def test_overlay_shows_the_vessels_of_zone_b(whole):
    _, _, result = whole
    path = next(a.path for a in result.artifacts if a.name == "calibre_vessels")
    alpha = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[..., 3]
    y, x = np.nonzero(alpha)
    radius = np.hypot(x - 158, y - 452) / 62
    assert len(x) > 500
    assert radius.min() > 1.7
    assert radius.max() < 3.5


def test_without_a_probability_only_the_scale_gives_intervals(retina, tmp_path):
    photograph, vessels = retina
    result = run(photograph, tmp_path, vessels=vessels)[1]
    assert all(m.interval is None for m in result.measurements)
    gaps = {gap.name: gap.reason for gap in result.not_measured}
    assert gaps["crae"] == "No artery mask was given"
    assert gaps["width_mean_um"] == "The pixel scale is not known"


def test_the_disc_is_left_out_when_it_is_known(retina, whole, tmp_path):
    photograph, vessels = retina
    within = whole[2]
    without = run(photograph, tmp_path, vessels=vessels)[1]
    assert "without the disc" in within.measurement("vessel_density").method
    assert within.measurement("vessel_density").value != without.measurement("vessel_density").value
    assert "disc_included" in {c.code for c in without.caveats}
    assert "disc_included" not in {c.code for c in within.caveats}


def test_lesions_are_in_the_table_where_they_were_outlined(retina, tmp_path):
    photograph, vessels = retina
    context = Context((photograph,), tmp_path)
    spots = np.zeros(photograph.field_of_view.shape, bool)
    spots[300:306, 500:510] = spots[600:604, 400:405] = True
    found = Result(summary="Two.", artifacts=(context.save_mask("haemorrhages", spots),))
    earlier = {"vessels": vessels, "haemorrhages": found, **landmarks(photograph, tmp_path)}
    result = run(replace(photograph, eye="OS"), tmp_path, **earlier)[1]
    path = next(a.path for a in result.artifacts if a.name == "biomarker_values")
    with path.open(encoding="utf-8") as file:
        rows = {(r["name"], r["region"]): r["value"] for r in csv.DictReader(file)
                if r["vessels"] == "haemorrhages"}  # fmt: skip
    assert rows["lesion_count", "field"] == "2"
    assert rows["lesion_area", "field"] == "80"
    assert rows["lesion_area", "superotemporal"] == "60"
    assert rows["lesion_area", "inferonasal"] == "20"
    assert float(rows["lesion_fovea_distance", "field"]) == pytest.approx(
        np.hypot(480 - 404, 470 - 600), rel=1e-4
    )


def test_large_photographs_are_measured_at_working_resolution(retina, tmp_path):
    photograph, vessels = retina
    big = replace(
        photograph,
        pixels=cv2.resize(photograph.pixels, None, fx=2, fy=2),
        field_of_view=cv2.resize(photograph.field_of_view.astype(np.uint8), None, fx=2, fy=2,
                                 interpolation=cv2.INTER_NEAREST) > 0,
        field_circle=replace(photograph.field_circle, radius=2 * photograph.field_circle.radius),
    )  # fmt: skip
    mask = Context((photograph,), tmp_path, {"vessels": vessels}).mask("vessels")
    enlarged = cv2.resize(mask.astype(np.uint8), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    folder = tmp_path / "big"
    folder.mkdir()
    drawn = Context((big,), folder).save_mask("vessels", enlarged > 0)
    two = run(big, folder, vessels=Result(summary="Vessels.", artifacts=(drawn,)))[1]
    one = run(photograph, tmp_path, vessels=vessels)[1]
    for name in ("vessel_density", "fractal_dimension", "tortuosity", "vessel_length_density"):
        assert two.measurement(name).value == pytest.approx(one.measurement(name).value, rel=0.03)

    def area(result):
        path = next(a.path for a in result.artifacts if a.name == "biomarker_values")
        with path.open(encoding="utf-8") as file:
            return float(next(csv.DictReader(file))["value"])

    assert area(two) == pytest.approx(4 * area(one), rel=0.03)


def test_no_vessels_is_an_error_and_not_zero(retina, tmp_path):
    photograph, _ = retina
    with pytest.raises(NotApplicable):
        run(photograph, tmp_path)
    context = Context((photograph,), tmp_path)
    empty = context.save_mask("vessels", np.zeros(photograph.field_of_view.shape, bool))
    with pytest.raises(NotApplicable):
        run(photograph, tmp_path, vessels=Result(summary="None.", artifacts=(empty,)))
