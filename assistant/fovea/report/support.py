"""Compares one cited stretch of a sentence with the evidence and entries that it cites."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from fovea.evidence import Evidence
from fovea.knowledge.search import tokens
from fovea.report import sentences
from fovea.report.claims import ADVICE, CLINICAL, DECLINE, JUDGEMENT, QUALITY_WORDS, SEVERITY
from fovea.report.facts import STRUCTURES, Facts, disc_diameter_mm, is_bad, zoned
from fovea.report.sentences import Number, Segment

_PATIENT = re.compile(
    r"\b(?:your|you have|this (?:eye|patient|person|image|photograph|picture|retina|disc)|"
    r"the patient|the (?:right|left) eye|img\d+)\b",
    re.I,
)
_STRUCTURE_WORDS = frozenset(
    tokens(
        "retina fundus disc optic nerve vessel macula fovea grade graded gradable ungradable "
        "rejected"
    )
)
_NOT_COMPARED = re.compile(r"\bnot compared with reference values\b", re.I)
_POSITION = re.compile(r"\b(within|above|below) the reference range\b", re.I)
_ABOUT_CASES = re.compile(r"\b(?:cases?|neighbou?rs?|archive|labell?(?:ed|s)?)\b", re.I)
_COVERAGE = re.compile(r"^\W*(?:confidence\s+|credible\s+|prediction\s+)?(?:interval|CI)\b", re.I)
_GRADABLE = re.compile(r"\b(?:un)?(?:gradab|assessab)\w*|\bvisible\b", re.I)
_STRUCTURE = {
    structure: re.compile(rf"\b(?:{pattern})\b", re.I)
    for structure, pattern in {
        "disc": r"optic (?:dis[ck]|nerve|cup)|dis[ck]s?|cups?|cupping|rims?",
        "macula": r"macula\w*|fovea\w*",
        "vessels": r"vessels?|vascul\w*|arter\w+|ven(?:ules?|ous)|veins?|tortuos\w+|fractal",
    }.items()
}


class Unsupported(Exception):
    """Why a sentence cannot stand."""


class Support:
    """Decides whether citations support what a stretch of text says."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

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
        if entries and self.facts.is_quoted(text, self.texts(entries), least=1.0):
            return carried
        mentioned = self._mentioned(text)
        quantity = mentioned[-1][0] if mentioned else carried
        whole, text = text, self.facts.without_cohort(text, pieces, {m[0] for m in mentioned})
        placed = text != whole
        printed = self._check_numbers(text, pieces, entries, mentioned, carried)
        found = self._check_findings(text, pieces, entries)
        graded = self._check_quality(text, pieces)
        quoted = self.facts.is_quoted(text, self.texts(stretch.cites), least=0.75)
        ranged = self._check_range(text, pieces, entries)
        text = self._without_cases(text, pieces)
        rest = self._without_names(text)
        if JUDGEMENT.search(rest) and not (quoted or ranged or DECLINE.search(text)):
            raise Unsupported("no cited result makes this judgement")
        self._check_severity(text, pieces, quoted=quoted)
        denied = sentences.NEGATORS.search(rest) and not DECLINE.search(text)
        if denied and not (found or graded or quoted):
            raise Unsupported("denies what it cites")
        self._check_words(text, stretch.cites)
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
        for _, start, end in sentences.phrases(text, self.facts.terms):
            text = text[:start] + " " * (end - start) + text[end:]
        return text

    def _check_advice(self, text: str, entries: Sequence[str]) -> None:
        if not entries:
            raise Unsupported("advice without a citation of the knowledge base")
        if not self.facts.is_quoted(text, self.texts(entries), least=1.0):
            raise Unsupported(f"[{entries[0]}] does not give this advice")

    def _check_quotation(self, text: str, entries: Sequence[str]) -> None:
        weighty = JUDGEMENT.search(text) or SEVERITY.search(text)
        if not self.facts.is_quoted(text, self.texts(entries), least=1.0 if weighty else 0.7):
            raise Unsupported(f"[{entries[0]}] does not say this")
        if _PATIENT.search(text) and not self.facts.is_quoted(text, self.texts(entries), least=1.0):
            raise Unsupported("says something about this eye, but cites general knowledge only")

    def _is_caveat(self, text: str, pieces: Sequence[Evidence]) -> bool:
        """Whether the stretch repeats a caveat of its evidence word for word."""
        caveats = [caveat.text for piece in pieces for caveat in piece.result.caveats]
        return self.facts.is_quoted(text.removeprefix("Note: "), caveats, least=1.0)

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
        touched = {name for name, pattern in _STRUCTURE.items() if pattern.search(text)}
        for key, _, _ in sentences.phrases(text, self.facts.names):
            structure = self.facts.knowledge.get(key).structure
            if structure:
                touched.add(structure)
        for piece in pieces:
            for handle in piece.images:
                barred = touched & self.facts.ungradable.get(handle, frozenset())
                if barred:
                    raise Unsupported(f"the quality check found the {min(barred)} not gradable")

    def _check_numbers(
        self,
        text: str,
        pieces: Sequence[Evidence],
        entries: Sequence[str],
        mentioned: Sequence[tuple[str, int, int]],
        carried: str | None,
    ) -> int:
        for case_id in self.facts.case_ids(pieces):
            text = text.replace(case_id, " " * len(case_id))
        details = [f.detail.rstrip(".") for piece in pieces for f in piece.result.findings]
        for detail in filter(None, details):  # its numbers are the tool's own words
            text = text.replace(detail, " " * len(detail))
        found, unread = sentences.numbers(text)
        if unread:
            raise Unsupported("a number in it cannot be read")
        values = [value for piece in pieces for value in self.facts.values(piece)]
        levels = set[float]().union(*(self.facts.levels(piece) for piece in pieces))
        near = frozenset(number.unit for number in found if number.unit)
        eyes = sentences.eyes(text)
        verified = 0
        for number in found:
            if number.unit == "%" and _COVERAGE.search(text[number.end :]):
                if number.value not in levels:
                    raise Unsupported(f"no interval of {number.value:g} % is cited")
                continue
            quantity = sentences.governing(mentioned, number) or carried
            counts = self._counts_of(text[number.end :])
            own = [value for value in values if value.quantity in counts]
            about = quantity or sentences.governing(self._findings_named(text, pieces), number)
            own = own or [v for v in values if about and _is_about(v.quantity, about)]
            if own:
                candidates = zoned(own, text)
            else:
                candidates = values if quantity is None else [v for v in values if not v.quantity]
            eye = sentences.governing(sentences.eyes_as_spans(eyes), number)
            candidates = [v for v in candidates if eye is None or v.eye in (None, eye)]
            if any(value.printed_as(number, near) for value in candidates):
                verified += 1
                continue
            if own or not self._in_words(number, (*pieces,), entries):
                printed = text[number.start : number.end].strip()
                where = ", ".join(f"[{piece.id}]" for piece in pieces)
                raise Unsupported(f"`{printed}` is not a value of {where}")
        return verified

    def _findings_named(self, text: str, pieces: Sequence[Evidence]) -> list[tuple[str, int, int]]:
        """Mentions of findings of the evidence that have numbers of their own."""
        concepts = {
            f.concept for p in pieces for f in p.result.findings if f.probability is not None
        }
        return sentences.phrases(text, self._names_of(concepts))

    def _names_of(self, concepts: Collection[str]) -> dict[tuple[str, ...], str]:
        """Every name of findings, by its tokens."""
        known: dict[tuple[str, ...], str] = {}
        for concept in concepts:
            entry = self.facts.knowledge.about_output(concept)
            names = [concept.replace("_", " "), *(entry.outputs.get(concept, ()) if entry else ())]
            if entry and entry.kind in ("condition", "finding"):
                names += [entry.name.en, *entry.synonyms.en]
            known.update({tokens(name): concept for name in names})
        return known

    def _counts_of(self, after: str) -> frozenset[str]:
        """Measurements that count what is named next: the 7 of `7 haemorrhages` is no other."""
        for key, start, _ in sentences.phrases(after, self.facts.terms):
            if len(after[:start].split()) <= 1:
                outputs = self.facts.knowledge.get(key).outputs
                return frozenset(name for name in outputs if name.endswith("_count"))
            break
        return frozenset()

    def _in_words(self, number: Number, pieces: Sequence[Evidence], entries: Sequence[str]) -> bool:
        cites = (*(piece.id for piece in pieces), *entries)
        return any(
            (number.value, number.unit) == (other.value, other.unit)
            for text in self.texts(cites)
            for other in sentences.numbers(sentences.without_citations(text))[0]
        )

    def _check_findings(self, text: str, pieces: Sequence[Evidence], entries: Sequence[str]) -> int:
        verified = 0
        findings = {f.concept: f for piece in pieces for f in piece.result.findings}
        for concept in ("eye", "field", "quality", *STRUCTURES.values()):
            findings.pop(concept, None)
        known = {**self.facts.terms, **self._names_of(findings)}
        measured = sentences.phrases(text, self.facts.quantities)
        for concept, start, end in sentences.phrases(text, known):
            if any(first < start and end <= last for _, first, last in measured):
                continue  # `number of haemorrhages` names a measurement, whatever it is
            finding = findings.get(concept)
            said = sentences.polarity(text, start, end)
            if finding is None:
                self._check_mention(text, concept, text[start:end], pieces, entries)
            elif said != finding.state:
                state = finding.state.replace("_", " ")
                raise Unsupported(f"`{text[start:end]}` is {state} in [{pieces[0].id}]")
            else:
                verified += 1
        return verified

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
        if f"K:{concept}" in entries or self.facts.is_quoted(text, self.texts(cites), least=0.75):
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
        for match in SEVERITY.finditer(text):
            if not quoted and _hyphened(match[0]) not in known:
                raise Unsupported(f"no cited grade is `{match[0]}`")

    def _check_words(self, text: str, cites: Sequence[str]) -> None:
        """Clinical words must occur in what is cited, or name a structure."""
        sources = _STRUCTURE_WORDS | set(tokens(" ".join(self.texts(cites))))
        for cite in cites:
            piece = self.facts.evidence.get(cite)
            if piece is None:
                continue
            names = [f.concept for f in piece.result.findings]
            names += [f.value or "" for f in piece.result.findings]
            names += [m.name for m in piece.result.measurements]
            names += [m.name for m in piece.result.not_measured]
            names += [a.name for a in piece.result.artifacts]
            names += [label for case in piece.result.similar for label in case.labels]
            for name in names:
                entry = self.facts.knowledge.about_output(name)
                phrases = (name.replace("_", " "), *(entry.names() if entry else ()))
                sources |= set(tokens(" ".join(phrases)))
        for match in CLINICAL.finditer(text):
            if not set(tokens(match[0])) <= sources:
                raise Unsupported(f"`{match[0]}` does not occur in what it cites")

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
            missing = {m.name for m in result.not_measured}
            if DECLINE.search(text) and missing & mentioned:
                return True
        return False


def _is_about(quantity: str, about: str) -> bool:
    """Whether a value is that quantity, or measures that finding: `drusen_count` of `drusen`."""
    return quantity == about or quantity.startswith(f"{about}_")


def _hyphened(word: str) -> str:
    return word.lower().replace(" ", "-")
