"""Cut a message into clauses, and tell what it asks from what it only says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fovea.llm.clause import CONTINUES
from fovea.llm.lexicon import Lexicon

_JOINS = frozenset({"and", ",", "then", "also", "plus", "but"})
_ENDS = frozenset({".", "?", ";"})
_TELLERS = frozenset(
    {"i", "we", "he", "she", "they", "it", "my", "his", "her", "our", "the", "a", "an", "this",
     "patient", "doctor", "there", "someone", "somebody", "new", "one"}
)  # fmt: skip
_TOLD = frozenset(
    {"be", "been", "have", "has", "had", "got", "said", "told", "took", "take", "think", "thought",
     "look", "seem", "see", "saw", "came", "come", "went", "moved", "mentioned", "asked", "used",
     "suffer", "complain", "believe", "feel", "started", "noticed", "attend"}
)  # fmt: skip
_AGES = frozenset({"year", "yr", "yo", "f", "m", "male", "female"})
_HISTORY = frozenset({"history", "hx", "pmh", "known", "hba1c", "aged"})
_OPENERS = frozenset(
    {"well", "basically", "sorry", "hello", "hi", "right", "since", "because", ","}
)
_INTERJECTIONS = frozenset(
    {"ok", "okay", "alright", "all", "right", "good", "great", "fine", "nice", "cool", "perfect",
     "well", "so", "now", "and", "then", "hello", "hi", "hey", "sorry", ","}
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One clause of a message.

    Attributes:
        words: Its words.
        told: Whether it tells about the patient or the day rather than asking.
    """

    words: tuple[str, ...]
    told: bool


def read_parts(words: Sequence[str], lexicon: Lexicon) -> list[Part]:
    """The clauses: cut at full stops, and at "and" or commas that begin a new request."""
    parts: list[Part] = []
    current: list[str] = []
    for place, word in enumerate(words):
        starts = word in _JOINS and _begins_request(words[place + 1 : place + 3], lexicon)
        if word in _ENDS or starts:
            parts.append(Part(tuple(current), word != "?" and _is_told(current, lexicon)))
            current = []
        elif word != "," or current:
            current.append(word)
    parts.append(Part(tuple(current), told=False))
    parts = [part for part in parts if part.words]
    return [part for part in parts if not set(part.words) <= _INTERJECTIONS] or parts


def _begins_request(following: Sequence[str], lexicon: Lexicon) -> bool:
    if following[:1] in (["and"], ["then"], ["also"]):
        return any(word in lexicon.heads for word in following)
    return any(word in lexicon.heads for word in following[:1])


def _is_told(words: Sequence[str], lexicon: Lexicon) -> bool:
    """Such as "My father has glaucoma", but not "I need the ratio" or "Vessels, disc"."""
    rest = list(words)
    while rest and (rest[0] in CONTINUES or rest[0] in _OPENERS):
        rest.pop(0)
    if not rest or lexicon.has("request", rest):
        return False
    aged = any(first[0].isdigit() and unit in _AGES for first, unit in pairwise(rest))
    return (
        aged or bool(_HISTORY & set(rest)) or (rest[0] in _TELLERS and bool(_TOLD & set(rest[1:])))
    )
