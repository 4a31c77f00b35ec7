"""After training: measures evidence, fits the second stage, writes it into the weight file."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from fovea_plugins.classifier.judge import Evidence, Judge, to_json
from fovea_plugins.classifier.picture import square_view
from fovea_plugins.classifier.reading import OOD, ClassifierReader
from fovea_plugins.classifier.targets import TARGETS
from fovea_plugins.training.classifier_data import (
    Case,
    find_cases,
    read_photograph,
    targets_of,
)
from fovea_plugins.training.classifier_evidence import load_evidence, measured_with
from fovea_plugins.training.classifier_fit import fit_judge
from fovea_plugins.training.trainer import read_facts, write_weights

log = logging.getLogger(__name__)

LEAST_SPREAD = 0.02
"""A feature that hardly varies among the training photographs is no sign of strangeness."""


@dataclass(frozen=True)
class Table:
    """Labelled photographs with everything that the second stage reads.

    Attributes:
        cases: N photographs.
        truth: (N, 14), NaN where unknown.
        logits: (N, 14) of the network.
        pooled: (N, F), the pooled features.
        evidence: N rows, empty where nothing was measured.
    """

    cases: tuple[Case, ...]
    truth: NDArray[np.float64]
    logits: NDArray[np.float64]
    pooled: NDArray[np.float64]
    evidence: tuple[Evidence, ...]

    def use(self, *names: str) -> NDArray[np.bool_]:
        """(N,) whether the case is used for one of these."""
        return np.array([case.use in names for case in self.cases])

    def part(self, keep: NDArray[np.bool_]) -> Table:
        """The cases at which (N,) is true."""
        index: list[int] = np.flatnonzero(keep).tolist()
        return Table(
            tuple(self.cases[i] for i in index),
            self.truth[index],
            self.logits[index],
            self.pooled[index],
            tuple(self.evidence[i] for i in index),
        )


def read_table(reader: ClassifierReader, cases: Sequence[Case]) -> Table:
    """Runs the network on every case, as the plugin would."""
    rows = load_evidence(cases)
    logits, pooled = [], []
    for number, case in enumerate(cases):
        view = square_view(read_photograph(case.path), reader.input_px)
        one = reader.answer(*reader.tensors(*view))
        logits.append(one[0])
        pooled.append(one[1])
        if number % 200 == 0:
            log.info("%d of %d photographs read", number, len(cases))
    return Table(
        tuple(cases),
        targets_of(cases).astype(np.float64),
        np.array(logits, np.float64).reshape(-1, len(TARGETS)),
        np.array(pooled, np.float64).reshape(len(cases), -1),
        tuple(rows.get(case.key, {}) for case in cases),
    )


def spread_of(
    pooled: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation (F,) of the pooled features."""
    spread = np.maximum(pooled.std(axis=0), LEAST_SPREAD)
    return pooled.mean(axis=0).astype(np.float32), spread.astype(np.float32)


def distances(
    pooled: NDArray[np.float64], spread: tuple[NDArray[Any], NDArray[Any]]
) -> NDArray[np.float64]:
    """(N,) root mean squares of the standardised features."""
    found: NDArray[np.float64] = np.sqrt(np.mean(((pooled - spread[0]) / spread[1]) ** 2, axis=1))
    return found


def judge_of(table: Table, spread: tuple[NDArray[Any], NDArray[Any]]) -> Judge:
    """The second stage fitted on the table."""
    return fit_judge(
        truth=table.truth,
        logits=table.logits,
        evidence=table.evidence,
        train=table.use("train"),
        calibration=table.use("calibration"),
        distances=distances(table.pooled, spread),
        datasets=[case.dataset for case in table.cases],
    )


def finish(root: Path, weights: Path) -> None:
    """Adds the second stage and the spread of the training photographs to the weight file."""
    cases = [case for case in find_cases(root) if case.use in ("train", "calibration")]
    table = read_table(ClassifierReader.read(weights), cases)
    spread = spread_of(table.pooled[table.use("train")])
    judge = judge_of(table, spread)
    tensors = {k: v for k, v in load_file(weights).items() if k not in OOD}
    tensors |= {name: torch.from_numpy(one) for name, one in zip(OOD, spread, strict=True)}
    facts = read_facts(weights)
    facts["judge"] = to_json(judge)
    facts["evidence"] = {
        "measured_with": measured_with(),
        "cases": int(sum(1 for row in table.evidence if row)),
    }
    write_weights(tensors, weights, json.loads(json.dumps(facts)))
