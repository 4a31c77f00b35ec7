"""Vessel widths from profiles across the path, read between the pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fovea.scale import Mask
from fovea_plugins.biomarkers.paths import Floats

PROFILE_STEP_PX = 0.5
_BLOCK, _PART = 4096, 512
"""Points whose profiles are equally long, and those that are read at once: less memory."""

_ALL = 15


class Corners:
    """For each pixel of a mask, which of it, its right, lower and lower right neighbour are set.

    A place between four pixels then needs one look-up, and where all four agree, no more.

    Args:
        mask: (H, W) with a border of background.
    """

    def __init__(self, mask: Mask) -> None:
        set_ones = mask.view(np.uint8)
        codes = set_ones.copy()
        codes[:, :-1] |= set_ones[:, 1:] << 1
        codes[:-1] |= set_ones[1:] << 2
        codes[:-1, :-1] |= set_ones[1:, 1:] << 3
        self._codes = codes

    def half_widths(self, points: Floats, normals: Floats, radii: Floats) -> Floats:
        """(P, 2) how far the mask reaches from each point along -normal and +normal, in pixels.

        The bilinear mask is summed along the normal, so the mean over a vessel is its area per
        length: a bar of width w reads w at any angle, where counting pixels reads w - 1 and
        the distance to the nearest background pixel depends on parity.

        Args:
            points: (P, 2) on the centreline.
            normals: (P, 2) unit vectors across it.
            radii: (P,) rough half widths; profiles end at 1.5 times that and 2 pixels more.
        """
        reach = 1.5 * radii + 2.0
        found = np.zeros((len(points), 2))
        # Profiles of like length together: the work follows the mask's area.
        order = np.argsort(reach, kind="stable")
        for block in np.array_split(order, len(order) // _BLOCK + 1):
            if not len(block):
                continue
            steps = np.arange(0.0, reach[block].max(), PROFILE_STEP_PX, dtype=np.float32)
            for part in np.array_split(block, len(block) // _PART + 1):
                inside = steps[None, :] <= reach[part, None]
                for side, sign in enumerate((-1.0, 1.0)):
                    places = points[part, :, None] + sign * steps * normals[part, :, None]
                    x, y = np.moveaxis(places.astype(np.float32), 1, 0)
                    found[part, side] = _run(self._between(x, y), inside)
        return found

    def _between(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The bilinear mask at places (N, K), 0 to 255; 0 outside it."""
        height, width = self._codes.shape
        # One step out on either side is the last row or column, which hold background only.
        column, row = (
            np.clip(np.floor(part), -1, size - 1).astype(np.int32)
            for part, size in ((x, width), (y, height))
        )
        codes = self._codes.ravel()[row * width + column]
        grey = np.where(codes == _ALL, np.uint8(255), np.uint8(0)).ravel()
        mixed = np.flatnonzero((codes > 0) & (codes < _ALL))
        code = codes.ravel()[mixed]
        right, down = (
            part.ravel()[mixed] - whole.ravel()[mixed].astype(np.float32)
            for part, whole in ((x, column), (y, row))
        )
        upper, lower = (
            ((code >> low) & 1) * (np.float32(255) * (1 - right))
            + ((code >> low + 1) & 1) * (np.float32(255) * right)
            for low in (0, 2)
        )
        grey[mixed] = np.rint(upper * (1 - down) + lower * down)
        return grey.reshape(x.shape)


def _run(profile: NDArray[np.uint8], inside: NDArray[np.bool_]) -> Floats:
    """The area under each profile (N, K) up to where the vessel ends."""
    before, after = profile[:, :-1], profile[:, 1:]
    # Rising again from below one half: the next vessel.
    over = (after < 10) | ((after > before) & (before < 128)) | ~inside[:, 1:]
    end = np.where(over.any(axis=1), over.argmax(axis=1), before.shape[1])
    kept = np.where(np.arange(profile.shape[1]) <= end[:, None], profile, 0)
    total = kept.sum(axis=1, dtype=np.uint32) - 0.5 * profile[:, 0]
    return np.asarray(total * (PROFILE_STEP_PX / 255.0))
