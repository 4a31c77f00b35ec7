"""Measuring lesion networks: who judges what, hits, FROC, and the table that is shipped."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from fovea.errors import UnreadableImage
from fovea.manifest import read_manifest
from fovea_plugins.field_network import CHANNELS, FieldNetwork
from fovea_plugins.segmenter.lesions.operating_points import POINTS, OperatingPoint
from fovea_plugins.segmenter.lesions.reading import KINDS
from fovea_plugins.training import lesions, measure_lesions, ship_lesions
from fovea_plugins.training.data import Entry
from fovea_plugins.training.measure_lesions import Judged, Members, compare
from fovea_plugins.training.metrics import PixelCounts
from fovea_plugins.training.nets import NetConfig, WNet
from fovea_plugins.training.tasks import evaluate

TINY = NetConfig(inputs=CHANNELS, outputs=4, first=(8, 8), second=(8,), detail=4)
SIZE = 220


@pytest.fixture(autouse=True, scope="module")
def single_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def picture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A field with dark dots, and the mask of the dots."""
    rng = np.random.default_rng(seed)
    pixels = np.zeros((SIZE, SIZE, 3), np.float32)
    cv2.circle(pixels, (SIZE // 2, SIZE // 2), 100, (150.0, 80.0, 40.0), -1)
    dots = np.zeros((SIZE, SIZE), np.uint8)
    for x, y in rng.integers(70, 150, (4, 2)):
        cv2.circle(dots, (int(x), int(y)), 4, 255, -1)
    pixels[dots > 0] = (90, 20, 15)
    pixels[pixels[..., 0] > 0] += rng.normal(0, 3, (int((pixels[..., 0] > 0).sum()), 3))
    return pixels.clip(0, 255).astype(np.uint8), dots


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """Three labelled photographs, three healthy ones, two of grade 0."""
    root = tmp_path_factory.mktemp("data")
    for name in ("images", "masks/MA", "masks/HE"):
        (root / "SICK" / name).mkdir(parents=True)
    for folder in ("HRF", "IDRiD_grading"):
        (root / folder / "images").mkdir(parents=True)
    (root / "HRF" / "vessels").mkdir()
    rows: dict[str, list[list[str]]] = {"SICK": [], "HRF": [], "IDRiD_grading": []}
    for number in range(3):
        pixels, dots = picture(number)
        Image.fromarray(pixels).save(root / "SICK" / "images" / f"p{number}.png")
        Image.fromarray(dots).save(root / "SICK" / "masks/MA" / f"p{number}.png")
        rows["SICK"].append([f"p{number}", "train"])
    for number in range(3):
        pixels = picture(10 + number)[0]
        Image.fromarray(pixels).save(root / "HRF" / "images" / f"0{number}_h.png")
        Image.fromarray(pixels[..., 0]).save(root / "HRF" / "vessels" / f"0{number}_h.png")
        rows["HRF"].append([f"0{number}_h", "val" if number == 2 else "train"])
    for name, use, grade, same in (("a", "val", "0", ""), ("b", "val", "0", "train/x"),
                                   ("c", "train", "0", ""), ("d", "val", "2", "")):  # fmt: skip
        Image.fromarray(picture(20)[0]).save(root / "IDRiD_grading" / "images" / f"{name}.png")
        rows["IDRiD_grading"].append([name, use, grade, same])
    heads = {"IDRiD_grading": ["id", "use", "dr_grade", "same_image_in_IDRiD_segmentation"]}
    for folder, of_set in rows.items():
        with (root / folder / "labels.csv").open("w", newline="") as lines:
            csv.writer(lines).writerows([heads.get(folder, ["id", "use"]), *of_set])
    return root


def network(seed: int, *trained_on: str) -> FieldNetwork:
    torch.manual_seed(seed)
    facts = {"trained_on": list(trained_on)}
    return FieldNetwork(WNet(TINY), 160, mirrors=1, facts=facts)


def write_weights(path: Path, *trained_on: str) -> Path:
    torch.manual_seed(0)
    facts = {
        "trained_on": list(trained_on), "network": TINY.as_dict(), "field_diameter_px": 160,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.contiguous() for name, value in WNet(TINY).state_dict().items()}
    save_file(tensors, path, metadata={"fovea": json.dumps(facts)})
    return path


# Who judges what


def test_a_photograph_is_judged_by_a_network_that_did_not_see_it():
    first, second = network(0, "S/p0", "S/p1"), network(1, "S/p1", "S/p2")
    members = Members([first, second])
    entries = {name: Entry("S", name, "train", Path()) for name in ("p0", "p1", "p2", "p3")}
    readers = {name: members.unseen(entry) for name, entry in entries.items()}
    assert readers["p0"]._networks == (second,)
    assert readers["p1"] is None
    assert readers["p2"]._networks == (first,)
    assert members.ensemble._networks == (first, second)
    seen = {name: members.seen_by_any(entry) for name, entry in entries.items()}
    assert seen == {"p0": True, "p1": True, "p2": True, "p3": False}
    with pytest.raises(UnreadableImage):
        measure_lesions.judge(members, entries["p1"], {})


def test_eyes_without_lesions_are_those_that_nothing_was_learned_from(drawn):
    found = measure_lesions.healthy_eyes(drawn)
    assert [e.name for e in found["HRF"]] == ["00_h", "01_h", "02_h"]
    assert [e.name for e in found["IDRiD_grading"]] == ["a"]
    train = measure_lesions.grade_zero(drawn / "IDRiD_grading", use="train")
    assert [e.name for e in train] == ["c"]


def test_evaluate_measures_each_set(drawn, tmp_path):
    weights = write_weights(tmp_path / "one.safetensors", "SICK/p0", "HRF/00_h", "HRF/01_h")
    report = evaluate("lesions", drawn, weights=weights)
    assert report["sets"]["SICK"]["photographs"] == 2
    assert report["sets"]["HRF, healthy"]["photographs"] == 1
    assert report["sets"]["IDRiD_grading, healthy"]["photographs"] == 1
    assert report["trained_on"] == ["HRF/00_h", "HRF/01_h", "SICK/p0"]
    of_kind = report["sets"]["SICK"]["kinds"]
    assert set(of_kind) == set(KINDS)
    assert 0 <= of_kind["microaneurysms"]["aupr"]["value"] <= 1
    assert of_kind["microaneurysms"]["lesions"]["marked"] > 0
    # No label image means that there is no lesion: nothing to find, only to get wrong.
    assert of_kind["soft_exudates"]["aupr"] is None
    assert of_kind["soft_exudates"]["eyes"]["with"] == 0
    json.dumps(report)


# Hits, FROC, calibration


def map_with(*spots: tuple[int, int, float]) -> np.ndarray:
    drawn = np.zeros((100, 100), np.float32)
    for x, y, probability in spots:
        cv2.circle(drawn, (x, y), 3, probability, -1)
    return drawn


def test_a_spot_hits_what_it_overlaps():
    marked = map_with((20, 20, 1), (40, 20, 1), (80, 80, 1)) > 0
    found = compare(map_with((21, 20, 0.9), (41, 21, 0.6), (60, 60, 0.8)), marked, 0.5, least_px=3)
    assert found.marked == 3
    assert [found.found(cut) for cut in (0.5, 0.7, 0.95)] == [2, 1, 0]
    assert [found.false(cut) for cut in (0.5, 0.7, 0.95)] == [1, 1, 0]
    assert [found.count(cut) for cut in (0.5, 0.7, 0.95)] == [3, 2, 0]


def test_a_spot_over_two_lesions_finds_both_once():
    marked = map_with((20, 20, 1), (32, 20, 1)) > 0
    wide = np.zeros((100, 100), np.float32)
    wide[17:24, 15:38] = 0.9
    found = compare(wide, marked, 0.5, least_px=3)
    assert (found.found(0.5), found.false(0.5), found.count(0.5)) == (2, 0, 1)


def test_froc_reads_sensitivity_at_rates_of_false_positives():
    one = Judged(scores=[0.9, 0.8, 0.7], hits=[frozenset({1}), frozenset(), frozenset({2})],
                 marked=4)  # fmt: skip
    curve = measure_lesions.froc([one])
    assert curve["0.125"] == 0.25
    assert curve["1"] == curve["8"] == 0.5
    assert list(curve.values()) == sorted(curve.values())
    assert measure_lesions.froc([Judged()]) == {}


def test_pixels_of_all_photographs_are_pooled_and_resampled():
    rng = np.random.default_rng(0)
    judged = []
    for _ in range(6):
        truth = rng.random(4000) < 0.1
        counts = PixelCounts()
        counts.add(np.clip(0.5 * truth + 0.5 * rng.random(4000), 0, 1), truth)
        judged.append(Judged(pixels=counts))
    found = measure_lesions.average_precision(judged)
    assert found["low"] <= found["value"] <= found["high"]
    assert found["value"] > 0.9


def test_calibration_error_is_none_for_true_probabilities_and_large_for_boasts():
    rng = np.random.default_rng(0)
    stated = rng.random(200_000)
    truth = rng.random(200_000) < stated
    for probability, low, high in ((stated, 0, 0.03), (np.ones_like(stated), 0.45, 0.55)):
        counts = PixelCounts()
        counts.add(probability, truth)
        assert low <= measure_lesions.calibration_error([Judged(pixels=counts)]) <= high


def test_totals_have_an_interval_over_photographs():
    found = measure_lesions.ratio([5, 0, 3], np.array([10.0, 5.0, 3.0]))
    assert found["value"] == pytest.approx(8 / 18)
    assert found["low"] <= found["value"] <= found["high"]
    assert measure_lesions.ratio([0], np.array([0.0])) is None


def test_counts_are_compared_by_rank():
    counts = np.array([1.0, 2.0, 30.0])
    assert measure_lesions.rank_correlation(counts, counts**2) == pytest.approx(1.0)
    assert measure_lesions.rank_correlation(counts, np.ones(3)) is None


# What is shipped


def test_weights_are_put_in_with_their_digests(tmp_path):
    plugin = tmp_path / "plugin"
    (plugin / "weights").mkdir(parents=True)
    (plugin / "weights" / "lesions_7.safetensors").write_bytes(b"stale")
    original = Path(measure_lesions.shipped.__file__).parent / "plugin.toml"
    (plugin / "plugin.toml").write_text(original.read_text())
    with pytest.raises(UnreadableImage, match="nothing to ship"):
        ship_lesions.ship(tmp_path, plugin)
    for fold in range(2):
        write_weights(tmp_path / f"fold{fold}" / "lesions.safetensors", f"S/p{fold}")
    files = ship_lesions.ship(tmp_path, plugin)
    manifest, before = read_manifest(plugin / "plugin.toml"), read_manifest(original)
    assert sorted((plugin / "weights").iterdir()) == files
    assert [plugin / weights.file for weights in manifest.weights] == files
    for file, weights in zip(files, manifest.weights, strict=True):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == weights.sha256
        assert file.stat().st_size == weights.bytes
    assert manifest.model_copy(update={"weights": ()}) == before.model_copy(update={"weights": ()})


def test_cuts_are_chosen_where_lesions_and_noise_part(monkeypatch):
    least = measure_lesions.LEAST_AREA * lesions.LesionTask.field_diameter_px**2
    assert least == pytest.approx(4)
    maps, marked = np.zeros((4, 100, 100), np.float32), np.zeros((4, 100, 100), np.float32)
    marked[0] = map_with((20, 20, 1), (60, 20, 1))
    maps[0] = map_with((20, 20, 0.8), (60, 20, 0.7), (30, 80, 0.4))
    healthy = [map_with((50, 50, 0.75))[None].repeat(4, axis=0)] * 20
    line = ship_lesions.choose("microaneurysms", [(maps, marked)], healthy)
    point = eval(line.split(":", 1)[1].rstrip(","), {  # noqa: S307 - our own line
        "OperatingPoint": OperatingPoint, "Cuts": type(POINTS["microaneurysms"].cuts),
    })  # fmt: skip
    assert 0.4 < point.cuts.counted <= 0.7
    assert point.cuts.strict > 0.75
    assert (point.lesions_found, point.false_per_photograph) == (1.0, 0.0)
    assert (point.eyes_found, point.eyes) == (1, 1)
    values = dataclasses.astuple(point.cuts)
    assert list(values) == sorted(values)
