"""Two narrators for `planted_errors.py`: correct sentences in wordings of their own.

They know the evidence and the names of the knowledge base, and nothing of the checker.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from random_evidence import Session, SessionMaker

from fovea.evidence import Evidence
from fovea.knowledge import Knowledge
from fovea.report.model import Fact, Sentence

PRINTED_UNITS = {"um": "µm", "px": "px", "%": "%"}
UNIT_WORDS = {"um": "micrometres", "px": "pixels", "%": "per cent"}
EYE_WORDS = {
    "OD": ("the right eye", "OD", "the RIGHT eye", "the right fundus"),
    "OS": ("the left eye", "OS", "the LEFT eye", "the left fundus"),
}
GATE = ("eye", "field", "quality", "fundus_photograph", "gradable_disc", "gradable_macula",
        "gradable_vessels")  # fmt: skip


def piece_of(sentence: Sentence, session: Session) -> Evidence | None:
    """The first piece of evidence that a sentence cites."""
    return next((p for p in session.evidence if p.id in sentence.evidence), None)


def called_in_words(name: str, knowledge: Knowledge) -> str | None:
    entry = knowledge.about_output(name)
    if entry is None:
        return None
    return entry.outputs[name][0] if entry.outputs.get(name) else entry.name.en.lower()


def narrate(session: Session, report_sentences: list[Sentence], maker: SessionMaker,
            knowledge: Knowledge) -> Iterator[Sentence]:  # fmt: skip
    """The facts of a compiled report in other words; only what is told there is told here."""
    pieces = {piece.id: piece for piece in session.evidence}
    for sentence in report_sentences:
        fact = sentence.facts[0]
        piece = pieces.get(sentence.evidence[0]) if sentence.evidence else None
        text = None
        if piece is not None and fact.kind == "measurement":
            text = _measured(sentence, piece, maker, knowledge)
        elif piece is not None and fact.kind == "finding" and len(session.images) == 1:
            text = _found(sentence, piece, maker, knowledge)
        if text:
            yield sentence.model_copy(update={"text": text})


def _measured(
    sentence: Sentence, piece: Evidence, maker: SessionMaker, knowledge: Knowledge
) -> str | None:
    fact = sentence.facts[0]
    called = called_in_words(fact.name, knowledge)
    unit = PRINTED_UNITS.get(fact.unit or "", "")
    if called is None or fact.value is None or (fact.unit != "1" and not unit):
        return None
    value = f"{fact.value:.2f}" if fact.unit == "1" else f"{fact.value:.0f}"
    if fact.unit == "1" and float(fact.value).is_integer():
        value = f"{fact.value:.0f}"
    value = f"{value} {unit}".strip()
    side = {"OD": "right", "OS": "left", None: None}[fact.eye]
    zone = f" in {fact.zone.replace('_', ' ')}" if fact.zone else ""
    of = f" of the {side} eye" if side else ""
    forms = [
        f"The {called}{of}{zone} was measured as {value}",
        f"A value of {value} was found for the {called}{of}{zone}",
        f"The measured {called}{of}{zone} amounts to {value}",
    ]
    if side and not zone:
        forms.append(f"{fact.eye}: {called} {value}")
        forms.append(f"In the {side} eye the {called} comes to {value}")
    return f"{maker.rng.choice(forms)} [{piece.id}]."


def _found(
    sentence: Sentence, piece: Evidence, maker: SessionMaker, knowledge: Knowledge
) -> str | None:
    fact = sentence.facts[0]
    entry = knowledge.about_output(fact.name)
    if entry is None or entry.kind not in ("condition", "finding"):
        return None
    name = maker.rng.choice((called_in_words(fact.name, knowledge), entry.name.en))
    forms = {
        "present": ("{} is present", "{} was seen", "The photograph shows {}"),
        "absent": ("{} is absent", "No {} was found", "There is no sign of {}"),
        "indeterminate": ("Whether there is {} is uncertain", "{} may be present"),
        "not_assessable": ("{} could not be assessed",),
    }
    if fact.state not in forms:
        return None
    said = maker.rng.choice(forms[fact.state]).format(name)
    return f"{said[:1].upper()}{said[1:]} [{piece.id}]."


def narrate_freely(
    session: Session, told: list[Sentence], rng: Random, knowledge: Knowledge
) -> Iterator[Sentence]:
    """Units in words, zones, two facts in one sentence, hedges: all of it true."""
    one_image = len(session.images) == 1
    for sentence in told:
        fact, piece = sentence.facts[0], piece_of(sentence, session)
        called = called_in_words(fact.name, knowledge)
        if piece is None or called is None or len(piece.images) > 1:
            continue
        cite = f"[{piece.id}]"
        text = None
        if fact.kind == "measurement" and fact.value is not None:
            unit = UNIT_WORDS.get(fact.unit or "")
            where = f" of {rng.choice(EYE_WORDS[fact.eye])}" if fact.eye else ""
            zone = f" in {fact.zone.replace('_', ' ')}" if fact.zone else ""
            if unit:
                text = f"The {called}{where}{zone} is about {fact.value:.0f} {unit} {cite}."
            elif fact.unit == "1" and not fact.value.is_integer():
                text = f"With {fact.value:.2f}, the {called}{where}{zone} has been measured {cite}."
        elif fact.kind == "finding" and one_image and fact.name not in GATE:
            text = _hedged(fact.state, called, rng)
            text = f"{text} {cite}." if text else None
        if text:
            yield sentence.model_copy(update={"text": text})
    yield from _by_quadrant(session, rng, knowledge)
    if one_image:
        yield from _pairs(session, rng, knowledge)


def _hedged(state: str | None, called: str, rng: Random) -> str | None:
    forms = {
        "present": ("The findings include {}", "{} can be seen"),
        "absent": ("The photograph shows no {}", "{} was not seen"),
        "indeterminate": ("{} cannot be excluded", "{} is suspected", "There is possibly {}"),
    }
    if state not in forms:
        return None
    said = rng.choice(forms[state]).format(called)
    return said[:1].upper() + said[1:]


def _by_quadrant(session: Session, rng: Random, knowledge: Knowledge) -> Iterator[Sentence]:
    """Counts by quadrant, which the report itself keeps in a table."""
    barred = {
        handle
        for piece in session.evidence
        for finding in piece.result.findings
        for handle in piece.images
        if (finding.concept.startswith("gradable_") and finding.state != "present")
        or (finding.concept == "fundus_photograph" and finding.state != "present")
        or finding.value == "reject"
    }
    for piece in session.evidence:
        for m in piece.result.measurements:
            if m.zone and m.name.endswith("_quadrant_count") and not barred & set(piece.images):
                called = called_in_words(m.name, knowledge)
                text = f"The {called} in the {m.zone} quadrant is {m.value:.0f} [{piece.id}]."
                fact = Fact(kind="measurement", name=m.name, value=m.value, unit="1", zone=m.zone)
                yield Sentence(text=text, evidence=(piece.id,), facts=(fact,))


def _pairs(session: Session, rng: Random, knowledge: Knowledge) -> Iterator[Sentence]:
    """Two findings of one result in one sentence, with `but` where they differ."""
    for piece in session.evidence:
        lesions = [f for f in piece.result.findings
                   if f.state in ("present", "absent") and f.value is None
                   and f.concept not in GATE]  # fmt: skip
        barred = any(
            (f.concept in GATE[3:] and f.state != "present") or f.value == "reject"
            for other in session.evidence for f in other.result.findings
        )  # fmt: skip
        if len(lesions) < 2 or barred:
            continue
        first, second = rng.sample(lesions, 2)
        names = (
            called_in_words(first.concept, knowledge),
            called_in_words(second.concept, knowledge),
        )
        if None in names:
            continue
        text = {
            ("present", "present"): "Both {} and {} are present",
            ("absent", "absent"): "Neither {} nor {} was found",
            ("present", "absent"): "There is {}, but no {}",
            ("absent", "present"): "There is no {}, but there is {}",
        }[first.state, second.state].format(*names)
        fact = Fact(kind="finding", name=first.concept, state=first.state)
        yield Sentence(text=f"{text} [{piece.id}].", evidence=(piece.id,), facts=(fact,))
