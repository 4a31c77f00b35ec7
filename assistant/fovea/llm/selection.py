"""Which images a question means: by handle, order or eye."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fovea.image import Eye

_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "last": -1, "latter": 2, "former": 1}
_ONE = frozenset(
    {"image", "photo", "picture", "photograph", "one", "eye", "scan", "fundus", "file", "upload"}
)
_OTHER = frozenset({"other", "fellow", "contralateral", "opposite", "remaining"})
_COUNTS = frozenset({"all", "every", "two", "three", "four", "2", "3", "4"})
_SIDES: dict[str, Eye] = {"od": "OD", "os": "OS", "right": "OD", "left": "OS"}
_AFTER_SIDE = frozenset(
    {"eye", "one", "side", "fundus", "disc", "optic", "retina", "retinal", "macula", "image",
     "photo", "picture", "?", "and", "vessel", "please", "too", "as", ",", "or", "only", "cup",
     "cdr", "instead", "."}
)  # fmt: skip
_BEFORE_SIDE = frozenset({"the", "my", "her", "his", "in", "of", "for", "other", "and", "or", "vs",
                          "versus", "same", "now", "about"})  # fmt: skip


@dataclass(frozen=True)
class Selection:
    """Images named in words; false when none is named.

    Attributes:
        numbers: Ordinals from 1; -1 is the last.
        eyes: Eyes named.
        other: The one not spoken of before.
        every: All of them.
    """

    numbers: tuple[int, ...] = ()
    eyes: tuple[Eye, ...] = ()
    other: bool = False
    every: bool = False

    def __bool__(self) -> bool:
        return bool(self.numbers or self.eyes or self.other or self.every)


NO_SELECTION = Selection()


def read_selection(words: Sequence[str]) -> Selection:
    """The images that the words name."""
    numbers: list[int] = []
    eyes: list[Eye] = []
    other = every = False
    # "Left?" after a question about the right eye.
    alone = len(set(words) - {"?", ".", ",", "and", "the", "now", "then"}) == 1
    for place, word in enumerate(words):
        after = words[place + 1] if place + 1 < len(words) else "."
        before = words[place - 1] if place else ""
        if handle := re.fullmatch(r"img(\d+)", word):
            numbers.append(int(handle[1]))
        elif (
            word in _ORDINALS
            and before != "a"
            and (after in _ONE or (before == "the" and after in {".", "?"}))
        ):
            numbers.append(_ORDINALS[word])
        elif word in _OTHER and after in {*_ONE, ".", "?"}:
            other = True
        elif (
            word in {"both", "ou", "each"}
            or (word in {"all", "every"} and after in _ONE)
            or (word in {"two", "2"} and after in _ONE)
            or (word == "all" and after in {"three", "four", "the"})
        ):
            every = True
        elif word in _SIDES and (alone or _is_side(word, before, after)):
            eyes.append(_SIDES[word])
    return Selection(tuple(dict.fromkeys(numbers)), tuple(dict.fromkeys(eyes)), other, every)


def _is_side(word: str, before: str, after: str) -> bool:
    """Such as "Right" and "left" are sides only beside an eye or after an article."""
    if word in {"od", "os"}:
        return True
    if after in {"?", "."} and before in {"", ",", "be", "all", "that"}:
        return False
    return after in {"eye", "one", "side", "fundus"} or (
        before in _BEFORE_SIDE and after in _AFTER_SIDE
    )
