"""Measures vessel weights on photographs that they were not trained on."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from fovea.errors import ConfigError, UnreadableImage
from fovea.image import Mask
from fovea_plugins.training import metrics
from fovea_plugins.training.data import Bytes, Entry, Floats, find_entries
from fovea_plugins.training.infer_vessels import VesselNetwork, without_specks
from fovea_plugins.training.sides import artery_share, settle_sides

log = logging.getLogger(__name__)

ARTERY, VEIN = 1, 2

Figures = dict[str, float | None]


def evaluate(root: Path, weights: Path | None) -> dict[str, Any]:
    """Figures per data set: mean over photographs with a bootstrap interval, and each photograph.

    Photographs that the weight file says it was trained on are left out. Masks are
    judged at the size of the original, inside the field of view of the data set.

    Raises:
        ConfigError: no weight file is named.
        UnreadableImage: no usable data below `root`.
    """
    if weights is None:
        raise ConfigError(
            "No weights of the task `vessels` are shipped with this version",
            where="weights",
            fix="Train them, and name the file",
        )
    with safe_open(weights, framework="pt") as stored:
        facts = json.loads(stored.metadata()["fovea"])
    seen = {*facts["trained_on"], *facts["held_out"]}
    network = VesselNetwork.read(weights)
    per_set: dict[str, list[dict[str, Any]]] = {}
    for entry in find_entries(root, ("vessels",)):
        if f"{entry.dataset}/{entry.name}" in seen:
            continue
        figures = judge(network, entry)
        log.info("%s %s: Dice %.4f", entry.dataset, entry.name, figures["dice"] or 0.0)
        per_set.setdefault(entry.dataset, []).append({"name": entry.name, **figures})
    return {
        "task": "vessels",
        "threshold": network.threshold,
        "artery_cut": network.artery_cut,
        "trained_on": facts["trained_on"],
        "sets": {name: _of_set(rows) for name, rows in per_set.items()},
    }


def judge(network: VesselNetwork, entry: Entry) -> Figures:
    """All figures of one photograph."""
    photograph = entry.photograph()
    truth = entry.label("vessels")
    if truth is None:
        raise UnreadableImage("The vessel label is missing", where=f"{entry.dataset}/{entry.name}")
    field = entry.label("fov")
    inside = photograph.field_of_view if field is None else field > 0
    started = time.perf_counter()
    small, frame = network.on_photograph(photograph)
    probability = np.stack([frame.map_to_original(one) for one in small])
    raw_vessels = probability[0] >= network.threshold
    vessels = without_specks(raw_vessels, 2.0 * photograph.field_circle.radius)
    seconds = time.perf_counter() - started
    figures = vessel_figures(probability[0], vessels, truth > 0, inside)
    figures["raw_dice"] = metrics.dice(raw_vessels[inside], truth[inside] > 0)
    figures["raw_components"] = float(metrics.components(raw_vessels & inside))
    kinds = entry.label("av")
    if kinds is not None:
        started = time.perf_counter()
        settled = settle_sides(small, small[0] >= network.threshold)
        seconds += time.perf_counter() - started
        raw = frame.map_to_original(artery_share(small)) > 0.5
        figures |= side_figures(raw, kinds, vessels, inside, "raw_")
        after = frame.map_to_original(settled) > network.artery_cut
        figures |= side_figures(after, kinds, vessels, inside, "")
    return {**figures, "seconds": seconds}


def vessel_figures(probability: Floats, found: Mask, truth: Mask, inside: Mask) -> Figures:
    """Vessel figures inside the field of view; all arrays (H, W)."""
    p, f, t = probability[inside], found[inside], truth[inside]
    return {
        "dice": metrics.dice(f, t),
        "auc": metrics.auc(p, t),
        "sensitivity": metrics.sensitivity(f, t),
        "specificity": metrics.specificity(f, t),
        "cl_dice": metrics.centreline_dice(found & inside, truth & inside),
        "components": float(metrics.components(found & inside)),
        "components_truth": float(metrics.components(truth & inside)),
        "ece": metrics.expected_calibration_error(p, t),
    }


def side_figures(artery: Mask, kinds: Bytes, found: Mask, inside: Mask, prefix: str) -> Figures:
    """Artery against vein where the label says one of the two; all arrays (H, W).

    On all vessel pixels, on those also found as vessel, and on the centreline of
    the label; `flips_per_1000px`: changes of colour between neighbours on the
    centreline where the label does not change.
    """
    from skimage.morphology import skeletonize

    judged = inside & ((kinds == ARTERY) | (kinds == VEIN))
    right = artery == (kinds == ARTERY)
    line = skeletonize(kinds > 0) & judged
    return {
        f"{prefix}av_accuracy": _share(right, judged),
        f"{prefix}av_accuracy_found": _share(right, judged & found),
        f"{prefix}av_accuracy_centreline": _share(right, line),
        f"{prefix}artery_recall": _share(right, judged & (kinds == ARTERY)),
        f"{prefix}vein_recall": _share(right, judged & (kinds == VEIN)),
        f"{prefix}flips_per_1000px": _flips(right, line, kinds),
    }


def _share(right: Mask, where: Mask) -> float | None:
    return float(right[where].mean()) if where.any() else None


def _flips(right: Mask, line: Mask, kinds: Bytes) -> float | None:
    """Right-to-wrong changes per 1000 centreline pixels of unchanged label."""
    changes = pairs = 0
    height, width = line.shape
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = (slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        there = (slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
        joined = line[here] & line[there] & (kinds[here] == kinds[there])
        pairs += int(joined.sum())
        changes += int((joined & (right[here] != right[there])).sum())
    return 1000.0 * changes / pairs if pairs else None


def _of_set(rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = [name for name in rows[0] if name != "name"]
    figures = {name: metrics.summary([row.get(name) for row in rows]) for name in names}
    return {"photographs": len(rows), "figures": figures, "each": rows}


def best_artery_cut(pairs: list[tuple[Floats, Mask]]) -> float:
    """The cut of the artery share with the highest mean accuracy over (share, truth) pairs."""
    cuts = np.arange(0.25, 0.76, 0.05)
    means = [np.mean([((share > cut) == truth).mean() for share, truth in pairs]) for cut in cuts]
    return float(round(cuts[int(np.argmax(means))], 2))


def best_threshold(pairs: list[tuple[Floats, Mask]]) -> float:
    """The probability cut with the highest mean Dice over (probability, truth) pairs."""
    cuts = np.arange(0.25, 0.70, 0.01)
    means = [np.mean([metrics.dice(p >= cut, truth) or 0.0 for p, truth in pairs]) for cut in cuts]
    return float(round(cuts[int(np.argmax(means))], 2))
