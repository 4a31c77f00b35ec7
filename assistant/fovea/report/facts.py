"""What the evidence of a session states, in the form that the checker compares with."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from fovea.contract import Finding
from fovea.evidence import Evidence, ImageRecord
from fovea.image import Eye
from fovea.knowledge import Knowledge
from fovea.knowledge.search import tokens
from fovea.report.quoting import Quotations
from fovea.report.sentences import Number, Phrases

PLACES = (
    "superotemporal", "superonasal", "inferotemporal", "inferonasal", "superior", "inferior",
    "nasal", "temporal", "zone_a", "zone_b", "zone_c",
)  # fmt: skip
"""Parts of the field: where nothing was measured, no number may be said of them."""
STRUCTURES = {"disc": "gradable_disc", "macula": "gradable_macula", "vessels": "gradable_vessels"}
"""Each structure and the finding of the quality gate about it."""


@dataclass(frozen=True)
class Value:
    """A number that a sentence may state.

    Attributes:
        quantity: Measurement name, finding concept or id of a case; `` for counts.
        end: Which end of an interval it is, or that it is a threshold; None for the value itself.
        level: Nominal coverage of that interval, in percent.
    """

    quantity: str
    value: float
    unit: str
    eye: Eye | None = None
    zone: str | None = None
    end: Literal["low", "high", "threshold"] | None = None
    level: float | None = None

    def printed_as(self, number: Number, units_near: frozenset[str]) -> bool:
        """Whether `number` is this value at the printed precision and in its unit."""
        target = self.value
        if self.unit == "1" and number.unit == "%":
            target *= 100.0
        elif self.unit == "1":
            if number.unit is not None:
                return False
            if number.decimals == 0 and target != round(target):
                return False  # a ratio of 0.6 is not "1"
        elif number.unit is None:
            if self.unit not in units_near:
                return False
        elif number.unit != self.unit:
            return False
        half_step = 0.5 * 10.0**-number.decimals
        return abs(target - number.value) <= half_step * (1 + 1e-6) + 1e-12


class Facts:
    """Look-ups over evidence, knowledge and the images of a session."""

    def __init__(
        self, evidence: Sequence[Evidence], knowledge: Knowledge, images: Sequence[ImageRecord] = ()
    ) -> None:
        self.evidence = {piece.id: piece for piece in evidence}
        self.knowledge = knowledge
        self._named_eye = {record.handle: record.eye for record in images if record.eye}
        self.handles = {record.handle for record in images}
        self.handles |= {handle for piece in evidence for handle in piece.images}
        quantities = {m.name for piece in evidence for m in piece.result.measurements}
        quantities |= {m.name for piece in evidence for m in piece.result.not_measured}
        quantities |= {
            name
            for entry in knowledge.entries.values()
            if entry.kind in ("biomarker", "scale")
            for name in entry.outputs
        }
        quantities -= {f.concept for piece in evidence for f in piece.result.findings}
        self.quantities = self.phrases_of(quantities)
        self.terms, self.names = _names(knowledge)
        self.zones = _zones(m.zone for piece in evidence for m in piece.result.measurements)
        self.quotes = Quotations()
        self._values: dict[tuple[str, ...], dict[str, list[Value]]] = {}
        self._outputs: dict[str, Phrases] = {}
        self.ungradable = self._ungradable(evidence)

    def phrases_of(self, outputs: Iterable[str]) -> Phrases:
        """The phrases that name measurements."""
        found = Phrases()
        for name in sorted(outputs):
            entry = self.knowledge.about_output(name)
            for phrase in (name.replace("_", " "), *(entry.outputs.get(name, ()) if entry else ())):
                found.setdefault(tokens(phrase), name)
        return found

    @staticmethod
    def _ungradable(evidence: Sequence[Evidence]) -> dict[str, frozenset[str]]:
        """Per image, the structures about which nothing may be said."""
        found: dict[str, frozenset[str]] = {}
        for piece in evidence:
            result = piece.result
            fundus, quality = result.finding("fundus_photograph"), result.finding("quality")
            unusable = (fundus and fundus.state == "absent") or (
                quality and quality.value == "reject"
            )
            bad = frozenset(
                structure
                for structure, concept in STRUCTURES.items()
                if unusable or is_bad(result.finding(concept))
            )
            for handle in piece.images:
                found[handle] = found.get(handle, frozenset()) | bad
        return found

    def eyes_of(self, piece: Evidence) -> frozenset[Eye]:
        """The eyes that a piece of evidence is about; empty when nobody knows."""
        own = piece.result.finding("eye")
        if own and own.value in ("OD", "OS"):
            return frozenset({_eye(own.value)})
        named = {self._named_eye[h] for h in piece.images if h in self._named_eye}
        measured = {m.eye for m in piece.result.measurements if m.eye}
        return frozenset(measured or named or self._inferred(piece.images))

    def eye_of(self, handle: str) -> Eye | None:
        """The eye of one photograph; None when it is not known, or label and picture differ."""
        seen = self._inferred((handle,))
        named = self._named_eye.get(handle)
        if named:
            return named if seen <= {named} else None
        return next(iter(seen)) if len(seen) == 1 else None

    def _inferred(self, handles: Sequence[str]) -> set[Eye]:
        return {
            _eye(finding.value)
            for piece in self.evidence.values()
            if set(piece.images) <= set(handles) and piece.images
            for finding in piece.result.findings
            if finding.concept == "eye" and finding.value in ("OD", "OS")
        }

    def values(self, pieces: Sequence[Evidence]) -> dict[str, list[Value]]:
        """Every number that the evidence states as its result, by quantity."""
        cites = tuple(piece.id for piece in pieces)
        if cites not in self._values:
            found = self._values[cites] = {}
            for value in (value for piece in pieces for value in _values(piece)):
                found.setdefault(value.quantity, []).append(value)
        return self._values[cites]

    def outputs_of(self, piece: Evidence) -> Phrases:
        """The phrases that name what one tool measured, or could not measure."""
        if piece.id not in self._outputs:
            measured = (m.name for m in piece.result.measurements)
            missing = (gap.name for gap in piece.result.not_measured)
            self._outputs[piece.id] = self.phrases_of({*measured, *missing})
        return self._outputs[piece.id]

    @staticmethod
    def without_cohort(text: str, pieces: Sequence[Evidence], named: set[str]) -> str:
        """The text without where a value that it names lies in a cohort, told word for word."""
        for m in (m for piece in pieces for m in piece.result.measurements):
            zone = m.zone.replace("_", " ") if m.zone else "zone "
            if m.cohort and m.name in named and (zone in text.lower()) == bool(m.zone):
                text = text.replace(m.cohort.words, " ")
        return text

    @staticmethod
    def case_ids(pieces: Iterable[Evidence]) -> list[str]:
        """Pseudonyms of similar cases, the longest first; their digits are no values."""
        found = {case.case_id for piece in pieces for case in piece.result.similar}
        return sorted(found, key=len, reverse=True)

    def evidence_texts(self, piece: Evidence) -> list[str]:
        """Everything that the evidence says in words."""
        result = piece.result
        texts = [result.summary, *(caveat.text for caveat in result.caveats)]
        texts += [f.detail for f in result.findings if f.detail]
        texts += [missing.reason for missing in result.not_measured]
        texts += dict.fromkeys(m.method for m in result.measurements)
        texts += [case.why for case in result.similar]
        texts += [passage.text for passage in result.passages]
        return texts

    def entry_texts(self, identifier: str) -> list[str]:
        """Every statement of a knowledge entry."""
        return [text for _, text, _ in self.knowledge.get(identifier).statements()]


@functools.lru_cache(maxsize=4)
def _names(knowledge: Knowledge) -> tuple[Phrases, Phrases]:
    """Names of diseases and lesions, and of everything but quality terms, by their tokens."""
    terms = {
        tokens(name): entry.id
        for entry in knowledge.entries.values()
        if entry.kind in ("condition", "finding")
        for name in (entry.name.en, *entry.synonyms.en)
    }
    names = {
        tokens(name): entry.id
        for entry in knowledge.entries.values()
        if entry.kind not in ("guideline", "quality")
        for name in entry.names()
    }
    return Phrases(terms), Phrases(names)


def _zones(measured: Iterable[str | None]) -> Phrases:
    """What names a part of the field, measured there or not."""
    found = Phrases()
    for zone in (*PLACES, *sorted({zone for zone in measured if zone})):
        words = tokens(zone.replace("_", " "))
        found[words] = zone
        found.setdefault(words[1:] if words[0] == "etdr" else words, zone)
    return found


def disc_diameter_mm(piece: Evidence) -> float | None:
    """The vertical disc diameter in mm, if it was measured in a physical unit."""
    measured = piece.result.measurement("disc_diameter_vertical")
    per_mm = {"um": 1000.0, "mm": 1.0}
    if measured is None or measured.unit not in per_mm:
        return None
    return measured.value / per_mm[measured.unit]


def is_unlike(piece: Evidence) -> bool:
    """Whether even the nearest archived case is too far away to be called similar."""
    return any(caveat.code == "not_similar_enough" for caveat in piece.result.caveats)


def is_bad(finding: Finding | None) -> bool:
    """Whether the quality gate found the structure not gradable."""
    return finding is not None and finding.state in ("absent", "not_assessable")


def _values(piece: Evidence) -> list[Value]:
    found = []
    for m in piece.result.measurements:
        found.append(Value(m.name, m.value, m.unit, m.eye, m.zone))
        if m.interval:
            level = round(100 * m.interval.level, 6) if m.interval.level else None
            low, high = m.interval.low, m.interval.high
            found.append(Value(m.name, low, m.unit, m.eye, m.zone, "low", level))
            found.append(Value(m.name, high, m.unit, m.eye, m.zone, "high", level))
    for f in piece.result.findings:
        if f.probability is not None:
            found.append(Value(f.concept, f.probability, "1"))
        if f.threshold is not None:
            found.append(Value(f.concept, f.threshold, "1", end="threshold"))
    similar = piece.result.similar
    if similar:
        labels = [label for case in similar for label in case.labels]
        counts = {len(similar), *(labels.count(label) for label in labels)}
        counts |= {case.rank for case in similar}
        found += [Value("", float(count), "1") for count in sorted(counts)]
        found += [Value(case.case_id, case.closeness_percentile, "%") for case in similar]
        found += [Value(case.case_id, case.closeness_percentile / 100, "1") for case in similar]
    return found


def _eye(value: str | None) -> Eye:
    return "OD" if value == "OD" else "OS"
