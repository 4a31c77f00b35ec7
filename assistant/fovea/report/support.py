"""Compares one cited stretch of a sentence with the evidence and entries that it cites."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from fovea.evidence import Evidence
from fovea.knowledge.search import tokens
from fovea.report import sentences
from fovea.report.claims import (
    ADVICE,
    DECLINE,
    JUDGEMENT,
    QUALITY_WORDS,
    SEVERITY,
    Unsupported,
)
from fovea.report.facts import STRUCTURES, Facts, disc_diameter_mm, is_bad
from fovea.report.figures import Figures
from fovea.report.sentences import Phrases, Segment
from fovea.report.vocabulary import Source, stranger

_PATIENT = re.compile(
    r"\b(?:your|you have|this (?:eye|patient|person|image|photograph|picture|retina|disc)|"
    r"the patient|the (?:right|left) eye|img\d+)\b",
    re.I,
)
_STRUCTURE_WORDS = frozenset(
    tokens(
        "retina fundus disc optic nerve vessel macula fovea grade graded gradable ungradable "
        "rejected zone region quadrant area"
    )
)
_NOT_COMPARED = re.compile(r"\bnot compared with reference values\b", re.I)
_POSITION = re.compile(r"\b(within|above|below) the reference range\b", re.I)
_ABOUT_CASES = re.compile(r"\b(?:cases?|neighbou?rs?|archive|labell?(?:ed|s)?)\b", re.I)
_NO_WORDS = re.compile(
    r"\bimg\d+\b|\bcase-\S+|\bis closer than [\d.]+ % of random pairs\b|\bor other\b|"
    r"\b(?-i:RE|LE|[RL](?= eye))\b|\boculus (?:dexter|sinister)\b",
    re.I,
)
_GRADABLE = re.compile(r"\b(?:un)?(?:gradab|assessab)\w*|\bvisible\b", re.I)
_STRUCTURE = {
    structure: re.compile(rf"\b(?:{pattern})\b", re.I)
    for structure, pattern in {
        "disc": r"optic (?:dis[ck]|nerve|cup)|dis[ck]s?|cups?|cupping|rims?",
        "macula": r"macula\w*|fovea\w*",
        "vessels": r"vessels?|vascul\w*|arter\w+|ven(?:ules?|ous)|veins?|tortuos\w+|fractal",
    }.items()
}


class Support:
    """Decides whether citations support what a stretch of text says."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._figures = Figures(facts, self.texts)
        self._sources: dict[str, Source] = {}
        self._known: dict[frozenset[str], Phrases] = {}

    def texts(self, cites: Sequence[str]) -> list[str]:
        """Everything that the cited evidence and entries say in words."""
        texts = []
        for cite in cites:
            if cite.startswith("K:"):
                texts += self.facts.entry_texts(cite[2:])
            else:
                texts += self.facts.evidence_texts(self.facts.evidence[cite])
        return texts

    def check(self, stretch: Segment, *, carried: str | None) -> str | None:
        """Raises unless the citations support the stretch; gives the quantity it named last."""
        text = stretch.text
        pieces = [self.facts.evidence[c] for c in stretch.cites if not c.startswith("K:")]
        entries = [cite for cite in stretch.cites if cite.startswith("K:")]
        if ADVICE.search(text):
            self._check_advice(text, entries)
        if not pieces:
            self._check_quotation(text, entries)
            return carried
        self._check_images(text, pieces)
        if self._is_caveat(text, pieces):  # such as the one that the label contradicts the picture
            return carried
        self._check_eyes(text, pieces)
        self._check_gradable(text, pieces)
        if entries and self.facts.quotes.hold(text, self.texts(entries), least=1.0):
            return carried
        mentioned = self._mentioned(text)
        quantity = mentioned[-1][0] if mentioned else carried
        whole, text = text, self.facts.without_cohort(text, pieces, {m[0] for m in mentioned})
        placed = text != whole
        printed = self._figures.check(text, pieces, entries, mentioned, carried)
        found = self._check_findings(text, pieces, entries)
        graded = self._check_quality(text, pieces)
        quoted = self.facts.quotes.hold(text, self.texts(stretch.cites), least=0.75)
        ranged = self._check_range(text, pieces, entries)
        text = self._without_cases(text, pieces)
        rest = self._without_names(text)
        if JUDGEMENT.search(rest) and not (quoted or ranged or DECLINE.search(text)):
            raise Unsupported("no cited result makes this judgement")
        self._check_severity(text, pieces, quoted=quoted)
        denied = sentences.NEGATORS.search(rest) and not DECLINE.search(text)
        if denied and not (found or graded or quoted):
            raise Unsupported("denies what it cites")
        if not quoted:
            self._check_words(
                text, pieces, stretch.cites, graded=bool(graded), placed=bool(printed or not found)
            )
        checked = printed or found or graded or quoted or ranged or placed
        if not (checked or self._named_result(text, pieces)):
            raise Unsupported(f"nothing in it can be checked against [{pieces[0].id}]")
        return quantity

    def _mentioned(self, text: str) -> list[tuple[str, int, int]]:
        """Quantities that the text names; the unit in `0.8 disc diameters` is none of them."""
        units = [(number.start, number.end) for number in sentences.numbers(text)[0]]
        found = sentences.phrases(text, self.facts.quantities)
        return [m for m in found if not any(low <= m[1] < high for low, high in units)]

    def _without_cases(self, text: str, pieces: Sequence[Evidence]) -> str:
        """The text without labels and reasons of archived cases that it quotes as they are."""
        for case in (case for piece in pieces for case in piece.result.similar):
            text = text.replace(case.why.rstrip("."), " ")
            *first, last = case.labels or ("",)
            listed = f"{', '.join(first)} and {last}" if first else last
            for labels in (", ".join(case.labels), listed):
                text = text.replace(f"{case.case_id}, labelled {labels}", case.case_id)
            if not case.labels:
                text = text.replace(f"{case.case_id}, without a label", case.case_id)
        return text

    def _without_names(self, text: str) -> str:
        """The text without names of diseases: `malignant` in one of them is no judgement."""
        return _masked(text, [m[1:] for m in sentences.phrases(text, self.facts.terms)])

    def _check_advice(self, text: str, entries: Sequence[str]) -> None:
        if not entries:
            raise Unsupported("advice without a citation of the knowledge base")
        if not self.facts.quotes.hold_advice(text, self.texts(entries)):
            raise Unsupported(f"[{entries[0]}] does not give this advice")

    def _check_quotation(self, text: str, entries: Sequence[str]) -> None:
        weighty = JUDGEMENT.search(text) or SEVERITY.search(text)
        names = [n for i in entries for n in self.facts.knowledge.get(i[2:]).names()]
        least = 1.0 if weighty else 0.7
        if not self.facts.quotes.hold(text, self.texts(entries), least=least, names=names):
            raise Unsupported(f"[{entries[0]}] does not say this")
        whole = self.facts.quotes.hold(text, self.texts(entries), least=1.0)
        if _PATIENT.search(text) and not whole:
            raise Unsupported("says something about this eye, but cites general knowledge only")

    def _is_caveat(self, text: str, pieces: Sequence[Evidence]) -> bool:
        """Whether the stretch repeats a caveat of its evidence word for word."""
        caveats = [caveat.text for piece in pieces for caveat in piece.result.caveats]
        return self.facts.quotes.hold(text.removeprefix("Note: "), caveats, least=1.0)

    def _check_images(self, text: str, pieces: Sequence[Evidence]) -> None:
        for handle in re.findall(r"\bimg\d+\b", text):
            if not any(handle in piece.images for piece in pieces):
                raise Unsupported(f"[{pieces[0].id}] is not about `{handle}`")

    def _check_eyes(self, text: str, pieces: Sequence[Evidence]) -> None:
        named = {eye for eye, _ in sentences.eyes(text)}
        known = frozenset[str]().union(*(self.facts.eyes_of(piece) for piece in pieces))
        for eye in sorted(named - known):
            side = "right" if eye == "OD" else "left"
            raise Unsupported(f"names the {side} eye, which [{pieces[0].id}] is not about")

    def _check_gradable(self, text: str, pieces: Sequence[Evidence]) -> None:
        if _GRADABLE.search(text) or DECLINE.search(text):
            return  # compared with the quality findings themselves
        text = self._without_cases(text, pieces)  # labels of other eyes
        for finding in (finding for piece in pieces for finding in piece.result.findings):
            if finding.concept == "quality" and finding.detail:  # the gate's own reason
                text = text.replace(finding.detail.rstrip("."), " ")
            text = text.replace((finding.value or "").replace("_", " ") or "\0", " ")
        touched = set[str]()
        for key, start, end in sentences.phrases(text, self.facts.names):
            structure = self.facts.knowledge.get(key).structure
            if structure:  # `vasculopathy` in a name of the macula is not about the vessels
                touched.add(structure)
                text = text[:start] + " " * (end - start) + text[end:]
        touched |= {name for name, pattern in _STRUCTURE.items() if pattern.search(text)}
        for piece in pieces:
            for handle in piece.images:
                barred = touched & self.facts.ungradable.get(handle, frozenset())
                if barred:
                    raise Unsupported(f"the quality check found the {min(barred)} not gradable")

    def _check_findings(self, text: str, pieces: Sequence[Evidence], entries: Sequence[str]) -> int:
        verified = 0
        findings = {f.concept: f for piece in pieces for f in piece.result.findings}
        for concept in ("eye", "field", "quality", *STRUCTURES.values()):
            findings.pop(concept, None)
        known = self._names(frozenset(findings))
        measured = sentences.phrases(text, self.facts.quantities)
        named = sentences.phrases(text, known)
        for concept, start, end in named:
            if any(first < start and end <= last for _, first, last in measured):
                continue  # `number of haemorrhages` names a measurement, whatever it is
            finding = findings.get(concept)
            others = [(low, high) for _, low, high in named if low != start]
            said = sentences.polarity(_masked(text, others), start, end)
            if finding is None:
                self._check_mention(text, concept, text[start:end], pieces, entries)
            elif said != finding.state:
                state = finding.state.replace("_", " ")
                raise Unsupported(f"`{text[start:end]}` is {state} in [{pieces[0].id}]")
            else:
                verified += 1
        return verified

    def _names(self, findings: frozenset[str]) -> Phrases:
        """Names of diseases and lesions; a name that a finding has too means the finding."""
        if findings not in self._known:
            names = {**self.facts.terms, **self._figures.names_of(findings)}
            self._known[findings] = Phrases(names)
        return self._known[findings]

    def _check_mention(
        self, text: str, concept: str, name: str,
        pieces: Sequence[Evidence], entries: Sequence[str],
    ) -> None:  # fmt: skip
        """A disease or lesion that is no finding may be named only as the source names it."""
        labels = [" ".join(case.labels) for piece in pieces for case in piece.result.similar]
        labelled = " ".join(tokens(name)) in " ".join(tokens(" ".join(labels)))
        if labelled and _ABOUT_CASES.search(text):
            return
        cites = (*(piece.id for piece in pieces), *entries)
        if f"K:{concept}" in entries or self.facts.quotes.hold(text, self.texts(cites), least=0.75):
            return
        raise Unsupported(f"`{name}` is not a finding of [{pieces[0].id}]")

    def _check_quality(self, text: str, pieces: Sequence[Evidence]) -> int:
        verified = 0
        for piece in pieces:
            quality = piece.result.finding("quality")
            words = QUALITY_WORDS & {word.lower() for word in re.findall(r"[A-Za-z]+", text)}
            if quality and quality.value and words:
                if {word.removesuffix("ed") for word in words} != {quality.value}:
                    raise Unsupported(f"the image quality is `{quality.value}` in [{piece.id}]")
                start = text.lower().index(min(words))
                if sentences.polarity(text, start, start + len(min(words))) != "present":
                    raise Unsupported(f"the image quality is `{quality.value}` in [{piece.id}]")
                verified += 1
            for structure, concept in STRUCTURES.items():
                finding = piece.result.finding(concept)
                touched = _STRUCTURE[structure].search(text)
                gradable = _GRADABLE.search(text)
                if finding and touched and gradable:
                    denied = gradable[0].lower().startswith("un") or sentences.polarity(
                        text, gradable.start(), gradable.end()
                    ) in ("absent", "not_assessable")
                    if denied != is_bad(finding):
                        raise Unsupported(f"[{piece.id}] says otherwise about the {structure}")
                    verified += 1
        return verified

    def _check_range(self, text: str, pieces: Sequence[Evidence], entries: Sequence[str]) -> bool:
        """Whether a stated position in the reference range is the true one."""
        said = _POSITION.search(text)
        if said is None:
            return False
        for piece in pieces:
            for m in piece.result.measurements:
                entry = self.facts.knowledge.about_output(m.name)
                if entry is None or f"K:{entry.id}" not in entries or not entry.ranges:
                    continue
                result = self.facts.knowledge.compare_to_range(
                    entry.id, m.value, output=m.name, method=m.method,
                    disc_diameter_mm=disc_diameter_mm(piece),
                )  # fmt: skip
                if result.position == said[1].lower():
                    return True
        raise Unsupported("the cited values do not lie there in a range of their own method")

    def _check_severity(self, text: str, pieces: Sequence[Evidence], *, quoted: bool) -> None:
        """`mild`, `severe` and the like must be the name of a cited grade or finding."""
        said = list(SEVERITY.finditer(text))
        if quoted or not said:
            return
        names = []
        entries = self.facts.knowledge.entries
        for piece in pieces:
            concepts = [f.concept for f in piece.result.findings]
            names += [entries[concept].name.en for concept in concepts if concept in entries]
            for m in piece.result.measurements:
                scale = self.facts.knowledge.about_output(m.name)
                clause = (scale.id if scale else "", f"{m.value:g}")
                for entry in entries.values():
                    if entry.criteria and (entry.criteria.scale, entry.criteria.grade) == clause:
                        names.append(entry.name.en)
        known = {_hyphened(match[0]) for name in names for match in SEVERITY.finditer(name)}
        for match in said:
            if _hyphened(match[0]) not in known:
                raise Unsupported(f"no cited grade is `{match[0]}`")

    def _check_words(
        self, text: str, pieces: Sequence[Evidence], cites: Sequence[str],
        *, graded: bool, placed: bool,
    ) -> None:  # fmt: skip
        """Every word is neutral, names a result, or stands so in what is cited."""
        known = self._names(frozenset(f.concept for p in pieces for f in p.result.findings))
        spans = [(number.start, number.end) for number in sentences.numbers(text)[0]]
        # Degrees were compared with the grades, and positions with the ranges.
        for pattern in (_NO_WORDS, SEVERITY, _POSITION, _NOT_COMPARED):
            spans += [match.span() for match in pattern.finditer(text)]
        own = [self.facts.outputs_of(piece) for piece in pieces]
        for names in (known, self.facts.quantities, *own):
            spans += [(start, end) for _, start, end in sentences.phrases(text, names)]
        zones = {m.zone for p in pieces for m in p.result.measurements}
        places = sentences.phrases(text, self.facts.zones)
        spans += [(start, end) for zone, start, end in places if zone in zones]
        allowed = QUALITY_WORDS if graded else frozenset()
        if placed:  # beside a finding alone, a structure would say where it lies
            allowed |= _STRUCTURE_WORDS
        word = stranger(text, spans, allowed, [self._source(cite) for cite in cites])
        if word:
            raise Unsupported(f"`{word}` does not occur so in what it cites")

    def _source(self, cite: str) -> Source:
        """The words of a citation, in its texts and its names."""
        if cite not in self._sources:
            texts = self.texts((cite,))
            piece = self.facts.evidence.get(cite)
            result = piece.result if piece else None
            names = set[str]()
            if result:
                names |= {label for case in result.similar for label in case.labels}
                names |= {f.concept for f in result.findings}
                names |= {f.value or "" for f in result.findings}
                names |= {gap.name for gap in result.not_measured}
                names |= {artifact.name for artifact in result.artifacts}
                for m in result.measurements:
                    scale = self.facts.knowledge.about_output(m.name)
                    texts += scale.names() if scale and scale.kind == "scale" else ()
            for name in sorted(names):
                entry = self.facts.knowledge.about_output(name)
                texts += [name.replace("_", " "), *(entry.names() if entry else ())]
            self._sources[cite] = Source(texts)
        return self._sources[cite]

    def _named_result(self, text: str, pieces: Sequence[Evidence]) -> bool:
        """Whether the stretch names an eye, picture, gap or case that the evidence holds."""
        words = set(tokens(text))
        mentioned = {key for key, _, _ in sentences.phrases(text, self.facts.quantities)}
        for piece in pieces:
            result = piece.result
            if result.finding("eye") and sentences.eyes(text):
                return True
            if result.artifacts and words & set(
                tokens("mask overlay map picture outline outlined drawn heatmap shown segmented")
            ):
                return True
            if result.similar and words & set(tokens("case neighbour archive similar")):
                return True
            measured = {m.name for m in result.measurements}
            if _NOT_COMPARED.search(text) and measured & mentioned:
                return True
            gaps = self.facts.phrases_of(gap.name for gap in result.not_measured)
            if DECLINE.search(text) and sentences.phrases(text, gaps):
                return True
        return False


def _masked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    for start, end in spans:
        text = text[:start] + " " * (end - start) + text[end:]
    return text


def _hyphened(word: str) -> str:
    return word.lower().replace(" ", "-")
