"""The tool `segment_vessels`: outlines the blood vessels of a retinal photograph."""

from __future__ import annotations

import numpy as np

from fovea.contract import Caveat, Context, NoArgs, Plugin, Result
from fovea.errors import NotApplicable
from fovea_plugins.segmenter.vessels.delineate import vessels_from_score
from fovea_plugins.segmenter.vessels.filters import FIELD_DIAMETER_PX, vessel_score

LEAST_SHARE, LARGEST_SHARE = 0.01, 0.30
"""Shares of the field of view that vessels plausibly cover; manual masks have 0.05 to 0.16."""


class VesselSegmenter(Plugin[NoArgs]):
    """Outlines the retinal blood vessels, arteries and veins together."""

    Args = NoArgs

    def run(self, context: Context, args: NoArgs) -> Result:
        """The vessel mask and the score behind it, in the frame of the original.

        Raises:
            NotApplicable: what was found covers an implausible share of the field.
        """
        photograph = context.image
        context.progress("Looking for dark lines")
        view = photograph.view(FIELD_DIAMETER_PX)
        score, field = vessel_score(view)
        # The smooth score is enlarged, not the mask: the outline then has no staircase.
        full = view.frame.map_to_original(score)
        context.check_cancelled()
        vessels = vessels_from_score(full, 2.0 * photograph.field_circle.radius)
        share = float(vessels.sum()) / max(int(photograph.field_of_view.sum()), 1)
        if not LEAST_SHARE <= share <= LARGEST_SHARE:
            raise NotApplicable(
                self.manifest.name,
                "No believable vessel tree was found",
                where=photograph.handle,
                why=f"{share:.1%} of the field answered like vessel; between "
                f"{LEAST_SHARE:.0%} and {LARGEST_SHARE:.0%} is plausible",
                fix="Use a sharper, evenly lit photograph",
            )
        grey = np.round(full * 255.0).astype(np.uint8)
        picture = np.repeat(grey[..., None], 3, axis=2)
        caveats = [
            Caveat(
                code="classical_method",
                text="Matched filters, not a trained network: the finest vessels and vessels "
                "on haemorrhages are missed, edges of lesions can be taken for vessels.",
            )
        ]
        scored = float(field.sum()) / max(int(view.field_of_view.sum()), 1)
        if scored < 0.85:
            caveats.append(
                Caveat(
                    code="field_partly_dark",
                    text=f"Only {scored:.0%} of the field is lit well enough to look for vessels.",
                )
            )
        return Result(
            summary=f"Vessels outlined; they cover {share:.1%} of the field of view. "
            "Arteries and veins are not told apart.",
            artifacts=(
                context.save_mask("vessels", vessels),
                context.save_picture("vessel_score", picture, "heatmap"),
            ),
            caveats=tuple(caveats),
        )
