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

from fovea.contract import Finding, Measurement, Passage
from fovea.evidence import Evidence
from fovea.image import Eye
from fovea.llm.base import ImageFact
from fovea.llm.clause import Ask
from fovea.llm.lexicon import load_lexicon

_EYES: Mapping[Eye, str] = {"OD": "right eye (OD)", "OS": "left eye (OS)"}
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\d\"“])")
_ACRONYMS = {"dr": "DR", "cdr": "CDR", "avr": "AVR", "pdr": "PDR", "npdr": "NPDR", "av": "AV"}
_SHOWN = 3


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
def _words() -> dict[str, dict[str, str]]:
    source = files("fovea.llm").joinpath("words.toml").read_text(encoding="utf-8")
    return tomllib.loads(source)


def compose(steps: Sequence[Step], images: Sequence[ImageFact], notes: Sequence[str] = ()) -> str:
    """The answer of one turn: what was asked first, then one line of context.

    Args:
        steps: Calls of this turn in the order asked.
        images: Photographs of the session, to name eye and handle.
        notes: Sentences about what could not be called.
    """
    lines = [line for step in steps if (line := _answer(step, images))]
    caveat = _first_caveat(steps)
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
            return " ".join(cited(text, step.evidence.id, lead="Note: "))
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
    """The passage that answers best, word for word, and a second one when close."""
    lines = []
    for passage in passages[: 1 + (len(ask.concepts) > 1)]:
        lines.append(" ".join(cited(passage.text, f"K:{passage.entry_id}")))
    return "\n".join(lines)


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
        known = {"assess_quality": self._quality, "segment_vessels": self._masks}
        sentences = known.get(self.evidence.tool, self._measured_and_found)()
        if self.evidence.tool in {"explain_prediction", "compare_images"}:
            sentences = self._summary()
        if self.result.similar:
            sentences = self._similar()
        return " ".join(sentences or self._summary())

    # Kinds of answer ----------------------------------------------------------------

    def _summary(self) -> list[str]:
        lead = f"In {self.evidence.images[0]}: " if self._names_handle() else ""
        return cited(self.result.summary, self.evidence.id, lead=lead)

    def _quality(self) -> list[str]:
        findings = [self._finding(f) for f in self.result.findings]
        return findings[: 5 if not self._overview() else 2] or self._numbers()

    def _masks(self) -> list[str]:
        names = [a.name for a in self.result.artifacts if a.kind == "mask"]
        wanted = [c.aspect for c in self.concepts if c.aspect]
        picked = [n for n in names if any(n.startswith(a) for a in wanted)] or names
        if not picked:
            return self._measured_and_found()
        listed = _listed([spoken(name) for name in picked])
        return [f"The {listed}{self._where()} are outlined in the image view [{self.evidence.id}]."]

    def _measured_and_found(self) -> list[str]:
        findings = self._wanted_findings()
        numbers = self._numbers()
        if self.evidence.tool in {"classify_disease", "segment_lesions"}:
            sentences = [self._finding(f) for f in findings] + numbers
        else:
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
        return (
            f"The {name}{self._where(eye)}{zone} is {quantity(measurement)} [{self.evidence.id}]."
        )

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
        if finding.concept == "eye" and finding.value in {"OD", "OS"}:
            eye = _EYES["OD" if finding.value == "OD" else "OS"]
            body = f"The photograph{self._handle()} shows the {eye}{detail}"
        elif finding.value is not None and finding.state == "present":
            body = f"{_capital(name)}{where}: {finding.value.replace('_', ' ')}{detail}"
        elif finding.concept.startswith(("gradable", "ungradable")):
            said = {"present": "is", "absent": "is not"}.get(finding.state, "may or may not be")
            word, _, part = finding.concept.partition("_")
            subject = f"The {part.replace('_', ' ')}" if part else "The photograph"
            body = f"{subject}{where} {said} {word}{detail}"
        elif finding.state == "present":
            body = f"{_capital(name)} {_be(name)} present{where}{region}{chance}{detail}"
        elif finding.state == "absent":
            body = f"No {name} {_be(name, past=True)} found{where}{region}{chance}{detail}"
        elif finding.state == "indeterminate":
            body = f"Whether {name} {_be(name)} present{where} is uncertain{chance}{detail}"
        else:
            body = f"{_capital(name)}{where} could not be assessed{detail}"
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
        if eye is None and named and named.value in {"OD", "OS"}:
            return "OD" if named.value == "OD" else "OS"
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
        level = number(interval.level * 100)
        text += f" ({level} % interval {number(interval.low)} to {number(interval.high)}{suffix})"
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
    last = name.split()[-1]
    plural = last.endswith("s") and not last.endswith(("ss", "is", "us"))
    return ("were" if plural else "was") if past else ("are" if plural else "is")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _listed(names: Sequence[str]) -> str:
    if len(names) < 2:
        return "".join(names)
    return ", ".join(names[:-1]) + " and " + names[-1]
