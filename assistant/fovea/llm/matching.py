"""Whether a question means a tool that Fovea does not know, by what its author says of it.

Name, description and example questions are compared with the question, word by word and by
pieces of words; rare words tell more than common ones. How much each likeness counts was fitted
on plugins that were made up for the purpose (`fovea llm fit`), none of which Fovea has.
"""

from __future__ import annotations

import math
import re
import unicodedata
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from fovea.llm.base import ToolSpec
from fovea.llm.compact import OWN_TOOLS, STOP_WORDS
from fovea.llm.text import BREAKS, tokens
from fovea.llm.wishes import BUCKETS, Floats, Turn, counts, ending, wish_model

LIKENESSES = (
    "words of an example", "pieces of an example", "words of the description",
    "pieces of the description", "pieces of everything said", "share of known words",
    "rarest known word", "rarest word of the name", "own tools", "always",
)  # fmt: skip
"""What is weighed, in this order: `own tools` is how likely one of Fovea's own is meant, and
`always` is 1."""

_EXAMPLE = re.compile(r'"([^"]+)"')
_WORD = re.compile(r"\w+")
_STEM = 6
_SCALE, _ODDS = 10.0, 5.0
_SAME = 0.9
_NAME_WORDS = 3
"""Words that a name may be typed in: "rrw net" is `rrwnet`."""

Piece = Mapping[int, float]


@dataclass(frozen=True)
class Described:
    """What an author says of a tool, ready to be compared.

    Attributes:
        examples: Its example questions.
        said: Name and description.
        everything: Both.
    """

    examples: tuple[str, ...]
    name: str
    said: str

    @classmethod
    def of(cls, tool: ToolSpec) -> Described:
        """The parts of a tool's description."""
        purpose, _, examples = tool.description.partition("Examples:")
        found = _EXAMPLE.findall(examples) or examples.splitlines()
        name = tool.name.replace("_", " ")
        return cls(tuple(line for line in found if line.strip()), name, f"{name} {purpose}")

    @property
    def everything(self) -> str:
        """All that is said of it."""
        return " ".join([self.said, *self.examples])

    def without(self, question: str) -> Described:
        """The same without an example, to learn from it as if somebody else had asked."""
        return Described(
            tuple(line for line in self.examples if line != question), self.name, self.said
        )


def vocabulary(tools: Sequence[ToolSpec]) -> frozenset[str]:
    """Words of the tools' names and descriptions: none of them is a misspelling."""
    return frozenset(
        word for tool in tools for word in _tokens(f"{tool.name} {tool.description}")
    ) - BREAKS  # fmt: skip


@lru_cache(maxsize=512)
def _tokens(text: str) -> tuple[str, ...]:
    """Words of a tool's text, which is the same in every turn."""
    return tuple(tokens(text))


def may_be_meant(question: str, name: str) -> bool:
    """Whether a tool can be meant: one that does the same as Fovea's own must be named.

    Such a tool is called after Fovea's: `segment_vessels_rrwnet`.
    """
    own = next((own for own in OWN_TOOLS if name.startswith(f"{own}_")), None)
    if own is None:
        return True
    sought, words = name.removeprefix(f"{own}_").replace("_", ""), _spoken(question)
    runs = range(1, _NAME_WORDS + 1)
    return any(sought == "".join(words[n : n + run]) for run in runs for n in range(len(words)))


def is_example(question: str, tool: ToolSpec) -> bool:
    """Whether the question is one of the tool's examples, or nearly so."""
    asked = set(_spoken(question))
    for line in Described.of(tool).examples:
        known = set(_spoken(line))
        if asked and len(asked & known) >= _SAME * len(asked | known):
            return True
    return False


class Comparer:
    """Compares questions with tools.

    Args:
        idf: (BUCKETS,) rarity of words and pieces, of the word model.
    """

    def __init__(self, idf: NDArray[np.floating]) -> None:
        self.idf = idf
        self._parts = lru_cache(maxsize=4096)(self._new_parts)

    def likenesses(self, question: str, tool: Described, own: float) -> Floats:
        """(10,) what `LIKENESSES` names.

        Args:
            question: Words of the person.
            tool: A tool.
            own: Probability that one of Fovea's own tools is meant.
        """
        question = ending(question)
        words, pieces = self._parts(question)
        examples = [self._parts(line) for line in tool.examples]
        said_words, said_pieces = self._parts(tool.said)
        everything = self._parts(tool.everything)[1]
        telling = [word for word in _spoken(question) if word not in STOP_WORDS and len(word) > 1]
        known = self._rarities(telling, tool.everything)
        whole = sum(self._rarity(word) for word in telling) or 1.0
        return np.array(
            [
                max((_product(words, one) for one, _ in examples), default=0.0),
                max((_product(pieces, one) for _, one in examples), default=0.0),
                _product(words, said_words), _product(pieces, said_pieces),
                _product(pieces, everything), sum(known) / whole,
                max(known, default=0.0) / _SCALE,
                max(self._rarities(telling, tool.name), default=0.0) / _SCALE,
                math.log(max(own, 1e-3) / max(1.0 - own, 1e-3)) / _ODDS, 1.0,
            ],
            np.float32,
        )  # fmt: skip

    def _rarities(self, words: Sequence[str], text: str) -> list[float]:
        known = _stems(text)
        return [self._rarity(word) for word in words if word[:_STEM] in known]

    def _rarity(self, word: str) -> float:
        return float(self.idf[zlib.crc32(f"w{word}".encode()) % BUCKETS])

    def _new_parts(self, text: str) -> tuple[Piece, Piece]:
        words, pieces = (self._unit(part) for part in counts(Turn(text)))
        return words, pieces

    def _unit(self, counted: Mapping[int, int]) -> Piece:
        values = {k: (1.0 + math.log(n)) * float(self.idf[k]) for k, n in counted.items()}
        length = math.sqrt(sum(value * value for value in values.values())) or 1.0
        return {k: value / length for k, value in values.items()}


@cache
def comparer() -> Comparer:
    """The one with the rarities of the shipped word model."""
    return Comparer(wish_model().idf)


def chances(likenesses: Mapping[str, Floats], weights: Floats) -> dict[str, float]:
    """The probability that a question means each of several tools: the likeliest, or none.

    Args:
        likenesses: By tool, (L,) what `LIKENESSES` names.
        weights: (L,) how much each counts.
    """
    odds = {name: math.exp(min(float(found @ weights), 30.0)) for name, found in likenesses.items()}
    likeliest = max(odds, key=lambda name: odds[name], default="")
    whole = 1.0 + sum(odds.values())
    return {name: value / whole if name == likeliest else 0.0 for name, value in odds.items()}


def _product(first: Piece, second: Piece) -> float:
    if len(first) > len(second):
        first, second = second, first
    return sum(value * second.get(bucket, 0.0) for bucket, value in first.items())


def _spoken(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


@lru_cache(maxsize=1024)
def _stems(text: str) -> frozenset[str]:
    """The beginnings of the words that matter: ageing and aged begin alike."""
    words = _spoken(text.replace("_", " "))
    return frozenset(w[:_STEM] for w in words if w not in STOP_WORDS and len(w) > 1)
