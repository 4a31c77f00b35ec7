"""The quality gate on a public photograph, its altered copies, and pictures that are no retina."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from fovea.contract import Context, NoArgs, Result
from fovea.image import Eye, open_photograph
from fovea.manifest import read_manifest
from fovea_plugins import quality
from fovea_plugins.quality.plugin import AssessQuality

FOLDER = Path(quality.__file__).parent
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


@pytest.fixture(scope="module")
def plugin() -> AssessQuality:
    made = AssessQuality(read_manifest(FOLDER / "plugin.toml"), FOLDER)
    made.load("cpu")
    return made


@pytest.fixture(scope="module")
def retina() -> np.ndarray:
    return data.retina()


@pytest.fixture
def assess(plugin, tmp_path):
    def run(pixels: np.ndarray, *, eye: Eye | None = None) -> Result:
        path = tmp_path / "picture.png"
        order = pixels[..., ::-1] if pixels.ndim == 3 else pixels
        cv2.imwrite(str(path), np.ascontiguousarray(order))
        image = open_photograph(path, eye=eye)
        return plugin.run(Context(images=(image,), work_dir=tmp_path), NoArgs())

    return run


@pytest.fixture(scope="module")
def plain(plugin, retina, tmp_path_factory) -> Result:
    """The verdict on the unaltered photograph."""
    path = tmp_path_factory.mktemp("retina") / "retina.png"
    cv2.imwrite(str(path), retina[..., ::-1])
    context = Context(images=(open_photograph(path),), work_dir=path.parent)
    return plugin.run(context, NoArgs())


def _score(result: Result) -> float:
    measurement = result.measurement("quality_score")
    assert measurement is not None
    return measurement.value


def test_golden_values(plain):
    values = {m.name: m.value for m in plain.measurements}
    # Disc and fovea of this photograph as read off by eye, in pixels.
    assert values["disc_x"] == pytest.approx(225, abs=25)
    assert values["disc_y"] == pytest.approx(653, abs=25)
    assert values["fovea_x"] == pytest.approx(713, abs=30)
    assert values["fovea_y"] == pytest.approx(707, abs=30)
    assert plain.finding("quality").value == "good"
    assert plain.finding("eye").value == "OS"
    assert plain.finding("field").value == "macula_centred"
    for name in ("fundus_photograph", "gradable_disc", "gradable_macula", "gradable_vessels"):
        assert plain.finding(name).state == "present", name


def test_everything_returned_is_declared_and_in_range(plain, plugin):
    for measurement in plain.measurements:
        declared = plugin.manifest.output(measurement.name)
        assert declared.unit == measurement.unit
        assert declared.low <= measurement.value <= declared.high
        if measurement.interval:
            assert measurement.interval.low <= measurement.value <= measurement.interval.high
    for finding in plain.findings:
        assert plugin.manifest.output(finding.concept).kind == "finding"


def test_same_picture_same_result(assess, plain, retina):
    assert assess(retina) == plain


def test_more_blur_lowers_the_score(assess, plain, retina):
    scores = [_score(plain)]
    scores += [_score(assess(cv2.GaussianBlur(retina, (0, 0), sigma))) for sigma in (4, 8, 16, 24)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] - scores[-1] > 0.3


def test_darker_lowers_the_score(assess, retina):
    scores = [_score(assess((retina * gain).astype(np.uint8))) for gain in (1.0, 0.5, 0.3, 0.2)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] - scores[-1] > 0.3


def test_mirrored_picture_is_the_other_eye(assess, plain, retina):
    """One picture does not tell whether it is mirrored: the finding says what it rests on."""
    result = assess(retina[:, ::-1])
    assert result.finding("eye").value == "OD"
    assert "unmirrored" in result.finding("eye").detail
    mirrored = retina.shape[1] - 1 - plain.measurement("disc_x").value
    assert result.measurement("disc_x").value == pytest.approx(mirrored, abs=10)


def test_upside_down_picture_claims_no_eye(assess, retina):
    result = assess(retina[::-1, ::-1])
    assert result.finding("eye").state == "indeterminate"
    assert "maybe_upside_down" in {caveat.code for caveat in result.caveats}


@pytest.mark.parametrize("turns", [1, 3])
def test_turned_picture_claims_no_eye_and_finds_both(assess, plain, retina, turns):
    result = assess(np.rot90(retina, turns))
    assert result.finding("eye").state == "indeterminate"
    assert "maybe_turned" in {caveat.code for caveat in result.caveats}
    side = retina.shape[0] - 1
    for name in ("disc", "fovea"):
        x, y = (plain.measurement(f"{name}_{axis}").value for axis in "xy")
        wanted = (y, side - x) if turns == 1 else (side - y, x)
        found = [result.measurement(f"{name}_{axis}").value for axis in "xy"]
        assert np.hypot(found[0] - wanted[0], found[1] - wanted[1]) < 60, name


def test_half_the_size_gives_half_the_coordinates(assess, plain, retina):
    small = cv2.resize(retina, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    result = assess(small)
    for name in ("disc_x", "disc_y", "fovea_x", "fovea_y"):
        full = plain.measurement(name).value
        assert result.measurement(name).value == pytest.approx(full / 2, abs=8), name


def test_other_eye_in_the_file_is_a_caveat(assess, retina):
    assert "eye_conflict" in {caveat.code for caveat in assess(retina, eye="OD").caveats}
    assert "eye_conflict" not in {caveat.code for caveat in assess(retina, eye="OS").caveats}


def test_red_free_copy_is_kept(assess, retina):
    result = assess(retina[..., 1])
    assert result.finding("fundus_photograph").state == "present"
    assert result.measurement("disc_x").value == pytest.approx(225, abs=30)


def test_disc_outside_the_field_is_not_measured(assess, retina):
    result = assess(retina[:, 500:])
    assert result.measurement("disc_x") is None
    assert {item.name for item in result.not_measured} >= {"disc_x", "disc_y"}
    assert result.finding("gradable_disc").state == "absent"
    assert "disc" in result.finding("gradable_disc").detail
    assert result.finding("eye").state == "indeterminate"


ORDINARY = ("astronaut", "chelsea", "coffee", "rocket", "page", "text", "coins", "camera",
            "brick", "grass", "gravel", "clock", "moon", "immunohistochemistry")  # fmt: skip


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_picture_is_refused(assess, name):
    _assert_refused(assess(getattr(data, name)()))


def _on_black_circle(pixels: np.ndarray) -> np.ndarray:
    side = min(pixels.shape[:2])
    y, x = np.mgrid[:side, :side]
    inside = np.hypot(x - side / 2, y - side / 2) < 0.48 * side
    return pixels[:side, :side] * inside[..., None].astype(np.uint8)


def test_round_photograph_is_refused(assess):
    _assert_refused(assess(_on_black_circle(data.coffee())))


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (180, 80, 40)])
def test_blank_is_refused(assess, colour):
    _assert_refused(assess(np.full((400, 500, 3), colour, np.uint8)))


def test_plain_orange_circle_is_not_judged(assess):
    plain = _on_black_circle(np.full((500, 500, 3), (200, 110, 50), np.uint8))
    _assert_refused(assess(plain), "indeterminate")


def _assert_refused(result: Result, state: str = "absent") -> None:
    verdict = result.finding("fundus_photograph")
    assert verdict.state == state
    assert len(verdict.detail) > 20
    assert not result.measurements
    assert "quality_score" in {item.name for item in result.not_measured}
    assert result.finding("gradable_disc").state == "not_assessable"


@pytest.mark.shared_data
def test_oct_is_refused_and_cameras_are_kept(plugin, tmp_path):
    if not SHARED.is_dir():
        pytest.skip("the development data are not beside the checkout")

    def state(path: Path) -> str:
        context = Context(images=(open_photograph(path),), work_dir=tmp_path)
        return plugin.run(context, NoArgs()).finding("fundus_photograph").state

    for path in sorted((SHARED / "OCT_samples" / "images").iterdir()):
        assert state(path) == "absent", path.name
    for folder in ("DRIVE", "CHASE_DB1", "HRF", "DRISHTI-GS", "IDRiD_grading", "ODIR_384px"):
        for path in sorted((SHARED / folder / "images").iterdir())[:3]:
            assert state(path) == "present", f"{folder} {path.name}"
