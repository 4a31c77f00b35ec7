"""Short answers in plain words, composed from evidence alone.

Every sentence that makes a claim ends with its citation, and cites exactly the
evidence of its numbers: another module strikes what does not match.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from fovea.contract import Finding, Measurement, Passage
from fovea.evidence import Evidence
from fovea.image import Eye
from fovea.llm.base import ImageFact
from fovea.llm.clause import Ask
from fovea.llm.conditions import asked_conditions, not_judged
from fovea.llm.lesions import lesion_sentences
from fovea.llm.lexicon import load_lexicon

_EYES: Mapping[Eye, str] = {"OD": "right eye (OD)", "OS": "left eye (OS)"}
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\d\"“])")
_ACRONYMS = {"dr": "DR", "cdr": "CDR", "avr": "AVR", "pdr": "PDR", "npdr": "NPDR", "av": "AV",
             "etdrs": "ETDRS"}  # fmt: skip
_SHOWN = 3
_MEASURING = frozenset({"measure_biomarkers", "segment_optic_disc"})
_NOTE = "Note: "
_IS_A = {"present": "is", "absent": "is not", "indeterminate": "may or may not be"}


@dataclass(frozen=True)
class Step:
    """One call of this turn with its outcome.

    Attributes:
        evidence: What the tool found, or None.
        text: The tool message's text: the reason when the tool was refused.
        refused: Whether the tool gave no answer.
    """

    ask: Ask
    evidence: Evidence | None
    text: str
    refused: bool


@cache
def _table() -> dict[str, Any]:
    source = files("fovea.llm").joinpath("words.toml").read_text(encoding="utf-8")
    return tomllib.loads(source)


def _words() -> Mapping[str, Mapping[str, str]]:
    return _table()


def _sections() -> Sequence[Mapping[str, Any]]:
    """Kinds of passages with the words of a question that ask for them."""
    return _table()["passage"]  # type: ignore[no-any-return]


def compose(steps: Sequence[Step], images: Sequence[ImageFact], notes: Sequence[str] = ()) -> str:
    """The answer of one turn: what was asked first, then one line of context.

    Args:
        steps: Calls of this turn in the order asked.
        images: Photographs of the session, to name eye and handle.
        notes: Sentences about what could not be called.
    """
    lines = [line for step in steps if (line := _answer(step, images))]
    caveat = _first_caveat(steps)
    if caveat.removeprefix(_NOTE) in " ".join(lines):
        caveat = ""
    return "\n".join([*dict.fromkeys(lines), *([caveat] if caveat else []), *notes])


def _answer(step: Step, images: Sequence[ImageFact]) -> str:
    evidence = step.evidence
    if step.refused or evidence is None:
        return _plain(step.text) if step.text else f"`{step.ask.tool}` gave no answer."
    if evidence.result.passages:
        return _quoted(evidence.result.passages, step.ask)
    return _Composer(evidence, step.ask, images).answer()


def _plain(text: str) -> str:
    text = " ".join(text.split())
    return text if text.endswith((".", "!", "?", "]")) else text + "."


def _first_caveat(steps: Sequence[Step]) -> str:
    for step in steps:
        if step.evidence and step.evidence.result.caveats and not step.refused:
            text = step.evidence.result.caveats[0].text
            return " ".join(cited(text, step.evidence.id, lead=_NOTE))
    return ""


def cited(text: str, citation: str, *, lead: str = "") -> list[str]:
    """Each sentence of `text` with its citation before the full stop."""
    sentences = [part.strip() for part in _SENTENCE.split(" ".join(text.split())) if part.strip()]
    out = []
    for place, sentence in enumerate(sentences):
        body = sentence.rstrip(".!?")
        out.append(f"{lead if place == 0 else ''}{body} [{citation}].")
    return out


def _quoted(passages: Sequence[Passage], ask: Ask) -> str:
    """The passage of the best entry that answers the kind of question, word for word."""
    own = [passage for passage in passages if passage.entry_id == passages[0].entry_id]
    asked = set(ask.query.split())
    for section in _sections():
        if asked & set(section["words"]):
            fitting = [p for p in own if section["kind"] in p.title.lower()]
            if fitting:
                own = fitting
                break
    return " ".join(cited(own[0].text, f"K:{own[0].entry_id}"))


class _Composer:
    """Words the evidence of one call."""

    def __init__(self, evidence: Evidence, ask: Ask, images: Sequence[ImageFact]) -> None:
        self.evidence, self.result, self.ask = evidence, evidence.result, ask
        self.several = len(images) > 1
        self.eyes = {image.handle: image.eye for image in images}
        concepts = load_lexicon().concepts
        self.concepts = [concepts[name] for name in ask.concepts if name in concepts]

    def answer(self) -> str:
        """The sentences about this call."""
        if self.evidence.tool == "draft_report":
            return f"The draft report is ready [{self.evidence.id}]."
        drawn = dict.fromkeys(("segment_vessels", "place_grid"), self._masks)
        known = {
            "assess_quality": self._quality, "segment_lesions": self._lesions,
            "classify_disease": self._conditions, **drawn,
        }  # fmt: skip
        sentences = known.get(self.evidence.tool, self._measured_and_found)()
        if self.evidence.tool in {"explain_prediction", "compare_images"}:
            sentences = self._summary()
        far = any(caveat.code == "not_similar_enough" for caveat in self.result.caveats)
        if self.result.similar and not far:  # else the summary says that none is near enough
            sentences = self._similar()
        return " ".join(sentences or self._summary())

    # Kinds of answer ----------------------------------------------------------------

    def _summary(self) -> list[str]:
        lead = f"In {self.evidence.images[0]}: " if self._names_handle() else ""
        return cited(self.result.summary, self.evidence.id, lead=lead)

    def _quality(self) -> list[str]:
        if any(concept.measures for concept in self.concepts):
            return self._numbers()
        aspects = {concept.aspect for concept in self.concepts if concept.aspect}
        asked = [f for f in self.result.findings if f.concept in aspects]
        general = [f for f in self.result.findings if f.concept.startswith(("quality", "gradable"))]
        findings = asked or general or list(self.result.findings)
        refused = [f for f in self.result.findings if f.state == "absent" and f not in findings]
        sentences = [self._finding(f) for f in [*refused, *findings]]
        return sentences[: 1 if self._overview() else 5] or self._numbers()

    def _masks(self) -> list[str]:
        if any(concept.measures for concept in self.concepts):
            return self._numbers()
        names = [a.name for a in self.result.artifacts if a.kind == "mask"]
        wanted = [c.aspect for c in self.concepts if c.aspect]
        picked = [n for n in names if any(n.startswith(a) for a in wanted)] or names
        if not picked:
            return self._measured_and_found()
        listed = _listed([spoken(name) for name in picked])
        verb = "are" if len(picked) > 1 else _be(listed)
        return [
            f"The {listed}{self._where()} {verb} outlined in the image view [{self.evidence.id}]."
        ]

    def _lesions(self) -> list[str]:
        if self._overview():
            return self._summary()[:1]
        said = lesion_sentences(
            self.result, self.ask, where=self._where(), citation=self.evidence.id,
            tell=self._finding, quantity=quantity,
        )  # fmt: skip
        return said or self._summary()

    def _conditions(self) -> list[str]:
        judged, others = asked_conditions(self.result, self.ask)
        said = [not_judged(others)] if others else []
        if judged or others:
            said += [self._finding(f) for f in judged]
            grade = any(f.concept == "dr" for f in judged)
            return said + (self._numbers() if grade else [])
        findings = self._wanted_findings()
        # Of all that was judged, what is not ruled out comes first.
        order = ("present", "indeterminate", "not_assessable", "absent")
        findings = sorted(findings, key=lambda f: order.index(f.state))
        sentences = [self._finding(f) for f in findings] + self._numbers()
        return sentences[: 2 if self._overview() else 6]

    def _measured_and_found(self) -> list[str]:
        findings = self._wanted_findings()
        numbers = self._numbers()
        sentences = numbers + [self._finding(f) for f in findings if not numbers]
        return sentences[: 2 if self._overview() else 6]

    def _similar(self) -> list[str]:
        sentences = []
        for case in self.result.similar[:_SHOWN]:
            labels = f", labelled {_listed(list(case.labels))}" if case.labels else ", no label"
            closer = number(case.closeness_percentile)
            sentences.append(
                f"Case {case.case_id}{labels}, is closer than {closer} % of random pairs: "
                f"{case.why.rstrip('.')} [{self.evidence.id}]."
            )
        return sentences

    # Measurements -------------------------------------------------------------------

    def _numbers(self) -> list[str]:
        wanted = [start for concept in self.concepts for start in concept.measures]
        chosen = self._chosen(wanted)
        named = _listed([c.label for c in self.concepts if c.measures])
        answered = any(m.name.startswith(start) for m in chosen for start in wanted)
        known_missing = any(n.name.startswith(s) for n in self.result.not_measured for s in wanted)
        if named and self.evidence.tool in _MEASURING and not (answered or known_missing):
            return [f"I cannot measure the {named}."]
        missing = [
            f"The {spoken(n.name)}{self._where()} could not be measured: "
            f"{n.reason.rstrip('.')} [{self.evidence.id}]."
            for n in self.result.not_measured
            if any(n.name.startswith(start) for start in wanted) or not chosen
        ]
        return [self._measurement(m) for m in chosen] + missing[:_SHOWN]

    def _chosen(self, wanted: Sequence[str]) -> list[Measurement]:
        every = self.result.measurements
        aspects = [c.aspect for c in self.concepts if c.aspect]
        chosen = [m for start in wanted for m in every if m.name.startswith(start)]
        chosen += [m for m in every if any(a in m.name for a in aspects) and m not in chosen]
        asked_but_missing = any(
            n.name.startswith(start) for n in self.result.not_measured for start in wanted
        )
        if not chosen and not asked_but_missing:
            chosen = [m for m in every if not m.name.endswith(("_x", "_y"))]
        limit = 2 if self._overview() else _SHOWN if not wanted else 4
        return [m for place, m in enumerate(chosen) if m not in chosen[:place]][:limit]

    def _measurement(self, measurement: Measurement) -> str:
        eye = measurement.eye or self._eye()
        name = spoken(measurement.name)
        zone = f" in {measurement.zone.replace('_', ' ')}" if measurement.zone else ""
        cohort = f", {measurement.cohort.words}" if measurement.cohort else ""
        said = f"{quantity(measurement)}{cohort}"
        return f"The {name}{self._where(eye)}{zone} is {said} [{self.evidence.id}]."

    # Findings -----------------------------------------------------------------------

    def _wanted_findings(self) -> list[Finding]:
        aspects = [c.aspect or c.name for c in self.concepts]
        named = [f for f in self.result.findings if any(f.concept.startswith(a) for a in aspects)]
        return named or list(self.result.findings)

    def _finding(self, finding: Finding) -> str:
        name = spoken(finding.concept)
        chance = self._chance(finding)
        detail = f": {finding.detail.rstrip('.')}" if finding.detail else ""
        region = f" ({finding.region.replace('_', ' ')})" if finding.region else ""
        where = self._where()
        inside = where.replace(" of the ", " in the ", 1)
        if finding.concept == "eye" and finding.value in {"OD", "OS"}:
            eye = _EYES["OD" if finding.value == "OD" else "OS"]
            body = f"The photograph{self._handle()} shows the {eye}{detail}"
        elif finding.concept == "fundus_photograph" and finding.state in _IS_A:
            body = f"The picture{self._handle()} {_IS_A[finding.state]} a fundus photograph{detail}"
        elif finding.value is not None and finding.state == "present":
            body = f"{_capital(name)}{where}: {finding.value.replace('_', ' ')}{detail}"
        elif finding.concept.startswith(("gradable", "ungradable")):
            word, _, part = finding.concept.partition("_")
            verb = _be(part)
            said = {"present": verb, "indeterminate": "may not be"}.get(
                finding.state, f"{verb} not"
            )
            subject = f"The {part.replace('_', ' ')}" if part else "The photograph"
            body = f"{subject}{where} {said} {word}{detail}"
        elif finding.state == "present":
            body = f"{_capital(name)} {_be(name)} present{inside}{region}{chance}{detail}"
        elif finding.state == "absent":
            body = f"No {name} {_be(name, past=True)} found{inside}{region}{chance}{detail}"
        elif finding.state == "indeterminate":
            body = f"Whether {name} {_be(name)} present{inside} is uncertain{chance}{detail}"
        else:
            body = f"{_capital(name)}{inside} could not be assessed{detail}"
        return f"{body} [{self.evidence.id}]."

    def _chance(self, finding: Finding) -> str:
        if finding.probability is None:
            return ""
        kind = "probability" if finding.calibrated else "uncalibrated score"
        cut = f", threshold {number(finding.threshold)}" if finding.threshold is not None else ""
        return f" ({kind} {number(finding.probability)}{cut})"

    # Where --------------------------------------------------------------------------

    def _eye(self) -> Eye | None:
        if len(self.evidence.images) != 1:
            return None
        eye = self.eyes.get(self.evidence.images[0])
        named = self.result.finding("eye")
        if named and named.value in _EYES and named.value != eye:
            # A label that contradicts the picture: a caveat says so, and neither eye is named.
            return None if eye else "OD" if named.value == "OD" else "OS"
        return eye

    def _names_handle(self) -> bool:
        return self.several and len(self.evidence.images) == 1

    def _handle(self) -> str:
        return f" {self.evidence.images[0]}" if self._names_handle() else ""

    def _where(self, eye: Eye | None = None) -> str:
        eye = eye or self._eye()
        named = f" of the {_EYES[eye]}" if eye else ""
        return named + (f" in {self.evidence.images[0]}" if self._names_handle() else "")

    def _overview(self) -> bool:
        return "describe" in self.ask.concepts


def spoken(name: str) -> str:
    """A measurement, finding or mask name in plain words."""
    words = _words()
    known = words["measurement"].get(name) or words["finding"].get(name)
    return known or " ".join(_ACRONYMS.get(part, part) for part in name.split("_"))


def quantity(measurement: Measurement) -> str:
    """A value with its unit and interval: `0.42 (95 % interval 0.36 to 0.49)`."""
    if measurement.name == "dr_grade":
        grade = f"{measurement.value:.0f}"
        meaning = _words()["dr_grade"].get(grade)
        return f"{grade} ({meaning})" if meaning else grade
    unit = _words()["unit"].get(measurement.unit, measurement.unit)
    suffix = unit if unit in {"", "°"} else f" {unit}"
    text = number(measurement.value) + suffix
    if interval := measurement.interval:
        kind = f"{number(interval.level * 100)} % interval" if interval.level else "range"
        text += f" ({kind} {number(interval.low)} to {number(interval.high)}{suffix})"
    return text


def number(value: float) -> str:
    """A number at a precision that suits its size.

    >>> number(0.4234), number(12.34), number(3.0), number(0.0123)
    ('0.42', '12.3', '3', '0.012')
    """
    if float(value).is_integer():
        return f"{value:.0f}"
    size = abs(value)
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 0.1 else 3
    return f"{value:.{decimals}f}"


def _be(name: str, *, past: bool = False) -> str:
    last = (name.split() or [""])[-1]
    plural = last.endswith("s") and not last.endswith(("ss", "is", "us"))
    return ("were" if plural else "was") if past else ("are" if plural else "is")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return ", ".join(names[:-1]) + " and " + names[-1]
