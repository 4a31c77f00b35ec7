"""The tool `measure_biomarkers`: numbers that describe the vessel tree and the disc."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

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
from fovea.image import Mask
from fovea_plugins.biomarkers.measures import (
    REFERENCE_FIELD_PX,
    SHORTEST_SEGMENT_PX,
    VesselMeasures,
    by_half_a_pixel,
    by_threshold,
    measure,
)

THRESHOLD_CHANGE = 0.2

METHODS = {
    "vessel_density": "vessel area divided by field area",
    "vessel_length_density": "vessel centreline length times field diameter, divided by field area",
    "fractal_dimension": "box counting (D0) of the vessel mask, boxes of 1 % to 32 % of the field",
    "tortuosity": "arc over chord of smoothed vessel segments of at least "
    f"{SHORTEST_SEGMENT_PX / REFERENCE_FIELD_PX:.1%} of the field, length-weighted mean",
}


class Biomarkers(Plugin[NoArgs]):
    """Measures vessel density, length, fractal dimension and tortuosity; quotes the disc ratio."""

    Args = NoArgs

    def run(self, context: Context, args: NoArgs) -> Result:
        """The measurements that this image allows; for the others, why not.

        Raises:
            NotApplicable: there is no vessel mask, or it is empty.
        """
        vessels = context.mask("vessels")
        photograph = context.image
        if vessels is None or not (vessels & photograph.field_of_view).any():
            raise NotApplicable(
                self.manifest.name,
                "There are no vessels to measure",
                where=photograph.handle,
                why="The vessel mask is missing or empty",
                fix="Use a photograph on which vessels can be outlined",
            )
        disc = context.mask("optic_disc")
        field = photograph.field_of_view if disc is None else photograph.field_of_view & ~disc
        diameter = 2.0 * photograph.field_circle.radius
        context.progress("Measuring the vessel tree")
        value = measure(vessels, field, diameter)
        variants = []
        masks, how = _variants(context, vessels)
        for mask in masks:
            context.check_cancelled()
            variants.append(measure(mask, field, diameter))
        where = "field without the disc" if disc is not None else "whole field, disc included"
        measurements = [
            _measurement(name, context, value, variants, how=how, where=where)
            for name in METHODS
            if value.get(name) is not None
        ]
        not_measured = [
            NotMeasured(name=name, reason="The vessels found are too short for it")
            for name in METHODS
            if value.get(name) is None
        ]
        caveats = [
            Caveat(
                code="depends_on_segmentation",
                text="The values follow the vessel outline: compare only values made with the "
                "same version of the vessel tool and with the same field angle.",
            )
        ]
        if disc is None:
            caveats.append(
                Caveat(code="disc_included", text="The optic disc was not found and is included.")
            )
        ratio = context.measured("vertical_cdr")
        if ratio is None:
            not_measured.append(NotMeasured(name="vertical_cdr", reason=_why_no_ratio(context)))
        else:
            # One number for one thing: the disc tool measures it, here it is passed on.
            method = f"{ratio.method}; passed on from the optic disc tool"
            measurements.append(ratio.model_copy(update={"method": method}))
        return Result(
            summary=_summary(measurements),
            measurements=tuple(measurements),
            not_measured=tuple(not_measured),
            caveats=tuple(caveats),
        )


def _variants(context: Context, vessels: Mask) -> tuple[tuple[Mask, Mask], str]:
    score = _score(context)
    if score is not None and score.shape == vessels.shape:
        how = (
            f"range of the value when the vessel score threshold moves by {THRESHOLD_CHANGE:.2f} "
            "either way; sensitivity to the outline, not a confidence interval"
        )
        return by_threshold(vessels, score, THRESHOLD_CHANGE), how
    how = (
        "range of the value when the vessel outline moves by half a pixel either way; "
        "sensitivity to the outline, not a confidence interval"
    )
    return by_half_a_pixel(vessels), how


def _score(context: Context) -> NDArray[np.uint8] | None:
    result = context.earlier.get("vessel_probability")
    artifacts = result.artifacts if result else ()
    path = next((a.path for a in artifacts if a.name == "vessel_probability"), None)
    grey: Any = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path else None
    return grey


def _measurement(
    name: str,
    context: Context,
    value: VesselMeasures,
    variants: list[VesselMeasures],
    *,
    how: str,
    where: str,
) -> Measurement:
    values = [v for v in (value.get(name), *(one.get(name) for one in variants)) if v is not None]
    # A mask that vanishes when its outline moves leaves the range unknown, not narrow.
    complete = len(values) == 1 + len(variants)
    return Measurement(
        name=name,
        value=values[0],
        unit="1",
        eye=context.eye,
        method=f"{METHODS[name]}; {where}; at a field diameter of {REFERENCE_FIELD_PX} pixels",
        interval=Interval(low=min(values), high=max(values), how=how) if complete else None,
    )


def _why_no_ratio(context: Context) -> str:
    result = context.earlier.get("optic_disc")
    items = result.not_measured if result else ()
    said = next((item.reason for item in items if item.name == "vertical_cdr"), None)
    return said if said else "The optic disc tool gave no cup-to-disc ratio for this image"


def _summary(measurements: list[Measurement]) -> str:
    parts = [f"{m.name.replace('_', ' ')} {m.value:.3g}" for m in measurements]
    return f"Measured: {', '.join(parts)}." if parts else "Nothing could be measured."
