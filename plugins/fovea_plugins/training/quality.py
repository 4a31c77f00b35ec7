"""The task `quality`: fits the two linear models of the gate on measured features.

Not a network: a few hundred photographs carry a few dozen numbers, no more. The grade
is a proportional-odds model (McCullagh 1980, J R Stat Soc B 42:109-142), the modality a
logistic one. Every weight has the sign that the meaning of its feature asks for, so a
worse picture never gets a better score; the penalty is chosen by cross-validation.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.errors import ImageError, UnreadableImage
from fovea.image import Photograph
from fovea_plugins.quality import grading, modality
from fovea_plugins.quality.examination import examine
from fovea_plugins.quality.fitted import Fitted, Linear, Ranges
from fovea_plugins.quality.network import LandmarkNetwork
from fovea_plugins.training import drawn
from fovea_plugins.training.copies import COPIES, copy_of
from fovea_plugins.training.data import Entry
from fovea_plugins.training.landmark_data import (
    drawn_photograph,
    fundus_entries,
    other_entries,
    row_of,
)
from fovea_plugins.training.measure_quality import evaluate, read_shipped, shipped_weights

__all__ = ["evaluate", "fit"]

NAME = "quality"
PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
FOLDS = 7
FIRST_DRAWN, DRAWN = 24, 12
"""The drawn pictures of each family: those before were for the network."""

MOST_PER_SET = 240
"""So many photographs of a data set without grades are looked at."""

UNGRADED_WEIGHT = 0.1
"""Weight of all photographs without a grade together, over that of all with one."""

WIDEST = (0.5, 99.5)
"""Percentiles of the training photographs between which an appearance is that of a retina."""

Matrix = NDArray[np.float64]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cases:
    """What a model is fitted on.

    Attributes:
        features: (N, K).
        lowest, highest: (N,) the ordered class of each case, from 0; where they differ, it
            is only known to lie between them.
        group: (N,) cases of one group are held out together.
        weight: (N,).
    """

    features: Matrix
    lowest: NDArray[np.int64]
    highest: NDArray[np.int64]
    group: NDArray[np.str_]
    weight: Matrix

    @property
    def exact(self) -> NDArray[np.bool_]:
        """Where the class is known."""
        return np.asarray(self.lowest == self.highest)

    def where(self, chosen: NDArray[np.bool_]) -> Cases:
        """The chosen cases only."""
        return Cases(
            self.features[chosen],
            self.lowest[chosen],
            self.highest[chosen],
            self.group[chosen],
            self.weight[chosen],
        )


@dataclass(frozen=True)
class Measured:
    """All that is measured in one picture; `usable` is False where there is nothing to see."""

    group: str
    usable: bool
    evidence: dict[str, float]
    appearance: dict[str, float | None]
    grade: dict[str, float]


def fit(root: Path, out: Path, *, seed: int = 0) -> Path:
    """Fits both models on the photographs below `root` that are for training.

    What a retina is not, the drawn pictures show, and those in a folder `NOT_FUNDUS`. Without
    graded photographs the shipped model of the grade is kept.

    Args:
        root: A data set, or a folder of data sets.
        out: Folder for the weights; made if missing.
        seed: Of the folds.

    Raises:
        UnreadableImage: there are no retinal photographs for training below `root`.
    """
    network = LandmarkNetwork.read(shipped_weights()[0])
    entries = _some_of_each(fundus_entries(root, "train"))
    if not entries:
        raise UnreadableImage(
            "There are no photographs to fit the gate on",
            where=root.name,
            why="No table names any for training (column `use`)",
            fix="Name the folder that holds the data sets",
        )
    plain, altered = [], []
    ways = list(COPIES)
    for index, entry in enumerate(entries):
        photograph = entry.photograph()
        group = f"{entry.dataset}/{row_of(entry).get('patient', entry.name)}"
        plain.append(measure(photograph, network, group))
        altered.append(measure(copy_of(photograph, ways[index % len(ways)]), network, group))
    others = [measure(one, network, group) for group, one in _unseen_others(root, network)]
    facts: dict[str, Any] = {
        "task": NAME,
        "trained_on": sorted(f"{e.dataset}/{e.name}" for e in entries),
    }
    fundus, appearance, facts["fundus"] = fit_fundus([*plain, *altered], others, seed)
    bounds = [grade_bounds(entry) for entry in entries]
    if any(known and known[0] == known[1] for known in bounds):
        grade, facts["grade"] = fit_grade(plain, bounds, seed)
    else:
        grade = read_shipped(None)[1].grade
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{NAME}.safetensors"
    Fitted(fundus, appearance, grade).write(path, facts)
    return path


def measure(photograph: Photograph, network: LandmarkNetwork, group: str) -> Measured:
    """Everything that either model looks at."""
    examined = examine(photograph, network)
    usable = bool(examined.lines.inner.any())
    evidence = modality.measure_evidence(examined)
    grade = {}
    if usable:
        seen = grading.measure_visibility(examined.view, examined.lines)
        grade = grading.grade_features(examined, seen)
    return Measured(group, usable, evidence, modality.measure_appearance(examined), grade)


def grade_bounds(entry: Entry) -> tuple[int, int] | None:
    """Lowest and highest grade that a photograph may have, as an index; None: not known.

    In a data set without grades experts labelled something else in every photograph: it is
    usable at least.
    """
    row = row_of(entry)
    if "eyeq_quality" not in row:
        return (1, 2)
    if not row["eyeq_quality"]:
        return None
    grade = grading.GRADES.index(row["eyeq_quality"])
    return (grade, grade)


def _unseen_others(root: Path, network: LandmarkNetwork) -> list[tuple[str, Photograph]]:
    """Pictures of anything else, on which the network was not trained: it is surer of those.

    Each with its group: drawn pictures of one family are alike.
    """
    seen = set(network.facts.get("others", ()))
    photographs: list[tuple[str, Photograph]] = []
    for entry in other_entries(root, "train"):
        if entry.name in seen:
            continue
        try:
            photographs.append((entry.name, entry.photograph()))
        except ImageError as error:
            log.info("left out: %s (%s)", entry.name, error.what)
    numbers = range(FIRST_DRAWN, FIRST_DRAWN + DRAWN)
    return photographs + [(f, drawn_photograph(f, n)) for n in numbers for f in drawn.FAMILIES]


def fit_grade(
    photographs: Sequence[Measured], bounds: Sequence[tuple[int, int] | None], seed: int
) -> tuple[Linear, dict[str, Any]]:
    """The model of the three grades; `bounds` are those of `grade_bounds`."""
    known = [(one, b) for one, b in zip(photographs, bounds, strict=True) if b and one.usable]
    lowest, highest = (np.array([b[end] for _, b in known]) for end in (0, 1))
    exact = lowest == highest
    count = int(exact.sum())
    weight = np.where(exact, 1.0, UNGRADED_WEIGHT * count / max(1, len(known) - count))
    names = grading.GRADE_FEATURES
    cases = Cases(
        np.array([[one.grade[name] for name in names] for one, _ in known]),
        lowest,
        highest,
        np.array([one.group for one, _ in known]),
        weight,
    )
    signs = np.ones(len(names))
    penalty, figures = choose_penalty(cases, signs, seed)
    model = fit_ordinal(cases, names, signs, penalty)
    counts = {"graded": count, "not_graded": len(known) - count, "penalty": penalty}
    return model, {**counts, **figures}


def fit_fundus(
    retinas: Sequence[Measured], others: Sequence[Measured], seed: int
) -> tuple[Linear, Ranges, dict[str, Any]]:
    """The model that tells retinas from pictures of anything else, and what retinas look like."""
    ranges = widest([one.appearance for one in retinas])
    # What has no area to look at is refused without the model.
    usable = [(one, 1) for one in retinas if one.usable]
    usable += [(one, 0) for one in others if one.usable]
    names = modality.FUNDUS_FEATURES
    rows = [modality.with_appearance(one.evidence, one.appearance, ranges) for one, _ in usable]
    fundus = np.array([known for _, known in usable])
    share = np.array([np.mean(fundus == 0), np.mean(fundus == 1)])
    cases = Cases(
        np.array([[row[name] for name in names] for row in rows]),
        fundus,
        fundus,
        np.array([one.group for one, _ in usable]),
        0.5 / share[fundus],
    )
    signs = np.array([-1.0 if name.startswith("beyond") else 1.0 for name in names])
    penalty, figures = choose_penalty(cases, signs, seed)
    model = fit_ordinal(cases, names, signs, penalty)
    counts = {"retinas": len(retinas), "others": len(others), "penalty": penalty}
    return model, ranges, {**counts, **figures}


def widest(appearances: Sequence[dict[str, float | None]]) -> Ranges:
    """The range of each property over the training photographs."""
    low, high = [], []
    for name in modality.APPEARANCE:
        values = [one[name] for one in appearances if one[name] is not None]
        ends = np.percentile(np.array(values, np.float64), WIDEST)
        low.append(ends[0])
        high.append(max(ends[1], ends[0] + 1e-6))
    return Ranges(modality.APPEARANCE, np.array(low), np.array(high))


def fit_ordinal(cases: Cases, names: tuple[str, ...], signs: Matrix, penalty: float) -> Linear:
    """The proportional-odds model of least penalised loss, its weights of the given signs.

    Features are centred on the best class: what a feature adds is then what it lacks.
    """
    from scipy.optimize import minimize

    levels = int(cases.highest.max())
    best = cases.features[cases.lowest == levels]
    mean, scale = best.mean(axis=0), cases.features[cases.exact].std(axis=0) + 1e-3
    values = (cases.features - mean) / scale * signs
    share = cases.weight / cases.weight.sum()

    def loss(parameters: Matrix) -> float:
        weight, first, steps = np.split(parameters, [len(names), len(names) + 1])
        cuts = first + np.concatenate([[0.0], np.cumsum(np.exp(steps))])
        own = _chance_of(_above(values @ weight, cuts), cases)
        return float(-(share * np.log(np.maximum(own, 1e-12))).sum() + penalty * weight @ weight)

    start = np.concatenate([np.full(len(names), 0.3), [-1.0], np.zeros(levels - 1)])
    bounds = [(0.0, None)] * len(names) + [(None, None)] * levels
    found = minimize(loss, start, method="L-BFGS-B", bounds=bounds).x
    weight, first, steps = np.split(found, [len(names), len(names) + 1])
    cuts = first + np.concatenate([[0.0], np.cumsum(np.exp(steps))])
    return Linear(names, mean, scale, weight * signs, cuts)


def choose_penalty(cases: Cases, signs: Matrix, seed: int) -> tuple[float, dict[str, Any]]:
    """The penalty of least loss on held-out groups, and how the model did on them."""
    groups = np.random.default_rng(seed).permutation(np.unique(cases.group))
    names = tuple(str(index) for index in range(cases.features.shape[1]))
    losses, right = [], []
    for penalty in PENALTIES:
        loss, hits = 0.0, 0.0
        for held in np.array_split(groups, FOLDS):
            out = np.isin(cases.group, held)
            rest = cases.where(~out)
            model, left = fit_ordinal(rest, names, signs, penalty), cases.where(out)
            above = _above_cuts(model, left.features)
            own = _chance_of(above, left)
            loss -= float((left.weight * np.log(np.maximum(own, 1e-12))).sum())
            said = _between(above).argmax(axis=1)
            hits += float((said == left.lowest)[left.exact].sum())
        losses.append(loss / cases.weight.sum())
        right.append(hits / cases.exact.sum())
    best = int(np.argmin(losses))
    log.info("penalties %s: losses %s, accuracies %s", PENALTIES, losses, right)
    return PENALTIES[best], {"held_out_loss": losses[best], "held_out_accuracy": right[best]}


def chances(model: Linear, features: Matrix) -> Matrix:
    """Probability of each class (N, C) by features (N, K)."""
    return _between(_above_cuts(model, features))


def _above_cuts(model: Linear, features: Matrix) -> Matrix:
    return _above((features - model.mean) / model.scale @ model.weight, model.cuts)


def _chance_of(above: Matrix, cases: Cases) -> Matrix:
    """Probability of what is known of each case, by `_above`."""
    each = np.arange(len(above))
    return np.asarray(above[each, cases.lowest] - above[each, cases.highest + 1])


def _above(total: Matrix, cuts: Matrix) -> Matrix:
    """Probability to lie above each cut (N, C + 1), between a column of ones and one of zeros."""
    odds = 1.0 / (1.0 + np.exp(np.clip(cuts[None, :] - total[:, None], -40.0, 40.0)))
    ends = np.ones((len(total), 1))
    return np.concatenate([ends, odds, 0.0 * ends], axis=1)


def _between(above: Matrix) -> Matrix:
    return np.asarray(above[:, :-1] - above[:, 1:])


def _some_of_each(entries: Sequence[Entry]) -> list[Entry]:
    """All graded photographs, and some of each data set without grades."""
    chosen: list[Entry] = []
    for name in sorted({entry.dataset for entry in entries}):
        of_set = [entry for entry in entries if entry.dataset == name]
        graded = "eyeq_quality" in row_of(of_set[0])
        chosen += of_set if graded else of_set[:: max(1, -(-len(of_set) // MOST_PER_SET))]
    return chosen
