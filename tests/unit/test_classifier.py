"""The classifier's second stage, its figures and its readers, without a trained network."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fovea.contract import Finding, Measurement, Result
from fovea.errors import UnreadableImage
from fovea.image import Circle, Photograph
from fovea_plugins.classifier.evidence import FEATURES, read_evidence
from fovea_plugins.classifier.judge import (
    Judge,
    Line,
    Opinion,
    Target,
    from_json,
    grade_chances,
    is_measured,
    median_grade,
    to_json,
)
from fovea_plugins.classifier.net import ClassifierConfig, ClassifierNet
from fovea_plugins.classifier.picture import network_view, square_view
from fovea_plugins.classifier.targets import GRADES, TARGETS
from fovea_plugins.field_network import network_input
from fovea_plugins.training import classifier_metrics as metrics
from fovea_plugins.training.classifier_data import find_cases
from fovea_plugins.training.classifier_fit import doubtful, fit_judge, logistic, thresholds
from fovea_plugins.training.corrupt import CORRUPTIONS, SEVERITIES, corrupt

derandomized = settings(derandomize=True, deadline=None, max_examples=40)
chances = st.lists(st.floats(0, 1), min_size=4, max_size=4)


def a_judge(*, opinion: bool = True) -> Judge:
    count = len(FEATURES)
    weights = tuple(1.0 if f.name == "hard_exudate_count" else 0.0 for f in FEATURES)
    view = Opinion((0.0,) * count, (1.0,) * count, weights, -1.0)
    one = Target(
        Line(0.0, 1.0), Line(0.0, 0.5, 0.5) if opinion else None, view if opinion else None,
        {"high_sensitivity": 0.2, "balanced": 0.4, "high_specificity": 0.7}, (0.3, 0.6), 100, 30,
    )  # fmt: skip
    return Judge(dict.fromkeys(TARGETS, one), 0.1, 0.9, 2.0)


def lesion_result(count: float) -> Result:
    return Result(
        summary="Lesions.",
        measurements=(
            Measurement(name="hard_exudate_count", value=count, unit="1", method="counted"),
        ),
        findings=(Finding(concept="hard_exudate", state="present", probability=0.9),),
    )


def fundus(size: int = 120) -> Photograph:
    y, x = np.mgrid[:size, :size]
    inside = (x - size * 0.6) ** 2 + (y - size * 0.45) ** 2 < (size * 0.3) ** 2
    pixels = np.zeros((size, size, 3), np.uint8)
    pixels[inside] = (180, 90, 40)
    circle = Circle(size * 0.6, size * 0.45, size * 0.3)
    return Photograph("img1", pixels, inside, circle, "0" * 64, "PNG", False)


# Evidence -----------------------------------------------------------------------------


def test_what_was_not_measured_is_none_and_not_zero() -> None:
    evidence = read_evidence({})
    assert set(evidence) == {feature.name for feature in FEATURES}
    assert all(value is None for value in evidence.values())
    assert not is_measured(evidence)


def test_a_count_of_none_is_a_measurement() -> None:
    evidence = read_evidence(
        {"hard_exudate_count": lesion_result(0.0), "hard_exudate": lesion_result(0.0)}
    )
    assert evidence["hard_exudate_count"] == 0.0
    assert evidence["exudate_nearness"] == 0.0
    assert evidence["haemorrhage_count"] is None
    assert evidence["hard_exudate_doubt"] == pytest.approx(math.log(9))
    assert is_measured(evidence)


def test_exudates_at_an_unknown_distance_have_no_nearness() -> None:
    assert read_evidence({"hard_exudate_count": lesion_result(3.0)})["exudate_nearness"] is None


# The judge ----------------------------------------------------------------------------


def test_both_opinions_are_kept_apart() -> None:
    evidence = {"hard_exudate_count": 3.0}
    one = a_judge().judge([2.0] * 14, evidence)["G"]
    assert one.network == pytest.approx(1 / (1 + math.exp(-2)))
    assert one.evidence == pytest.approx(1 / (1 + math.exp(-2)))  # -1 + 3
    assert one.probability == pytest.approx(1 / (1 + math.exp(-2)))


def test_without_evidence_there_is_one_opinion() -> None:
    one = a_judge().judge([2.0] * 14, {"quality": 0.7})["G"]
    assert one.evidence is None
    assert one.probability == one.network


@derandomized
@given(st.lists(st.floats(-8, 8), min_size=14, max_size=14), st.floats(0, 6))
def test_graver_grades_are_never_likelier(logits: list[float], count: float) -> None:
    judged = a_judge().judge(logits, {"hard_exudate_count": count})
    found = [judged[name].probability for name in GRADES]
    assert found == sorted(found, reverse=True)
    grades = a_judge().grade_set(judged)
    assert grades == tuple(range(grades[0], grades[-1] + 1))


@derandomized
@given(chances)
def test_grade_chances_sum_to_one(at_least: list[float]) -> None:
    found = grade_chances(at_least)
    assert found.sum() == pytest.approx(1.0)
    assert found.min() >= 0
    assert 0 <= median_grade(at_least) <= 4


def test_median_grade_by_hand() -> None:
    assert median_grade([0.4, 0.3, 0.2, 0.1]) == 0
    assert median_grade([0.9, 0.8, 0.5, 0.1]) == 3
    assert median_grade([0.9, 0.2, 0.8, 0.9]) == 1, "grade 3 cannot be likelier than grade 2"


@derandomized
@given(st.floats(0, 3), st.floats(0.01, 2))
def test_more_exudates_never_lower_the_probability(count: float, more: float) -> None:
    judge, logits = a_judge(), [0.0] * 14
    few = judge.judge(logits, {"hard_exudate_count": count})["dme_1"].probability
    many = judge.judge(logits, {"hard_exudate_count": count + more})["dme_1"].probability
    assert many >= few


@pytest.mark.parametrize("opinion", [True, False])
def test_the_judge_survives_the_weight_file(opinion: bool) -> None:
    judge = a_judge(opinion=opinion)
    again = from_json(__import__("json").loads(__import__("json").dumps(to_json(judge))))
    row = {"hard_exudate_count": 2.0}
    assert again.judge([0.3] * 14, row) == judge.judge([0.3] * 14, row)


# Fitting ------------------------------------------------------------------------------


def test_logistic_finds_the_coefficients() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8000, 2))
    y = (rng.random(8000) < 1 / (1 + np.exp(-(0.5 + 1.5 * x[:, 0] - x[:, 1])))).astype(float)
    offset, weights = logistic(x, y, ridge=0.01)
    assert offset == pytest.approx(0.5, abs=0.1)
    assert weights == pytest.approx([1.5, -1.0], abs=0.12)


def made_up(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, list[dict]]:
    severity = rng.integers(0, 5, n)
    truth = np.full((n, 14), np.nan)
    for k in range(4):
        truth[:, k] = severity > k
    truth[:, TARGETS.index("G")] = rng.random(n) < 0.3
    logits = np.repeat((severity[:, None] - 2.0) * 3.0, 14, axis=1) + rng.normal(0, 3, (n, 14))
    rows = [{"hard_exudate_count": float(s) + rng.normal(0, 1)} for s in severity]
    return truth, logits, rows


def test_overconfident_logits_are_calibrated_and_sets_cover() -> None:
    rng = np.random.default_rng(1)
    truth, logits, rows = made_up(rng, 3000)
    use = np.arange(3000) % 3
    judge = fit_judge(
        truth=truth, logits=logits, evidence=rows, train=use == 0, calibration=use == 1,
        distances=np.ones(3000), datasets=["one"] * 3000,
    )  # fmt: skip
    fresh = np.flatnonzero(use == 2)
    judged = [judge.judge(logits[i].tolist(), rows[i]) for i in fresh]
    column = TARGETS.index("dr_2")
    bare = 1 / (1 + np.exp(-logits[fresh, column]))
    after = np.array([one["dr_2"].probability for one in judged])
    y = truth[fresh, column]
    assert metrics.expected_calibration_error(y, after) < 0.05
    assert metrics.expected_calibration_error(y, after) < metrics.expected_calibration_error(
        y, bare
    )
    severity = truth[fresh][:, :4].sum(axis=1)
    held = np.mean([s in judge.grade_set(one) for s, one in zip(severity, judged, strict=True)])
    assert held == pytest.approx(0.9, abs=0.03)
    assert metrics.auc(y, after) > metrics.auc(y, bare), "the evidence must help here"


def test_too_few_measured_cases_leave_the_network_alone() -> None:
    truth, logits, rows = made_up(np.random.default_rng(2), 300)
    rows = [row if i < 5 else {} for i, row in enumerate(rows)]
    use = np.arange(300) % 2
    judge = fit_judge(
        truth=truth, logits=logits, evidence=rows, train=use == 0, calibration=use == 1,
        distances=np.ones(300), datasets=["one"] * 300,
    )  # fmt: skip
    assert judge.targets["dr_2"].both is None


def test_a_large_set_in_which_evidence_is_blind_does_not_silence_it() -> None:
    rng = np.random.default_rng(4)
    truth, logits, rows = made_up(rng, 2400)
    names = ["small" if i % 8 == 0 else "large" for i in range(2400)]
    order = rng.permutation(2400)
    rows = [rows[i] if name == "small" else rows[order[i]] for i, name in enumerate(names)]
    use = np.arange(2400) // 8 % 2
    weights = []
    for datasets in (names, ["one"] * 2400):
        judge = fit_judge(
            truth=truth, logits=logits, evidence=rows, train=use == 0, calibration=use == 1,
            distances=np.ones(2400), datasets=datasets,
        )  # fmt: skip
        both = judge.targets["dr_2"].both
        weights.append(both.evidence if both else 0.0)
    assert weights[0] > 1.2 * weights[1]


def test_operating_points_are_in_order() -> None:
    rng = np.random.default_rng(3)
    y = (rng.random(400) < 0.3).astype(float)
    p = np.clip(0.3 + 0.3 * (y - 0.3) + rng.normal(0, 0.15, 400), 0, 1)
    cuts = thresholds(y, p)
    assert cuts["high_sensitivity"] <= cuts["balanced"] <= cuts["high_specificity"]
    assert (p[y == 1] >= cuts["high_sensitivity"]).mean() >= 0.9
    assert (p[y == 0] < cuts["high_specificity"]).mean() >= 0.89


def test_one_class_alone_leaves_everything_in_doubt() -> None:
    assert doubtful(np.zeros(20), np.linspace(0, 1, 20)) == (0.0, 1.0)
    assert metrics.auc(np.zeros(20), np.linspace(0, 1, 20)) is None


# Figures ------------------------------------------------------------------------------


def test_figures_by_hand() -> None:
    truth, score = np.array([0, 0, 1, 1.0]), np.array([0.1, 0.4, 0.35, 0.8])
    assert metrics.auc(truth, score) == 0.75
    assert metrics.auc(truth, np.full(4, 0.5)) == 0.5
    assert metrics.quadratic_kappa(np.array([0, 1, 2, 3, 4]), np.array([0, 1, 2, 3, 4])) == 1.0
    # one of two is off by one of four steps: observed 1, expected 1 (0-1 against 0-2 by hand)
    assert metrics.quadratic_kappa(np.array([0, 2]), np.array([0, 1])) == pytest.approx(2 / 3)
    assert metrics.quadratic_kappa(np.zeros(3), np.zeros(3)) is None
    assert metrics.expected_calibration_error(
        np.array([1.0, 1, 0, 0]), np.full(4, 0.5), bins=1
    ) == pytest.approx(0.0)
    assert metrics.sensitivity_at(truth, score, specificity=1.0) == 0.5
    assert metrics.risk_at(truth, np.array([0.1, 0.6, 0.9, 0.95]), coverage=1.0) == 0.25
    assert metrics.risk_at(truth, np.array([0.1, 0.6, 0.9, 0.95]), coverage=0.75) == 0.0


def test_intervals_hold_the_value_and_narrow() -> None:
    rng = np.random.default_rng(4)
    y = (rng.random(400) < 0.5).astype(float)
    s = y + rng.normal(0, 1, 400)
    wide = metrics.interval([str(i) for i in range(60)], lambda i: metrics.auc(y[i], s[i]))
    narrow = metrics.interval([str(i) for i in range(400)], lambda i: metrics.auc(y[i], s[i]))
    assert wide
    assert narrow
    assert narrow[0] < metrics.auc(y, s) < narrow[1]
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_a_graver_corruption_is_further_from_the_picture(name: str) -> None:
    rng = np.random.default_rng(5)
    rough = rng.integers(40, 200, (24, 24, 3)).astype(np.uint8)
    pixels = np.asarray(Image.fromarray(rough).resize((320, 320)))
    apart = [
        float(
            np.abs(corrupt(name, pixels, s, np.random.default_rng(6)).astype(float) - pixels).mean()
        )
        for s in SEVERITIES
    ]
    assert apart[0] > 0
    assert apart[4] > apart[2] > apart[0]


# Picture and network ------------------------------------------------------------------


def test_the_field_is_centred_and_fills_the_view() -> None:
    pixels, inside = square_view(fundus(), 64)
    assert pixels.shape == (64, 64, 3)
    rows, columns = np.nonzero(inside)
    assert rows.mean() == pytest.approx(31.5, abs=1)
    assert columns.mean() == pytest.approx(31.5, abs=1)
    assert columns.max() - columns.min() == pytest.approx(63, abs=2)
    assert not pixels[~inside].any()


def test_the_view_matches_what_the_first_levels_were_trained_on() -> None:
    rng = np.random.default_rng(7)
    pixels = rng.integers(20, 220, (128, 128, 3)).astype(np.uint8)
    y, x = np.mgrid[:128, :128]
    inside = (x - 64) ** 2 + (y - 64) ** 2 < 60**2
    own, style = network_view(pixels, inside)
    assert np.abs(own - network_input(pixels, inside)).max() < 0.05
    assert style.shape == (6,)
    assert np.isfinite(style).all()


def test_an_empty_field_gives_zeros() -> None:
    picture, style = network_view(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), bool))
    assert not picture.any()
    assert not style.any()


def test_network_shapes_and_mirror() -> None:
    torch.manual_seed(0)
    network = ClassifierNet(ClassifierConfig(levels=(4, 4, 6, 6, 8, 8), hidden=10)).eval()
    with torch.inference_mode():
        for size in (64, 128):
            out = network(torch.randn(2, 5, size, size), torch.randn(2, 6))
            assert out.shape == (2, 14)
            assert torch.isfinite(out).all()


# Tables of labels ---------------------------------------------------------------------


def write_set(folder: Path, columns: list[str], rows: list[list[str]]) -> Path:
    (folder / "images").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as lines:
        csv.writer(lines).writerows([columns, *rows])
    for row in rows:
        Image.new("RGB", (120, 120), (90, 60, 30)).save(folder / "images" / f"{row[0]}.png")
    return folder


def test_labels_that_a_table_does_not_give_stay_unknown(tmp_path: Path) -> None:
    columns = ["id", "use", "patient", *"NDGCAHMO", "dr_grade_from_keywords", "age", "sex"]
    letters = ["0", "1", "0", "0", "0", "0", "0", "0"]
    rows = [
        ["a", "val", "p1", *letters, "3", "55", "Female"],
        ["b", "val", "p1", *letters, "", "1", "Male"],
    ]
    graded, ungraded = find_cases(write_set(tmp_path / "odir", columns, rows))
    assert graded.targets[:4] == (1.0, 1.0, 1.0, 0.0)
    assert ungraded.targets[0] == 1.0
    assert all(math.isnan(value) for value in ungraded.targets[1:6])
    assert graded.age == 55
    assert ungraded.age is None, "the table writes 1 where the age is unknown"
    assert graded.group == ungraded.group


def test_copies_of_one_photograph_stay_together(tmp_path: Path) -> None:
    columns = ["id", "use", "dr_grade", "dme_risk", "same_image_as"]
    rows = [[f"i{n}", "train", "2", "1", f"i{n ^ 1}"] for n in range(40)]
    cases = find_cases(write_set(tmp_path / "idrid", columns, rows))
    assert {case.use for case in cases} == {"train", "calibration"}
    for one, other in zip(cases[::2], cases[1::2], strict=True):
        assert (one.group, one.use) == (other.group, other.use)


def test_a_folder_without_labels_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="dr_grade"):
        find_cases(tmp_path)
