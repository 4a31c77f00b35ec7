"""What the tool measures: masks, landmarks and scale of a photograph, at working resolution.

The vessel networks see at most 1200 pixels across the field, and their masks are enlarged to
the photograph. Measured there, nothing is lost and a large photograph takes no longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.contract import Context
from fovea.image import Mask, Scale
from fovea_plugins.biomarkers.definitions import DEFINITIONS
from fovea_plugins.biomarkers.measuring import measure
from fovea_plugins.biomarkers.placing import Disc
from fovea_plugins.biomarkers.values import PhysicalScale, VesselMeasures
from fovea_plugins.regions import Landmarks

WORKING_FIELD_PX = 1200.0


@dataclass(frozen=True)
class Working:
    """A photograph brought to working resolution.

    Attributes:
        factor: Working pixels per pixel of the photograph, at most 1.
        landmarks: Disc and fovea, in pixels of the photograph.
        scale: Pixel scale of the photograph.
        vessels: The vessel mask of the photograph.
    """

    context: Context
    factor: float
    landmarks: Landmarks
    scale: Scale | None
    vessels: Mask

    @classmethod
    def of(cls, context: Context, vessels: Mask) -> Working:
        """The first photograph of a context with its vessel mask."""
        image, landmarks = context.image, Landmarks.from_context(context)
        factor = min(1.0, WORKING_FIELD_PX / (2.0 * image.field_circle.radius))
        return cls(context, factor, landmarks, landmarks.scale(image.scale), vessels)

    def measured(self) -> VesselMeasures:
        """Every vessel measure, in working pixels."""
        context, places = self.context, self.landmarks
        self.context.check_cancelled()
        disc = None
        if places.disc_xy is not None:
            diameter = places.disc_diameter_px
            disc = Disc(*self._to_working(places.disc_xy), diameter and diameter * self.factor)
        scale = None
        if self.scale is not None:
            um_per_px = self.scale.um_per_px / self.factor
            scale = PhysicalScale(um_per_px, self.scale.relative_sd)
        return measure(
            self._smaller(self.vessels),
            arteries=self._mask("arteries"),
            veins=self._mask("veins"),
            disc=disc,
            fovea=self._to_working(places.fovea_xy) if places.fovea_xy else None,
            field=self._smaller(context.image.field_of_view),
            probability=self._probability(),
            scale=scale,
            eye=places.eye,
            fovea_seen=places.fovea_seen,
        )

    def to_photograph(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Working points (N, 2), in pixels of the photograph."""
        return (points + 0.5) / self.factor - 0.5

    def in_photograph(self, name: str, value: float) -> float:
        """A value of that measure, with pixels of the photograph for working pixels."""
        meant = DEFINITIONS[name]
        in_pixels = meant.power and meant.unit.startswith("px")
        return value * self.factor**-meant.power if in_pixels else value

    def _to_working(self, point: tuple[float, float]) -> tuple[float, float]:
        x, y = ((part + 0.5) * self.factor - 0.5 for part in point)
        return x, y

    def _mask(self, name: str) -> Mask | None:
        mask = self.context.mask(name)
        return None if mask is None else self._smaller(mask)

    def _smaller(self, mask: Mask) -> Mask:
        if self.factor == 1.0:
            return mask
        return np.asarray(self._resized(mask.astype(np.float32)) >= 0.5)

    def _probability(self) -> NDArray[np.float32] | None:
        result = self.context.earlier.get("vessel_probability")
        artifacts = result.artifacts if result else ()
        path = next((a.path for a in artifacts if a.name == "vessel_probability"), None)
        grey: Any = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) if path else None
        if grey is None or grey.shape != self.vessels.shape:
            return None
        share = grey.astype(np.float32) / 255.0
        return share if self.factor == 1.0 else np.clip(self._resized(share), 0.0, 1.0)

    def _resized(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        height, width = (round(side * self.factor) for side in values.shape)
        how = cv2.INTER_AREA
        return np.asarray(cv2.resize(values, (width, height), interpolation=how), np.float32)
