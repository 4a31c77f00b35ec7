"""From a photograph to outlined and counted lesions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Frame, Mask, Photograph
from fovea_plugins.segmenter.lesions.operating_points import POINTS, Cuts

if TYPE_CHECKING:
    from fovea_plugins.field_network import FieldNetwork

Floats = NDArray[np.float32]

KINDS = ("microaneurysms", "haemorrhages", "hard_exudates", "soft_exudates")
"""In the order of the outputs of the networks."""

MIRRORS = 2
"""Each network reads the photograph as it is and turned by half."""

LEAST_AREA = 4.0 / 1152**2
"""Smallest lesion as a share of the squared field diameter: 22 um a side in 45 degrees."""


@dataclass(frozen=True)
class Spot:
    """A connected spot: centre (x, y) and area in pixels of the original, highest probability.

    `label` is its value in the map of labels that it was found with.
    """

    x: float
    y: float
    area_px: int
    probability: float
    label: int


@dataclass(frozen=True)
class Kind:
    """All spots of one kind.

    Attributes:
        name: One of `KINDS`.
        cuts: Those that were used.
        probability: (H, W) of the original, 0 to 1, uncalibrated.
        mask: (H, W), the lesions that count.
        spots: Every spot from the lenient cut on, the most probable first.
    """

    name: str
    cuts: Cuts
    probability: Floats
    mask: Mask
    spots: tuple[Spot, ...]

    @property
    def lesions(self) -> tuple[Spot, ...]:
        """The spots that count."""
        return self.at(self.cuts.counted)

    def at(self, cut: float) -> tuple[Spot, ...]:
        """The spots that reach `cut` somewhere."""
        return tuple(spot for spot in self.spots if spot.probability >= cut)


class LesionReader:
    """Looks for lesions with several networks, which have one voice each."""

    def __init__(
        self, networks: Sequence[FieldNetwork], cuts: Mapping[str, Cuts] | None = None
    ) -> None:
        self._networks = tuple(networks)
        self._cuts = cuts or {name: point.cuts for name, point in POINTS.items()}

    @classmethod
    def load(cls, files: Sequence[Path]) -> LesionReader:
        """The reader with the networks in some weight files."""
        from fovea_plugins.field_network import FieldNetwork

        return cls([FieldNetwork.read(file, mirrors=MIRRORS) for file in files])

    def read(
        self, photograph: Photograph, *, progress: Callable[[str], None] = lambda text: None
    ) -> Iterator[Kind]:
        """Each kind of lesion, in the order of `KINDS` and in the frame of the original."""
        maps, frame = self.maps(photograph, progress=progress)
        least = LEAST_AREA * (2.0 * photograph.field_circle.radius) ** 2
        for name, small in zip(KINDS, maps, strict=True):
            progress(f"Outlining {name.replace('_', ' ')}")
            yield outlined(name, frame.map_to_original(small), self._cuts[name], least_px=least)

    def maps(
        self, photograph: Photograph, *, progress: Callable[[str], None] = lambda text: None
    ) -> tuple[Floats, Frame]:
        """Mean probability of the networks, (kinds, h, w), in a view, and the view's frame."""
        total: Floats | None = None
        for number, network in enumerate(self._networks, 1):
            progress(f"Looking for lesions, network {number} of {len(self._networks)}")
            found, frame = network.on_photograph(photograph)
            total = found if total is None else total + found
        if total is None:
            raise ValueError("there is no network")
        return total / np.float32(len(self._networks)), frame


def outlined(name: str, probability: Floats, cuts: Cuts, *, least_px: float) -> Kind:
    """The lesions in a map (H, W) of probabilities.

    Args:
        name: One of `KINDS`.
        probability: (H, W), 0 to 1.
        cuts: Where a pixel belongs to a spot, and a spot is a lesion.
        least_px: Spots of a smaller area are dropped.
    """
    labels, spots = find_spots(probability, cuts.outline, least_px=least_px)
    kept = np.zeros(int(labels.max()) + 1, bool)
    kept[[spot.label for spot in spots if spot.probability >= cuts.counted]] = True
    likely = tuple(spot for spot in spots if spot.probability >= cuts.lenient)
    return Kind(name, cuts, probability, kept[labels], likely)


def find_spots(
    probability: Floats, cut: float, *, least_px: float
) -> tuple[NDArray[np.int32], list[Spot]]:
    """Connected parts above a cut, the most probable first, and a map (H, W) of their labels."""
    above = (probability >= cut).astype(np.uint8)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(above, connectivity=8)
    spots = []
    for label in range(1, count):
        x, y, width, height, area = stats[label]
        if area < least_px:
            continue
        box = slice(y, y + height), slice(x, x + width)
        highest = float(probability[box][labels[box] == label].max())
        x, y = (float(one) for one in centres[label])
        spots.append(Spot(x, y, int(area), highest, label))
    spots.sort(key=lambda spot: (-spot.probability, spot.y, spot.x))
    return np.asarray(labels, np.int32), spots
