"""Phrases with choices in them, as the grammar of the training data writes them.

`(a|b)` chooses, `[a]` may be left out, `{name}` draws from a list or is filled in.
"""

from __future__ import annotations

import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

_INNERMOST = re.compile(r"\(([^()\[\]]*\|[^()\[\]]*)\)|\[([^()\[\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_SPACES = re.compile(r"\s+(?=[,.;:?!])|(?<=\s)\s+")


@cache
def grammar(name: str) -> Mapping[str, Any]:
    """A file of the grammar, by its name without ending."""
    folder = files("fovea.llm.training").joinpath("grammar")
    return tomllib.loads(folder.joinpath(f"{name}.toml").read_text(encoding="utf-8"))


@cache
def lines(text: str) -> tuple[str, ...]:
    """The phrases of a block, one per line, or of a comma-separated line."""
    parts = text.splitlines() if "\n" in text else text.split(", ")
    return tuple(part.strip() for part in parts if part.strip())


@cache
def word_lists() -> Mapping[str, tuple[str, ...]]:
    """Every list that a `{name}` may draw from."""
    found = {name: lines(text) for name, text in grammar("words")["lists"].items()}
    talk = grammar("talk")
    found |= {name: lines(text) for name, text in talk["lists"].items()}
    found |= {
        name: lines(text)
        for name, text in talk["none"].items()
        if name in {"bad", "modality", "oct", "quantity", "finding_elsewhere"}
    }
    return found


def one_of(chance: random.Random, phrases: Sequence[str], **given: str) -> str:
    """One of the phrases, with every choice made and every slot filled."""
    return expand(chance.choice(phrases), chance, given)


def expand(phrase: str, chance: random.Random, given: Mapping[str, str] | None = None) -> str:
    """The phrase with every choice made; `given` fills slots before the lists do."""
    given, lists = given or {}, word_lists()
    while True:
        chosen = _INNERMOST.sub(lambda match: _choice(match, chance), phrase)
        if chosen == phrase:
            break
        phrase = chosen

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name in given:
            return given[name]
        if name == "value":
            return f"0.{chance.randint(2, 95)}" if chance.random() < 0.8 else chance.choice(VALUES)
        if name == "n":
            return str(chance.randint(1, 20))
        if name == "age":
            return str(chance.randint(9, 92))
        return expand(chance.choice(lists[name]), chance, given)

    return _SPACES.sub("", _SLOT.sub(fill, phrase)).strip()


VALUES = ("130 micrometres", "1.4", "200 um", "12 degrees", "4 mm", "60 percent")


def _choice(match: re.Match[str], chance: random.Random) -> str:
    needed: str | None = match[1]
    if needed is not None:
        return chance.choice(needed.split("|"))
    optional: str = match[2]
    return chance.choice(optional.split("|")) if chance.random() < 0.5 else ""


_NEAR = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj",
    "i": "uo", "j": "hk", "k": "jl", "l": "k", "m": "n", "n": "bm", "o": "ip", "p": "o",
    "q": "w", "r": "et", "s": "ad", "t": "ry", "u": "yi", "v": "cb", "w": "qe", "x": "zc",
    "y": "tu", "z": "x",
}  # fmt: skip
_HEARD = (
    ("ph", "f"), ("ae", "e"), ("ae", "a"), ("rrh", "rr"), ("rrh", "r"), ("oe", "e"), ("our", "or"),
    ("ise", "ize"), ("isation", "ization"), ("tre", "ter"), ("ll", "l"), ("ss", "s"), ("mm", "m"),
    ("ie", "ei"), ("ei", "ie"), ("c", "k"), ("y", "i"), ("tion", "sion"), ("ou", "u"), ("ea", "e"),
    ("disc", "disk"), ("disk", "disc"), ("ght", "t"), ("qu", "kw"), ("th", "t"), ("ck", "k"),
)  # fmt: skip


def misspelt(text: str, chance: random.Random, share: float) -> str:
    """The text with about `share` of its longer words misspelt by hand or by ear."""
    return " ".join(
        _typo(word, chance) if len(word) > 3 and chance.random() < share else word
        for word in text.split(" ")
    )


def _typo(word: str, chance: random.Random) -> str:
    if "<" in word:
        return word
    if chance.random() < 0.3:
        heard = [pair for pair in _HEARD if pair[0] in word.lower()]
        if heard:
            old, new = chance.choice(heard)
            return word.lower().replace(old, new, 1)
    place = chance.randrange(1, len(word))
    kind = chance.random()
    if kind < 0.3:
        return word[:place] + word[place + 1 :]
    if kind < 0.5:
        return word[:place] + word[place - 1] + word[place:]
    if kind < 0.75:
        return word[: place - 1] + word[place] + word[place - 1] + word[place + 1 :]
    near = _NEAR.get(word[place].lower(), "e")
    return word[:place] + chance.choice(near) + word[place + 1 :]
