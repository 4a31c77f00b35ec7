"""`python -m fovea_plugins.training.ship_lesions --data DIR --folds DIR`: put lesion weights in.

Copies the networks of the folds into the plugin, writes their digests into its
manifest, and prints the table for `operating_points.py`: cuts chosen on the
photographs that each network did not learn from, and on eyes without retinopathy, in
which few lesions may be counted and in few eyes any called present.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fovea.errors import UnreadableImage
from fovea_plugins.segmenter.lesions.operating_points import POINTS
from fovea_plugins.segmenter.lesions.reading import KINDS, LEAST_AREA, Floats
from fovea_plugins.training import lesions, measure_lesions
from fovea_plugins.training.measure_lesions import Judged, Members, compare

log = logging.getLogger(__name__)

OUTLINES = np.arange(0.15, 0.81, 0.05)
STEPS = np.arange(0.15, 0.985, 0.01)

SPECIFICITY = 0.95
"""Share of eyes without retinopathy in which a kind must not be called present."""

QUIET = 0.75
"""Share of eyes without retinopathy in which at most one lesion of a kind may be counted."""

MARGIN = 0.001
"""By how much a cut lies above the probability that must not reach it."""

Maps = tuple[Floats, Floats]
"""Probabilities and marked lesions of one photograph, (kinds, h, w) each, in the view."""


def ship(folds: Path, plugin: Path) -> list[Path]:
    """Copies the weights of all folds that are trained, and rewrites the manifest for them.

    Args:
        folds: Where `folds_lesions` wrote them.
        plugin: Folder of the plugin.

    Returns:
        The files in the plugin.
    """
    manifest = plugin / "plugin.toml"
    before, _, rest = manifest.read_text(encoding="utf-8").partition("[[weights]]")
    licence = re.search(r'(?m)^licence = ".*"$', rest)
    trained = sorted(folds.glob("fold*/lesions.safetensors"))
    if licence is None or not trained:
        raise UnreadableImage(
            "There is nothing to ship", where=folds.name, fix="Run `folds_lesions` first"
        )
    (plugin / "weights").mkdir(exist_ok=True)
    for stale in (plugin / "weights").glob("lesions_*.safetensors"):
        stale.unlink()
    files, blocks = [], []
    for number, source in enumerate(trained):
        file = plugin / "weights" / f"lesions_{number}.safetensors"
        shutil.copyfile(source, file)
        content = file.read_bytes()
        files.append(file)
        blocks.append(
            f'[[weights]]\nfile = "weights/{file.name}"\n'
            f'sha256 = "{hashlib.sha256(content).hexdigest()}"\n'
            f"bytes = {len(content)}\n{licence[0]}\n\n"
        )
    text = before + "".join(blocks) + rest[rest.index("[inputs]") :]
    manifest.write_text(text, encoding="utf-8")
    return files


def read_labelled(root: Path, members: Members) -> list[Maps]:
    """Every labelled photograph as the network that did not learn from it reads it."""
    found = []
    for entry in lesions.find(root):
        reader = members.unseen(entry)
        if reader is None:
            continue
        photograph = entry.photograph()
        maps, frame = reader.maps(photograph)
        sample = lesions.LesionTask.sample(entry, 1.0)
        marked = np.stack([_fitted(one, maps.shape[1:]) for one in sample.target])
        found.append((maps.astype(np.float32), (marked > 127).astype(np.float32)))
        log.info("%s, %d x %d", entry.name, frame.width, frame.height)
    return found


def _fitted(label: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return cv2.resize(label, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)


def read_healthy(root: Path, members: Members) -> list[Floats]:
    """The ensemble on training photographs of IDRiD grading without retinopathy."""
    found = []
    for entry in measure_lesions.grade_zero(root / "IDRiD_grading", use="train"):
        found.append(members.ensemble.maps(entry.photograph())[0])
        log.info("%s", entry.name)
    return found


def choose(kind: str, labelled: Sequence[Maps], healthy: Sequence[Floats]) -> str:
    """The line of one kind for the table of operating points."""
    index, least = KINDS.index(kind), LEAST_AREA * lesions.LesionTask.field_diameter_px**2
    best: tuple[float, float, float, list[Judged]] = (-1.0, 0.0, 0.0, [])
    for outline in OUTLINES:
        judged = [
            compare(maps[index], marked[index] > 0, float(outline), least_px=least)
            for maps, marked in labelled
        ]
        overlap = pixel_dice(labelled, index, float(outline))
        floor = max(float(outline), quiet(healthy, index, float(outline), least))
        for cut in STEPS[floor <= STEPS]:
            score = lesion_dice(judged, float(cut)) + overlap
            if score > best[0]:
                best = (score, float(outline), float(cut), judged)
    _, outline, counted, judged = best
    lenient = (outline + counted) / 2
    strict = max(specific(healthy, index, outline, least), counted)
    marked = sum(one.marked for one in judged)
    eyes = [one for one in judged if one.marked]
    cuts = f"Cuts({outline:.2f}, {lenient:.2f}, {counted:.2f}, {strict:.3f})"
    found = sum(one.found(counted) for one in judged) / max(marked, 1)
    false = float(np.mean([one.false(counted) for one in judged]))
    caught = sum(one.count(counted) > 0 for one in eyes)
    smallest = POINTS[kind].smallest_field_px
    return (
        f'    "{kind}": OperatingPoint(\n        {cuts}, {found:.2f}, {false:.1f}, {caught}, '
        f"{len(eyes)}, {smallest}\n    ),"
    )


def lesion_dice(judged: Sequence[Judged], cut: float) -> float:
    """F1 of lesions over all photographs: marked ones found, and spots that hit."""
    marked = sum(one.marked for one in judged)
    counted = sum(one.count(cut) for one in judged)
    if not marked or not counted:
        return 0.0
    recall = sum(one.found(cut) for one in judged) / marked
    precision = 1.0 - sum(one.false(cut) for one in judged) / counted
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def pixel_dice(labelled: Sequence[Maps], index: int, cut: float) -> float:
    """Dice of pixels over all photographs together."""
    both = either = 0.0
    for maps, marked in labelled:
        found, truth = maps[index] >= cut, marked[index] > 0
        both += float((found & truth).sum())
        either += float(found.sum() + truth.sum())
    return 2 * both / either if either else 0.0


def quiet(healthy: Sequence[Floats], index: int, outline: float, least: float) -> float:
    """The lowest cut that at most one spot reaches in `QUIET` of the eyes.

    A share of the eyes, not a mean: a few eyes full of drusen would decide the mean.
    """
    scores = [np.sort(_scores(maps[index], outline, least)) for maps in healthy]
    second = [float(one[-2]) if len(one) > 1 else 0.0 for one in scores]
    return float(np.quantile(second, QUIET)) + MARGIN if second else 0.0


def _scores(maps: Floats, outline: float, least: float) -> NDArray[np.float64]:
    """The highest probability of each spot of a photograph without lesions."""
    nothing = np.zeros(maps.shape, bool)
    return np.array(compare(maps, nothing, outline, least_px=least).scores, np.float64)


def specific(healthy: Sequence[Floats], index: int, outline: float, least: float) -> float:
    """The lowest cut that no spot reaches in `SPECIFICITY` of the eyes."""
    highest = [_scores(maps[index], outline, least).max(initial=0.0) for maps in healthy]
    return float(np.quantile(highest, SPECIFICITY)) + MARGIN if highest else 0.0


def table(labelled: Sequence[Maps], healthy: Sequence[Floats]) -> Mapping[str, str]:
    """The line of every kind."""
    return {kind: choose(kind, labelled, healthy) for kind in KINDS}


def main() -> None:
    """Reads the arguments; progress goes to stderr, the table to stdout."""
    parser = argparse.ArgumentParser(prog="python -m fovea_plugins.training.ship_lesions")
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets")
    parser.add_argument("--folds", type=Path, help="where `folds_lesions` wrote its weights")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if given.folds is not None:
        ship(given.folds, measure_lesions.shipped_weights()[0].parents[1])
    members = Members.read(measure_lesions.shipped_weights())
    found = table(read_labelled(given.data, members), read_healthy(given.data, members))
    sys.stdout.write("\n".join(found.values()) + "\n")


if __name__ == "__main__":
    main()
