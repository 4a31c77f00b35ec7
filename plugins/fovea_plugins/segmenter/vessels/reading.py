"""Two networks and what follows from them: vessels, arteries, veins, and where it is open.

One network says where vessels are, in a fine and a coarser view. The other tells
arteries from veins on a smaller field, because a vessel is told by its course. Every
segment between two junctions is then given one opinion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Frame, Mask, Photograph
from fovea_plugins.field_network import FieldNetwork
from fovea_plugins.segmenter.vessels.sides import around_half, artery_share, settle_sides

Floats = NDArray[np.float32]

FINE_SHARE = 0.72
FINE_LIMITS_PX = (760, 1200)
"""The finer of two field diameters at which vessels are looked for: this share of the
photograph's own, within limits. Thin vessels want a fine view even if it adds no detail."""

COARSER = 1.45
"""How much smaller the coarser view is: wide vessels are then whole."""

SIDE_VIEWS_PX = (512, 720)
"""Field diameters at which arteries are told from veins."""

SPECK = 4e-5
"""Connected parts below this share of the squared field diameter are dropped."""

RIM, ON_RIM = 0.012, 0.6
"""Parts of which more than the second share lies within the first share of the field
diameter of its edge are dropped: they are its reflections, not vessels."""

OPEN = (0.35, 0.65)
"""Artery shares between which a vessel is neither: reported as uncertain."""


@dataclass(frozen=True)
class Reading:
    """What was found, in the frame of the original; all (H, W).

    Attributes:
        probability: Of vessel, 0 to 1.
        raw: Vessels before specks are dropped.
        vessels: The vessel mask.
        pixel_share: How far a pixel is artery rather than vein, 0 to 1.
        share: The same, one value along each vessel segment.
    """

    probability: Floats
    raw: Mask
    vessels: Mask
    pixel_share: Floats
    share: Floats

    @property
    def arteries(self) -> Mask:
        """Vessels that are arteries."""
        return np.asarray(self.vessels & (self.share >= OPEN[1]))

    @property
    def veins(self) -> Mask:
        """Vessels that are veins."""
        return np.asarray(self.vessels & (self.share <= OPEN[0]))

    @property
    def uncertain(self) -> Mask:
        """Vessels that could be either."""
        return np.asarray(self.vessels & (self.share > OPEN[0]) & (self.share < OPEN[1]))


class VesselReader:
    """Reads the vessel tree of a photograph."""

    def __init__(self, vessels: FieldNetwork, sides: FieldNetwork) -> None:
        self._vessels, self._sides = vessels, sides
        self.threshold = float(vessels.facts["threshold"])
        self.artery_cut = float(sides.facts["artery_cut"])

    @classmethod
    def load(cls, vessels: Path, sides: Path) -> VesselReader:
        """The reader with the networks in two weight files."""
        return cls(read_network(vessels), read_network(sides))

    def read(
        self, photograph: Photograph, *, progress: Callable[[str], None] = lambda text: None
    ) -> Reading:
        """Vessels, arteries and veins of a photograph."""
        progress("Outlining the vessels")
        small, frame = vessel_map(self._vessels, photograph)
        progress("Telling arteries from veins")
        sides = side_map(self._sides, photograph, small.shape)
        share = settle_sides(sides, small >= self.threshold)
        probability = frame.map_to_original(small)
        raw = probability >= self.threshold
        vessels = without_specks(raw, photograph)
        centred = (around_half(one, self.artery_cut) for one in (artery_share(sides), share))
        shares = (frame.map_to_original(one) for one in centred)
        return Reading(probability, raw, vessels, *shares)


def read_network(path: Path) -> FieldNetwork:
    """A network of this plugin; of its mirror images two are enough, with two views."""
    return FieldNetwork.read(path, mirrors=2)


def vessel_map(network: FieldNetwork, photograph: Photograph) -> tuple[Floats, Frame]:
    """Vessel probability in the finer view, (h, w), and the frame of that view."""
    own = 2.0 * photograph.field_circle.radius
    fine = float(np.clip(FINE_SHARE * own, *FINE_LIMITS_PX))
    coarse, _ = network.on_photograph(photograph, field_diameter_px=round(fine / COARSER))
    found, frame = network.on_photograph(photograph, field_diameter_px=round(fine))
    return (found[0] + _resized(coarse[0], found[0].shape)) / 2.0, frame


def side_map(network: FieldNetwork, photograph: Photograph, shape: tuple[int, ...]) -> Floats:
    """Vessel, artery and vein by the network for sides, (3, h, w) in a view of that shape."""
    views = [network.on_photograph(photograph, field_diameter_px=d) for d in SIDE_VIEWS_PX]
    layers = [[_resized(one, shape) for one in found] for found, _ in views]
    return np.asarray(np.mean(layers, axis=0), np.float32)


def _resized(values: Floats, shape: tuple[int, ...]) -> Floats:
    """A map of one view in the pixels of another of the same photograph: both show its field."""
    size = (shape[1], shape[0])
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_LINEAR), np.float32)


def without_specks(mask: Mask, photograph: Photograph) -> Mask:
    """The mask (H, W) without its smallest connected parts, and without reflections on the rim."""
    diameter = 2.0 * photograph.field_circle.radius
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    framed = np.pad(photograph.field_of_view.astype(np.uint8), 1)
    depth = cv2.distanceTransform(framed, cv2.DIST_L2, 3)[1:-1, 1:-1]
    near = labels[mask & (depth < RIM * diameter)]
    on_rim = np.bincount(near, minlength=len(areas)) / areas
    keep = (areas >= SPECK * diameter**2) & (on_rim <= ON_RIM)
    keep[0] = False
    return np.asarray(keep[labels])
