"""The classifier on photographs of a clinic and a camera that none of its labels came from.

`python -m fovea_plugins.training.measure_unseen --data HRF` reads a folder with `images` and
`labels.csv` (`id`, `group`: healthy, diabetic_retinopathy, glaucoma), runs the tools and both
opinions as a session would, and prints how they rank the groups.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fovea.errors import UnreadableImage
from fovea_plugins.classifier.evidence import read_evidence
from fovea_plugins.classifier.judge import Judged
from fovea_plugins.classifier.reading import ClassifierReader
from fovea_plugins.training import classifier_metrics as metrics
from fovea_plugins.training.classifier_data import read_photograph
from fovea_plugins.training.classifier_evidence import run_tools, tools
from fovea_plugins.training.data import IMAGE_SUFFIXES
from fovea_plugins.training.measure_classifier import shipped_weights

log = logging.getLogger(__name__)

HEALTHY, RETINOPATHY, GLAUCOMA = "healthy", "diabetic_retinopathy", "glaucoma"
QUESTIONS = (
    # target of the classifier, group that has it, groups that have not
    ("dr_2", RETINOPATHY, (HEALTHY,)),
    ("dr_2", RETINOPATHY, (HEALTHY, GLAUCOMA)),
    ("G", GLAUCOMA, (HEALTHY,)),
    ("G", GLAUCOMA, (HEALTHY, RETINOPATHY)),
    ("N", HEALTHY, (RETINOPATHY, GLAUCOMA)),
)


def evaluate(root: Path) -> list[dict[str, Any]]:
    """How network, evidence and both rank the groups, with 95 % bootstrap intervals.

    Args:
        root: Folder of the data set; each photograph is one person.

    Raises:
        UnreadableImage: there is no table of groups.
    """
    table = root / "labels.csv"
    if not table.is_file():
        raise UnreadableImage(
            "There is no table of groups", where=root.name, why="`labels.csv` is missing",
            fix="Name a folder with `images` and `labels.csv` (columns `id`, `group`)",
        )  # fmt: skip
    with table.open(newline="", encoding="utf-8") as lines:
        groups = {row["id"]: row["group"] for row in csv.DictReader(lines)}
    reader, plugins = ClassifierReader.read(shipped_weights()), tools()
    judged: dict[str, dict[str, Judged]] = {}
    for name in groups:
        paths = (root / "images" / f"{name}{suffix}" for suffix in IMAGE_SUFFIXES)
        photograph = read_photograph(next(path for path in paths if path.is_file()))
        evidence = read_evidence(run_tools(plugins, photograph, work_dir=None))
        logits = reader.on_photograph(photograph).logits.tolist()
        judged[name] = reader.judge.judge(logits, evidence)
        log.info("%s (%d of %d)", name, len(judged), len(groups))
    rows = []
    for target, group, others in QUESTIONS:
        names = [name for name, own in groups.items() if own in (group, *others)]
        truth = np.array([groups[name] == group for name in names], float)
        row: dict[str, Any] = {"target": target, "group": group, "against": others}
        for opinion in ("network", "evidence", "probability"):
            score = np.array([getattr(judged[n][target], opinion) for n in names], float)
            row[opinion] = _ranked(names, truth, score)
        rows.append(row)
    return rows


def _ranked(names: list[str], truth: Any, score: Any) -> dict[str, Any] | None:
    known = np.flatnonzero(~np.isnan(score))
    value = metrics.auc(truth[known], score[known])
    if value is None:
        return None
    between = metrics.interval(
        [names[int(i)] for i in known], lambda i: metrics.auc(truth[known[i]], score[known[i]])
    )
    return {"auc": value, "interval": between, "n": len(known)}


def main() -> None:
    """Reads the arguments; figures go to stdout as JSON."""
    parser = argparse.ArgumentParser(prog="python -m fovea_plugins.training.measure_unseen")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data set")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    sys.stdout.write(json.dumps(evaluate(given.data), indent=1) + "\n")


if __name__ == "__main__":
    main()
