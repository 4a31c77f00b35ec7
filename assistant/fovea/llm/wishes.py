"""Which tools a question wishes for, by all of its words: a linear model beside the rules.

The rules know grammar and the terms that somebody listed; people use other words. This
weighs pieces of words, pairs of words and what the rules understood, by logistic
regressions fitted on questions that were worded one by one (`fovea llm fit`).
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.errors import ModelUnavailable
from fovea.llm.compact import OWN_TOOLS, REPLY_KINDS
from fovea.llm.intents import Reading

Floats = NDArray[np.float32]

BUCKETS = 1 << 16
"""Pieces of text are counted by a hash modulo this; two that meet share a weight."""

PIECES = (3, 4, 5)
LONGEST = 400
"""Letters of a message that are read, from the end: a long one asks last."""

_WORD = re.compile(r"\w+")
_LAST_SAID = 16

FLAGS = (*OWN_TOOLS, "nothing", *REPLY_KINDS, "pictures", "earlier")
"""What is told besides the words: tools and kind of reply by the rules, and the session."""

FOLDER = Path(__file__).parent / "words"


@dataclass(frozen=True)
class Turn:
    """What the model looks at.

    Attributes:
        question: The words of the person.
        before: The person's earlier questions, oldest first.
        said: The last answer.
        tools: Tools that the rules would call if every photograph were there.
        reply: Kind of plain reply that the rules would give, empty if none.
        images: Number of photographs.
    """

    question: str
    before: Sequence[str] = ()
    said: str = ""
    tools: Collection[str] = ()
    reply: str = ""
    images: int = 1

    @classmethod
    def of(
        cls, question: str, before: Sequence[str], said: str, reading: Reading, images: int
    ) -> Turn:
        """The turn, with what the rules read in it."""
        tools = frozenset(ask.tool for ask in reading.asks)
        return cls(question, before, said, tools, reading.reply, images)


def _plain(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def ending(text: str) -> str:
    """What is read of a long message."""
    return _plain(text)[-LONGEST:]


def _words(turn: Turn) -> Iterator[str]:
    words = _WORD.findall(_plain(turn.question))
    yield from words
    yield from (f"{a} {b}" for a, b in pairwise(words))
    for text in turn.before[-2:]:
        yield from (f"u {word}" for word in _WORD.findall(ending(text))[:_LAST_SAID])
    yield from (f"a {word}" for word in _WORD.findall(ending(turn.said))[-_LAST_SAID:])


def _pieces(turn: Turn) -> Iterator[str]:
    for word in _WORD.findall(_plain(turn.question)):
        padded = f" {word} "
        for size in PIECES:
            yield from (padded[k : k + size] for k in range(max(1, len(padded) - size + 1)))


def counts(turn: Turn) -> tuple[Counter[int], Counter[int]]:
    """How often each bucket occurs among the words, and among the pieces of words."""
    return (
        Counter(zlib.crc32(f"w{item}".encode()) % BUCKETS for item in _words(turn)),
        Counter(zlib.crc32(f"c{item}".encode()) % BUCKETS for item in _pieces(turn)),
    )


def weighted(turn: Turn, idf: NDArray[Any]) -> tuple[NDArray[np.int64], Floats]:
    """Buckets (N,) and their values (N,): log counts by rarity, words and pieces of length 1."""
    buckets, values = [], []
    for part in counts(replace(turn, question=ending(turn.question))):
        if not part:
            continue
        place = np.fromiter(part.keys(), np.int64, len(part))
        often = np.fromiter(part.values(), np.float32, len(part))
        value = (1.0 + np.log(often)) * idf[place].astype(np.float32)
        buckets.append(place)
        values.append(value / max(float(np.linalg.norm(value)), 1e-6))
    if not buckets:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    return np.concatenate(buckets), np.concatenate(values).astype(np.float32)


def flags(turn: Turn) -> Floats:
    """(F,) 0 or 1 for each of `FLAGS`."""
    on = {*turn.tools, turn.reply}
    if not turn.tools:
        on.add("nothing")
    if turn.images > 1:
        on.add("pictures")
    if turn.before:
        on.add("earlier")
    return np.array([name in on for name in FLAGS], np.float32)


@dataclass(frozen=True)
class WishModel:
    """One logistic regression for each of Fovea's own tools.

    Attributes:
        idf: (BUCKETS,) rarity of each bucket.
        words: (BUCKETS, T) weights of the words.
        told: (F, T) weights of `FLAGS`.
        bias: (T,).
        likenesses: (L,) weights of `matching.LIKENESSES`, for tools that are not Fovea's own.
    """

    idf: NDArray[Any]
    words: NDArray[Any]
    told: Floats
    bias: Floats
    likenesses: Floats

    def chances(self, turn: Turn) -> dict[str, float]:
        """The probability that each tool is wished for."""
        place, value = weighted(turn, self.idf)
        logits = value @ self.words[place].astype(np.float32) + flags(turn) @ self.told + self.bias
        found = 1.0 / (1.0 + np.exp(-np.clip(logits, -30.0, 30.0)))
        return dict(zip(OWN_TOOLS, found.tolist(), strict=True))

    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """All weights, for a file."""
        return {"idf": self.idf, "words": self.words, "told": self.told,
                "bias": self.bias, "likenesses": self.likenesses}  # fmt: skip


@cache
def wish_model(folder: Path = FOLDER) -> WishModel:
    """The shipped model.

    Raises:
        ModelUnavailable: its file is missing or altered.
    """
    from hashlib import sha256

    from safetensors.numpy import load

    path, digest = folder / "wishes.safetensors", folder / "wishes.sha256"
    try:
        content = path.read_bytes()
        intact = sha256(content).hexdigest() == digest.read_text(encoding="ascii").strip()
    except OSError:
        intact = False
    if not intact:
        raise ModelUnavailable(
            "The word model of the planner cannot be used", where="`wishes.safetensors`",
            why="It or its digest is missing, or they do not fit",
            fix="Install Fovea again, or fit it with `fovea llm fit`",
        )  # fmt: skip
    found = load(content)
    return WishModel(**{field.name: found[field.name] for field in fields(WishModel)})
