"""The tool `segment_optic_disc`: disc, cup, cup-to-disc ratios and disc size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fovea.contract import (
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
from fovea.image import Scale, View
from fovea_plugins.segmenter.optic_disc.contours import Ellipse, directions
from fovea_plugins.segmenter.optic_disc.edges import (
    FIELD_DIAMETER_PX,
    Crop,
    cut_crop,
    find_cup_edge,
    find_disc_edge,
)

MIN_EDGE_STRENGTH = 0.035
MIN_INSIDE_SHARE = 0.9
MIN_PALLOR = 12.0
PERTURBED_THRESHOLDS = (0.25, 0.55)
CDR_ERROR = 0.16
"""90th percentile of the absolute ratio error on labelled photographs, see MODEL_CARD.md."""

DIAMETER_ERROR = 0.1
"""The same for the disc diameter, relative."""


@dataclass(frozen=True)
class Found:
    """Disc and cup as ellipses in crop pixels, and the cups at other thresholds."""

    disc: Ellipse
    cup: Ellipse
    other_cups: tuple[Ellipse, ...]
    pallor: float


class SegmentOpticDisc(Plugin[NoArgs]):
    """Outlines disc and cup around the disc centre that the quality gate found."""

    Args = NoArgs

    def run(self, context: Context, args: NoArgs) -> Result:
        """Masks, ratios and sizes. Raises `NotApplicable` when no whole disc is in the field."""
        image = context.image
        x, y = context.measured("disc_x"), context.measured("disc_y")
        if x is None or y is None:
            raise self._not_applicable("No optic disc was found in the field")
        view = image.view(FIELD_DIAMETER_PX)
        centre = view.frame.to_view(np.array([x.value, y.value]))
        height, width = view.field_of_view.shape
        if not (0 <= centre[0] < width and 0 <= centre[1] < height):
            raise self._not_applicable("The place given for the optic disc is outside the field")
        context.progress("Outlining the optic disc")
        crop = cut_crop(view, centre)
        found = self._outline(crop)
        context.check_cancelled()
        masks = tuple(
            context.save_mask(name, view.frame.mask_to_original(_mask(view, crop, ellipse)))
            for name, ellipse in (("optic_disc", found.disc), ("optic_cup", found.cup))
        )
        measurements = (
            *_ratios(found, context),
            *_diameters(found.disc, view.frame.step, context),
        )
        area = _area(found.disc, view.frame.step, context.scale, context)
        caveats = [
            Caveat(
                code="cup_by_pallor",
                text="The cup is judged by pallor, not depth: the cup-to-disc ratio is uncertain "
                "by about 0.16 and too large where the real cup is small.",
            )
        ]
        if found.pallor < MIN_PALLOR:
            text = "Cup and rim hardly differ in colour here: the cup edge is a guess."
            caveats.append(Caveat(code="faint_cup", text=text))
        if image.grey:
            text = "The picture is grey: the disc edge is less certain than in colour."
            caveats.append(Caveat(code="grey_picture", text=text))
        vertical, horizontal = measurements[0], measurements[1]
        return Result(
            summary=f"Optic disc outlined. Vertical cup-to-disc ratio {vertical.value:.2f} "
            f"({_span(vertical)}), horizontal {horizontal.value:.2f} ({_span(horizontal)}). "
            "The cup is judged by pallor and uncertain.",
            measurements=(*measurements, area) if isinstance(area, Measurement) else measurements,
            not_measured=(area,) if isinstance(area, NotMeasured) else (),
            artifacts=masks,
            caveats=tuple(caveats),
        )

    def _outline(self, crop: Crop) -> Found:
        edge = find_disc_edge(crop)
        if edge.strength < MIN_EDGE_STRENGTH:
            raise self._not_applicable("The optic disc has no visible edge")
        angle = directions()
        radii = edge.ellipse.radii(angle)
        columns = np.rint(edge.ellipse.x + np.cos(angle) * radii).astype(int)
        rows = np.rint(edge.ellipse.y + np.sin(angle) * radii).astype(int)
        limit = crop.inside.shape[0] - 1
        inside = crop.inside[np.clip(rows, 0, limit), np.clip(columns, 0, limit)]
        if float(inside.mean()) < MIN_INSIDE_SHARE:
            raise self._not_applicable("The optic disc is cut off by the edge of the field")
        cup = find_cup_edge(crop, edge.ellipse)
        others = tuple(
            find_cup_edge(crop, edge.ellipse, threshold=threshold).ellipse
            for threshold in PERTURBED_THRESHOLDS
        )
        return Found(edge.ellipse, cup.ellipse, others, cup.pallor)

    def _not_applicable(self, why: str) -> NotApplicable:
        return NotApplicable(
            self.manifest.name,
            "The optic disc cannot be outlined in this photograph",
            why=why,
            fix="Take or choose a photograph that shows the whole optic disc in focus",
        )


def _mask(view: View, crop: Crop, ellipse: Ellipse) -> np.ndarray:
    moved = Ellipse(
        ellipse.x + crop.left,
        ellipse.y + crop.top,
        ellipse.axis_a,
        ellipse.axis_b,
        ellipse.angle_deg,
    )
    return moved.mask((view.frame.height, view.frame.width)) & view.field_of_view


def _span(measurement: Measurement) -> str:
    interval = measurement.interval
    return f"{interval.low:.2f}-{interval.high:.2f}" if interval else "no interval"


def _ratios(found: Found, context: Context) -> tuple[Measurement, Measurement]:
    disc_size = found.disc.extent()
    made = []
    for index, name in ((1, "vertical_cdr"), (0, "horizontal_cdr")):
        value = found.cup.extent()[index] / disc_size[index]
        others = [cup.extent()[index] / disc_size[index] for cup in found.other_cups]
        down = math.hypot(value - min(*others, value), CDR_ERROR)
        up = math.hypot(max(*others, value) - value, CDR_ERROR)
        made.append(
            Measurement(
                name=name,
                value=round(min(value, 1.0), 4),
                unit="1",
                eye=context.eye,
                method="height or width of the ellipse fitted to the cup over that of the disc; "
                "both edges by polar dynamic programming, cup by pallor",
                interval=Interval(
                    low=max(0.0, value - down),
                    high=min(1.0, value + up),
                    level=0.9,
                    how="pallor threshold moved from 0.40 to 0.25 and 0.55, combined in "
                    "quadrature with the error of 0.16 seen on labelled photographs",
                ),
            )
        )
    return made[0], made[1]


def _diameters(disc: Ellipse, step: float, context: Context) -> tuple[Measurement, Measurement]:
    width, height = disc.extent()
    made = []
    for name, size in (("disc_diameter_vertical", height), ("disc_diameter_horizontal", width)):
        value = size * step
        made.append(
            Measurement(
                name=name,
                value=round(value, 1),
                unit="px",
                eye=context.eye,
                method="extent of the ellipse fitted to the disc edge",
                interval=Interval(
                    low=value * (1 - DIAMETER_ERROR),
                    high=value * (1 + DIAMETER_ERROR),
                    level=0.9,
                    how="relative error seen on labelled photographs",
                ),
            )
        )
    return made[0], made[1]


def _area(
    disc: Ellipse, step: float, scale: Scale | None, context: Context
) -> Measurement | NotMeasured:
    if scale is None:
        return NotMeasured(name="disc_area", reason="The pixel scale is not known.")
    mm_per_view_px = step * scale.um_per_px / 1000.0
    value = math.pi / 4 * disc.axis_a * disc.axis_b * mm_per_view_px**2
    relative = 2 * math.hypot(1.645 * scale.relative_sd, DIAMETER_ERROR)
    source = "the file" if scale.source == "dicom" else "the disc-fovea distance (4.76 mm)"
    return Measurement(
        name="disc_area",
        value=round(value, 4),
        unit="mm2",
        eye=context.eye,
        method=f"area of the ellipse fitted to the disc edge; scale from {source}",
        interval=Interval(
            low=max(0.0, value * (1 - relative)),
            high=value * (1 + relative),
            level=0.9,
            how="twice the relative errors of pixel scale and diameter, in quadrature",
        ),
    )
