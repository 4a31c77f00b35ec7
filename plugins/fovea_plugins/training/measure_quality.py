"""Measures the quality gate on photographs that nothing was fitted on."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fovea.errors import ImageError
from fovea.image import Photograph
from fovea.manifest import read_manifest
from fovea_plugins import quality as shipped
from fovea_plugins.quality import grading
from fovea_plugins.quality.examination import Examination, examine
from fovea_plugins.quality.fitted import Fitted
from fovea_plugins.quality.modality import judge_modality
from fovea_plugins.quality.network import LandmarkNetwork
from fovea_plugins.quality.orientation import infer_eye
from fovea_plugins.quality.plugin import FEATURES
from fovea_plugins.training import metrics
from fovea_plugins.training.copies import COPIES, copy_of
from fovea_plugins.training.landmark_data import (
    fundus_entries,
    other_entries,
    row_of,
    truth_of,
)

log = logging.getLogger(__name__)

MOST_COPIES = 12
"""So many photographs of each data set are also judged as altered copies."""


def shipped_weights() -> tuple[Path, Path]:
    """The landmark network and the fitted models of the plugin `assess_quality`."""
    folder = Path(shipped.__file__).parent
    network, fitted = read_manifest(folder / "plugin.toml").weights
    return folder / network.file, folder / fitted.file


def read_shipped(fitted: Path | None) -> tuple[LandmarkNetwork, Fitted]:
    """The shipped network, and the fitted models in that file or the shipped ones."""
    network, own = shipped_weights()
    return LandmarkNetwork.read(network), Fitted.read(fitted or own, FEATURES)


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one photograph, and how long it took.

    Attributes:
        fundus: Whether it is judged further.
        kept: Whether it is not called something else than a fundus photograph.
        chances: Of reject, usable and good.
        eye: `OD`, `OS` or None.
        seconds: By the clock.
    """

    fundus: bool
    kept: bool
    chances: tuple[float, float, float]
    eye: str | None
    seconds: float

    @property
    def grade(self) -> str:
        """The likeliest grade."""
        return grading.GRADES[int(np.argmax(self.chances))]


def judge(photograph: Photograph, network: LandmarkNetwork, fitted: Fitted) -> Verdict:
    """The verdict on an opened picture."""
    started = time.perf_counter()
    examined = examine(photograph, network)
    modality = judge_modality(examined, fitted.fundus, fitted.appearance)
    usable, good = fitted.grade.probabilities(_grade_features(examined))
    eye = infer_eye(examined.view, examined.disc, examined.fovea).value
    seconds = time.perf_counter() - started
    kept = modality.state != "absent"
    return Verdict(modality.fundus, kept, (1.0 - usable, usable - good, good), eye, seconds)


def _grade_features(examined: Examination) -> dict[str, float]:
    visibility = grading.measure_visibility(examined.view, examined.lines)
    return grading.grade_features(examined, visibility)


def evaluate(root: Path, weights: Path | None) -> dict[str, Any]:
    """Grades, kept and refused pictures and eyes, of the photographs that are not for training.

    Args:
        root: A data set, or a folder of data sets; pictures that are no retina lie in a
            folder `NOT_FUNDUS`.
        weights: File of fitted models; None: the shipped one.

    Raises:
        UnreadableImage: no retinal photograph below `root`.
    """
    network, fitted = read_shipped(weights)
    rows: list[dict[str, Any]] = []
    copied: dict[str, list[dict[str, Any]]] = {name: [] for name in COPIES}
    for entry in fundus_entries(root, "val"):
        photograph = entry.photograph()
        facts = {
            "set": entry.dataset,
            "name": entry.name,
            "grade": row_of(entry).get("eyeq_quality") or None,
            "eye": truth_of(entry).eye,
        }
        rows.append({**facts, "verdict": judge(photograph, network, fitted)})
        if sum(row["set"] == entry.dataset for row in rows) <= MOST_COPIES:
            for name, of_copy in copied.items():
                altered = copy_of(photograph, name)
                of_copy.append({**facts, "verdict": judge(altered, network, fitted)})
        log.info("%s %s: %s", entry.dataset, entry.name, rows[-1]["verdict"])
    others = []
    for entry in other_entries(root, "val"):
        try:
            verdict = judge(entry.photograph(), network, fitted)
        except ImageError as error:  # refused before the gate: too small, or not readable
            log.info("%s: %s", entry.name, error.what)
            continue
        others.append({"name": entry.name, "verdict": verdict})
    sets = sorted({row["set"] for row in rows})
    return {
        "task": "quality",
        "sets": {name: _of_set([row for row in rows if row["set"] == name]) for name in sets},
        "copies": {
            name: {"kept": _kept(of_copy), "eye": eyes(of_copy)} for name, of_copy in copied.items()
        },
        "not_fundus": _refused(others) if others else None,
    }


def _of_set(rows: list[dict[str, Any]]) -> dict[str, Any]:
    graded = [row for row in rows if row["grade"]]
    return {
        "photographs": len(rows),
        "kept": _kept(rows),
        "judged": metrics.summary([float(row["verdict"].fundus) for row in rows]),
        "refused_names": [row["name"] for row in rows if not row["verdict"].kept],
        "eye": eyes(rows),
        "grades": grades(
            [row["grade"] for row in graded], [row["verdict"].chances for row in graded]
        )
        if graded
        else None,
        "seconds": metrics.summary([row["verdict"].seconds for row in rows]),
    }


def _kept(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    return metrics.summary([float(row["verdict"].kept) for row in rows])


def _refused(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "pictures": len(rows),
        "refused": metrics.summary([float(not row["verdict"].fundus) for row in rows]),
        "passed_names": [row["name"] for row in rows if row["verdict"].fundus],
    }


def eyes(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """How often the eye was right, wrong and not told, where it is known; None: nowhere."""
    pairs = [(row["eye"], row["verdict"].eye) for row in rows if row["eye"]]
    if not pairs:
        return None
    return {
        "right": metrics.summary([float(said == true) for true, said in pairs]),
        "wrong": metrics.summary([float(said not in (true, None)) for true, said in pairs]),
        "not_told": metrics.summary([float(said is None) for _, said in pairs]),
    }


def grades(truth: Sequence[str], chances: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Accuracy, confusion (rows: truth), agreement and calibration of the three grades."""
    true = np.array([grading.GRADES.index(one) for one in truth])
    probability = np.array(chances, np.float64)
    said = probability.argmax(axis=1)
    confusion = np.zeros((3, 3), int)
    np.add.at(confusion, (true, said), 1)
    each = np.eye(3, dtype=bool)[true]
    return {
        "order": list(grading.GRADES),
        "accuracy": metrics.summary([float(one) for one in true == said]),
        "confusion": [[int(count) for count in row] for row in confusion],
        "recall": {
            name: float(confusion[i, i] / confusion[i].sum()) if confusion[i].sum() else None
            for i, name in enumerate(grading.GRADES)
        },
        "kappa": kappa(confusion, np.where(np.eye(3) > 0, 0.0, 1.0)),
        "kappa_quadratic": kappa(confusion, np.subtract.outer(np.arange(3), np.arange(3)) ** 2),
        "ece": metrics.expected_calibration_error(probability.ravel(), each.ravel(), bins=10),
    }


def kappa(confusion: np.ndarray, cost: np.ndarray) -> float | None:
    """Cohen's kappa with the given cost of each confusion; None where chance leaves no error."""
    share = confusion / confusion.sum()
    by_chance = float((np.outer(share.sum(axis=1), share.sum(axis=0)) * cost).sum())
    return 1.0 - float((share * cost).sum()) / by_chance if by_chance else None
