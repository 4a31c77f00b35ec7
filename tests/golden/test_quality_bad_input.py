"""What the gate says of photographs that are poor, cut, altered, or taken by unusual means."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from fovea.contract import Context, NoArgs, Result
from fovea.errors import PluginUnavailable
from fovea.image import open_photograph
from fovea.manifest import read_manifest
from fovea_plugins import quality
from fovea_plugins.quality.fitted import Fitted
from fovea_plugins.quality.plugin import FEATURES, AssessQuality

FOLDER = Path(quality.__file__).parent
DISC, FOVEA = np.array([225.0, 653.0]), np.array([713.0, 707.0])
"""Centres in the sample photograph as read off by eye, in pixels."""

DISC_DIAMETER = 190.0


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
    def run(pixels: np.ndarray) -> Result:
        path = tmp_path / "picture.png"
        cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., ::-1]))
        return plugin.run(Context(images=(open_photograph(path),), work_dir=tmp_path), NoArgs())

    return run


def state(result: Result, concept: str) -> str:
    finding = result.finding(concept)
    assert finding is not None
    return finding.state


def place(result: Result, name: str) -> np.ndarray | None:
    pair = [result.measurement(f"{name}_{axis}") for axis in "xy"]
    return np.array([m.value for m in pair]) if all(pair) else None


def near(result: Result, name: str, wanted: np.ndarray, *, diameters: float = 0.5) -> bool:
    found = place(result, name)
    return found is not None and float(np.hypot(*(found - wanted))) < diameters * DISC_DIAMETER


def test_out_of_focus_is_not_gradable(assess, retina):
    result = assess(cv2.GaussianBlur(retina, (0, 0), 30))
    assert state(result, "gradable_vessels") != "present"
    assert state(result, "gradable_macula") != "present"
    if state(result, "fundus_photograph") == "present":
        assert result.finding("quality").value == "reject"
        assert "focus" in result.finding("gradable_vessels").detail


def test_far_too_dark_is_not_gradable(assess, retina):
    noise = np.random.default_rng(0).normal(0, 2, retina.shape)
    result = assess(np.clip(retina * 0.05 + noise, 0, 255).astype(np.uint8))
    assert state(result, "gradable_macula") != "present"
    assert state(result, "gradable_vessels") != "present"
    if state(result, "fundus_photograph") == "present":
        assert result.finding("quality").value == "reject"


def fogged(retina: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The frame of the sample with an even colour in it, and a little light from one side."""
    inside = retina.mean(axis=2, keepdims=True) > 12
    light = np.linspace(0.9, 1.1, retina.shape[1])[None, :, None]
    noise = np.random.default_rng(0).normal(0, 0.7, retina.shape)
    return np.where(inside, np.clip(light * colour + noise, 0, 255), 0).astype(np.uint8)


def test_a_round_field_that_shows_nothing_is_left_open_and_rejected(assess, retina):
    result = assess(fogged(retina, (150, 95, 60)))
    assert state(result, "fundus_photograph") == "indeterminate"
    assert "opaque media" in result.finding("fundus_photograph").detail
    assert result.finding("quality").value == "reject"
    assert state(result, "gradable_disc") == "not_assessable"
    assert place(result, "disc") is None
    assert "not a retinal" not in result.summary.lower()


@pytest.mark.parametrize("colour", [(60, 90, 150), (90, 150, 90)])
def test_a_round_field_in_colours_of_nothing_in_an_eye_is_no_retina(assess, retina, colour):
    assert state(assess(fogged(retina, colour)), "fundus_photograph") == "absent"


def test_low_light_is_still_a_retina_with_its_landmarks(assess, retina):
    result = assess(np.round(retina * 0.25).astype(np.uint8))
    assert state(result, "fundus_photograph") == "present"
    assert near(result, "disc", DISC)
    assert near(result, "fovea", FOVEA)


def cut(pixels: np.ndarray, centre: np.ndarray, radius: int) -> np.ndarray:
    """A round field around another centre, on black."""
    x, y = (round(float(v)) for v in centre)
    padded = cv2.copyMakeBorder(pixels, *(radius,) * 4, cv2.BORDER_CONSTANT)
    window = padded[y : y + 2 * radius, x : x + 2 * radius].copy()
    rows, columns = np.mgrid[: 2 * radius, : 2 * radius]
    window[np.hypot(rows - radius, columns - radius) > 0.98 * radius] = 0
    return window


def test_disc_centred_field(assess, retina):
    result = assess(cut(retina, np.array([400.0, 660.0]), 330))
    assert state(result, "fundus_photograph") == "present"
    assert near(result, "disc", DISC - np.array([400 - 330, 660 - 330]))


def test_without_a_disc_nothing_is_placed(assess, retina):
    result = assess(cut(retina, np.array([820.0, 700.0]), 420))
    assert state(result, "fundus_photograph") == "present"
    assert place(result, "disc") is None
    assert {item.name for item in result.not_measured} >= {"disc_x", "disc_y"}
    assert state(result, "gradable_disc") == "absent"
    assert state(result, "eye") == "indeterminate"


def test_heavy_border_changes_little(assess, retina):
    wide = cv2.copyMakeBorder(retina, 700, 700, 900, 900, cv2.BORDER_CONSTANT)
    result = assess(wide)
    assert state(result, "fundus_photograph") == "present"
    assert near(result, "disc", DISC + np.array([900, 700]))
    assert near(result, "fovea", FOVEA + np.array([900, 700]))
    assert result.finding("eye").value == "OS"


def test_grey_picture_says_so(assess, retina):
    result = assess(np.repeat(retina[..., 1:2], 3, axis=2))
    assert state(result, "fundus_photograph") == "present"
    assert "grey_picture" in {caveat.code for caveat in result.caveats}
    assert near(result, "disc", DISC)


def test_one_megapixel_phone_picture(assess, retina):
    small = cv2.resize(retina, (1000, 1000), interpolation=cv2.INTER_AREA)
    light = np.linspace(0.6, 1.1, 1000)[None, :, None] * np.array([1.05, 0.95, 0.8])
    soft = np.clip(cv2.GaussianBlur(small, (0, 0), 1.5) * light, 0, 255).astype(np.uint8)
    _, code = cv2.imencode(".jpg", soft, [cv2.IMWRITE_JPEG_QUALITY, 40])
    result = assess(cv2.imdecode(code, cv2.IMREAD_COLOR))
    assert state(result, "fundus_photograph") == "present"
    found = place(result, "disc")
    assert found is not None
    assert float(np.hypot(*(found * 1.411 - DISC))) < 0.5 * DISC_DIAMETER


def test_laser_scars_are_not_taken_for_the_disc(assess, retina):
    """Pale spots with dark rims in rings outside the arcades, as after panretinal treatment."""
    scarred = retina.astype(np.float32)
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[: retina.shape[0], : retina.shape[1]]
    for angle in np.linspace(0, 2 * np.pi, 40, endpoint=False):
        reach = 700 * rng.uniform(0.68, 0.88)
        x, y = 705 + reach * np.cos(angle), 705 + reach * np.sin(angle)
        if np.hypot(x - DISC[0], y - DISC[1]) < 220:
            continue
        away = np.hypot(columns - x, rows - y) / rng.uniform(16, 26)
        spot = np.exp(-(away**4))[..., None]
        rim = np.exp(-(((away - 1.3) / 0.3) ** 2))[..., None]
        scarred = scarred * (1 - 0.6 * rim) + spot * (np.array([235, 205, 150]) - scarred) * 0.8
    result = assess(np.clip(scarred, 0, 255).astype(np.uint8))
    assert state(result, "fundus_photograph") == "present"
    assert near(result, "disc", DISC)


def test_weights_must_be_read_first(tmp_path, retina_path):
    plugin = AssessQuality(read_manifest(FOLDER / "plugin.toml"), FOLDER)
    context = Context(images=(open_photograph(retina_path),), work_dir=tmp_path)
    with pytest.raises(PluginUnavailable):
        plugin.run(context, NoArgs())


def test_weights_of_other_features_are_refused(plugin):
    path = FOLDER / plugin.manifest.weights[1].file
    with pytest.raises(ValueError, match="other features"):
        Fitted.read(path, {**FEATURES, "grade": ("something", "else")})
