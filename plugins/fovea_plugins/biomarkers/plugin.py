"""The tool `measure_biomarkers`: numbers that describe the vessel tree and the disc."""

from __future__ import annotations

from collections.abc import Iterable

from fovea.contract import (
    Caveat,
    Context,
    Measurement,
    NoArgs,
    NotMeasured,
    Plugin,
    Result,
)
from fovea.errors import NotApplicable
from fovea_plugins.biomarkers.disc_report import REPORTED, disc_measurements
from fovea_plugins.biomarkers.headline import headline
from fovea_plugins.biomarkers.lesions import LesionLoad, measure_lesions, rows_of
from fovea_plugins.biomarkers.picture import calibre_picture
from fovea_plugins.biomarkers.tables import dictionary_table, values_table
from fovea_plugins.biomarkers.working import Working

LESIONS = ("microaneurysms", "haemorrhages", "hard_exudates", "soft_exudates")

IN_SUMMARY = {
    "crae": "CRAE", "crve": "CRVE", "avr": "AVR", "vessel_density": "vessel density",
    "fractal_dimension": "fractal dimension", "tortuosity": "tortuosity",
    "vertical_cdr": "vertical cup-to-disc ratio",
}  # fmt: skip

UNSURE = frozenset({"grey_picture", "sides_undecided"})
"""Caveats of the vessel tool about arteries and veins."""


class Biomarkers(Plugin[NoArgs]):
    """Measures the vessel tree, optic disc and cup, and where lesions lie that were outlined."""

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
        working = Working.of(context, vessels)
        context.progress("Measuring the vessel tree")
        measures = working.measured()
        context.progress("Measuring disc and lesions")
        has_disc = working.landmarks.disc_diameter_px is not None
        where = "field without the disc" if has_disc else "whole field, disc included"
        disc = disc_measurements(context)
        items = [*headline(measures, eye=context.eye, where=where), *disc]
        picture = calibre_picture(context, working, measures.vessels_used)
        table = values_table(context, working, measures, disc, rows_of(self._lesions(working)))
        named = (self.manifest.output(name) for name in REPORTED)
        meanings = [output.model_dump() for output in named if output is not None]
        artifacts = [table, dictionary_table(context, meanings)]
        measurements = [item for item in items if isinstance(item, Measurement)]
        told = sum(found is not None for found in measures.as_row().values())
        return Result(
            summary=_summary(measurements, told),
            measurements=tuple(measurements),
            not_measured=tuple(item for item in items if isinstance(item, NotMeasured)),
            artifacts=tuple(artifacts if picture is None else [picture, *artifacts]),
            caveats=tuple(_caveats(context, has_disc=has_disc)),
        )

    def _lesions(self, working: Working) -> list[LesionLoad]:
        masks = {kind: working.context.mask(kind) for kind in LESIONS}
        return measure_lesions(
            {kind: mask for kind, mask in masks.items() if mask is not None},
            landmarks=working.landmarks,
            field=working.context.image.field_of_view,
            scale=working.scale,
        )


def _caveats(context: Context, *, has_disc: bool) -> Iterable[Caveat]:
    yield Caveat(
        code="depends_on_segmentation",
        text="The values follow the vessel outline: compare only values made with the "
        "same version of the vessel tool and with the same field angle.",
    )
    if not has_disc:
        yield Caveat(code="disc_included", text="The optic disc was not found and is included.")
    tool = context.earlier.get("arteries")
    if tool and any(caveat.code in UNSURE for caveat in tool.caveats):
        yield Caveat(
            code="sides_unsure",
            text="Arteries and veins could not be told apart well: their widths, ratios and other "
            "values apart are not to be relied on.",
        )


def _summary(measurements: list[Measurement], told: int) -> str:
    by_name = {m.name: m for m in measurements if m.name in IN_SUMMARY}
    parts = []
    for name, words in IN_SUMMARY.items():
        if name in by_name:
            unit = " µm" if by_name[name].unit == "um" else ""
            parts.append(f"{words} {by_name[name].value:.3g}{unit}")
    listed = ", ".join(parts) if parts else "nothing of the headline set"
    return f"Measured: {listed}. {told} values of the vessels by region are in the table."
