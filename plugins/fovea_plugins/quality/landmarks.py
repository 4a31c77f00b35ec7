"""Optic disc and fovea centres, from the maps of the landmark network.

The network gives candidates for both; the pair is taken that is likely and lies as
far apart as disc and fovea do (cf. Niemeijer et al. 2009, Med Image Anal 13:859-870,
on finding one by the other). Coordinates are pixels of a view of `FIELD_DIAMETER_PX`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from fovea.image import View
from fovea_plugins.quality.lines import FIELD_DIAMETER_PX
from fovea_plugins.quality.maps import DISC, FIELD_PX, FOVEA, Peak, Seen, peaks

CANDIDATES = 3
APART_PX = FIELD_PX / 7
"""Candidates of one landmark are a disc diameter apart, in pixels of the maps."""

MIN_DISC = 0.20
MIN_FOVEA_SEEN = 0.15
MIN_FOVEA = 0.02
"""Peaks of the maps below which there is no disc, no visible fovea, no fovea at all."""

DISC_FOVEA_SHARE = (0.20, 0.80)
"""Distance of the centres over the field diameter, for fields of 90 to 25 degrees."""

USUAL_SHARE = 0.383
"""The same in a field of 50 degrees: median of IDRiD train."""

DIAMETERS_APART = 2.65
"""Distance of the centres in disc diameters (Jonas et al. 2015, PLoS One 10:e0138701)."""

NOMINAL_RADIUS_PX = FIELD_DIAMETER_PX / 14
IMPLAUSIBLE = 6.0
"""Penalty, in units of log probability, of a pair at a distance that no eye has."""


@dataclass(frozen=True)
class Disc:
    """Disc centre (x, y), usual radius at this distance to the fovea, and its peak, 0 to 1."""

    x: float
    y: float
    radius: float
    peak: float


@dataclass(frozen=True)
class Fovea:
    """Foveal centre (x, y), and its peak, 0 to 1; 0 where it was placed by the disc alone."""

    x: float
    y: float
    peak: float

    @property
    def seen(self) -> bool:
        """True: a fovea was seen; False: put where foveas are, on the likelier side."""
        return self.peak >= MIN_FOVEA_SEEN


def locate(seen: Seen, view: View) -> tuple[Disc | None, Fovea | None]:
    """Disc and fovea in a view; None for what is not in the field or cannot be told."""
    discs = _candidates(seen, DISC, MIN_DISC)
    foveas = _candidates(seen, FOVEA, MIN_FOVEA)
    if not discs:
        return None, None
    if not foveas:
        disc = _disc(seen, view, discs[0], None)
        return disc, _by_distance(view, disc)
    pairs = [(_likelihood(d, f), d, f) for d, f in product(discs, foveas)]
    best, of_disc, of_fovea = max(pairs, key=lambda pair: pair[0])
    alone = float(np.log(discs[0].height) + np.log(MIN_FOVEA))
    if best < alone:
        disc = _disc(seen, view, discs[0], None)
        return disc, _by_distance(view, disc)
    disc = _disc(seen, view, of_disc, of_fovea)
    x, y = _moved(seen, view, of_fovea)
    return disc, Fovea(x, y, of_fovea.height)


def _candidates(seen: Seen, channel: int, least: float) -> list[Peak]:
    found = peaks(seen.maps[channel], count=CANDIDATES, apart_px=APART_PX)
    return [peak for peak in found if peak.height >= least]


def _likelihood(disc: Peak, fovea: Peak) -> float:
    share = float(np.hypot(disc.x - fovea.x, disc.y - fovea.y)) / FIELD_PX
    low, high = DISC_FOVEA_SHARE
    penalty = 0.0 if low <= share <= high else IMPLAUSIBLE
    return float(np.log(disc.height) + np.log(fovea.height)) - penalty


def _moved(seen: Seen, view: View, peak: Peak) -> tuple[float, float]:
    x, y = view.frame.to_view(seen.frame.to_original(np.array([peak.x, peak.y])))
    return float(x), float(y)


def _disc(seen: Seen, view: View, disc: Peak, fovea: Peak | None) -> Disc:
    x, y = _moved(seen, view, disc)
    radius = NOMINAL_RADIUS_PX
    if fovea is not None and fovea.height >= MIN_FOVEA_SEEN:
        fx, fy = _moved(seen, view, fovea)
        radius = float(np.hypot(fx - x, fy - y)) / (2.0 * DIAMETERS_APART)
    return Disc(x, y, radius, disc.height)


def _by_distance(view: View, disc: Disc) -> Fovea | None:
    """Where foveas are, towards the middle of the field; None where that is not in the field."""
    height, width = view.field_of_view.shape
    towards = 1.0 if disc.x < width / 2 else -1.0
    angle = np.deg2rad(7.0)
    reach = USUAL_SHARE * FIELD_DIAMETER_PX
    x, y = disc.x + towards * reach * np.cos(angle), disc.y + reach * np.sin(angle)
    column, row = round(float(x)), round(float(y))
    if not (0 <= column < width and 0 <= row < height and view.field_of_view[row, column]):
        return None
    return Fovea(float(x), float(y), 0.0)
