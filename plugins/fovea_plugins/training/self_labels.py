"""Places in unlabelled photographs, where several looks of the shipped network agree.

Students of their own labels get better on cameras without labels when the student sees
harder pictures than the teacher (Xie et al. 2020, CVPR, 10684-10695): the teacher looks
at four easy versions, the student at altered ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np

from fovea.image import Mask
from fovea_plugins.quality.landmarks import DISC_FOVEA_SHARE
from fovea_plugins.quality.maps import DISC, FIELD_PX, FOVEA, Peak, peaks
from fovea_plugins.quality.network import LandmarkNetwork
from fovea_plugins.training.data import Bytes, Floats
from fovea_plugins.training.landmark_data import Point, Scene

MIN_DISC, MIN_FOVEA = 0.35, 0.20
"""Lowest mean peak to be believed."""

AGREE_PX = FIELD_PX / 14
"""Looks agree within half a disc diameter."""

MOST_TILT_DEG = 25.0


def label(scenes: Iterable[Scene], teacher: LandmarkNetwork, kept_px: int) -> list[Scene]:
    """The scenes; those without places get the places that all looks but one agree on.

    Args:
        scenes: Retinas with and without known places.
        teacher: Looks at them.
        kept_px: Field diameter of the scenes.
    """
    return [
        scene if scene.disc is not None or not scene.fundus else _labelled(scene, teacher, kept_px)
        for scene in scenes
    ]


def _labelled(scene: Scene, teacher: LandmarkNetwork, kept_px: int) -> Scene:
    looks = _looks(scene, teacher, kept_px)
    disc = _agreed([look[DISC] for look in looks], MIN_DISC)
    if disc is None:
        return scene
    fovea = _agreed([look[FOVEA] for look in looks], MIN_FOVEA)
    if fovea is not None and not _plausible(disc, fovea, scene.eye):
        fovea = None

    def moved(peak: Peak) -> Point:
        step = kept_px / FIELD_PX
        return (peak.x + 0.5) * step - 0.5, (peak.y + 0.5) * step - 0.5

    return replace(scene, disc=moved(disc), fovea=moved(fovea) if fovea else None)


def _looks(scene: Scene, teacher: LandmarkNetwork, kept_px: int) -> list[Floats]:
    """Maps (3, H, W) of the scene as it is, smaller, larger, and by its green channel alone."""
    green = np.repeat(scene.pixels[..., 1:2], 3, axis=2)
    found = []
    for pixels, zoom in ((scene.pixels, 1.0), (scene.pixels, 0.85), (scene.pixels, 1.15),
                         (green, 1.0)):  # fmt: skip
        maps = teacher.maps(*_resized(pixels, scene.inside, zoom * FIELD_PX / kept_px))
        height, width = (round(side * FIELD_PX / kept_px) for side in scene.inside.shape)
        found.append(np.stack([cv2.resize(one, (width, height)) for one in maps]))
    return found


def _resized(pixels: Bytes, inside: Mask, factor: float) -> tuple[Bytes, Mask]:
    height, width = (round(side * factor) for side in inside.shape)
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    mask = cv2.resize(inside.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(small, np.uint8), mask > 0


def _agreed(maps: list[Floats], least: float) -> Peak | None:
    """The highest place of the mean map, when all single maps but one have theirs near it."""
    best = peaks(np.mean(maps, axis=0), count=1, apart_px=2 * AGREE_PX)
    if not best or best[0].height < least:
        return None
    near = 0
    for one in maps:
        own = peaks(one, count=1, apart_px=2 * AGREE_PX)
        near += bool(own) and np.hypot(own[0].x - best[0].x, own[0].y - best[0].y) < AGREE_PX
    return best[0] if near >= len(maps) - 1 else None


def _plausible(disc: Peak, fovea: Peak, eye: str | None) -> bool:
    across, down = fovea.x - disc.x, fovea.y - disc.y
    low, high = DISC_FOVEA_SHARE
    if not low <= float(np.hypot(across, down)) / FIELD_PX <= high:
        return False
    if abs(float(np.degrees(np.arctan2(down, abs(across))))) > MOST_TILT_DEG:
        return False
    return eye is None or eye == ("OD" if across < 0 else "OS")
