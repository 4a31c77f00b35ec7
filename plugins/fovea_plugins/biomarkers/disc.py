"""Measures of the optic disc and cup on plain masks.

`measure_disc` needs no assistant: it takes boolean arrays and returns measurements with
unit and method, or the reason why there is none.

What is vertical: by default the vertical of the image, as in the definition of the vertical
cup-to-disc ratio and in the experts' readings that it is compared with. A camera or head
that was tilted turns it; `axis_deg=disc_fovea_line(...).axis_deg` makes it the perpendicular
to the line from disc to fovea instead, which a tilt does not change.

Clock hours are those of a clock laid over the photograph: 12 is above, 3 is at the right.
So 3 o'clock is nasal in a right eye and temporal in a left one, and nasal and temporal are
named only where the eye is known.

Rays start at the centroid of the disc. Rim width is the distance along a ray from the
outermost edge of the cup to the edge of the disc; on a ray that does not meet the cup it is
the whole radius.

Accuracy on rasterised ellipses: cup-to-disc ratios within 0.01 for discs of 80 pixels or more
and within 0.03 for smaller ones; areas within 1 % from diameters of 30 pixels on; rim widths
within one pixel where the cup holds the centroid of the disc, worse on rays that graze a cup
that does not.

Sources:
    Cup-to-disc ratio adjusted for disc size: Crowston JG et al. Br J Ophthalmol 2004;88:766-770.
    Rim and disc area: Jonas JB, Gusek GC, Naumann GOH. Optic disc, cup and neuroretinal rim
        size, configuration and correlations in normal eyes. Invest Ophthalmol Vis Sci
        1988;29:1151-1158; there also the order of the rim widths (ISNT), which only 18 % of
        280 healthy eyes kept by area (J Glaucoma 2015;24:377-382): a descriptor, no rule.
    Rim-to-disc ratio, arc without rim, size classes: Spaeth GL et al. The disc damage
        likelihood scale. Trans Am Ophthalmol Soc 2002;100:181-186; Bayer A et al. Am J
        Ophthalmol 2002;133:758-763; Henderer JD. Br J Ophthalmol 2006;90:395-396.
    Ovality: Tay E et al. Optic disk ovality as an index of tilt and its relationship to myopia
        and perimetry. Am J Ophthalmol 2005;139:247-252.
    Torsion: Lee KH, Kim CY, Kim NR. Invest Ophthalmol Vis Sci 2014;55:1048-1055.
    Disc-fovea distance: Jonas RA et al. PLoS One 2015;10:e0138701.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fovea.errors import BadArguments
from fovea.scale import Eye
from fovea_plugins.biomarkers.disc_outline import (
    RAY_ANGLES_DEG,
    RAYS,
    Floats,
    Outline,
    cup_outline,
    disc_outline,
    folded,
)
from fovea_plugins.biomarkers.disc_values import (
    CLOCK_HOURS,
    DEFINITIONS,
    DESCRIPTORS,
    SECTORS,
    Definition,
    Descriptor,
    DiscMeasure,
    DiscMeasures,
    PixelScale,
    Sheet,
    nothing_measured,
)
from fovea_plugins.biomarkers.masks import as_mask

__all__ = [
    "DEFINITIONS", "DESCRIPTORS", "Definition", "Descriptor", "DiscFovea", "DiscMeasure",
    "DiscMeasures", "disc_fovea_line", "measure_disc",
]  # fmt: skip

ROUND = 0.02
"""Axes that differ by less than this share, or by less than a pixel, point nowhere."""

NARROWEST_ARC_RAYS = 11
"""The smallest rim-to-disc ratio is a mean over 11 degrees: one ray would be noise."""

EDGE_PX = 1.0
"""Rim widths are right to this; narrower ones cannot be told from none."""

SIZE_CLASSES_MM = (1.5, 2.0)
"""Vertical diameters that part small, average and large discs (Henderer 2006, table 1)."""


@dataclass(frozen=True)
class DiscFovea:
    """Where the fovea lies as seen from the disc.

    Attributes:
        distance_px: Distance in pixels.
        axis_deg: Angle of the line from the horizontal of the image, anticlockwise, in
            (-90, 90]: what `measure_disc` takes as `axis_deg`.
        below_deg: Angle by which the fovea lies below the disc; negative above it.
        side: On which side of the disc it lies.
    """

    distance_px: float
    axis_deg: float
    below_deg: float
    side: Literal["left", "right"]


def disc_fovea_line(
    disc_xy: tuple[float, float], fovea_xy: tuple[float, float], *, axis_deg: float = 0.0
) -> DiscFovea:
    """Distance and angle from the disc to the fovea, both (x, y) in pixels.

    Args:
        disc_xy: Centre of the disc.
        fovea_xy: The fovea.
        axis_deg: Horizontal from which `below_deg` and `side` are judged, in degrees
            anticlockwise from that of the image.

    Raises:
        BadArguments: a point is not finite, or both are the same.
    """
    across, down = (f - d for d, f in zip(disc_xy, fovea_xy, strict=True))
    distance = math.hypot(across, down)
    if not (math.isfinite(distance) and distance > 0 and math.isfinite(axis_deg)):
        raise _bad("disc_xy, fovea_xy", f"{disc_xy}, {fovea_xy}", "two different finite points")
    turned = math.radians(axis_deg)
    right = across * math.cos(turned) - down * math.sin(turned)
    below = across * math.sin(turned) + down * math.cos(turned)
    return DiscFovea(
        distance_px=distance,
        axis_deg=folded(-math.degrees(math.atan2(down, across))),
        below_deg=math.degrees(math.atan2(below, abs(right))),
        side="right" if right > 0 else "left",
    )


def measure_disc(
    disc: NDArray[Any],
    cup: NDArray[Any] | None,
    *,
    eye: Eye | None,
    axis_deg: float = 0.0,
    um_per_px: float | None = None,
    scale_relative_sd: float | None = None,
    fovea_xy: tuple[float, float] | None = None,
    atrophy: NDArray[Any] | None = None,
    field_of_view: NDArray[Any] | None = None,
) -> DiscMeasures:
    """Every measure of an optic disc that the masks allow, and why not for the others.

    Args:
        disc: Mask (H, W) of the disc, cup included; bool, or 0 and 1, or 0 and 255. Holes
            are filled, so a ring of rim alone gives the same.
        cup: Mask (H, W) of the cup in the same frame; None if it is not known.
        eye: `OD`, `OS`, or None where it is not known: then nothing is called nasal.
        axis_deg: Horizontal of the disc, in degrees anticlockwise from that of the image.
        um_per_px: Pixel scale; None leaves all physical sizes unmeasured.
        scale_relative_sd: Relative standard error of the scale, which gives physical sizes
            their interval; None: not known, so no interval.
        fovea_xy: The fovea (x, y) in pixels, pixel centres at whole numbers.
        atrophy: Mask (H, W) of peripapillary atrophy; an empty one says that there is none.
        field_of_view: Mask (H, W) of what the camera saw; a disc at its edge counts as cut.

    Raises:
        BadArguments: an argument other than a mask is out of its range. What is wrong with
            a mask is a reason of the measures that need it.
    """
    _check(eye, axis_deg, um_per_px, scale_relative_sd, fovea_xy)
    disc = np.asarray(disc)
    outline = disc_outline(disc, field_of_view)
    if isinstance(outline, str):
        return nothing_measured(outline)
    sheet = Sheet()
    if eye is None:
        sheet.missing["eye"] = "It is not known which eye this is"
    _put_disc(sheet, outline, axis_deg)
    _put_fovea(sheet, outline, fovea_xy, axis_deg, eye)
    cup_found = cup_outline(cup, disc.shape, outline)
    if isinstance(cup_found, str):
        sheet.missing["cup"] = cup_found
    else:
        _put_cup(sheet, outline, cup_found, axis_deg, None if "eye" in sheet.missing else eye)
    _put_atrophy(sheet, outline, atrophy, disc.shape)
    scale = PixelScale(um_per_px, scale_relative_sd) if um_per_px is not None else None
    _put_size_class(sheet, scale)
    return sheet.measures(scale=scale, eye=eye, axis_deg=axis_deg)


def _check(
    eye: Eye | None,
    axis_deg: float,
    um_per_px: float | None,
    scale_relative_sd: float | None,
    fovea_xy: tuple[float, float] | None,
) -> None:
    if eye is not None and eye not in get_args(Eye):
        raise _bad("eye", eye, "`OD`, `OS` or None")
    if not math.isfinite(axis_deg):
        raise _bad("axis_deg", axis_deg, "a finite angle in degrees")
    if um_per_px is not None and not (math.isfinite(um_per_px) and um_per_px > 0):
        raise _bad("um_per_px", um_per_px, "a positive number of micrometres, or None")
    sd = scale_relative_sd
    if sd is not None and not (math.isfinite(sd) and 0 <= sd < 1):
        raise _bad("scale_relative_sd", sd, "a share from 0 to 1, or None")
    if fovea_xy is not None and not np.isfinite(fovea_xy).all():
        raise _bad("fovea_xy", fovea_xy, "a finite point (x, y), or None")


def _bad(where: str, value: object, wanted: str) -> BadArguments:
    return BadArguments(
        "measure_biomarkers",
        f"`{where}` is {value!r}",
        where="measure_disc",
        why="The disc cannot be measured with it",
        fix=f"Give {wanted}",
    )


def _put_disc(sheet: Sheet, disc: Outline, axis_deg: float) -> None:
    radius = math.sqrt(disc.area / math.pi)
    sheet.put("disc_area_px2", disc.area)
    sheet.put("disc_diameter", 2.0 * radius)
    for way, clock_deg in (("vertical", 0.0), ("horizontal", 90.0)):
        value = disc.extent(clock_deg, axis_deg, disc_radius=radius)
        sheet.put(f"disc_diameter_{way}", value)
    ovality = disc.ellipse.minor / disc.ellipse.major
    sheet.put("disc_ovality", ovality)
    if disc.ellipse.major - disc.ellipse.minor >= max(EDGE_PX, ROUND * disc.ellipse.major):
        sheet.put("disc_orientation", folded(disc.ellipse.lean_deg - axis_deg))
    else:
        reason = f"The disc is round (ovality {ovality:.2f}): it has no long axis"
        sheet.reasons["disc_orientation"] = sheet.reasons["disc_torsion"] = reason


def _put_fovea(
    sheet: Sheet,
    disc: Outline,
    fovea_xy: tuple[float, float] | None,
    axis_deg: float,
    eye: Eye | None,
) -> None:
    if fovea_xy is None:
        sheet.missing["fovea"] = "The place of the fovea is not known"
        return
    diameter = sheet.get("disc_diameter")
    if math.dist(disc.centre_xy, fovea_xy) < 0.75 * diameter:
        sheet.missing["fovea"] = "The place given for the fovea is in or beside the disc"
        return
    line = disc_fovea_line(disc.centre_xy, fovea_xy, axis_deg=axis_deg)
    if abs(line.below_deg) > 45.0:
        sheet.missing["fovea"] = (
            "The fovea lies above or below the disc: the picture is not upright"
        )
        return
    sheet.put("disc_fovea_distance", line.distance_px)
    sheet.put("disc_fovea_distance_dd", line.distance_px / diameter)
    sheet.put("disc_fovea_angle", line.below_deg)
    if eye is None:
        return
    if line.side != ("left" if eye == "OD" else "right"):
        sheet.missing["eye"] = f"The fovea lies on the nasal side of the disc for the eye {eye}"
    elif "disc_orientation" in sheet.values:
        lean = folded(disc.ellipse.lean_deg - line.axis_deg)
        sheet.put("disc_torsion", lean if eye == "OD" else -lean)


def _put_cup(sheet: Sheet, disc: Outline, cup: Outline, axis_deg: float, eye: Eye | None) -> None:
    sheet.put("cup_area_px2", cup.area)
    sheet.put("rim_area_px2", disc.area - cup.area)
    sheet.put("area_cdr", cup.area / disc.area)
    radius = math.sqrt(disc.area / math.pi)
    for way, clock_deg in (("vertical", 0.0), ("horizontal", 90.0)):
        extent = cup.extent(clock_deg, axis_deg, disc_radius=radius)
        sheet.put(f"{way}_cdr", min(1.0, extent / sheet.get(f"disc_diameter_{way}")))
    to_edge = disc.radii(disc.centre_xy, axis_deg)
    width = np.maximum(to_edge - cup.radii(disc.centre_xy, axis_deg), 0.0)
    ratio = width / (to_edge + np.roll(to_edge, RAYS // 2))
    for hour in CLOCK_HOURS:
        rays = _within(30.0 * hour, 15.0)
        sheet.put("rim_width", width[rays].mean(), zone=f"clock_{hour}")
        sheet.put("rim_disc_ratio", ratio[rays].mean(), zone=f"clock_{hour}")
    nasal = 270.0 if eye == "OS" else 90.0
    centres = {"superior": 0.0, "inferior": 180.0, "nasal": nasal, "temporal": nasal + 180.0}
    for sector in SECTORS if eye else ("superior", "inferior"):
        sheet.put(f"rim_width_{sector}", width[_within(centres[sector], 45.0)].mean())
    _put_narrowest(sheet, ratio)
    sheet.put("rim_absent_arc", 360.0 * float((width < EDGE_PX).mean()))
    if eye:
        widths = {s[0].upper(): sheet.get(f"rim_width_{s}") for s in SECTORS}
        text = _order(widths)
        method = (
            f"Order of the rim widths of the quarters; ≈ joins those within {EDGE_PX:.0f} pixel"
        )
        sheet.words["isnt_order"] = (text, f"{method}; a descriptor, not a rule")


def _within(centre_deg: float, half_deg: float) -> NDArray[np.bool_]:
    """Which rays lie within an angle of a clock angle."""
    return np.asarray(np.abs((RAY_ANGLES_DEG - centre_deg + 180.0) % 360.0 - 180.0) < half_deg)


def _put_narrowest(sheet: Sheet, ratio: Floats) -> None:
    half = NARROWEST_ARC_RAYS // 2
    smooth = np.mean([np.roll(ratio, shift) for shift in range(-half, half + 1)], axis=0)
    sheet.put("rim_disc_ratio_min", smooth.min())
    near = np.flatnonzero(smooth - smooth.min() < EDGE_PX / sheet.get("disc_diameter"))
    gaps = np.sort(np.diff(np.append(near, near[0] + RAYS)))
    # One arc, holes of one hour allowed: its middle is the place. Several arcs have none.
    if gaps[-1] <= 180 or (len(gaps) > 1 and gaps[-2] > 30):
        reason = "The rim is equally narrow at clock hours far from each other"
        sheet.reasons["rim_disc_ratio_min_clock_hour"] = reason
        return
    angles = np.deg2rad(RAY_ANGLES_DEG[near])
    middle = math.degrees(math.atan2(np.sin(angles).sum(), np.cos(angles).sum()))
    sheet.put("rim_disc_ratio_min_clock_hour", round(middle / 30.0) % 12 or 12)


def _order(widths: dict[str, float]) -> str:
    """Initials from the widest to the narrowest, `≈` between those that cannot be told apart."""
    ranked = sorted(widths, key=lambda name: -widths[name])
    text = ranked[0]
    for wider, name in pairwise(ranked):
        apart = widths[wider] - widths[name] >= EDGE_PX
        text += f" {'>' if apart else '≈'} {name}"
    return text


def _put_atrophy(
    sheet: Sheet, disc: Outline, atrophy: NDArray[Any] | None, shape: tuple[int, ...]
) -> None:
    if atrophy is None:
        sheet.missing["atrophy"] = "No mask of peripapillary atrophy was given"
        return
    none_seen = np.shape(atrophy) == shape and not np.any(atrophy)
    mask = np.zeros(shape, bool) if none_seen else as_mask(atrophy, "atrophy")
    if isinstance(mask, str):
        sheet.missing["atrophy"] = mask
    elif mask.shape != shape:
        sheet.missing["atrophy"] = f"The atrophy mask has shape {mask.shape}, the disc {shape}"
    elif mask[[0, -1]].any() or mask[:, [0, -1]].any():
        sheet.missing["atrophy"] = "The atrophy is cut by the border of the image"
    else:
        area = np.count_nonzero(mask) - np.count_nonzero(disc.box.cut(mask) & disc.mask)
        sheet.put("atrophy_area_px2", area)
        sheet.put("atrophy_disc_ratio", area / disc.area)


def _put_size_class(sheet: Sheet, scale: PixelScale | None) -> None:
    if scale is None:
        sheet.missing["scale"] = "The pixel scale is not known"
        return
    value, interval = scale.physical(sheet.get("disc_diameter_vertical"), "mm")
    small, large = SIZE_CLASSES_MM
    low, high = (interval.low, interval.high) if interval else (value, value)
    if any(low < bound < high for bound in SIZE_CLASSES_MM):
        sheet.reasons["disc_size_class"] = (
            f"The vertical diameter, {low:.2f} to {high:.2f} mm by the error of the pixel scale, "
            "lies on both sides of a class boundary"
        )
        return
    text = "small" if value < small else "average" if value <= large else "large"
    method = f"Vertical diameter below {small}, up to {large}, or above {large} mm"
    sheet.words["disc_size_class"] = (text, method)
