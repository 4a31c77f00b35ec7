"""Where a probability becomes a lesion, and how often that is right.

Everything here was chosen or measured on photographs of the IDRiD segmentation
set, each read by the one network that was not trained on it; see the model card.
`python -m fovea_plugins.training.ship_lesions` prints this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Cuts:
    """Probabilities at which pixels become spots, and spots lesions; rising in this order.

    Attributes:
        outline: Pixels from here on belong to a spot.
        lenient, counted, strict: A spot is a lesion if it reaches this somewhere; the
            outer two give the range around a count, and `strict` says "present".
    """

    outline: float
    lenient: float
    counted: float
    strict: float


@dataclass(frozen=True)
class OperatingPoint:
    """The cuts of one kind of lesion, and what they give on photographs not trained on.

    Attributes:
        lesions_found: Share of the lesions marked by experts that a counted one overlaps.
        false_per_photograph: Counted lesions that overlap none, in the mean.
        eyes_found, eyes: Of so many eyes with a marked lesion, in so many one is counted.
        smallest_field_px: Photographs with a smaller field diameter are too coarse.
    """

    cuts: Cuts
    lesions_found: float
    false_per_photograph: float
    eyes_found: int
    eyes: int
    smallest_field_px: int


POINTS: Mapping[str, OperatingPoint] = {
    "microaneurysms": OperatingPoint(Cuts(0.20, 0.42, 0.64, 0.901), 0.38, 3.9, 18, 18, 500),
    "haemorrhages": OperatingPoint(Cuts(0.15, 0.36, 0.57, 0.962), 0.49, 2.6, 17, 17, 350),
    "hard_exudates": OperatingPoint(Cuts(0.15, 0.55, 0.94, 0.991), 0.41, 0.6, 17, 18, 350),
    "soft_exudates": OperatingPoint(Cuts(0.25, 0.34, 0.42, 0.741), 0.59, 0.3, 8, 8, 350),
}
