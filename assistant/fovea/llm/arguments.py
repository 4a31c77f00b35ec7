"""Arguments that the words of a question give: how many, and about what."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ELLIPTIC = 6
"""Words up to which a question may lean on the one before."""

_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
            "eight": 8, "nine": 9, "ten": 10}  # fmt: skip
_COUNTED = re.compile(
    r"(?i)\b(?:top|nearest|closest|best|first|show(?: me)?|find(?: me)?|give(?: me)?|get)?\s*"
    r"(\d{1,2}|" + "|".join(_NUMBERS) + r")\s+(?:\w+\s+){0,2}"
    r"(?:cases?|neighbou?rs?|matches|images|examples|photos|patients)\b"
    r"|\btop[\s-](\d{1,2})\b"
)


def how_many(question: str) -> int | None:
    """The number of things asked for: "five similar cases"."""
    found = _COUNTED.search(question)
    if not found:
        return None
    word = (found[1] or found[2]).lower()
    return _NUMBERS.get(word) or int(word)


def subject(question: str, before: Sequence[str]) -> str:
    """What is looked up: the question, and the one before if it is too short to stand alone."""
    leaning = before[-1:] if len(question.split()) <= _ELLIPTIC else ()
    return " ".join([*leaning, question])
