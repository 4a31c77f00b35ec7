"""What a person does not want: "skip the grading, only the disc", "no report"."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

from fovea.llm.lexicon import Hit, Lexicon
from fovea.llm.text import BREAKS

# After these words a sentence may go on: "instead of the disc I want the lesions".
_BESIDES = frozenset(
    {"instead", "rather", "without", "except", "apart", "aside", "other", "besides", "leaving",
     "skipping", "ignoring", "omitting", "excluding"}
)  # fmt: skip
_FORBIDDING = (["do", "not"], ["never", "mind"], ["no", "need"])
_REACH = 4
"""Words after an excluding one among which the tool stands that is excluded."""


def without_excluded(clause: Sequence[str], lexicon: Lexicon) -> list[str]:
    """The words of a clause without what the person does not want."""
    hits = lexicon.cues["exclude"].find(clause)
    # "Don't you see ..." and "is there no ..." ask, they do not forbid.
    hits = [hit for hit in hits if not {"you", "we"} & set(clause[hit.end : hit.end + 1])]
    if not hits:  # "No report, just the grade", "not this but that"; but "no drusen?" asks
        hits = [
            Hit("exclude", place, place + 1)
            for place, word in enumerate(clause)
            if word in {"no", "not"} and tuple(clause[max(0, place - 1) : place]) in ((), (",",))
            and tuple(clause[place + 1 : place + 2]) != (",",)
        ]  # fmt: skip
        hits = hits if lexicon.subjects.find(_cut(clause, hits, lexicon)) else []
    return _cut(clause, hits, lexicon)


def excluded_tools(words: Sequence[str], lexicon: Lexicon) -> frozenset[str]:
    """The tools that are named just after an excluding word."""
    return frozenset(
        lexicon.concepts[hit.name].tool
        for place in (hit.end for hit in lexicon.cues["exclude"].find(words))
        for hit in lexicon.subjects.find(_until_break(words[place : place + _REACH]))
    )


def forbids(words: Sequence[str]) -> bool:
    """Whether a message begins by forbidding: "please do not grade it"."""
    return [word for word in words if word != "please"][:2] in _FORBIDDING


def _cut(clause: Sequence[str], hits: Sequence[Hit], lexicon: Lexicon) -> list[str]:
    kept: list[str] = []
    place = 0
    for hit in hits:
        if hit.start < place:
            continue
        end = hit.end
        cues = ("spoken", "resume") if clause[hit.start] in _BESIDES else ("spoken",)
        while end < len(clause) and not _resumes(clause, end, lexicon, cues):
            end += 1
        kept += clause[place : hit.start]
        place = end
    return kept + list(clause[place:])


def _resumes(clause: Sequence[str], place: int, lexicon: Lexicon, cues: Sequence[str]) -> bool:
    return clause[place] == "," or any(lexicon.cues[cue].longest_at(clause, place) for cue in cues)


def _until_break(words: Sequence[str]) -> list[str]:
    return list(takewhile(lambda word: word not in BREAKS, words))
