"""Compares the numbers of a cited stretch with the values that it cites."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from fovea.evidence import Evidence
from fovea.knowledge.search import tokens
from fovea.report import sentences
from fovea.report.claims import Unsupported
from fovea.report.facts import Facts, Value, zoned
from fovea.report.sentences import Number, Phrases

_COVERAGE = re.compile(r"^\W*(?:confidence\s+|credible\s+|prediction\s+)?(?:interval|CI)\b", re.I)
_JOINT = r"\s*(?:to|and|through|[-–—,])\s*"
_OPENS = re.compile(
    r"(?:\b(?:interval|ranges?|CI|from|between)\b(?: of| from| is)?|[(\[])\s*$", re.I
)
_NAMED = re.compile(r"\b(?:interval|range|CI)\b(?: of| from| is)?\s*$", re.I)
_LEADS_ON = re.compile(rf"^{_JOINT}[-−]?\d", re.I)
_FEWEST_WORDS = 3
_FOLLOWS = re.compile(rf"^{_JOINT}$", re.I)


class Figures:
    """Decides whether numbers are values of the evidence that a stretch cites.

    Args:
        facts: The evidence.
        texts: Everything that citations say in words.
    """

    def __init__(self, facts: Facts, texts: Callable[[Sequence[str]], list[str]]) -> None:
        self._facts, self._texts = facts, texts

    def check(
        self,
        text: str,
        pieces: Sequence[Evidence],
        entries: Sequence[str],
        mentioned: Sequence[tuple[str, int, int]],
        carried: str | None,
    ) -> int:
        """How many numbers are values of the evidence; raises when one is not.

        Args:
            text: The stretch.
            pieces: The evidence that it cites.
            entries: The entries that it cites, such as `K:b_vcdr`.
            mentioned: Quantities that it names, with their places.
            carried: The quantity that the stretch before it named last.
        """
        for case_id in self._facts.case_ids(pieces):
            text = text.replace(case_id, " " * len(case_id))
        text = self._without_details(text, pieces)
        found, unread = sentences.numbers(text)
        if unread:
            raise Unsupported("a number in it cannot be read")
        values = [value for piece in pieces for value in self._facts.values(piece)]
        levels = set[float]().union(*(self._facts.levels(piece) for piece in pieces))
        near = frozenset(number.unit for number in found if number.unit)
        eyes = sentences.eyes_as_spans(sentences.eyes(text))
        named = self._findings_named(text, pieces)
        verified = 0
        for index, number in enumerate(found):
            if number.unit == "%" and _COVERAGE.search(text[number.end :]):
                if number.value not in levels:
                    raise Unsupported(f"no interval of {number.value:g} % is cited")
                continue
            quantity = sentences.governing(mentioned, number) or carried
            counts = self._counts_of(text[number.end :])
            own = [value for value in values if value.quantity in counts]
            about = quantity or sentences.governing(named, number)
            own = own or [v for v in values if about and _is_about(v.quantity, about)]
            if own:
                candidates = zoned(own, text)
            else:
                candidates = values if quantity is None else [v for v in values if not v.quantity]
            eye = sentences.governing(eyes, number)
            candidates = [v for v in candidates if eye is None or v.eye in (None, eye)]
            candidates = _placed(text, found, index, candidates)
            if any(value.printed_as(number, near) for value in candidates):
                verified += 1
                continue
            if own or not self._in_words(number, pieces, entries):
                printed = text[number.start : number.end].strip()
                where = ", ".join(f"[{piece.id}]" for piece in pieces)
                raise Unsupported(f"`{printed}` is not a value of {where}")
        return verified

    def names_of(self, concepts: Iterable[str]) -> Phrases:
        """Every name of findings, by its tokens."""
        known = Phrases()
        for concept in sorted(concepts):
            entry = self._facts.knowledge.about_output(concept)
            names = [concept.replace("_", " "), *(entry.outputs.get(concept, ()) if entry else ())]
            if entry and entry.kind in ("condition", "finding"):
                names += [entry.name.en, *entry.synonyms.en]
            known.update({tokens(name): concept for name in names})
        return known

    def _without_details(self, text: str, pieces: Sequence[Evidence]) -> str:
        """The text without details of findings that stand behind the finding they belong to.

        Their numbers are the tool's own words; behind another finding, or without words
        around them, they are numbers like any other.
        """
        findings = [finding for piece in pieces for finding in piece.result.findings]
        named = sentences.phrases(text, self.names_of({f.concept for f in findings}))
        for finding in findings:
            detail = finding.detail.rstrip(".")
            if len(tokens(detail)) < _FEWEST_WORDS:
                continue
            for match in re.finditer(rf"(?<!\w){re.escape(detail)}(?!\w)", text):
                before = [concept for concept, start, _ in named if start < match.start()]
                if not before or before[-1] == finding.concept:
                    text = text[: match.start()] + " " * len(detail) + text[match.end() :]
        return text

    def _findings_named(self, text: str, pieces: Sequence[Evidence]) -> list[tuple[str, int, int]]:
        """Mentions of findings of the evidence that have numbers of their own."""
        concepts = {
            f.concept for p in pieces for f in p.result.findings if f.probability is not None
        }
        return sentences.phrases(text, self.names_of(concepts))

    def _counts_of(self, after: str) -> frozenset[str]:
        """Measurements that count what is named next: the 7 of `7 haemorrhages` is no other."""
        for key, start, _ in sentences.phrases(after, self._facts.terms):
            if len(after[:start].split()) <= 1:
                outputs = self._facts.knowledge.get(key).outputs
                return frozenset(name for name in outputs if name.endswith("_count"))
            break
        return frozenset()

    def _in_words(self, number: Number, pieces: Sequence[Evidence], entries: Sequence[str]) -> bool:
        cites = (*(piece.id for piece in pieces), *entries)
        return any(
            (number.value, number.unit) == (other.value, other.unit)
            for text in self._texts(cites)
            for other in sentences.numbers(sentences.without_citations(text))[0]
        )


def _placed(
    text: str, found: Sequence[Number], index: int, candidates: Sequence[Value]
) -> list[Value]:
    """The values that may stand at that number: an end of an interval only as such an end."""
    end, named = _end_of_interval(text, found, index)
    ends = [v for v in candidates if v.end == end] if end else []
    if named and ends:
        return ends
    return [v for v in candidates if v.end is None] + ends


def _end_of_interval(
    text: str, found: Sequence[Number], index: int
) -> tuple[Literal["low", "high"] | None, bool]:
    """Which end of an interval a number is by its place, and whether words say so."""
    number = found[index]
    before = text[found[index - 1].end if index else 0 : number.start]
    if index and _FOLLOWS.search(before):
        opening = text[: found[index - 1].start]
        return ("high", bool(_NAMED.search(opening))) if _OPENS.search(opening) else (None, False)
    if _OPENS.search(before) and _LEADS_ON.search(text[number.end :]):
        return "low", bool(_NAMED.search(before))
    return None, False


def _is_about(quantity: str, about: str) -> bool:
    """Whether a value is that quantity, or measures that finding: `drusen_count` of `drusen`."""
    return quantity == about or quantity.startswith(f"{about}_")
