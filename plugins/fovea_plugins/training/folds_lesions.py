"""`python -m fovea_plugins.training.folds_lesions --data DIR --out DIR`: lesions by folds.

Photographs are dealt to folds in the order of their table; the network of a fold
learns from the others and from healthy eyes. Together the networks are the
ensemble that is shipped. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import torch

from fovea_plugins.training import lesions
from fovea_plugins.training.trainer import Trainer

FOLDS = 3


def train_folds(root: Path, out: Path, *, minutes: float) -> list[Path]:
    """Trains the networks; each never sees every third photograph, from its own number on."""
    entries = lesions.find(root)
    everything = lesions.make(root)
    paths = []
    for fold in range(FOLDS):
        # The last weights are kept: a checkpoint chosen on the fold would flatter it.
        schedule = replace(lesions.SCHEDULE, minutes=minutes, first_validation=1.0, seed=fold)
        task = everything.without(entries[fold::FOLDS])
        trainer = Trainer(task, out / f"fold{fold}", schedule)
        trainer.resume()
        paths.append(trainer.weights if trainer.progress >= 1.0 else trainer.run())
    return paths


def main() -> None:
    """Reads the arguments; progress goes to stderr."""
    parser = argparse.ArgumentParser(prog="python -m fovea_plugins.training.folds_lesions")
    parser.add_argument("--data", type=Path, required=True, help="a data set, or a folder of them")
    parser.add_argument("--out", type=Path, required=True, help="weights are kept and reused here")
    parser.add_argument("--minutes", type=float, default=25.0, help="training time of each fold")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    train_folds(given.data, given.out, minutes=given.minutes)


if __name__ == "__main__":
    main()
