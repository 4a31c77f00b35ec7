"""Words the grades of a report. The checker makes the same sentences from the evidence anew.

A sentence about a grade stands only when it is one of these, word for word: no other
wording of a grade can be verified without a language model.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fovea.evidence import Evidence
from fovea.knowledge import Entry, Grading, NotGraded, ScaleRules
from fovea.knowledge.clauses import Step
from fovea.report.facts import Facts
from fovea.report.grading import OPINION, Grader, opinion_of
from fovea.report.model import Fact, History, Row, Sentence
from fovea.report.sentences import segments
from fovea.report.wording import EYE_NAMES

_MARKS = ("the grade", ", satisfied", ", missing", "the rules disagree", "two results disagree")
_CONTEXT = ("person", "quality")
"""Facts that say nothing about the retina: alone they make no grade worth telling."""


@dataclass(frozen=True)
class Guided:
    """A condition that a proved grade stands for.

    Attributes:
        entry: The condition.
        provided: Whom the scale is made for, where that is not known of this eye.
        bounded: Whether a graver grade is not excluded: then advice to wait is none.
    """

    entry: Entry
    provided: str
    bounded: bool


class GradeStatements:
    """Every sentence about grades that the evidence of a session supports."""

    def __init__(self, facts: Facts, history: History) -> None:
        self._facts, self._grader = facts, Grader(facts, history)
        self._graded: dict[str, dict[str, Grading | NotGraded]] = {}
        self._texts: frozenset[tuple[str, frozenset[str]]] | None = None

    def is_about(self, text: str) -> bool:
        """Whether a text states a grade by rule, as these sentences do, true or not."""
        said = f" {' '.join(text.split())} ".casefold()
        names = (rules.name.casefold() for rules in self._facts.knowledge.rules.values())
        return any(mark in said for mark in _MARKS) and (
            "disagree" in said or any(name in said for name in names)
        )

    def holds(self, sentence: str) -> bool:
        """Whether it is such a sentence, with the same citations."""
        if self._texts is None:
            self._texts = frozenset(_key(s.text) for s in self.sentences(sorted(self._handles())))
        return _key(sentence) in self._texts

    def sentences(self, handles: Iterable[str]) -> Iterator[Sentence]:
        """Disagreements first, then each grade with what earns it and what is missing."""
        for handle in handles:
            yield from self._conflicts(handle)
            yield from self._disagreements(handle)
            for rules, grading in self._told(handle):
                yield from self._trace(handle, rules, grading)

    def rows(self, handles: Iterable[str]) -> Iterator[Row]:
        """Limits of the scales that were used, and the scales without a grade."""
        limits: dict[str, str] = {}
        for handle in handles:
            told = self._told(handle)
            limits |= {rules.name: rules.image_limits for rules, _ in told}
            where = f", {handle}" if len(self._handles()) > 1 else ""
            others = []
            for identifier, grading in self._grades(handle).items():
                name = self._facts.knowledge.rules[identifier].name
                if isinstance(grading, NotGraded):
                    words = grading.words()
                    yield Row(label=f"{name}{where}", value=words[:1].upper() + words[1:])
                elif name not in {rules.name for rules, _ in told}:
                    others.append(name)
            if others:
                yield Row(
                    label=f"Without a grade{where}",
                    value=f"{'; '.join(others)}: what they ask for is not known, or was not told",
                )
        yield from (Row(label=f"Limits: {name}", value=text) for name, text in limits.items())

    def guided(self, handles: Iterable[str]) -> list[Guided]:
        """Conditions of the proved grades, for the advice that guidelines attach to them."""
        found: dict[str, Guided] = {}
        for handle in handles:
            for _, grading in self._told(handle):
                entry = self._facts.knowledge.entries.get(grading.lowest.entry or "")
                if entry:
                    whom = " and ".join(part.to for part in grading.only_for)
                    known = found.get(entry.id)
                    bounded = grading.lowest != grading.highest
                    if known is None or not whom:
                        found[entry.id] = Guided(entry, whom, bounded)
        return list(found.values())

    # Which grades are told

    def _handles(self) -> frozenset[str]:
        return frozenset(self._facts.handles)

    def _grades(self, handle: str) -> dict[str, Grading | NotGraded]:
        if handle not in self._graded:
            self._graded[handle] = self._grader.grades(handle)
        return self._graded[handle]

    def _told(self, handle: str) -> list[tuple[ScaleRules, Grading]]:
        """Gradings that are proved by something seen."""
        base = self._facts.knowledge
        return [
            (base.rules[identifier], grading)
            for identifier, grading in self._grades(handle).items()
            if isinstance(grading, Grading) and grading.proved and _cites(grading.because)
        ]

    def _place(self, handle: str, joint: str = "in") -> str:
        eye = self._facts.eye_of(handle)
        words = f" {joint} the {EYE_NAMES[eye]}" if eye else ""
        return f"{words} in {handle}" if len(self._handles()) > 1 else words

    # Sentences

    def _trace(self, handle: str, rules: ScaleRules, grading: Grading) -> Iterator[Sentence]:
        place, cites = self._place(handle), _cites(grading.because)
        whole = self._place(handle, "of")
        state = "exact" if grading.exact else "at_least"
        fact = Fact(
            kind="grade", name=rules.id, text=grading.lowest.grade, state=state, image=handle,
            eye=self._facts.eye_of(handle),
        )  # fmt: skip

        def said(text: str, evidence: Sequence[str]) -> Sentence:
            return _sentence(text, tuple(evidence), (rules.entry,), fact)

        yield said(f"By the {rules.name}, the grade{whole} is: {grading.words()}", cites)
        steps = [self._facts.knowledge.told(step) for step in grading.because]
        because = "; ".join(step.text for step in steps)
        yield said(f"{rules.name}, satisfied{place}: {because}", cites)
        if grading.missing_up:
            names = [rule.grade for rule in rules.grades]
            graver = rules.grades[names.index(grading.lowest.grade) + 1]
            missing = "; ".join(self._missing(step) for step in grading.missing_up)
            more = tuple(dict.fromkeys((*cites, *_cites(grading.missing_up))))
            yield said(f"{rules.name}, missing{place} for {graver.name}: {missing}", more)

    def _missing(self, step: Step) -> str:
        told = self._facts.knowledge.told(step)
        why = "known not to be so" if told.truth is False else told.reason or "so, but not enough"
        return f"{told.text} ({why})"

    def _disagreements(self, handle: str) -> Iterator[Sentence]:
        """Grades and conditions of the classifier that the rules exclude."""
        for piece in self._facts.evidence.values():
            if piece.images != (handle,) or piece.tool != OPINION:
                continue
            for rules, grading in self._told(handle):
                for said, low, high in self._opinions(piece, rules):
                    lowest = rules.grades.index(grading.lowest)
                    highest = rules.grades.index(grading.highest)
                    if high < lowest or low > highest:
                        yield self._disagreement(handle, rules, grading, piece, said)

    def _opinions(self, piece: Evidence, rules: ScaleRules) -> Iterator[tuple[str, int, int]]:
        """What the classifier says in the grades of a scale: words, lowest, highest."""
        base = self._facts.knowledge
        last = len(rules.grades) - 1
        for m in piece.result.measurements:
            about, index = base.about_output(m.name), opinion_of(m, rules)
            if about and about.id == rules.entry and index is not None:
                yield f"grade {rules.grades[index].grade}", index, index
        for finding in piece.result.findings:
            entry = base.about_output(finding.concept)
            own = [n for n, rule in enumerate(rules.grades) if entry and rule.entry == entry.id]
            if not own or entry is None:
                continue
            if finding.state == "present":
                yield f"{entry.name.en} present", min(own), max(own)
            elif finding.state == "absent" and own[-1] == last:
                yield f"{entry.name.en} absent", 0, own[0] - 1

    def _disagreement(
        self, handle: str, rules: ScaleRules, grading: Grading, piece: Evidence, said: str
    ) -> Sentence:
        exact = grading.lowest == grading.highest
        rule = grading.lowest.name if exact else f"at least {grading.lowest.name}"
        fact = Fact(kind="grade", name=rules.id, state="disagreement", image=handle)
        text = (
            f"The classifier and the rules disagree{self._place(handle)}: the classifier says "
            f"{said}, the {rules.name} says {rule}; both are shown, and a person has to decide"
        )
        cites = tuple(dict.fromkeys((piece.id, *_cites(grading.because))))
        return _sentence(text, cites, (rules.entry,), fact)

    def _conflicts(self, handle: str) -> Iterator[Sentence]:
        for conflict in self._grader.conflicts(handle):
            name = self._facts.knowledge.get(conflict.entry).name.en
            fact = Fact(kind="grade", name=conflict.entry, state="disagreement", image=handle)
            text = (
                f"Two results disagree{self._place(handle)} about `{name}`: it is present by one "
                "and absent by the other; both are shown, and nothing is graded by it"
            )
            yield _sentence(text, (conflict.present, conflict.absent), (), fact)
        for excluded in self._grader.exclusions(handle):
            name = self._facts.knowledge.get(excluded.entry).name.en
            signs = [f"`{self._facts.knowledge.get(sign).name.en}`" for sign in excluded.signs]
            fact = Fact(kind="grade", name=excluded.entry, state="disagreement", image=handle)
            text = (
                f"Two results disagree{self._place(handle)}: by one `{name}` is present, by the "
                f"other {', '.join(signs)}, which exclude{'s' if len(signs) == 1 else ''} it; "
                "both are shown, and a person has to decide"
            )
            cites = tuple(dict.fromkeys((excluded.present, *excluded.signs.values())))
            yield _sentence(text, cites, (), fact)


def _cites(steps: Iterable[Step]) -> tuple[str, ...]:
    """Evidence behind steps that are about the retina rather than the person or the picture."""
    return tuple(
        dict.fromkeys(
            cite
            for step in steps
            if step.fact.partition(".")[0] not in _CONTEXT
            for cite in step.evidence
        )
    )


def _sentence(
    text: str, evidence: tuple[str, ...], entries: tuple[str, ...], fact: Fact
) -> Sentence:
    cites = "".join(f"[{i}]" for i in evidence) + "".join(f"[K:{i}]" for i in entries)
    return Sentence(text=f"{text} {cites}.", evidence=evidence, knowledge=entries, facts=(fact,))


def _key(sentence: str) -> tuple[str, frozenset[str]]:
    stretches, tail = segments(sentence)
    cites = frozenset(cite for stretch in stretches for cite in stretch.cites)
    words = " ".join([*(stretch.text for stretch in stretches), tail])
    return " ".join(unicodedata.normalize("NFKC", words).split()).strip(" -*."), cites
