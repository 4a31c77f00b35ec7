"""Measures where disc and fovea are found, on photographs that nothing was fitted on."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fovea.image import Photograph
from fovea_plugins.quality.examination import Examination, examine
from fovea_plugins.quality.network import LandmarkNetwork
from fovea_plugins.quality.orientation import infer_eye
from fovea_plugins.training import metrics
from fovea_plugins.training.landmark_data import Point, Truth, fundus_entries, truth_of
from fovea_plugins.training.measure_quality import shipped_weights

log = logging.getLogger(__name__)

DISC_SHARE = 1 / 7
"""Disc diameter over field diameter, where no outline is known."""


def evaluate(root: Path, weights: Path | None) -> dict[str, Any]:
    """Errors in disc diameters and eyes, of the photographs that are not for training.

    A landmark that is not found counts as more than one disc diameter off.

    Args:
        root: A data set, or a folder of data sets.
        weights: Weights of the landmark network; None: the shipped ones.

    Raises:
        UnreadableImage: no retinal photograph below `root`.
    """
    network = LandmarkNetwork.read(weights or shipped_weights()[0])
    rows: list[dict[str, Any]] = []
    for entry in fundus_entries(root, "val"):
        truth = truth_of(entry)
        if truth.disc is None and truth.eye is None:
            continue
        row = {"set": entry.dataset, "name": entry.name}
        rows.append(row | judge(entry.photograph(), truth, network))
        log.info("%s", rows[-1])
    sets = sorted({row["set"] for row in rows})
    return {
        "task": "landmarks",
        "disc_diameter": "of the outline, or a seventh of the field diameter",
        "sets": {name: of_set([row for row in rows if row["set"] == name]) for name in sets},
    }


def judge(photograph: Photograph, truth: Truth, network: LandmarkNetwork) -> dict[str, Any]:
    """Errors of one photograph in disc diameters; None where nothing was found."""
    started = time.perf_counter()
    examined = examine(photograph, network)
    seconds = time.perf_counter() - started
    diameter = truth.disc_diameter_px or 2.0 * photograph.field_circle.radius * DISC_SHARE
    row: dict[str, Any] = {"seconds": seconds}
    for name, place, found in (
        ("disc", truth.disc, examined.disc),
        ("fovea", truth.fovea, examined.fovea),
    ):
        if place is not None:
            row[f"{name}_error"] = (
                None if found is None else _distance(examined, (found.x, found.y), place) / diameter
            )
    if truth.eye is not None:
        row |= {
            "eye": truth.eye,
            "eye_said": infer_eye(examined.view, examined.disc, examined.fovea).value,
        }
    return row


def _distance(examined: Examination, found: Point, place: Point) -> float:
    x, y = examined.view.frame.to_original(np.array(found))
    return float(np.hypot(x - place[0], y - place[1]))


def of_set(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of one data set, and each photograph."""
    known = [(row["eye"], row["eye_said"]) for row in rows if "eye" in row]
    return {
        "photographs": len(rows),
        "disc": errors([row["disc_error"] for row in rows if "disc_error" in row]),
        "fovea": errors([row["fovea_error"] for row in rows if "fovea_error" in row]),
        "eye": {
            "right": metrics.summary([float(true == said) for true, said in known]),
            "wrong": metrics.summary([float(said not in (true, None)) for true, said in known]),
        }
        if known
        else None,
        "seconds": metrics.summary([row["seconds"] for row in rows]),
        "each": rows,
    }


def errors(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Median and 95th percentile in disc diameters with bootstrap intervals, and misses.

    Args:
        values: One per photograph that has the landmark; None: not found.
    """
    if not values:
        return None
    all_values = np.array([np.inf if value is None else value for value in values])
    return {
        "photographs": len(values),
        "not_found": int(np.isinf(all_values).sum()),
        "median": _quantile(all_values, 0.5),
        "p95": _quantile(all_values, 0.95),
        "within_half": metrics.summary([float(value <= 0.5) for value in all_values]),
        "within_one": metrics.summary([float(value <= 1.0) for value in all_values]),
    }


def _quantile(values: np.ndarray, level: float, resamples: int = 1000) -> dict[str, float | None]:
    """A quantile with a 95 % bootstrap interval; None where it is a landmark not found."""
    picks = np.random.default_rng(0).integers(len(values), size=(resamples, len(values)))
    drawn = np.quantile(values[picks], level, axis=1, method="higher")
    low, high = np.quantile(drawn, [0.025, 0.975], method="higher")
    named = {"value": np.quantile(values, level, method="higher"), "low": low, "high": high}
    return {name: float(one) if np.isfinite(one) else None for name, one in named.items()}
