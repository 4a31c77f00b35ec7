"""Errors of wording for `planted_errors.py`: the figures stay, what they are said about changes.

Planted, like the eight kinds there, by what a sentence means: nothing here is taken from
the checker. Each function gives the wrong sentence, or
None where the sentence offers no place for its kind of error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from narrators import called_in_words, piece_of
from random_evidence import Session

from fovea.contract import Finding
from fovea.knowledge import Knowledge
from fovea.report.model import Sentence

OTHER_EYE = {
    "OD": ("the left-sided eye", "OS", "the left fundus", "the fellow (left) eye",
           "oculus sinister", "LE", "both eyes", "either eye", "OU"),
    "OS": ("the right-sided eye", "OD", "the right fundus", "the fellow (right) eye",
           "oculus dexter", "RE", "both eyes", "either eye", "OU"),
}  # fmt: skip
PLACES = (("superotemporal", "inferotemporal"), ("superonasal", "inferonasal"),
          ("superotemporal", "superonasal"), ("inferotemporal", "inferonasal"),
          ("superior", "inferior"), ("nasal", "temporal"))  # fmt: skip
QUANTITIES = (
    ("vertical", "horizontal"), ("arteriolar", "venular"), ("arteriole-to-venule ratio", "CRAE"),
    ("fractal dimension", "tortuosity"), ("vessel density", "fractal dimension"),
    ("microaneurysms", "hard exudates"), ("haemorrhages", "microaneurysms"),
    ("hard exudates", "cotton-wool spots"), ("microaneurysm", "cotton-wool spot"),
    ("haemorrhage", "hard exudate"), ("cup-to-disc ratio", "rim-to-disc ratio"),
)  # fmt: skip
CITES = re.compile(r"\s*((?:\[[^\]]*\])+)\.?$")
Wrong = Callable[[Sentence, Session, Random, Knowledge], str | None]


def parts(sentence: Sentence) -> tuple[str, str]:
    """The words of a sentence, and its citations with what stands before and after them."""
    mark = CITES.search(sentence.text)
    return (sentence.text[: mark.start()], sentence.text[mark.start() :]) if mark else ("", "")


# Kinds of error


def unit_word(
    sentence: Sentence, session: Session, rng: Random, knowledge: Knowledge
) -> str | None:
    body, cites = parts(sentence)
    changes = [
        body.replace(old, new)
        for old, news in (
            ("micrometres", ("millimetres", "pixels", "microns squared", "degrees")),
            (" µm", (" millimetres", " pixels", " nm", " cm", " disc diameters")),
            ("pixels", ("micrometres", "millimetres", "per cent", "disc diameters")),
            (" px", (" microns", " millimetres", " degrees", " cm")),
            ("per cent", ("micrometres", "degrees")),
        )
        if old in body
        for new in news
    ]  # fmt: skip
    if sentence.facts[0].kind != "measurement" or not changes:
        return None
    return rng.choice(changes) + cites


def reversed_comparison(
    sentence: Sentence, session: Session, rng: Random, knowledge: Knowledge
) -> str | None:
    fact = sentence.facts[0]
    body, cites = parts(sentence)
    if fact.kind == "case":
        return body.replace("closer than", rng.choice(("less close than", "farther than"))) + cites
    if fact.kind == "comparison":
        for old, new in (("within the", "above the"), ("above the", "below the"),
                         ("below the", "above the")):  # fmt: skip
            if old in body:
                return body.replace(old, new) + cites
        return None
    if fact.kind != "measurement" or not fact.eye:
        return None
    tail = rng.choice((
        ", larger than in the fellow eye", ", smaller than at the last visit",
        ", an increase over the last visit", ", which has decreased", ", more than expected",
        ", so the vessels are narrower than usual", ", above the 97.5th percentile",
        ", at the upper end of what healthy people have", ", unchanged since the last visit",
    ))  # fmt: skip
    return body + tail + cites


def other_eye_words(
    sentence: Sentence, session: Session, rng: Random, knowledge: Knowledge
) -> str | None:
    body, cites = parts(sentence)
    fact = sentence.facts[0]
    eyes = {
        session.eyes[h] for p in session.evidence if p.id in sentence.evidence for h in p.images
    }
    if not sentence.evidence or len(eyes) != 1 or fact.kind not in ("measurement", "finding"):
        return None
    other = rng.choice(OTHER_EYE[eyes.pop()])
    place = (
        r"\b(?:of|in) (?:the (?:right|left|RIGHT|LEFT) (?:eye|fundus)(?: \(O[DS]\))?|O[DS])\b\)?"
    )
    if re.search(place, body):
        return re.sub(place, f"of {other}", body, count=1) + cites
    if "photograph" in body or fact.name in ("eye", "field", "quality", "fundus_photograph"):
        return None
    return f"{body} in {other}{cites}"


def count_word(
    sentence: Sentence, session: Session, rng: Random, knowledge: Knowledge
) -> str | None:
    """A number of lesions in words, where the evidence gives another number or none."""
    fact, piece = sentence.facts[0], piece_of(sentence, session)
    if fact.kind != "finding" or piece is None or fact.state != "present":
        return None
    if knowledge.about_output(fact.name) is None or fact.name.startswith("gradable_"):
        return None
    if fact.name not in {"microaneurysm", "haemorrhage", "hard_exudate", "soft_exudate", "irma"}:
        return None
    called = f"{fact.name.replace('_', ' ')}s"
    counts = {m.value for m in piece.result.measurements if m.name.startswith(fact.name)}
    ends = {e for m in piece.result.measurements if m.interval and m.name.startswith(fact.name)
            for e in (m.interval.low, m.interval.high)}  # fmt: skip
    words = {"three": 3, "a single": 1, "seven": 7, "eleven": 11, "two": 2}
    free = [w for w, n in words.items() if n not in counts | ends]
    word = rng.choice([*free, "no", "a few", "numerous", "countless", "very many", "a couple of",
                       "scattered", "a handful of", "dozens of", "extensive"])  # fmt: skip
    return f"There are {word} {called} {CITES.search(sentence.text)[1]}."  # type: ignore[index]


def stray_citation(
    sentence: Sentence, session: Session, rng: Random, knowledge: Knowledge
) -> str | None:
    """A citation of something that exists, and does not say this."""
    body, _ = parts(sentence)
    if sentence.evidence and sentence.facts[0].kind in ("measurement", "finding"):
        name = sentence.facts[0].name
        others = [p.id for p in session.evidence if p.id not in sentence.evidence
                  and name not in {m.name for m in p.result.measurements}
                  and name not in {f.concept for f in p.result.findings}]  # fmt: skip
        entry = rng.choice(sorted(knowledge.entries))
        return f"{body} [{rng.choice([*others, f'K:{entry}'])}]."
    if sentence.knowledge and not sentence.evidence:
        own = knowledge.get(sentence.knowledge[0])
        entry = rng.choice([k for k in sorted(knowledge.entries) if k != own.id])
        said = {text.rstrip(". ") for _, text, _ in knowledge.get(entry).statements()}
        if body.rstrip(". ") in said:
            return None
        return f"{body} [{rng.choice(['K:' + entry, session.evidence[0].id])}]." if (
            session.evidence) else f"{body} [K:{entry}]."  # fmt: skip
    return None


def changed_certainty(
    sentence: Sentence, session: Session, rng: Random, knowledge: Knowledge
) -> str | None:
    """A hedge taken out, or put in where the result is sure."""
    fact, (_, cites) = sentence.facts[0], parts(sentence)
    if fact.kind != "finding" or fact.name.startswith("gradable_"):
        return None
    called = called_in_words(fact.name, knowledge)
    entry = knowledge.about_output(fact.name)
    if called is None or entry is None or entry.kind not in ("condition", "finding"):
        return None
    forms = {
        "indeterminate": ("{} is present", "{} is definitely present", "{} was found",
                          "There is {}",
                          "{} has been excluded", "{} is not present", "{} is confirmed",
                          "The photograph demonstrates {}", "{} was ruled out"),
        "present": ("{} cannot be excluded", "{} may be present", "There could be {}",
                    "{} is questionable", "{} is suspected", "{} has resolved",
                    "The photograph fails to show {}", "{} is hardly there", "{} was ruled out"),
        "absent": ("{} cannot be excluded", "{} is possible", "{} is likely", "{} is suspected",
                   "{} is confirmed", "{} was seen", "{} is no longer absent"),
        "not_assessable": ("{} is absent", "There is no {}", "{} is present", "{} was excluded",
                           "{} is unlikely"),
    }  # fmt: skip
    said = rng.choice(forms[fact.state or "present"]).format(called)
    return f"{said[:1].upper()}{said[1:]}{cites}"


def changed_interval(
    sentence: Sentence, session: Session, rng: Random, knowledge: Knowledge
) -> str | None:
    """Another time, coverage, or end of an interval."""
    body, cites = parts(sentence)
    changes = []
    for level in ("90 %", "95 %"):
        if f"({level} interval" in body:
            changes += [body.replace(level, new) for new in ("90 %", "95 %", "99 %", "68 %")
                        if new != level]  # fmt: skip
    found = re.search(r"interval (\S+)( µm| px|) to (\S+?)( µm| px|)\)", body)
    if found and found[1] != found[3]:
        swapped = f"interval {found[3]}{found[2]} to {found[1]}{found[4]})"
        changes.append(body[: found.start()] + swapped + body[found.end() :])
    if sentence.knowledge and not sentence.evidence:
        for old, new in (
            ("1 working day", "1 working week"), ("one working day", "one week"),
            ("two weeks", "two months"), ("24 hours", "48 hours"), ("24 hours", "24 days"),
            ("same day", "same week"), ("within three to six months", "after three to six months"),
            ("six months", "nine months"), ("four weeks", "fourteen weeks"),
            ("every year", "every second year"), ("within", "not before"), ("14 days", "40 days"),
            ("immediately", "eventually"), ("urgent", "elective"), ("2 weeks", "2 months"),
            ("one week", "one month"), ("annual", "biennial"), ("month", "year"),
            ("days", "weeks"), ("hours", "days"),
        ):  # fmt: skip
            if re.search(rf"\b{old}", body):
                changes.append(re.sub(rf"\b{old}", new, body, count=1))
    return rng.choice(changes) + cites if changes else None


def swapped_place(
    sentence: Sentence, session: Session, rng: Random, knowledge: Knowledge
) -> str | None:
    fact, (body, cites) = sentence.facts[0], parts(sentence)
    piece = piece_of(sentence, session)
    if fact.zone is None or piece is None or fact.value is None:
        return None
    same = {m.zone for m in piece.result.measurements if m.name == fact.name
            and f"{m.value:.2f}" == f"{fact.value:.2f}"}  # fmt: skip
    changes = []
    for first, second in PLACES:
        for old, new in ((first, second), (second, first)):
            if re.search(rf"\b{old}\b", body) and new not in same:
                changes.append(re.sub(rf"\b{old}\b", new, body))
    if "zone b" in body.lower():
        changes += [re.sub("zone b", new, body, flags=re.I) for new in ("zone C", "zone A")]
        if None not in same:
            changes.append(re.sub(" in zone b", "", body, flags=re.I))
    return rng.choice(changes) + cites if changes else None


def swapped_quantity(
    sentence: Sentence, session: Session, rng: Random, knowledge: Knowledge
) -> str | None:
    fact, (body, cites) = sentence.facts[0], parts(sentence)
    piece = piece_of(sentence, session)
    if fact.kind != "measurement" or piece is None or fact.value is None:
        return None
    alike = [m for m in piece.result.measurements if m.name != fact.name and m.unit == fact.unit
             and abs(m.value - fact.value) < 0.02 + 0.01 * abs(fact.value)]  # fmt: skip
    ends = [e for m in piece.result.measurements if m.interval and m.name != fact.name
            for e in (m.interval.low, m.interval.high)]  # fmt: skip
    if alike or any(abs(e - fact.value) < 0.02 for e in ends):
        return None
    for old, new in rng.sample(QUANTITIES, len(QUANTITIES)):
        for here, there in ((old, new), (new, old)):
            if re.search(rf"\b{here}\b", body):
                return re.sub(rf"\b{here}\b", there, body, count=1) + cites
    return None


def added_adjective(
    sentence: Sentence, session: Session, rng: Random, knowledge: Knowledge
) -> str | None:
    """A degree, an extent or a cause that nothing in the evidence gives."""
    fact, (_, cites) = sentence.facts[0], parts(sentence)
    if fact.kind != "finding" or fact.state != "present" or fact.name.startswith("gradable_"):
        return None
    called = called_in_words(fact.name, knowledge)
    entry = knowledge.about_output(fact.name)
    if called is None or entry is None or entry.kind not in ("condition", "finding"):
        return None
    said = rng.choice((
        f"Extensive {called} is present", f"Severe {called} is present",
        f"Bilateral {called} is present", f"Longstanding {called} is present",
        f"Fresh {called} is present", f"{called} is present and sight-threatening",
        f"{called} is present because of diabetes", f"{called} is present at the fovea",
        f"{called} is present in all four quadrants", f"{called} is present, as at the last visit",
        f"New {called} has appeared since the last visit", f"Treated {called} is present",
        f"{called} is present and involves the macula", f"Subtle {called} is present",
        f"{called} is present and needs no action", f"Inactive {called} is present",
    ))  # fmt: skip
    name = entry.name.en.lower() + called
    if any(word in name for word in re.findall(r"[a-z]+", said.replace(called, "").lower())
           if len(word) > 5):  # fmt: skip
        return None
    return f"{said[:1].upper()}{said[1:]}{cites}"


def joined_findings(
    sentence: Sentence, session: Session, rng: Random, knowledge: Knowledge
) -> str | None:
    """One verb for two findings of which one is otherwise."""
    fact, piece = sentence.facts[0], piece_of(sentence, session)
    if fact.kind != "finding" or piece is None or fact.state not in ("present", "absent"):
        return None
    own = called_in_words(fact.name, knowledge)
    others: list[Finding] = [
        f for f in piece.result.findings
        if f.state != fact.state and f.value is None and not f.concept.startswith("gradable_")
        and f.concept != "fundus_photograph"
    ]  # fmt: skip
    if not others or own is None or fact.name.startswith("gradable_") or fact.text:
        return None
    other = called_in_words(rng.choice(others).concept, knowledge)
    if fact.name == "fundus_photograph" or other is None:
        return None
    said = rng.choice(
        (f"Both {own} and {other} are present", f"{own} as well as {other} was seen",
         f"The photograph shows {own} and {other}")
        if fact.state == "present"
        else (f"Neither {own} nor {other} was found", f"No {own} or {other} was seen",
              f"{own} and {other} are absent")
    )  # fmt: skip
    return f"{said[:1].upper()}{said[1:]} [{piece.id}]."


WORD_KINDS: dict[str, Wrong] = {
    "unit word": unit_word,
    "reversed comparison": reversed_comparison,
    "eye by synonym": other_eye_words,
    "count word": count_word,
    "stray citation": stray_citation,
    "changed certainty": changed_certainty,
    "changed interval": changed_interval,
    "swapped place": swapped_place,
    "swapped quantity": swapped_quantity,
    "added adjective": added_adjective,
    "joined findings": joined_findings,
}
