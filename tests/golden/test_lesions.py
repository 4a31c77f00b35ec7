"""Lesions on a public photograph and its altered copies, and on labelled ones as a regression."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from fovea.contract import Context, NoArgs, Result, read_mask
from fovea.image import open_photograph
from fovea.manifest import read_manifest
from fovea_plugins.segmenter import lesions
from fovea_plugins.segmenter.lesions.operating_points import POINTS
from fovea_plugins.segmenter.lesions.plugin import SegmentLesions
from fovea_plugins.segmenter.lesions.reading import KINDS

FOLDER = Path(lesions.__file__).parent
MOST = {"microaneurysm": 15, "haemorrhage": 10, "hard_exudate": 40, "soft_exudate": 3}
"""Of the sample: a person sees no red lesion and no cotton-wool spot, but a few pale dots."""


@pytest.fixture(scope="module")
def plugin() -> SegmentLesions:
    made = SegmentLesions(read_manifest(FOLDER / "plugin.toml"), FOLDER)
    made.load("cpu")
    return made


@pytest.fixture(scope="module")
def retina() -> np.ndarray:
    return data.retina()


def run(plugin: SegmentLesions, pixels: np.ndarray, folder: Path) -> tuple[Result, dict]:
    """The result, and the masks by kind."""
    folder.mkdir(exist_ok=True)
    path = folder / "picture.png"
    cv2.imwrite(str(path), np.ascontiguousarray(pixels[..., ::-1]))
    result = plugin.run(Context(images=(open_photograph(path),), work_dir=folder), NoArgs())
    return result, {kind: read_mask(folder / f"{kind}.png") for kind in KINDS}


@pytest.fixture(scope="module")
def sample(plugin, retina, tmp_path_factory) -> tuple[Result, dict]:
    return run(plugin, retina, tmp_path_factory.mktemp("sample"))


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / max(one.sum() + other.sum(), 1)


def test_few_lesions_in_an_eye_that_shows_hardly_any(sample):
    result, masks = sample
    for stem, most in MOST.items():
        count = result.measurement(f"{stem}_count")
        assert count.value <= most, stem
        assert count.interval.low <= count.value <= count.interval.high
    # What is marked is pale and small, and not the disc, which is the palest of all.
    assert masks["hard_exudates"].mean() < 0.002
    assert not masks["hard_exudates"][500:800, 100:330].any()


def test_masks_follow_from_the_probabilities(sample, retina):
    result, masks = sample
    for kind, stem in zip(KINDS, MOST, strict=True):
        path = next(a.path for a in result.artifacts if a.name == f"{stem}_probability")
        probability = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) / 255.0
        assert masks[kind].shape == probability.shape == retina.shape[:2]
        assert (probability[masks[kind]] >= POINTS[kind].cuts.outline - 0.003).all()


def test_a_mirrored_picture_has_mirrored_lesions(plugin, retina, sample, tmp_path):
    result, _ = sample
    other, _ = run(plugin, retina[:, ::-1], tmp_path / "mirrored")
    for stem in MOST:
        seen, mirrored = (
            cv2.imread(str(next(a.path for a in one.artifacts if a.name == f"{stem}_probability")))
            for one in (result, other)
        )
        difference = seen.astype(float) - mirrored[:, ::-1]
        assert np.abs(difference).mean() < 1.0, stem  # of 255
        count = other.measurement(f"{stem}_count").value
        assert count <= MOST[stem], stem


@pytest.mark.shared_data
def test_exudates_of_a_labelled_photograph(plugin, shared_data: Path, tmp_path):
    """A regression check with a low floor: one photograph, which the network did not learn from."""
    folder = shared_data / "IDRiD_segmentation"
    pixels = cv2.imread(str(folder / "images" / "IDRiD_04.jpg"))[..., ::-1]
    result, _ = run(plugin, pixels, tmp_path)
    truth = cv2.imread(str(next((folder / "masks" / "EX").glob("IDRiD_04*"))), 0) > 0
    path = next(a.path for a in result.artifacts if a.name == "hard_exudate_probability")
    found = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 127
    assert overlap(found, truth) > 0.3
