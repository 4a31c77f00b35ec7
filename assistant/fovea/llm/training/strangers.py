"""Plugins that do not exist: practice in reading what a tool is for."""

from __future__ import annotations

import random
import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

from fovea.llm.base import ToolSpec
from fovea.llm.training.phrases import expand, grammar, lines

_SPOKEN = """
zor vic lam pel dor mi tan qui sel bra fen ulo gri hax jor kly nem opt pra rus tev wim xan yel bol
cor dra ephi gan hul isk
"""
_SYLLABLES = _SPOKEN.split()


@dataclass(frozen=True)
class Stranger:
    """A made-up plugin.

    Attributes:
        name: Tool name.
        subject: What it is about, in words.
        words: Other words for that.
        kind: What it does: an entry `kind` of strangers.toml, `blind` and `away` among them.
    """

    name: str
    subject: str
    words: tuple[str, ...]
    kind: str

    @classmethod
    @cache
    def every(cls) -> tuple[Stranger, ...]:
        """All of the grammar."""
        found = []
        for line in lines(grammar("strangers")["subjects"]):
            subject, words, kind = (part.strip() for part in line.split("|"))
            name = re.sub(r"\W+", "_", subject)
            found.append(cls(name, subject, tuple(lines(words)), kind))
        return tuple(found)

    @classmethod
    def invented(cls, chance: random.Random) -> Stranger:
        """One about a thing that has no name in any language."""

        def word() -> str:
            return "".join(chance.sample(_SYLLABLES, chance.choice((2, 3))))

        thing = chance.choice(("", "", " sign", " index", " spots", " ratio", " layer", " score"))
        subject = word() + thing
        kind = chance.choice(("measure", "detect", "rate", "grade", "predict", "process"))
        words = (subject, f"{word()}{chance.choice(('', ' marks', ' value'))}")
        return cls(re.sub(r"\W+", "_", subject), subject, words, kind)

    def spec(self, chance: random.Random) -> ToolSpec:
        """The tool as it would be offered, differently worded each time."""
        kind = grammar("strangers")["kind"][self.kind]
        verb = chance.choice(lines(kind["verbs"])).replace(" ", "_")
        told = list(self.words)
        chance.shuffle(told)
        # Mostly every word that people use for it: what is nowhere said cannot be read.
        if chance.random() < 0.3:
            told = told[: max(1, chance.randint(1, len(told)))]
        says = expand(
            chance.choice(lines(kind["says"])), chance, {"name": self.subject, "b": ", ".join(told)}
        )
        if chance.random() < 0.5:
            asked = " ".join(f'"{self.question(chance, "this")}"' for _ in range(4))
            says = f"{says} Examples: {asked}"
        name = self.name if chance.random() < 0.4 else f"{verb}_{self.name}"
        if self.kind == "process" and chance.random() < 0.3:
            name = f"{self.name}_filter"
        return ToolSpec(name, says, {})

    def question(self, chance: random.Random, noun: str) -> str:
        """A question for it."""
        kind = grammar("strangers")["kind"][self.kind]
        word = chance.choice((self.subject, *self.words))
        return expand(chance.choice(lines(kind["ask"])), chance, {"a": word, "this": noun})


def offered_strangers(
    chance: random.Random, count: int, barred: Collection[str] = ()
) -> list[Stranger]:
    """Some made-up plugins; none whose name is barred."""
    known = [s for s in Stranger.every() if s.name not in barred]
    found = chance.sample(known, count)
    return [Stranger.invented(chance) if chance.random() < 0.2 else s for s in found]
