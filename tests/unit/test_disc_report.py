"""The disc measures of the biomarker tool, from what the disc tool and the gate found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fovea.check_result import check_result
from fovea.contract import Context, Interval, Measurement, NotMeasured, Result
from fovea.image import Circle, Photograph, Scale
from fovea.manifest import Output, read_manifest
from fovea.testing import fake_manifest
from fovea_plugins.biomarkers.disc import DEFINITIONS
from fovea_plugins.biomarkers.disc_report import (
    CIRCULAR,
    NO_CUP,
    NO_DISC,
    OF_THE_DISC_TOOL,
    REPORTED,
    disc_measurements,
)
from fovea_plugins.segmenter import optic_disc

SHAPE = (400, 500)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]
DISC = ((X - 380) / 55) ** 2 + ((Y - 200) / 70) ** 2 <= 1
CUP = ((X - 374) / 25) ** 2 + ((Y - 206) / 38) ** 2 <= 1


def photograph(**changes):
    known = Photograph(
        handle="img1",
        pixels=np.zeros((*SHAPE, 3), np.uint8),
        field_of_view=np.ones(SHAPE, bool),
        field_circle=Circle(250, 200, 250),
        sha256="0" * 64,
        format="PNG",
        grey=False,
        eye="OD",
    )
    return replace(known, **changes)


def point(name, value):
    return Measurement(name=name, value=value, unit="px", method="a fake")


def tool(**values):
    interval = Interval(low=0.0, high=1.0, how="a fake")
    return tuple(
        Measurement(name=name, value=value, unit="1", method="a fake network", interval=interval)
        for name, value in values.items()
    )


@pytest.fixture
def context_of(tmp_path):
    def make(disc=DISC, cup=CUP, *, fovea=(60.0, 230.0), tool_says=(), lacks=(), **changes):
        context = Context(images=(photograph(**changes),), work_dir=tmp_path)
        masks = {"optic_disc": disc, "optic_cup": cup}
        artifacts = [context.save_mask(n, m) for n, m in masks.items() if m is not None]
        found = Result(
            summary="Outlined.",
            artifacts=tuple(artifacts),
            measurements=tool_says,
            not_measured=lacks,
        )
        earlier = {} if disc is None else dict.fromkeys(masks, found)
        if fovea:
            gate = Result(
                summary="Found.",
                measurements=(
                    point("disc_x", 380.0), point("disc_y", 200.0),
                    point("fovea_x", fovea[0]), point("fovea_y", fovea[1]),
                ),
            )  # fmt: skip
            earlier |= dict.fromkeys(("disc_x", "disc_y", "fovea_x", "fovea_y"), gate)
        return replace(context, earlier=earlier)

    return make


def by_name(items):
    return {item.name: item for item in items}


def manifest():
    outputs = [
        Output(name=name, unit=d.unit, low=d.low, high=d.high, meaning=d.meaning)
        for name, d in DEFINITIONS.items()
    ]
    return fake_manifest("measure_biomarkers", outputs=tuple(outputs))


def accepted(context, items):
    measured = tuple(item for item in items if isinstance(item, Measurement))
    lacking = tuple(item for item in items if isinstance(item, NotMeasured))
    result = Result(summary="Measured.", measurements=measured, not_measured=lacking)
    check_result(manifest(), result, context)
    assert {item.name for item in items} == set(REPORTED)
    return by_name(items)


def test_everything_is_measured_on_a_whole_disc(context_of):
    context = context_of()
    items = accepted(context, disc_measurements(context))
    lacking = {name for name, item in items.items() if isinstance(item, NotMeasured)}
    assert lacking == {"disc_fovea_distance_um"}
    assert items["disc_fovea_distance_um"].reason == CIRCULAR
    assert items["vertical_cdr"].value == pytest.approx(38 / 70, abs=0.01)
    assert items["disc_torsion"].eye == "OD"
    assert "order of the quarters here" in items["rim_width_inferior"].method
    scale = context.scale
    assert items["disc_area"].value == pytest.approx(
        np.pi * 55 * 70 * (scale.um_per_px / 1000) ** 2, rel=0.01
    )
    zones = {i.zone for i in disc_measurements(context) if i.name == "rim_disc_ratio"}
    assert zones == {f"clock_{hour}" for hour in range(1, 13)}


def test_what_the_disc_tool_measured_is_passed_on_unchanged(context_of):
    says = tool(vertical_cdr=0.6, horizontal_cdr=0.55)
    lacks = (NotMeasured(name="disc_area", reason="A fake reason"),)
    context = context_of(tool_says=says, lacks=lacks)
    items = accepted(context, disc_measurements(context))
    for known in says:
        found = items[known.name]
        assert (found.value, found.interval, found.unit) == (known.value, known.interval, "1")
        assert found.method.endswith("passed on from the optic disc tool")
    assert items["disc_area"].reason == "A fake reason"
    assert items["area_cdr"].value == pytest.approx(25 * 38 / (55 * 70), abs=0.01)


def test_a_scale_from_the_file_measures_the_distance_to_the_fovea(context_of):
    context = context_of(scale=Scale(14.0, 0.0, "dicom"))
    items = accepted(context, disc_measurements(context))
    distance = items["disc_fovea_distance_um"]
    assert distance.value == pytest.approx(14.0 * np.hypot(320, 30), rel=0.001)
    assert distance.interval is None


def test_a_scale_that_makes_no_sense_costs_only_the_physical_sizes(context_of):
    context = context_of(scale=Scale(2000.0, 0.0, "dicom"))
    items = accepted(context, disc_measurements(context))
    for name, item in items.items():
        if DEFINITIONS[name].scales:
            assert "not plausible" in item.reason, name
        else:
            assert isinstance(item, Measurement), name


def test_without_a_disc_everything_is_missing(context_of):
    context = context_of(disc=None)
    items = accepted(context, disc_measurements(context))
    assert {item.reason for item in items.values()} == {NO_DISC}


def test_without_a_cup_the_disc_is_measured(context_of):
    reason = "No cup is seen in the optic disc."
    context = context_of(cup=None, lacks=(NotMeasured(name="vertical_cdr", reason=reason),))
    items = accepted(context, disc_measurements(context))
    assert items["vertical_cdr"].reason == reason
    assert items["area_cdr"].reason == items["rim_width"].reason == NO_CUP
    assert isinstance(items["disc_ovality"], Measurement)


def test_without_eye_and_fovea_the_rest_is_measured(context_of):
    context = context_of(eye=None, fovea=None)
    items = accepted(context, disc_measurements(context))
    lacking = {name for name, item in items.items() if isinstance(item, NotMeasured)}
    expected = {
        name
        for name in REPORTED
        if {"eye", "fovea", "scale"} & set(DEFINITIONS[name].needs)
    }  # fmt: skip
    assert lacking == expected
    assert items["rim_width"].eye is None


def test_a_disc_cut_by_the_field_has_no_measures_of_its_own(context_of):
    field = X < 400
    context = context_of(disc=DISC & field, field_of_view=field, tool_says=tool(vertical_cdr=0.6))
    items = accepted(context, disc_measurements(context))
    assert items.pop("vertical_cdr").value == 0.6
    assert all("cut by the border" in item.reason for item in items.values())


def test_an_empty_cup_file_is_a_missing_cup(context_of):
    context = context_of(cup=np.zeros(SHAPE, bool))
    items = accepted(context, disc_measurements(context))
    assert "empty" in items["rim_area_px2"].reason


def test_the_disc_tool_declares_what_is_passed_on():
    declared = read_manifest(Path(optic_disc.__file__).parent / "plugin.toml")
    for name in OF_THE_DISC_TOOL:
        output, meant = declared.output(name), DEFINITIONS[name]
        assert (output.unit, output.low, output.high) == (meant.unit, meant.low, meant.high)
