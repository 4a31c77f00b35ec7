"""Agreement of `segment_vessels` with observers: `python benchmarks/vessels.py DATA [SET...]`.

DATA holds DRIVE, CHASE_DB1 and HRF as described in the model card. Prints, per set,
Dice, sensitivity and specificity of the mask and AUC of the score, inside the field
of view, as the mean over images.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "assistant"), str(ROOT / "plugins")]

from fovea.image import open_photograph  # noqa: E402 - after the path is set
from fovea_plugins.segmenter.vessels.delineate import vessels_from_score  # noqa: E402
from fovea_plugins.segmenter.vessels.filters import FIELD_DIAMETER_PX, vessel_score  # noqa: E402

SETS = {
    "DRIVE": ("splits.csv", {"val"}),
    "CHASE_DB1": ("splits.csv", {"train", "val"}),
    "HRF": ("labels.csv", {"train", "val"}),
}


def area_under_curve(score: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve, from histograms of 4096 bins."""
    positive, edges = np.histogram(score[truth], bins=4096, range=(0.0, 1.0))
    negative, _ = np.histogram(score[~truth], bins=edges)
    below = np.cumsum(negative) - negative / 2.0
    return float((positive * below).sum() / (positive.sum() * negative.sum()))


def agreement(folder: Path, name: str) -> tuple[float, ...]:
    """Dice, AUC, sensitivity, specificity and seconds for one image of a set."""
    photograph = open_photograph(next((folder / "images").glob(f"{name}.*")))
    truth, field = (
        cv2.imread(str(next((folder / kind).glob(f"{name}.*"))), cv2.IMREAD_GRAYSCALE) > 0
        for kind in ("vessels", "fov")
    )
    start = time.perf_counter()
    view = photograph.view(FIELD_DIAMETER_PX)
    score = view.frame.map_to_original(vessel_score(view)[0])
    mask = vessels_from_score(score, 2.0 * photograph.field_circle.radius)
    seconds = time.perf_counter() - start
    mask, truth, score = mask[field], truth[field], score[field]
    both = float((mask & truth).sum())
    dice = 2.0 * both / float(mask.sum() + truth.sum())
    auc = area_under_curve(score, truth)
    return dice, auc, both / truth.sum(), float((~mask & ~truth).sum() / (~truth).sum()), seconds


def main() -> None:
    """Print one line per set."""
    data, wanted = Path(sys.argv[1]), sys.argv[2:] or list(SETS)
    for name in wanted:
        table, uses = SETS[name]
        with (data / name / table).open(newline="") as lines:
            ids = [row["id"] for row in csv.DictReader(lines) if row["use"] in uses]
        rows = np.array([agreement(data / name, i) for i in ids])
        means = ", ".join(
            f"{label} {value:.4f}"
            for label, value in zip(
                ("Dice", "AUC", "sensitivity", "specificity", "seconds"), rows.mean(0), strict=True
            )
        )
        print(f"{name} ({len(ids)} images): {means}; Dice SD {rows[:, 0].std(ddof=1):.4f}")


if __name__ == "__main__":
    main()
