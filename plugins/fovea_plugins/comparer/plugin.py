"""The tool `compare_images`: what differs between two visits of an eye, or between both eyes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fovea.contract import (
    Artifact,
    Caveat,
    Context,
    Finding,
    Interval,
    Measurement,
    NoArgs,
    NotMeasured,
    Plugin,
    Result,
    read_mask,
)
from fovea.errors import NotApplicable
from fovea.image import Eye, Mask
from fovea_plugins.comparer.registration import (
    LEAST_OVERLAP,
    Outlines,
    Points,
    Registration,
    laid_over,
    register,
)

GOOD_FIT = 0.6
"""Least quality of a fit; MODEL_CARD.md says how it was chosen."""
COMPARED = (
    "vertical_cdr", "horizontal_cdr", "vessel_density", "fractal_dimension", "tortuosity", "avr",
)  # fmt: skip
"""Ratios that need no pixel scale."""
_WORDS = {
    "vertical_cdr": "vertical cup-to-disc ratio",
    "horizontal_cdr": "horizontal cup-to-disc ratio",
    "avr": "arteriole-to-venule ratio",
}
_FIT = ("registration_quality", "registration_overlap", "registration_turn")
CHANGE, ASYMMETRY = "change_beyond_repeatability", "asymmetry_beyond_repeatability"


@dataclass(frozen=True)
class _Difference:
    """Second less first; `beyond` is None where an interval is missing."""

    name: str
    measurement: Measurement
    beyond: bool | None


class CompareImages(Plugin[NoArgs]):
    """Compares measurements of two photographs, with their errors."""

    Args = NoArgs

    def run(self, context: Context, args: NoArgs) -> Result:
        """Differences, and for one eye how well both photographs fit.

        Raises:
            NotApplicable: the photographs do not fit, or nothing was measured in both.
        """
        eyes = tuple(
            _eye(context, index, found)
            for index, found in enumerate((context.earlier, context.earlier_second))
        )
        one_eye = None in eyes or eyes[0] == eyes[1]
        measured: list[Measurement] = []
        artifacts: list[Artifact] = []
        if one_eye:
            context.progress("Laying one photograph over the other")
            fit = self._fit(context, sure=None not in eyes)
            measured += _told(fit)
            artifacts += _drawn(context, fit)
        context.progress("Comparing measurements")
        differences, missing = _differences(context)
        if not one_eye:
            reason = "Both photographs show different eyes, which are not laid over each other."
            missing += [NotMeasured(name=name, reason=reason) for name in _FIT]
        if not differences and not one_eye:
            raise NotApplicable(
                self.manifest.name,
                "Nothing was measured in both photographs",
                fix="Use photographs in which the disc or the vessels can be judged",
            )
        finding = _judged(differences, CHANGE if one_eye else ASYMMETRY)
        caveats = [
            Caveat(
                code="differences_by_chance",
                text="Of ten unchanged quantities with 90 % intervals about one is expected to "
                "exceed them by chance.",
            )
        ]
        if None in eyes:
            caveats.append(
                Caveat(
                    code="taken_for_one_eye",
                    text="Nobody said which eye each photograph shows: the fit of the vessels says "
                    "that it is one eye.",
                )
            )
        handles = [photograph.handle for photograph in context.images]
        return Result(
            summary=_summary(handles, eyes, finding, one_eye=one_eye),
            findings=(finding,),
            measurements=(*measured, *(d.measurement for d in differences)),
            not_measured=tuple(missing),
            artifacts=tuple(artifacts),
            caveats=tuple(caveats),
        )

    def _fit(self, context: Context, *, sure: bool) -> Registration:
        outlines = [
            _outlines(context, index, found)
            for index, found in enumerate((context.earlier, context.earlier_second))
        ]
        first, second = outlines
        if first is None or second is None:
            raise NotApplicable(
                self.manifest.name,
                "The photographs cannot be laid over each other",
                why="The vessels of one of them are not outlined",
                fix="Use photographs in which the vessels can be judged",
            )
        fit = register(first, second)
        if fit.quality < GOOD_FIT or fit.overlap < LEAST_OVERLAP:
            other = "" if sure else ", or of different eyes"
            raise NotApplicable(
                self.manifest.name,
                "The photographs cannot be laid over each other",
                why=f"Only {fit.quality:.0%} of the vessels meet in {fit.overlap:.0%} of the "
                f"field, at least {GOOD_FIT:.0%} are needed: they may be of different people or "
                f"fields{other}",
                fix="Check that both show the same eye and field, and name the eyes",
            )
        return fit


def _eye(context: Context, index: int, earlier: Mapping[str, Result]) -> Eye | None:
    if context.images[index].eye:
        return context.images[index].eye
    quality = earlier.get("eye")
    finding = quality.finding("eye") if quality else None
    value = finding.value if finding else None
    return "OD" if value == "OD" else "OS" if value == "OS" else None


def _outlines(context: Context, index: int, earlier: Mapping[str, Result]) -> Outlines | None:
    vessels = _mask(earlier, "vessels")
    if vessels is None:
        return None
    photograph = context.images[index]
    places = [_value(earlier, name) for name in ("disc_x", "disc_y", "fovea_x", "fovea_y")]
    landmarks: Points | None = None
    x, y, u, v = places
    if x is not None and y is not None and u is not None and v is not None and (x, y) != (u, v):
        landmarks = ((x.value, y.value), (u.value, v.value))
    return Outlines(vessels, photograph.field_of_view, photograph.field_circle, landmarks)


def _mask(earlier: Mapping[str, Result], name: str) -> Mask | None:
    result = earlier.get(name)
    artifact = next((a for a in result.artifacts if a.name == name), None) if result else None
    return read_mask(artifact.path) if artifact else None


def _value(earlier: Mapping[str, Result], name: str) -> Measurement | None:
    """The measurement of the tool that gives that output first."""
    result = earlier.get(name)
    return result.measurement(name) if result else None


def _told(fit: Registration) -> list[Measurement]:
    method = "vessel centrelines after alignment by landmarks, phase correlation and ECC"
    values = zip(_FIT, (fit.quality, fit.overlap, fit.turn_deg), ("1", "1", "deg"), strict=True)
    return [
        Measurement(name=name, value=value, unit=unit, method=method)
        for name, value, unit in values
    ]


def _drawn(context: Context, fit: Registration) -> list[Artifact]:
    vessels = _mask(context.earlier_second, "vessels")
    if vessels is None:
        return []
    first = context.images[0]
    moved = laid_over(vessels, fit.matrix, (first.height, first.width)) & first.field_of_view
    return [context.save_mask("vessels_of_second", moved)]


def _differences(context: Context) -> tuple[list[_Difference], list[NotMeasured]]:
    found, missing = [], []
    for name in COMPARED:
        pair = [_any(earlier, name) for earlier in (context.earlier, context.earlier_second)]
        first, second = pair
        output = f"{name}_difference"
        if first is None or second is None:
            handles = [p.handle for p, m in zip(context.images, pair, strict=True) if m is None]
            reason = f"It is not measured in {' and '.join(handles)}."
            missing.append(NotMeasured(name=output, reason=reason))
        elif (first.method, first.zone) != (second.method, second.zone):
            reason = "Both photographs were measured by different methods."
            missing.append(NotMeasured(name=output, reason=reason))
        else:
            found.append(_difference(output, first, second))
    return found, missing


def _any(earlier: Mapping[str, Result], name: str) -> Measurement | None:
    """The measurement, in whichever earlier result it stands."""
    for result in earlier.values():
        measured = result.measurement(name)
        if measured is not None:
            return measured
    return None


def _difference(output: str, first: Measurement, second: Measurement) -> _Difference:
    value = second.value - first.value
    one, other = _errors(first), _errors(second)
    interval, beyond = None, None
    if one and other:
        # The lowest difference: the second as low, and the first as high, as they may be.
        down, up = math.hypot(other[0], one[1]), math.hypot(other[1], one[0])
        beyond = value > down or -value > up
        level = _level(first, second)
        interval = Interval(
            low=value - down, high=value + up, level=level,
            how="intervals of both measurements in quadrature",
        )  # fmt: skip
    measurement = Measurement(
        name=output, value=value, unit=first.unit, interval=interval,
        method=f"second photograph less the first: {first.method}"[:200],
    )  # fmt: skip
    return _Difference(output.removesuffix("_difference"), measurement, beyond)


def _errors(m: Measurement) -> tuple[float, float] | None:
    """How far down and up the interval reaches."""
    if m.interval is None:
        return None
    return m.value - m.interval.low, m.interval.high - m.value


def _level(first: Measurement, second: Measurement) -> float | None:
    levels = {m.interval.level for m in (first, second) if m.interval}
    return levels.pop() if len(levels) == 1 else None


def _judged(differences: list[_Difference], concept: str) -> Finding:
    beyond = [_words(d.name) for d in differences if d.beyond]
    within = [_words(d.name) for d in differences if d.beyond is False]
    if beyond:
        detail = f"beyond the errors of both photographs: {', '.join(beyond)}"
        return Finding(concept=concept, state="present", detail=detail)
    if within:
        detail = f"within the errors of both photographs: {', '.join(within)}"
        return Finding(concept=concept, state="absent", detail=detail)
    detail = "nothing was measured with an interval in both photographs"
    return Finding(concept=concept, state="not_assessable", detail=detail)


def _words(name: str) -> str:
    return _WORDS.get(name, name.replace("_", " "))


def _summary(
    handles: list[str], eyes: tuple[Eye | None, ...], finding: Finding, *, one_eye: bool
) -> str:
    what = "one eye" if one_eye else f"both eyes ({eyes[0]} and {eyes[1]})"
    kind = "Change" if one_eye else "Asymmetry"
    state = finding.state.replace("_", " ")
    text = f"{' and '.join(handles)} show {what}. {kind} beyond repeatability: {state}"
    return f"{text}; {finding.detail}."[:400]
