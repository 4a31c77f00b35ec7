"""Leave one data set out: train on the others, measure on every photograph of the one.

`python -m fovea_plugins.training.folds_classifier --data DIR --out DIR --leave-out NAME`
says how the network holds on a camera and a population that it never saw.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fovea.errors import ConfigError
from fovea_plugins.classifier.reading import ClassifierReader
from fovea_plugins.classifier.targets import TARGETS
from fovea_plugins.training import classifier_metrics as metrics
from fovea_plugins.training.classifier import SCHEDULE, ClassifierTask
from fovea_plugins.training.classifier_data import Case, find_cases
from fovea_plugins.training.classifier_ship import judge_of, read_table, spread_of
from fovea_plugins.training.trainer import Trainer


def leave_out(root: Path, out: Path, name: str, *, minutes: float, resume: bool) -> dict[str, Any]:
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
    return {"left_out": name, "step": trainer.done, "targets": measured(weights, cases)}


def measured(weights: Path, cases: Sequence[Case]) -> dict[str, Any]:
    """AUC of network, evidence and both on the photographs that were left out.

    The second stage is fitted on the others. Evidence is what was kept of it: run
    `python -m fovea_plugins.training.classifier_evidence` before.

    Args:
        weights: Of a network that did not learn from the photographs left out.
        cases: Of `use` "left_out", and those for training and calibration.
    """
    reader = ClassifierReader.read(weights)
    others = [case for case in cases if case.use in ("train", "calibration")]
    learned = read_table(reader, others)
    judge = judge_of(learned, spread_of(learned.pooled[learned.use("train")]))
    left = [case for case in cases if case.use == "left_out"]
    table = read_table(reader, left)
    judged = [judge.judge(z.tolist(), e) for z, e in zip(table.logits, table.evidence, strict=True)]
    found: dict[str, Any] = {}
    for column, target in enumerate(TARGETS):
        if np.isnan(learned.truth[:, column]).all():
            continue
        opinions = {
            "network": [one[target].network for one in judged],
            "evidence": [one[target].evidence for one in judged],
            "both": [
                one[target].probability if one[target].evidence is not None else None
                for one in judged
            ],
        }
        truth = table.truth[:, column]
        of_target = {
            name: _figure(left, truth, np.array(values, float)) for name, values in opinions.items()
        }
        found[target] = {name: figure for name, figure in of_target.items() if figure}
    return found


def _figure(
    left: Sequence[Case], truth: NDArray[np.float64], score: NDArray[np.float64]
) -> dict[str, Any] | None:
    """AUC with interval where both are known; None where that cannot be had."""
    picked = np.flatnonzero(~np.isnan(truth) & ~np.isnan(score))
    value = metrics.auc(truth[picked], score[picked])
    if value is None:
        return None
    groups = [left[int(i)].group for i in picked]
    between = metrics.interval(groups, lambda i: metrics.auc(truth[picked[i]], score[picked[i]]))
    return {"auc": value, "interval": between, "n": len(picked),
            "positive": int(truth[picked].sum())}  # fmt: skip


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
