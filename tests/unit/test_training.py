"""The shared trainer, its augmentations, and the tasks `vessels`, `artery_vein` and `lesions`."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fovea.errors import ConfigError, UnreadableImage
from fovea.testing import synthetic_photograph
from fovea_plugins.field_network import FieldNetwork
from fovea_plugins.segmenter.vessels import reading, sides
from fovea_plugins.training import (
    artery_vein,
    augment,
    data,
    lesions,
    measure_vessels,
    metrics,
    vessels,
)
from fovea_plugins.training.nets import NetConfig, WNet
from fovea_plugins.training.tasks import evaluate, train
from fovea_plugins.training.trainer import Schedule, Trainer, read_facts

FIELD = 160


def tiny(outputs: int, block: int = 2) -> NetConfig:
    return NetConfig(5, outputs, first=(8, 16), second=(8, 16), detail=4, block=block)


@pytest.fixture(autouse=True, scope="module")
def small_and_single():
    """A small task: a small field, a small network, one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    tasks = [(vessels.VesselTask, tiny(1, block=1)), (artery_vein.ArteryVeinTask, tiny(3))]
    tasks.append((lesions.LesionTask, tiny(4)))
    with pytest.MonkeyPatch.context() as patch:
        for task, config in tasks:
            patch.setattr(task, "config", config)
            patch.setattr(task, "field_diameter_px", FIELD)
            patch.setattr(task, "patch_px", 96)
            patch.setattr(task, "patches", 2)
            patch.setattr(task, "zoom", 1.0)
        for module in (vessels, artery_vein):
            patch.setattr(module, "HELD_OUT_EVERY", 3)
        yield
    torch.set_num_threads(before)


def draw_fundus(seed: int, size: int = 176):
    """A photograph with dark red veins and brighter arteries, and its index labels."""
    rng = np.random.default_rng(seed)
    fov = np.zeros((size, size), np.uint8)
    cv2.circle(fov, (size // 2, size // 2), FIELD // 2, 255, -1)
    pixels = np.zeros((size, size, 3), np.float32)
    pixels[:] = (190, 110, 60)
    kinds = np.zeros((size, size), np.uint8)
    for number in range(8):
        value = 1 + number % 2
        start, end = rng.integers(20, size - 20, (2, 2)).tolist()
        cv2.line(kinds, start, end, value, 4)
    pixels[kinds == 1] = (170, 60, 40)
    pixels[kinds == 2] = (110, 30, 30)
    pixels += rng.normal(0, 3, pixels.shape)
    kinds[fov == 0] = 0
    pixels[fov == 0] = 0
    return pixels.clip(0, 255).astype(np.uint8), kinds, fov


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "DRAWN"
    for name in ("images", "vessels", "av", "fov"):
        (folder / name).mkdir(parents=True)
    with (folder / "splits.csv").open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["id", "use"])
        for seed in range(4):
            pixels, kinds, fov = draw_fundus(seed)
            Image.fromarray(pixels).save(folder / "images" / f"{seed}.png")
            Image.fromarray(((kinds > 0) * 255).astype(np.uint8)).save(
                folder / "vessels" / f"{seed}.png"
            )
            palette = Image.fromarray(kinds).convert("P")
            palette.putdata(kinds.ravel().tolist())
            palette.save(folder / "av" / f"{seed}.png")
            Image.fromarray(fov).save(folder / "fov" / f"{seed}.png")
            table.writerow([seed, "val" if seed == 3 else "train"])
    return folder


@pytest.fixture(scope="module")
def task(drawn) -> artery_vein.ArteryVeinTask:
    return artery_vein.make(drawn)


@pytest.fixture(scope="module")
def sample(drawn) -> data.Sample:
    return vessels.VesselTask.sample(data.find_entries(drawn, ("vessels",))[0], 1.0)


def test_training_learns_and_the_weights_can_be_measured(drawn, tmp_path, monkeypatch):
    paths = {
        name: train(name, drawn, out=tmp_path / name, steps=80)
        for name in ("vessels", "artery_vein")
    }
    assert 0.2 < read_facts(paths["vessels"])["threshold"] < 0.8
    monkeypatch.setattr(measure_vessels, "shipped_weights", lambda: dict(paths))
    report = evaluate("vessels", drawn, weights=paths["vessels"])
    of_set = report["sets"]["DRAWN"]
    assert [row["name"] for row in of_set["each"]] == ["3"]  # the rest was trained on
    figures = of_set["figures"]
    assert figures["auc"]["mean"] > 0.95
    assert figures["dice"]["mean"] > 0.7
    assert figures["av_accuracy"]["mean"] > 0.7
    assert 0 <= figures["ece"]["mean"] < 0.3
    assert figures["seconds"]["mean"] > 0


def test_a_run_can_begin_with_the_weights_of_another(task, tmp_path):
    first = Trainer(task, tmp_path / "first", Schedule(steps=2))
    second = Trainer(task, tmp_path / "second", Schedule(steps=1, seed=9))
    path = first.run()
    second.start_from(path)
    for name, value in first.mean.state_dict().items():
        assert torch.equal(value, second.network.state_dict()[name]), name


def test_a_resumed_run_goes_on_bit_for_bit(task, tmp_path):
    schedule = Schedule(steps=20, seed=5)
    whole = Trainer(task, tmp_path / "whole", schedule)
    losses = [whole.step() for _ in range(6)]
    first = Trainer(task, tmp_path / "parts", schedule)
    for _ in range(3):
        first.step()
    first.save()
    torch.manual_seed(99)
    second = Trainer(task, tmp_path / "parts", schedule)
    assert second.resume()
    assert [second.step() for _ in range(3)] == losses[3:]
    for name, value in whole.mean.state_dict().items():
        assert torch.equal(value, second.mean.state_dict()[name]), name


def test_without_a_checkpoint_there_is_nothing_to_resume(task, tmp_path):
    assert not Trainer(task, tmp_path / "new", Schedule(steps=1)).resume()


def test_the_minutes_end_a_run(task, tmp_path):
    trainer = Trainer(task, tmp_path / "out", Schedule(minutes=1e-4))
    trainer.run()
    assert trainer.done == 1
    assert trainer.weights.exists()


def test_geometry_moves_photograph_and_labels_together(sample):
    rng = np.random.default_rng(0)
    for _ in range(8):
        patch = augment.cut_patch(rng, sample, size=128)
        vessel = (patch.target[0] > 0.9) & patch.inside
        ground = (patch.target[0] < 0.1) & cv2.erode(
            patch.inside.astype(np.uint8), np.ones((5, 5))
        ).astype(bool)
        # The drawn vessels are darker everywhere, so a shift would mix the two.
        assert np.percentile(patch.pixels[vessel][:, 1], 90) < 85
        assert np.percentile(patch.pixels[ground][:, 1], 10) > 85


def test_style_keeps_size_and_range_and_repeats_with_the_seed(sample):
    curve = augment.tone_curve(sample)
    made = []
    for _ in range(2):
        rng = np.random.default_rng(3)
        pixels = sample.pixels.astype(np.float32)
        styled = augment.restyle(rng, pixels, own=curve, others=[curve])
        made.append(augment.damage(rng, styled))
    assert made[0].shape == sample.pixels.shape
    assert made[0].min() >= 0
    assert made[0].max() <= 255
    assert np.array_equal(*made)
    assert not np.array_equal(made[0], sample.pixels)


def test_labels_leave_out_what_is_unknown_or_contradicts(tmp_path):
    kinds = np.array([[0, 1, 2, 3, 4, 1]], np.uint8)
    vessel = np.array([[0, 1, 1, 1, 1, 0]], np.uint8) * 255
    for name, values in (("av", kinds), ("vessels", vessel)):
        (tmp_path / name).mkdir()
        Image.fromarray(values).save(tmp_path / name / "a.png")
    target, known = artery_vein.ArteryVeinTask.labels(data.Entry("SET", "a", "train", tmp_path))
    assert target[1].tolist() == [[0, 1, 0, 1, 0, 1]]
    assert target[2].tolist() == [[0, 0, 1, 1, 0, 0]]
    assert known[0].all()
    assert known[1].tolist() == known[2].tolist() == [[1, 1, 1, 1, 0, 0]]


def test_figures_of_a_perfect_and_of_an_empty_answer():
    _, kinds, fov = draw_fundus(1)
    truth, inside = kinds > 0, fov > 0
    perfect = measure_vessels.vessel_figures(truth.astype(np.float32), truth, truth, inside)
    assert perfect["dice"] == perfect["auc"] == perfect["sensitivity"] == 1.0
    assert perfect["specificity"] == perfect["cl_dice"] == 1.0
    assert perfect["ece"] == 0.0
    assert perfect["components"] == perfect["components_truth"]
    none = np.zeros_like(truth)
    empty = measure_vessels.vessel_figures(none.astype(np.float32), none, truth, inside)
    assert empty["dice"] == empty["sensitivity"] == empty["cl_dice"] == 0.0
    assert empty["auc"] == 0.5
    assert empty["components"] == 0
    told = measure_vessels.side_figures(kinds == 1, kinds, truth, inside, "")
    assert told["av_accuracy"] == told["artery_recall"] == told["vein_recall"] == 1.0
    assert told["flips_per_1000px"] == 0.0
    assert measure_vessels.side_figures(kinds == 2, kinds, truth, inside, "")["av_accuracy"] == 0.0
    assert metrics.dice(none, none) is None
    assert metrics.summary([None, None]) is None


def test_a_segment_takes_the_opinion_of_its_majority():
    vessel = np.zeros((60, 120), bool)
    vessel[28:33, 10:110] = True
    found = np.zeros((3, 60, 120), np.float32)
    found[0][vessel] = 0.9
    found[1][vessel] = 0.8
    found[2][vessel] = 0.1
    found[1, :, 40:60], found[2, :, 40:60] = 0.1, 0.8  # a stretch that flips
    found[1:] *= vessel
    raw = sides.artery_share(found) > 0.5
    settled = sides.settle_sides(found, vessel) > 0.5
    assert not raw[vessel].all()
    assert settled[vessel].all()


def test_the_cut_becomes_one_half_and_the_order_stays():
    share = np.array([0.0, 0.2, 0.4, 0.7, 1.0], np.float32)
    centred = sides.around_half(share, 0.4)
    assert centred[2] == pytest.approx(0.5)
    assert (np.diff(centred) > 0).all()
    assert centred[0] == 0.0
    assert centred[-1] == pytest.approx(1.0, abs=1e-5)


def test_specks_and_rim_arcs_go_and_vessels_stay():
    photograph = synthetic_photograph()
    circle = photograph.field_circle
    mask = np.zeros(photograph.field_of_view.shape, np.uint8)
    x, y = round(circle.x), round(circle.y)
    cv2.line(mask, (x - 40, y), (x + 40, y), 1, 5)
    vessel = mask > 0
    mask[y - 30, x] = 1  # a speck
    cv2.ellipse(
        mask, (x, y), (round(circle.radius) - 1,) * 2, 0, 20, 80, 1, 2
    )  # a reflection on the rim
    cleaned = reading.without_specks(mask > 0, photograph)
    assert (cleaned == vessel).all()


def test_the_cut_is_put_where_it_separates():
    share = np.array([0.1, 0.2, 0.375, 0.42, 0.9], np.float32)
    truth = np.array([False, False, False, True, True])
    assert artery_vein.best_artery_cut([[(share, truth)]]) == 0.4
    assert 0.375 < measure_vessels.best_threshold([[(share, truth)]]) <= 0.42


@pytest.mark.parametrize("block", [1, 2])
def test_the_network_takes_any_size_and_says_nothing_outside_the_field(block):
    network = FieldNetwork(WNet(tiny(3, block)), FIELD)
    pixels, _, fov = draw_fundus(2, size=175)
    found = network.probabilities(pixels, fov > 0)
    assert found.shape == (3, 175, 175)
    assert (found[:, fov == 0] == 0).all()
    assert found.max() <= 1


def test_what_cannot_be_done_is_said(drawn, tmp_path):
    with pytest.raises(ConfigError, match="no training task"):
        train("dreams", drawn, out=tmp_path)
    with pytest.raises(UnreadableImage, match="No labelled"):
        data.find_entries(tmp_path, ("vessels",))


@pytest.fixture(scope="module")
def with_lesions(drawn, tmp_path_factory) -> Path:
    """Two photographs with drawn lesions, and the drawn vessels as healthy eyes."""
    folder = tmp_path_factory.mktemp("lesions") / "SPOTS"
    for name in ("images", "masks/MA", "masks/EX"):
        (folder / name).mkdir(parents=True)
    with (folder / "splits.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([["id", "use"], ["0", "train"], ["1", "train"]])
    for seed in range(2):
        pixels, _, _ = draw_fundus(seed)
        exudates = np.zeros(pixels.shape[:2], np.uint8)
        cv2.circle(exudates, (70 + 20 * seed, 80), 6, 255, -1)
        pixels[exudates > 0] = (240, 230, 130)
        Image.fromarray(pixels).save(folder / "images" / f"{seed}.png")
        Image.fromarray(exudates).save(folder / "masks" / "EX" / f"{seed}.png")
    Image.fromarray(np.zeros_like(exudates)).save(folder / "masks" / "MA" / "0.png")
    return folder


def test_a_missing_lesion_mask_means_that_there_is_none(with_lesions):
    entry = lesions.find(with_lesions)[1]
    target, known = lesions.LesionTask.labels(entry)
    assert known.all()
    assert [bool(one.any()) for one in target] == [False, False, True, False]


def test_the_lesion_network_learns_what_is_bright(with_lesions, tmp_path):
    path = train("lesions", with_lesions, out=tmp_path / "out", steps=60)
    network = FieldNetwork.read(path)
    sample = lesions.LesionTask.sample(lesions.find(with_lesions)[0], 1.0)
    found = network.probabilities(sample.pixels, sample.inside)
    assert metrics.auc(found[2][sample.inside], sample.target[2][sample.inside] > 127) > 0.9


def test_average_precision_is_that_of_the_definition():
    counts = metrics.PixelCounts()
    assert counts.average_precision() is None
    counts.add(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]))
    counts.add(np.array([0.1]), np.array([False]))
    assert counts.average_precision() == pytest.approx(0.5 * 1.0 + 0.5 * 2 / 3)
