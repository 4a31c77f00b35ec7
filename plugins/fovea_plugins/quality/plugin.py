"""The tool `assess_quality`: is it a retinal photograph, and what can be judged on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fovea.contract import (
    Caveat,
    Context,
    Finding,
    Interval,
    Measurement,
    NoArgs,
    NotMeasured,
    Plugin,
    Result,
)
from fovea.errors import PluginUnavailable
from fovea.image import Photograph, View
from fovea_plugins.quality import grading
from fovea_plugins.quality.examination import examine
from fovea_plugins.quality.fitted import Fitted
from fovea_plugins.quality.landmarks import Disc, Fovea
from fovea_plugins.quality.modality import (
    APPEARANCE,
    FUNDUS_FEATURES,
    Modality,
    judge_modality,
)
from fovea_plugins.quality.orientation import TURNED, UPSIDE_DOWN, infer_eye, infer_field

if TYPE_CHECKING:
    from fovea_plugins.quality.network import LandmarkNetwork

POINTS = ("disc_x", "disc_y", "fovea_x", "fovea_y")
STRUCTURES = ("disc", "macula", "vessels")
FEATURES = {
    "fundus": FUNDUS_FEATURES,
    "appearance": APPEARANCE,
    "grade": grading.GRADE_FEATURES,
}
"""The features that the fitted models need, in their order."""

TYPICAL_ERROR_PX = {"disc": 7.0, "fovea": 15.0, "fovea_by_distance": 40.0}
"""Errors in pixels of the view that 90 of 100 IDRiD photographs stay below, see MODEL_CARD.md."""


class AssessQuality(Plugin[NoArgs]):
    """Judges modality, quality, landmarks, eye and field of one picture."""

    Args = NoArgs

    _models: tuple[LandmarkNetwork, Fitted] | None = None

    def load(self, device: str) -> None:
        """Reads the landmark network and the fitted models."""
        from fovea_plugins.quality.network import LandmarkNetwork

        network, fitted = (self.folder / weights.file for weights in self.manifest.weights)
        self._models = LandmarkNetwork.read(network), Fitted.read(fitted, FEATURES)

    def unload(self) -> None:
        """Frees the models."""
        self._models = None

    def run(self, context: Context, args: NoArgs) -> Result:
        """The verdict on any opened picture; a non-fundus is a finding, not an error."""
        if self._models is None:
            raise PluginUnavailable(self.manifest.name, "The weights were not read before the run")
        network, fitted = self._models
        context.progress("Looking for optic disc, fovea and vessels")
        examined = examine(context.image, network)
        modality = judge_modality(examined, fitted.fundus, fitted.appearance)
        if not modality.fundus:
            return _not_judged(modality)
        view, disc, fovea = examined.view, examined.disc, examined.fovea
        visibility = grading.measure_visibility(view, examined.lines)
        quality = grading.grade_quality(grading.grade_features(examined, visibility), fitted.grade)
        gradable = {
            "disc": grading.grade_disc(view, examined.lines, disc),
            "macula": grading.grade_macula(view, examined.lines, fovea),
            "vessels": grading.grade_vessels(visibility),
        }
        eye = infer_eye(view, disc, fovea)
        field = infer_field(context.image, view, disc, fovea)
        measured, missing = _points(view, disc, fovea)
        score = Measurement(
            name="quality_score",
            value=round(quality.score, 4),
            unit="1",
            method="mean grade by an ordinal logistic model: 0 reject, 0.5 usable, 1 good",
        )
        findings = (
            Finding(
                concept="fundus_photograph",
                state="present",
                detail=modality.reason,
                probability=round(modality.probability, 4),
            ),
            Finding(
                concept="quality",
                state="present",
                value=quality.grade,
                probability=round(quality.probability, 4),
                detail=f"{visibility.reason[:1].upper()}{visibility.reason[1:]}.",
            ),
            *(
                Finding(concept=f"gradable_{name}", state=item.state, detail=item.reason)
                for name, item in gradable.items()
            ),
            eye,
            field,
        )
        return Result(
            summary=_summary(quality, gradable, eye, field),
            findings=findings,
            measurements=(score, *measured),
            not_measured=missing,
            caveats=_caveats(context.image, eye, fovea),
        )


def _not_judged(modality: Modality) -> Result:
    """Nothing is judged: it is no retinal photograph, or shows nothing that could tell."""
    blank = modality.state == "indeterminate"
    said = "Not gradable." if blank else "Not a retinal photograph."
    why = "Nothing can be seen in it." if blank else "The picture is not a retinal photograph."
    rest = (*(f"gradable_{name}" for name in STRUCTURES), "eye", "field")
    quality = Finding(concept="quality", state="not_assessable", detail=why)
    if blank:
        quality = Finding(concept="quality", state="present", value="reject", detail=why)
    return Result(
        summary=f"{said} {modality.reason}",
        findings=(
            Finding(
                concept="fundus_photograph",
                state=modality.state,
                detail=modality.reason,
                probability=round(modality.probability, 4),
            ),
            quality,
            *(Finding(concept=name, state="not_assessable", detail=why) for name in rest),
        ),
        not_measured=tuple(
            NotMeasured(name=name, reason=why) for name in ("quality_score", *POINTS)
        ),
    )


def _points(
    view: View, disc: Disc | None, fovea: Fovea | None
) -> tuple[tuple[Measurement, ...], tuple[NotMeasured, ...]]:
    measured: list[Measurement] = []
    missing: list[NotMeasured] = []
    if disc:
        how = "peak of the disc map of the landmark network"
        measured += _point("disc", view, np.array([disc.x, disc.y]), how, "disc")
    else:
        missing += [
            NotMeasured(name=name, reason="No optic disc was found in the field.")
            for name in ("disc_x", "disc_y")
        ]
    if fovea:
        place = np.array([fovea.x, fovea.y])
        if fovea.seen:
            how = "peak of the fovea map of the landmark network"
            measured += _point("fovea", view, place, how, "fovea")
        else:
            how = "usual distance and angle from the disc; no fovea was seen"
            measured += _point("fovea", view, place, how, "fovea_by_distance")
    else:
        reason = (
            "The expected place of the fovea is outside the field."
            if disc
            else "Its place is sought from the optic disc, which was not found."
        )
        missing += [NotMeasured(name=name, reason=reason) for name in ("fovea_x", "fovea_y")]
    return tuple(measured), tuple(missing)


def _point(name: str, view: View, point: np.ndarray, how: str, error_key: str) -> list[Measurement]:
    x, y = view.frame.to_original(point)
    reach = TYPICAL_ERROR_PX[error_key] * view.frame.step
    return [
        Measurement(
            name=f"{name}_{axis}",
            value=round(float(value), 1),
            unit="px",
            method=how,
            interval=Interval(
                low=max(0.0, float(value) - reach),
                high=float(value) + reach,
                level=0.9,
                how="error on labelled IDRiD photographs, scaled to this field",
            ),
        )
        for axis, value in (("x", x), ("y", y))
    ]


def _caveats(image: Photograph, eye: Finding, fovea: Fovea | None) -> tuple[Caveat, ...]:
    caveats = []
    if image.eye and eye.value and image.eye != eye.value:
        source = {"person": "the person", "dicom": "the file"}.get(image.eye_source or "", "record")
        text = f"By {source} this is {image.eye}, but disc and fovea lie as in {eye.value}."
        caveats.append(Caveat(code="eye_conflict", text=text))
    for code, what in (("maybe_turned", TURNED), ("maybe_upside_down", UPSIDE_DOWN)):
        if what in eye.detail:
            caveats.append(Caveat(code=code, text=eye.detail))
    if fovea and not fovea.seen:
        text = "No dark fovea was seen; its place is estimated from the optic disc."
        caveats.append(Caveat(code="fovea_estimated", text=text))
    if image.grey:
        text = "The picture is grey; the limits were set on colour photographs."
        caveats.append(Caveat(code="grey_picture", text=text))
    return tuple(caveats)


def _summary(
    quality: grading.Quality,
    gradable: dict[str, grading.Gradable],
    eye: Finding,
    field: Finding,
) -> str:
    good = [name for name, item in gradable.items() if item.state == "present"]
    bad = [f"{name} ({item.reason})" for name, item in gradable.items() if name not in good]
    text = f"Retinal photograph, quality {quality.grade} ({quality.score:.2f} of 1), "
    text += f"eye {eye.value or 'not inferable'}, field {field.value or 'unknown'}. "
    text += f"Gradable: {', '.join(good) or 'nothing'}."
    if bad:
        text += f" Not gradable: {' '.join(bad)}"
    return text[:400]
