"""How far probabilities and prediction sets of the classifier can be relied on.

With 60 to 500 photographs a part, coverage and calibration error of one pair of parts move
by several points from chance. Coverage of split conformal prediction is a promise about the
mean over such parts, and is measured as that too (Angelopoulos and Bates 2023, section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea_plugins.classifier.judge import Judge, Judged, sigmoid
from fovea_plugins.classifier.targets import GRADES, REFERABLE, TARGETS
from fovea_plugins.training import classifier_metrics as metrics
from fovea_plugins.training.classifier_fit import calibrated
from fovea_plugins.training.classifier_ship import Table

SPLITS = 40

Figures = dict[str, Any]
Array = NDArray[np.float64]


def judge_all(judge: Judge, table: Table) -> list[dict[str, Judged]]:
    """Both opinions on every photograph."""
    pairs = zip(table.logits, table.evidence, strict=True)
    return [judge.judge(logits.tolist(), row) for logits, row in pairs]


def probabilities(judged: Sequence[Mapping[str, Judged]], name: str) -> Array:
    """(N,) of one target."""
    return np.array([one[name].probability for one in judged])


def calibration_figures(table: Table, judged: Sequence[Mapping[str, Judged]]) -> Figures:
    """Calibration error of every target, of the bare network and after the second stage."""
    found: Figures = {}
    for column, name in enumerate(TARGETS):
        known = ~np.isnan(table.truth[:, column])
        truth = table.truth[known, column]
        if len(truth) < 20:
            continue
        bare = np.array([sigmoid(value) for value in table.logits[known, column]])
        after = probabilities(judged, name)[known]
        mean, high = metrics.calibration_error_by_chance(after)
        found[name] = {
            "before": round(metrics.expected_calibration_error(truth, bare), 4),
            "after": round(metrics.expected_calibration_error(truth, after), 4),
            "by_chance": [round(mean, 4), round(high, 4)],
            "n": len(truth),
        }
    return found


def set_figures(table: Table, judged: Sequence[Mapping[str, Judged]], judge: Judge) -> Figures:
    """How often prediction sets hold the truth, and how large they are."""
    columns = [TARGETS.index(name) for name in GRADES]
    graded = [i for i in range(len(judged)) if not np.isnan(table.truth[i, columns]).any()]
    sets = {i: judge.grade_set(judged[i]) for i in graded}
    truth = {i: int(table.truth[i, columns].sum()) for i in graded}
    found: Figures = {
        "grade": {
            "nominal": judge.coverage,
            "coverage": round(float(np.mean([truth[i] in sets[i] for i in graded])), 4),
            "mean_size": round(float(np.mean([len(sets[i]) for i in graded])), 2),
            "n": len(graded),
        }
    }
    for column, name in enumerate(TARGETS):
        known = ~np.isnan(table.truth[:, column])
        if not known.any():
            continue
        y, p = table.truth[known, column] > 0.5, probabilities(judged, name)[known]
        low, high = judge.targets[name].doubtful
        held = np.where(y, p >= low, p <= high)
        found[name] = {
            "coverage": round(float(held.mean()), 4),
            "both_answers": round(float(((p >= low) & (p <= high)).mean()), 4),
            "n": int(known.sum()),
        }
    return found


def risk_figures(table: Table, judged: Sequence[Mapping[str, Judged]]) -> Figures:
    """Wrong answers about referable retinopathy when the least clear ones are left out."""
    column = TARGETS.index(REFERABLE)
    known = ~np.isnan(table.truth[:, column])
    truth, p = table.truth[known, column], probabilities(judged, REFERABLE)[known]
    curve = {
        f"{round(100 * c)}": round(metrics.risk_at(truth, p, coverage=c), 4)
        for c in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)
    }
    return {"wrong_at_coverage": curve, "n": int(known.sum())}


def split_figures(table: Table, judge: Judge) -> dict[str, Any]:
    """Mean and standard deviation over random splits, by patient, of two parts in one.

    Network and opinions are the shipped ones, which learned from neither part; what is
    fitted on the calibration part is fitted anew for every split.

    Args:
        table: The calibration and the validation part.
        judge: The shipped second stage.
    """
    groups = np.array([f"{case.dataset}/{case.group}" for case in table.cases])
    names = np.unique(groups)
    fitted = np.unique(groups[table.use("calibration")])
    opinions = {name: target.opinion for name, target in judge.targets.items()}
    rng = np.random.default_rng(0)
    found: list[dict[str, float]] = []
    for _ in range(SPLITS):
        chosen = np.isin(groups, rng.permutation(names)[: len(fitted)])
        fresh = calibrated(
            opinions,
            truth=table.truth,
            logits=table.logits,
            evidence=table.evidence,
            calibration=chosen,
            datasets=[case.dataset for case in table.cases],
            ood_limit=judge.ood_limit,
        )
        found.append(_in_short(table.part(~chosen), fresh))
    rows = {name: np.array([one[name] for one in found]) for name in found[0]}
    between = {n: [round(float(v.mean()), 4), round(float(v.std()), 4)] for n, v in rows.items()}
    return {"splits": SPLITS, **between}


def _in_short(table: Table, judge: Judge) -> dict[str, float]:
    judged = judge_all(judge, table)
    sets = set_figures(table, judged, judge)
    risk = risk_figures(table, judged)["wrong_at_coverage"]
    found = {f"coverage_{name}": float(one["coverage"]) for name, one in sets.items()}
    for column, name in enumerate(TARGETS):
        known = ~np.isnan(table.truth[:, column])
        error = metrics.expected_calibration_error(
            table.truth[known, column], probabilities(judged, name)[known]
        )
        found[f"calibration_error_{name}"] = error
    return {**found, "wrong_at_80_over_100": risk["80"] / max(risk["100"], 1e-9)}
