"""From a place in a photograph to the outlines of disc and cup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.image import Photograph
from fovea_plugins.segmenter.optic_disc.contours import Outline, smooth_outline

if TYPE_CHECKING:
    from fovea_plugins.segmenter.optic_disc.crop import Crop
    from fovea_plugins.segmenter.optic_disc.network import DiscNetwork, Seen

MIN_CERTAINTY = 0.85
"""Mean disc probability within the outline below which no disc was seen."""

DISC_THRESHOLD = 0.7
CUP_THRESHOLD = 0.6
HARMONICS = 2


@dataclass(frozen=True)
class Reading:
    """Disc and cup in pixels of the original.

    Attributes:
        disc, cup: The outlines; no cup: None of it is seen.
        certainty: Mean probability of disc within its outline.
    """

    disc: Outline
    cup: Outline | None
    certainty: float

    @property
    def vertical_ratio(self) -> float | None:
        """Height of the cup over that of the disc, or None without a cup."""
        return min(self.cup.extent[1] / self.disc.extent[1], 1.0) if self.cup else None

    @property
    def horizontal_ratio(self) -> float | None:
        """Width of the cup over that of the disc, or None without a cup."""
        return min(self.cup.extent[0] / self.disc.extent[0], 1.0) if self.cup else None


def read_disc(
    network: DiscNetwork, photograph: Photograph, place_xy: NDArray[Any]
) -> Reading | None:
    """Outlines of disc and cup near a place (x, y) of the original, or None without a disc.

    The first look has a fixed width and finds the disc; the second is centred on it
    and scaled by it, so that the cup is judged at the same size on every camera.
    """
    first = network.first_look(photograph, place_xy)
    rough = smooth_outline(first.disc, threshold=DISC_THRESHOLD, harmonics=HARMONICS)
    if rough is None:
        return None
    # One second look only: repeated ones drifted to ever smaller discs where the first was wrong.
    disc = _placed(rough, first.crop)
    return outlines(network.second_look(photograph, disc.centre, disc.diameter))


def outlines(seen: Seen) -> Reading | None:
    """Disc and cup in one square, or None without a disc."""
    disc = smooth_outline(seen.disc, threshold=DISC_THRESHOLD, harmonics=HARMONICS)
    cup = smooth_outline(seen.cup, threshold=CUP_THRESHOLD, harmonics=HARMONICS)
    within = disc.mask(seen.disc.shape) if disc else None
    if disc is None or within is None or not within.any():
        return None
    certainty = float(seen.disc[within].mean())
    return Reading(_placed(disc, seen.crop), _placed(cup, seen.crop) if cup else None, certainty)


def _placed(outline: Outline, crop: Crop) -> Outline:
    return Outline(np.asarray(crop.to_original(outline.points_xy)))
