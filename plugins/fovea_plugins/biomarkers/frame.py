"""One orientation for a picture and its seven mirror images.

Thinning decides ties by direction, so a mask and its mirror image would give slightly
different graphs. Each mask is therefore turned into the first of its eight orientations in
a fixed order; measured there, values are the same, to the last bit, for all eight.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.scale import Mask


@dataclass(frozen=True)
class Frame:
    """A turn of a picture (height, width): transposed first, then flipped.

    Attributes:
        shape: Height and width before the turn.
        rows, columns: The part that holds the mask, after the turn.
    """

    shape: tuple[int, int]
    transposed: bool
    upside_down: bool
    mirrored: bool
    rows: slice
    columns: slice

    @property
    def whole(self) -> Frame:
        """The same turn of the whole picture."""
        height, width = self.shape[::-1] if self.transposed else self.shape
        return replace(self, rows=slice(0, height), columns=slice(0, width))

    def of(self, picture: NDArray[Any]) -> NDArray[Any]:
        """The part of a picture (H, W) that holds the mask, turned. No copy is made."""
        turned = picture.T if self.transposed else picture
        down, right = (-1 if flip else 1 for flip in (self.upside_down, self.mirrored))
        return turned[::down, ::right][self.rows, self.columns]

    def forth(self, x: float, y: float) -> tuple[float, float]:
        """A point x, y of the picture as it was given, in the turned part."""
        x, y = (y, x) if self.transposed else (x, y)
        height, width = self.shape[::-1] if self.transposed else self.shape
        x = width - 1 - x if self.mirrored else x
        y = height - 1 - y if self.upside_down else y
        return x - self.columns.start, y - self.rows.start

    def back(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (N, 2) x, y of the turned part, in the picture as it was given."""
        height, width = self.shape[::-1] if self.transposed else self.shape
        x, y = points[:, 0] + self.columns.start, points[:, 1] + self.rows.start
        x = width - 1 - x if self.mirrored else x
        y = height - 1 - y if self.upside_down else y
        return np.column_stack([y, x] if self.transposed else [x, y])


def canonical_frame(mask: Mask, *others: Mask) -> Frame:
    """The frame whose turned mask comes first among the eight, cropped to the mask.

    Args:
        mask: (H, W), not empty.
        others: Masks of the same shape that decide between orientations in which a
            symmetric `mask` looks the same.
    """
    profiles = _trimmed(np.asarray(mask.any(axis=1))), _trimmed(np.asarray(mask.any(axis=0)))
    sums = mask.sum(axis=1, dtype=np.int64), mask.sum(axis=0, dtype=np.int64)
    candidates = [
        _frame((mask.shape[0], mask.shape[1]), profiles, turn) for turn in np.ndindex(2, 2, 2)
    ]
    keys = [_profile_key(frame, sums) for frame in candidates]
    first = min(keys)
    candidates = [frame for frame, key in zip(candidates, keys, strict=True) if key == first]
    for picture in (mask, *others):
        if len(candidates) == 1:
            break
        codes = [np.packbits(frame.of(picture)).tobytes() for frame in candidates]
        candidates = [f for f, code in zip(candidates, codes, strict=True) if code == min(codes)]
    return candidates[0]


def _trimmed(occupied: NDArray[np.bool_]) -> tuple[int, int]:
    """The first occupied place and the one after the last."""
    places = np.flatnonzero(occupied)
    return int(places[0]), int(places[-1]) + 1


def _frame(
    shape: tuple[int, int],
    profiles: tuple[tuple[int, int], tuple[int, int]],
    turn: tuple[int, ...],
) -> Frame:
    transposed, upside_down, mirrored = (bool(part) for part in turn)
    rows, columns = profiles[::-1] if transposed else profiles
    height, width = shape[::-1] if transposed else shape
    if upside_down:
        rows = height - rows[1], height - rows[0]
    if mirrored:
        columns = width - columns[1], width - columns[0]
    return Frame(shape, transposed, upside_down, mirrored, slice(*rows), slice(*columns))


def _profile_key(
    frame: Frame, sums: tuple[NDArray[np.int64], NDArray[np.int64]]
) -> tuple[bytes, bytes]:
    """What decides nearly always: how many pixels each row and each column holds."""
    rows, columns = sums[::-1] if frame.transposed else sums
    rows = (rows[::-1] if frame.upside_down else rows)[frame.rows]
    columns = (columns[::-1] if frame.mirrored else columns)[frame.columns]
    return rows.astype(">i8").tobytes(), columns.astype(">i8").tobytes()
