"""The tool `explain_prediction`: where the answer comes from, and how far to trust that."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fovea.contract import (
    Artifact,
    Caveat,
    Context,
    Finding,
    Measurement,
    NotMeasured,
    Plugin,
    Result,
)
from fovea.errors import NotApplicable, PluginUnavailable
from fovea_plugins.classifier.conditions import CONDITIONS
from fovea_plugins.classifier.evidence import FEATURES, Row, read_evidence
from fovea_plugins.classifier.judge import Judged, is_measured
from fovea_plugins.classifier.plugin import barred_structures, stated
from fovea_plugins.classifier.targets import TARGETS

if TYPE_CHECKING:
    from fovea_plugins.classifier.reading import ClassifierReader
    from fovea_plugins.explainer.maps import Trust
    from fovea_plugins.explainer.removal import Removal

MASKS = {
    "microaneurysm": "microaneurysms",
    "haemorrhage": "haemorrhages",
    "hard_exudate": "hard_exudates",
    "soft_exudate": "soft_exudates",
}
ALL, ELSEWHERE = "all_lesions", "elsewhere"
RANDOM_LIMIT = 0.5
"""A map that agrees more with those of random networks shows the picture, not what was learned."""

SHAKY = 1.0
"""A map that changes by more than its own size under unnoticeable noise says nothing."""

Concept = Literal[
    "referable_dr", "dr", "dme", "glaucoma", "media_opacity", "amd", "hypertensive_retinopathy",
    "pathologic_myopia", "normal_fundus",
]  # fmt: skip


class WhyArgs(BaseModel):
    """What may be chosen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    condition: Concept = Field(
        "referable_dr", description="The condition whose probability is explained."
    )


@dataclass(frozen=True)
class _Asked:
    """One question, with the answer that is explained."""

    condition: str
    target: str
    judged: Judged
    evidence: Row


class ExplainPrediction(Plugin[WhyArgs]):
    """Explains one probability of `classify_disease`, and tests the explanation."""

    Args = WhyArgs

    _reader: ClassifierReader | None = None

    def load(self, device: str) -> None:
        """Read the network of `classify_disease`; it runs on the processor."""
        from fovea_plugins.classifier.shipped import shipped_reader

        self._reader = shipped_reader(self.manifest.name)

    def unload(self) -> None:
        """Forget the network."""
        self._reader = None

    def run(self, context: Context, args: WhyArgs) -> Result:
        """Map, removals, contributions and figures of trust for one probability.

        Raises:
            NotApplicable: the photograph is not gradable for it, so there is no answer.
        """
        if self._reader is None:
            raise PluginUnavailable(
                self.manifest.name,
                "The network is not loaded",
                why="`load` was not called",
                fix="Call the plugin through the registry",
            )
        from fovea_plugins.explainer.maps import as_picture, saliency, trust
        from fovea_plugins.explainer.removal import Remover, heat

        asked = self._asked(context, args, self._reader)
        target = TARGETS.index(asked.target)
        remover = Remover(self._reader, context.image, asked.evidence, asked.target)
        context.progress("Where the network looks")
        pictures, style = self._reader.tensors(remover.pixels, remover.inside)
        network = self._reader.network
        found = saliency(network, pictures[:1], style[:1], target)
        drawn = heat(as_picture(found, self._reader.input_px), remover.inside)
        context.progress("Whether the map can be trusted")
        figures = trust(network, pictures[:1], style[:1], target, context.rng)
        context.progress("What the answer would be without the lesions")
        removals = _removals(remover, context)
        contributions = self._contributions(asked)
        return _result(
            asked,
            context,
            removals,
            contributions,
            figures,
            (_overlay(context, drawn), _table(context, contributions, removals)),
        )

    def _asked(self, context: Context, args: WhyArgs, reader: ClassifierReader) -> _Asked:
        condition = next(one for one in CONDITIONS if one.concept == args.condition)
        barred = barred_structures(context)
        reason = barred.get(condition.structure or "all")
        if reason and not condition.survives_reject:
            raise NotApplicable(
                self.manifest.name,
                f"There is no answer about {condition.words} to explain",
                where=context.image.handle,
                why=reason,
                fix="Retake the photograph",
            )
        evidence = read_evidence(context.earlier)
        logits = reader.on_photograph(context.image).logits.tolist()
        judged = reader.judge.judge(logits, evidence)[condition.target]
        return _Asked(condition.concept, condition.target, judged, evidence)

    def _contributions(self, asked: _Asked) -> dict[str, float]:
        """Log-odds that each measured feature adds to the joint answer."""
        assert self._reader is not None  # noqa: S101  (checked by run)
        target = self._reader.judge.targets[asked.target]
        if target.opinion is None or target.both is None or not is_measured(asked.evidence):
            return {}
        share = target.both.evidence
        found = target.opinion.contributions(asked.evidence)
        return {name: share * value for name, value in found.items()}


def _removals(remover: object, context: Context) -> dict[str, Removal]:
    from fovea_plugins.explainer.removal import Removal, Remover

    assert isinstance(remover, Remover)  # noqa: S101
    found: dict[str, Removal] = {}
    every = np.zeros(remover.inside.shape, bool)
    for kind, name in MASKS.items():
        mask = context.mask(name)
        if mask is None:
            continue
        seen = remover.in_view(mask)
        if not seen.any():
            continue
        found[kind] = remover.without(seen, (kind,))
        every |= seen
    if found:
        found[ALL] = remover.without(every, tuple(found))
        others = remover.elsewhere(every, context.rng)
        if others:
            found[ELSEWHERE] = Removal(
                float(np.mean([one.probability for one in others])),
                float(np.mean([one.network for one in others])),
                float(np.mean([one.share for one in others])),
            )
    return found


def _result(
    asked: _Asked,
    context: Context,
    removals: dict[str, Removal],
    contributions: dict[str, float],
    figures: Trust,
    artifacts: tuple[Artifact, ...],
) -> Result:
    before = asked.judged
    doubts = _doubts(before, removals, figures)
    measurements = [
        _number(
            "explained_probability", stated(before.probability), "the answer that is explained"
        ),
        _number("infidelity", figures.infidelity, "normalised infidelity, Yeh 2019"),
        _number("map_sensitivity", figures.sensitivity, "largest relative change, Yeh 2019"),
        _number(
            "randomised_agreement",
            figures.randomised_agreement,
            "mean absolute rank correlation with maps of three random networks, Adebayo 2018",
        ),
    ]
    missing = []
    how = "probability after painting over from the surroundings and taking out of the evidence"
    for kind, removal in removals.items():
        measurements.append(
            _number("probability_without", stated(removal.probability), how, zone=kind)
        )
    if not removals:
        reason = "No lesion was outlined in the photograph, so none could be removed"
        missing.append(NotMeasured(name="probability_without", reason=reason))
    for name, value in contributions.items():
        how = "weight times standardised value in the second stage, log-odds"
        measurements.append(_number("concept_contribution", value, how, zone=name))
    if not contributions:
        reason = "The second stage has no measured evidence for this condition"
        missing.append(NotMeasured(name="concept_contribution", reason=reason))
    earlier = context.earlier.get("similar_cases")
    return Result(
        summary=_summary(asked, removals, contributions, trusted=not doubts),
        findings=(
            Finding(
                concept="trustworthy_explanation",
                state="absent" if doubts else "present",
                detail=(doubts[0].text if doubts else "every test of it was passed")[:300],
            ),
        ),
        measurements=tuple(measurements),
        not_measured=tuple(missing),
        artifacts=artifacts,
        caveats=(
            *doubts,
            Caveat(
                code="explains_the_model",
                text="Map and removals show what moves this model, not what causes disease.",
            ),
        ),
        similar=earlier.similar if earlier else (),
    )


def _number(name: str, value: float, method: str, *, zone: str | None = None) -> Measurement:
    return Measurement(name=name, value=round(value, 4), unit="1", method=method, zone=zone)


def _doubts(before: Judged, removals: dict[str, Removal], figures: Trust) -> list[Caveat]:
    found = []
    if figures.randomised_agreement > RANDOM_LIMIT:
        text = "The map looks like those of networks with random weights: it shows the picture."
        found.append(Caveat(code="map_not_learned", text=text))
    if figures.sensitivity > SHAKY:
        text = "The map changes with noise that nobody would notice: do not rely on it."
        found.append(Caveat(code="map_unstable", text=text))
    if ALL in removals and ELSEWHERE in removals:
        own = abs(before.network - removals[ALL].network)
        other = abs(before.network - removals[ELSEWHERE].network)
        if own <= other:
            text = (
                "To the network the measured lesions matter no more than equal areas elsewhere: "
                "its answer comes from something that was not measured."
            )
            found.append(Caveat(code="lesions_do_not_explain", text=text))
    return found


def _overlay(context: Context, drawn: NDArray[np.uint8]) -> Artifact:
    """The map in the frame of the original photograph."""
    image, size = context.image, drawn.shape[0]
    step = 2.0 * image.field_circle.radius / size
    # view = (original - centre) / step + (size - 1) / 2, as `square_view` centres it
    middle = (size - 1) / 2
    matrix = np.array(
        [
            [1 / step, 0.0, middle - image.field_circle.x / step],
            [0.0, 1 / step, middle - image.field_circle.y / step],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    large = cv2.warpAffine(drawn, matrix, (image.width, image.height), flags=flags)
    large[~image.field_of_view] = 0
    return context.save_picture("saliency", np.asarray(large), "heatmap")


def _table(
    context: Context, contributions: dict[str, float], removals: dict[str, Removal]
) -> Artifact:
    path = context.work_dir / "explanation.csv"
    words = {feature.name: feature.words for feature in FEATURES}
    with path.open("w", newline="", encoding="utf-8") as lines:
        writer = csv.writer(lines)
        writer.writerow(["kind", "what", "value", "unit"])
        for name, value in sorted(contributions.items(), key=lambda item: -abs(item[1])):
            writer.writerow(["contribution", words[name], round(value, 4), "log-odds"])
        for kind, removal in removals.items():
            row = [
                "probability_without",
                kind.replace("_", " "),
                stated(removal.probability),
                "1",
            ]
            writer.writerow(row)
            row = ["share_of_field", kind.replace("_", " "), round(100 * removal.share, 3), "%"]
            writer.writerow(row)
    return Artifact(name="explanation", kind="table", path=path, media_type="text/csv")


def _summary(
    asked: _Asked, removals: dict[str, Removal], contributions: dict[str, float], *, trusted: bool
) -> str:
    named = next(one.words for one in CONDITIONS if one.concept == asked.condition)
    text = f"Probability of {named}: {stated(asked.judged.probability):.2f}."
    kinds = [kind for kind in removals if kind in MASKS]
    if kinds:
        most = max(kinds, key=lambda k: asked.judged.probability - removals[k].probability)
        text += (
            f" Without the {MASKS[most].replace('_', ' ')} it would be "
            f"{stated(removals[most].probability):.2f}, without any outlined lesion "
            f"{stated(removals[ALL].probability):.2f}"
        )
        text += (
            "; with equal areas elsewhere painted over "
            f"{stated(removals[ELSEWHERE].probability):.2f}."
            if ELSEWHERE in removals
            else "."
        )
    if contributions:
        name = max(contributions, key=lambda n: abs(contributions[n]))
        words = next(feature.words for feature in FEATURES if feature.name == name)
        text += f" Of the measured evidence the {words} counts most."
    return f"{text} The explanation {'passed its tests' if trusted else 'is not trustworthy'}."[
        :400
    ]
