"""How well similar cases are found, beside two baselines, between disjoint patients.

Run as `fovea evaluate retrieval --data FOLDER`, where the folder is ODIR or the grading set of
IDRiD, which the encoder never saw. The archive is `use=train`, the questions are `use=val`; no
patient is on both sides. The baselines know nothing of the retina: raw pixels with a colour
histogram, and a convolutional network with random weights. All three encode the same
photographs in the same run.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.errors import UnreadableImage
from fovea.image import Photograph
from fovea_plugins.retrieval.features import Floats, describe
from fovea_plugins.retrieval.projection import Projection
from fovea_plugins.training.classifier_data import read_photograph

ODIR_CLASSES = tuple("NDGCAHMO")
GRADES = tuple(f"ICDR {grade}" for grade in range(5))
_IDRID_COLUMNS = frozenset({"use", "dr_grade", "dme_risk", "same_image_as"})
DEPTH = 10
RESAMPLES = 1000
SEED = 8
PIXELS_SIDE = 24
BINS = 12
NETWORK_SIDE = 128
NETWORK_WIDTHS = (32, 64, 128)
SHIPPED = Path(__file__).with_name("weights") / "classical.safetensors"
CHOSEN_ON = (
    "The configuration of the encoder was chosen among 36 on these same questions, so its "
    "figures are somewhat too good; those of the baselines are not, since nothing was chosen. "
    "The model card quotes the encoder refitted without the patients of the questions."
)
NEVER_SEEN = (
    "The encoder saw no photograph of this set and nothing was chosen on it. Its patients are "
    "not known: both eyes of one may be on both sides, for the baselines as well. Copies are "
    "left out."
)

Encoder = Callable[[Photograph], Floats]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Side:
    """Photographs of one side.

    Attributes:
        labels: (N, C) of 0 and 1.
        patients: (N,) whose they are.
        vectors: By encoder, (N, D) of unit length.
        classes: (C,) names of the classes.
    """

    labels: Floats
    patients: NDArray[np.str_]
    vectors: dict[str, Floats]
    classes: tuple[str, ...] = ODIR_CLASSES


def evaluate(root: Path, weights: Path | None = None) -> dict[str, Any]:
    """P@1, P@5 and mAP@10 per class and macro with intervals, for each encoder.

    For a class: over the questions that have it, how the nearest archived cases have it
    too. Intervals (95 %) by resampling the patients of the questions; `ahead_of` gives
    the paired differences to each baseline.

    Args:
        root: The folder of IDRiD's grading set or of ODIR, or a folder that holds ODIR.
        weights: Weight file of the projection; None: the shipped one.

    Raises:
        UnreadableImage: no such set at `root`.
    """
    unseen = _IDRID_COLUMNS.issubset(_heading(root / "labels.csv"))
    folder = root if unseen else odir_folder(root)
    encoders = {
        "encoder": _classical(weights or SHIPPED),
        "pixels_and_colours": pixels_and_colours,
        "random_network": _random_network(),
    }
    archive, questions = (_read(folder, use, encoders) for use in ("train", "val"))
    return {"note": NEVER_SEEN if unseen else CHOSEN_ON} | compare(archive, questions)


def compare(archive: Side, questions: Side) -> dict[str, Any]:
    """The figures of every encoder, and how far the first is ahead of the others."""
    if set(archive.patients) & set(questions.patients):
        raise ValueError("patients of the questions are in the archive: the figures mean nothing")
    draws = _draws(questions.patients)
    figures: dict[str, Any] = {
        "photographs": {"archive": len(archive.labels), "questions": len(questions.labels)},
        "patients": {"questions": len(set(questions.patients.tolist()))},
        "chance": _named(archive.classes, archive.labels.mean(axis=0)),
    }
    resampled: dict[str, dict[str, Floats]] = {}
    for name in archive.vectors:
        scores = scores_of(archive, questions, name)
        figures[name] = {}
        resampled[name] = {}
        for measure, values in scores.items():
            means = np.stack([_per_class(values[rows]) for rows in draws])
            resampled[name][measure] = _macro(means)
            low, high = _percentiles(means)
            figures[name][measure] = _named(
                archive.classes, _per_class(values), low, high, _interval(resampled[name][measure])
            )
    first, *others = archive.vectors
    figures["ahead_of"] = {
        other: {
            measure: {
                "macro": _round(
                    figures[first][measure]["macro"]["value"]
                    - figures[other][measure]["macro"]["value"]
                ),
                "interval": _interval(resampled[first][measure] - resampled[other][measure]),
            }
            for measure in resampled[first]
        }
        for other in others
    }
    return figures


def scores_of(archive: Side, questions: Side, name: str) -> dict[str, Floats]:
    """Per question and class (Q, C) P@1, P@5 and AP@10; NaN where it has not the class.

    AP@10 is the mean precision at the ranks of the cases that have the class, over the ten
    nearest, divided by the most that could be found (Manning 2008, Introduction to
    Information Retrieval, chapter 8.4).
    """
    closeness = questions.vectors[name] @ archive.vectors[name].T
    nearest: Indices = np.argsort(-closeness, axis=1, kind="stable")[:, :DEPTH]
    has = archive.labels[nearest]  # (Q, 10, C)
    found = np.cumsum(has, axis=1)
    ranks = np.arange(1, has.shape[1] + 1)[None, :, None]
    most = np.minimum(DEPTH, archive.labels.sum(axis=0))
    average = (has * found / ranks).sum(axis=1) / np.maximum(most, 1)
    asked = questions.labels > 0
    measures = {"p_at_1": has[:, 0], "p_at_5": has[:, :5].mean(axis=1), "map_at_10": average}
    return {m: np.where(asked, v, np.nan).astype(np.float32) for m, v in measures.items()}


def pixels_and_colours(image: Photograph) -> Floats:
    """Baseline: small raw pixels and a colour histogram, each of unit length, (N,)."""
    small = cv2.resize(image.pixels, (PIXELS_SIDE, PIXELS_SIDE), interpolation=cv2.INTER_AREA)
    pixels = small.astype(np.float32).ravel() / 255.0
    pixels -= pixels.mean()
    inside = image.pixels[image.field_of_view]
    counts = [np.histogram(inside[:, c], bins=BINS, range=(0, 256))[0] for c in range(3)]
    colours = np.concatenate(counts).astype(np.float32)
    return _unit(np.concatenate([_unit(pixels), _unit(colours)]))


def _random_network() -> Encoder:
    """Baseline: three strided convolutions with random weights (He 2015), mean and SD pooled."""
    import torch
    from torch import nn

    torch.manual_seed(SEED)
    layers: list[nn.Module] = []
    before = 3
    for width in NETWORK_WIDTHS:
        convolution = nn.Conv2d(before, width, 3, stride=2, padding=1)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        if convolution.bias is not None:
            nn.init.zeros_(convolution.bias)
        layers += [convolution, nn.ReLU()]
        before = width
    network = nn.Sequential(*layers).eval()

    def encode(image: Photograph) -> Floats:
        size = (NETWORK_SIDE, NETWORK_SIDE)
        small = cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA)
        with torch.inference_mode():
            shown = torch.from_numpy(small.astype(np.float32) / 255.0).permute(2, 0, 1)[None]
            maps = network(shown)[0].flatten(1)
            pooled = torch.cat([maps.mean(dim=1), maps.std(dim=1)])
        return _unit(np.asarray(pooled.numpy(), np.float32))

    return encode


def _classical(weights: Path) -> Encoder:
    projection = Projection.read(weights)
    return lambda image: projection.vector(describe(image))


def odir_folder(root: Path) -> Path:
    """The folder of ODIR: `root`, or the first in it that is one.

    Raises:
        UnreadableImage: there is none.
    """
    for folder in (root, *sorted(path for path in root.glob("*") if path.is_dir())):
        table = folder / "labels.csv"
        if {"use", "patient", *ODIR_CLASSES} <= set(_heading(table)):
            return folder
    raise UnreadableImage(
        "There is no data set with patients and the eight labels of ODIR",
        where=f"`{root.name}`",
        fix="Give the folder of ODIR, with `labels.csv` and `images`",
    )


def _heading(table: Path) -> list[str]:
    if not table.is_file():
        return []
    with table.open(newline="", encoding="utf-8") as lines:
        return next(csv.reader(lines), [])


def _read(folder: Path, use: str, encoders: dict[str, Encoder]) -> Side:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["use"] == use]
    graded = bool(rows) and "patient" not in rows[0]
    if graded:
        rows = [row for row in rows if not row["same_image_as"]]
    vectors: dict[str, list[Floats]] = {name: [] for name in encoders}
    for row in rows:
        image = read_photograph(folder / "images" / f"{row['id']}.jpg")
        for name, encode in encoders.items():
            vectors[name].append(encode(image))
    if not rows:
        raise UnreadableImage(f"No photograph is of `use={use}`", where=f"`{folder.name}`")
    stacked = {name: np.stack(found) for name, found in vectors.items()}
    if graded:
        grades = np.array([int(row["dr_grade"]) for row in rows])
        labels = np.eye(len(GRADES), dtype=np.float32)[grades]
        return Side(labels, np.array([row["id"] for row in rows]), stacked, GRADES)
    labels = np.array([[float(row[name]) for name in ODIR_CLASSES] for row in rows], np.float32)
    return Side(labels, np.array([row["patient"] for row in rows]), stacked)


def _draws(patients: NDArray[np.str_]) -> list[Indices]:
    """Rows of as many patients, drawn with replacement, `RESAMPLES` times."""
    drawn = np.random.default_rng(SEED)
    names, which = np.unique(patients, return_inverse=True)
    rows = [np.flatnonzero(which == number) for number in range(len(names))]
    return [
        np.concatenate([rows[number] for number in drawn.integers(len(names), size=len(names))])
        for _ in range(RESAMPLES)
    ]


def _per_class(values: Floats) -> Floats:
    """Means over the questions that have the class, (C,); NaN for a class that none has."""
    asked = ~np.isnan(values)
    counts = asked.sum(axis=0)
    totals = np.where(asked, values, 0.0).sum(axis=0)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan).astype(np.float32)


def _named(
    classes: tuple[str, ...], values: Floats, low: Floats | None = None, high: Floats | None = None,
    macro: list[float | None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The values by class, and their macro mean, with intervals where there are some."""
    known = values[~np.isnan(values)]
    mean = float(known.mean()) if len(known) else float("nan")
    if low is None or high is None:
        return {"macro": _round(mean)} | {
            name: _round(value) for name, value in zip(classes, values, strict=True)
        }
    found: dict[str, Any] = {"macro": {"value": _round(mean), "interval": macro}}
    for name, value, least, most in zip(classes, values, low, high, strict=True):
        found[name] = {"value": _round(value), "interval": [_round(least), _round(most)]}
    return found


def _macro(means: Floats) -> Floats:
    """Means over the classes that somebody has, (R,)."""
    known = ~np.isnan(means)
    totals = np.where(known, means, 0.0).sum(axis=1)
    return np.asarray(totals / np.maximum(known.sum(axis=1), 1), np.float32)


def _percentiles(means: Floats) -> tuple[Floats, Floats]:
    """2.5th and 97.5th percentile per class, (C,) each; NaN for a class without a value."""
    bounds = np.full((2, means.shape[1]), np.nan, np.float32)
    for column in range(means.shape[1]):
        known = means[~np.isnan(means[:, column]), column]
        if len(known):
            bounds[:, column] = np.percentile(known, (2.5, 97.5))
    return bounds[0], bounds[1]


def _interval(values: Floats) -> list[float | None]:
    return [_round(value) for value in np.percentile(values, (2.5, 97.5))]


def _round(value: float) -> float | None:
    """Three decimals; None where there is no value."""
    return None if np.isnan(value) else round(float(value), 3)


def _unit(values: Floats) -> Floats:
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-9), np.float32)
