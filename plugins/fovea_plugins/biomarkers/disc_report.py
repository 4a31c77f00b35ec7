"""Disc measures for the tool `measure_biomarkers`, from the masks of the optic disc tool."""

from __future__ import annotations

from fovea.contract import Context, Measurement, NotMeasured, Result
from fovea_plugins.biomarkers.disc import measure_disc
from fovea_plugins.biomarkers.disc_values import DEFINITIONS, SECTORS, DiscMeasure, DiscMeasures
from fovea_plugins.biomarkers.headline import interval_of
from fovea_plugins.regions import Landmarks

REPORTED = tuple(
    name for name in DEFINITIONS if not name.startswith("atrophy_") and name != "rim_width_um"
)
"""No tool outlines peripapillary atrophy; by clock hour, rim widths come in pixels and ratios."""

OF_THE_DISC_TOOL = (
    "vertical_cdr", "horizontal_cdr", "disc_diameter_vertical", "disc_diameter_horizontal",
    "disc_area",
)  # fmt: skip
"""One number for one thing: what the disc tool measured is passed on, with its interval."""

NO_DISC = "The optic disc was not outlined in this photograph"
NO_CUP = "The optic disc tool saw no cup"
CIRCULAR = "The pixel scale comes from this distance itself"


def disc_measurements(context: Context) -> list[Measurement | NotMeasured]:
    """Every name of `REPORTED`, measured or with the reason why not.

    Args:
        context: Holds the result of the optic disc tool under `optic_disc`, with its masks
            `optic_disc` and `optic_cup`; of the quality gate `fovea_x`, `fovea_y` and `eye`.
            Vertical is that of the image, as in the disc tool.
    """
    tool = context.earlier.get("optic_disc")
    disc, cup = context.mask("optic_disc"), context.mask("optic_cup")
    if tool is None or disc is None:
        return [NotMeasured(name=name, reason=NO_DISC) for name in REPORTED]
    scale = Landmarks.from_context(context).scale(context.image.scale)
    measures = measure_disc(
        disc,
        cup,
        eye=context.eye,
        um_per_px=scale.um_per_px if scale else None,
        scale_relative_sd=scale.relative_sd if scale else None,
        fovea_xy=_fovea(context),
        field_of_view=context.image.field_of_view,
    )
    circular = scale is not None and scale.source == "disc_fovea_distance"
    items: list[Measurement | NotMeasured] = []
    for name in REPORTED:
        if name in OF_THE_DISC_TOOL and (passed_on := _passed_on(tool, name)):
            items.append(passed_on)
        elif cup is None and measures.measurements and "cup" in DEFINITIONS[name].needs:
            items.append(NotMeasured(name=name, reason=NO_CUP))
        elif circular and measures.measurements and name == "disc_fovea_distance_um":
            items.append(NotMeasured(name=name, reason=CIRCULAR))
        else:
            items += _own(measures, name)
    return items


def _fovea(context: Context) -> tuple[float, float] | None:
    x, y = context.measured("fovea_x"), context.measured("fovea_y")
    return (x.value, y.value) if x and y else None


def _passed_on(tool: Result, name: str) -> Measurement | NotMeasured | None:
    measured = tool.measurement(name)
    if measured is None:
        return next((item for item in tool.not_measured if item.name == name), None)
    method = f"{measured.method}; passed on from the optic disc tool"
    return measured.model_copy(update={"method": method})


def _own(measures: DiscMeasures, name: str) -> list[Measurement | NotMeasured]:
    reason = measures.reason(name)
    if reason is not None:
        return [NotMeasured(name=name, reason=reason)]
    meant = DEFINITIONS[name]
    found = [item for item in measures.measurements if item.name == name]
    odd = next((item for item in found if not meant.low <= item.value <= meant.high), None)
    if odd is not None:
        # The host would refuse the whole result; one bad scale or mask must not cost the rest.
        unit = "" if meant.unit == "1" else f" {meant.unit}"
        reason = (
            f"{odd.value:.4g}{unit} is not plausible ({meant.low:g} to {meant.high:g}): "
            "the outline, the fovea or the pixel scale is wrong"
        )
        return [NotMeasured(name=name, reason=reason)]
    order = measures.said("isnt_order")
    if order and name.removeprefix("rim_width_") in SECTORS:
        note = f"order of the quarters here {order}, which describes and does not judge"
        return [_in_contract(item, note) for item in found]
    return [_in_contract(item) for item in found]


def _in_contract(item: DiscMeasure, *notes: str) -> Measurement:
    return Measurement(
        name=item.name,
        value=item.value,
        unit=item.unit,
        method="; ".join([item.method, *notes]),
        eye=item.eye,
        zone=item.zone,
        interval=interval_of(item.interval),
    )
