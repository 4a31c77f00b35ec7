"""Fits the second stage: opinions on evidence, calibration, cuts and prediction sets.

Opinions are fitted on photographs of the training part, everything else on those of the
calibration part, which neither the network nor the opinions learned from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea_plugins.classifier.evidence import FEATURES
from fovea_plugins.classifier.judge import (
    Evidence,
    Judge,
    Line,
    Opinion,
    Target,
    is_measured,
    set_scores,
)
from fovea_plugins.classifier.targets import GRADES, TARGETS

COVERAGE = 0.9
ENOUGH = 12
"""Cases of the rarer class below which nothing is fitted with evidence."""

RIDGE_EVIDENCE = 6.0
RIDGE_LINE = 1.0
"""Weights of the squares of the coefficients; a line is drawn to `network` alone, unchanged."""

SENSITIVE, SPECIFIC = 0.9, 0.9
"""Sensitivity, and specificity, that the outer operating points reach in the calibration part."""

Array = NDArray[np.float64]


def logistic(
    x: Array, y: Array, *, ridge: float, towards: Array | None = None, weight: Array | None = None
) -> tuple[float, Array]:
    """Offset and weights of a ridge logistic regression, by Newton's method.

    Args:
        x: (N, F).
        y: (N,) 0 or 1.
        ridge: Weight of the squared distance of the weights from `towards`.
        towards: (F,); None: zeros.
        weight: (N,) of each case; None: one.
    """
    counted = np.ones(len(x)) if weight is None else weight
    design = np.column_stack([np.ones(len(x)), x])
    aim = np.concatenate([[0.0], np.zeros(x.shape[1]) if towards is None else towards])
    penalty = np.diag([0.0] + [ridge] * x.shape[1])
    beta = aim.copy()
    rate = np.clip(y.mean(), 0.01, 0.99)
    beta[0] = np.log(rate / (1 - rate)) if towards is None else 0.0

    def loss(at: Array) -> float:
        z = design @ at
        return float(
            (counted * (np.logaddexp(0, z) - y * z)).sum() + 0.5 * (at - aim) @ penalty @ (at - aim)
        )

    for _ in range(100):
        chance = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        gradient = design.T @ (counted * (chance - y)) + penalty @ (beta - aim)
        bend = counted * np.maximum(chance * (1 - chance), 1e-6)
        curve = design.T @ (design * bend[:, None]) + penalty
        step = np.linalg.solve(curve + 1e-6 * np.eye(len(beta)), gradient)
        size = 1.0
        # Far from the solution a whole Newton step overshoots: halve it until it helps.
        while size > 1e-6 and loss(beta - size * step) > loss(beta):
            size /= 2
        beta = beta - size * step
        if np.abs(size * step).max() < 1e-8:
            break
    return float(beta[0]), beta[1:]


def fit_opinion(rows: Sequence[Evidence], truth: Array) -> Opinion:
    """The opinion on measured evidence, from labelled photographs."""
    table = np.array([[_number(row.get(f.name)) for f in FEATURES] for row in rows])
    known = ~np.isnan(table)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, table, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, (table - mean) ** 2, 0).sum(axis=0) / count) + 1e-3
    standard = np.where(known, np.clip((table - mean) / spread, -4, 4), 0.0)
    bias, weights = logistic(standard, truth, ridge=RIDGE_EVIDENCE)
    return Opinion(tuple(mean.tolist()), tuple(spread.tolist()), tuple(weights.tolist()), bias)


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def fit_judge(
    *,
    truth: Array,
    logits: Array,
    evidence: Sequence[Evidence],
    train: NDArray[np.bool_],
    calibration: NDArray[np.bool_],
    distances: Array,
    datasets: Sequence[str],
) -> Judge:
    """The whole second stage.

    Args:
        truth: (N, 14), NaN where unknown.
        logits: (N, 14) of the network.
        evidence: N rows; an empty one where nothing was measured.
        train: (N,) photographs that the network learned from.
        calibration: (N,) photographs that it did not learn from.
        distances: (N,) from the training photographs.
        datasets: N names; opinions are joined as if every set were of one size.
    """
    measured = np.array([is_measured(row) for row in evidence])
    opinions = {
        name: _opinion_if_enough(
            evidence, truth[:, column], train & measured & ~np.isnan(truth[:, column])
        )
        for column, name in enumerate(TARGETS)
    }
    return calibrated(
        opinions,
        truth=truth,
        logits=logits,
        evidence=evidence,
        calibration=calibration,
        datasets=datasets,
        ood_limit=float(np.quantile(distances[calibration], 0.99)),
    )


def calibrated(
    opinions: Mapping[str, Opinion | None],
    *,
    truth: Array,
    logits: Array,
    evidence: Sequence[Evidence],
    calibration: NDArray[np.bool_],
    datasets: Sequence[str],
    ood_limit: float,
) -> Judge:
    """The second stage with these opinions; all else is fitted on the calibration part.

    Args:
        opinions: On measured evidence, by target.
        truth: (N, 14), NaN where unknown.
        logits: (N, 14) of the network.
        evidence: N rows; an empty one where nothing was measured.
        calibration: (N,) photographs to fit on.
        datasets: N names; opinions are joined as if every set were of one size.
        ood_limit: Distance from the training photographs above which doubt is voiced.
    """
    names = np.array(datasets)
    measured = np.array([is_measured(row) for row in evidence])
    targets = {}
    for column, name in enumerate(TARGETS):
        y, z, opinion = truth[:, column], logits[:, column], opinions[name]
        held = calibration & ~np.isnan(y)
        alone = Line(0.0, 1.0)
        if _both_classes(y[held]):
            offset, slope = logistic(
                z[held, None], y[held], ridge=RIDGE_LINE, towards=np.array([1.0])
            )
            alone = Line(offset, float(slope[0]))
        both = None
        seen = held & measured
        if opinion and _enough(y[seen]):
            second = np.array([opinion.logit(evidence[i]) for i in np.flatnonzero(seen).tolist()])
            both = _joint(z[seen], second, y[seen], _even(names[seen]))
            if both.evidence == 0.0:  # it adds nothing: one line for all photographs
                both = None
        targets[name] = Target(
            alone, both, opinion if both else None, {}, (0.0, 1.0),
            int(held.sum()), int(y[held].sum()),
        )  # fmt: skip
    draft = Judge(targets, 0.0, COVERAGE, ood_limit)
    return _with_cuts(draft, truth, logits, evidence, calibration)


def _even(names: NDArray[np.str_]) -> Array:
    """Weights (N,), 1 in the mean, by which every data set counts the same.

    A large set of small pictures, on which lesions are hardly seen, would else decide how
    much the evidence counts on all others.
    """
    each, place, count = np.unique(names, return_inverse=True, return_counts=True)
    return np.asarray(len(names) / (len(each) * count[place]), np.float64)


def _joint(network: Array, evidence: Array, y: Array, weight: Array) -> Line:
    """One probability from two opinions; neither may count against itself."""
    opinions = np.column_stack([network, evidence])
    kept = [0, 1]
    offset, slopes = logistic(opinions, y, ridge=RIDGE_LINE, towards=np.full(2, 0.5), weight=weight)
    if slopes.min() < 0:
        kept = [int(np.argmax(slopes))]
        offset, slopes = logistic(
            opinions[:, kept], y, ridge=RIDGE_LINE, towards=np.ones(1), weight=weight
        )
    weights = [0.0, 0.0]
    for place, slope in zip(kept, slopes, strict=True):
        weights[place] = max(0.0, float(slope))
    return Line(offset, weights[0], weights[1])


def _opinion_if_enough(evidence: Sequence[Evidence], y: Array, fit: Any) -> Opinion | None:
    if not _enough(y[fit]):
        return None
    return fit_opinion([evidence[i] for i in np.flatnonzero(fit).tolist()], y[fit])


def _both_classes(y: Array) -> bool:
    return 0 < float(y.sum()) < len(y)


def _enough(y: Array) -> bool:
    return len(y) > 0 and min(float(y.sum()), float((1 - y).sum())) >= ENOUGH


def _with_cuts(
    draft: Judge, truth: Array, logits: Array, evidence: Sequence[Evidence], calibration: Any
) -> Judge:
    index: list[int] = np.flatnonzero(calibration).tolist()
    judged = {i: draft.judge(logits[i], evidence[i]) for i in index}
    targets = {}
    for column, name in enumerate(TARGETS):
        held = [i for i in index if not np.isnan(truth[i, column])]
        y = np.array([truth[i, column] for i in held])
        p = np.array([judged[i][name].probability for i in held])
        one = draft.targets[name]
        targets[name] = Target(
            one.alone, one.both, one.opinion, thresholds(y, p), doubtful(y, p),
            one.cases, one.positive,
        )  # fmt: skip
    first = [TARGETS.index(name) for name in GRADES]
    graded = [int(i) for i in index if not np.isnan(truth[i, first]).any()]
    scores = []
    for i in graded:
        of_grades = set_scores([judged[i][name].probability for name in GRADES])
        scores.append(float(of_grades[int(truth[i, first].sum())]))
    limit = _lower_quantile(np.array(scores), COVERAGE)
    return Judge(targets, limit, COVERAGE, draft.ood_limit)


def thresholds(truth: Array, probability: Array) -> dict[str, float]:
    """Cuts of the three operating points; `balanced` maximises Youden's index."""
    ones, zeros = np.sort(probability[truth > 0.5]), np.sort(probability[truth < 0.5])
    if not len(ones) or not len(zeros):
        return {"high_sensitivity": 0.5, "balanced": 0.5, "high_specificity": 0.5}
    cuts = np.unique(probability)
    found = (ones[None] >= cuts[:, None]).mean(1) + (zeros[None] < cuts[:, None]).mean(1)
    best = float(cuts[int(np.argmax(found))])
    sensitive = float(ones[int(np.floor((1 - SENSITIVE) * (len(ones) - 1)))])
    specific = float(zeros[int(np.ceil(SPECIFIC * (len(zeros) - 1)))])
    return {
        "high_sensitivity": min(sensitive, best),
        "balanced": best,
        "high_specificity": max(specific, best),
    }


def doubtful(truth: Array, probability: Array) -> tuple[float, float]:
    """Between these both answers stay in the prediction set (class-conditional conformal).

    Present stays possible from the lower one on, absent up to the higher one (Vovk 2012:
    each class is covered at the nominal rate).
    """
    ones, zeros = probability[truth > 0.5], probability[truth < 0.5]
    if not len(ones) or not len(zeros):
        return 0.0, 1.0
    return _lower_quantile(ones, COVERAGE), 1.0 - _lower_quantile(1.0 - zeros, COVERAGE)


def _lower_quantile(values: Array, coverage: float) -> float:
    """The value that a new one reaches with that probability; 0 where there are too few."""
    ordered = np.sort(values)
    rank = int(np.floor((1.0 - coverage) * (len(ordered) + 1)))
    return float(ordered[rank - 1]) if rank >= 1 else 0.0
