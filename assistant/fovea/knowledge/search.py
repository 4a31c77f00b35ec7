"""Finds entries: names in any spelling first, then BM25 over the text."""

from __future__ import annotations

import difflib
import functools
import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping

from fovea.knowledge.models import Entry

K1, B = 1.5, 0.75
"""BM25 parameters, Robertson and Zaragoza 2009, doi:10.1561/1500000019."""
MAX_QUERY = 400
_SPELLING = (
    (re.compile(r"ae(?=[a-z])"), "e"),
    (re.compile(r"oe(?=d|s)"), "e"),
    (re.compile(r"(?<=[a-z]{2})our\b"), "or"),  # colour, but not four
    (re.compile(r"([^aeiou])re\b"), r"\1er"),
    (re.compile(r"is(e|ed|ing|ation)\b"), r"iz\1"),
    (re.compile(r"grey"), "gray"),
    (re.compile(r"\bdisk"), "disc"),
)


@functools.lru_cache(maxsize=1 << 12)
def tokens(text: str) -> tuple[str, ...]:
    """Words with case, accents, hyphens, plural and British spelling levelled."""
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text)
        text = "".join(letter for letter in text if not unicodedata.combining(letter))
    return tuple(word for word, _, _ in word_spans(text.replace("'", "")))


@functools.lru_cache(maxsize=1 << 12)
def word_spans(text: str) -> tuple[tuple[str, int, int], ...]:
    """Each word, levelled as `tokens` does, with its start and end in `text`."""
    found = re.finditer(r"[A-Za-z0-9]+(?:\.[0-9]+)?", text)
    return tuple((_level(match[0].lower()), match.start(), match.end()) for match in found)


@functools.lru_cache(maxsize=1 << 14)
def _level(word: str) -> str:
    for pattern, replacement in _SPELLING:
        word = pattern.sub(replacement, word)
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


STOP_WORDS = frozenset(
    tokens(
        "a about all an and are as at be by can could define definition describe did do does "
        "explain for from give has have how i in into is it know looks look me mean meaning means "
        "my of on or please say says should show some tell than that the their there these this "
        "those to us was we were what when where which who why with word words would you your "
        "much many plain simple term terms normal value values range criteria criterium guideline "
        "information info"
    )
)


class Index:
    """Look-up tables over the entries, built once."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries
        self._names: dict[tuple[str, ...], list[str]] = {}
        for identifier, entry in entries.items():
            labels = [
                # A bare number is a label only beside its data set: "jsiec 0.2".
                label if re.search(r"[A-Za-z]", label) else f"{dataset} {label}"
                for dataset, group in entry.dataset_labels.items()
                for label in group
            ]
            for name in (*entry.names(), identifier.replace("_", " "), *labels):
                owners = self._names.setdefault(tokens(name), [])
                if identifier not in owners:
                    owners.append(identifier)
        self._joined = {"".join(name): name for name in self._names}
        self._longest = max((len(name) for name in self._names), default=0)
        self._counts = {
            identifier: Counter(
                word
                for part in (*entry.names(), *(text for _, text, _ in entry.statements()))
                for word in tokens(part)
                if word not in STOP_WORDS
            )
            for identifier, entry in entries.items()
        }
        self._lengths = {i: sum(counts.values()) for i, counts in self._counts.items()}
        self._mean_length = sum(self._lengths.values()) / max(1, len(self._lengths))
        self._documents = Counter(word for counts in self._counts.values() for word in counts)

    def search(self, query: str, limit: int) -> list[tuple[str, float, str]]:
        """(id, score 0 to 1, why) of the entries that fit, best first."""
        query = query[:MAX_QUERY].strip()
        found: dict[str, tuple[float, str]] = {}

        def add(identifier: str, score: float, why: str) -> None:
            if score > found.get(identifier, (0.0, ""))[0]:
                found[identifier] = (round(score, 4), why)

        for word in re.findall(r"[A-Za-z0-9_]+", query):
            if word in self._entries and ("_" in word or word == query):
                add(word, 1.0, "id")
        words = tokens(query)
        content = tuple(word for word in words if word not in STOP_WORDS)
        # The name as it was asked for goes before the one that is left without its small words.
        for score, phrase in ((0.98, words), (0.97, content)):
            for identifier in self._owners(phrase):
                add(identifier, score, "name or synonym")
        for score, phrase in self._contained(words):
            for identifier in self._names[phrase]:
                add(identifier, score, "name or synonym")
        if not found or any(word not in self._documents for word in content):
            for phrase, likeness in self._misspelt(content):
                whole = len(phrase) >= len(content)
                for identifier in self._names[phrase]:
                    add(
                        identifier,
                        (0.9 if whole else 0.7) * likeness,
                        f"similar spelling: {' '.join(phrase)}",
                    )
        for identifier, score in self._bm25(content):
            add(identifier, 0.6 * score, "words of the text")
        ranked = sorted(found.items(), key=lambda item: (-item[1][0], item[0]))
        return [(identifier, *reason) for identifier, reason in ranked[: max(0, limit)]]

    def _owners(self, phrase: tuple[str, ...]) -> list[str]:
        name = self._joined.get("".join(phrase))
        return self._names[name] if name else []

    def _contained(self, words: tuple[str, ...]) -> list[tuple[float, tuple[str, ...]]]:
        """Names inside a longer question; a name inside a longer name does not count."""
        taken: set[int] = set()
        found = []
        for size in range(min(self._longest, len(words)), 0, -1):
            for start in range(len(words) - size + 1):
                span = set(range(start, start + size))
                phrase = words[start : start + size]
                if phrase in self._names and not span & taken and not set(phrase) <= STOP_WORDS:
                    taken |= span
                    found.append((0.8 + 0.02 * min(size, 6), phrase))
        return found

    def _misspelt(self, content: tuple[str, ...]) -> list[tuple[tuple[str, ...], float]]:
        found = []
        joined = "".join(content)
        spans = {joined, *content, *(a + b for a, b in itertools.pairwise(content))}
        for span in sorted(spans):
            if len(span) < 5:
                continue
            for near in difflib.get_close_matches(span, self._joined, n=2, cutoff=0.84):
                ratio = difflib.SequenceMatcher(None, span, near).ratio()
                found.append((self._joined[near], ratio))
        return found

    def _bm25(self, content: tuple[str, ...]) -> list[tuple[str, float]]:
        known = [word for word in dict.fromkeys(content) if word in self._documents]
        # A question mostly about other things is not answered by one chance word.
        if not known or len(known) < 0.5 * len(set(content)):
            return []
        total = len(self._counts)
        scores = {}
        for identifier, counts in self._counts.items():
            length = 1 - B + B * self._lengths[identifier] / self._mean_length
            score = sum(
                math.log(1 + (total - self._documents[w] + 0.5) / (self._documents[w] + 0.5))
                * counts[w] * (K1 + 1) / (counts[w] + K1 * length)
                for w in known
            )  # fmt: skip
            if score > 0 and sum(w in counts for w in known) >= 0.5 * len(set(content)):
                scores[identifier] = score
        best = max(scores.values(), default=1.0)
        return [(i, s / best) for i, s in scores.items() if s >= 0.3 * best]
