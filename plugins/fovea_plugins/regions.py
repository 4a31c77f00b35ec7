"""Regions around optic disc and fovea: ETDRS fields, quadrants, zones A, B and C.

Everything is placed in pixels of the original: (x, y), pixel centres at whole
numbers. Nasal is the side of the disc as seen from the fovea. Superior is the
side that the eye gives (in a right eye the disc lies to the right of the fovea
when superior is up), so mirrored and turned pictures get mirrored and turned
regions; where the eye is not known the picture is taken to be upright.

Zones have clashing names. Here, as in the ARIC study, AutoMorph and SIVA, with
R the disc radius: A is R to 2R from the disc centre, B 2R to 3R (0.5 to 1 disc
diameter from the margin), C 2R to 5R, so that C holds B. PVBM calls the filled
circles of R, 2R and 3R its A, B and C.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.errors import FoveaError
from fovea.scale import Eye, Mask, Scale

if TYPE_CHECKING:
    from fovea.contract import Context

Point = tuple[float, float]
Labels = NDArray[np.uint8]
_Floats = NDArray[np.float32]

_SIDES = ("superior", "nasal", "inferior", "temporal")
ETDRS_FIELDS = (
    "etdrs_centre",
    *(f"etdrs_inner_{side}" for side in _SIDES),
    *(f"etdrs_outer_{side}" for side in _SIDES),
)
"""The field of label n is `ETDRS_FIELDS[n - 1]`; label 0 lies outside the grid."""

ETDRS_RADII_MM = (0.5, 1.5, 3.0)
"""Circles of 1, 3 and 6 mm diameter (ETDRS report number 10, Ophthalmology 1991;98:786-806)."""

QUADRANTS = ("superotemporal", "inferotemporal", "superonasal", "inferonasal")
"""The quadrant of label n is `QUADRANTS[n - 1]`."""

ZONES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"zone_a": (1.0, 2.0), "zone_b": (2.0, 3.0), "zone_c": (2.0, 5.0)}
)
"""Inner and outer radius of each zone in disc radii from the disc centre."""

PLAUSIBLE_DISC_DIAMETERS = (1.5, 4.5)
"""Disc-fovea distances beyond these are no eye's: 2.65 with an SD of 0.30 (Jonas et al. 2015,
PLoS One 10:e0138701), and the outline of a disc may be a fifth too large or too small."""

BAND_ROWS = 64
STEEPEST_UPRIGHT_DEG = 45.0
"""A steeper axis is no upright picture: disc-fovea angles run from -6 to 29 degrees."""


class NotPlaced(FoveaError):
    """A region has no place in this picture; `why` says which landmark is wanting."""


@dataclass(frozen=True)
class Landmarks:
    """Where disc and fovea lie, as far as it is known.

    Attributes:
        disc_xy: Disc centre.
        disc_diameter_px: Mean of height and width of the disc.
        fovea_xy: Foveal centre.
        eye: Which eye; decides which side of the axis is superior.
        fovea_seen: False where the fovea was put at its usual place beside the disc: that
            gives a direction, but neither a distance nor a scale.
    """

    disc_xy: Point | None = None
    disc_diameter_px: float | None = None
    fovea_xy: Point | None = None
    eye: Eye | None = None
    fovea_seen: bool = True

    @classmethod
    def from_context(cls, context: Context) -> Landmarks:
        """What the disc outline and the quality gate measured on the first image.

        The plugin must list `disc_x`, `disc_y`, `fovea_x`, `fovea_y` under `needs` or
        `uses`, and `optic_disc` for the diameter and the better disc centre.
        """
        outline = context.mask("optic_disc")
        seen = outline is not None and bool(outline.any())
        gate = context.earlier.get("fovea_x")
        return cls(
            disc_xy=_centroid(outline) if outline is not None and seen else _point(context, "disc"),
            disc_diameter_px=_disc_diameter(context),
            fovea_xy=_point(context, "fovea"),
            eye=_undisputed_eye(context),
            fovea_seen=gate is None or all(c.code != "fovea_estimated" for c in gate.caveats),
        )

    @property
    def distance_px(self) -> float | None:
        """Distance between the centres of disc and fovea, or None."""
        if not self.fovea_seen:
            return None
        try:
            return math.dist(*self.pair())
        except NotPlaced:
            return None

    @property
    def distance_disc_diameters(self) -> float | None:
        """Distance between the centres in disc diameters, or None."""
        distance = self.distance_px
        return distance / self.disc_diameter_px if distance and self.disc_diameter_px else None

    @property
    def angle_deg(self) -> float | None:
        """Angle of the line from disc to fovea with the horizontal, -90 to 90, or None.

        Positive where the fovea lies below the disc in the picture, as it does in
        upright pictures of most eyes.
        """
        if self.distance_px is None or self.disc_xy is None or self.fovea_xy is None:
            return None
        across, down = (f - d for f, d in zip(self.fovea_xy, self.disc_xy, strict=True))
        return math.degrees(math.atan2(down, abs(across)))

    def scale(self, from_file: Scale | None) -> Scale | None:
        """The scale of the file, else that of a disc-fovea distance of 4.76 mm, else None."""
        if from_file is not None or self.distance_px is None:
            return from_file
        return Scale.from_disc_fovea(self.distance_px)

    def pair(self) -> tuple[Point, Point]:
        """Centres of disc and fovea.

        Raises:
            NotPlaced: one is missing, or they lie as far apart as in no eye.
        """
        if self.disc_xy is None or self.fovea_xy is None:
            missing = "optic disc" if self.disc_xy is None else "fovea"
            raise _not_placed(f"The {missing} was not found.")
        distance = math.dist(self.disc_xy, self.fovea_xy)
        if distance < 1.0:
            raise _not_placed("Disc and fovea were found at one and the same place.")
        if self.disc_diameter_px is not None:
            diameters = distance / self.disc_diameter_px
            low, high = PLAUSIBLE_DISC_DIAMETERS
            if not low <= diameters <= high:
                raise _not_placed(
                    f"Disc and fovea were found {diameters:.1f} disc diameters apart, which is "
                    "so in no eye: one of the two is wrong."
                )
        return self.disc_xy, self.fovea_xy

    def axes(self) -> tuple[Point, Point]:
        """Unit vectors (x, y) that point to nasal and to superior.

        Raises:
            NotPlaced: see `pair`; or the picture lies on its side and the eye is unknown.
        """
        disc, fovea = self.pair()
        distance = math.dist(disc, fovea)
        x, y = (disc[0] - fovea[0]) / distance, (disc[1] - fovea[1]) / distance
        eye = self.eye
        if eye is None:
            if abs(y) > math.sin(math.radians(STEEPEST_UPRIGHT_DEG)):
                raise _not_placed("The picture lies on its side and the eye is not known.")
            eye = "OD" if x > 0 else "OS"
        return (x, y), ((y, -x) if eye == "OD" else (-y, x))


def etdrs_fields(shape: tuple[int, int], landmarks: Landmarks, scale: Scale) -> Labels:
    """The ETDRS grid as labels (H, W): 0 outside, else 1 + index into `ETDRS_FIELDS`.

    Circles of 1, 3 and 6 mm around the fovea, cut by two diagonals to the axis through
    disc and fovea.

    Raises:
        NotPlaced: the fovea was not seen, or see `Landmarks.axes`.
    """
    _, fovea = landmarks.pair()
    nasal, superior = landmarks.axes()
    if not landmarks.fovea_seen:
        raise _not_placed("The fovea was not seen, only put at its usual place.")
    centre, middle, outer = (r * 1000.0 / scale.um_per_px for r in ETDRS_RADII_MM)
    labels: Labels = np.zeros(shape, np.uint8)
    for band in _bands(_box(shape, fovea, outer)):
        to_nasal, to_superior = _along(band, fovea, nasal), _along(band, fovea, superior)
        field: Labels = np.where(
            np.abs(to_superior) >= np.abs(to_nasal),
            np.uint8(2) + np.uint8(2) * (to_superior < 0),
            np.uint8(3) + np.uint8(2) * (to_nasal < 0),
        )
        squared = _squared_distance(band, fovea)
        field += np.uint8(len(_SIDES)) * (squared > middle**2)
        field[squared <= centre**2] = 1
        labels[band] = field * (squared <= outer**2)
    return labels


def quadrants(
    shape: tuple[int, int], landmarks: Landmarks, about: Literal["fovea", "disc"] = "fovea"
) -> Labels:
    """The four quadrants as labels (H, W): 1 + index into `QUADRANTS`.

    They are parted by the axis through disc and fovea and its perpendicular through the
    fovea or the disc, and reach to the edge of the picture.

    Raises:
        NotPlaced: see `Landmarks.axes`.
    """
    disc, fovea = landmarks.pair()
    origin = fovea if about == "fovea" else disc
    nasal, superior = landmarks.axes()
    labels: Labels = np.empty(shape, np.uint8)
    for band in _bands((slice(0, shape[0]), slice(0, shape[1]))):
        to_nasal, to_superior = _along(band, origin, nasal), _along(band, origin, superior)
        labels[band] = np.uint8(1) + np.uint8(2) * (to_nasal > 0) + (to_superior < 0)
    return labels


def zones(shape: tuple[int, int], landmarks: Landmarks) -> dict[str, Mask]:
    """Masks (H, W) of `zone_a`, `zone_b` and `zone_c` around the disc; C holds B.

    Raises:
        NotPlaced: disc centre or disc diameter is not known.
    """
    centre, radius = _disc(landmarks)
    box = _box(shape, centre, max(outer for _, outer in ZONES.values()) * radius)
    masks = {name: np.zeros(shape, bool) for name in ZONES}
    for band in _bands(box):
        squared = _squared_distance(band, centre)
        for name, (inner, outer) in ZONES.items():
            masks[name][band] = (squared > (inner * radius) ** 2) & (
                squared <= (outer * radius) ** 2
            )
    return masks


def etdrs_shares(fields: Labels, field_of_view: Mask, scale: Scale) -> dict[str, float]:
    """Share (0 to 1) of each ETDRS field that lies in the field of view (H, W).

    What lies beyond the frame of the picture counts as unseen.
    """
    centre, middle, outer = (math.pi * (r * 1000.0 / scale.um_per_px) ** 2 for r in ETDRS_RADII_MM)
    areas = [centre, *[(middle - centre) / 4] * 4, *[(outer - middle) / 4] * 4]
    seen = fields * field_of_view
    return {
        name: _share(seen == label, area)
        for label, (name, area) in enumerate(zip(ETDRS_FIELDS, areas, strict=True), 1)
    }


def zone_shares(
    masks: Mapping[str, Mask], field_of_view: Mask, landmarks: Landmarks
) -> dict[str, float]:
    """Share (0 to 1) of each zone that lies in the field of view (H, W).

    What lies beyond the frame of the picture counts as unseen.

    Raises:
        NotPlaced: disc centre or disc diameter is not known.
    """
    _, radius = _disc(landmarks)
    shares = {}
    for name, mask in masks.items():
        inner, outer = ZONES[name]
        area = math.pi * radius**2 * (outer**2 - inner**2)
        shares[name] = _share(mask & field_of_view, area)
    return shares


def _share(seen: Mask, whole_px: float) -> float:
    # Counted pixels can exceed the area of a small region by a few.
    return min(1.0, float(np.count_nonzero(seen)) / whole_px)


def _not_placed(why: str) -> NotPlaced:
    return NotPlaced(
        "The region cannot be placed", why=why, fix="Use a photograph that shows disc and fovea"
    )


def _disc(landmarks: Landmarks) -> tuple[Point, float]:
    if landmarks.disc_xy is None:
        raise _not_placed("The optic disc was not found.")
    if landmarks.disc_diameter_px is None:
        raise _not_placed("The diameter of the optic disc is not known.")
    return landmarks.disc_xy, landmarks.disc_diameter_px / 2.0


def _point(context: Context, name: str) -> Point | None:
    x, y = context.measured(f"{name}_x"), context.measured(f"{name}_y")
    return (x.value, y.value) if x and y else None


def _centroid(mask: Mask) -> Point:
    rows, columns = mask.sum(axis=1), mask.sum(axis=0)
    x, y = (float(counts @ np.arange(len(counts)) / counts.sum()) for counts in (columns, rows))
    return x, y


def _disc_diameter(context: Context) -> float | None:
    height = context.measured("disc_diameter_vertical")
    width = context.measured("disc_diameter_horizontal")
    return (height.value + width.value) / 2.0 if height and width else None


def _undisputed_eye(context: Context) -> Eye | None:
    """The eye, or None where disc and fovea lie as in the other one.

    A label that contradicts the picture is more often a wrong label or a mirrored picture
    than one turned by half, and both of those have superior at the top.
    """
    gate = context.earlier.get("eye")
    inferred = gate.finding("eye") if gate else None
    disputed = inferred and inferred.value in ("OD", "OS") and inferred.value != context.eye
    return None if disputed else context.eye


def _box(shape: tuple[int, int], centre: Point, radius: float) -> tuple[slice, slice]:
    """Rows and columns of the picture that a circle can reach."""
    spans = []
    for size, place in zip(shape, (centre[1], centre[0]), strict=True):
        low = min(size, max(0, math.floor(place - radius)))
        spans.append(slice(low, max(low, min(size, math.ceil(place + radius) + 1))))
    return spans[0], spans[1]


def _bands(box: tuple[slice, slice]) -> Iterator[tuple[slice, slice]]:
    """The box in bands of rows small enough for the cache: three times faster."""
    rows, columns = box
    for top in range(rows.start, rows.stop, BAND_ROWS):
        yield slice(top, min(top + BAND_ROWS, rows.stop)), columns


def _offsets(
    box: tuple[slice, slice], origin: Point
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far each column lies to the right of the origin, each row below it."""
    rows, columns = (np.arange(span.start, span.stop, dtype=np.float64) for span in box)
    return columns - origin[0], rows - origin[1]


# Sums of one term per column and one per row are the same in mirrored and turned pictures to
# the last bit; single precision halves the time and errs by less than a thousandth of a pixel.


def _along(box: tuple[slice, slice], origin: Point, axis: Point) -> _Floats:
    """Coordinate of every pixel of the box along a unit vector from the origin."""
    across, down = _offsets(box, origin)
    terms = (across * axis[0]).astype(np.float32), (down * axis[1]).astype(np.float32)
    return np.asarray(terms[0][None, :] + terms[1][:, None], np.float32)


def _squared_distance(box: tuple[slice, slice], origin: Point) -> _Floats:
    """Squared distance of every pixel of the box from the origin."""
    across, down = _offsets(box, origin)
    terms = (across**2).astype(np.float32), (down**2).astype(np.float32)
    return np.asarray(terms[0][None, :] + terms[1][:, None], np.float32)
