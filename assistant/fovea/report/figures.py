"""Compares the numbers of a cited stretch with the values that it cites."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

from fovea.evidence import Evidence
from fovea.knowledge.search import tokens
from fovea.report import sentences
from fovea.report.claims import Unsupported
from fovea.report.facts import PLACES, Facts, Value
from fovea.report.sentences import Number, Phrases

_COVERAGE = re.compile(r"^\W*(?:confidence\s+|credible\s+|prediction\s+)?(?:interval|CI)\b", re.I)
_JOINT = r"\s*(?:to|and|through|[-–—,])\s*"
_OPENS = re.compile(
    r"(?:\b(?:interval|ranges?|CI|from|between)\b(?: of| from| is)?|[(\[])\s*$", re.I
)
_NAMED = re.compile(r"\b(?:interval|range|CI)\b(?: of| from| is)?\s*$", re.I)
_THRESHOLD = re.compile(r"\bthreshold\b(?: of| is)?\s*$", re.I)
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
        self._names: dict[frozenset[str], Phrases] = {}

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
        ids = self._facts.case_ids(pieces)
        cases = []
        for case_id in ids:
            cases += [(case_id, m.start(), m.end()) for m in re.finditer(re.escape(case_id), text)]
            text = text.replace(case_id, " " * len(case_id))
        text = self._without_details(text, pieces)
        found, unread = sentences.numbers(text)
        if unread:
            raise Unsupported("a number in it cannot be read")
        values = self._facts.values(pieces)
        near = frozenset(number.unit for number in found if number.unit)
        eyes = sentences.eyes_as_spans(sentences.eyes(text))
        zones = self._zones_named(text, mentioned)
        named = self._findings_named(text, pieces)
        verified = 0
        zone: str | None = None
        for index, number in enumerate(found):
            quantity = sentences.governing(mentioned, number) or carried
            counts = self._counts_of(text[number.end :])
            about = quantity or sentences.governing(named, number)
            own = [v for name in counts for v in values.get(name, ())]
            own = own or [v for q in values if about and _is_about(q, about) for v in values[q]]
            others = values if quantity is None else ["", *ids]
            case = sentences.governing(sorted(cases, key=lambda c: c[1]), number)
            others = [name for name in others if case in (None, name) or name not in ids]
            candidates = own or [v for name in others for v in values.get(name, ())]
            own_zones = {v.zone for v in candidates}
            here = [z for z in zones if z[0] in own_zones or z[0] in PLACES]
            zone = _zone_at(here, mentioned, found, index, zone)
            candidates = _zoned(candidates, zone)
            eye = sentences.governing(eyes, number)
            candidates = [v for v in candidates if eye is None or v.eye in (None, eye)]
            if number.unit == "%" and _COVERAGE.search(text[number.end :]):
                if number.value not in {v.level for v in candidates}:
                    raise Unsupported(f"no interval of {number.value:g} % is cited for it")
                continue
            candidates = _placed(text, found, index, candidates)
            if any(value.printed_as(number, near) for value in candidates):
                verified += 1
                continue
            if own or not self._in_words(number, pieces, entries):
                printed = text[number.start : number.end].strip()
                where = ", ".join(f"[{piece.id}]" for piece in pieces)
                raise Unsupported(f"`{printed}` is not a value of {where}")
        return verified

    def names_of(self, concepts: frozenset[str]) -> Phrases:
        """Every name of findings, by its tokens."""
        if concepts in self._names:
            return self._names[concepts]
        known = self._names[concepts] = Phrases()
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
        named = sentences.phrases(text, self.names_of(frozenset(f.concept for f in findings)))
        for finding in findings:
            detail = finding.detail.rstrip(".")
            if len(tokens(detail)) < _FEWEST_WORDS:
                continue
            for match in re.finditer(rf"(?<!\w){re.escape(detail)}(?!\w)", text):
                before = [concept for concept, start, _ in named if start < match.start()]
                if not before or before[-1] == finding.concept:
                    text = text[: match.start()] + " " * len(detail) + text[match.end() :]
        return text

    def _zones_named(
        self, text: str, mentioned: Sequence[tuple[str, int, int]]
    ) -> list[tuple[str, int, int]]:
        """Parts of the field that are named outside the names of quantities and diseases."""
        taken = [(start, end) for _, start, end in mentioned]
        taken += [(start, end) for _, start, end in sentences.phrases(text, self._facts.terms)]
        found = sentences.phrases(text, self._facts.zones)
        return [z for z in found if not any(low <= z[1] < high for low, high in taken)]

    def _findings_named(self, text: str, pieces: Sequence[Evidence]) -> list[tuple[str, int, int]]:
        """Mentions of findings of the evidence that have numbers of their own."""
        concepts = frozenset(
            f.concept for p in pieces for f in p.result.findings if f.probability is not None
        )
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


def _zone_at(
    zones: Sequence[tuple[str, int, int]], mentioned: Sequence[tuple[str, int, int]],
    found: Sequence[Number], index: int, before: str | None,
) -> str | None:  # fmt: skip
    """The part of the field that a number is about.

    That is the one named beside it, up to the numbers next to it. An interval is about the
    part that its value is about; with a new quantity, nothing is carried on.
    """
    low = found[index - 1].end if index else 0
    high = found[index + 1].start if index + 1 < len(found) else None
    near = [z for z in zones if z[1] >= low and (high is None or z[1] < high)]
    if near:
        return sentences.governing(near, found[index])
    renewed = any(low <= start < found[index].start for _, start, _ in mentioned)
    return None if renewed else before


def _zoned(values: Sequence[Value], zone: str | None) -> list[Value]:
    """The values of that part of the field; of the whole field when none is named."""
    return [value for value in values if value.zone == zone]


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
) -> tuple[Literal["low", "high", "threshold"] | None, bool]:
    """Which end of an interval, or a threshold, a number is by its place; whether words say so."""
    number = found[index]
    if _THRESHOLD.search(text[: number.start]):
        return "threshold", True
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
