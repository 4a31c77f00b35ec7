"""One clause of a question with everything that was recognised in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from fovea.llm.lexicon import Concept, Hit, Lexicon
from fovea.llm.selection import NO_SELECTION, Selection, read_selection

LOOKUP = "lookup_knowledge"
OVERVIEW = (
    "assess_quality", "segment_optic_disc", "measure_biomarkers", "classify_disease",
    "segment_lesions",
)  # fmt: skip
"""What "describe this image" runs, in the order of the answer."""

DEICTIC = frozenset({"this", "these", "here", "my", "his", "her", "he", "she", "our", "im"})
PRONOUNS = frozenset({"it", "that", "this", "they", "them", "those", "these"})
IMAGE_NOUNS = frozenset(
    {"image", "photo", "picture", "photograph", "scan", "eye", "patient", "retina", "fundus",
     "left", "right", "od", "os", "pair", "one", "visit", "case", "result"}
)  # fmt: skip
_PAIRED = frozenset(
    {"eye", "image", "photo", "picture", "photograph", "visit", "scan", "them", "od", "os",
     "left", "right", "disc"}
)  # fmt: skip
# "The retina" names the organ as often as the one in the picture.
_ORGANS = frozenset({"retina", "fundus"})
CONTINUES = frozenset({"and", "now", "also", "then", "or", "ok", "okay", "so"})


@dataclass(frozen=True)
class Ask:
    """One thing asked of one tool.

    Attributes:
        concepts: Names of lexicon concepts, to answer what was asked first.
        query: Words to look up, for `lookup_knowledge`.
        words: The words of the whole question, to tell which of several numbers it means.
        selection: Which images, as far as the words say.
    """

    tool: str
    concepts: tuple[str, ...] = ()
    query: str = ""
    words: tuple[str, ...] = ()
    selection: Selection = NO_SELECTION


@dataclass(frozen=True)
class Clause:
    """Words of one clause; what they name is found once."""

    words: tuple[str, ...]
    lexicon: Lexicon = field(repr=False)

    @cached_property
    def hits(self) -> tuple[Hit, ...]:
        """Concepts from left to right."""
        return tuple(self.lexicon.subjects.find(self.words))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the concepts, each once."""
        return tuple(dict.fromkeys(hit.name for hit in self.hits))

    @cached_property
    def selection(self) -> Selection:
        """Images that the clause names."""
        return read_selection(self.words)

    @cached_property
    def paired(self) -> bool:
        """Whether it speaks of two images or eyes."""
        numbered = sum(word.startswith("img") for word in self.words) > 1
        return numbered or (self.has("pair") and bool(_PAIRED & set(self.words)))

    @cached_property
    def deictic(self) -> bool:
        """Whether it points at an image, an eye or a patient at hand."""
        if DEICTIC & set(self.words) or self.selection:
            return True
        return any(
            word == "the" and set(self.words[place + 1 : place + 3]) & (IMAGE_NOUNS - _ORGANS)
            and self.words[place - 1 : place + 2] != ("of", "the", "eye")
            for place, word in enumerate(self.words)
        )  # fmt: skip

    @property
    def continues(self) -> bool:
        """Whether it goes on from the question before: "and ...", "what about ..."."""
        opening = self.words[:2]
        return self.words[0] in CONTINUES or opening in (("what", "about"), ("how", "about"))

    def concept(self, hit: Hit) -> Concept:
        """The concept of a hit."""
        return self.lexicon.concepts[hit.name]

    def of_role(self, *roles: str) -> list[Hit]:
        """Hits whose concept has one of these roles."""
        return [hit for hit in self.hits if self.concept(hit).role in roles]

    def has(self, cue: str, words: Sequence[str] | None = None) -> bool:
        """Whether a cue occurs in the clause, or in part of it."""
        return self.lexicon.has(cue, self.words if words is None else words)
