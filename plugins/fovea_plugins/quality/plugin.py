"""The tool `assess_quality`: is it a retinal photograph, and what can be judged on it."""

from __future__ import annotations

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
from fovea.image import Photograph, View
from fovea_plugins.quality import grading, landmarks
from fovea_plugins.quality.landmarks import Disc, Fovea
from fovea_plugins.quality.lines import FIELD_DIAMETER_PX, line_maps
from fovea_plugins.quality.modality import judge_modality

POINTS = ("disc_x", "disc_y", "fovea_x", "fovea_y")
STRUCTURES = ("disc", "macula", "vessels")
UPSIDE_DOWN_BELOW_DEG = -2.0
CENTRED_WITHIN_PX = 70.0
TYPICAL_ERROR_PX = {"disc": 7.0, "fovea": 15.0, "fovea_by_distance": 40.0}
"""Errors in pixels of the view that 90 of 100 IDRiD photographs stay below, see MODEL_CARD.md."""


class AssessQuality(Plugin[NoArgs]):
    """Judges modality, quality, landmarks, eye and field of one picture."""

    Args = NoArgs

    def run(self, context: Context, args: NoArgs) -> Result:
        """The verdict on any opened picture; a non-fundus is a finding, not an error."""
        image = context.image
        view = image.view(FIELD_DIAMETER_PX)
        lines = line_maps(view)
        context.progress("Looking for optic disc and vessels")
        disc = landmarks.find_disc(view, lines)
        modality = judge_modality(image, view, lines=lines, disc=disc)
        if not modality.fundus:
            return _not_a_fundus(modality.reason)
        if disc is not None and not disc.found:
            disc = None
        fovea = landmarks.find_fovea(view, lines, disc) if disc else None
        visibility = grading.measure_visibility(view, lines)
        gradable = {
            "disc": grading.grade_disc(view, lines, disc),
            "macula": grading.grade_macula(view, lines, fovea),
            "vessels": grading.grade_vessels(visibility),
        }
        eye = _eye(disc, fovea)
        field = _field(image, view, disc, fovea)
        measured, missing = _points(view, disc, fovea)
        score = Measurement(
            name="quality_score",
            value=round(visibility.score, 4),
            unit="1",
            method="weighted geometric mean of vessel coverage, vessel contrast, clarity and light",
        )
        findings = (
            Finding(concept="fundus_photograph", state="present", detail=modality.reason),
            Finding(
                concept="quality",
                state="present",
                value=visibility.grade,
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
            summary=_summary(visibility, gradable, eye, field),
            findings=findings,
            measurements=(score, *measured),
            not_measured=missing,
            caveats=_caveats(image, eye, fovea),
        )


def _not_a_fundus(reason: str) -> Result:
    why = "The picture is not a retinal photograph."
    rest = ("quality", *(f"gradable_{name}" for name in STRUCTURES), "eye", "field")
    return Result(
        summary=f"Not a retinal photograph. {reason}",
        findings=(
            Finding(concept="fundus_photograph", state="absent", detail=reason),
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
        how = "centre of the bright blob from which vessels run up and down"
        measured += _point("disc", view, np.array([disc.x, disc.y]), how, "disc")
    else:
        missing += [
            NotMeasured(name=name, reason="No optic disc was found in the field.")
            for name in ("disc_x", "disc_y")
        ]
    if fovea:
        place = np.array([fovea.x, fovea.y])
        if fovea.seen:
            how = "darkest vessel-free spot at the expected distance from the disc"
            measured += _point("fovea", view, place, how, "fovea")
        else:
            how = "expected distance and angle from the disc; no dark spot was seen"
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


def _eye(disc: Disc | None, fovea: Fovea | None) -> Finding:
    if not disc or not fovea:
        return Finding(
            concept="eye",
            state="indeterminate",
            detail="Disc and fovea are not both seen, so the eye cannot be told.",
        )
    if not fovea.side_known:
        return Finding(
            concept="eye",
            state="indeterminate",
            detail="The fovea could lie on either side of the disc.",
        )
    angle_deg = float(np.degrees(np.arctan2(fovea.y - disc.y, abs(fovea.x - disc.x))))
    if angle_deg < UPSIDE_DOWN_BELOW_DEG:
        # Rotation by half a turn and a flip look alike here but mean opposite eyes.
        return Finding(
            concept="eye",
            state="indeterminate",
            detail="The fovea lies above the disc: the picture may be upside down.",
        )
    eye = "OD" if disc.x > fovea.x else "OS"
    side = "right" if eye == "OD" else "left"
    return Finding(
        concept="eye",
        state="present",
        value=eye,
        detail=f"The disc lies to the {side} of the fovea; holds for an upright picture.",
    )


def _field(image: Photograph, view: View, disc: Disc | None, fovea: Fovea | None) -> Finding:
    if not disc:
        return Finding(
            concept="field", state="indeterminate", detail="No optic disc was found in the field."
        )
    circle = image.field_circle
    centre = view.frame.to_view(np.array([circle.x, circle.y]))
    to_disc = float(np.hypot(disc.x - centre[0], disc.y - centre[1]))
    to_fovea = float(np.hypot(fovea.x - centre[0], fovea.y - centre[1])) if fovea else float("inf")
    if min(to_disc, to_fovea) > CENTRED_WITHIN_PX:
        value = "other"
    else:
        value = "macula_centred" if to_fovea < to_disc else "disc_centred"
    percent = 100 * min(to_disc, to_fovea) / (FIELD_DIAMETER_PX / 2)
    nearest = "fovea" if to_fovea < to_disc else "disc"
    return Finding(
        concept="field",
        state="present",
        value=value,
        detail=f"The {nearest} lies {percent:.0f}% of the field radius from the centre.",
    )


def _caveats(image: Photograph, eye: Finding, fovea: Fovea | None) -> tuple[Caveat, ...]:
    caveats = []
    if image.eye and eye.value and image.eye != eye.value:
        source = {"person": "the person", "dicom": "the file"}.get(image.eye_source or "", "record")
        text = f"By {source} this is {image.eye}, but disc and fovea lie as in {eye.value}."
        caveats.append(Caveat(code="eye_conflict", text=text))
    if "upside down" in eye.detail:
        caveats.append(Caveat(code="maybe_upside_down", text=eye.detail))
    if fovea and not fovea.seen:
        text = "No dark fovea was seen; its place is estimated from the optic disc."
        caveats.append(Caveat(code="fovea_estimated", text=text))
    if image.grey:
        text = "The picture is grey; the limits were set on colour photographs."
        caveats.append(Caveat(code="grey_picture", text=text))
    return tuple(caveats)


def _summary(
    visibility: grading.Visibility,
    gradable: dict[str, grading.Gradable],
    eye: Finding,
    field: Finding,
) -> str:
    good = [name for name, item in gradable.items() if item.state == "present"]
    bad = [f"{name} ({item.reason})" for name, item in gradable.items() if name not in good]
    text = f"Retinal photograph, quality {visibility.grade} ({visibility.score:.2f} of 1), "
    text += f"eye {eye.value or 'not inferable'}, field {field.value or 'unknown'}. "
    text += f"Gradable: {', '.join(good) or 'nothing'}."
    if bad:
        text += f" Not gradable: {' '.join(bad)}"
    return text[:400]
