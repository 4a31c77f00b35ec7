"""Compiles the report from evidence, without a language model.

The result is complete by itself: 17 sections, each filled, absent, or with the
reason why not. Grades come from the rules of the knowledge base, and what could
not be judged is never called normal.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from fovea.errors import ConfigError
from fovea.evidence import Evidence, ImageRecord
from fovea.knowledge import Entry, Knowledge
from fovea.report import framing
from fovea.report.check import Checker
from fovea.report.facts import is_unlike
from fovea.report.gathering import Gathering, bare, is_tabled, once
from fovea.report.labels import GUIDELINE_SETS, LABEL, TITLES
from fovea.report.model import History, Report, Row, Section, Sentence, SourceText
from fovea.report.table import lesion_rows, tabled_rows
from fovea.report.wording import quoted

__all__ = ["TITLES", "Report", "compile_report"]

_JUDGED = frozenset({"eye", "field", "quality", "fundus_photograph"})


def compile_report(
    images: Sequence[ImageRecord],
    evidence: Sequence[Evidence],
    *,
    knowledge: Knowledge,
    refused: Mapping[str, str] | None = None,
    created: str | None = None,
    history: History | None = None,
    guideline_set: str | None = None,
) -> Report:
    """The draft report over all photographs.

    Args:
        images: Photographs of the session.
        evidence: Everything found about them.
        knowledge: Names, reference values and guidance.
        refused: Tool (`segment_lesions`, or `segment_lesions img1`) to the reason why it
            gave no answer.
        created: UTC time, ISO 8601; now when omitted.
        history: What was told about the person; nothing when omitted.
        guideline_set: Whose advice is quoted, such as `uk_nhs`; that of all when omitted.

    Raises:
        ConfigError: no such guideline set; names those that there are.
    """
    known = {
        *GUIDELINE_SETS,
        "custom",
        *(s for e in knowledge.entries.values() for s in e.referral),
    }
    if guideline_set is not None and guideline_set not in known:
        raise ConfigError(
            f"There is no guideline set `{guideline_set[:60]}`",
            fix=f"Use one of {', '.join(sorted(known))}",
        )
    compiler = _Compiler(
        tuple(images), tuple(evidence), knowledge, dict(refused or {}),
        history=history or History(), guideline_set=guideline_set,
    )  # fmt: skip
    sections = tuple(
        compiler.section(number, key, title) for number, (key, title) in enumerate(TITLES, start=1)
    )
    cited = dict.fromkeys(i for s in sections for t in s.sentences for i in t.knowledge)
    return Report(
        label=LABEL,
        created=created or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        images=tuple(images),
        sections=sections,
        evidence=tuple(piece.id for piece in evidence),
        knowledge=tuple(_source_text(knowledge, identifier) for identifier in cited),
        knowledge_version=knowledge.version,
    )


def _source_text(knowledge: Knowledge, identifier: str) -> SourceText:
    entry = knowledge.get(identifier)
    return SourceText(
        id=identifier,
        title=entry.name.en,
        review=entry.review.status,
        sources=tuple(knowledge.citation(source.key) for source in entry.sources),
    )


class _Compiler(Gathering):
    def __init__(
        self,
        images: tuple[ImageRecord, ...],
        evidence: tuple[Evidence, ...],
        knowledge: Knowledge,
        refused: dict[str, str],
        *,
        history: History,
        guideline_set: str | None,
    ) -> None:
        super().__init__(images, evidence, knowledge, refused)
        self.history, self.guideline_set = history, guideline_set
        self.handles = [record.handle for record in images]
        self._checker = Checker(
            evidence, knowledge, images=images, refused=refused, history=history
        )
        self.grades = self._checker.grades
        self.withheld: list[str] = []

    def section(self, number: int, key: str, title: str) -> Section:
        """The section; `not_measured` with the reason when nothing fills it."""
        fill: Callable[[], Section] = getattr(self, f"_{key}")
        section = fill()
        sentences = tuple(sentence for sentence in section.sentences if self._stands(sentence))
        if section.sentences and not sentences and not section.rows and section.state == "filled":
            section = bare("not_assessable", "Not assessable: the evidence contradicts itself")
        return section.model_copy(
            update={"number": number, "key": key, "title": title, "sentences": sentences}
        )

    def _stands(self, sentence: Sentence) -> bool:
        """Plugins supply names and reasons: their words are checked as a model's would be."""
        struck = self._checker.check(sentence.text).struck
        self.withheld += [item.reason for item in struck]
        return not struck

    # The 17 sections

    def _header(self) -> Section:
        inferred = {record.handle: self._inferred_eyes(record.handle) for record in self.images}
        rows = framing.header(self.images, inferred)
        if not rows:
            return bare("absent", "Absent: there is no photograph")
        return bare("filled", rows=rows)

    def _indication(self) -> Section:
        rows = framing.indication(self.history)
        if not rows:
            return bare("absent", "Absent: none was supplied")
        return bare("filled", rows=rows)

    def _quality(self) -> Section:
        found = []
        for piece in self.evidence:
            for finding in piece.result.findings:
                if finding.concept in _JUDGED or finding.concept.startswith("gradable_"):
                    found.append(self.word.finding(piece, finding))
            score = piece.result.measurement("quality_score")
            if score:
                found.append(self.word.measurement(piece, score))
        return self._section("quality", found)

    def _optic_disc(self) -> Section:
        return self._section("optic_disc", self._about("disc"), barred=self._barred("disc"))

    def _macula(self) -> Section:
        return self._section("macula", self._about("macula"), barred=self._barred("macula"))

    def _vessels(self) -> Section:
        return self._section("vessels", self._about("vessels"), barred=self._barred("vessels"))

    def _periphery(self) -> Section:
        return bare(
            "not_assessable",
            "Not assessable: it lies outside the field, or no installed plugin examines it",
            sentences=tuple(self._statement("periphery", "definition")),
        )

    def _lesions(self) -> Section:
        states = ("present", "absent", "indeterminate", "not_assessable")
        pairs = self._findings("finding", states)
        found = [self.word.finding(p, f) for p, _, name in pairs if (f := p.result.finding(name))]
        told = [(piece, name) for piece, _, name in pairs]
        rows = lesion_rows(told, self.knowledge, several=len(self.images) > 1)
        return self._section("lesions", found).model_copy(update={"rows": rows})

    def _biomarkers(self) -> Section:
        """Comparison with reference values; what no entry explains is listed as it is."""
        found: list[Sentence] = []
        uncompared: list[Sentence] = []
        rows: list[Row] = []
        for piece in self.evidence:
            if piece.tool == "compare_images" or self._is_barred(piece, None):
                continue
            for m in piece.result.measurements:
                entry = self._entry(m.name)
                if entry and not is_tabled(piece, entry) and self._may_compare(piece, entry):
                    compared = self.word.comparison(piece, m, entry)
                    known = compared.facts[0].state != "not_compared"
                    (found if known else uncompared).append(compared)
            rows += tabled_rows(
                piece,
                partial(self._is_in_table, piece),
                self.knowledge,
                several=len(self.images) > 1,
            )
        rows = [*self.word.not_compared(once(uncompared)), *dict.fromkeys(rows)]
        if rows:
            return bare("filled", sentences=tuple(once(found)), rows=tuple(rows))
        return self._section("biomarkers", once(found))

    def _is_in_table(self, piece: Evidence, output: str) -> bool:
        entry = self._entry(output)
        barred = entry is not None and self._is_barred(piece, entry.structure)
        return is_tabled(piece, entry) and not barred

    def _may_compare(self, piece: Evidence, entry: Entry) -> bool:
        return entry.kind == "biomarker" and not self._is_barred(piece, entry.structure)

    def _comparison(self) -> Section:
        found = []
        for piece in self.evidence:
            if piece.tool == "compare_images" and not self._is_barred(piece, None):
                found += [self.word.finding(piece, f) for f in piece.result.findings]
                found += [self.word.measurement(piece, m) for m in piece.result.measurements]
                found += [self.word.missing(piece, gap) for gap in piece.result.not_measured]
        if not found and len(self.images) < 2:
            return bare("absent", "Absent: there is no earlier photograph")
        return self._section("comparison", found)

    def _impression(self) -> Section:
        found = []
        for piece in self.evidence:
            for m in piece.result.measurements:
                entry = self._entry(m.name)
                if entry and entry.kind == "scale" and not self._is_barred(piece, entry.structure):
                    found.append(self.word.measurement(piece, m))
        states = ("present", "absent", "indeterminate", "not_assessable")
        for kind in ("condition", "scale"):
            for piece, _, concept in self._findings(kind, states):
                finding = piece.result.finding(concept)
                if finding:
                    found.append(self.word.finding(piece, finding))
        graded = [*self.grades.sentences(self.handles), *found]
        section = self._section("impression", graded)
        if section.state in ("filled", "not_measured") and self.evidence:
            return section.model_copy(update={"rows": tuple(self.grades.rows(self.handles))})
        return section

    def _differential(self) -> Section:
        found = []
        for _, entry, _ in self._findings("condition", ("present", "indeterminate")):
            for other in entry.differential:
                found += self._statement(other, "definition")
        if not found:
            return bare("absent", "Absent: no condition was found that has alternatives to weigh")
        return bare("filled", sentences=tuple(found))

    def _recommendation(self) -> Section:
        entries = [entry for kind in ("condition", "finding")
                   for _, entry, _ in self._findings(kind, ("present",))]  # fmt: skip
        quality = self.knowledge.entries.get("quality")
        if quality and self._is_fundus() and any(len(b) == 3 for b in self._bad_structures()):
            entries.append(quality)
        graded = self.grades.guided(self.handles)
        sentences, rows = framing.advice(entries, graded, self.guideline_set)
        if not sentences:
            return bare("absent", "Absent: no finding that a guideline gives advice on", rows=rows)
        return bare("filled", sentences=sentences, rows=rows)

    def _similar(self) -> Section:
        found = [
            self.word.case(piece, case)
            for piece in self.evidence
            if not self._is_barred(piece, None) and not is_unlike(piece)
            for case in piece.result.similar
        ]
        searched = any(piece.tool == "find_similar_cases" for piece in self.evidence)
        if searched and not found and not self._all_ungradable():
            return bare("absent", "Absent: the archive holds no case that is near enough")
        return self._section("similar", found)

    def _limitations(self) -> Section:
        caveats = self.word.caveats(piece for piece in self.evidence if piece.result.caveats)
        rows = framing.limitations(self.refused, self.withheld)
        return bare("filled", rows=rows, sentences=tuple(caveats))

    def _provenance(self) -> Section:
        return bare("filled", rows=framing.provenance(self.evidence, self.knowledge.version))

    def _sign_off(self) -> Section:
        return bare("filled", rows=framing.SIGN_OFF)

    def _statement(self, identifier: str, topic: str) -> list[Sentence]:
        entry = self.knowledge.entries.get(identifier)
        return [
            quoted(text, knowledge=(identifier,))
            for name, text, _ in (entry.statements() if entry else ())
            if name == topic
        ]
