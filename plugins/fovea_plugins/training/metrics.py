"""Figures by which segmentations are judged."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Numbers = NDArray[np.floating[Any]]

LEVELS = 4096
"""Probabilities are counted in this many steps; the AUC is exact to about 1e-4."""


def dice(found: Bools, truth: Bools) -> float | None:
    """Dice overlap (F1), or None when both are empty."""
    both = int(found.sum()) + int(truth.sum())
    return 2.0 * float((found & truth).sum()) / both if both else None


def sensitivity(found: Bools, truth: Bools) -> float | None:
    """Share of the truth that was found, or None without truth."""
    return float((found & truth).sum() / truth.sum()) if truth.any() else None


def specificity(found: Bools, truth: Bools) -> float | None:
    """Share of the background that was left alone, or None without background."""
    return float((~found & ~truth).sum() / (~truth).sum()) if not truth.all() else None


def auc(probability: Numbers, truth: Bools) -> float | None:
    """Area under the ROC curve, ties counted half, or None when one class is missing."""
    level = np.clip(np.asarray(probability) * (LEVELS - 1), 0, LEVELS - 1).round().astype(np.int64)
    positive = np.bincount(level[truth], minlength=LEVELS).astype(np.float64)
    negative = np.bincount(level[~truth], minlength=LEVELS).astype(np.float64)
    pairs = positive.sum() * negative.sum()
    if pairs == 0:
        return None
    below = np.concatenate([[0.0], np.cumsum(negative)[:-1]])
    return float((positive * (below + 0.5 * negative)).sum() / pairs)


class PixelCounts:
    """How often each probability was right, over as many photographs as are added."""

    def __init__(self) -> None:
        self.positive = np.zeros(LEVELS)
        self.negative = np.zeros(LEVELS)

    def add(self, probability: Numbers, truth: Bools) -> None:
        """Counts the pixels of one photograph; both of the same shape."""
        level = np.clip(np.asarray(probability) * (LEVELS - 1), 0, LEVELS - 1).round()
        index = level.astype(np.int64)
        self.positive += np.bincount(index[truth], minlength=LEVELS)
        self.negative += np.bincount(index[~truth], minlength=LEVELS)

    def average_precision(self) -> float | None:
        """Area under the precision-recall curve (AUPR), or None without a true pixel."""
        total = self.positive.sum()
        if not total:
            return None
        right = np.cumsum(self.positive[::-1])
        wrong = np.cumsum(self.negative[::-1])
        precision = right / np.maximum(right + wrong, 1.0)
        return float((precision * np.diff(right, prepend=0.0)).sum() / total)


def expected_calibration_error(probability: Numbers, truth: Bools, *, bins: int = 15) -> float:
    """Mean gap between stated probability and observed frequency, weighted by pixels."""
    index = np.minimum((np.asarray(probability) * bins).astype(np.int64), bins - 1)
    count = np.bincount(index, minlength=bins)
    stated = np.bincount(index, weights=probability, minlength=bins)
    observed = np.bincount(index, weights=truth, minlength=bins)
    return float(np.abs(stated - observed).sum() / max(count.sum(), 1))


def centreline_dice(found: Bools, truth: Bools) -> float | None:
    """The clDice of Shit et al. (2021, CVPR): overlap of centrelines with masks (H, W).

    None when both are empty.
    """
    from skimage.morphology import skeletonize

    if not found.any() and not truth.any():
        return None
    of_found, of_truth = skeletonize(found), skeletonize(truth)
    precision = float(truth[of_found].mean()) if of_found.any() else 0.0
    recall = float(found[of_truth].mean()) if of_truth.any() else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def components(mask: Bools) -> int:
    """Number of connected parts of a mask (H, W), diagonals joined."""
    return int(cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0]) - 1


def summary(
    values: list[float | None], *, seed: int = 0, resamples: int = 1000
) -> dict[str, Any] | None:
    """Mean over photographs with a 95 % bootstrap interval; None when nothing was measured."""
    known = np.array([value for value in values if value is not None], np.float64)
    if not len(known):
        return None
    picks = np.random.default_rng(seed).integers(len(known), size=(resamples, len(known)))
    low, high = np.percentile(known[picks].mean(axis=1), [2.5, 97.5])
    return {
        "mean": float(known.mean()),
        "low": float(low),
        "high": float(high),
        "images": len(known),
    }
