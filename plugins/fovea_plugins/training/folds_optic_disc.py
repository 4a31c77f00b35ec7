"""`python -m fovea_plugins.training.folds_optic_disc --data DIR --out DIR`: disc and cup by folds.

Photographs with an outlined cup are dealt to folds in the order of their table.
Each fold is judged by weights trained on the others and on all photographs
without an outlined cup. Together the networks of the folds are the ensemble that is
shipped. With `--cross`, sets without cups are judged by weights trained on the sets
with cups only. Weights that are complete in `--out` are not trained again.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import torch

from fovea_plugins.segmenter.optic_disc.network import DiscNetwork
from fovea_plugins.training import optic_disc
from fovea_plugins.training.data import Entry
from fovea_plugins.training.measure_optic_disc import SOFT_KINDS, judge_all, per_set
from fovea_plugins.training.trainer import Trainer


def by_folds(root: Path, out: Path, *, folds: int, steps: int) -> dict[str, Any]:
    """Figures of every photograph with an outlined cup, each by weights that never saw it."""
    with_cup, without = _two_kinds(root)
    rows = []
    for fold in range(folds):
        held = with_cup[fold::folds]
        train = [entry for entry in with_cup if entry not in held] + without
        network = _trained(train, out / f"fold{fold}", steps)
        rows += judge_all((network, entry) for entry in held)
    return per_set(rows)


def across_sets(root: Path, out: Path, *, steps: int) -> dict[str, Any]:
    """Figures of the sets without cups by weights that saw only the sets with cups."""
    with_cup, without = _two_kinds(root)
    network = _trained(with_cup, out / "cross", steps)
    return per_set(judge_all((network, entry) for entry in without))


def _two_kinds(root: Path) -> tuple[list[Entry], list[Entry]]:
    entries = optic_disc.find(root)
    with_cup = [entry for entry in entries if entry.label(SOFT_KINDS[1]) is not None]
    return with_cup, [entry for entry in entries if entry not in with_cup]


def _trained(train: list[Entry], out: Path, steps: int) -> DiscNetwork:
    path = out / f"{optic_disc.NAME}.safetensors"
    if not path.exists():  # a run writes its weights when it is complete
        task = optic_disc.OpticDiscTask(train)
        path = Trainer(task, out, replace(optic_disc.SCHEDULE, steps=steps)).run()
    return DiscNetwork.read([path])


def main() -> None:
    """Reads the arguments; progress goes to stderr, figures as JSON to stdout."""
    parser = argparse.ArgumentParser(prog="python -m fovea_plugins.training.folds_optic_disc")
    parser.add_argument("--data", type=Path, required=True, help="a data set, or a folder of them")
    parser.add_argument("--out", type=Path, required=True, help="weights are kept and reused here")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=optic_disc.SCHEDULE.steps)
    parser.add_argument("--cross", action="store_true", help="judge the sets without cups")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    if given.cross:
        figures = across_sets(given.data, given.out, steps=given.steps)
    else:
        figures = by_folds(given.data, given.out, folds=given.folds, steps=given.steps)
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
