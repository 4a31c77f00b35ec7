"""What the probability becomes when measured lesions are painted over.

"Remove these exudates and the probability falls from 0.81 to 0.34": the picture is
filled in from its surroundings, the counts and areas of that kind become none, and
both opinions are asked again. Areas of the same size and shape elsewhere are painted
over for comparison; their evidence stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Mask, Photograph
from fovea_plugins.classifier.evidence import NOTHING, Row
from fovea_plugins.classifier.picture import square_view
from fovea_plugins.classifier.reading import ClassifierReader

MARGIN_PX = 2
"""Lesions are painted over with this margin, so that no rim of them stays."""

TURNS = 12
CONTROLS = 4
LEAST_SHARE = 0.6
"""Of the lesions' area that a turned copy must keep after overlaps are left out."""


@dataclass(frozen=True)
class Removal:
    """What painting over did.

    Attributes:
        probability: Calibrated probability afterwards, by both opinions.
        network: By the network alone.
        share: Share of the field that was painted over.
    """

    probability: float
    network: float
    share: float


class Remover:
    """Asks about one photograph with parts of it painted over.

    Args:
        reader: The classifier.
        photograph: The photograph.
        evidence: What was measured in it.
        target: The target that is explained.
    """

    def __init__(
        self, reader: ClassifierReader, photograph: Photograph, evidence: Row, target: str
    ) -> None:
        self._reader, self._photograph = reader, photograph
        self._evidence, self._target = evidence, target
        self._judge = reader.judge
        self.pixels, self.inside = square_view(photograph, reader.input_px)

    def in_view(self, mask: Mask) -> Mask:
        """A mask (H, W) of the original in the network's view (S, S)."""
        grey = np.repeat(mask.astype(np.uint8)[..., None] * 255, 3, axis=2)
        shown, _ = square_view(replace(self._photograph, pixels=grey), self._reader.input_px)
        # Lesions smaller than a pixel of the view still are to go.
        found = (shown[..., 0] > 20).astype(np.uint8)
        kernel = np.ones((2 * MARGIN_PX + 1,) * 2, np.uint8)
        return np.asarray(cv2.dilate(found, kernel), bool) & self.inside

    def without(self, mask: Mask, kinds: tuple[str, ...]) -> Removal:
        """The answer without the pixels of a mask of the view and without kinds of lesion."""
        painted = cv2.inpaint(self.pixels, mask.astype(np.uint8), 3, cv2.INPAINT_TELEA)
        evidence = {**self._evidence, **without_kinds(self._evidence, kinds)}
        reading = self._reader.on_view(np.asarray(painted), self.inside)
        judged = self._judge.judge(reading.logits.tolist(), evidence)[self._target]
        share = float(mask.sum()) / max(int(self.inside.sum()), 1)
        return Removal(judged.probability, judged.network, share)

    def elsewhere(self, mask: Mask, rng: np.random.Generator) -> list[Removal]:
        """The same shapes turned about the middle of the field, where they hit no lesion."""
        size = self._reader.input_px
        found: list[Removal] = []
        wanted = int(mask.sum())
        for angle in rng.permutation(np.linspace(30, 330, TURNS)):
            turn = cv2.getRotationMatrix2D(((size - 1) / 2,) * 2, float(angle), 1.0)
            moved = cv2.warpAffine(mask.astype(np.uint8), turn, (size, size), flags=0)
            other = np.asarray(moved, bool) & self.inside & ~mask
            if int(other.sum()) > LEAST_SHARE * wanted and len(found) < CONTROLS:
                found.append(self.without(other, ()))
        return found


def without_kinds(evidence: Mapping[str, float | None], kinds: tuple[str, ...]) -> Row:
    """What the evidence would be if lesions of these kinds had not been found."""
    changed: dict[str, float | None] = {}
    for kind in kinds:
        for name, value in NOTHING[kind].items():
            if evidence.get(name) is not None:  # unknown stays unknown
                changed[name] = value
    return changed


def heat(found: NDArray[np.float32], inside: Mask) -> NDArray[Any]:
    """A map (S, S) as RGBA (S, S, 4): red speaks for the condition, blue against it."""
    highest = float(np.abs(found[inside]).max()) if inside.any() else 0.0
    scaled = found / highest if highest > 0 else np.zeros_like(found)
    strength = np.clip(np.abs(scaled), 0, 1) * inside
    picture = np.zeros((*found.shape, 4), np.uint8)
    picture[..., 0] = np.where(scaled > 0, 255, 0)
    picture[..., 2] = np.where(scaled > 0, 0, 255)
    picture[..., 3] = (200 * strength).astype(np.uint8)
    return picture
