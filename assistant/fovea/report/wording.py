"""Turns single facts into sentences that end in their citation."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fovea.contract import Finding, Measurement, Neighbour, NotMeasured
from fovea.evidence import Evidence
from fovea.image import Eye
from fovea.knowledge import Entry, Knowledge
from fovea.report.facts import disc_diameter_mm
from fovea.report.model import Fact, Row, Sentence

EYE_NAMES: dict[Eye, str] = {"OD": "right eye (OD)", "OS": "left eye (OS)"}
_UNITS = {"1": "", "um": " µm", "um2": " µm²", "mm2": " mm²", "px2": " px²", "deg": "°",
          "[DD]": " disc diameters"}  # fmt: skip
_POSITIONS = ("_x", "_y")
_IS_A = {"present": "is", "absent": "is not", "indeterminate": "may or may not be"}


def printed(value: float, unit: str) -> str:
    """A number at three significant digits, ratios at two decimals or more."""
    if float(value).is_integer() or abs(value) >= 100:
        text = f"{value:.0f}"
    elif unit == "1" and abs(value) >= 0.2:
        text = f"{value:.2f}"
    else:
        text = f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.6f}"
    return text + _UNITS.get(unit, f" {unit}")


def name_of(output: str, knowledge: Knowledge) -> str:
    """A plugin output in words: the first phrase of its entry, else its own name."""
    entry = knowledge.about_output(output)
    known = entry.outputs.get(output, ()) if entry else ()
    if known:
        return known[0]
    if entry and entry.id == output:
        return entry.name.en[0].lower() + entry.name.en[1:]
    return output.replace("_", " ")


class Worder:
    """Words facts of one report; names the photograph when there are several."""

    def __init__(self, knowledge: Knowledge, eyes: dict[str, Eye | None]) -> None:
        self._knowledge, self._eyes = knowledge, eyes

    def place(self, piece: Evidence, eye: Eye | None = None, *, joint: str = "of") -> str:
        """` of the right eye (OD) in img1`, as far as known and needed."""
        eye = eye or (self._eyes.get(piece.images[0]) if len(piece.images) == 1 else None)
        seen = piece.result.finding("eye")
        if seen and seen.value in EYE_NAMES and seen.value != eye:
            eye = None  # the label contradicts the picture: the header says so, prose names neither
        words = f" {joint} the {EYE_NAMES[eye]}" if eye else ""
        if len(piece.images) == 2:
            words += f" from {piece.images[0]} to {piece.images[1]}"
        elif len(self._eyes) > 1 and piece.images:
            words += f" in {piece.images[0]}"
        return words

    def measurement(self, piece: Evidence, m: Measurement) -> Sentence:
        """A value with unit, interval and eye: `The … of the right eye (OD) is 0.42 [E3].`."""
        value = printed(m.value, m.unit)
        if m.interval:
            low, high = (printed(end, m.unit) for end in (m.interval.low, m.interval.high))
            level = m.interval.level
            kind = f"{level * 100:g} % interval" if level else "range"
            value += f" ({kind} {low} to {high})"
        zone = f" in {region(m.zone)}" if m.zone else ""
        name = name_of(m.name, self._knowledge)
        return Sentence(
            text=f"The {name}{self.place(piece, m.eye)}{zone} is {value} [{piece.id}].",
            evidence=(piece.id,),
            facts=(
                Fact(
                    kind="measurement", name=m.name, value=m.value, unit=m.unit, zone=m.zone,
                    low=m.interval.low if m.interval else None,
                    high=m.interval.high if m.interval else None,
                    eye=m.eye, image=_image(piece), text=m.method,
                ),
            ),
        )  # fmt: skip

    def missing(self, piece: Evidence, gap: NotMeasured) -> Sentence:
        """A gap and its reason: `The … could not be measured: … [E5].`."""
        name = name_of(gap.name, self._knowledge)
        reason = gap.reason.rstrip(".")
        return Sentence(
            text=f"The {name}{self.place(piece)} could not be measured: {reason} [{piece.id}].",
            evidence=(piece.id,),
            facts=(Fact(kind="not_measured", name=gap.name, text=gap.reason, image=_image(piece)),),
        )

    def finding(self, piece: Evidence, f: Finding) -> Sentence:
        """A finding with its polarity, and probability where there is one."""
        name, where = name_of(f.concept, self._knowledge), self.place(piece)
        inside = self.place(piece, joint="in")
        handle = f" {piece.images[0]}" if len(self._eyes) > 1 else ""
        if f.concept == "eye" and f.value in ("OD", "OS"):
            side = EYE_NAMES["OD" if f.value == "OD" else "OS"]
            said = f"The photograph{handle} shows the {side}"
        elif f.concept == "fundus_photograph" and f.state in _IS_A:
            said = f"The picture{handle} {_IS_A[f.state]} a {name}"
        elif f.concept.startswith("gradable_"):
            part = f.concept.removeprefix("gradable_")
            verb = "are" if part.endswith("s") else "is"
            negation = {"present": "", "indeterminate": " perhaps"}.get(f.state, " not")
            said = f"The {part}{where} {verb}{negation} gradable"
        elif f.state == "present" and f.value:
            value = "rejected" if f.value == "reject" else f.value.replace("_", " ")
            said = f"The {name}{where} is {value}"
        elif f.state == "not_assessable":
            said = f"The finding `{name}`{inside} could not be assessed"
        else:
            said = f"The finding `{name}` is {f.state}{inside}"
        if f.probability is not None:
            kind = "probability" if f.calibrated else "uncalibrated score"
            said += f" ({kind} {printed(f.probability, '1')})"
        detail = f": {f.detail.rstrip('.')}" if f.detail else ""
        return Sentence(
            text=f"{said}{detail} [{piece.id}].",
            evidence=(piece.id,),
            facts=(
                Fact(
                    kind="finding", name=f.concept, state=f.state, text=f.value,
                    value=f.probability, image=_image(piece),
                ),
            ),
        )  # fmt: skip

    def case(self, piece: Evidence, case: Neighbour) -> Sentence:
        """One similar case of the archive."""
        labels = f", labelled {', '.join(case.labels)}," if case.labels else ", without a label,"
        near = f"{case.closeness_percentile:.1f}"
        return Sentence(
            text=f"Case {case.case_id}{labels} is closer than {near} % of random pairs: "
            f"{case.why.rstrip('.')} [{piece.id}].",
            evidence=(piece.id,),
            facts=(
                Fact(
                    kind="case", name=case.case_id, value=case.closeness_percentile, unit="%",
                    text=", ".join(case.labels), image=_image(piece),
                ),
            ),
        )  # fmt: skip

    def caveats(self, pieces: Iterable[Evidence]) -> list[Sentence]:
        """Every caveat once, with all evidence that carries it."""
        ids: dict[str, list[str]] = {}
        for piece in pieces:
            for caveat in piece.result.caveats:
                ids.setdefault(caveat.text, []).append(piece.id)
        return [quoted(text, tuple(dict.fromkeys(found))) for text, found in ids.items()]

    def comparison(self, piece: Evidence, m: Measurement, entry: Entry) -> Sentence:
        """Where a biomarker lies in one's cohort or its method's range, if it was compared."""
        name, where = name_of(m.name, self._knowledge), self.place(piece, m.eye)
        result = self._knowledge.compare_to_range(
            entry.id, m.value, output=m.name, method=m.method,
            disc_diameter_mm=disc_diameter_mm(piece),
        )  # fmt: skip
        where += f" in {region(m.zone)}" if m.zone else ""
        said = "was not compared with reference values"
        state: str = result.position or "not_compared"
        if m.cohort is not None:
            said, state = f"is {m.cohort.words}", "cohort"
        elif result.position is not None:
            said = f"is {result.position} the reference range"
        return Sentence(
            text=f"The {name}{where} {said} [{piece.id}][K:{entry.id}].",
            evidence=(piece.id,),
            knowledge=(entry.id,),
            facts=(
                Fact(
                    kind="comparison", name=m.name, value=m.value, unit=m.unit, low=result.low,
                    high=result.high, state=state,
                    text=m.cohort.words if m.cohort else result.reason, eye=m.eye,
                    image=_image(piece), zone=m.zone,
                ),
            ),
        )  # fmt: skip

    def not_compared(self, comparisons: Iterable[Sentence]) -> tuple[Row, ...]:
        """A row per biomarker that has no reference value of its own method, with the reason."""
        rows = {}
        for sentence in comparisons:
            fact = sentence.facts[0]
            name = f"{name_of(fact.name, self._knowledge)} {fact.eye or ''}".rstrip()
            where = f", {region(fact.zone)}" if fact.zone else ""
            where += f", {fact.image}" if len(self._eyes) > 1 else ""
            cites = "".join(f"[{i}]" for i in sentence.evidence)
            value = printed(fact.value or 0.0, fact.unit or "1")
            name = name[:1].upper() + name[1:]
            rows[name + where] = f"{value} {cites}, not compared: {fact.text}"
        return tuple(Row(label=label, value=value) for label, value in rows.items())


def quoted(text: str, evidence: tuple[str, ...] = (), knowledge: tuple[str, ...] = ()) -> Sentence:
    """Words of the evidence or of the knowledge base, cited."""
    cites = "".join(f"[{i}]" for i in evidence) + "".join(f"[K:{i}]" for i in knowledge)
    return Sentence(
        text=f"{text.rstrip('.')} {cites}.",
        evidence=evidence,
        knowledge=knowledge,
        facts=tuple(Fact(kind="statement", name=i, text=text) for i in (*evidence, *knowledge)),
    )


def plain_quotes(text: str) -> str:
    """Names between typographic quotes, for formats where a back tick means nothing."""
    return re.sub(r"`([^`]+)`", "\u2018\\1\u2019", text)


def region(zone: str) -> str:
    """A part of the field in words: `zone B`, `ETDRS inner nasal`."""
    words = zone.replace("_", " ").replace("etdrs", "ETDRS")
    return re.sub(r"\bzone ([a-z])$", lambda match: f"zone {match[1].upper()}", words)


def is_position(name: str) -> bool:
    """Whether a measurement is a coordinate, which belongs to the data and not to prose."""
    return name.endswith(_POSITIONS)


def _image(piece: Evidence) -> str | None:
    return piece.images[0] if len(piece.images) == 1 else None
