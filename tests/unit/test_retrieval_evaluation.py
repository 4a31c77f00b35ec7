"""Figures of retrieval, by hand and on a handful of real photographs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from fovea.errors import UnreadableImage
from fovea_plugins.retrieval.evaluation import ODIR_CLASSES, Side, compare, evaluate, scores_of


def side(labels: list[str], angles: list[float], patients: list[str]) -> Side:
    """Photographs on a circle, each with the classes named by its letters."""
    table = np.array([[float(c in one) for c in ODIR_CLASSES] for one in labels], np.float32)
    radians = np.radians(angles)
    vectors = np.stack([np.cos(radians), np.sin(radians)], axis=1).astype(np.float32)
    return Side(table, np.array(patients), {"encoder": vectors, "other": vectors[:, ::-1].copy()})


def test_precision_and_average_precision_by_hand() -> None:
    archive = side(["N", "D", "N", "D", "DG", "N"], [1, 2, 3, 4, 5, 90], list("abcdef"))
    questions = side(["N", "DG"], [0, 0], ["x", "y"])
    scores = scores_of(archive, questions, "encoder")
    n, d, g, c = (ODIR_CLASSES.index(letter) for letter in "NDGC")
    assert scores["p_at_1"][:, n].tolist() == [1.0, pytest.approx(np.nan, nan_ok=True)]
    assert scores["p_at_1"][1, d] == 0.0
    assert scores["p_at_5"][0, n] == pytest.approx(2 / 5)
    assert scores["p_at_5"][1, [d, g]] == pytest.approx([3 / 5, 1 / 5])
    assert scores["map_at_10"][0, n] == pytest.approx((1 / 1 + 2 / 3 + 3 / 6) / 3)
    assert scores["map_at_10"][1, g] == pytest.approx(1 / 5)
    assert np.isnan(scores["p_at_1"][:, c]).all(), "a class that nobody asks about has no figure"


def test_comparison_has_intervals_and_refuses_shared_patients() -> None:
    drawn = np.random.default_rng(0)
    letters = [ODIR_CLASSES[i] for i in drawn.integers(8, size=160)]
    angles = [45.0 * ODIR_CLASSES.index(one) + drawn.normal() for one in letters]
    archive = side(letters[:100], angles[:100], [f"a{i}" for i in range(100)])
    questions = side(letters[100:], angles[100:], [f"q{i // 2}" for i in range(60)])
    figures = compare(archive, questions)
    macro = figures["encoder"]["p_at_1"]["macro"]
    assert macro["value"] > 0.99
    assert macro["interval"][0] <= macro["value"] <= macro["interval"][1]
    assert figures["ahead_of"]["other"]["p_at_1"]["macro"] == 0.0, "the same angles, mirrored"
    assert figures["chance"]["macro"] == pytest.approx(1 / 8, abs=0.01)
    with pytest.raises(ValueError, match="patients of the questions"):
        compare(archive, archive)


def test_a_folder_without_odir_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="eight labels"):
        evaluate(tmp_path)


@pytest.mark.shared_data
def test_real_photographs_are_encoded_and_compared(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "ODIR_384px"
    with (source / "labels.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    train = [row for row in rows if row["use"] == "train"][:8]
    val = [row for row in rows if row["use"] == "val"][:4]
    folder = tmp_path / "odir"
    folder.mkdir()
    (folder / "images").symlink_to(source / "images")
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(train + val)
    figures = evaluate(tmp_path)
    assert figures["photographs"] == {"archive": 8, "questions": 4}
    for name in ("encoder", "pixels_and_colours", "random_network"):
        assert 0.0 <= figures[name]["p_at_5"]["macro"]["value"] <= 1.0
    assert "chosen" in figures["note"]


@pytest.mark.shared_data
def test_grades_of_a_set_that_the_encoder_never_saw(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "IDRiD_grading"
    with (source / "labels.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    copies = [row for row in rows if row["same_image_as"]]
    chosen = [[row for row in rows if row["use"] == use][:size] for use, size in
              (("train", 6), ("val", 3))]  # fmt: skip
    (tmp_path / "images").symlink_to(source / "images")
    with (tmp_path / "labels.csv").open("w", newline="", encoding="utf-8") as lines:
        writer = csv.DictWriter(lines, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows([*chosen[0], *chosen[1], *copies[:2]])
    figures = evaluate(tmp_path)
    assert figures["photographs"] == {"archive": 6, "questions": 3}, "copies are left out"
    assert set(figures["chance"]) == {"macro", *(f"ICDR {grade}" for grade in range(5))}
    assert "nothing was chosen" in figures["note"]
