"""A picture of the vessels behind CRAE and CRVE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fovea.contract import Artifact, Context
from fovea_plugins.biomarkers.calibre import VesselUsed
from fovea_plugins.biomarkers.working import Working
from fovea_plugins.regions import ZONES

COLOURS = {"artery": (255, 64, 64, 255), "vein": (64, 110, 255, 255)}
RING = (255, 255, 255, 200)
LINE_SHARE = 0.0015
"""Width of a line as a share of the picture's longer side."""


def calibre_picture(
    context: Context, working: Working, used: Mapping[Any, Sequence[VesselUsed]]
) -> Artifact | None:
    """The measured stretches, outlined at their width, between the circles of zone B.

    None where no vessel of zone B was measured.
    """
    if not any(used.values()):
        return None
    image, places = context.image, working.landmarks
    picture: NDArray[np.uint8] = np.zeros((image.height, image.width, 4), np.uint8)
    line = max(1, round(max(picture.shape) * LINE_SHARE))
    if places.disc_xy and places.disc_diameter_px:
        x, y = (round(part) for part in places.disc_xy)
        for share in ZONES["zone_b"]:
            radius = round(share * places.disc_diameter_px / 2.0)
            cv2.circle(picture, (x, y), radius, RING, line, cv2.LINE_AA)
    for side, vessels in used.items():
        for place, vessel in enumerate(vessels, 1):
            _draw(picture, working, vessel, str(place), COLOURS[side], line)
    return context.save_picture("calibre_vessels", picture, "overlay")


def _draw(
    picture: NDArray[np.uint8],
    working: Working,
    vessel: VesselUsed,
    label: str,
    colour: tuple[int, int, int, int],
    line: int,
) -> None:
    path = working.to_photograph(vessel.path)
    step = np.gradient(path, axis=0) if len(path) > 1 else np.array([[1.0, 0.0]])
    step /= np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)[:, None]
    across = np.column_stack([-step[:, 1], step[:, 0]]) * (vessel.width_px / working.factor / 2.0)
    outline = np.concatenate([path + across, (path - across)[::-1]])
    points = np.round(outline * 16).astype(np.int32)
    cv2.polylines(picture, [points], True, colour, line, cv2.LINE_AA, 4)
    x, y = (round(float(part)) for part in path[len(path) // 2] + 2.0 * across[len(path) // 2])
    size = line / 3.0
    cv2.putText(picture, label, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, colour, line, cv2.LINE_AA)
