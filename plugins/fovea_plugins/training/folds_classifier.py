"""Leave one data set out: train on the others, measure on every photograph of the one.

`python -m fovea_plugins.training.folds_classifier --data DIR --out DIR --leave-out NAME`
says how the network holds on a camera and a population that it never saw.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from fovea.errors import ConfigError
from fovea_plugins.classifier.reading import ClassifierReader
from fovea_plugins.classifier.targets import TARGETS
from fovea_plugins.training import classifier_metrics as metrics
from fovea_plugins.training.classifier import SCHEDULE, ClassifierTask
from fovea_plugins.training.classifier_data import find_cases, targets_of
from fovea_plugins.training.classifier_ship import read_table
from fovea_plugins.training.trainer import Trainer


def leave_out(
    root: Path, out: Path, name: str, *, minutes: float, resume: bool
) -> dict[str, object]:
    """AUC of every target on a data set that was left out of training.

    Args:
        root: A folder of data sets.
        out: Folder for checkpoint and weights.
        name: The data set that is left out.
        minutes: Training time.
        resume: Go on from the checkpoint in `out`.

    Raises:
        ConfigError: there is no such data set, or no other one.
    """
    cases = find_cases(root)
    names = sorted({case.dataset for case in cases})
    if name not in names or len(names) < 2:
        raise ConfigError(
            f"`{name}` cannot be left out", where="--leave-out", fix=f"One of: {', '.join(names)}"
        )
    cases = [replace(c, use="left_out") if c.dataset == name else c for c in cases]
    trainer = Trainer(ClassifierTask(cases), out, replace(SCHEDULE, minutes=minutes))
    if resume:
        trainer.resume()
    weights = trainer.run()
    left = [case for case in cases if case.use == "left_out"]
    table = read_table(ClassifierReader.read(weights), left)
    groups = [case.group for case in left]
    found: dict[str, object] = {}
    learned = targets_of([case for case in cases if case.use == "train"])
    for column, target in enumerate(TARGETS):
        if np.isnan(learned[:, column]).all():
            continue
        picked = np.flatnonzero(~np.isnan(table.truth[:, column]))
        truth, score = table.truth[picked, column], table.logits[picked, column]
        value = metrics.auc(truth, score)
        if value is None:
            continue
        between = metrics.interval(
            [groups[i] for i in picked], lambda i, t=truth, s=score: metrics.auc(t[i], s[i])
        )
        found[target] = {"auc": value, "interval": between, "n": len(picked),
                         "positive": int(truth.sum())}  # fmt: skip
    return {"left_out": name, "step": trainer.done, "targets": found}


def main() -> None:
    """Reads the arguments; figures go to stdout as JSON."""
    parser = argparse.ArgumentParser(prog="python -m fovea_plugins.training.folds_classifier")
    parser.add_argument("--data", type=Path, required=True, help="a folder of data sets")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint and weights")
    parser.add_argument("--leave-out", required=True, help="data set that is not trained on")
    parser.add_argument("--minutes", type=float, default=45.0, help="training time")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    figures = leave_out(
        given.data, given.out, given.leave_out, minutes=given.minutes, resume=given.resume
    )
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
