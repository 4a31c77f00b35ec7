"""The borders of a mask: closed walks round its parts and round its holes.

A walk goes along the sides of pixels that face the background, the mask on its left. Parts
hang together over corners, holes do not. Only border pixels are looked at, as sorted flat
indices, so the work grows with the length of the border.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fovea.scale import Mask

Indices = NDArray[np.int64]

_TOP, _RIGHT, _BOTTOM, _LEFT = range(4)


@dataclass(frozen=True)
class Borders:
    """All borders of a mask, S in all, their C sides end to end.

    Attributes:
        padded: (H + 2, W + 2) the mask with a border of background.
        pixels: (C,) flat indices into `padded` of the pixels whose sides they are.
        sides: (C,) which side: 0 top, 1 right, 2 bottom, 3 left.
        first: (S + 1,) where each border starts, and the total.
    """

    padded: Mask
    pixels: Indices
    sides: NDArray[np.uint8]
    first: Indices

    @cached_property
    def holes(self) -> NDArray[np.bool_]:
        """(S,) whether a border goes round a hole."""
        columns = self.pixels % self.padded.shape[1]
        # Right sides less left sides is the area that the walk encloses, negative for a hole.
        area = np.where(self.sides == _RIGHT, columns + 1, 0) - np.where(
            self.sides == _LEFT, columns, 0
        )
        return np.asarray(np.add.reduceat(area, self.first[:-1]) < 0)

    @cached_property
    def rings(self) -> tuple[Indices, Indices]:
        """(N,) the pixels that each border goes through one after the other, and (S + 1,) first."""
        starts, index = self.first[:-1], np.arange(len(self.pixels))
        kept = np.append(True, self.pixels[1:] != self.pixels[:-1])
        kept[starts] = True
        last = np.maximum.reduceat(np.where(kept, index, 0), starts)
        # A walk that comes back to its first pixel before it closes has it once.
        back = (last != starts) & (self.pixels[last] == self.pixels[starts])
        kept[last[back]] = False
        sizes = np.add.reduceat(kept.astype(np.int64), starts)
        return self.pixels[kept], np.concatenate([[0], np.cumsum(sizes)])

    def filled(self, chosen: Indices) -> Mask:
        """The padded mask with these holes filled, and what lies in them."""
        if not len(chosen):
            return self.padded
        mask = self.padded.copy()
        flat = mask.ravel()
        for hole in chosen.tolist():
            part = slice(self.first[hole], self.first[hole + 1])
            pixels, sides = self.pixels[part], self.sides[part]
            # Row by row a hole begins right of a pixel and ends left of the next one.
            begins, ends = (np.sort(pixels[sides == side]) for side in (_RIGHT, _LEFT))
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
                flat[begin + 1 : end] = True
        return mask


def borders(mask: Mask) -> Borders:
    """The borders of a mask (H, W) that is not empty."""
    padded = np.zeros((mask.shape[0] + 2, mask.shape[1] + 2), bool)
    padded[1:-1, 1:-1] = mask
    stride = padded.shape[1]
    flat = padded.ravel()
    inside = np.flatnonzero(flat)
    # The way from a side on, and where the background beyond it lies.
    ahead = {_TOP: -1, _LEFT: stride, _BOTTOM: 1, _RIGHT: -stride}
    beyond = {_TOP: -stride, _LEFT: -1, _BOTTOM: stride, _RIGHT: 1}
    opposite = {_TOP: _RIGHT, _LEFT: _TOP, _BOTTOM: _LEFT, _RIGHT: _BOTTOM}
    onward = {_TOP: _LEFT, _LEFT: _BOTTOM, _BOTTOM: _RIGHT, _RIGHT: _TOP}
    faces = {side: inside[~flat[inside + beyond[side]]] for side in (_LEFT, _TOP, _RIGHT, _BOTTOM)}
    offsets = dict(zip(faces, np.cumsum([0, *map(len, faces.values())]).tolist(), strict=False))
    nexts = []
    for side, pixels in faces.items():
        front, corner = pixels + ahead[side], pixels + ahead[side] + beyond[side]
        turns, goes_on = flat[corner], flat[front]
        following = offsets[onward[side]] + np.searchsorted(faces[onward[side]], pixels)
        following[goes_on] = offsets[side] + np.searchsorted(pixels, front[goes_on])
        over = faces[opposite[side]]
        following[turns] = offsets[opposite[side]] + np.searchsorted(over, corner[turns])
        nexts.append(following)
    order, first = _walks(np.concatenate(nexts).tolist(), len(faces[_LEFT]))
    pixels = np.concatenate(list(faces.values()))
    sides = np.repeat(np.array(list(faces), np.uint8), [len(part) for part in faces.values()])
    return Borders(padded, pixels[order], sides[order], first)


def _walks(nexts: list[int], starts: int) -> tuple[Indices, Indices]:
    """The closed walks: every one has a left side, and these come first."""
    order: list[int] = []
    first, take = [], order.append
    for start in range(starts):
        here = start
        if nexts[here] < 0:
            continue
        first.append(len(order))
        while (following := nexts[here]) >= 0:
            nexts[here] = -1
            take(here)
            here = following
    return np.array(order), np.array([*first, len(order)])
