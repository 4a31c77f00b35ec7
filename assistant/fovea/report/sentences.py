"""Takes prose apart: sentences, citations, numbers with units, eyes, negations."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fovea.image import Eye
from fovea.knowledge.search import word_spans

CITATION = re.compile(r"\[((?:E\d+|K:[a-z0-9_]+)(?:\s*[,;]\s*(?:E\d+|K:[a-z0-9_]+))*)\]")
_GROUP = rf"(?:\s*{CITATION.pattern})+"
_MARKER = re.compile(r"^\s*(?:[-*+•]\s+|\d{1,2}[.)]\s+|#{1,6}\s+|>\s+)*")
_ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|vs|approx|cf|al|fig|dr|no|ca)|\b[A-Z])\.$", re.I)
_END = re.compile(rf"[.!?…]+[\"')*_”]*(?:{_GROUP}[.]?)?(?=\s|$)|(?<=\])[.!?]?(?=\s+[A-Z])")
_INVISIBLE = re.compile(
    "[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0000-\U000e01ef]"
)

_UNITS = (
    ("%", r"%|per\s?cent\b|percent\b"),
    ("mm2", r"mm2\b"),
    ("um2", r"(?:[uμ]m)2\b"),
    ("px2", r"px2\b"),
    ("mm[Hg]", r"mmhg\b"),
    ("1/mm", r"(?:1/mm|per mm|/mm)\b"),
    ("mm", r"(?:mm|millimet(?:re|er)s?)\b"),
    ("um", r"(?:[uμ]m|micromet(?:re|er)s?|microns?)\b"),
    ("px", r"(?:px|pixels?)\b"),
    ("deg", r"(?:°|deg\b|degrees?\b)"),
    ("[DD]", r"(?:DD\b|disc diameters?\b)"),
)
_UNIT = "|".join(f"(?P<u{n}>{pattern})" for n, (_, pattern) in enumerate(_UNITS))
_NUMBER = re.compile(
    r"(?<![\w.])(?P<sign>(?:(?<=[\s(])|^)[-−])?"
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    rf"(?:(?:st|nd|rd|th)\b|[\s-]?(?:{_UNIT})|(?![\w]|[.,]\d))",
    re.I,
)  # fmt: skip
_NAMES = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen",
    "eighteen", "nineteen", "twenty",
)  # fmt: skip
_WORDS = {word: value for value, word in enumerate(_NAMES, start=1)}
_COUNTED = (
    r"h(?:a)?emorrh|micro|exudat|(?:\w+-)?spots?|lesions?|drusen|vessels?|arter|ven|cases?|"
    r"neighbou?rs?|quadrants?|discs?|times|per\s?cent|years?|days?|weeks?|months?|signs?"
)
_NUMBER_WORD = re.compile(rf"\b({'|'.join(_NAMES)})\b(?=\s+(?:\w+\s+){{0,2}}?(?:{_COUNTED}))", re.I)

NEGATORS = re.compile(
    r"\b(?:no|not|none|never|neither|nor|without|absen(?:t|ce)|negative|cannot|excludes?|excluded|"
    r"free of|rules? out|ruled out|lacks?|lacking|denied|n't)\b|n't\b",
    re.I,
)
_AFTER = re.compile(
    r"^[^;]*?\b(?:absent|not\s+(?:\w+\s+)?(?:present|seen|detected|visible|found|identified)|"
    r"negative|excluded|ruled out|missing)\b",
    re.I,
)
_BEFORE = re.compile(
    r"\b(?:no|without|absence of|free of|negative for|neither|nor|never|lacks?|excludes?|"
    r"rules? out|not)\b[^;]*$",
    re.I,
)
_CONTRAST = re.compile(
    r";|:|\bbut\b|\bhowever\b|\bwhile\b|\bwhereas\b|\balthough\b|\bwith\b(?=[^;]*\bpresent\b)", re.I
)
_OPEN = re.compile(
    r"\b(?:indeterminate|uncertain|unclear|undecided|unlikely|likely|possibl[ey]|probabl[ey]|may|"
    r"might|perhaps|suspect\w*|suspicion|doubtful|cannot be (?:decided|excluded|confirmed))\b",
    re.I,
)
_UNSEEN = re.compile(r"\b(?:not|cannot be|could not be) (?:assess\w*|grad\w*|judged)\b", re.I)
_EYE = re.compile(
    r"\b(?P<both>OU|both (?:eyes|discs|maculae)|either eye)\b|"
    r"\b(?P<OD>OD|RE|R(?= eye)|[Oo]culus [Dd]exter)\b|"
    r"\b(?P<OS>OS|LE|L(?= eye)|[Oo]culus [Ss]inister)\b|"
    r"(?<!upper )(?<!lower )\b(?P<side>right|left)\b(?!\s+(?:of|side|half|edge|now|corner|border|"
    r"hand|upper|lower|away|from)\b)(?!-hand)",
)


@dataclass(frozen=True)
class Piece:
    """One sentence with the white space and list marker before it."""

    before: str
    text: str
    line: int


@dataclass(frozen=True)
class Segment:
    """A stretch of a sentence with the citations that end it."""

    text: str
    cites: tuple[str, ...]


@dataclass(frozen=True)
class Number:
    """A printed number; `decimals` is its precision, `unit` UCUM or None."""

    value: float
    decimals: int
    unit: str | None
    start: int
    end: int


def clean(text: str) -> str:
    """The text without invisible characters, which can hide instructions or claims."""
    return _INVISIBLE.sub("", text)


def split(text: str) -> list[Piece]:
    """The sentences of a text; joining `before + text` of all gives the text back."""
    pieces = []
    for number, line in enumerate(clean(text).splitlines(keepends=True)):
        marker = _MARKER.match(line)
        start = marker.end() if marker else 0
        before = line[:start]
        cursor = start
        for match in _END.finditer(line, start):
            head = line[cursor : match.end()]
            if _ABBREVIATION.search(line[cursor : match.start() + 1]) or not head.strip():
                continue
            follow = line[match.end() :].lstrip()
            if follow and follow[0].islower():
                continue
            gap = len(head) - len(head.lstrip())
            pieces.append(Piece(before + head[:gap], head[gap:], number))
            before, cursor = "", match.end()
        rest = line[cursor:]
        gap = len(rest) - len(rest.lstrip())
        body = rest[gap:].rstrip()
        if body:
            pieces.append(Piece(before + rest[:gap], body, number))
            before, rest = "", rest[gap + len(body) :]
        if before or rest:
            pieces.append(Piece(before + rest, "", number))
    return pieces


def segments(sentence: str) -> tuple[list[Segment], str]:
    """The cited stretches of a sentence, and what follows the last citation."""
    plain = unicodedata.normalize("NFKC", sentence)
    found = []
    cursor = 0
    for group in re.finditer(_GROUP, plain):
        ids = re.findall(r"E\d+|K:[a-z0-9_]+", group[0])
        found.append(Segment(plain[cursor : group.start()], tuple(ids)))
        cursor = group.end()
    return found, plain[cursor:].strip(" .!?…*_\"')”")


def without_citations(sentence: str) -> str:
    """The normalised sentence with its citations left out."""
    return CITATION.sub(" ", unicodedata.normalize("NFKC", sentence))


@functools.lru_cache(maxsize=1 << 11)
def numbers(text: str) -> tuple[tuple[Number, ...], bool]:
    """The numbers of a text, and whether a digit is left that cannot be read as one."""
    text = re.sub(r"\bimg\d+\b", lambda match: " " * len(match[0]), text)
    found = []
    rest = list(text)
    for match in _NUMBER.finditer(text):
        unit = next((u for n, (u, _) in enumerate(_UNITS) if match[f"u{n}"]), None)
        digits = match["digits"].replace(",", "")
        value = float(digits) * (-1.0 if match["sign"] else 1.0)
        found.append(Number(value, len(digits.partition(".")[2]), unit, match.start(), match.end()))
        rest[match.start() : match.end()] = " " * (match.end() - match.start())
    for match in _NUMBER_WORD.finditer(text):
        value = float(_WORDS[match[0].lower()])
        found.append(Number(value, 0, None, match.start(), match.end()))
    unread = any(letter.isnumeric() for letter in rest)
    return tuple(sorted(found, key=lambda number: number.start)), unread


def eyes(text: str) -> list[tuple[Eye, int]]:
    """Each eye that the text names, with the position."""
    found: list[tuple[Eye, int]] = []
    for match in _EYE.finditer(_lower_sides(text)):
        if match["both"]:
            found += [("OD", match.start()), ("OS", match.start())]
        elif match["OD"] or match["side"] == "right":
            found.append(("OD", match.start()))
        else:
            found.append(("OS", match.start()))
    return found


def _lower_sides(text: str) -> str:
    return re.sub(
        r"\b(?:right|left|upper|lower|both|either|eyes?|of|side)\b",
        lambda match: match[0].lower(),
        text,
        flags=re.I,
    )


_REMEMBERED = 256


class Phrases(dict[tuple[str, ...], str]):
    """Keys by the words of the phrases that name them; not changed once it was searched."""

    @functools.cached_property
    def asked(self) -> dict[str, list[tuple[str, int, int]]]:
        """What was found in the texts that were searched last: one is searched many times."""
        return {}

    @functools.cached_property
    def longest(self) -> dict[str, int]:
        """First word to the number of words in the longest phrase that it begins."""
        found: dict[str, int] = {}
        for phrase in self:
            if phrase:
                found[phrase[0]] = max(found.get(phrase[0], 0), len(phrase))
        return found


def phrases(text: str, known: Phrases) -> list[tuple[str, int, int]]:
    """Known phrases in the text as (key, start, end); the longest one wins."""
    if text in known.asked:
        return known.asked[text]
    spans = word_spans(text)
    words = tuple(word for word, _, _ in spans)
    found = []
    index = 0
    while index < len(words):
        longest = known.longest.get(words[index])
        if longest is None:
            index += 1
            continue
        for size in range(min(longest, len(words) - index), 0, -1):
            key = known.get(words[index : index + size])
            if key is not None:
                found.append((key, spans[index][1], spans[index + size - 1][2]))
                index += size
                break
        else:
            index += 1
    if len(known.asked) >= _REMEMBERED:
        known.asked.clear()
    known.asked[text] = found
    return found


def polarity(
    text: str, start: int, end: int
) -> Literal["present", "absent", "indeterminate", "not_assessable"] | None:
    """What the text says about the phrase at [start, end); None: contradictory."""
    low = max((m.end() for m in _CONTRAST.finditer(text[:start])), default=0)
    after = _CONTRAST.search(text, end)
    clause_end = after.start() if after else len(text)
    clause = f"{text[low:start]} {text[end:clause_end]}"
    if _OPEN.search(clause):
        return "indeterminate"
    if _UNSEEN.search(clause):
        return "not_assessable"
    ahead = bool(_BEFORE.search(text[low:start]))
    behind = bool(_AFTER.search(text[end:clause_end]))
    if ahead and behind:
        return None
    return "absent" if ahead or behind else "present"


def eyes_as_spans(eyes: Sequence[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """Eye mentions in the form of phrases."""
    return [(eye, start, start + 2) for eye, start in eyes]


def governing(mentions: Sequence[tuple[str, int, int]], number: Number) -> str | None:
    """The mention that a number belongs to: the last one before it, else the first after."""
    before = [key for key, start, _ in mentions if start < number.start]
    if before:
        return before[-1]
    return mentions[0][0] if mentions else None
