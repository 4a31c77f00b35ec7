"""The whole analysis of awkward photographs: a stated limit or a refusal, never an empty claim."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from fovea.assistant import Assistant
from fovea.contract import Result
from fovea.events import Answered, Called, Refused
from fovea.evidence import Evidence
from fovea.settings import Settings

Pixels = np.ndarray
QUESTION = "Segment the vessels, outline the optic disc and count the lesions."
LESIONS = ("microaneurysm", "haemorrhage", "hard_exudate", "soft_exudate")
TOOLS = ("segment_vessels", "segment_optic_disc", "segment_lesions")


@pytest.fixture(scope="module")
def assistant(tmp_path_factory: pytest.TempPathFactory) -> Assistant:
    return Assistant(Settings(data_dir=tmp_path_factory.mktemp("data")))


@pytest.fixture(scope="module")
def analyse(assistant: Assistant, retina_path: Path, tmp_path_factory: pytest.TempPathFactory):
    """What the tools say of the changed sample photograph: evidence and refusals by tool."""
    pixels = cv2.imread(str(retina_path))
    pixels = cv2.resize(pixels, (1000, 1000), interpolation=cv2.INTER_AREA)

    def run(change: Callable[[Pixels], Pixels]) -> tuple[dict[str, Evidence], dict[str, str], str]:
        path = tmp_path_factory.mktemp("awkward") / "photograph.png"
        cv2.imwrite(str(path), change(pixels))
        session = assistant.store.create()
        session.add_image(path)
        events = list(assistant.turn(session, QUESTION))
        done = {e.evidence.tool: e.evidence for e in events if isinstance(e, Called)}
        refused = {e.tool: e.error for e in events if isinstance(e, Refused)}
        answer = events[-1]
        assert isinstance(answer, Answered)
        assert answer.struck == (), answer.struck
        return done, refused, answer.text

    return run


def caveats(result: Result) -> set[str]:
    return {caveat.code for caveat in result.caveats}


def claims_of_absence(done: dict[str, Evidence]) -> list[str]:
    found = [f for e in done.values() for f in e.result.findings if f.concept in LESIONS]
    return [f.concept for f in found if f.state == "absent"]


@pytest.fixture(scope="module")
def plain(analyse) -> dict[str, Evidence]:
    return analyse(lambda pixels: pixels)[0]


def phone(pixels: Pixels) -> Pixels:
    """One megapixel or less, compressed, with a colour cast and uneven light."""
    small = cv2.resize(pixels, (640, 640), interpolation=cv2.INTER_AREA).astype(np.float32)
    light = np.linspace(0.75, 1.1, 640, dtype=np.float32)[None, :, None]
    cast = np.array([0.85, 1.0, 1.1], np.float32)
    tinted = np.clip(small * light * cast, 0, 255).astype(np.uint8)
    return cv2.imdecode(cv2.imencode(".jpg", tinted, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], 1)


def with_border(pixels: Pixels) -> Pixels:
    """A wide black frame with a line of text in it, as exports of cameras have."""
    framed = cv2.copyMakeBorder(pixels, 300, 300, 700, 700, cv2.BORDER_CONSTANT)
    cv2.putText(framed, "2019-04-02 OS", (40, 120), cv2.FONT_HERSHEY_SIMPLEX, 2, (255,) * 3, 3)
    return framed


def test_a_frame_around_the_photograph_changes_no_measurement(analyse, plain):
    framed, _, _ = analyse(with_border)
    for tool in ("segment_optic_disc", "segment_lesions"):
        before, after = (done[tool].result for done in (plain, framed))
        for measurement in (m for m in before.measurements if m.zone is None):
            other = after.measurement(measurement.name)
            assert other is not None, measurement.name
            if measurement.name.endswith("_count"):
                assert other.value == pytest.approx(measurement.value, abs=2)
            if measurement.name.endswith("_cdr"):
                assert other.value == pytest.approx(measurement.value, abs=0.02)


def test_upside_down_the_disc_is_as_wide_and_no_eye_is_claimed(analyse, plain):
    turned, _, _ = analyse(lambda p: p[::-1, ::-1])
    ratios = [
        done["segment_optic_disc"].result.measurement("vertical_cdr") for done in (plain, turned)
    ]
    assert ratios[0]
    assert ratios[1]
    assert ratios[1].value == pytest.approx(ratios[0].value, abs=0.03)
    assert plain["assess_quality"].result.measurement("disc_x")
    eyes = [done["assess_quality"].result.finding("eye").value for done in (plain, turned)]
    assert eyes == ["OS", None]


def test_a_photograph_of_a_phone_is_answered_with_its_limits(analyse):
    done, refused, _ = analyse(phone)
    assert {*done, *refused} >= set(TOOLS)
    assert (
        done["assess_quality"].result.caveats or refused or caveats(done["segment_lesions"].result)
    )


def test_a_red_free_photograph_says_what_colour_would_have_told(analyse):
    done, refused, _ = analyse(lambda p: p[..., 1])
    for tool in TOOLS:
        assert tool in refused or "grey_picture" in caveats(done[tool].result)


def test_without_the_disc_nothing_about_it_is_measured(analyse):
    def macula_only(pixels: Pixels) -> Pixels:
        return pixels[250:750, 480:980] if disc_is_left(pixels) else pixels[250:750, 20:520]

    done, refused, text = analyse(macula_only)
    assert "segment_optic_disc" in refused
    assert "segment_optic_disc" not in done
    assert "cup-to-disc ratio is" not in text


def disc_is_left(pixels: Pixels) -> bool:
    """Whether the brightest smooth spot of the photograph is in its left half."""
    blurred = cv2.GaussianBlur(pixels[..., 1], (0, 0), 25)
    return int(np.unravel_index(int(blurred.argmax()), blurred.shape)[1]) < pixels.shape[1] // 2


def test_an_ungradable_photograph_is_not_assessable_rather_than_free_of_lesions(analyse):
    done, refused, text = analyse(lambda p: cv2.GaussianBlur(p, (0, 0), 30))
    assert set(TOOLS) <= set(refused)
    assert claims_of_absence(done) == []
    assert "no lesion" not in text.lower()


def test_laser_scars_are_a_stated_limit_of_the_lesion_tool(assistant):
    limits = " ".join(assistant.registry.manifest("segment_lesions").limitations)
    assert "laser scars are not looked for" in limits
    assert "laser scars" in limits.split("are taken for exudates")[0]
