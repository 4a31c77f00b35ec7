"""Measures vessel weights on photographs that they were not trained on."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from fovea.errors import UnreadableImage
from fovea.image import Mask
from fovea.manifest import read_manifest
from fovea_plugins.segmenter import vessels as shipped
from fovea_plugins.segmenter.vessels.reading import VesselReader
from fovea_plugins.training import metrics
from fovea_plugins.training.data import Bytes, Entry, Floats, find_entries
from fovea_plugins.training.trainer import read_facts

log = logging.getLogger(__name__)

ARTERY, VEIN = 1, 2

Figures = dict[str, float | None]


def evaluate(root: Path, weights: Path | None) -> dict[str, Any]:
    """Figures per data set: mean over photographs with a bootstrap interval, and each photograph.

    Photographs that either network was trained on, or chosen by, are left out. Masks
    are judged at the size of the original, inside the field of view of the data set.

    Args:
        root: A data set, or a folder of data sets.
        weights: File that takes the place of the shipped one of the same task.

    Raises:
        UnreadableImage: no usable data below `root`.
    """
    files = shipped_weights()
    if weights is not None:
        files[read_facts(weights)["task"]] = weights
    facts = [read_facts(path) for path in files.values()]
    seen = {name for one in facts for name in (*one["trained_on"], *one["held_out"])}
    reader = VesselReader.load(files["vessels"], files["artery_vein"])
    per_set: dict[str, list[dict[str, Any]]] = {}
    for entry in find_entries(root, ("vessels",)):
        if f"{entry.dataset}/{entry.name}" in seen:
            continue
        figures = judge(reader, entry)
        log.info("%s %s: Dice %.4f", entry.dataset, entry.name, figures["dice"] or 0.0)
        per_set.setdefault(entry.dataset, []).append({"name": entry.name, **figures})
    return {
        "task": "vessels",
        "threshold": reader.threshold,
        "trained_on": sorted(seen),
        "sets": {name: _of_set(rows) for name, rows in per_set.items()},
    }


def shipped_weights() -> dict[str, Path]:
    """The weight files of the plugin `segment_vessels`, by task."""
    folder = Path(shipped.__file__).parent
    weights = read_manifest(folder / "plugin.toml").weights
    return {Path(one.file).stem: folder / one.file for one in weights}


def judge(reader: VesselReader, entry: Entry) -> Figures:
    """All figures of one photograph."""
    photograph = entry.photograph()
    truth = entry.label("vessels")
    if truth is None:
        raise UnreadableImage("The vessel label is missing", where=f"{entry.dataset}/{entry.name}")
    field = entry.label("fov")
    inside = photograph.field_of_view if field is None else field > 0
    started = time.perf_counter()
    found = reader.read(photograph)
    seconds = time.perf_counter() - started
    figures = vessel_figures(found.probability, found.vessels, truth > 0, inside)
    figures["raw_dice"] = metrics.dice(found.raw[inside], truth[inside] > 0)
    figures["raw_components"] = float(metrics.components(found.raw & inside))
    kinds = entry.label("av")
    if kinds is not None:
        per_pixel = found.pixel_share > 0.5
        figures |= side_figures(per_pixel, kinds, found.vessels, inside, "raw_")
        figures |= side_figures(found.share > 0.5, kinds, found.vessels, inside, "")
        sure = found.vessels & ~found.uncertain
        judged = inside & sure & ((kinds == ARTERY) | (kinds == VEIN))
        figures["av_accuracy_sure"] = _share((found.share > 0.5) == (kinds == ARTERY), judged)
        figures["av_uncertain_share"] = _share(found.uncertain, found.vessels)
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


def best_threshold(sets: list[list[tuple[Floats, Mask]]]) -> float:
    """The probability cut with the highest Dice, each data set counting alike.

    Args:
        sets: For each data set, (probability, truth) of its photographs.
    """
    cuts = np.arange(0.25, 0.70, 0.01)
    scores = [
        np.mean([np.mean([metrics.dice(p >= cut, t) or 0.0 for p, t in one]) for one in sets])
        for cut in cuts
    ]
    return float(round(cuts[int(np.argmax(scores))], 2))
