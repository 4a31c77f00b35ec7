"""Keeps only sentences that cited evidence or cited knowledge supports.

The check is deterministic and uses no language model. It serves the report and
the chat alike. A sentence is a claim when it holds a number, an eye, a name of
the knowledge base, a clinical word, a judgement such as `normal`, or advice.
Claims must end in citations; each stretch of a sentence answers to the
citations that end it. Everything else passes: greetings, questions, requests,
what Fovea can do, and that something could not be measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fovea.evidence import Evidence, ImageRecord
from fovea.knowledge import Knowledge
from fovea.knowledge.search import tokens
from fovea.report import sentences
from fovea.report.claims import ADVICE, CLINICAL, DECLINE, JUDGEMENT, QUALITY_WORDS, Claims
from fovea.report.facts import STRUCTURES, Facts, Value, is_bad, is_quoted
from fovea.report.sentences import Number, Piece, Segment

_LINK = re.compile(r"https?://|www\.|!\[|\]\(|<\s*/?\s*[a-z!]", re.I)
_PATIENT = re.compile(
    r"\b(?:your|you have|this (?:eye|patient|person|image|photograph|picture|retina|disc)|"
    r"the patient|the (?:right|left) eye|img\d+)\b",
    re.I,
)
_TRAILING = re.compile(r"[ \t]+$", re.M)
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


@dataclass(frozen=True)
class Struck:
    """A sentence that was taken out, and why."""

    sentence: str
    reason: str


@dataclass(frozen=True)
class Checked:
    """The text that is left, and what was struck."""

    kept: str
    struck: tuple[Struck, ...]


class _Unsupported(Exception):
    """Why a sentence cannot stand."""


def check_text(
    text: str,
    evidence: Sequence[Evidence],
    knowledge: Knowledge,
    *,
    images: Sequence[ImageRecord] = (),
    refused: Mapping[str, str] | None = None,
) -> Checked:
    """The text without the sentences that nothing supports.

    Args:
        text: Prose or markdown with citations `[E2]` and `[K:b_vcdr]`.
        evidence: All evidence of the session.
        knowledge: The knowledge base that `[K:id]` points into.
        images: What is known about the photographs, for eyes named by a person.
        refused: Tool to the reason why it gave no answer; such a reason may be repeated.
    """
    checker = _Checker(Facts(evidence, knowledge, images), tuple((refused or {}).values()))
    pieces = sentences.split(text)
    kept: list[Piece] = []
    struck = []
    emptied = set()
    for position, piece in enumerate(pieces):
        try:
            checker.judge(piece.text, _closing(pieces, position))
        except _Unsupported as reason:
            struck.append(Struck(piece.text, str(reason)))
            emptied.add(piece.line)
            if not piece.before.strip():
                kept.append(Piece(piece.before, "", piece.line))
            continue
        kept.append(piece)
    filled = {piece.line for piece in kept if piece.text}
    parts = [p.before + p.text for p in kept if p.line not in emptied or p.line in filled]
    left = "".join(parts)
    return Checked(_TRAILING.sub("", left).strip() if struck else left.strip(), tuple(struck))


def _closing(pieces: list[Piece], position: int) -> tuple[str, ...]:
    """The citations that end the run of sentences in which this one stands."""
    line = pieces[position].line
    for piece in pieces[position:]:
        if piece.line != line:
            break
        stretches, _ = sentences.segments(piece.text)
        if stretches:
            return stretches[-1].cites
    return ()


class _Checker:
    def __init__(self, facts: Facts, reasons: tuple[str, ...]) -> None:
        self.facts = facts
        spoken = [*reasons]
        for piece in facts.evidence.values():
            spoken += [missing.reason for missing in piece.result.not_measured]
        self._claims = Claims(facts, spoken)

    def judge(self, sentence: str, closing: tuple[str, ...]) -> None:
        """Returns when the sentence may stand; raises `_Unsupported` otherwise."""
        if not sentence:
            return
        body = sentences.without_citations(sentence).strip(" *_#>\t")
        if _LINK.search(body):
            raise _Unsupported("links and markup are not allowed")
        stretches, tail = sentences.segments(sentence)
        for identifier in (cite for stretch in stretches for cite in stretch.cites):
            self._must_exist(identifier)
        if not self._claims.is_claim(body) or self._claims.is_exempt(body):
            return
        if not stretches:
            # One citation may end a quotation of several sentences.
            known = bool(closing) and all(self._exists(cite) for cite in closing)
            if not known or not is_quoted(body, self._texts(closing), least=1.0):
                raise _Unsupported("no citation")
            self._check(Segment(body, closing), carried=None)
            return
        if self._claims.is_claim(tail):
            raise _Unsupported("the sentence does not end in its citation")
        carried: str | None = None
        for stretch in stretches:
            carried = self._check(stretch, carried=carried)

    # Citations

    def _exists(self, identifier: str) -> bool:
        if identifier.startswith("K:"):
            return identifier[2:] in self.facts.knowledge.entries
        return identifier in self.facts.evidence

    def _must_exist(self, identifier: str) -> None:
        if not self._exists(identifier):
            raise _Unsupported(f"cites [{identifier}], which does not exist")

    def _texts(self, cites: Sequence[str]) -> list[str]:
        texts = []
        for cite in cites:
            if cite.startswith("K:"):
                texts += self.facts.entry_texts(cite[2:])
            else:
                texts += self.facts.evidence_texts(self.facts.evidence[cite])
        return texts

    # One cited stretch

    def _check(self, stretch: Segment, *, carried: str | None) -> str | None:
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
        self._check_eyes(text, pieces)
        self._check_gradable(text, pieces)
        if entries and is_quoted(text, self._texts(entries), least=1.0):
            return carried
        mentioned = sentences.phrases(text, self.facts.quantities)
        quantity = mentioned[-1][0] if mentioned else carried
        verified = self._check_numbers(text, pieces, entries, mentioned, carried)
        verified += self._check_findings(text, pieces, entries)
        verified += self._check_quality(text, pieces)
        quoted = is_quoted(text, self._texts(stretch.cites), least=0.75)
        if JUDGEMENT.search(text) and not quoted:
            raise _Unsupported("no cited result judges what is normal")
        self._check_words(text, stretch.cites)
        if not (verified or quoted or self._named_result(text, pieces)):
            raise _Unsupported(f"nothing in it can be checked against [{pieces[0].id}]")
        return quantity

    def _check_advice(self, text: str, entries: Sequence[str]) -> None:
        if not entries:
            raise _Unsupported("advice without a citation of the knowledge base")
        if not is_quoted(text, self._texts(entries), least=0.6):
            raise _Unsupported(f"[{entries[0]}] does not give this advice")

    def _check_quotation(self, text: str, entries: Sequence[str]) -> None:
        if not is_quoted(text, self._texts(entries), least=0.6):
            raise _Unsupported(f"[{entries[0]}] does not say this")
        if _PATIENT.search(text) and not is_quoted(text, self._texts(entries), least=1.0):
            raise _Unsupported("says something about this eye, but cites general knowledge only")

    def _check_images(self, text: str, pieces: Sequence[Evidence]) -> None:
        for handle in re.findall(r"\bimg\d+\b", text):
            if not any(handle in piece.images for piece in pieces):
                raise _Unsupported(f"[{pieces[0].id}] is not about `{handle}`")

    def _check_eyes(self, text: str, pieces: Sequence[Evidence]) -> None:
        named = {eye for eye, _ in sentences.eyes(text)}
        known = frozenset[str]().union(*(self.facts.eyes_of(piece) for piece in pieces))
        for eye in sorted(named - known):
            side = "right" if eye == "OD" else "left"
            raise _Unsupported(f"names the {side} eye, which [{pieces[0].id}] is not about")

    def _check_gradable(self, text: str, pieces: Sequence[Evidence]) -> None:
        if _GRADABLE.search(text) or DECLINE.search(text):
            return  # compared with the quality findings themselves
        touched = {name for name, pattern in _STRUCTURE.items() if pattern.search(text)}
        for key, _, _ in sentences.phrases(text, self.facts.names):
            structure = self.facts.knowledge.get(key).structure
            if structure:
                touched.add(structure)
        for piece in pieces:
            for handle in piece.images:
                barred = touched & self.facts.ungradable.get(handle, frozenset())
                if barred:
                    raise _Unsupported(f"the quality check found the {min(barred)} not gradable")

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
        found, unread = sentences.numbers(text)
        if unread:
            raise _Unsupported("a number in it cannot be read")
        values = [value for piece in pieces for value in self.facts.values(piece)]
        levels = set[float]().union(*(self.facts.levels(piece) for piece in pieces))
        near = frozenset(number.unit for number in found if number.unit)
        eyes = sentences.eyes(text)
        verified = 0
        for number in found:
            if number.unit == "%" and _COVERAGE.search(text[number.end :]):
                if number.value not in levels:
                    raise _Unsupported(f"no interval of {number.value:g} % is cited")
                continue
            quantity = _governing(mentioned, number) or carried
            own = [value for value in values if value.quantity == quantity]
            if own:
                candidates = _zoned(own, text)
            else:
                candidates = values if quantity is None else [v for v in values if not v.quantity]
            eye = _governing(eyes_as_spans(eyes), number)
            candidates = [v for v in candidates if eye is None or v.eye in (None, eye)]
            if any(value.printed_as(number, near) for value in candidates):
                verified += 1
                continue
            if own or not self._in_words(number, (*pieces,), entries):
                printed = text[number.start : number.end].strip()
                where = ", ".join(f"[{piece.id}]" for piece in pieces)
                raise _Unsupported(f"`{printed}` is not a value of {where}")
        return verified

    def _in_words(self, number: Number, pieces: Sequence[Evidence], entries: Sequence[str]) -> bool:
        cites = (*(piece.id for piece in pieces), *entries)
        return any(
            (number.value, number.unit) == (other.value, other.unit)
            for text in self._texts(cites)
            for other in sentences.numbers(sentences.without_citations(text))[0]
        )

    def _check_findings(self, text: str, pieces: Sequence[Evidence], entries: Sequence[str]) -> int:
        verified = 0
        findings = {f.concept: f for piece in pieces for f in piece.result.findings}
        for concept in ("eye", "field", "quality", *STRUCTURES.values()):
            findings.pop(concept, None)
        known = dict(self.facts.terms)
        for concept in findings:
            entry = self.facts.knowledge.about_output(concept)
            names = [concept.replace("_", " "), *(entry.outputs.get(concept, ()) if entry else ())]
            known.update({tokens(name): concept for name in names})
        for concept, start, end in sentences.phrases(text, known):
            finding = findings.get(concept)
            said = sentences.polarity(text, start, end)
            if finding is None:
                self._check_mention(text, concept, text[start:end], pieces, entries)
            elif said != finding.state:
                state = finding.state.replace("_", " ")
                raise _Unsupported(f"`{text[start:end]}` is {state} in [{pieces[0].id}]")
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
        if f"K:{concept}" in entries or is_quoted(text, self._texts(cites), least=0.75):
            return
        raise _Unsupported(f"`{name}` is not a finding of [{pieces[0].id}]")

    def _check_quality(self, text: str, pieces: Sequence[Evidence]) -> int:
        verified = 0
        for piece in pieces:
            quality = piece.result.finding("quality")
            words = QUALITY_WORDS & {word.lower() for word in re.findall(r"[A-Za-z]+", text)}
            if quality and quality.value and words:
                if {word.removesuffix("ed") for word in words} != {quality.value}:
                    raise _Unsupported(f"the image quality is `{quality.value}` in [{piece.id}]")
                start = text.lower().index(min(words))
                if sentences.polarity(text, start, start + len(min(words))) != "present":
                    raise _Unsupported(f"the image quality is `{quality.value}` in [{piece.id}]")
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
                        raise _Unsupported(f"[{piece.id}] says otherwise about the {structure}")
                    verified += 1
        return verified

    def _check_words(self, text: str, cites: Sequence[str]) -> None:
        """Clinical words must occur in what is cited, or name a structure."""
        sources = set(tokens(" ".join(self._texts(cites))))
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
        sources |= set(tokens("retina fundus disc optic nerve vessel macula fovea grade graded "
                              "gradable ungradable"))  # fmt: skip
        for match in CLINICAL.finditer(text):
            if not set(tokens(match[0])) <= sources:
                raise _Unsupported(f"`{match[0]}` does not occur in what it cites")

    def _named_result(self, text: str, pieces: Sequence[Evidence]) -> bool:
        """Whether the stretch names an eye, picture, gap or case that the evidence holds."""
        words = set(tokens(text))
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
            missing = {m.name for m in result.not_measured}
            if DECLINE.search(text) and any(
                key in missing for key, _, _ in sentences.phrases(text, self.facts.quantities)
            ):
                return True
        return False


def eyes_as_spans(eyes: Sequence[tuple[str, int]]) -> list[tuple[str, int, int]]:
    """Eye mentions in the form of phrases."""
    return [(eye, start, start + 2) for eye, start in eyes]


def _governing(mentions: Sequence[tuple[str, int, int]], number: Number) -> str | None:
    """The mention that a number belongs to: the last one before it, else the first after."""
    before = [key for key, start, _ in mentions if start < number.start]
    if before:
        return before[-1]
    return mentions[0][0] if mentions else None


def _zoned(values: list[Value], text: str) -> list[Value]:
    """The values of the zone that the text names; whole-field values when it names none."""
    lowered = text.lower()
    zones = {v.zone for v in values if v.zone and v.zone.replace("_", " ") in lowered}
    if zones:
        return [value for value in values if value.zone in zones]
    return [value for value in values if value.zone is None] or values
