"""Measures lesion weights on photographs that they were not trained on.

The shipped ensemble has one network per fold. A labelled photograph is judged by
the one network that did not learn from it, never by the ensemble; healthy eyes
that no network learned from are judged by the ensemble as it is shipped.
"""

from __future__ import annotations

import csv
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.errors import UnreadableImage
from fovea.manifest import read_manifest
from fovea_plugins.field_network import FieldNetwork
from fovea_plugins.segmenter import lesions as shipped
from fovea_plugins.segmenter.lesions.operating_points import POINTS
from fovea_plugins.segmenter.lesions.reading import (
    KINDS,
    LEAST_AREA,
    MIRRORS,
    Floats,
    LesionReader,
    Spot,
    find_spots,
)
from fovea_plugins.training import metrics
from fovea_plugins.training.data import Entry, find_entries
from fovea_plugins.training.metrics import LEVELS, PixelCounts

log = logging.getLogger(__name__)

FOLDERS = dict(zip(KINDS, ("MA", "HE", "EX", "SE"), strict=True))
RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives per photograph at which the sensitivity is read off the FROC curve."""

RESAMPLES = 1000


@dataclass
class Judged:
    """One kind of lesion in one photograph.

    Attributes:
        pixels: How often each probability was right; None without a label.
        scores: Highest probability of each spot.
        hits: Which marked lesions each spot overlaps.
        marked: Number of marked lesions.
    """

    pixels: PixelCounts | None = None
    scores: list[float] = field(default_factory=list)
    hits: list[frozenset[int]] = field(default_factory=list)
    marked: int = 0

    def count(self, cut: float) -> int:
        """Spots that reach a cut."""
        return sum(score >= cut for score in self.scores)

    def found(self, cut: float) -> int:
        """Marked lesions that a spot reaching the cut overlaps."""
        each = (hit for score, hit in zip(self.scores, self.hits, strict=True) if score >= cut)
        return len(frozenset[int]().union(*each))

    def false(self, cut: float) -> int:
        """Spots reaching the cut that overlap no marked lesion."""
        return sum(
            score >= cut and not hit for score, hit in zip(self.scores, self.hits, strict=True)
        )


Row = Mapping[str, Judged]


def evaluate(root: Path, weights: Path | None) -> dict[str, Any]:
    """Figures of pixels, lesions and eyes per data set, with bootstrap intervals.

    Args:
        root: A data set, or a folder of data sets.
        weights: Weight file; None: the shipped ones.

    Raises:
        UnreadableImage: no usable data below `root`.
    """
    reader = Members.read([weights] if weights else shipped_weights())
    labelled = [e for e in find_entries(root, ("masks/MA",)) if reader.unseen(e) is not None]
    outlines = {name: point.cuts.outline for name, point in POINTS.items()}
    sets: dict[str, Any] = {}
    for name in sorted({entry.dataset for entry in labelled}):
        rows, seconds = [], []
        for entry in (e for e in labelled if e.dataset == name):
            row, took = judge(reader, entry, outlines)
            rows.append(row)
            seconds.append(took)
            log.info("%s %s: %.1f s", entry.dataset, entry.name, took)
        sets[name] = {
            "photographs": len(rows),
            "kinds": {kind: figures([row[kind] for row in rows], kind) for kind in KINDS},
            "seconds": metrics.summary(list(seconds)),
        }
    for name, entries in healthy_eyes(root).items():
        unseen = [entry for entry in entries if not reader.seen_by_any(entry)]
        rows = [judge(reader, entry, outlines, labelled=False)[0] for entry in unseen]
        sets[f"{name}, healthy"] = {
            "photographs": len(rows),
            "kinds": {kind: false_alarms([row[kind] for row in rows], kind) for kind in KINDS},
        }
    return {
        "task": "lesions",
        "networks": len(reader.facts),
        "trained_on": sorted({name for facts in reader.facts for name in facts["trained_on"]}),
        "sets": sets,
        "peak_memory_mb": peak_memory_mb(),
    }


def shipped_weights() -> list[Path]:
    """The weight files of the plugin `segment_lesions`."""
    folder = Path(shipped.__file__).parent
    return [folder / w.file for w in read_manifest(folder / "plugin.toml").weights]


class Members:
    """The networks of an ensemble, each knowing what it learned from.

    Args:
        networks: With the facts of their weight files.
    """

    def __init__(self, networks: Sequence[FieldNetwork]) -> None:
        self.facts = tuple(network.facts for network in networks)
        self.ensemble = LesionReader(networks)
        self._readers = tuple(LesionReader([network]) for network in networks)

    @classmethod
    def read(cls, files: Sequence[Path]) -> Members:
        """The networks in some weight files."""
        return cls([FieldNetwork.read(file, mirrors=MIRRORS) for file in files])

    def unseen(self, entry: Entry) -> LesionReader | None:
        """The first network that did not learn from the photograph."""
        name = f"{entry.dataset}/{entry.name}"
        pairs = zip(self._readers, self.facts, strict=True)
        return next((reader for reader, facts in pairs if name not in facts["trained_on"]), None)

    def seen_by_any(self, entry: Entry) -> bool:
        """Whether a network learned from the photograph."""
        name = f"{entry.dataset}/{entry.name}"
        return any(name in facts["trained_on"] for facts in self.facts)


def healthy_eyes(root: Path) -> dict[str, list[Entry]]:
    """Photographs without lesions by data set: HRF healthy, IDRiD grade 0 kept for validation."""
    found: dict[str, list[Entry]] = {}
    for entry in find_entries(root, ()):
        if entry.dataset == "HRF" and entry.name.endswith("_h"):
            found.setdefault("HRF", []).append(entry)
    table = next((p for p in (root, root / "IDRiD_grading") if (p / "labels.csv").exists()
                  and p.name == "IDRiD_grading"), None)  # fmt: skip
    if table is not None:
        found["IDRiD_grading"] = grade_zero(table, use="val")
    return found


def grade_zero(folder: Path, *, use: str) -> list[Entry]:
    """Photographs of IDRiD grading without retinopathy, none of them in the segmentation set."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as lines:
        return [
            Entry(folder.name, row["id"], row["use"], folder)
            for row in csv.DictReader(lines)
            if row["dr_grade"] == "0"
            and row["use"] == use
            and not row["same_image_in_IDRiD_segmentation"]
        ]


def judge(
    members: Members, entry: Entry, outlines: Mapping[str, float], *, labelled: bool = True
) -> tuple[dict[str, Judged], float]:
    """Every kind in one photograph, and the seconds that reading it took.

    Args:
        members: Labelled photographs are read by the one that did not see them, others by all.
        entry: The photograph.
        outlines: Per kind, the probability at which pixels become spots.
        labelled: Whether lesions are marked.
    """
    photograph = entry.photograph()
    reader = members.unseen(entry) if labelled else members.ensemble
    if reader is None:
        raise UnreadableImage("Every network learned from it", where=entry.name)
    started = time.perf_counter()
    maps, frame = reader.maps(photograph)
    seconds = time.perf_counter() - started
    least = LEAST_AREA * (2.0 * photograph.field_circle.radius) ** 2
    row = {}
    for kind, small in zip(KINDS, maps, strict=True):
        probability = frame.map_to_original(small)
        truth = entry.label(f"masks/{FOLDERS[kind]}") if labelled else None
        marked = np.zeros(probability.shape, bool) if truth is None else truth > 0
        row[kind] = compare(probability, marked, outlines[kind], least_px=least)
        if labelled:
            inside = photograph.field_of_view
            row[kind].pixels = pixels = PixelCounts()
            pixels.add(probability[inside], marked[inside])
    return row, seconds


def compare(
    probability: Floats, marked: NDArray[np.bool_], outline: float, *, least_px: float
) -> Judged:
    """Spots against marked lesions; both maps (H, W). A spot hits what it overlaps."""
    labels, spots = find_spots(probability, outline, least_px=least_px)
    count, truth = cv2.connectedComponents(marked.astype(np.uint8), connectivity=8)
    pairs = np.unique(np.stack([labels[marked], truth[marked]]), axis=1)
    hits: dict[int, set[int]] = {}
    for label, lesion in pairs.T:
        hits.setdefault(int(label), set()).add(int(lesion))
    return Judged(
        scores=[spot.probability for spot in spots],
        hits=[_hit(spot, hits) for spot in spots],
        marked=count - 1,
    )


def _hit(spot: Spot, hits: Mapping[int, set[int]]) -> frozenset[int]:
    return frozenset(hits.get(spot.label, ()))


def figures(judged: Sequence[Judged], kind: str) -> dict[str, Any]:
    """Pixels, lesions, counts and eyes of one kind over labelled photographs."""
    cuts = POINTS[kind].cuts
    counts = np.array([one.count(cuts.counted) for one in judged], float)
    marked = np.array([one.marked for one in judged], float)
    with_any, without = marked > 0, marked == 0
    sure = np.array([one.count(cuts.strict) > 0 for one in judged])
    return {
        "aupr": average_precision(judged),
        "ece": calibration_error(judged),
        "froc": froc(judged),
        "lesions": {
            "marked": int(marked.sum()),
            "sensitivity": ratio([one.found(cuts.counted) for one in judged], marked),
            "false_per_photograph": float(np.mean([one.false(cuts.counted) for one in judged])),
        },
        "counts": {
            "rank_correlation": rank_correlation(counts, marked),
            "mean_found": float(counts.mean()),
            "mean_marked": float(marked.mean()),
        },
        "eyes": {
            "with": int(with_any.sum()),
            "counted_in": int((counts[with_any] > 0).sum()),
            "called_present": int(sure[with_any].sum()),
            "without": int(without.sum()),
            "wrongly_counted_in": int((counts[without] > 0).sum()),
            "wrongly_called_present": int(sure[without].sum()),
        },
    }


def false_alarms(judged: Sequence[Judged], kind: str) -> dict[str, Any]:
    """How often lesions are counted, or called present, in eyes that have none."""
    cuts = POINTS[kind].cuts
    counts = [one.count(cuts.counted) for one in judged]
    return {
        "counted_per_photograph": float(np.mean(counts)) if counts else None,
        "eyes_with_any_counted": sum(count > 0 for count in counts),
        "eyes_called_present": sum(one.count(cuts.strict) > 0 for one in judged),
    }


def average_precision(judged: Sequence[Judged]) -> dict[str, float] | None:
    """AUPR over the pixels of all photographs together, 95 % bootstrap over photographs."""
    known = [one.pixels for one in judged if one.pixels is not None]
    right = np.stack([one.positive for one in known])
    wrong = np.stack([one.negative for one in known])
    value = _aupr(right.sum(axis=0), wrong.sum(axis=0))
    if value is None:
        return None
    rng = np.random.default_rng(0)
    again = []
    for _ in range(RESAMPLES):
        times = np.bincount(rng.integers(len(known), size=len(known)), minlength=len(known))
        again.append(_aupr(times @ right, times @ wrong))
    low, high = np.percentile([one for one in again if one is not None], [2.5, 97.5])
    return {"value": value, "low": float(low), "high": float(high)}


def _aupr(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float | None:
    counts = PixelCounts()
    counts.positive, counts.negative = positive, negative
    return counts.average_precision()


def calibration_error(judged: Sequence[Judged], *, bins: int = 15) -> float:
    """Expected calibration error of the pixels of all photographs together."""
    known = [one.pixels for one in judged if one.pixels is not None]
    right = np.sum([one.positive for one in known], axis=0)
    every = right + np.sum([one.negative for one in known], axis=0)
    level = np.arange(LEVELS) / (LEVELS - 1)
    which = np.minimum((level * bins).astype(int), bins - 1)
    stated = np.bincount(which, weights=every * level, minlength=bins)
    observed = np.bincount(which, weights=right, minlength=bins)
    return float(np.abs(stated - observed).sum() / max(every.sum(), 1.0))


def froc(judged: Sequence[Judged]) -> dict[str, float]:
    """Share of the marked lesions found at some rates of false positives per photograph."""
    scores = sorted({score for one in judged for score in one.scores}, reverse=True)
    marked = sum(one.marked for one in judged)
    if not marked:
        return {}
    # A few hundred cuts are enough, and thousands of spots would take minutes.
    cuts = scores[:: max(1, len(scores) // 400)] + scores[-1:]
    curve = [
        (sum(o.false(c) for o in judged) / len(judged), sum(o.found(c) for o in judged) / marked)
        for c in cuts
    ]
    return {
        f"{rate:g}": max((found for false, found in curve if false <= rate), default=0.0)
        for rate in RATES
    }


def ratio(found: Sequence[int], marked: NDArray[np.float64]) -> dict[str, float] | None:
    """Total over total with a 95 % bootstrap interval over photographs."""
    hits = np.array(found, float)
    if not marked.sum():
        return None
    picks = np.random.default_rng(0).integers(len(hits), size=(RESAMPLES, len(hits)))
    totals = marked[picks].sum(axis=1)
    low, high = np.percentile(
        (hits[picks].sum(axis=1) / np.maximum(totals, 1))[totals > 0], [2.5, 97.5]
    )
    return {"value": float(hits.sum() / marked.sum()), "low": float(low), "high": float(high)}


def rank_correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Spearman's correlation, or None when one side never changes."""
    from scipy.stats import rankdata

    ranks = rankdata(first), rankdata(second)
    if np.ptp(ranks[0]) == 0 or np.ptp(ranks[1]) == 0:
        return None
    return float(np.corrcoef(*ranks)[0, 1])


def peak_memory_mb() -> float | None:
    """Most memory that this process has held, or None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (1e6 if sys.platform == "darwin" else 1e3)
