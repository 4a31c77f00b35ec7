"""The lexicon of questions: which words ask for which tool."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from typing import Literal

from fovea.llm.text import corrected, tokens

Role = Literal["strong", "vessel", "attribute", "weak", "topic", "outside", "neutral"]
Phrase = tuple[str, ...]


@dataclass(frozen=True)
class Concept:
    """One thing that people ask about.

    Attributes:
        tool: The tool that answers, empty for subjects that no tool answers.
        label: Its name in plain words.
        measures: Beginnings of the measurement names that answer it first.
        aspect: Word by which findings and masks of this concept are recognised.
    """

    name: str
    tool: str
    label: str
    role: Role
    measures: tuple[str, ...] = ()
    aspect: str = ""


@dataclass(frozen=True)
class Hit:
    """A concept or cue found in words `start` to `end` (exclusive)."""

    name: str
    start: int
    end: int


class PhraseBook:
    """Finds phrases in words; at each place the longest phrase wins."""

    def __init__(self, phrases: Mapping[str, Iterable[str]]) -> None:
        self._exact: dict[str, list[tuple[Phrase, str]]] = defaultdict(list)
        self._prefixed: list[tuple[Phrase, str]] = []
        for name, texts in phrases.items():
            for text in texts:
                phrase = _phrase(text)
                if phrase[0].endswith("*"):
                    self._prefixed.append((phrase, name))
                else:
                    self._exact[phrase[0]].append((phrase, name))

    def find(self, words: Sequence[str]) -> list[Hit]:
        """Non-overlapping hits from left to right."""
        hits: list[Hit] = []
        place = 0
        while place < len(words):
            found = self.longest_at(words, place)
            if found is None:
                place += 1
            else:
                hits.append(found)
                place = found.end
        return hits

    def longest_at(self, words: Sequence[str], place: int) -> Hit | None:
        """The longest phrase that begins at `place`, or None."""
        best: Hit | None = None
        for phrase, name in [*self._exact.get(words[place], ()), *self._prefixed]:
            end = place + len(phrase)
            longer = best is None or end > best.end
            if longer and end <= len(words) and _fits(phrase, words[place:end]):
                best = Hit(name, place, end)
        return best

    def words(self) -> set[str]:
        """Every whole word of every phrase."""
        every = [phrase for group in self._exact.values() for phrase, _ in group]
        every += [phrase for phrase, _ in self._prefixed]
        return {word for phrase in every for word in phrase if not word.endswith("*")}


def _phrase(text: str) -> Phrase:
    out: list[str] = []
    for part in text.split():
        out += [part] if part.endswith("*") else _forms(part)
    return tuple(out)


@lru_cache(maxsize=1 << 13)
def _forms(word: str) -> tuple[str, ...]:
    return tuple(tokens(word))


def _fits(phrase: Phrase, words: Sequence[str]) -> bool:
    return all(
        word.startswith(part[:-1]) if part.endswith("*") else word == part
        for part, word in zip(phrase, words, strict=True)
    )


@dataclass(frozen=True)
class Lexicon:
    """Concepts, cues and word lists, ready to match."""

    concepts: Mapping[str, Concept]
    subjects: PhraseBook
    attributes: PhraseBook
    cues: Mapping[str, PhraseBook]
    heads: frozenset[str]
    stop: frozenset[str]
    generic: frozenset[str]
    known: frozenset[str]
    targets: Mapping[str, tuple[str, ...]]

    def words(self, text: str, extra: Iterable[str] = ()) -> list[str]:
        """The words of a question, with misspelled domain words put right."""
        return corrected(tokens(text), self.known | set(extra), self.targets)

    def has(self, cue: str, words: Sequence[str]) -> bool:
        """Whether a cue occurs in the words."""
        return bool(self.cues[cue].find(words))


@cache
def load_lexicon() -> Lexicon:
    """The shipped lexicon."""
    table = tomllib.loads(files("fovea.llm").joinpath("lexicon.toml").read_text(encoding="utf-8"))
    concepts, phrases = {}, {}
    for name, entry in table["concept"].items():
        phrases[name] = entry["phrases"]
        concepts[name] = Concept(
            name=name,
            tool=entry.get("tool", ""),
            label=entry["label"],
            role=entry["role"],
            measures=tuple(entry.get("measures", ())),
            aspect=entry.get("aspect", ""),
        )
    subjects = PhraseBook({n: p for n, p in phrases.items() if n != "vessel_attribute"})
    cues = {name: PhraseBook({name: texts}) for name, texts in table["cues"].items()}
    lists = {name: frozenset(entries) for name, entries in table["words"].items()}
    attributes = PhraseBook({"vessel_attribute": phrases["vessel_attribute"]})
    # What Fovea does not do is not worth guessing at: "present" is not a bad "president".
    asked = {n: p for n, p in phrases.items() if concepts[n].role not in {"outside", "neutral"}}
    domain = PhraseBook(asked).words() | lists["spelling"]
    known = (
        domain
        | subjects.words()
        | lists["common"]
        | lists["stop"]
        | lists["heads"]
        | attributes.words()
    )
    known |= lists["generic"] | {word for book in cues.values() for word in book.words()}
    known = {form for word in known for form in (word, *_forms(word))}
    targets: dict[str, list[str]] = defaultdict(list)
    kept = lists["common"] - lists["spelling"]
    for word in sorted({form for entry in domain for form in _forms(entry)} - kept):
        if len(word) >= 5 and word.isalpha():
            targets[word[0]].append(word)
    return Lexicon(
        concepts=concepts,
        subjects=subjects,
        attributes=attributes,
        cues=cues,
        heads=frozenset(w for head in lists["heads"] for w in _forms(head)),
        stop=frozenset(w for stop in lists["stop"] for w in _forms(stop)) | lists["stop"],
        generic=frozenset(w for entry in lists["generic"] for w in _forms(entry)),
        known=frozenset(known),
        targets={letter: tuple(words) for letter, words in targets.items()},
    )
