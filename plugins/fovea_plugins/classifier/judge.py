"""The second stage: plain numbers that turn two opinions into one calibrated probability.

Everything here is a handful of coefficients in the weight file, fitted on photographs
that the network did not learn from; nothing is hidden in code.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea_plugins.classifier.evidence import FEATURES
from fovea_plugins.classifier.targets import GRADES, TARGETS

Evidence = Mapping[str, float | None]
POINTS = ("high_sensitivity", "balanced", "high_specificity")


@dataclass(frozen=True)
class Opinion:
    """Logistic regression on the measured evidence, in standardised units.

    Attributes:
        mean, spread: Of each feature in the training set, in the order of `FEATURES`;
            the mean also stands for what was not measured.
        weights: Change of the log-odds per standard deviation.
        bias: Log-odds at the mean.
    """

    mean: tuple[float, ...]
    spread: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    def contributions(self, evidence: Evidence) -> dict[str, float]:
        """What each measured feature adds to the log-odds, against its mean."""
        found = {}
        for index, feature in enumerate(FEATURES):
            value = evidence.get(feature.name)
            if value is not None:
                standard = (value - self.mean[index]) / self.spread[index]
                found[feature.name] = self.weights[index] * max(-4.0, min(4.0, standard))
        return found

    def logit(self, evidence: Evidence) -> float:
        """Log-odds from the evidence."""
        return self.bias + sum(self.contributions(evidence).values())


@dataclass(frozen=True)
class Line:
    """`offset + network * a + evidence * b`: a calibrated log-odds from one or two opinions."""

    offset: float
    network: float
    evidence: float = 0.0

    def logit(self, network: float, evidence: float = 0.0) -> float:
        """The calibrated log-odds."""
        return self.offset + self.network * network + self.evidence * evidence


@dataclass(frozen=True)
class Target:
    """How one target is judged.

    Attributes:
        alone: For photographs without evidence.
        both: With evidence; None where too few were measured to fit it.
        opinion: The opinion on the evidence; None with `both`.
        thresholds: Probability from which it is called present, by operating point.
        doubtful: Probabilities between these two leave both answers in the prediction
            set at the nominal coverage.
        cases, positive: How many photographs this was fitted on.
    """

    alone: Line
    both: Line | None
    opinion: Opinion | None
    thresholds: Mapping[str, float]
    doubtful: tuple[float, float]
    cases: int
    positive: int


@dataclass(frozen=True)
class Judged:
    """Both opinions on one target and what they come to.

    Attributes:
        probability: Calibrated.
        network: Calibrated probability by the network alone.
        evidence: Probability by the measured evidence alone; None without any.
    """

    probability: float
    network: float
    evidence: float | None


@dataclass(frozen=True)
class Judge:
    """All targets, and the prediction sets of the grade.

    Attributes:
        targets: By name, in the order of `TARGETS`.
        grade_limit: A grade belongs to the prediction set if its probability reaches this.
        coverage: Nominal coverage of all prediction sets.
        ood_limit: Distance from the training photographs beyond which one is unlike them.
    """

    targets: Mapping[str, Target]
    grade_limit: float
    coverage: float
    ood_limit: float

    def judge(self, logits: Sequence[float], evidence: Evidence) -> dict[str, Judged]:
        """Every target; cumulative grades never rise.

        Args:
            logits: Of the network, in the order of `TARGETS`.
            evidence: From `read_evidence`; an empty mapping without any.
        """
        found: dict[str, Judged] = {}
        for index, name in enumerate(TARGETS):
            found[name] = self._one(self.targets[name], float(logits[index]), evidence)
        for names in (GRADES, ("dme_1", "dme_2")):
            for milder, graver in itertools.pairwise(names):
                low, high = found[graver], found[milder]
                kept = min(low.probability, high.probability)
                found[graver] = Judged(kept, low.network, low.evidence)
        return found

    @staticmethod
    def _one(target: Target, logit: float, evidence: Evidence) -> Judged:
        alone = sigmoid(target.alone.logit(logit))
        if target.both is None or target.opinion is None or not is_measured(evidence):
            return Judged(alone, alone, None)
        second = target.opinion.logit(evidence)
        return Judged(sigmoid(target.both.logit(logit, second)), alone, sigmoid(second))

    def grade_set(self, judged: Mapping[str, Judged]) -> tuple[int, ...]:
        """Grades in the prediction set; never empty, and without gaps."""
        scores = set_scores([judged[name].probability for name in GRADES])
        kept = [k for k, score in enumerate(scores) if score >= self.grade_limit]
        return tuple(kept) or (int(np.argmax(scores)),)


def grade_chances(at_least: Sequence[float]) -> NDArray[np.float64]:
    """Probability of each grade 0 to 4 from those of reaching 1 to 4."""
    bounds = np.concatenate([[1.0], np.minimum.accumulate(np.asarray(at_least, float)), [0.0]])
    return -np.diff(bounds)


def set_scores(at_least: Sequence[float]) -> NDArray[np.float64]:
    """Up to which limit each grade stays in the prediction set.

    A grade also belongs to the set when it lies between two that do: it is as likely as
    the likeliest on its milder side or on its graver side, whichever is less.
    """
    chances = grade_chances(at_least)
    milder = np.maximum.accumulate(chances)
    graver = np.maximum.accumulate(chances[::-1])[::-1]
    return np.minimum(milder, graver)


def median_grade(at_least: Sequence[float]) -> int:
    """The highest grade that is reached with a probability of one half or more."""
    return int((np.minimum.accumulate(np.asarray(at_least, float)) >= 0.5).sum())


def is_measured(evidence: Evidence) -> bool:
    """Whether lesions or the disc were measured: the quality score alone is no evidence."""
    return any(value is not None for name, value in evidence.items() if name != "quality")


def sigmoid(logit: float) -> float:
    """Probability of a log-odds."""
    kept = max(-30.0, min(30.0, logit))
    return 1.0 / (1.0 + math.exp(-kept))


def to_json(judge: Judge) -> dict[str, Any]:
    """Plain numbers for the weight file."""
    return asdict(judge)


def from_json(stored: Mapping[str, Any]) -> Judge:
    """The judge in a weight file."""
    targets = {}
    for name, one in stored["targets"].items():
        opinion, both = one["opinion"], one["both"]
        targets[name] = Target(
            alone=Line(**one["alone"]),
            both=Line(**both) if both else None,
            opinion=Opinion(
                tuple(opinion["mean"]),
                tuple(opinion["spread"]),
                tuple(opinion["weights"]),
                opinion["bias"],
            )
            if opinion
            else None,
            thresholds=dict(one["thresholds"]),
            doubtful=(one["doubtful"][0], one["doubtful"][1]),
            cases=one["cases"],
            positive=one["positive"],
        )
    return Judge(targets, stored["grade_limit"], stored["coverage"], stored["ood_limit"])
