"""Compiles the report from evidence, without a language model.

The result is complete by itself: 17 sections, each filled, absent, or with the
reason why not. Nothing is graded here, and what could not be judged is never
called normal.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence

from fovea.evidence import Evidence, ImageRecord
from fovea.image import Eye
from fovea.knowledge import Entry, Knowledge
from fovea.manifest import Structure
from fovea.report import framing
from fovea.report.check import Checker
from fovea.report.facts import Facts, is_unlike
from fovea.report.labels import LABEL, TITLES
from fovea.report.model import Report, Row, Section, Sentence, SourceText
from fovea.report.table import lesion_rows
from fovea.report.wording import Worder, is_position, quoted

__all__ = ["TITLES", "Report", "compile_report"]

_TOOLS: Mapping[str, tuple[str, ...]] = {
    "quality": ("assess_quality",),
    "optic_disc": ("segment_optic_disc",),
    "macula": ("segment_lesions",),
    "vessels": ("segment_vessels", "measure_biomarkers"),
    "lesions": ("segment_lesions",),
    "biomarkers": ("measure_biomarkers", "segment_optic_disc"),
    "comparison": ("compare_images",),
    "impression": ("classify_disease",),
    "similar": ("find_similar_cases",),
}
_JUDGED = frozenset({"eye", "field", "quality", "fundus_photograph"})


def compile_report(
    images: Sequence[ImageRecord],
    evidence: Sequence[Evidence],
    *,
    knowledge: Knowledge,
    refused: Mapping[str, str] | None = None,
    created: str | None = None,
) -> Report:
    """The draft report over all photographs.

    Args:
        images: Photographs of the session.
        evidence: Everything found about them.
        knowledge: Names, reference values and guidance.
        refused: Tool (`segment_lesions`, or `segment_lesions img1`) to the reason why it
            gave no answer.
        created: UTC time, ISO 8601; now when omitted.
    """
    compiler = _Compiler(tuple(images), tuple(evidence), knowledge, dict(refused or {}))
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


class _Compiler:
    def __init__(
        self,
        images: tuple[ImageRecord, ...],
        evidence: tuple[Evidence, ...],
        knowledge: Knowledge,
        refused: dict[str, str],
    ) -> None:
        self.images, self.evidence, self.knowledge = images, evidence, knowledge
        self.refused = refused
        self.facts = Facts(evidence, knowledge, images)
        self.eyes = {record.handle: self._eye(record) for record in images}
        self.word = Worder(knowledge, self.eyes)
        self._checker = Checker(evidence, knowledge, images=images, refused=refused)
        self.withheld: list[str] = []

    def section(self, number: int, key: str, title: str) -> Section:
        """The section; `not_measured` with the reason when nothing fills it."""
        fill: Callable[[], Section] = getattr(self, f"_{key}")
        section = fill()
        sentences = tuple(sentence for sentence in section.sentences if self._stands(sentence))
        if section.sentences and not sentences and not section.rows and section.state == "filled":
            section = _bare("not_assessable", "Not assessable: the evidence contradicts itself")
        return section.model_copy(
            update={"number": number, "key": key, "title": title, "sentences": sentences}
        )

    def _stands(self, sentence: Sentence) -> bool:
        """Plugins supply names and reasons: their words are checked as a model's would be."""
        struck = self._checker.check(sentence.text).struck
        self.withheld += [item.reason for item in struck]
        return not struck

    # Building blocks

    def _eye(self, record: ImageRecord) -> Eye | None:
        if record.eye:
            return record.eye
        inferred = self._inferred_eyes(record.handle)
        return inferred.pop() if len(inferred) == 1 else None

    def _inferred_eyes(self, handle: str) -> set[Eye]:
        found: set[Eye] = set()
        for piece in self.evidence:
            finding = piece.result.finding("eye")
            if handle in piece.images and finding:
                found |= {"OD"} if finding.value == "OD" else set()
                found |= {"OS"} if finding.value == "OS" else set()
        return found

    def _why_missing(self, key: str) -> str:
        tools = _TOOLS[key]
        reasons = [
            f"`{tool}`: {self.refused[name].rstrip('.')}"
            for tool in tools
            for name in sorted(self.refused)
            if name.split()[0] == tool
        ]
        ran = {piece.tool for piece in self.evidence}
        if not reasons and ran.issuperset(tools):
            return "no installed plugin measures it"
        missing = [f"`{tool}` is not installed or was not run" for tool in tools if tool not in ran]
        return "; ".join(reasons or missing)

    def _section(
        self, key: str, sentences: Iterable[Sentence], *, barred: Iterable[Sentence] = ()
    ) -> Section:
        found, bars = tuple(sentences), tuple(barred)
        if found:
            return _bare("filled", sentences=(*bars, *found))
        if bars:
            return _bare("not_assessable", "Not assessable: see below", sentences=bars)
        if key != "quality" and self._all_ungradable():
            return _bare("not_assessable", "Not assessable: the photograph is not gradable")
        return _bare("not_measured", f"Not measured: {self._why_missing(key)}")

    def _all_ungradable(self) -> bool:
        bad = self._bad_structures()
        return bool(bad) and all(len(structures) == 3 for structures in bad)

    def _barred(self, structure: Structure) -> list[Sentence]:
        """Sentences of the quality gate that forbid judging a structure."""
        found = []
        for piece in self.evidence:
            handles = [h for h in piece.images if structure in self.facts.ungradable.get(h, ())]
            for finding in piece.result.findings:
                if handles and finding.concept == f"gradable_{structure}":
                    found.append(self.word.finding(piece, finding))
        return found

    def _is_barred(self, piece: Evidence, structure: Structure | None) -> bool:
        return any(
            structure in bad if structure else len(bad) == 3
            for bad in (self.facts.ungradable.get(handle, frozenset()) for handle in piece.images)
        )

    def _entry(self, output: str) -> Entry | None:
        return self.knowledge.about_output(output)

    def _about(self, structure: Structure) -> list[Sentence]:
        """Measurements, gaps and findings about one structure that may be judged."""
        found = []
        for piece in self.evidence:
            if self._is_barred(piece, structure):
                continue
            for m in piece.result.measurements:
                entry = self._entry(m.name)
                if _is_about(piece, entry, structure) and not is_position(m.name):
                    found.append(self.word.measurement(piece, m))
            for gap in piece.result.not_measured:
                if _is_about(piece, self._entry(gap.name), structure):
                    found.append(self.word.missing(piece, gap))
            for finding in piece.result.findings:
                entry = self._entry(finding.concept)
                kind = "condition" if structure == "macula" else "finding"
                if entry and entry.kind == kind and _is_about(piece, entry, structure):
                    found.append(self.word.finding(piece, finding))
        return _once(found)

    def _findings(self, kind: str, states: tuple[str, ...]) -> list[tuple[Evidence, Entry, str]]:
        found = []
        for piece in self.evidence:
            for finding in piece.result.findings:
                entry = self._entry(finding.concept)
                wanted = entry and entry.kind == kind and finding.state in states
                if entry and wanted and not self._is_barred(piece, entry.structure):
                    found.append((piece, entry, finding.concept))
        return found

    # The 17 sections

    def _header(self) -> Section:
        inferred = {record.handle: self._inferred_eyes(record.handle) for record in self.images}
        rows = framing.header(self.images, inferred)
        if not rows:
            return _bare("absent", "Absent: there is no photograph")
        return _bare("filled", rows=rows)

    def _indication(self) -> Section:
        return _bare("absent", "Absent: none was supplied")

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
        return _bare(
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
        for piece in self.evidence:
            if piece.tool == "compare_images" or self._is_barred(piece, None):
                continue
            for m in piece.result.measurements:
                entry = self._entry(m.name)
                if entry is None and not is_position(m.name):
                    found.append(self.word.measurement(piece, m))
                elif entry and self._may_compare(piece, entry):
                    compared = self.word.comparison(piece, m, entry)
                    known = compared.facts[0].state != "not_compared"
                    (found if known else uncompared).append(compared)
            for gap in piece.result.not_measured:
                if self._entry(gap.name) is None:
                    found.append(self.word.missing(piece, gap))
        if uncompared:
            rows = self.word.not_compared(_once(uncompared))
            return _bare("filled", sentences=tuple(_once(found)), rows=rows)
        return self._section("biomarkers", _once(found))

    def _may_compare(self, piece: Evidence, entry: Entry) -> bool:
        return entry.kind == "biomarker" and not self._is_barred(piece, entry.structure)

    def _comparison(self) -> Section:
        found = []
        for piece in self.evidence:
            if piece.tool == "compare_images" and not self._is_barred(piece, None):
                found += [self.word.measurement(piece, m) for m in piece.result.measurements]
                found += [self.word.missing(piece, gap) for gap in piece.result.not_measured]
        if not found and len(self.images) < 2:
            return _bare("absent", "Absent: there is no earlier photograph")
        return self._section("comparison", found)

    def _impression(self) -> Section:
        found = []
        for piece in self.evidence:
            for m in piece.result.measurements:
                entry = self._entry(m.name)
                if entry and entry.kind == "scale" and not self._is_barred(piece, entry.structure):
                    found.append(self.word.measurement(piece, m))
        for kind in ("condition", "scale"):
            for piece, _, concept in self._findings(kind, ("present", "absent", "indeterminate")):
                finding = piece.result.finding(concept)
                if finding:
                    found.append(self.word.finding(piece, finding))
        return self._section("impression", found)

    def _bad_structures(self) -> list[frozenset[str]]:
        return [self.facts.ungradable.get(record.handle, frozenset()) for record in self.images]

    def _is_fundus(self) -> bool:
        found = [piece.result.finding("fundus_photograph") for piece in self.evidence]
        return all(finding is None or finding.state == "present" for finding in found)

    def _differential(self) -> Section:
        found = []
        for _, entry, _ in self._findings("condition", ("present", "indeterminate")):
            for other in entry.differential:
                found += self._statement(other, "definition")
        if not found:
            return _bare("absent", "Absent: no condition was found that has alternatives to weigh")
        return _bare("filled", sentences=tuple(found))

    def _recommendation(self) -> Section:
        entries = [entry for kind in ("condition", "finding")
                   for _, entry, _ in self._findings(kind, ("present",))]  # fmt: skip
        quality = self.knowledge.entries.get("quality")
        if quality and self._is_fundus() and any(len(b) == 3 for b in self._bad_structures()):
            entries.append(quality)
        sentences, rows = framing.advice({entry.id: entry for entry in entries}.values())
        if not rows:
            return _bare("absent", "Absent: no finding that a guideline gives advice on")
        return _bare("filled", sentences=sentences, rows=rows)

    def _similar(self) -> Section:
        found = [
            self.word.case(piece, case)
            for piece in self.evidence
            if not self._is_barred(piece, None) and not is_unlike(piece)
            for case in piece.result.similar
        ]
        searched = any(piece.tool == "find_similar_cases" for piece in self.evidence)
        if searched and not found and not self._all_ungradable():
            return _bare("absent", "Absent: the archive holds no case that is near enough")
        return self._section("similar", found)

    def _limitations(self) -> Section:
        caveats = self.word.caveats(piece for piece in self.evidence if piece.result.caveats)
        rows = framing.limitations(self.refused, self.withheld)
        return _bare("filled", rows=rows, sentences=tuple(caveats))

    def _provenance(self) -> Section:
        return _bare("filled", rows=framing.provenance(self.evidence, self.knowledge.version))

    def _sign_off(self) -> Section:
        return _bare("filled", rows=framing.SIGN_OFF)

    def _statement(self, identifier: str, topic: str) -> list[Sentence]:
        entry = self.knowledge.entries.get(identifier)
        return [
            quoted(text, knowledge=(identifier,))
            for name, text, _ in (entry.statements() if entry else ())
            if name == topic
        ]


def _is_about(piece: Evidence, entry: Entry | None, structure: Structure) -> bool:
    """Whether an output is told with a structure; a lesion may lie anywhere: section 8."""
    spread = entry and entry.kind == "finding" and piece.tool in _TOOLS["lesions"]
    return bool(entry and entry.structure == structure and not spread)


def _once(sentences: Iterable[Sentence]) -> list[Sentence]:
    """Without repeats: one tool may pass on what another one measured."""
    seen: set[object] = set()
    kept = []
    for sentence in sentences:
        fact = sentence.facts[0]
        key = (fact.kind, fact.name, fact.value, fact.state, fact.eye, fact.image, fact.zone)
        if key not in seen:
            seen.add(key)
            kept.append(sentence)
    return kept


def _bare(
    state: str,
    reason: str = "",
    *,
    sentences: tuple[Sentence, ...] = (),
    rows: tuple[Row, ...] = (),
) -> Section:
    """A section whose number, key and title are filled in later."""
    return Section.model_validate(
        {"number": 1, "key": "", "title": "", "state": state, "reason": reason,
         "sentences": sentences, "rows": rows}
    )  # fmt: skip
