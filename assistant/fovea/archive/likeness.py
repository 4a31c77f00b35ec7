"""Near duplicates: perceptual hashes of the small pictures.

The hash is the sign of the low frequencies of a cosine transform against their
median (pHash; Zauner C. Implementation and benchmarking of perceptual image hash
functions. 2010, chapter 3.2), here with 16 x 16 frequencies: eyes look much more alike
than the photographs that the usual 8 x 8 were meant for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from fovea.archive.rows import CaseRow
from fovea.errors import ArchiveError

SIDE = 64
FREQUENCIES = 16
HASH_BITS = FREQUENCIES * FREQUENCIES - 1


@dataclass(frozen=True)
class NearDuplicate:
    """Two archived photographs that look like copies; `bits_apart` of 255 bits differ."""

    first: str
    second: str
    bits_apart: int


def near_duplicates_in(rows: Sequence[CaseRow], most_bits: int) -> list[NearDuplicate]:
    """Pairs of cases with pictures whose hashes differ in at most so many bits."""
    return [
        NearDuplicate(rows[first].case_id, rows[second].case_id, bits)
        for first, second, bits in near_pairs([row.phash or "" for row in rows], most_bits)
    ]


def perceptual_hash(jpeg: bytes) -> str:
    """255 bits of a picture as 64 hexadecimal digits: copies of it differ in few of them."""
    grey = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    if grey is None:
        raise ArchiveError("The thumbnail is damaged", where="archive")
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    waves = cv2.dct(small)[:FREQUENCIES, :FREQUENCIES].ravel()[1:]  # not the mean brightness
    return np.packbits(np.append(waves > np.median(waves), False)).tobytes().hex()


def bits_apart(first: str, second: str) -> int:
    """Number of bits in which two hashes differ, 0 to 255."""
    return (int(first, 16) ^ int(second, 16)).bit_count()


def near_pairs(hashes: list[str], most_bits: int) -> list[tuple[int, int, int]]:
    """Pairs of positions whose hashes differ in at most so many bits, with that number."""
    if not hashes:
        return []
    packed = np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8).reshape(len(hashes), -1)
    found = []
    for first in range(len(hashes) - 1):
        apart = np.bitwise_count(packed[first + 1 :] ^ packed[first]).sum(axis=1)
        for offset in np.flatnonzero(apart <= most_bits):
            found.append((first, first + 1 + int(offset), int(apart[offset])))
    return found
