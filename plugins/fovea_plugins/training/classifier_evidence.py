"""Measures the evidence on labelled photographs once, and keeps it.

`python -m fovea_plugins.training.classifier_evidence --data DIR` may be stopped and
started again: a photograph that was measured with the same weights is not measured again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import math
import tempfile
import time
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from fovea.contract import Context, Plugin, Result
from fovea.errors import FoveaError
from fovea.image import Photograph
from fovea.manifest import Manifest, read_manifest
from fovea_plugins.classifier.evidence import FEATURES, read_evidence
from fovea_plugins.training.classifier_data import Case, cache_folder, find_cases, read_photograph

log = logging.getLogger(__name__)

TOOLS = ("quality", "segmenter.optic_disc", "segmenter.lesions")
"""Packages of the tools whose results are evidence, in the order in which they need each other."""

Row = dict[str, float | None]


def tools() -> list[Plugin[Any]]:
    """The tools with their weights read."""
    loaded = []
    for name in TOOLS:
        manifest, folder = _manifest(name)
        module_name, _, class_name = manifest.entry.partition(":")
        module = import_module(f"fovea_plugins.{name}.{module_name}")
        plugin: Plugin[Any] = getattr(module, class_name)(manifest, folder)
        plugin.load("cpu")
        loaded.append(plugin)
    return loaded


def measured_with() -> str:
    """Digest of the tools' versions and weights and of the list of features."""
    parts = [feature.name for feature in FEATURES]
    for name in TOOLS:
        manifest, _ = _manifest(name)
        parts += [manifest.name, *(weights.sha256 for weights in manifest.weights)]
    return hashlib.sha256(";".join(parts).encode()).hexdigest()[:16]


def measure(plugins: Sequence[Plugin[Any]], photograph: Photograph) -> Row:
    """The features of one photograph; what a tool refuses to measure is None."""
    earlier = run_tools(plugins, photograph, work_dir=None)
    return read_evidence(earlier)


def run_tools(
    plugins: Sequence[Plugin[Any]], photograph: Photograph, *, work_dir: Path | None
) -> dict[str, Result]:
    """Results by output name, as the host would hand them to the classifier.

    Args:
        plugins: From `tools`.
        photograph: What to measure.
        work_dir: Where masks are written; None: nowhere that lasts.
    """
    earlier: dict[str, Result] = {}
    with tempfile.TemporaryDirectory(prefix="fovea-evidence-") as scratch:
        for plugin in plugins:
            context = Context((photograph,), work_dir or Path(scratch), earlier)
            needs = plugin.manifest.inputs
            if any(name not in earlier for name in needs.needs) or _barred(plugin, earlier):
                continue
            try:
                result = plugin.run(context, plugin.Args())
            except FoveaError as error:
                log.debug("%s: %s", plugin.manifest.name, error)
                continue
            for output in plugin.manifest.outputs:
                earlier.setdefault(output.name, result)
    return earlier


def _barred(plugin: Plugin[Any], earlier: dict[str, Result]) -> bool:
    """Whether the quality gate found a structure ungradable that the tool needs."""
    for structure in plugin.manifest.inputs.needs_gradable:
        result = earlier.get(f"gradable_{structure}")
        finding = result.finding(f"gradable_{structure}") if result else None
        if finding is not None and finding.state != "present":
            return True
    return False


def load_evidence(cases: Iterable[Case]) -> dict[str, Row]:
    """Kept evidence by the key of the case; cases that were not measured are left out."""
    kept = {}
    folder = _folder()
    for case in cases:
        path = folder / f"{case.dataset}__{case.name}.json"
        if path.exists():
            kept[case.key] = json.loads(path.read_text(encoding="utf-8"))
    return kept


def measure_all(cases: Sequence[Case], *, minutes: float | None = None) -> None:
    """Measures the cases that were not measured yet, until the time is used up."""
    folder, plugins, started = _folder(), tools(), time.monotonic()
    for number, case in enumerate(cases):
        path = folder / f"{case.dataset}__{case.name}.json"
        if path.exists():
            continue
        if minutes is not None and time.monotonic() - started > 60 * minutes:
            break
        row = measure(plugins, read_photograph(case.path))
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps(row), encoding="utf-8")
        unfinished.replace(path)
        if number % 20 == 0:
            log.info("%d of %d photographs measured", number + 1, len(cases))


def in_order(cases: Sequence[Case]) -> list[Case]:
    """Sets graded for oedema first (they are few), held-out photographs before others.

    Within that as if shuffled, so that a run that is stopped leaves a fair sample.
    """

    def place(case: Case) -> tuple[bool, bool, str]:
        graded = not any(math.isnan(value) for value in case.targets[4:6])
        key = hashlib.sha256(case.key.encode()).hexdigest()
        return not graded, graded and case.use == "train", key

    return sorted(cases, key=place)


def _folder() -> Path:
    folder = cache_folder() / f"evidence_{measured_with()}"
    folder.mkdir(exist_ok=True)
    return folder


def _manifest(name: str) -> tuple[Manifest, Path]:
    folder = Path(__file__).parents[1].joinpath(*name.split("."))
    return read_manifest(folder / "plugin.toml"), folder


def main() -> None:
    """Reads the arguments and measures."""
    parser = argparse.ArgumentParser(prog="python -m fovea_plugins.training.classifier_evidence")
    parser.add_argument("--data", type=Path, required=True, help="a data set, or a folder of them")
    parser.add_argument("--minutes", type=float, help="stop after this time")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    measure_all(in_order(find_cases(given.data)), minutes=given.minutes)


if __name__ == "__main__":
    main()
