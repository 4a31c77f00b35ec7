"""The tool `place_grid`: ETDRS grid, zones A to C, distance and angle from disc to fovea."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping

import cv2
import numpy as np

from fovea.contract import (
    Artifact,
    Caveat,
    Context,
    Interval,
    Measurement,
    NoArgs,
    NotMeasured,
    Plugin,
    Result,
)
from fovea.errors import NotApplicable
from fovea.image import Mask
from fovea_plugins.regions import (
    Labels,
    Landmarks,
    NotPlaced,
    etdrs_fields,
    etdrs_shares,
    zone_shares,
    zones,
)

LINE_SHARE = 1 / 600
"""Line width over the long side of the picture."""

ASSESSABLE_SHARE = 0.5
"""A region of which less is seen is named as cut off."""

DIAMETERS = ("disc_diameter_vertical", "disc_diameter_horizontal")


class PlaceGrid(Plugin[NoArgs]):
    """Places the ETDRS grid and the zones by disc and fovea, and measures the line between."""

    Args = NoArgs

    def run(self, context: Context, args: NoArgs) -> Result:
        """Lines, coverage and measurements.

        Raises:
            NotApplicable: neither the grid nor the zones have a place.
        """
        landmarks = Landmarks.from_context(context)
        context.progress("Placing the grid")
        artifacts: list[Artifact] = []
        caveats: list[Caveat] = []
        shares: dict[str, float] = {}
        for place, code, what in (
            (_place_grid, "no_grid", "ETDRS grid"),
            (_place_zones, "no_zones", "zones A, B and C"),
        ):
            context.check_cancelled()
            try:
                artifact, covered = place(context, landmarks)
            except NotPlaced as problem:
                caveats.append(Caveat(code=code, text=f"No {what}: {problem.why}"))
                continue
            artifacts.append(artifact)
            shares |= covered
        if not artifacts:
            raise NotApplicable(
                self.manifest.name,
                "Neither the ETDRS grid nor the zones can be placed in this photograph",
                why=" ".join(caveat.text for caveat in caveats),
                fix="Take or choose a photograph that shows disc and fovea in focus",
            )
        artifacts.append(_table(context, shares))
        items = [self._checked(item) for item in _measure(context, landmarks)]
        measured = tuple(item for item in items if isinstance(item, Measurement))
        return Result(
            summary=_summary(artifacts, measured, shares),
            measurements=measured,
            not_measured=tuple(item for item in items if isinstance(item, NotMeasured)),
            artifacts=tuple(artifacts),
            caveats=(*caveats, *_caveats(context, landmarks, shares)),
        )

    def _checked(self, item: Measurement | NotMeasured) -> Measurement | NotMeasured:
        """The measurement; not measured where no eye is built like that."""
        output = self.manifest.output(item.name)
        if isinstance(item, NotMeasured) or output is None:
            return item
        low, high = output.low or 0.0, output.high or 0.0
        if low <= item.value <= high:
            return item
        reason = (
            f"It came out as {item.value:.3g}, which no upright picture of an eye gives: "
            "the place of disc or fovea is wrong, or the picture is turned."
        )
        return NotMeasured(name=item.name, reason=reason)


def _place_grid(context: Context, landmarks: Landmarks) -> tuple[Artifact, dict[str, float]]:
    image = context.image
    scale = landmarks.scale(image.scale)
    if scale is None:
        raise NotPlaced("The grid cannot be placed", why=_why_no_distance(landmarks))
    fields = etdrs_fields((image.height, image.width), landmarks, scale)
    lines = _lines(fields) & image.field_of_view
    return context.save_mask("etdrs_grid", lines), etdrs_shares(fields, image.field_of_view, scale)


def _place_zones(context: Context, landmarks: Landmarks) -> tuple[Artifact, dict[str, float]]:
    image = context.image
    masks = zones((image.height, image.width), landmarks)
    rings = (masks["zone_a"] + 2 * masks["zone_b"] + 4 * masks["zone_c"]).astype(np.uint8)
    lines = _lines(rings) & image.field_of_view
    shares = zone_shares(masks, image.field_of_view, landmarks)
    return context.save_mask("zone_circles", lines), shares


def _lines(labels: Labels) -> Mask:
    """Where labels (H, W) change, as lines wide enough to be seen in the whole picture."""
    edges = np.zeros(labels.shape, np.uint8)
    edges[1:] |= labels[1:] != labels[:-1]
    edges[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    width = max(1, round(max(labels.shape) * LINE_SHARE))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    return np.asarray(cv2.dilate(edges, kernel)).astype(bool)


def _table(context: Context, shares: Mapping[str, float]) -> Artifact:
    path = context.work_dir / "grid_coverage.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("region", "share_in_field"))
        writer.writerows((name, f"{share:.4f}") for name, share in shares.items())
    return Artifact(name="grid_coverage", kind="table", path=path, media_type="text/csv")


def _why_no_distance(landmarks: Landmarks) -> str:
    try:
        landmarks.pair()
    except NotPlaced as problem:
        return problem.why
    return "The fovea was not seen, only put at its usual place beside the disc."


def _measure(context: Context, landmarks: Landmarks) -> list[Measurement | NotMeasured]:
    """Distance in pixels and in disc diameters, and angle, or why not."""
    names = ("disc_fovea_distance", "disc_fovea_distance_dd", "disc_fovea_angle")
    distance, angle = landmarks.distance_px, landmarks.angle_deg
    if distance is None or angle is None:
        reason = _why_no_distance(landmarks)
        return [NotMeasured(name=name, reason=reason) for name in names]
    reach = _reach(context)
    made: list[Measurement | NotMeasured] = [
        _measurement(
            context, names[0], distance, unit="px", error=reach,
            method="distance between the centres of optic disc and fovea",
        )
    ]  # fmt: skip
    diameters = landmarks.distance_disc_diameters
    if diameters is None:
        reason = "The optic disc could not be outlined, so its diameter is not known."
        made.append(NotMeasured(name=names[1], reason=reason))
    else:
        spread = _relative_error_of_diameter(context)
        error = diameters * math.hypot(reach / distance, spread) if reach and spread else None
        method = "distance between the centres over the mean of height and width of the disc"
        made.append(
            _measurement(context, names[1], diameters, unit="[DD]", error=error, method=method)
        )
    error = math.degrees(math.atan2(reach, distance)) if reach else None
    method = "angle of the line from disc to fovea with the horizontal of the picture"
    made.append(_measurement(context, names[2], angle, unit="deg", error=error, method=method))
    return made


def _measurement(
    context: Context, name: str, value: float, *, unit: str, error: float | None, method: str
) -> Measurement:
    interval = None
    if error is not None:
        interval = Interval(
            low=value - error,
            high=value + error,
            level=0.9,
            how="errors of disc and fovea centre, and of the disc diameter where it is used, as "
            "their tools state them, in quadrature",
        )
    return Measurement(
        name=name, value=value, unit=unit, eye=context.eye, method=method, interval=interval
    )


def _reach(context: Context) -> float | None:
    """Half-width of the interval of the distance: those of both places in quadrature."""
    places = [context.measured(name) for name in ("disc_x", "fovea_x")]
    widths = [m.interval.high - m.value for m in places if m and m.interval]
    return math.hypot(*widths) if len(widths) == len(places) else None


def _relative_error_of_diameter(context: Context) -> float | None:
    found = [context.measured(name) for name in DIAMETERS]
    errors = [(m.interval.high - m.value) / m.value for m in found if m and m.interval]
    return sum(errors) / len(errors) if len(errors) == len(DIAMETERS) else None


def _caveats(context: Context, landmarks: Landmarks, shares: Mapping[str, float]) -> list[Caveat]:
    caveats = []
    if "etdrs_centre" in shares and context.image.scale is None:
        text = (
            "The file gives no pixel scale: the grid takes the disc-fovea distance for 4.76 mm, "
            "which differs between eyes by 7 % (one standard deviation)."
        )
        caveats.append(Caveat(code="scale_from_disc_fovea", text=text))
    if "etdrs_centre" in shares and landmarks.eye is None:
        text = (
            "It is not certain which eye this is: superior is taken to be at the top of the "
            "picture."
        )
        caveats.append(Caveat(code="taken_as_upright", text=text))
    if cut := _cut_off(shares):
        text = f"Less than half of these lies in the field of view: {', '.join(cut)}."
        caveats.append(Caveat(code="regions_cut_off", text=text))
    return caveats


def _cut_off(shares: Mapping[str, float]) -> list[str]:
    return [name.replace("_", " ") for name, s in shares.items() if s < ASSESSABLE_SHARE]


def _summary(
    artifacts: list[Artifact], measured: tuple[Measurement, ...], shares: Mapping[str, float]
) -> str:
    words = {"etdrs_grid": "ETDRS grid", "zone_circles": "zones A, B and C"}
    drawn = " and ".join(words[a.name] for a in artifacts if a.name in words)
    text = f"Drawn: {drawn}."
    numbers = [_in_words(item) for item in measured]
    if numbers:
        text += f" From disc to fovea: {', '.join(numbers)}."
    if cut := _cut_off(shares):
        text += f" Less than half in the field: {', '.join(cut)}."
    return text[:400]


def _in_words(item: Measurement) -> str:
    if item.unit == "deg":
        side = "below" if item.value >= 0 else "above"
        return f"{abs(item.value):.0f}° {side} the horizontal"
    return f"{item.value:.0f} px" if item.unit == "px" else f"{item.value:.2f} disc diameters"
