"""What the sections of a report draw on: evidence that may be told, and why some may not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fovea.evidence import Evidence, ImageRecord
from fovea.image import Eye
from fovea.knowledge import Entry, Knowledge
from fovea.manifest import Structure
from fovea.report.facts import Facts
from fovea.report.model import Row, Section, Sentence
from fovea.report.wording import Worder, is_position

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


class Gathering:
    """Look-ups over the evidence of one report, under the quality gate."""

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
            return bare("filled", sentences=(*bars, *found))
        if bars:
            return bare("not_assessable", "Not assessable: see below", sentences=bars)
        if key != "quality" and self._all_ungradable():
            return bare("not_assessable", "Not assessable: the photograph is not gradable")
        return bare("not_measured", f"Not measured: {self._why_missing(key)}")

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

    def _found(self, concept: str) -> Entry | None:
        """The entry of a finding, before that of a measurement of the same name."""
        own = self.knowledge.entries.get(concept)
        return own if own and own.kind in ("condition", "finding") else self._entry(concept)

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
        return once(found)

    def _findings(self, kind: str, states: tuple[str, ...]) -> list[tuple[Evidence, Entry, str]]:
        found = []
        for piece in self.evidence:
            for finding in piece.result.findings:
                entry = self._found(finding.concept)
                wanted = entry and entry.kind == kind and finding.state in states
                if entry and wanted and not self._is_barred(piece, entry.structure):
                    found.append((piece, entry, finding.concept))
        return found

    def _bad_structures(self) -> list[frozenset[str]]:
        return [self.facts.ungradable.get(record.handle, frozenset()) for record in self.images]

    def _is_fundus(self) -> bool:
        found = [piece.result.finding("fundus_photograph") for piece in self.evidence]
        return all(finding is None or finding.state == "present" for finding in found)


def _is_about(piece: Evidence, entry: Entry | None, structure: Structure) -> bool:
    """Whether an output is told with a structure; a lesion may lie anywhere: section 8."""
    spread = entry and entry.kind == "finding" and piece.tool in _TOOLS["lesions"]
    own = entry and entry.structure == structure and not spread
    return bool(own) and not is_tabled(piece, entry)


def is_tabled(piece: Evidence, entry: Entry | None) -> bool:
    """Whether a measurement is told in the table of biomarkers alone.

    So is what no entry explains, and what the biomarker tool measures of a structure that
    has a tool of its own: that one says the main points, and a full set would bury them.
    """
    if entry is None or entry.structure is None:
        return entry is None
    section = {"disc": "optic_disc", "macula": "macula", "vessels": "vessels"}[entry.structure]
    return piece.tool in _TOOLS["biomarkers"] and piece.tool not in _TOOLS[section]


def once(sentences: Iterable[Sentence]) -> list[Sentence]:
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


def bare(
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
