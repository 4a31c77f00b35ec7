"""`measure_biomarkers` on the retina photograph that ships with scikit-image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

import fovea_plugins.biomarkers.plugin as biomarkers_plugin
import fovea_plugins.segmenter.vessels.plugin as vessels_plugin
from fovea.contract import Context, NoArgs, Result
from fovea.errors import NotApplicable
from fovea.image import open_photograph
from fovea.manifest import read_manifest

NAMES = ("vessel_density", "vessel_length_density", "fractal_dimension", "tortuosity")


def plugin_of(module, name):
    folder = Path(module.__file__).parent
    return getattr(module, name)(read_manifest(folder / "plugin.toml"), folder)


@pytest.fixture(scope="module")
def retina(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retina")
    pixels = cv2.cvtColor(skimage.data.retina(), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(folder / "photograph.png"), pixels)
    photograph = open_photograph(folder / "photograph.png", eye="OD")
    segmenter = plugin_of(vessels_plugin, "VesselSegmenter")
    segmenter.load("cpu")
    return photograph, segmenter.run(Context((photograph,), folder), NoArgs())


def measure(photograph, folder, **earlier):
    plugin = plugin_of(biomarkers_plugin, "Biomarkers")
    return plugin.manifest, plugin.run(Context((photograph,), folder, earlier), NoArgs())


def test_values_units_and_intervals(retina, tmp_path):
    photograph, vessels = retina
    manifest, result = measure(photograph, tmp_path, vessels=vessels, vessel_probability=vessels)
    values = {m.name: m.value for m in result.measurements}
    assert set(values) == set(NAMES)
    assert values["vessel_density"] == pytest.approx(0.139, abs=0.015)
    assert 12 < values["vessel_length_density"] < 26
    assert 1.4 < values["fractal_dimension"] < 1.7
    assert 1.01 < values["tortuosity"] < 1.12
    for measurement in result.measurements:
        assert measurement.interval.low <= measurement.value <= measurement.interval.high
        assert "threshold" in measurement.interval.how
        assert measurement.unit == manifest.output(measurement.name).unit
        assert measurement.eye == "OD"


def test_without_a_probability_the_outline_is_moved(retina, tmp_path):
    photograph, vessels = retina
    result = measure(photograph, tmp_path, vessels=vessels)[1]
    assert all("half a pixel" in m.interval.how for m in result.measurements)


def test_the_disc_is_left_out_when_it_is_known(retina, tmp_path):
    photograph, vessels = retina
    context = Context((photograph,), tmp_path)
    y, x = np.mgrid[: photograph.height, : photograph.width]
    disc = context.save_mask("optic_disc", np.hypot(x - 250, y - 650) < 120)
    found = Result(summary="A disc.", artifacts=(disc,))
    without = measure(photograph, tmp_path, vessels=vessels)[1]
    within = measure(photograph, tmp_path, vessels=vessels, optic_disc=found)[1]
    assert "without the disc" in within.measurement("vessel_density").method
    assert within.measurement("vessel_density").value != without.measurement("vessel_density").value
    assert "disc_included" in {c.code for c in without.caveats}


def test_no_vessels_is_an_error_and_not_zero(retina, tmp_path):
    photograph, _ = retina
    with pytest.raises(NotApplicable):
        measure(photograph, tmp_path)
    context = Context((photograph,), tmp_path)
    empty = context.save_mask("vessels", np.zeros(photograph.field_of_view.shape, bool))
    with pytest.raises(NotApplicable):
        measure(photograph, tmp_path, vessels=Result(summary="None.", artifacts=(empty,)))
