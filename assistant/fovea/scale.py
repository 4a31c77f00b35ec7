"""What a mask, an eye and a pixel scale are: the words that measuring shares with the rest.

Imports NumPy only, so that measuring plain arrays costs no more memory than it needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Eye = Literal["OD", "OS"]
Mask = NDArray[np.bool_]

DISC_FOVEA_MM = 4.76
DISC_FOVEA_SD_MM = 0.34
"""Disc-to-fovea distance, Beijing Eye Study (PMC4577126): mean and SD in mm."""


@dataclass(frozen=True)
class Scale:
    """Micrometres per pixel of the original, with its relative standard error."""

    um_per_px: float
    relative_sd: float
    source: Literal["dicom", "disc_fovea_distance"]

    @classmethod
    def from_disc_fovea(cls, distance_px: float) -> Scale:
        """The scale that makes the disc-fovea distance 4.76 mm (SD 0.34 mm)."""
        return cls(
            um_per_px=DISC_FOVEA_MM * 1000.0 / distance_px,
            relative_sd=DISC_FOVEA_SD_MM / DISC_FOVEA_MM,
            source="disc_fovea_distance",
        )
