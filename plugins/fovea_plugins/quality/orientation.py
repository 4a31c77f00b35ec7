"""Which eye it is, how the picture is turned, and what it is centred on."""

from __future__ import annotations

import numpy as np

from fovea.contract import Finding
from fovea.image import Photograph, View
from fovea_plugins.quality.landmarks import Disc, Fovea
from fovea_plugins.quality.lines import FIELD_DIAMETER_PX

UPRIGHT_DEG = (0.0, 35.0)
"""Angles from disc to fovea, positive downwards, at which a picture is taken to be upright:
7.8 degrees with SD 3.6 by Jonas et al. 2015, and heads are tilted. Pictures upside down show
the same angles with the other sign, so the border lies at 0."""

AT_EDGE_PX = 165.0
MIN_PEAK_AT_EDGE = 0.5
"""A fovea this far from the middle of the view must be seen this clearly: in fields centred
on the disc it lies at the edge, and shadow on the other side looks like it."""

TURNED = "the picture may be turned"
UPSIDE_DOWN = "the picture may be upside down"
CENTRED_WITHIN_PX = 70.0


def infer_eye(view: View, disc: Disc | None, fovea: Fovea | None) -> Finding:
    """The eye by the side of the disc; indeterminate where the picture may be turned."""
    if not disc or not fovea:
        return Finding(
            concept="eye",
            state="indeterminate",
            detail="Disc and fovea are not both seen, so the eye cannot be told.",
        )
    if not fovea.seen:
        return Finding(
            concept="eye",
            state="indeterminate",
            detail="No fovea was seen, so it is not known on which side of the disc it lies.",
        )
    height, width = view.field_of_view.shape
    from_middle = float(np.hypot(fovea.x - width / 2, fovea.y - height / 2))
    if from_middle > AT_EDGE_PX and fovea.peak < MIN_PEAK_AT_EDGE:
        return Finding(
            concept="eye",
            state="indeterminate",
            detail="The fovea lies at the edge of the field and is not clearly seen.",
        )
    angle_deg = float(np.degrees(np.arctan2(fovea.y - disc.y, abs(fovea.x - disc.x))))
    if abs(angle_deg) > UPRIGHT_DEG[1]:
        detail = f"The line from disc to fovea is tilted by {angle_deg:.0f} degrees: {TURNED}."
        return Finding(concept="eye", state="indeterminate", detail=detail)
    if angle_deg < UPRIGHT_DEG[0]:
        # Rotation by half a turn and a flip look alike here but mean opposite eyes.
        detail = f"The fovea lies above the disc: {UPSIDE_DOWN}."
        return Finding(concept="eye", state="indeterminate", detail=detail)
    eye = "OD" if disc.x > fovea.x else "OS"
    side = "right" if eye == "OD" else "left"
    return Finding(
        concept="eye",
        state="present",
        value=eye,
        detail=f"The disc lies to the {side} of the fovea: so in an upright, unmirrored picture.",
    )


def infer_field(image: Photograph, view: View, disc: Disc | None, fovea: Fovea | None) -> Finding:
    """Whether macula or disc lies in the middle of the field."""
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
