"""Thinning of a mask to lines one pixel wide, 64 pixels per machine word.

Guo and Hall's parallel algorithm with two sub-iterations (Commun ACM 1989;32(3):359-373)
as Boolean algebra on packed bits. Words round which nothing changed are left alone, so
the work follows the few wide vessels and not the image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fovea.scale import Mask

Words = NDArray[np.uint64]
_ONE, _LAST = np.uint64(1), np.uint64(63)


def thinned(mask: Mask) -> Mask:
    """The centre lines of a mask (H, W): connected as the mask is, one pixel wide.

    Pixels beyond the border count as background. Holes and loops are kept.
    """
    height, width = mask.shape
    words, stride = _packed(mask)
    near = np.add.outer((-stride, 0, stride), (-1, 0, 1)).ravel()
    filled = np.flatnonzero(words)
    latest = earlier = filled
    turn = 0
    # A word whose surroundings stayed as they were through both sub-iterations has settled.
    while len(latest) or len(earlier):
        places = _around(np.concatenate([latest, earlier]), near, words) if turn > 1 else filled
        latest, earlier = _strip(words, places, stride, turn % 2), latest
        turn += 1
    octets = words.view(np.uint8).reshape(height + 2, stride * 8)
    bits = np.unpackbits(octets, axis=1, bitorder="little")
    return bits[1:-1, 64 : 64 + width].view(np.bool_)


def _packed(mask: Mask) -> tuple[Words, int]:
    """The mask as words row by row, an empty row or word on each side, and words per row."""
    height, width = mask.shape
    stride = -(-width // 64) + 2
    octets = np.zeros((height + 2, stride * 8), np.uint8)
    bits = np.packbits(mask, axis=1, bitorder="little")
    octets[1:-1, 8 : 8 + bits.shape[1]] = bits
    return octets.view(np.uint64).ravel(), stride


def _around(places: NDArray[np.intp], near: NDArray[np.intp], words: Words) -> NDArray[np.intp]:
    """The words of `places` and their neighbours, as far as they are not empty."""
    marked = np.zeros(len(words), bool)
    for step in near:
        marked[places + step] = True
    marked &= words != 0
    return np.flatnonzero(marked)


def _strip(words: Words, places: NDArray[np.intp], stride: int, turn: int) -> NDArray[np.intp]:
    """Delete what one sub-iteration deletes in these words; the words that changed."""
    p9, p2, p3 = _row(words, places - stride)
    p8, centre, p4 = _row(words, places)
    p7, p6, p5 = _row(words, places + stride)
    # p2 is the pixel above, p3 to p9 follow clockwise, as in the paper.
    north_east, south_east, south_west, north_west = p3 | p4, p5 | p6, p7 | p8, p9 | p2
    a, b, c, d = ~p2 & north_east, ~p4 & south_east, ~p6 & south_west, ~p8 & north_west
    one_run = (a ^ b ^ c ^ d) & ~((a & b) | (c & d))
    north, east, south, west = p2 | p3, p4 | p5, p6 | p7, p8 | p9
    enough = _two_of(north_west, north_east, south_east, south_west)
    enough &= _two_of(north, east, south, west)
    whole = north_west & north_east & south_east & south_west & north & east & south & west
    side = (north | ~p5) & p4 if turn else (south | ~p9) & p8
    left = centre & ~(one_run & enough & ~whole & ~side)
    words[places] = left
    return np.asarray(places[left != centre])


def _row(words: Words, places: NDArray[np.intp]) -> tuple[Words, Words, Words]:
    """At each bit of these words, the pixel to the left, the pixel, the pixel to the right."""
    here = words[places]
    left = (here << _ONE) | (words[places - 1] >> _LAST)
    right = (here >> _ONE) | (words[places + 1] << _LAST)
    return left, here, right


def _two_of(a: Words, b: Words, c: Words, d: Words) -> Words:
    """Where at least two of four bits are set."""
    return np.asarray((a & b) | (c & d) | ((a | b) & (c | d)), np.uint64)
