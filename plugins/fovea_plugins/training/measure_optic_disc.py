"""Measures disc and cup outlines on photographs that the weights were not trained on."""

from __future__ import annotations

import csv
import logging
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fovea.contract import Context, NoArgs
from fovea.image import Photograph
from fovea.manifest import read_manifest
from fovea_plugins import quality
from fovea_plugins.quality.plugin import AssessQuality
from fovea_plugins.segmenter import optic_disc as shipped
from fovea_plugins.segmenter.optic_disc.network import DiscNetwork
from fovea_plugins.segmenter.optic_disc.reading import MIN_CERTAINTY, read_disc
from fovea_plugins.training import metrics
from fovea_plugins.training.data import Bytes, Entry
from fovea_plugins.training.trainer import read_facts

log = logging.getLogger(__name__)

SOFT_KINDS = ("softmap_disc", "softmap_cup")
"""Shares of experts who called a pixel disc, and cup."""

DISC_KIND = "masks/OD"
"""Disc masks of sets that outline no cup."""

AGREED = 0.6
"""Share of experts above which a pixel counts as labelled: three of four."""

Figures = dict[str, float | None]


def evaluate(root: Path, weights: Path | None) -> dict[str, Any]:
    """Figures per data set, from photograph to outline, the landmark included.

    Each photograph is judged by the members of the ensemble that were not trained on
    it; one that all of them saw is left out, see `folds_optic_disc --cross`.

    Args:
        root: A data set, or a folder of data sets.
        weights: Weight file; None: the shipped ones.

    Raises:
        UnreadableImage: no usable data below `root`.
    """
    from fovea_plugins.training.optic_disc import find

    paths = [weights] if weights else shipped_weights()
    trained_on = {path: set(read_facts(path)["trained_on"]) for path in paths}
    readers: dict[tuple[Path, ...], DiscNetwork] = {}
    jobs = []
    for entry in find(root):
        unseen = tuple(p for p in paths if f"{entry.dataset}/{entry.name}" not in trained_on[p])
        if unseen:
            readers.setdefault(unseen, DiscNetwork.read(unseen))
            jobs.append((readers[unseen], entry))
    return {"task": "optic_disc", "members": len(paths), "sets": per_set(judge_all(jobs))}


def shipped_weights() -> list[Path]:
    """The weight files of the plugin `segment_optic_disc`."""
    folder = Path(shipped.__file__).parent
    return [folder / one.file for one in read_manifest(folder / "plugin.toml").weights]


def judge_all(jobs: Iterable[tuple[DiscNetwork, Entry]]) -> list[dict[str, Any]]:
    """One row of figures for each photograph; a refusal is a row with a reason."""
    folder = Path(quality.__file__).parent
    gate = AssessQuality(read_manifest(folder / "plugin.toml"), folder)
    gate.load("cpu")
    rows = []
    for network, entry in jobs:
        photograph = entry.photograph()
        row = {"set": entry.dataset, "name": entry.name}
        row |= judge(network, entry, photograph, disc_place(gate, photograph))
        log.info("%s", row)
        rows.append(row)
    return rows


def disc_place(gate: AssessQuality, photograph: Photograph) -> np.ndarray | None:
    """The disc centre (x, y) that the quality gate gives, or None."""
    with tempfile.TemporaryDirectory(prefix="fovea-measure-") as folder:
        result = gate.run(Context(images=(photograph,), work_dir=Path(folder)), NoArgs())
    x, y = result.measurement("disc_x"), result.measurement("disc_y")
    return np.array([x.value, y.value]) if x and y else None


def judge(
    network: DiscNetwork, entry: Entry, photograph: Photograph, place_xy: np.ndarray | None
) -> dict[str, Any]:
    """All figures of one photograph; `refused` says why there are none."""
    if place_xy is None:
        return {"refused": "no place"}
    started = time.perf_counter()
    found = read_disc(network, photograph, place_xy)
    seconds = time.perf_counter() - started
    if found is None or found.certainty < MIN_CERTAINTY:
        return {"refused": "no disc"}
    shape = (photograph.height, photograph.width)
    disc_label = entry.label(SOFT_KINDS[0])
    if disc_label is None:
        disc_label = entry.label(DISC_KIND)
    if disc_label is None:
        raise FileNotFoundError(f"{entry.dataset} {entry.name} has no disc label")
    disc = agreed(disc_label)
    figures: Figures = {
        "disc_dice": metrics.dice(found.disc.mask(shape), disc),
        "disc_height_error": found.disc.extent[1] / height_of(disc) - 1.0,
        "seconds": seconds,
    }
    cup_label = entry.label(SOFT_KINDS[1])
    if cup_label is not None:
        cup = agreed(cup_label)
        mine = found.cup.mask(shape) if found.cup else np.zeros(shape, bool)
        figures["cup_dice"] = metrics.dice(mine, cup)
        ratio = found.vertical_ratio
        if ratio is not None:
            figures["vertical_cdr"] = ratio
            figures["error_to_mask"] = ratio - height_of(cup) / height_of(disc)
            across = (found.horizontal_ratio or 0.0) - height_of(cup.T) / height_of(disc.T)
            figures["horizontal_error_to_mask"] = across
            experts = expert_ratio(entry)
            if experts is not None:
                figures["error_to_experts"] = ratio - experts
    return dict(figures)


def agreed(label: Bytes) -> np.ndarray:
    """Where most experts agree, (H, W) bool, from their share in 0 to 255."""
    return np.asarray(label > AGREED * 255)


def height_of(mask: np.ndarray) -> float:
    """Full height of a mask (H, W) in pixels."""
    return float(np.ptp(np.flatnonzero(mask.any(axis=1))) + 1)


def expert_ratio(entry: Entry) -> float | None:
    """Mean vertical cup-to-disc ratio of the experts in `labels.csv`, or None."""
    table = entry.folder / "labels.csv"
    if not table.exists():
        return None
    with table.open(newline="", encoding="utf-8") as lines:
        row = next((row for row in csv.DictReader(lines) if row["id"] == entry.name), {})
    values = [float(value) for name, value in row.items() if name.startswith("cdr") and value]
    return float(np.mean(values)) if values else None


def per_set(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means with bootstrap intervals per data set, and each photograph."""
    return {name: _of_set([row for row in rows if row["set"] == name])
            for name in sorted({row["set"] for row in rows})}  # fmt: skip


def _of_set(rows: list[dict[str, Any]]) -> dict[str, Any]:
    def summary(name: str, *, absolute: bool = False) -> dict[str, Any] | None:
        values = [row.get(name) for row in rows]
        return metrics.summary([abs(v) if absolute and v is not None else v for v in values])

    errors = (
        "error_to_experts",
        "error_to_mask",
        "horizontal_error_to_mask",
        "disc_height_error",
    )
    return {
        "photographs": len(rows),
        "refused": sum("refused" in row for row in rows),
        "disc_dice": summary("disc_dice"),
        "cup_dice": summary("cup_dice"),
        **{f"abs_{name}": summary(name, absolute=True) for name in errors},
        **{f"mean_{name}": summary(name) for name in errors},
        "seconds": summary("seconds"),
        "intervals": {
            name: interval([row[name] for row in rows if row.get(name) is not None])
            for name in errors
        },
        "each": rows,
    }


def interval(errors: list[float], *, level: float = 0.9) -> dict[str, float] | None:
    """Half-width of a conformal interval of that level, and how often it holds.

    The half-width is the conformal quantile of the absolute errors (Vovk, Gammerman
    and Shafer 2005); its coverage is measured leaving each photograph out in turn.
    """
    sizes = np.abs(np.array(errors, np.float64))
    if len(sizes) < 20:
        return None

    def quantile(of: np.ndarray) -> float:
        return float(np.quantile(of, min(1.0, level * (1 + 1 / len(of))), method="higher"))

    held = [size <= quantile(np.delete(sizes, index)) for index, size in enumerate(sizes)]
    return {"half_width": quantile(sizes), "coverage": float(np.mean(held))}
