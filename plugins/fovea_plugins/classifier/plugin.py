"""The tool `classify_disease`: grade of diabetic retinopathy, and other conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from fovea.contract import (
    Caveat,
    Context,
    Finding,
    Interval,
    Measurement,
    NotMeasured,
    Plugin,
    Result,
)
from fovea.errors import PluginUnavailable
from fovea_plugins.classifier.conditions import CONDITIONS, Condition
from fovea_plugins.classifier.evidence import read_evidence
from fovea_plugins.classifier.judge import Judge, Judged, Target, is_measured, median_grade
from fovea_plugins.classifier.targets import GRADES, REFERABLE

if TYPE_CHECKING:
    from fovea_plugins.classifier.reading import ClassifierReader

METHOD = "network and measured evidence, joined by logistic regression on held-out photographs"
LEAST, MOST = 0.01, 0.99
"""Some 400 photographs of the calibration part cannot tell a rarer error from none: no
probability beyond these is stated."""

DISAGREEMENT = 0.35
"""Opinions further apart than this are called contradictory: a third of the scale."""

LIKELY = 0.5
"""Below it a condition is never called present, whatever the operating point."""

PROBABILITIES = (
    "referable_dr_probability",
    "referable_dr_network_probability",
    "referable_dr_evidence_probability",
)


class GradeArgs(BaseModel):
    """What may be chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    operating_point: Literal["high_sensitivity", "balanced", "high_specificity"] = Field(
        "balanced",
        description="Where a probability becomes `present`: miss few, balanced, few false alarms.",
    )


class ClassifyDisease(Plugin[GradeArgs]):
    """Judges a photograph by a network and by what other tools measured in it."""

    Args = GradeArgs

    _reader: ClassifierReader | None = None

    def load(self, device: str) -> None:
        """Read the network; it runs on the processor whatever the device."""
        from fovea_plugins.classifier.reading import ClassifierReader

        self._reader = ClassifierReader.read(self.folder / self.manifest.weights[0].file)

    def unload(self) -> None:
        """Forget the network."""
        self._reader = None

    def run(self, context: Context, args: GradeArgs) -> Result:
        """Grade, probabilities and conditions; nothing but a reason where it is ungradable."""
        if self._reader is None:
            raise PluginUnavailable(
                self.manifest.name,
                "The network is not loaded",
                why="`load` was not called",
                fix="Call the plugin through the registry",
            )
        evidence = read_evidence(context.earlier)
        reading = self._reader.on_photograph(context.image)
        judge = self._reader.judge
        judged = judge.judge(reading.logits.tolist(), evidence)
        barred = barred_structures(context)
        findings = tuple(
            _finding(one, judged[one.target], judge.targets[one.target], args, barred)
            for one in CONDITIONS
        )
        gradable = "macula" not in barred
        unlike = reading.distance > judge.ood_limit
        caveats = _caveats(context, judged, unlike=unlike, measured=is_measured(evidence))
        measurements, missing = _numbers(judge, judged, barred)
        return Result(
            summary=_summary(judge, judged, findings, args) if gradable else _refusal(barred),
            findings=findings,
            measurements=measurements,
            not_measured=missing,
            caveats=caveats,
        )


def barred_structures(context: Context) -> dict[str, str]:
    """Structures that the quality gate found ungradable, with its reason."""
    found: dict[str, str] = {}
    for structure in ("disc", "macula", "vessels"):
        result = context.earlier.get(f"gradable_{structure}")
        finding = result.finding(f"gradable_{structure}") if result else None
        if finding is not None and finding.state in ("absent", "not_assessable"):
            found[structure] = finding.detail or "the quality gate says so"
    result = context.earlier.get("quality")
    quality = result.finding("quality") if result else None
    if quality is not None and quality.value == "reject":
        reason = quality.detail or "the quality gate rejects the photograph"
        for structure in ("disc", "macula", "vessels", "all"):
            found.setdefault(structure, reason)
    return found


def stated(probability: float) -> float:
    """A probability as it is told: rounded, and never nearer to 0 or 1 than the data allow."""
    return round(min(max(probability, LEAST), MOST), 4)


def _finding(
    condition: Condition, judged: Judged, target: Target, args: GradeArgs, barred: dict[str, str]
) -> Finding:
    reason = barred.get(condition.structure or "all")
    if reason and not condition.survives_reject:
        part = f"the {condition.structure}" if condition.structure else "the photograph"
        detail = f"{part} is not gradable: {reason}"[:300]
        return Finding(concept=condition.concept, state="not_assessable", detail=detail)
    cut = target.thresholds[args.operating_point]
    low, high = target.doubtful
    both = low <= judged.probability <= high
    reached = judged.probability >= cut
    # Rare conditions have low cuts: to reach one calls for a look, not for a claim.
    likely = judged.probability >= LIKELY
    state: Literal["present", "absent", "indeterminate"] = (
        "indeterminate" if both or reached != likely else "present" if likely else "absent"
    )
    point = args.operating_point.replace("_", " ")
    doubt = ", and the prediction set holds both answers" if both else ""
    said = "reaches" if reached else "stays under"
    return Finding(
        concept=condition.concept,
        state=state,
        probability=stated(judged.probability),
        calibrated=True,
        threshold=round(cut, 4),
        detail=f"it {said} the {point} operating point{doubt}",
    )


def _numbers(
    judge: Judge, judged: dict[str, Judged], barred: dict[str, str]
) -> tuple[tuple[Measurement, ...], tuple[NotMeasured, ...]]:
    reason = barred.get("macula")
    if reason:
        text = f"The photograph is not gradable: {reason}"
        return (), tuple(NotMeasured(name=n, reason=text) for n in ("dr_grade", *PROBABILITIES))
    grades = judge.grade_set(judged)
    grade = median_grade([judged[name].probability for name in GRADES])
    kept = (min(*grades, grade), max(*grades, grade))
    how = "split conformal prediction set, calibrated on held-out photographs"
    one = judged[REFERABLE]
    measurements = [
        Measurement(
            name="dr_grade", value=float(grade), unit="1",
            method=f"highest grade reached with a probability of one half; {METHOD}",
            interval=Interval(low=kept[0], high=kept[1], level=judge.coverage, how=how),
        ),
        _probability(PROBABILITIES[0], one.probability, METHOD),
        _probability(PROBABILITIES[1], one.network, "image network alone, calibrated"),
    ]  # fmt: skip
    if one.evidence is None:
        why = "Neither lesions nor the disc were measured, so there is no second opinion"
        return tuple(measurements), (NotMeasured(name=PROBABILITIES[2], reason=why),)
    how = "logistic regression on counts, areas and ratios that other tools measured"
    measurements.append(_probability(PROBABILITIES[2], one.evidence, how))
    return tuple(measurements), ()


def _probability(name: str, value: float, method: str) -> Measurement:
    return Measurement(name=name, value=stated(value), unit="1", method=method)


def _caveats(
    context: Context, judged: dict[str, Judged], *, unlike: bool, measured: bool
) -> tuple[Caveat, ...]:
    caveats = [
        Caveat(
            code="probability_of_the_sets",
            text="Probabilities hold for photographs like those of the training sets, where "
            "disease is far more frequent than in screening.",
        )
    ]
    for name, words in ((REFERABLE, "referable retinopathy"), ("dme_2", "macular oedema")):
        one = judged[name]
        if one.evidence is not None and abs(one.network - one.evidence) > DISAGREEMENT:
            text = (
                f"The two opinions on {words} contradict each other: network {one.network:.2f}, "
                f"measured evidence {one.evidence:.2f}. Have a person look."
            )
            caveats.append(Caveat(code="opinions_disagree", text=text))
    if not measured:
        text = "Lesions and disc were not measured: there is only the network's opinion."
        caveats.append(Caveat(code="one_opinion", text=text))
    if unlike:
        text = "The photograph is unlike those that the network learned from: do not rely on it."
        caveats.append(Caveat(code="unlike_training", text=text))
    if context.image.grey:
        text = "The picture is grey; the network was made for colour photographs."
        caveats.append(Caveat(code="grey_picture", text=text))
    return tuple(caveats)


def _summary(
    judge: Judge, judged: dict[str, Judged], findings: tuple[Finding, ...], args: GradeArgs
) -> str:
    grades = judge.grade_set(judged)
    grade = median_grade([judged[name].probability for name in GRADES])
    one = judged[REFERABLE]
    second = "none" if one.evidence is None else f"{stated(one.evidence):.2f}"
    point = judge.targets[REFERABLE].thresholds[args.operating_point]
    text = (
        f"ICDR grade {grade} ({judge.coverage:.0%} prediction set {grades[0]} to {grades[-1]}). "
        f"Probability of referable retinopathy {stated(one.probability):.2f} "
        f"(network {stated(one.network):.2f}, evidence {second}), "
        f"{args.operating_point.replace('_', ' ')} operating point {point:.2f}."
    )
    present = [f.concept.replace("_", " ") for f in findings if f.state == "present"]
    return f"{text} Present: {', '.join(present) or 'nothing beyond doubt'}."[:400]


def _refusal(barred: dict[str, str]) -> str:
    return f"No grade: the photograph is not gradable ({barred['macula']})."[:400]
