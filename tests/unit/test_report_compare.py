"""Two photographs in one report: laid over each other, compared, refused when they do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import report_evidence as made

from fovea.contract import Artifact, Context, Interval, Measurement, NoArgs, Result
from fovea.errors import NotApplicable
from fovea.evidence import Evidence
from fovea.knowledge import load
from fovea.manifest import read_manifest
from fovea.report.check import Checker
from fovea.report.compile import compile_report
from fovea.testing import synthetic_fundus, synthetic_photograph
from fovea_plugins import comparer
from fovea_plugins.comparer.plugin import GOOD_FIT, CompareImages
from fovea_plugins.comparer.registration import Outlines, laid_over, register

KNOWLEDGE = load()
FUNDUS = synthetic_fundus()
PHOTOGRAPH = synthetic_photograph(fundus=FUNDUS)
MANIFEST = read_manifest(Path(comparer.__file__).with_name("plugin.toml"))


def moved(turn=0.0, scale=1.0, shift=(0.0, 0.0)):
    """The outlines of a second photograph: the eye moved, the field of the camera did not."""
    height, width = FUNDUS.vessels.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, scale)
    matrix[:, 2] += shift
    vessels = cv2.warpAffine(FUNDUS.vessels.astype(np.uint8), matrix, (width, height)) > 0
    return outlines(vessels), matrix


def outlines(vessels):
    field = PHOTOGRAPH.field_of_view
    return Outlines(vessels & field, field, PHOTOGRAPH.field_circle)


@pytest.mark.parametrize(
    ("turn", "scale", "shift"),
    [(0, 1, (0, 0)), (5, 1, (12, -8)), (-8, 1.05, (-40, 25)), (3, 0.95, (60, 0))],
)
def test_a_known_move_is_found(turn, scale, shift):
    second, matrix = moved(turn, scale, shift)
    fit = register(outlines(FUNDUS.vessels), second)
    points = np.array([[200.0, 200], [320, 300], [420, 380]])
    said, true = (points @ m[:, :2].T + m[:, 2] for m in (fit.matrix, matrix))
    assert np.abs(said - true).max() < 0.01 * 2 * PHOTOGRAPH.field_circle.radius
    assert fit.quality > 0.8
    assert fit.turn_deg == pytest.approx(-turn, abs=1.0)
    again = laid_over(second.vessels, fit.matrix, FUNDUS.vessels.shape)
    common = again & FUNDUS.vessels
    assert common.sum() > 0.6 * again.sum()


def test_the_fit_does_not_depend_on_which_comes_first():
    second, _ = moved(6, 1.0, (20, 10))
    forth = register(outlines(FUNDUS.vessels), second)
    back = register(second, outlines(FUNDUS.vessels))
    assert back.turn_deg == pytest.approx(-forth.turn_deg, abs=0.5)
    assert back.quality == pytest.approx(forth.quality, abs=0.05)


def test_no_vessels_fit_nothing():
    empty = outlines(np.zeros_like(FUNDUS.vessels))
    assert register(outlines(FUNDUS.vessels), empty).quality == 0.0
    assert register(empty, empty).quality == 0.0


def results(folder, name, vessels, vcdr, *, interval=0.05, eye=None):
    """What other tools say of one photograph, by output name."""
    cv2.imwrite(str(folder / f"{name}.png"), vessels.astype(np.uint8) * 255)
    drawn = Result(
        summary="Outlined.",
        artifacts=(Artifact(name="vessels", kind="mask", path=folder / f"{name}.png"),),
    )
    spread = Interval(low=vcdr - interval, high=vcdr + interval, level=0.9, how="test error")
    disc = Result(
        summary="Measured.",
        measurements=(
            Measurement(name="vertical_cdr", value=vcdr, unit="1", eye=eye, method="masks",
                        interval=spread if interval else None),
        ),
    )  # fmt: skip
    return {"vessels": drawn, "vertical_cdr": disc}


def compared(tmp_path, *, eyes=("OD", "OD"), ratios=(0.4, 0.6), second=None, interval=0.05):
    vessels = second if second is not None else moved(4, 1.0, (10, 5))[0].vessels
    images = tuple(
        replace(PHOTOGRAPH, handle=f"img{n}", eye=eye) for n, eye in enumerate(eyes, start=1)
    )
    context = Context(
        images=images, work_dir=tmp_path,
        earlier=results(tmp_path, "one", FUNDUS.vessels, ratios[0], interval=interval, eye=eyes[0]),
        earlier_second=results(tmp_path, "two", vessels, ratios[1], interval=interval, eye=eyes[1]),
    )  # fmt: skip
    plugin = CompareImages.__new__(CompareImages)
    plugin.manifest = MANIFEST
    return plugin.run(context, NoArgs())


def test_a_change_beyond_both_errors_is_present_and_one_within_is_absent(tmp_path):
    result = compared(tmp_path, ratios=(0.4, 0.6))
    change = result.finding("change_beyond_repeatability")
    assert change.state == "present"
    assert "vertical cup-to-disc ratio" in change.detail
    told = result.measurement("vertical_cdr_difference")
    assert told.value == pytest.approx(0.2)
    assert told.interval.low == pytest.approx(0.2 - 0.05 * 2**0.5)
    assert result.measurement("registration_quality").value > 0.8
    assert {a.name for a in result.artifacts} == {"vessels_of_second"}
    within = compared(tmp_path, ratios=(0.4, 0.46))
    assert within.finding("change_beyond_repeatability").state == "absent"


def test_the_edge_of_repeatability(tmp_path):
    edge = 0.05 * 2**0.5
    for off, state in ((-1e-6, "absent"), (1e-6, "present")):
        for sign in (1, -1):
            ratios = (0.5, 0.5 + sign * (edge + off))
            result = compared(tmp_path, eyes=("OD", "OS"), ratios=ratios)
            assert result.finding("asymmetry_beyond_repeatability").state == state


def test_without_intervals_nothing_is_judged(tmp_path):
    result = compared(tmp_path, eyes=("OD", "OS"), interval=0)
    assert result.finding("asymmetry_beyond_repeatability").state == "not_assessable"
    assert result.measurement("vertical_cdr_difference").interval is None


def test_both_eyes_are_compared_but_not_laid_over(tmp_path):
    result = compared(tmp_path, eyes=("OD", "OS"))
    assert result.finding("asymmetry_beyond_repeatability").state == "present"
    assert result.finding("change_beyond_repeatability") is None
    assert result.measurement("registration_quality") is None
    assert result.artifacts == ()


def test_every_measurement_is_given_or_has_a_reason(tmp_path):
    declared = {o.name for o in MANIFEST.outputs if o.kind == "measurement"}
    for eyes in (("OD", "OD"), ("OD", "OS")):
        result = compared(tmp_path, eyes=eyes)
        told = {m.name for m in (*result.measurements, *result.not_measured)}
        assert told == declared


@pytest.mark.parametrize("eyes", [("OD", "OD"), (None, "OD")])
def test_photographs_that_do_not_fit_are_refused(tmp_path, eyes):
    other = np.ascontiguousarray(FUNDUS.vessels[:, ::-1][::-1])
    with pytest.raises(NotApplicable, match="cannot be laid over") as caught:
        compared(tmp_path, eyes=eyes, second=other)
    assert ("different eyes" in str(caught.value)) == (None in eyes)
    assert register(outlines(FUNDUS.vessels), outlines(other)).quality < GOOD_FIT


def test_the_report_tells_the_comparison_and_the_checker_holds_it(tmp_path):
    result = compared(tmp_path, ratios=(0.4, 0.6))
    images = tuple(made.record(f"img{n}", "OD", "person") for n in (1, 2))
    pieces = (
        made.quality(1), made.disc(2, vcdr=0.4), made.quality(3, image="img2"),
        made.disc(4, vcdr=0.6, image="img2"),
        Evidence(id="E5", tool="compare_images", images=("img1", "img2"), result=result,
                 provenance=made.provenance("compare_images")),
    )  # fmt: skip
    report = compile_report(images, pieces, knowledge=KNOWLEDGE)
    told = [s.text for s in report.section("comparison").sentences]
    assert told[0].startswith(
        "The finding `change beyond repeatability` is present from img1 to img2"
    )
    assert any(
        "difference of the vertical cup-to-disc ratio from img1 to img2 is 0.2" in text
        for text in told
    )
    assert [r for r in report.section("limitations").rows if "Withheld" in r.label] == []
    checker = Checker(pieces, KNOWLEDGE, images=images)
    for text in told:
        assert checker.check(text).struck == ()
        assert checker.check(text.replace("is present", "is absent").replace("0.2", "0.4")).struck \
            or ("present" not in text and "0.2" not in text)  # fmt: skip
