"""A fixed random sample, the same with every version of NumPy.

The draws are those of `numpy.random.default_rng(0).choice(..., replace=False)`. NumPy does not
promise that its generators give the same numbers in a later version (NEP 19), measured values
must; and loading `numpy.random` would take more memory than measuring a small mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

_MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
_STATE, _STEP = 0x1AA1B5345996452D09585EB7A69561E3, 0x418DDADB3AF71A82588133BC447873A9
"""PCG64 (O'Neill, HMC-CS-2014-0905) and its state for the seed 0."""

_LOW, _LOW_64, _LOW_128 = ((1 << bits) - 1 for bits in (32, 64, 128))

_FEW = 50
"""Of more than 50 times as many, Floyd's algorithm draws, else a shuffle of the last ones."""


def sample(population: int, size: int) -> NDArray[np.int64]:
    """(size,) sorted different numbers below `population`, which is larger than 10,000."""
    taken = bytearray(population)
    ends = range(population - size, population)
    if size > population // _FEW:
        moved: dict[int, int] = {}
        for last, place in zip(reversed(ends), _places(reversed(ends)), strict=True):
            taken[moved.get(place, place)] = 1
            moved[place] = moved.pop(last, last)
    else:
        for last, place in zip(ends, _places(ends), strict=True):
            taken[last if taken[place] else place] = 1
    return np.flatnonzero(np.frombuffer(taken, np.bool_))


def _places(lasts: Iterable[int]) -> Iterator[int]:
    """A number from 0 to each of `lasts`, all equally likely (Lemire, ACM TOMACS 2019;29(1):3)."""
    words = _words()
    for last in lasts:
        product = next(words) * (last + 1)
        if product & _LOW <= last:
            while product & _LOW < (_LOW - last) % (last + 1):
                product = next(words) * (last + 1)
        yield product >> 32


def _words() -> Iterator[int]:
    """Random words of 32 bits, without end."""
    state = _STATE
    while True:
        state = (state * _MULTIPLIER + _STEP) & _LOW_128
        mixed, turn = (state >> 64 ^ state) & _LOW_64, state >> 122
        mixed = mixed >> turn | mixed << 64 - turn
        yield mixed & _LOW
        yield mixed >> 32 & _LOW
