"""The task `optic_disc`: labels, squares, the nested loss, training, and the outlines."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fovea.errors import UnreadableImage
from fovea_plugins.segmenter.optic_disc import crop, network, reading
from fovea_plugins.segmenter.optic_disc.contours import Outline, smooth_outline
from fovea_plugins.segmenter.optic_disc.crop import cut_crop, network_input
from fovea_plugins.training import measure_optic_disc, optic_disc
from fovea_plugins.training.nets import NetConfig, WNet
from fovea_plugins.training.tasks import train
from fovea_plugins.training.trainer import Trainer

TINY = NetConfig(inputs=crop.CHANNELS, outputs=2, first=(8, 16, 24), second=(8, 16), detail=4)
SIZE = 360


@pytest.fixture(autouse=True, scope="module")
def small_and_single():
    """A tiny network, a small square and one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optic_disc, "CONFIG", TINY)
        patch.setattr(optic_disc, "INPUT_PX", 64)
        patch.setattr(crop, "INPUT_PX", 64)
        patch.setattr(optic_disc, "FIELD_DIAMETER_PX", 320)
        yield
    torch.set_num_threads(before)


def draw(seed: int):
    """A photograph with a pale disc and a paler cup, and the share of experts for both."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((SIZE, SIZE, 3), np.float32)
    cv2.circle(pixels, (SIZE // 2, SIZE // 2), 165, (150.0, 80.0, 40.0), -1)
    x, y = (int(value) for value in rng.integers(150, 210, 2))
    disc, cup = (np.zeros((SIZE, SIZE), np.uint8) for _ in range(2))
    cv2.ellipse(disc, (x, y), (30, 34), 0, 0, 360, 255, -1)
    cv2.ellipse(cup, (x, y), (int(rng.integers(8, 24)),) * 2, 0, 0, 360, 255, -1)
    cup[(cup > 0) & (rng.random(cup.shape) < 0.1)] = 191
    pixels[disc > 0] = (210, 150, 80)
    pixels[cup > 0] = (240, 220, 170)
    pixels[pixels[..., 0] > 0] += rng.normal(0, 3, (int((pixels[..., 0] > 0).sum()), 3))
    return pixels.clip(0, 255).astype(np.uint8), disc, cup, (x, y)


def write_set(folder: Path, kinds: dict[str, int], *, count: int) -> None:
    for name in ("images", *kinds):
        (folder / name).mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["id", "use", "cdr1", "cdr2"])
        for seed in range(count):
            drawn = draw(seed)
            Image.fromarray(drawn[0]).save(folder / "images" / f"p{seed}.png")
            for kind, index in kinds.items():
                Image.fromarray(drawn[index]).save(folder / kind / f"p{seed}.png")
            table.writerow([f"p{seed}", "train", 0.4, 0.6])


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_set(root / "CUPS", {"softmap_disc": 1, "softmap_cup": 2}, count=2)
    write_set(root / "DISCS", {"masks/OD": 1}, count=1)
    return root


@pytest.fixture(scope="module")
def task(drawn) -> optic_disc.OpticDiscTask:
    return optic_disc.make(drawn)


def test_labels_say_what_is_known(drawn):
    entries = optic_disc.find(drawn)
    assert [(e.dataset, e.name) for e in entries] == [
        *(("CUPS", f"p{i}") for i in range(2)),
        ("DISCS", "p0"),
    ]
    target, known = optic_disc.disc_labels(entries[0])
    assert set(np.unique(target[1]).round(2)) == {0.0, 0.75, 1.0}
    assert known.all()
    target, known = optic_disc.disc_labels(entries[-1])
    assert target[0].any()
    assert known[0].all()
    assert not known[1].any()
    assert measure_optic_disc.expert_ratio(entries[0]) == pytest.approx(0.5)


def test_no_labels_is_said(tmp_path):
    with pytest.raises(UnreadableImage, match="outlined optic disc"):
        optic_disc.find(tmp_path)


def test_squares_keep_photograph_and_labels_together(drawn):
    sample = optic_disc._sample(optic_disc.find(drawn)[0])
    place = optic_disc.place_of(sample)
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(30):
        square = optic_disc.cut_square(rng, sample, place)
        disc, cup = square.target[0] > 0.95, square.target[1] > 0.95
        assert not (cup & (square.target[0] < 0.5)).any()
        if not disc.any():
            continue
        rim = cv2.erode((disc & (square.target[1] < 0.02)).astype(np.uint8), np.ones((3, 3))) > 0
        shares.append(np.sqrt(cup.sum() / disc.sum()))
        if cup.any() and rim.any():
            assert square.pixels[cup][:, 1].mean() > square.pixels[rim][:, 1].mean() + 30
    assert np.ptp(shares) > 0.15, "cups are made smaller and larger within their discs"


def test_cups_lie_inside_discs_and_probabilities_add_up():
    logits = torch.randn(2, 2, 8, 8) * 5
    yes, no = network.log_probabilities(logits)
    assert torch.allclose(yes.exp() + no.exp(), torch.ones_like(yes), atol=1e-5)
    assert (yes[:, 1] <= yes[:, 0]).all()


def test_an_unknown_cup_teaches_nothing(task):
    batch = task.batch(np.random.default_rng(0))
    logits = torch.randn(batch["target"].shape)
    weight = batch["weight"].clone()
    weight[:, 1] = 0
    changed = batch["target"].clone()
    changed[:, 1] = 1 - changed[:, 1]
    first = optic_disc._loss(logits, batch["target"], weight)
    assert torch.isfinite(first)
    assert optic_disc._loss(logits, changed, weight) == first
    assert optic_disc._loss(logits, changed, batch["weight"]) != first


def test_a_batch_repeats_with_the_seed(task):
    first, second = (task.batch(np.random.default_rng(4)) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert first["input"].shape[1:] == (crop.CHANNELS, crop.INPUT_PX, crop.INPUT_PX)
    known_cups = first["weight"][:, 1].flatten(1).any(dim=1)
    assert known_cups.tolist() == [True] * optic_disc.WITH_CUP + [False] * optic_disc.WITHOUT_CUP


def test_training_learns_and_the_weights_can_be_measured(task, drawn, tmp_path):
    schedule = dataclasses.replace(optic_disc.SCHEDULE, steps=30, ema=0.8)
    trainer = Trainer(task, tmp_path, schedule)
    losses = [trainer.step() for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
    trainer.export(trainer.weights)
    reader = network.DiscNetwork.read([trainer.weights])
    entry = optic_disc.find(drawn)[0]
    photograph = entry.photograph()
    row = measure_optic_disc.judge(reader, entry, photograph, np.array(draw(0)[3], float))
    assert row["disc_dice"] > 0.8
    assert "refused" in measure_optic_disc.judge(reader, entry, photograph, None)
    assert measure_optic_disc.evaluate(drawn, trainer.weights)["sets"] == {}


def test_it_is_a_task_of_the_trainer(drawn, tmp_path):
    assert train("optic_disc", drawn, out=tmp_path, steps=1).name == "optic_disc.safetensors"


def test_a_crop_finds_its_way_back_to_the_original(drawn):
    photograph = optic_disc.find(drawn)[0].photograph()
    cut = cut_crop(photograph, np.array([100.0, 200.0]), 90.0)
    middle = (crop.INPUT_PX - 1) / 2
    assert cut.to_original(np.array([middle, middle])) == pytest.approx([100, 200], abs=0.6)
    beyond = cut_crop(photograph, np.array([-500.0, -500.0]), 90.0)
    assert not beyond.inside.any()
    assert not network_input(beyond.pixels, beyond.inside).any()


def test_colour_balance_and_exposure_drop_out(drawn):
    photograph = optic_disc.find(drawn)[0].photograph()
    cut = cut_crop(photograph, np.array([180.0, 180.0]), 100.0)
    plain = network_input(cut.pixels, cut.inside)
    other = network_input(cut.pixels.astype(np.float32) * (0.5, 0.7, 0.6) + 9, cut.inside)
    assert np.abs(plain - other).max() < 0.15


def test_an_outline_of_an_oval_bridges_a_notch_and_ignores_specks():
    probability = np.zeros((100, 120), np.float32)
    cv2.ellipse(probability, (60, 50), (30, 20), 0, 0, 360, 1.0, -1)
    truth = probability > 0.5
    probability[45:55, 84:95] = 0
    probability[5:9, 5:9] = 1
    outline = smooth_outline(probability, threshold=0.5, harmonics=2)
    assert outline is not None
    mask = outline.mask(probability.shape)
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.96
    assert outline.extent == pytest.approx((60, 40), rel=0.06)
    assert outline.area == pytest.approx(truth.sum(), rel=0.05)
    assert smooth_outline(np.zeros((9, 9)), threshold=0.5, harmonics=2) is None


def test_share_of_an_outline_inside_the_field():
    square = Outline(np.array([[2.0, 2.0], [8.0, 2.0], [8.0, 8.0], [2.0, 8.0]]))
    field = np.ones((10, 10), bool)
    assert square.share_inside(field) == 1.0
    field[:, 5:] = False
    assert square.share_inside(field) == 0.5
    moved = Outline(square.points_xy + np.array([5.0, 0.0]))
    assert moved.share_inside(np.ones((10, 10), bool)) == 0.5


def test_a_disc_without_a_cup_has_no_ratio():
    middle = np.zeros((crop.INPUT_PX, crop.INPUT_PX), np.float32)
    cv2.circle(middle, (30, 32), 14, 1.0, -1)
    cut = crop.Crop(
        np.zeros((*middle.shape, 3), np.uint8), np.ones(middle.shape, bool), 10, 20, 2.0
    )
    found = reading.outlines(network.Seen(cut, middle, np.zeros_like(middle)))
    assert found is not None
    assert found.cup is None
    assert found.vertical_ratio is None
    assert found.disc.centre == pytest.approx([30.5 * 2 + 9.5, 32.5 * 2 + 19.5], abs=0.5)
    assert reading.outlines(network.Seen(cut, *np.zeros((2, *middle.shape), np.float32))) is None


def test_what_is_seen_in_one_square_falls_in_place_in_another(drawn):
    photograph = optic_disc.find(drawn)[0].photograph()
    narrow, wide = (cut_crop(photograph, np.array([180.0, 170.0]), w) for w in (100.0, 140.0))
    maps = [one.pixels.transpose(2, 0, 1).astype(np.float32)[:2] for one in (narrow, wide)]
    moved = network._resampled(maps[1], wide, narrow)
    assert moved.shape == maps[0].shape
    assert np.corrcoef(moved.ravel(), maps[0].ravel())[0, 1] > 0.97
    assert np.allclose(network._resampled(maps[0], narrow, narrow), maps[0])


def test_an_interval_holds_as_often_as_it_says():
    errors = list(np.random.default_rng(0).normal(0, 0.05, 200))
    found = measure_optic_disc.interval(errors)
    assert found is not None
    assert found["half_width"] == pytest.approx(0.0825, abs=0.015)
    assert 0.85 < found["coverage"] < 0.95
    assert measure_optic_disc.interval(errors[:5]) is None


def test_a_random_network_still_answers_in_range():
    reader = network.DiscNetwork([WNet(TINY)])
    pixels = np.random.default_rng(0).integers(0, 255, (crop.INPUT_PX, crop.INPUT_PX, 3))
    inside = np.ones(pixels.shape[:2], bool)
    inside[:20] = False
    found = reader.probabilities(pixels, inside)
    assert found.shape == (2, crop.INPUT_PX, crop.INPUT_PX)
    assert (found[:, :20] == 0).all()
    assert found.max() <= 1
    assert (found[1] <= found[0]).all()
