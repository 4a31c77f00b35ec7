"""Counts and areas of lesions by region, with the distance of the nearest to the fovea."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.image import Mask, Scale
from fovea_plugins import regions
from fovea_plugins.biomarkers.definitions import FIELD
from fovea_plugins.biomarkers.masks import as_mask
from fovea_plugins.regions import Landmarks, NotPlaced

LEAST_SEEN = 0.9
"""Share of an ETDRS field that must be in the field of view for its lesions to be counted."""


@dataclass(frozen=True)
class LesionLoad:
    """Lesions of one kind in one region, or why they cannot be told.

    Attributes:
        kind: Such as `haemorrhages`.
        region: `field`, a quadrant or an ETDRS field.
        count: Connected spots by the region of their centre; None where not measured.
        area_px2: Pixels of the mask in the region.
        area_mm2: The same in square millimetres; None without a pixel scale.
        fovea_distance_px: From the fovea to the nearest pixel in the region; None where there
            is no lesion, or the place of the fovea is not known.
        reason: Why nothing was measured; empty where it was.
    """

    kind: str
    region: str
    count: int | None = None
    area_px2: int | None = None
    area_mm2: float | None = None
    fovea_distance_px: float | None = None
    reason: str = ""


def measure_lesions(
    lesions: Mapping[str, NDArray[Any]],
    *,
    landmarks: Landmarks,
    field: Mask,
    scale: Scale | None = None,
) -> list[LesionLoad]:
    """Counts, areas and nearest distances of each kind, in the field and by region.

    Args:
        lesions: Masks (H, W) by kind; an empty mask says that there are none.
        landmarks: Disc and fovea, which place quadrants (about the fovea) and ETDRS fields.
        field: (H, W), the field of view.
        scale: Pixel scale, for areas in square millimetres and for the ETDRS fields.
    """
    placed, missing = _placed(landmarks, field, scale)
    fovea = landmarks.fovea_xy if landmarks.fovea_seen else None
    loads = []
    for kind, given in lesions.items():
        mask = _mask(given, kind, field)
        if isinstance(mask, str):
            loads.append(LesionLoad(kind, FIELD, reason=mask))
            continue
        # Most of a picture is no lesion: only lesion pixels are looked at.
        rows, columns = np.nonzero(mask)
        _, _, _, centres = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
        middles = np.rint(centres[1:]).astype(np.int64)
        for name, labels, label in placed:
            own = labels[rows, columns] == label
            count = int((labels[middles[:, 1], middles[:, 0]] == label).sum())
            area = int(own.sum())
            loads.append(
                LesionLoad(
                    kind,
                    name,
                    count,
                    area,
                    area * (scale.um_per_px / 1000.0) ** 2 if scale else None,
                    _nearest(columns[own], rows[own], fovea),
                )
            )
        loads += [LesionLoad(kind, name, reason=why) for name, why in missing.items()]
    return loads


def _mask(given: NDArray[Any], kind: str, field: Mask) -> Mask | str:
    if np.shape(given) != field.shape:
        return f"The mask of {kind} has shape {np.shape(given)}, the field of view {field.shape}"
    mask = as_mask(given, kind) if np.any(given) else np.zeros(field.shape, bool)
    return mask if isinstance(mask, str) else mask & field


_Part = tuple[str, NDArray[np.uint8], int]


def _placed(
    landmarks: Landmarks, field: Mask, scale: Scale | None
) -> tuple[list[_Part], dict[str, str]]:
    """Regions with their label maps, and why the others have no place."""
    shape = (field.shape[0], field.shape[1])
    parts: list[_Part] = [(FIELD, field.view(np.uint8), 1)]
    missing: dict[str, str] = {}
    try:
        labels = regions.quadrants(shape, landmarks)
        parts += [(name, labels, k) for k, name in enumerate(regions.QUADRANTS, 1)]
    except NotPlaced as error:
        missing |= dict.fromkeys(regions.QUADRANTS, error.why.rstrip("."))
    if scale is None:
        missing |= dict.fromkeys(regions.ETDRS_FIELDS, "The pixel scale is not known")
        return parts, missing
    try:
        labels = regions.etdrs_fields(shape, landmarks, scale)
    except NotPlaced as error:
        missing |= dict.fromkeys(regions.ETDRS_FIELDS, error.why.rstrip("."))
        return parts, missing
    shares = regions.etdrs_shares(labels, field, scale)
    for label, name in enumerate(regions.ETDRS_FIELDS, 1):
        if shares[name] < LEAST_SEEN:
            missing[name] = f"Only {shares[name]:.0%} of it lies in the field of view"
        else:
            parts.append((name, labels, label))
    return parts, missing


def _nearest(
    columns: NDArray[np.intp], rows: NDArray[np.intp], fovea: tuple[float, float] | None
) -> float | None:
    if fovea is None or not len(columns):
        return None
    return float(math.sqrt(((columns - fovea[0]) ** 2 + (rows - fovea[1]) ** 2).min()))


def rows_of(loads: list[LesionLoad]) -> Iterator[dict[str, str | float | int | None]]:
    """One row for each number, in the columns of `VesselMeasures.rows`."""
    for load in loads:
        values = (
            ("lesion_count", load.count, "1"),
            ("lesion_area", load.area_px2, "px2"),
            ("lesion_area_mm2", load.area_mm2, "mm2"),
            ("lesion_fovea_distance", load.fovea_distance_px, "px"),
        )
        for name, value, unit in values:
            reason = load.reason or {
                "lesion_area_mm2": "The pixel scale is not known",
                "lesion_fovea_distance": "No lesion in the region, or no fovea",
            }.get(name)
            yield {
                "name": name, "vessels": load.kind, "region": load.region, "value": value,
                "unit": unit, "low": None, "high": None, "count": None,
                "reason": None if value is not None else reason,
            }  # fmt: skip
