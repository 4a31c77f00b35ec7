"""The tasks `landmarks` and `quality`: scenes, targets, fits, figures."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fovea.errors import ConfigError, UnreadableImage
from fovea_plugins.quality import grading, landmarks, maps, network
from fovea_plugins.quality.fitted import Fitted, Linear, Ranges
from fovea_plugins.quality.plugin import FEATURES
from fovea_plugins.training import drawn, measure_landmarks, measure_quality, quality
from fovea_plugins.training import landmarks as task
from fovea_plugins.training.copies import COPIES, copy_of
from fovea_plugins.training.landmark_data import fundus_entries, other_entries, truth_of
from fovea_plugins.training.nets import NetConfig
from fovea_plugins.training.tasks import evaluate, train

FAMILIES = dict(drawn.FAMILIES)
TINY = NetConfig(inputs=network.CHANNELS, outputs=3, first=(8, 12, 16), second=(), detail=4)


@pytest.fixture(autouse=True, scope="module")
def small_and_single():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, "CONFIG", TINY)
        patch.setattr(drawn, "FAMILIES", {f: FAMILIES[f] for f in ("blank", "page", "scheme")})
        patch.setattr(task, "DRAWN", 1)
        patch.setattr(task, "DRAWN_HELD_OUT", 1)
        patch.setattr(quality, "DRAWN", 2)
        patch.setattr(measure_quality, "MOST_COPIES", 1)
        yield
    torch.set_num_threads(before)


def draw(seed: int, size: int = 240):
    """A drawn fundus; disc and fovea (x, y)."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((size, size, 3), np.float32)
    cv2.circle(pixels, (size // 2, size // 2), 112, (150.0, 80.0, 40.0), -1)
    side = 1 if seed % 2 else -1
    disc = (size // 2 + side * 52, size // 2 + int(rng.integers(-8, 8)))
    fovea = (disc[0] - side * 86, disc[1] + 10)
    cv2.circle(pixels, fovea, 12, (95.0, 45.0, 25.0), -1)
    for up in (-1, 1):
        cv2.ellipse(pixels, disc, (90, 60), 0, *sorted((up * 90, up * 170)), (100.0, 35.0, 25.0), 3)
    cv2.circle(pixels, disc, 15, (225.0, 180.0, 110.0), -1)
    pixels[pixels[..., 0] > 0] += rng.normal(0, 3, (int((pixels[..., 0] > 0).sum()), 3))
    return pixels.clip(0, 255).astype(np.uint8), disc, fovea


def write(folder: Path, header: list[str], rows: list[list], pictures: list[np.ndarray]) -> None:
    (folder / "images").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(header)
        table.writerows(rows)
    for row, picture in zip(rows, pictures, strict=True):
        Image.fromarray(picture).save(folder / "images" / f"{row[0]}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    places = [draw(seed) for seed in range(6)]
    rows = [
        [f"p{i}", "val" if i > 3 else "train", *disc, *fovea]
        for i, (_, disc, fovea) in enumerate(places)
    ]
    header = ["id", "use", "od_x", "od_y", "fovea_x", "fovea_y"]
    write(root / "PLACED", header, rows, [p for p, _, _ in places])
    graded = [draw(seed + 20)[0] for seed in range(9)]
    for index, one in enumerate(graded):
        graded[index] = cv2.GaussianBlur(one, (0, 0), 0.5 + 5 * (index % 3))
    grades = ("good", "usable", "reject")
    rows = [[f"g{i}", str(i), "val" if i > 5 else "train", grades[i % 3]] for i in range(9)]
    write(root / "GRADED", ["id", "patient", "use", "eyeq_quality"], rows, graded)
    rng = np.random.default_rng(0)
    others = [rng.integers(0, 255, (150, 200, 3)).astype(np.uint8) for _ in range(4)]
    rows = [[f"n{i}", "val" if i > 2 else "train"] for i in range(4)]
    write(root / "NOT_FUNDUS", ["id", "use"], rows, others)
    return root


def test_data_sets_are_told_apart(folder):
    assert {e.dataset for e in fundus_entries(folder)} == {"PLACED", "GRADED"}
    assert [e.name for e in other_entries(folder, "val")] == ["n3"]
    truth = truth_of(fundus_entries(folder / "PLACED", "val")[0])
    assert truth.disc is not None
    assert truth.eye == ("OD" if truth.disc[0] > truth.fovea[0] else "OS")


def test_a_folder_without_other_pictures_has_none(folder):
    assert other_entries(folder / "PLACED") == []
    assert other_entries(folder / "PLACED" / "images") == []


def test_targets_move_with_the_picture(folder):
    scene = task.make(folder / "PLACED")._groups[0][0]["PLACED"][0]
    for seed in range(20):
        shot = task.shoot(np.random.default_rng(seed), scene)
        assert shot.layers.shape == (4, maps.FIELD_PX, maps.FIELD_PX)
        assert set(np.unique(shot.target[maps.RETINA])) == {1.0}
        peak = shot.target[maps.DISC].max()
        assert peak <= 1.0
        outside = shot.layers[3] == 0
        assert not shot.layers[:, outside].any()
        assert not shot.target[:2][:, outside].any()


def test_unknown_places_are_not_learnt_and_other_pictures_have_none(folder):
    made = task.make(folder)
    unknown = made._groups[1][0]["GRADED"][0]
    other = made._groups[2][0][""][0]
    shot = task.shoot(np.random.default_rng(0), unknown)
    assert not shot.weight[: maps.RETINA].any()
    assert shot.weight[maps.RETINA].any()
    for seed in range(5):
        shot = task.shoot(np.random.default_rng(seed), other)
        assert not shot.target.any()
        assert shot.weight.any()


def test_a_run_gives_weights_that_can_be_read_and_measured(folder, tmp_path):
    path = train("landmarks", folder, out=tmp_path, steps=3)
    read = network.LandmarkNetwork.read(path)
    assert {"n0", "page_0"} <= set(read.facts["others"])
    assert "page_1" not in read.facts["others"]
    assert "PLACED/p0" in read.facts["trained_on"]
    assert not [name for name in read.facts["trained_on"] if name in ("PLACED/p4", "PLACED/p5")]
    figures = evaluate("landmarks", folder, weights=path)["sets"]["PLACED"]
    assert figures["photographs"] == 2
    assert figures["disc"]["photographs"] == 2
    assert "GRADED" not in evaluate("landmarks", folder, weights=path)["sets"]


def test_quality_is_fitted_and_measured(folder, tmp_path):
    path = train("quality", folder, out=tmp_path)
    fitted = Fitted.read(path, FEATURES)
    assert (fitted.grade.weight >= 0).all()
    assert fitted.grade.cuts[0] < fitted.grade.cuts[1]
    beyond = [n.startswith("beyond") for n in fitted.fundus.names]
    assert (fitted.fundus.weight[beyond] <= 0).all()
    figures = evaluate("quality", folder, weights=path)
    assert figures["sets"]["GRADED"]["grades"]["accuracy"]["images"] == 3
    assert sum(sum(row) for row in figures["sets"]["GRADED"]["grades"]["confusion"]) == 3
    assert set(figures["copies"]) == set(COPIES)
    assert figures["not_fundus"]["pictures"] == 1
    assert evaluate("quality", folder / "PLACED", weights=path)["not_fundus"] is None


def test_without_grades_the_shipped_model_of_the_grade_is_kept(folder, tmp_path):
    fitted = Fitted.read(train("quality", folder / "PLACED", out=tmp_path), FEATURES)
    _, shipped = measure_quality.read_shipped(None)
    assert fitted.grade.weight == pytest.approx(shipped.grade.weight, rel=1e-6)
    assert fitted.fundus.weight != pytest.approx(shipped.fundus.weight, rel=1e-3)


def test_nothing_to_fit_on_is_said(folder, tmp_path):
    with pytest.raises(UnreadableImage):
        train("quality", folder / "NOT_FUNDUS", out=tmp_path)
    with pytest.raises(ConfigError, match="one go"):
        train("quality", folder, out=tmp_path, minutes=1.0)
    with pytest.raises(ConfigError, match="landmark_s"):
        train("landmark_s", folder, out=tmp_path)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_drawn_pictures_are_pictures(family):
    picture = FAMILIES[family](np.random.default_rng(5))
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3
    assert family == "blank" or picture.std() > 3


def test_a_drawn_picture_is_the_same_each_time():
    assert np.array_equal(drawn.draw("page", 3), drawn.draw("page", 3))
    assert not np.array_equal(drawn.draw("page", 3), drawn.draw("page", 4))


def cases(seed: int, count: int = 300) -> quality.Cases:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(count, 3))
    latent = 1.5 * features[:, 0] + 0.7 * features[:, 1] + rng.logistic(size=count)
    grade = np.digitize(latent, [-1.0, 1.2])
    return quality.Cases(features, grade, grade, np.arange(count).astype(str), np.ones(count))


def test_the_fit_finds_the_model_that_made_the_cases():
    made = cases(0, 4000)
    model = quality.fit_ordinal(made, ("a", "b", "c"), np.ones(3), 1e-6)
    slopes = model.weight / model.scale
    assert slopes == pytest.approx([1.5, 0.7, 0.0], abs=0.15)
    shift = float((model.mean * slopes).sum())
    assert model.cuts + shift == pytest.approx([-1.0, 1.2], abs=0.15)


def test_cases_known_only_to_be_usable_teach_the_same_model():
    made = cases(2, 4000)
    blurred = np.arange(4000) % 2 == 0
    lowest = np.where(blurred & (made.lowest > 0), 1, made.lowest)
    highest = np.where(blurred & (made.lowest > 0), 2, made.highest)
    model = quality.fit_ordinal(replace(made, lowest=lowest, highest=highest),
                                ("a", "b", "c"), np.ones(3), 1e-6)  # fmt: skip
    assert model.weight / model.scale == pytest.approx([1.5, 0.7, 0.0], abs=0.2)


def test_photographs_labelled_for_something_else_are_usable_at_least(folder):
    assert quality.grade_bounds(fundus_entries(folder / "PLACED")[0]) == (1, 2)
    assert {quality.grade_bounds(e) for e in fundus_entries(folder / "GRADED")} == {
        (0, 0), (1, 1), (2, 2)
    }  # fmt: skip


def test_chances_are_probabilities_and_the_penalty_is_one_of_those_tried():
    made = cases(1)
    penalty, figures = quality.choose_penalty(made, np.ones(3), seed=0)
    assert penalty in quality.PENALTIES
    assert figures["held_out_accuracy"] > 0.5
    chance = quality.chances(quality.fit_ordinal(made, ("a", "b", "c"), np.ones(3), penalty),
                             made.features)  # fmt: skip
    assert chance.sum(axis=1) == pytest.approx(1.0)
    assert (chance >= 0).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=6, max_size=6), st.integers(0, 5), st.floats(0, 1))
def test_a_better_feature_never_lowers_the_score(values, index, gain):
    count = len(grading.GRADE_FEATURES)
    model = Linear(grading.GRADE_FEATURES, np.ones(count), np.ones(count),
                   np.linspace(0, 1, count), np.array([-2.0, 0.5]))  # fmt: skip
    plain = dict(zip(grading.GRADE_FEATURES, values, strict=True))
    better = {**plain, grading.GRADE_FEATURES[index]: values[index] + gain}
    before, after = (grading.grade_quality(f, model).score for f in (plain, better))
    assert 0.0 <= before <= after <= 1.0


def test_ranges_count_only_what_lies_outside():
    ranges = Ranges(("a", "b"), np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    assert ranges.beyond({"a": 0.5, "b": 2.0}) == {"a": 0.0, "b": 0.0}
    assert ranges.beyond({"a": -0.5, "b": 4.0}) == {"a": 0.5, "b": 0.5}
    assert ranges.beyond({"a": None, "b": 1e9}) == {"a": 0.0, "b": 2.0}


def bump(x: float, y: float, height: float, size: int = 128) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    return (height * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 50)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.floats(15, 110), st.floats(15, 110))
def test_peaks_are_found_between_pixels(x, y):
    found = maps.peaks(bump(x, y, 0.8), count=1, apart_px=18)
    assert (found[0].x, found[0].y) == pytest.approx((x, y), abs=0.3)


def located(discs: list[tuple[float, float, float]], foveas: list[tuple[float, float, float]]):
    from fovea.image import Frame, View

    inside = np.ones((128, 128), bool)
    values = np.zeros((3, 128, 128), np.float32)
    for channel, places in ((maps.DISC, discs), (maps.FOVEA, foveas)):
        for x, y, height in places:
            values[channel] = np.maximum(values[channel], bump(x, y, height))
    seen = maps.Seen(values, inside, Frame(128, 128, 10.0, 0.0, 0.0, 1280, 1280))
    pixels = np.zeros((400, 400, 3), np.uint8)
    view = View(pixels, np.ones((400, 400), bool), Frame(400, 400, 3.2, 0.0, 0.0, 1280, 1280))
    return landmarks.locate(seen, view)


def test_places_come_in_pixels_of_the_view():
    disc, fovea = located([(100.0, 60.0, 0.9)], [(50.0, 66.0, 0.8)])
    assert (disc.x, disc.y) == pytest.approx((100.5 * 3.125 - 0.5, 60.5 * 3.125 - 0.5), abs=0.5)
    assert fovea.seen
    apart = np.hypot(disc.x - fovea.x, disc.y - fovea.y)
    assert disc.radius == pytest.approx(apart / 5.3, rel=0.01)


def test_the_pair_at_a_likely_distance_wins():
    disc, _ = located([(60.0, 66.0, 0.7), (100.0, 60.0, 0.6)], [(50.0, 66.0, 0.8)])
    assert disc.x == pytest.approx(100.5 * 3.125 - 0.5, abs=1)


def test_without_a_disc_there_is_nothing():
    assert located([], [(50.0, 66.0, 0.9)]) == (None, None)


def test_an_unseen_fovea_is_put_towards_the_middle_of_the_field():
    disc, fovea = located([(100.0, 60.0, 0.9)], [])
    assert not fovea.seen
    assert fovea.x < disc.x
    assert disc.radius == landmarks.NOMINAL_RADIUS_PX


def test_errors_count_what_was_not_found_as_a_miss():
    figures = measure_landmarks.errors([0.1, 0.2, None, 0.3])
    assert figures["not_found"] == 1
    assert figures["within_one"]["mean"] == 0.75
    assert figures["p95"]["value"] is None
    assert figures["median"]["value"] == 0.3
    assert measure_landmarks.errors([]) is None


def test_agreement_and_confusion_of_grades():
    sure = {"good": (0.0, 0.1, 0.9), "usable": (0.1, 0.8, 0.1), "reject": (0.9, 0.1, 0.0)}
    truth = ["good", "good", "usable", "reject"]
    figures = measure_quality.grades(truth, [sure[name] for name in truth])
    assert figures["accuracy"]["mean"] == 1.0
    assert figures["kappa"] == figures["kappa_quadratic"] == 1.0
    figures = measure_quality.grades(truth, [sure["good"]] * 4)
    assert figures["kappa"] == pytest.approx(0.0)
    assert figures["recall"]["reject"] == 0.0
    assert figures["confusion"][0] == [0, 0, 1]


def test_eyes_not_told_are_neither_right_nor_wrong():
    verdicts = [measure_quality.Verdict(True, True, (0.0, 0.0, 1.0), eye, 0.1)
                for eye in ("OD", None, "OS")]  # fmt: skip
    figures = measure_quality.eyes([{"eye": "OD", "verdict": one} for one in verdicts])
    assert [figures[k]["mean"] for k in ("right", "wrong", "not_told")] == pytest.approx(
        [1 / 3] * 3
    )


@pytest.mark.parametrize("name", sorted(COPIES))
def test_copies_are_pictures_of_their_own(name, folder):
    photograph = fundus_entries(folder / "PLACED")[0].photograph()
    altered = copy_of(photograph, name)
    assert altered.pixels.dtype == np.uint8
    assert altered.pixels.shape[:2] == altered.field_of_view.shape
    assert altered.grey == (name == "grey")
    assert not np.array_equal(altered.pixels, photograph.pixels)
