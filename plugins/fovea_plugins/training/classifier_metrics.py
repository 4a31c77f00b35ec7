"""Figures of merit of probabilities and grades."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Values = NDArray[np.floating[Any]]


def auc(truth: Values, score: Values) -> float | None:
    """Area under the ROC curve; None with one class only."""
    positive = np.asarray(truth) > 0.5
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return None
    ranks = rankdata(score)
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def interval(
    groups: Sequence[str], measure: Callable[[NDArray[np.intp]], float | None], *, draws: int = 400
) -> tuple[float, float] | None:
    """95 % bootstrap interval, patients drawn with replacement; None where it is undefined.

    Args:
        groups: Patient of each case.
        measure: The figure of the cases at these indices; None where undefined.
        draws: Resamples.
    """
    rng = np.random.default_rng(0)
    names = sorted(set(groups))
    members: dict[str, list[int]] = {name: [] for name in names}
    for index, group in enumerate(groups):
        members[group].append(index)
    parts = [np.array(members[name]) for name in names]
    found = []
    for _ in range(draws):
        picked = rng.integers(len(parts), size=len(parts))
        value = measure(np.concatenate([parts[i] for i in picked]))
        if value is not None:
            found.append(value)
    if len(found) < draws // 2:
        return None
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def quadratic_kappa(truth: Values, grade: Values, *, grades: int = 5) -> float | None:
    """Cohen's kappa with quadratic weights; None where all agree on one grade."""
    table = np.zeros((grades, grades))
    np.add.at(table, (np.asarray(truth, int), np.asarray(grade, int)), 1)
    steps = np.arange(grades)
    weight = (steps[:, None] - steps[None]) ** 2
    expected = np.outer(table.sum(1), table.sum(0)) / max(table.sum(), 1)
    worst = float((weight * expected).sum())
    return 1.0 - float((weight * table).sum()) / worst if worst else None


def expected_calibration_error(truth: Values, probability: Values, *, bins: int = 10) -> float:
    """Mean distance of probability and frequency over bins of equal size."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [abs(truth[p].mean() - probability[p].mean()) * len(p) for p in parts]
    return float(sum(gaps) / len(order))


def calibration_error_by_chance(probability: Values, *, draws: int = 200) -> tuple[float, float]:
    """Mean and 95th percentile of the calibration error if every probability held.

    Few cases a bin differ from their probability by chance alone (consistency resampling:
    Broecker and Smith 2007, Weather Forecast 22:651-661).
    """
    rng = np.random.default_rng(0)
    found = [
        expected_calibration_error((rng.random(len(probability)) < probability) * 1.0, probability)
        for _ in range(draws)
    ]
    return float(np.mean(found)), float(np.quantile(found, 0.95))


def sensitivity_at(truth: Values, score: Values, *, specificity: float) -> float | None:
    """Largest sensitivity at this specificity or more; None with one class only."""
    positive = np.asarray(truth) > 0.5
    if positive.all() or not positive.any():
        return None
    cuts = np.concatenate([np.unique(score), [np.inf]])
    ones, zeros = np.asarray(score)[positive], np.asarray(score)[~positive]
    fits = [(ones >= cut).mean() for cut in cuts if (zeros < cut).mean() >= specificity]
    return float(max(fits))


def risk_at(truth: Values, probability: Values, *, coverage: float) -> float:
    """Share of wrong answers among that share of cases with the clearest probabilities."""
    clear = np.argsort(-np.abs(np.asarray(probability) - 0.5), kind="stable")
    kept = clear[: max(1, round(coverage * len(clear)))]
    return float(((probability[kept] >= 0.5) != (truth[kept] > 0.5)).mean())
