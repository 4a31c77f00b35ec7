"""How far explanations hold: removal of lesions against equal areas elsewhere, and the tests.

`python -m fovea_plugins.training.measure_explainer --data DIR --most 30` explains the
referable photographs of the validation part whose probability is one half or more.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fovea.contract import Context
from fovea.errors import NotApplicable
from fovea.manifest import read_manifest
from fovea_plugins.classifier.targets import REFERABLE, TARGETS
from fovea_plugins.explainer.plugin import ALL, ELSEWHERE, ExplainPrediction, WhyArgs
from fovea_plugins.training import classifier_metrics as metrics
from fovea_plugins.training.classifier_data import find_cases, read_photograph
from fovea_plugins.training.classifier_evidence import run_tools, tools

Figures = dict[str, Any]


def measure(root: Path, *, most: int) -> Figures:
    """Means over photographs, with 95 % bootstrap intervals over them.

    Args:
        root: A data set, or a folder of data sets.
        most: Photographs at most.
    """
    folder = Path(__file__).parents[1] / "explainer"
    plugin = ExplainPrediction(read_manifest(folder / "plugin.toml"), folder)
    plugin.load("cpu")
    first = TARGETS.index(REFERABLE)
    cases = [c for c in find_cases(root) if c.use == "val" and c.targets[first] == 1.0]
    loaded, rows = tools(), []
    for case in cases[:most]:
        with tempfile.TemporaryDirectory(prefix="fovea-explain-") as scratch:
            work, photograph = Path(scratch), read_photograph(case.path)
            context = Context((photograph,), work, run_tools(loaded, photograph, work_dir=work))
            try:
                result = plugin.run(context, WhyArgs())
            except NotApplicable:  # not gradable, so there is no answer to explain
                continue
        found = {(m.name, m.zone): m.value for m in result.measurements}
        before = found["explained_probability", None]
        without = found.get(("probability_without", ALL))
        elsewhere = found.get(("probability_without", ELSEWHERE))
        if before < 0.5 or without is None or elsewhere is None:
            continue
        rows.append(
            {
                "fall_without_lesions": before - without,
                "fall_elsewhere": before - elsewhere,
                "randomised_agreement": found["randomised_agreement", None],
                "map_sensitivity": found["map_sensitivity", None],
                "infidelity": found["infidelity", None],
                "trustworthy": float(not any(c.code.startswith("map_") for c in result.caveats)),
            }
        )
    if not rows:
        return {"n": 0}
    figures: Figures = {"n": len(rows)}
    names = [str(i) for i in range(len(rows))]
    for name in rows[0]:
        values = np.array([row[name] for row in rows])
        figures[name] = {
            "mean": round(float(values.mean()), 4),
            "interval": metrics.interval(names, partial(_mean_of, values)),
        }
    larger = [abs(row["fall_without_lesions"]) > abs(row["fall_elsewhere"]) for row in rows]
    figures["lesions_matter_more_in"] = round(float(np.mean(larger)), 4)
    return figures


def _mean_of(values: NDArray[Any], picked: NDArray[Any]) -> float:
    return float(values[picked].mean())


def main() -> None:
    """Reads the arguments; figures go to stdout as JSON."""
    parser = argparse.ArgumentParser(prog="python -m fovea_plugins.training.measure_explainer")
    parser.add_argument("--data", type=Path, required=True, help="a data set, or a folder of them")
    parser.add_argument("--most", type=int, default=30, help="photographs at most")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    sys.stdout.write(json.dumps(measure(given.data, most=given.most), indent=1) + "\n")


if __name__ == "__main__":
    main()
