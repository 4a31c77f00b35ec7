"""The tool `place_grid`: lines, coverage, distances, and what it says when it cannot."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from fovea.check_result import check_result
from fovea.contract import (
    Artifact,
    Caveat,
    Context,
    Finding,
    Interval,
    Measurement,
    NoArgs,
    Result,
    read_mask,
)
from fovea.errors import NotApplicable
from fovea.image import Scale
from fovea.manifest import read_manifest
from fovea.overlay import colour_of, draw_overlay
from fovea.testing import synthetic_fundus, synthetic_photograph
from fovea.ui.viewer import layer_alpha
from fovea_plugins import landmarks
from fovea_plugins.landmarks.plugin import PlaceGrid
from fovea_plugins.regions import ETDRS_FIELDS, ZONES

FUNDUS = synthetic_fundus(eye="OS")
FOLDER = Path(landmarks.__file__).parent
DISC_ERROR_PX, FOVEA_ERROR_PX = 3.0, 4.0


@pytest.fixture(scope="module")
def plugin() -> PlaceGrid:
    return PlaceGrid(read_manifest(FOLDER / "plugin.toml"), FOLDER)


def number(name: str, value: float, error: float) -> Measurement:
    interval = Interval(low=value - error, high=value + error, level=0.9, how="as drawn")
    return Measurement(name=name, value=value, unit="px", method="drawn", interval=interval)


def gate(*missing: str, caveats: tuple[Caveat, ...] = ()) -> Result:
    places = {
        "disc_x": number("disc_x", FUNDUS.disc_x, DISC_ERROR_PX),
        "disc_y": number("disc_y", FUNDUS.disc_y, DISC_ERROR_PX),
        "fovea_x": number("fovea_x", FUNDUS.fovea_x, FOVEA_ERROR_PX),
        "fovea_y": number("fovea_y", FUNDUS.fovea_y, FOVEA_ERROR_PX),
    }
    return Result(
        summary="Drawn.",
        measurements=tuple(m for name, m in places.items() if not name.startswith(missing)),
        findings=(Finding(concept="eye", state="present", value="OS"),),
        caveats=caveats,
    )


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """A drawn left eye whose disc, fovea and disc outline are known."""
    path = tmp_path / "optic_disc.png"
    cv2.imwrite(str(path), FUNDUS.disc.astype(np.uint8) * 255)
    rows, columns = np.nonzero(FUNDUS.disc)
    outline = Result(
        summary="Drawn.",
        measurements=(
            number("disc_diameter_vertical", float(np.ptp(rows) + 1), 8.0),
            number("disc_diameter_horizontal", float(np.ptp(columns) + 1), 8.0),
        ),
        artifacts=(Artifact(name="optic_disc", kind="mask", path=path),),
    )
    names = ("optic_disc", "disc_diameter_vertical", "disc_diameter_horizontal")
    return given(
        Context(
            images=(synthetic_photograph(fundus=FUNDUS),),
            work_dir=tmp_path,
            earlier=dict.fromkeys(names, outline),
        ),
        gate(),
    )


def given(context: Context, result: Result) -> Context:
    """The context with another result of the quality gate."""
    names = ("disc_x", "disc_y", "fovea_x", "fovea_y", "eye")
    return replace(context, earlier={**context.earlier, **dict.fromkeys(names, result)})


def without_outline(context: Context) -> Context:
    kept = {
        name: r for name, r in context.earlier.items() if not name.startswith(("optic", "disc_d"))
    }
    return replace(context, earlier=kept)


def run(plugin: PlaceGrid, context: Context) -> Result:
    result = plugin.run(context, NoArgs())
    check_result(plugin.manifest, result, context)
    told = [*(m.name for m in result.measurements), *(m.name for m in result.not_measured)]
    declared = [o.name for o in plugin.manifest.outputs if o.kind == "measurement"]
    assert sorted(told) == sorted(declared)
    return result


def coverage(context: Context) -> dict[str, float]:
    with (context.work_dir / "grid_coverage.csv").open(encoding="utf-8") as file:
        return {row["region"]: float(row["share_in_field"]) for row in csv.DictReader(file)}


def test_distance_and_angle_are_those_that_were_drawn(plugin, context):
    result = run(plugin, context)
    across, down = FUNDUS.fovea_x - FUNDUS.disc_x, FUNDUS.fovea_y - FUNDUS.disc_y
    distance = result.measurement("disc_fovea_distance")
    assert distance.value == pytest.approx(math.hypot(across, down), abs=1.0)
    reach = math.hypot(DISC_ERROR_PX, FOVEA_ERROR_PX)
    assert distance.interval.high - distance.value == pytest.approx(reach)
    angle = result.measurement("disc_fovea_angle")
    assert angle.value == pytest.approx(math.degrees(math.atan2(down, across)), abs=0.3)
    assert angle.interval.low < angle.value < angle.interval.high
    diameters = result.measurement("disc_fovea_distance_dd")
    assert diameters.value == pytest.approx(
        distance.value / (0.96 * np.ptp(np.nonzero(FUNDUS.disc)[0])), rel=0.03
    )
    assert {m.eye for m in result.measurements} == {"OS"}
    assert "px" in result.summary
    assert "below the horizontal" in result.summary


def test_lines_and_coverage(plugin, context):
    result = run(plugin, context)
    assert [a.name for a in result.artifacts] == ["etdrs_grid", "zone_circles", "grid_coverage"]
    field = context.image.field_of_view
    for artifact in result.artifacts[:2]:
        lines = read_mask(artifact.path)
        assert not (lines & ~field).any()
        assert 0 < lines.sum() < 0.03 * field.sum(), "outlines, no filled shapes"
    shares = coverage(context)
    assert tuple(shares) == (*ETDRS_FIELDS, *ZONES)
    assert shares["etdrs_centre"] == pytest.approx(1.0, abs=0.01)
    assert shares["zone_c"] < 0.9
    assert all(0.0 <= share <= 1.0 for share in shares.values())


def test_a_region_that_is_mostly_outside_is_named(plugin, context):
    image = context.image
    seen = image.field_of_view.copy()
    seen[:, : round(FUNDUS.fovea_x)] = False  # the nasal half of a left eye
    result = run(plugin, replace(context, images=(replace(image, field_of_view=seen),)))
    (caveat,) = (c for c in result.caveats if c.code == "regions_cut_off")
    assert "etdrs outer nasal" in caveat.text
    assert "zone a" in caveat.text
    assert "etdrs outer temporal" not in caveat.text


def test_the_scale_of_the_file_is_preferred(plugin, context):
    assumed = run(plugin, context)
    assert "scale_from_disc_fovea" in [c.code for c in assumed.caveats]
    wide = read_mask(context.work_dir / "etdrs_grid.png")
    um_per_px = 2 * 4760.0 / assumed.measurement("disc_fovea_distance").value
    scaled = replace(context.image, scale=Scale(um_per_px, 0.0, "dicom"))
    result = run(plugin, replace(context, images=(scaled,)))
    assert "scale_from_disc_fovea" not in [c.code for c in result.caveats]
    narrow = read_mask(context.work_dir / "etdrs_grid.png")
    spans = [np.ptp(np.nonzero(lines)[0]) for lines in (wide, narrow)]
    assert spans[1] == pytest.approx(spans[0] / 2, abs=4)


def test_disc_and_fovea_on_one_spot_give_no_scale(context):
    places = {"disc_x": 200.0, "disc_y": 150.0, "fovea_x": 200.0, "fovea_y": 150.0}
    same = Result(
        summary="Drawn.", measurements=tuple(number(name, v, 3.0) for name, v in places.items())
    )
    assert context.scale is not None
    assert given(context, same).scale is None


def test_mirrored_landmarks_give_a_mirrored_grid(plugin, context, tmp_path):
    run(plugin, context)
    here = coverage(context)
    image = context.image
    width = image.width
    flipped = replace(
        image,
        pixels=image.pixels[:, ::-1],
        field_of_view=np.ascontiguousarray(image.field_of_view[:, ::-1]),
        eye="OD",
    )
    result = gate()
    moved = tuple(
        number(m.name, width - 1 - m.value, 3.0) if m.name.endswith("_x") else m
        for m in result.measurements
    )
    other = result.model_copy(update={"measurements": moved, "findings": ()})
    there = given(without_outline(context), other)
    there = replace(there, images=(flipped,))
    zoneless = run(plugin, there)
    assert "no_zones" in [c.code for c in zoneless.caveats]
    for name, share in coverage(there).items():
        assert share == pytest.approx(here[name], abs=0.03), name


def test_without_an_outline_there_are_no_zones_and_no_disc_diameters(plugin, context):
    result = run(plugin, without_outline(context))
    assert [a.name for a in result.artifacts] == ["etdrs_grid", "grid_coverage"]
    (missing,) = result.not_measured
    assert missing.name == "disc_fovea_distance_dd"
    assert "outlined" in missing.reason
    (caveat,) = (c for c in result.caveats if c.code == "no_zones")
    assert "diameter" in caveat.text


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (gate("fovea"), "fovea was not found"),
        (gate(caveats=(Caveat(code="fovea_estimated", text="No dark fovea."),)), "was not seen"),
    ],
)
def test_without_a_fovea_there_are_zones_only(plugin, context, result, why):
    found = run(plugin, given(context, result))
    assert [a.name for a in found.artifacts] == ["zone_circles", "grid_coverage"]
    assert found.measurements == ()
    assert all(why in missing.reason for missing in found.not_measured)
    assert set(coverage(context)) == set(ZONES)


def test_nothing_to_place_is_refused(plugin, context):
    with pytest.raises(NotApplicable) as caught:
        plugin.run(given(without_outline(context), gate("fovea", "disc")), NoArgs())
    assert "optic disc was not found" in str(caught.value)


def test_a_picture_on_its_side_has_no_angle(plugin, context):
    """With the eye known the grid is placed all the same."""
    result = gate()
    swapped = {"fovea_x": FUNDUS.disc_x, "fovea_y": FUNDUS.disc_y + 150.0}
    moved = tuple(number(m.name, swapped.get(m.name, m.value), 3.0) for m in result.measurements)
    turned = result.model_copy(update={"measurements": moved, "findings": ()})
    found = run(plugin, given(context, turned))
    (missing,) = found.not_measured
    assert missing.name == "disc_fovea_angle"
    assert "turned" in missing.reason
    assert "etdrs_grid" in [a.name for a in found.artifacts]


def test_lines_are_drawn_solid_and_seen_in_the_page(plugin, context):
    result = run(plugin, context)
    masks = {a.name: read_mask(a.path) for a in result.artifacts if a.kind == "mask"}
    drawn = draw_overlay(context.image.pixels, masks)
    only = masks["etdrs_grid"] & ~masks["zone_circles"]
    assert (drawn[only] == colour_of("etdrs_grid")).all()
    untouched = ~(masks["etdrs_grid"] | masks["zone_circles"])
    np.testing.assert_array_equal(drawn[untouched], context.image.pixels[untouched])
    large = np.kron(masks["etdrs_grid"], np.ones((5, 5), bool))
    alpha = layer_alpha(large)
    assert alpha.max() == 255
    assert (alpha > 0).mean() < 0.05
