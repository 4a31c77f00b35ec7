"""Fit the projection on ODIR, and measure retrieval between disjoint patients.

Run as `python -m fovea_plugins.retrieval.train DATA [--out FILE]`: with `--out`
it fits on `use=train` and writes the weights; it always measures the shipped or
the new weights, archive `use=train`, questions `use=val`, cross-validates the
method within `use=train`, and writes JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fovea.image import open_photograph
from fovea_plugins.retrieval.features import BLOCKS, Floats, describe
from fovea_plugins.retrieval.projection import Projection, standardised

CLASSES = "NDGCAHMO"
LOOKS = {"colour": 24, "texture": 48, "layout": 32}
BASIS = {"colour": 60, "texture": 200, "layout": 200}
"""Principal components kept, and those that the label directions are sought in."""
RIDGE = 0.3
PAIRS = 20_000
SEED = 8


@dataclass(frozen=True)
class Labelled:
    """Descriptors (N, .) per block, labels (N, 8) of 0 and 1, patients (N,)."""

    descriptors: dict[str, Floats]
    labels: Floats
    patients: np.ndarray[tuple[int], np.dtype[np.str_]]

    def where(self, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Labelled:
        """The chosen rows only."""
        descriptors = {block: values[chosen] for block, values in self.descriptors.items()}
        return Labelled(descriptors, self.labels[chosen], self.patients[chosen])

    def vectors(self, projection: Projection) -> Floats:
        """The unit vectors (N, D)."""
        rows = range(len(self.labels))
        return np.stack(
            [projection.vector({b: self.descriptors[b][row] for b in BLOCKS}) for row in rows]
        )


def read_odir(folder: Path, use: str) -> Labelled:
    """The photographs of `labels.csv` whose column `use` has this value, described."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["use"] == use]
    found = [describe(open_photograph(folder / "images" / f"{row['id']}.jpg")) for row in rows]
    return Labelled(
        {block: np.stack([one[block] for one in found]) for block in BLOCKS},
        np.array([[float(row[name]) for name in CLASSES] for row in rows], np.float32),
        np.array([row["patient"] for row in rows]),
    )


def fit(train: Labelled) -> Projection:
    """Whitened principal components, and ridge-regression directions of the eight labels."""
    tensors: dict[str, Floats] = {}
    centred_labels = train.labels - train.labels.mean(axis=0)
    targets = centred_labels / train.labels.std(axis=0)
    count = len(targets)
    for block in BLOCKS:
        values = train.descriptors[block]
        mean, sd = values.mean(axis=0), values.std(axis=0) + 1e-3
        standard = standardised(values, mean, sd)
        centre = standard.mean(axis=0)
        _, singular, axes = np.linalg.svd(standard - centre, full_matrices=False)
        spread = singular / np.sqrt(count)
        looks = axes[: LOOKS[block]].T / np.sqrt(spread[: LOOKS[block]])  # half-way whitened
        basis = axes[: BASIS[block]].T
        scores = (standard - centre) @ basis
        unit = float(scores.std(axis=0).mean())
        scores /= unit
        gram = scores.T @ scores + RIDGE * count * np.eye(basis.shape[1])
        diagnosis = basis @ np.linalg.solve(gram, scores.T @ targets) / unit
        parts = {"mean": mean, "sd": sd, "centre": centre, "looks": looks, "diagnosis": diagnosis}
        tensors |= {f"{block}.{name}": part.astype(np.float32) for name, part in parts.items()}
    return Projection(tensors | _pairs(Projection(tensors), train))


def _pairs(projection: Projection, train: Labelled) -> dict[str, Floats]:
    vectors = train.vectors(projection)
    first, second = np.random.default_rng(SEED).integers(0, len(vectors), (2, PAIRS))
    keep = train.patients[first] != train.patients[second]
    first, second = vectors[first[keep]], vectors[second[keep]]
    blocks = [projection.block_distances(a, b) for a, b in zip(first, second, strict=True)]
    distances = {block: np.array([one[block] for one in blocks]) for block in BLOCKS}
    distances["all"] = 1.0 - np.einsum("ij,ij->i", first, second)
    levels = np.linspace(0.0, 1.0, 1001)
    return {f"{k}.pairs": np.quantile(v, levels).astype(np.float32) for k, v in distances.items()}


def precision(
    projection: Projection, archive: Labelled, questions: Labelled
) -> dict[str, dict[str, float]]:
    """P@1 and P@5 per class and macro, with the chance level (share of the class).

    For a class: over the questions that have it, the mean share of the nearest
    k cases that have it too.
    """
    if set(archive.patients) & set(questions.patients):
        raise ValueError("patients of the questions are in the archive: the figures mean nothing")
    closeness = questions.vectors(projection) @ archive.vectors(projection).T
    nearest = np.argsort(-closeness, axis=1)[:, :5]
    shared = questions.labels[:, None, :] * archive.labels[nearest]
    table: dict[str, dict[str, float]] = {
        "photographs": {"archive": len(archive.labels), "questions": len(questions.labels)}
    }
    has = questions.labels > 0
    rows = {
        "chance": archive.labels.mean(axis=0),
        "p_at_1": np.array([shared[has[:, c], 0, c].mean() for c in range(len(CLASSES))]),
        "p_at_5": np.array([shared[has[:, c], :, c].mean() for c in range(len(CLASSES))]),
    }
    for name, values in rows.items():
        per_class = {c: round(float(v), 3) for c, v in zip(CLASSES, values, strict=True)}
        table[name] = {"macro": round(float(values.mean()), 3)} | per_class
    return table


def cross_validated(train: Labelled, folds: int = 5) -> dict[str, list[float]]:
    """Macro P@1 and P@5 of each fold, fitted anew without the patients of the questions.

    The design was chosen on `use=val`; these questions had no part in that choice.
    """
    patients = np.random.default_rng(0).permutation(np.unique(train.patients))
    figures: dict[str, list[float]] = {"p_at_1": [], "p_at_5": []}
    for held_out in np.array_split(patients, folds):
        asked = np.isin(train.patients, held_out)
        archive = train.where(~asked)
        table = precision(fit(archive), archive, train.where(asked))
        for name, values in figures.items():
            values.append(table[name]["macro"])
    return figures


def main() -> None:
    """Fit if asked, then measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of ODIR with labels.csv and images/")
    parser.add_argument("--out", type=Path, help="write newly fitted weights here")
    given = parser.parse_args()
    train, val = read_odir(given.data, "train"), read_odir(given.data, "val")
    if given.out:
        fit(train).write(given.out)
    shipped = Path(__file__).with_name("weights") / "classical.safetensors"
    projection = Projection.read(given.out or shipped)
    figures = {"val": precision(projection, train, val), "within_train": cross_validated(train)}
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
