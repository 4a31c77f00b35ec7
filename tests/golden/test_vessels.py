"""`segment_vessels` on the retina photograph that ships with scikit-image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data

import fovea_plugins.segmenter.vessels.plugin as vessels_plugin
from fovea.contract import Context, NoArgs, read_mask
from fovea.errors import NotApplicable, PluginUnavailable
from fovea.image import open_photograph
from fovea.manifest import read_manifest

FOLDER = Path(vessels_plugin.__file__).parent


def segment(pixels, folder):
    cv2.imwrite(str(folder / "photograph.png"), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    photograph = open_photograph(folder / "photograph.png")
    plugin = vessels_plugin.VesselSegmenter(read_manifest(FOLDER / "plugin.toml"), FOLDER)
    plugin.load("cpu")
    result = plugin.run(Context((photograph,), folder), NoArgs())
    return photograph, result, read_mask(folder / "vessels.png")


def overlap(one, two):
    return 2 * (one & two).sum() / (one.sum() + two.sum())


@pytest.fixture(scope="module")
def retina(tmp_path_factory):
    pixels = skimage.data.retina()
    return pixels, *segment(pixels, tmp_path_factory.mktemp("retina"))


def test_the_mask_is_in_the_frame_and_of_plausible_size(retina):
    pixels, photograph, result, mask = retina
    assert mask.shape == pixels.shape[:2]
    assert mask.sum() / photograph.field_of_view.sum() == pytest.approx(0.139, abs=0.02)
    assert {a.name for a in result.artifacts} == {
        "vessels",
        "arteries",
        "veins",
        "vessels_undecided",
        "vessel_probability",
    }


def test_every_vessel_is_an_artery_a_vein_or_undecided(retina, tmp_path):
    pixels, _, result, mask = retina
    parts = {a.name: read_mask(a.path) for a in result.artifacts if a.name != "vessel_probability"}
    sides = [parts[name] for name in ("arteries", "veins", "vessels_undecided")]
    assert (np.sum(sides, axis=0) == mask).all()
    # Veins are darker than arteries, in red above all.
    assert pixels[..., 0][parts["veins"]].mean() < pixels[..., 0][parts["arteries"]].mean()


def test_a_grey_picture_says_that_sides_are_not_to_be_relied_on(retina, tmp_path):
    grey = np.repeat(retina[0][..., 1:2], 3, axis=2)
    result = segment(grey, tmp_path)[1]
    assert "grey_picture" in {caveat.code for caveat in result.caveats}


def test_without_loading_there_is_no_answer(retina, tmp_path):
    plugin = vessels_plugin.VesselSegmenter(read_manifest(FOLDER / "plugin.toml"), FOLDER)
    with pytest.raises(PluginUnavailable, match="not loaded"):
        plugin.run(Context((retina[1],), tmp_path), NoArgs())


def test_vessels_are_darker_than_what_lies_beside_them(retina):
    pixels, photograph, _, mask = retina
    near = cv2.dilate(mask.astype(np.uint8), np.ones((25, 25), np.uint8)).astype(bool)
    beside = near & ~mask & photograph.field_of_view
    assert pixels[..., 1][mask].mean() < pixels[..., 1][beside].mean() - 8


def test_the_rim_is_no_vessel(retina):
    _, photograph, _, mask = retina
    circle = photograph.field_circle
    y, x = np.nonzero(mask)
    distance = np.hypot(x - circle.x, y - circle.y)
    rim = distance > 0.985 * circle.radius
    angle = np.arctan2(y - circle.y, x - circle.x)[rim]
    bins = np.bincount(((angle + np.pi) * 90 / np.pi).astype(int), minlength=180)[:180] > 0
    gaps = np.flatnonzero(~bins)
    # Vessels cross the rim in many short arcs; a rim artefact runs along it for long.
    assert np.diff(gaps).max() <= 10  # at most 20 degrees


def test_mirrored_dimmed_or_reduced_photograph_gives_the_same_vessels(retina, tmp_path):
    pixels, _, _, mask = retina
    mirrored = segment(np.ascontiguousarray(pixels[:, ::-1]), tmp_path)[2]
    assert overlap(mirrored[:, ::-1], mask) > 0.92
    dimmed = segment((pixels * 0.7).astype(np.uint8), tmp_path)[2]
    assert overlap(dimmed, mask) > 0.93
    half = cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    small = segment(half, tmp_path)[2].astype(np.uint8)
    large = cv2.resize(small, mask.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0
    assert overlap(large, mask) > 0.90


def test_blur_finds_fewer_vessels(retina, tmp_path):
    pixels, _, _, mask = retina
    blurred = segment(cv2.GaussianBlur(pixels, (0, 0), 8), tmp_path)[2]
    assert blurred.sum() < mask.sum()


def test_a_field_without_vessels_is_refused(tmp_path):
    y, x = np.mgrid[:600, :600]
    plain = np.zeros((600, 600, 3), np.uint8)
    plain[np.hypot(x - 300, y - 300) < 280] = (180, 90, 40)
    with pytest.raises(NotApplicable, match="No believable vessel tree"):
        segment(plain, tmp_path)
