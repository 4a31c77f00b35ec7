"""`fovea evaluate classifier`: every figure on photographs of the validation part.

Nothing was fitted or chosen on them. Intervals are 95 % bootstrap intervals over
patients; `n` is photographs, `positive` those with the condition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.errors import UnreadableImage
from fovea_plugins.classifier.judge import Judge, Judged, median_grade
from fovea_plugins.classifier.picture import square_view
from fovea_plugins.classifier.reading import ClassifierReader
from fovea_plugins.classifier.targets import CONDITIONS, GRADES, REFERABLE, TARGETS
from fovea_plugins.training import classifier_metrics as metrics
from fovea_plugins.training.classifier_data import Case, find_cases, read_photograph
from fovea_plugins.training.classifier_ship import Table, read_table
from fovea_plugins.training.corrupt import CORRUPTIONS, SEVERITIES, corrupt
from fovea_plugins.training.measure_calibration import (
    Array,
    Figures,
    calibration_figures,
    judge_all,
    probabilities,
    risk_figures,
    set_figures,
    split_figures,
)

CORRUPTED = 80
"""Photographs on which corruptions are measured: 12 x 5 passes over all would take an hour."""

OLD_AGE = 60.0


def evaluate(root: Path, weights: Path | None) -> Figures:
    """All figures of a weight file; the shipped one when None.

    Raises:
        UnreadableImage: no photographs of a validation part below `root`.
    """
    reader = ClassifierReader.read(weights or shipped_weights())
    cases = [case for case in find_cases(root) if case.use in ("calibration", "val")]
    if not any(case.use == "val" for case in cases):
        raise UnreadableImage(
            "There are no photographs to measure on",
            where=root.name,
            why="None has `val` in the column `use`",
            fix="Name a folder with a validation part",
        )
    both = read_table(reader, cases)
    table = both.part(both.use("val"))
    judged = judge_all(reader.judge, table)
    return {
        "targets": target_figures(table, judged),
        "by_dataset": by_dataset(table, judged),
        "grade": grade_figures(table, judged, reader.judge),
        "calibration": calibration_figures(table, judged),
        "prediction_sets": set_figures(table, judged, reader.judge),
        "risk_coverage": risk_figures(table, judged),
        "over_random_splits": split_figures(both, reader.judge),
        "opinions": opinion_figures(table, judged),
        "subgroups": subgroup_figures(table, judged),
        "patients": patient_figures(table, judged),
        "corruptions": corruption_figures(reader, table.cases),
    }


def shipped_weights() -> Path:
    """The weight file of the plugin."""
    return Path(__file__).parents[1] / "classifier/weights/classifier.safetensors"


def _auc(table: Table, name: str, score: Array, keep: NDArray[Any]) -> Figures | None:
    truth = table.truth[keep, TARGETS.index(name)]
    picked = np.flatnonzero(keep)
    known = ~np.isnan(truth)
    truth, score, picked = truth[known], score[keep][known], picked[known]
    value = metrics.auc(truth, score)
    if value is None:
        return None
    groups = [f"{table.cases[i].dataset}/{table.cases[i].group}" for i in picked]
    between = metrics.interval(groups, lambda i: metrics.auc(truth[i], score[i]))
    return {
        "auc": round(value, 4),
        "interval": _rounded(between),
        "n": len(truth),
        "positive": int(truth.sum()),
        "sensitivity_at_90_specificity": metrics.sensitivity_at(truth, score, specificity=0.9),
        "specificity_at_90_sensitivity": metrics.sensitivity_at(1 - truth, -score, specificity=0.9),
    }


def _rounded(values: tuple[float, float] | None) -> list[float] | None:
    return None if values is None else [round(value, 4) for value in values]


def target_figures(table: Table, judged: Sequence[Mapping[str, Judged]]) -> Figures:
    """AUC of every target on all photographs that have its label, and their mean."""
    every = np.ones(len(table.cases), bool)
    found: Figures = {}
    for name in TARGETS:
        figures = _auc(table, name, probabilities(judged, name), every)
        if figures:
            found[name] = figures
    of_odir = [found[name]["auc"] for name in CONDITIONS if name in found]
    if of_odir:
        scores = {name: probabilities(judged, name) for name in CONDITIONS}
        found["odir_macro"] = _macro(table, scores)
    return found


def _macro(table: Table, scores: Mapping[str, Array]) -> Figures:
    first = TARGETS.index(CONDITIONS[0])
    picked = np.flatnonzero(~np.isnan(table.truth[:, first]))
    truth = table.truth[picked]

    def mean(index: NDArray[np.intp]) -> float | None:
        values = [
            metrics.auc(truth[index, TARGETS.index(name)], scores[name][picked][index])
            for name in CONDITIONS
        ]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if known else None

    groups = [table.cases[i].group for i in picked]
    value = mean(np.arange(len(picked)))
    between = metrics.interval(groups, mean)
    return {"auc": round(value or 0.0, 4), "interval": _rounded(between), "n": len(picked)}


def by_dataset(table: Table, judged: Sequence[Mapping[str, Judged]]) -> Figures:
    """Referable retinopathy and oedema per data set, by each opinion and by both."""
    found: Figures = {}
    measured = np.array([one[REFERABLE].evidence is not None for one in judged])
    for dataset in sorted({case.dataset for case in table.cases}):
        here = np.array([case.dataset == dataset for case in table.cases])
        rows: Figures = {}
        for name in (REFERABLE, "dme_1", "dme_2"):
            network = np.array([one[name].network for one in judged])
            second = np.array([_or_nan(one[name].evidence) for one in judged])
            rows[name] = {
                "both": _auc(table, name, probabilities(judged, name), here),
                "network": _auc(table, name, network, here),
                "evidence": _auc(table, name, second, here & ~np.isnan(second)),
                "both_where_measured": _auc(
                    table, name, probabilities(judged, name), here & measured
                ),
            }
        found[dataset] = rows
    return found


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def grade_figures(table: Table, judged: Sequence[Mapping[str, Judged]], judge: Judge) -> Figures:
    """Quadratic kappa of the grade, per data set."""
    columns = [TARGETS.index(name) for name in GRADES]
    found: Figures = {}
    for dataset in sorted({case.dataset for case in table.cases}):
        picked = [
            i
            for i, case in enumerate(table.cases)
            if case.dataset == dataset and not np.isnan(table.truth[i, columns]).any()
        ]
        truth = table.truth[np.ix_(picked, columns)].sum(axis=1)
        given = np.array([median_grade([judged[i][n].probability for n in GRADES]) for i in picked])
        groups = [table.cases[i].group for i in picked]
        value = metrics.quadratic_kappa(truth, given)
        if value is None:
            continue
        between = metrics.interval(groups, partial(_kappa_of, truth, given))
        found[dataset] = {
            "quadratic_kappa": round(value, 4),
            "interval": _rounded(between),
            "accuracy": round(float((truth == given).mean()), 4),
            "n": len(picked),
        }
    return found


def opinion_figures(table: Table, judged: Sequence[Mapping[str, Judged]]) -> Figures:
    """How far network and evidence agree, where there is evidence."""
    found: Figures = {}
    for name in (REFERABLE, "dme_2", "G"):
        pairs = [
            (o[name].network, o[name].evidence) for o in judged if o[name].evidence is not None
        ]
        if len(pairs) < 20:
            continue
        first, second = np.array(pairs, np.float64).T
        found[name] = {
            "correlation": round(float(np.corrcoef(first, second)[0, 1]), 3),
            "same_side_of_half": round(float(((first >= 0.5) == (second >= 0.5)).mean()), 3),
            "n": len(pairs),
        }
    return found


def _kappa_of(truth: Array, given: Array, picked: NDArray[Any]) -> float | None:
    return metrics.quadratic_kappa(truth[picked], given[picked])


def subgroup_figures(table: Table, judged: Sequence[Mapping[str, Judged]]) -> Figures:
    """AUC by age, sex and quality, and the largest gap over the mean (scaled disparity)."""
    groups: dict[str, list[str | None]] = {
        "age": [_age_band(case) for case in table.cases],
        "sex": [case.sex for case in table.cases],
        "quality": [_quality_band(row.get("quality")) for row in table.evidence],
        "camera": [case.dataset for case in table.cases],
    }
    found: Figures = {}
    for kind, labels in groups.items():
        rows: Figures = {}
        for label in sorted({one for one in labels if one}):
            keep = np.array([one == label for one in labels])
            figures = _auc(table, REFERABLE, probabilities(judged, REFERABLE), keep)
            if figures and min(figures["positive"], figures["n"] - figures["positive"]) >= 5:
                rows[label] = {k: figures[k] for k in ("auc", "interval", "n", "positive")}
        values = [row["auc"] for row in rows.values()]
        if len(values) > 1:
            gap = max(values) - min(values)
            rows["gap"] = round(gap, 4)
            rows["scaled_disparity"] = round(gap / float(np.mean(values)), 4)
        found[kind] = rows
    return found


def _age_band(case: Case) -> str | None:
    if case.age is None:
        return None
    return "under_60" if case.age < OLD_AGE else "60_and_over"


def _quality_band(score: float | None) -> str | None:
    return None if score is None else "upper" if score >= 0.65 else "lower"


def patient_figures(table: Table, judged: Sequence[Mapping[str, Judged]]) -> Figures:
    """AUC per patient: the worse eye counts, in truth and in probability."""
    found: Figures = {}
    for name in (REFERABLE, *CONDITIONS[1:]):
        column = TARGETS.index(name)
        eyes: dict[str, list[tuple[float, float]]] = {}
        for case, truth, one in zip(table.cases, table.truth[:, column], judged, strict=True):
            if case.sex is not None and not np.isnan(truth):
                eyes.setdefault(case.group, []).append((truth, one[name].probability))
        both = [pair for pair in eyes.values() if len(pair) == 2]
        if not both:
            continue
        truth, score = (np.array([max(e[k] for e in pair) for pair in both]) for k in (0, 1))
        value = metrics.auc(truth, score)
        if value is not None:
            found[name] = {"auc": round(value, 4), "n": len(both), "positive": int(truth.sum())}
    return found


def corruption_figures(reader: ClassifierReader, cases: Sequence[Case]) -> Figures:
    """AUC of the network alone under corruption, by kind and severity."""
    first, step = TARGETS.index(REFERABLE), max(1, len(cases) // CORRUPTED)
    picked = [case for case in cases[::step] if not np.isnan(case.targets[first])]
    views = [square_view(read_photograph(case.path), reader.input_px) for case in picked]
    truth = np.array([case.targets[first] for case in picked])

    def score(name: str | None, severity: int) -> float | None:
        rng = np.random.default_rng(severity)
        found = []
        for pixels, inside in views:
            worse = corrupt(name, pixels, severity, rng) if name else pixels
            found.append(reader.on_view(worse, inside).logits[first])
        return metrics.auc(truth, np.array(found))

    clean = score(None, 0)
    table = {
        name: [_round(score(name, severity)) for severity in SEVERITIES] for name in CORRUPTIONS
    }
    values = [value for row in table.values() for value in row if value is not None]
    return {
        "target": REFERABLE,
        "n": len(picked),
        "clean": _round(clean),
        "mean": round(float(np.mean(values)), 4) if values else None,
        "auc_by_severity": table,
    }


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
