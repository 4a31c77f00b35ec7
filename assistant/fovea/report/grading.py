"""What the evidence says in the terms of the grading rules, and the grades that follow.

Nothing is guessed: an indeterminate finding, a structure that is not gradable and two
tools that contradict each other leave a fact unknown. What was counted is a lower bound,
because lesions are missed and a field ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fovea import knowledge
from fovea.contract import Finding, Measurement
from fovea.evidence import Evidence
from fovea.knowledge import Bounds, Grading, NotGraded
from fovea.report.facts import Facts, is_bad
from fovea.report.model import History

OPINION = "classify_disease"
"""A second opinion on the grade: shown beside the rules, never a premise of them."""

_RATIO, _FELLOW = "b_vcdr.ratio", "b_vcdr.fellow_ratio"
_DIAMETER = "b_disc_size.vertical_mm"
_PER_MM = {"mm": 1.0, "um": 1000.0}
_DISTANCES = {"_fovea_distance_um": "fovea_distance_um", "_fovea_distance": "fovea_distance_dd"}
Value = bool | float | Bounds | None


@dataclass
class _Known:
    """Facts as they are gathered."""

    whole: dict[str, Value] = field(default_factory=dict)
    quadrants: dict[str, dict[str, Value]] = field(default_factory=dict)
    evidence: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def put(self, fact: str, value: Value, *cites: str) -> None:
        self.whole[fact] = value
        self.cite(fact, *cites)

    def cite(self, fact: str, *cites: str) -> None:
        self.evidence[fact] = tuple(dict.fromkeys((*self.evidence.get(fact, ()), *cites)))

    def sealed(self) -> knowledge.Facts:
        return knowledge.Facts.of(self.whole, self.quadrants, self.evidence, self.reasons)


@dataclass(frozen=True)
class Exclusion:
    """A condition that one tool calls present, and signs of others that exclude it.

    Attributes:
        entry: Id of the condition.
        present: Evidence that says so.
        signs: Id of each sign to the evidence that shows it.
    """

    entry: str
    present: str
    signs: Mapping[str, str]


@dataclass(frozen=True)
class Conflict:
    """Two results that say the opposite about one finding of one photograph."""

    entry: str
    present: str
    absent: str


class Grader:
    """Grades each photograph on every scale of the knowledge base.

    Args:
        facts: Evidence of the session, with its gate.
        history: What was told about the person.
    """

    def __init__(self, facts: Facts, history: History) -> None:
        self._facts, self._history = facts, history

    def grades(self, handle: str) -> dict[str, Grading | NotGraded]:
        """The grading on each set of rules, by its id."""
        known = self.known(handle)
        base = self._facts.knowledge
        return {identifier: base.grade(identifier, known) for identifier in base.rules}

    def known(self, handle: str) -> knowledge.Facts:
        """The facts of the rules about one photograph."""
        known = _Known()
        self._tell_history(known)
        self._tell_gate(handle, known)
        for fact in self._facts.knowledge.facts:
            if "." not in fact:
                self._tell_presence(handle, fact, known)
        for piece in self._pieces(handle):
            self._tell_counts(piece, handle, known)
            self._tell_distances(piece, handle, known)
        self._tell_disc(handle, known)
        return known.sealed()

    def conflicts(self, handle: str) -> list[Conflict]:
        """Findings of one photograph that one tool calls present and another absent."""
        states: dict[str, dict[str, str]] = {}
        for piece, finding, entry in self._findings(handle, every=True):
            if self._facts.knowledge.get(entry).kind in ("condition", "finding"):
                states.setdefault(entry, {}).setdefault(finding.state, piece.id)
        return [
            Conflict(entry, found["present"], found["absent"])
            for entry, found in states.items()
            if {"present", "absent"} <= set(found)
        ]

    def exclusions(self, handle: str) -> list[Exclusion]:
        """Conditions that are called present beside signs of another tool that exclude them."""
        present: dict[str, str] = {}
        for piece, finding, entry in self._findings(handle, every=True):
            if finding.state == "present":
                present.setdefault(entry, piece.id)
        found = []
        for entry, cite in present.items():
            related = self._facts.knowledge.get(entry).findings
            signs = {
                part.ref: present[part.ref]
                for part in related
                if part.role == "excludes" and present.get(part.ref, cite) != cite
            }
            if signs:
                found.append(Exclusion(entry, cite, signs))
        return found

    # Presence

    def _pieces(self, handle: str) -> Iterator[Evidence]:
        return (p for p in self._facts.evidence.values() if p.images == (handle,))

    def _findings(
        self, handle: str, *, every: bool = False
    ) -> Iterator[tuple[Evidence, Finding, str]]:
        """Findings that may be judged, with the id of their entry."""
        for piece in self._pieces(handle):
            for finding in piece.result.findings:
                entry = self._facts.knowledge.about_output(finding.concept)
                wanted = every or piece.tool != OPINION
                if entry and wanted and not self._barred(handle, entry.id):
                    yield piece, finding, entry.id

    def _barred(self, handle: str, entry_id: str) -> bool:
        structure = self._facts.knowledge.get(entry_id).structure
        bad = self._facts.ungradable.get(handle, frozenset())
        return structure in bad if structure else len(bad) == 3

    def _tell_presence(self, handle: str, fact: str, known: _Known) -> None:
        meaning = self._facts.knowledge.facts[fact]
        if meaning.known_from != "photograph" or meaning.unit:
            return
        if fact in self._facts.knowledge.entries and self._barred(handle, fact):
            known.reasons[fact] = "not gradable"
            return
        own: dict[str, list[str]] = {}
        other: dict[str, list[str]] = {}
        for piece, finding, entry in self._findings(handle):
            if entry == fact:
                own.setdefault(finding.state, []).append(piece.id)
            elif entry in meaning.shown_by:
                other.setdefault(finding.state, []).append(piece.id)
        if {"present", "absent"} <= set(own):
            known.reasons[fact] = "the results contradict each other"
        elif "present" in own or "present" in other:
            known.put(fact, True, *own.get("present", ()), *other.get("present", ()))
        elif set(own) == {"absent"} and set(other) <= {"absent"}:
            known.put(fact, False, *own["absent"], *other.get("absent", ()))
        elif own or other:
            known.reasons[fact] = "seen doubtfully" if "indeterminate" in own else "not assessable"

    # Counts and distances

    def _doubtful(self, piece: Evidence, stem: str) -> float | None:
        """How many of the counted lesions are doubtful; None when not even one is certain."""
        finding, count = piece.result.finding(stem), piece.result.measurement(f"{stem}_count")
        if finding is None or finding.state != "present" or count is None:
            return None
        return max(0.0, count.value - count.interval.low) if count.interval else 0.0

    def _tell_counts(self, piece: Evidence, handle: str, known: _Known) -> None:
        for m in piece.result.measurements:
            stem = m.name.removesuffix("_count").removesuffix("_quadrant")
            fact = self._fact_about(stem, "count", handle)
            doubtful = self._doubtful(piece, stem)
            if fact is None or doubtful is None or known.whole.get(fact.partition(".")[0]) is None:
                continue
            least = Bounds(max(0.0, m.value - doubtful), math.inf)
            if m.name == f"{stem}_quadrant_count" and m.zone:
                known.quadrants.setdefault(fact, {})[m.zone] = least
                known.cite(fact, piece.id)
            elif m.name == f"{stem}_count" and m.zone is None:
                known.put(fact, least, piece.id)

    def _tell_distances(self, piece: Evidence, handle: str, known: _Known) -> None:
        """The nearest lesion is at most so far: a nearer one may have been missed."""
        for m in piece.result.measurements:
            ending = next((e for e in _DISTANCES if m.name.endswith(e)), None)
            if ending is None:
                continue
            stem = m.name.removesuffix(ending)
            fact = self._fact_about(stem, _DISTANCES[ending], handle)
            doubtful = self._doubtful(piece, stem)
            if fact is None or doubtful is None or known.whole.get(fact.partition(".")[0]) is None:
                continue
            if doubtful:
                known.reasons[fact] = "some of the counted spots are doubtful"
            elif m.interval is None:
                known.reasons[fact] = "measured without an interval"
            else:
                known.put(fact, Bounds(0.0, m.interval.high), piece.id)

    def _fact_about(self, stem: str, attribute: str, handle: str) -> str | None:
        entry = self._facts.knowledge.about_output(stem)
        if entry is None or self._barred(handle, entry.id):
            return None
        fact = f"{entry.id}.{attribute}"
        return fact if fact in self._facts.knowledge.facts else None

    # Disc

    def _tell_disc(self, handle: str, known: _Known) -> None:
        ratio = self._ratio(handle)
        if ratio is None:
            known.reasons[_RATIO] = "not measured with an interval"
            return
        known.put(_RATIO, ratio[0], ratio[1])
        eye = self._facts.eye_of(handle)
        fellows = [
            found
            for other in sorted(self._facts.handles)
            if eye and self._facts.eye_of(other) not in (None, eye)
            if (found := self._ratio(other))
        ]
        if fellows:
            low = min(bounds.low for bounds, _ in fellows)
            high = max(bounds.high for bounds, _ in fellows)
            known.put(_FELLOW, Bounds(low, high), *(cite for _, cite in fellows))
        for piece in self._pieces(handle):
            for m in piece.result.measurements:
                vertical = m.name in ("disc_diameter_vertical", "disc_diameter_vertical_mm")
                if vertical and m.unit in _PER_MM and m.interval:
                    per_mm = _PER_MM[m.unit]
                    bounds = Bounds(m.interval.low / per_mm, m.interval.high / per_mm)
                    known.put(_DIAMETER, bounds, piece.id)

    def _ratio(self, handle: str) -> tuple[Bounds, str] | None:
        if self._barred(handle, "b_vcdr"):
            return None
        for piece in self._pieces(handle):
            m = piece.result.measurement("vertical_cdr")
            if m and m.interval and m.interval.level:
                return Bounds(m.interval.low, m.interval.high), piece.id
        return None

    # What is told, and the gate

    def _tell_history(self, known: _Known) -> None:
        told: Mapping[str, Value] = {
            "person.diabetes": self._history.diabetes,
            "person.age_years": self._history.age_years,
            "person.myopia": self._history.myopia,
        }
        known.whole.update({fact: value for fact, value in told.items() if value is not None})

    def _tell_gate(self, handle: str, known: _Known) -> None:
        for piece in self._pieces(handle):
            parts = [piece.result.finding(f"gradable_{name}") for name in ("macula", "vessels")]
            if any(is_bad(part) for part in parts):
                known.put("quality.gradable", False, piece.id)
            elif all(part and part.state == "present" for part in parts):
                known.put("quality.gradable", True, piece.id)


def opinion_of(m: Measurement, rules: knowledge.ScaleRules) -> int | None:
    """The position of the grade that a measurement states on a scale, or None."""
    names = [rule.grade for rule in rules.grades]
    return names.index(f"{m.value:g}") if f"{m.value:g}" in names else None
