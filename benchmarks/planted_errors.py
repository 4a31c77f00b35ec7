"""Scores the grounding check on planted errors.

    python benchmarks/planted_errors.py                 1,900 errors, 19 kinds
    python benchmarks/planted_errors.py --errors 190 --seed 7 --show

Correct sentences come from three sources over made-up sessions: the compiled report, and two
narrators (`narrators.py`). One error is planted in one sentence at a time, by what the
sentence means; `planted_words.py` holds further kinds. Nothing is taken from the checker.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from narrators import PRINTED_UNITS, narrate, narrate_freely
from planted_words import WORD_KINDS, Wrong
from random_evidence import Session, SessionMaker

from fovea.knowledge import Knowledge, load
from fovea.report.check import Checker
from fovea.report.compile import compile_report
from fovea.report.model import Sentence

KINDS = (
    "changed number", "swapped eye", "dropped negation", "invented lesion", "wrong unit",
    "upgraded grade", "softened urgency", "false citation", *WORD_KINDS,
)  # fmt: skip
SIDES = {"right": "left", "left": "right", "OD": "OS", "OS": "OD"}
GRADES = ("mild", "moderate", "severe", "proliferative")
OTHER_UNITS = {"um": ("mm", "px", ""), "px": ("µm", "mm", ""), "%": ("µm", "")}
CITES = re.compile(r"\s*\[[^\]]*\]")


@dataclass(frozen=True)
class Told:
    """A correct sentence and the session it is about."""

    sentence: Sentence
    session: Session


# The eight kinds of error

Planter = Callable[[Told, SessionMaker, Knowledge], str | None]


def changed_number(told: Told, maker: SessionMaker, knowledge: Knowledge) -> str | None:
    fact, text = told.sentence.facts[0], told.sentence.text
    if fact.kind not in ("measurement", "finding", "case"):
        return None
    body = text.partition(" [E")[0]
    spots = list(re.finditer(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w.]*\w)", body))
    if not spots:
        return None
    spot = maker.rng.choice(spots)
    taken = set(re.findall(r"\d+(?:\.\d+)?", text))
    for _ in range(20):
        place = maker.rng.choice([i for i, c in enumerate(spot[0]) if c.isdigit()])
        digit = maker.rng.choice([d for d in "123456789" if d != spot[0][place]])
        new = spot[0][:place] + digit + spot[0][place + 1 :]
        values = [v for p in told.session.evidence if p.id in told.sentence.evidence
                  for m in p.result.measurements for v in (m.value, 100 * m.value)]  # fmt: skip
        values += [f.probability for p in told.session.evidence if p.id in told.sentence.evidence
                   for f in p.result.findings if f.probability is not None]  # fmt: skip
        step = 0.5 * 10.0 ** -len(new.partition(".")[2])
        near = any(abs(value - float(new)) <= 2 * step for value in values)
        if new not in taken and not near:
            return text[: spot.start()] + new + text[spot.end() :]
    return None


def swapped_eye(told: Told, maker: SessionMaker, knowledge: Knowledge) -> str | None:
    if not told.sentence.evidence:
        return None
    text = told.sentence.text
    body, mark, cites = text.partition(" [E")
    swapped = re.sub(r"\b(right|left|OD|OS)\b", lambda m: SIDES[m[0]], body)
    return swapped + mark + cites if swapped != body else None


def dropped_negation(told: Told, maker: SessionMaker, knowledge: Knowledge) -> str | None:
    text, fact = told.sentence.text, told.sentence.facts[0]
    changes = (
        (" is absent", " is present"), (" are absent", " are present"), ("No ", "A "),
        ("There is no sign of", "There is"), (" is not gradable", " is gradable"),
        (" are not gradable", " are gradable"), (" is not a ", " is a "),
    )  # fmt: skip
    if fact.kind != "finding" or fact.state not in ("absent", "not_assessable"):
        return None
    for old, new in changes:
        if old in text:
            return text.replace(old, new, 1)
    return None


def invented_lesion(told: Told, maker: SessionMaker, knowledge: Knowledge) -> str | None:
    if not told.sentence.evidence or told.sentence.facts[0].kind not in ("finding", "measurement"):
        return None
    known = {
        entry.id
        for piece in told.session.evidence
        for finding in piece.result.findings
        if (entry := knowledge.about_output(finding.concept))
    }
    ids = [e.id for e in knowledge.entries.values()
           if e.kind in ("finding", "condition") and e.id not in known]  # fmt: skip
    entry = knowledge.get(maker.rng.choice(ids))
    name = maker.rng.choice((entry.name.en, *entry.synonyms.en))
    cite = f"[{maker.rng.choice(told.sentence.evidence)}]"
    forms = (
        f"The finding `{name}` is present {cite}.", f"The photograph shows {name} {cite}.",
        f"There are signs of {name} {cite}.", f"{name} was seen near the disc {cite}.",
        told.sentence.text.replace(f" {cite}", f", with {name} {cite}", 1),
    )  # fmt: skip
    return maker.rng.choice(forms)


def wrong_unit(told: Told, maker: SessionMaker, knowledge: Knowledge) -> str | None:
    fact, text = told.sentence.facts[0], told.sentence.text
    unit = PRINTED_UNITS.get(fact.unit or "")
    if fact.kind != "measurement":
        return None
    if unit and f" {unit}" in text:
        new = maker.rng.choice(OTHER_UNITS[fact.unit or ""])
        return text.replace(f" {unit}", f" {new}" if new else "")
    number = re.search(r"(?:is|as|of|to) (\d+\.\d+)", text) if fact.unit == "1" else None
    if number is None:
        return None
    unit = maker.rng.choice(("mm", "µm", "px", "%"))
    return f"{text[: number.end()]} {unit}{text[number.end() :]}"


def upgraded_grade(told: Told, maker: SessionMaker, knowledge: Knowledge) -> str | None:
    fact, text = told.sentence.facts[0], told.sentence.text
    body, mark, cites = text.partition(" [E")
    if fact.kind == "measurement" and fact.name == "dr_grade" and fact.value is not None:
        other = maker.rng.choice([n for n in range(5) if n != fact.value])
        return re.sub(rf"\b{fact.value:.0f}(?= \[)", str(other), text, count=1)
    if fact.kind != "grade" or fact.state == "disagreement":
        return None
    changes = []
    for grade in GRADES:
        if re.search(rf"\b{grade}\b", body):
            others = [g for g in GRADES if g != grade]
            changes.append(re.sub(rf"\b{grade}\b", maker.rng.choice(others), body, count=1))
    changes += [re.sub(rf"\bR{n}\b", f"R{(n + 1) % 4}", body, count=1)
                for n in range(4) if re.search(rf"\bR{n}\b", body)]  # fmt: skip
    if "is: at least " in body:
        changes.append(body.replace("is: at least ", "is: ", 1))
    return maker.rng.choice(changes) + mark + cites if changes else None


def softened_urgency(told: Told, maker: SessionMaker, knowledge: Knowledge) -> str | None:
    if told.sentence.evidence or not told.sentence.knowledge:
        return None
    text = told.sentence.text
    body, mark, cites = text.partition(" [K:")
    entry = knowledge.get(told.sentence.knowledge[0])
    if body.rstrip(". ") not in {part.text.rstrip(". ") for part in entry.referral.values()}:
        return None
    changes = [
        body.replace(old, new, 1)
        for old, new in (
            ("immediate", "routine"), ("urgent", "routine"), ("same day", "same year"),
            ("emergency", "routine"), ("24 hours", "24 weeks"), ("hours", "months"),
            ("days", "months"),
            ("working day", "month"), ("weeks", "months"), ("months", "years"),
            ("asks for referral", "asks for no referral"),
            ("advises referral", "advises no referral"),
        )
        if old in body
    ]  # fmt: skip
    changes.append(f"{body}, but waiting for a year is safe")
    changes.append("No referral is needed")
    changes.append("The next routine visit is soon enough")
    return maker.rng.choice(changes) + mark + cites


def false_citation(told: Told, maker: SessionMaker, knowledge: Knowledge) -> str | None:
    sentence = told.sentence
    if not sentence.evidence or sentence.facts[0].kind not in ("measurement", "finding", "grade"):
        return None
    fact = sentence.facts[0]
    strangers = [
        piece.id
        for piece in told.session.evidence
        if piece.id not in sentence.evidence
        and fact.name not in {m.name for m in piece.result.measurements}
        and fact.name not in {f.concept for f in piece.result.findings}
    ]
    own = f"[{sentence.evidence[0]}]"
    others = [f"[{stranger}]" for stranger in strangers] + ["[E97]", "[K:b_avr]", "[K:no_such]", ""]
    other = maker.rng.choice(others)
    if "[K:" in sentence.text and not other:
        other = "[E98]"
    return sentence.text.replace(own, other, 1)


def _as_planter(wrong: Wrong) -> Planter:
    return lambda told, maker, knowledge: wrong(told.sentence, told.session, maker.rng, knowledge)


PLANTERS: dict[str, Planter] = dict(
    zip(
        KINDS,
        (changed_number, swapped_eye, dropped_negation, invented_lesion, wrong_unit,
         upgraded_grade, softened_urgency, false_citation, *map(_as_planter, WORD_KINDS.values())),
        strict=True,
    )
)  # fmt: skip


@dataclass
class Score:
    """What was planted and what was caught."""

    planted: Counter[str]
    caught: Counter[str]
    correct: int
    alarms: int
    missed: list[tuple[str, str]]
    false: list[tuple[str, str]]


def score(errors: int, seed: int) -> Score:
    """Plants at least `errors` errors, as many of each kind."""
    knowledge = load()
    maker = SessionMaker(seed, knowledge)
    found = Score(Counter(), Counter(), 0, 0, [], [])
    quota = -(-errors // len(KINDS))
    while any(found.planted[kind] < quota for kind in KINDS):
        session = maker.make()
        report = compile_report(
            session.images, session.evidence, knowledge=knowledge, history=session.history,
            refused=session.refused,
        )  # fmt: skip
        checker = Checker(
            session.evidence, knowledge, images=session.images, history=session.history,
            refused=session.refused,
        )  # fmt: skip
        compiled = [sentence for section in report.sections for sentence in section.sentences]
        withheld = [r.value for r in report.section("limitations").rows if "Withheld" in r.label]
        found.correct += len(compiled) + len(withheld)
        found.alarms += len(withheld)
        found.false += [("compiled report", reason) for reason in withheld]
        narrated = list(narrate(session, compiled, maker, knowledge))
        narrated += narrate_freely(session, compiled, maker.rng, knowledge)
        for sentence in narrated:
            found.correct += 1
            struck = checker.check(sentence.text).struck
            if struck:
                found.alarms += 1
                found.false.append((sentence.text, struck[0].reason))
        for sentence in maker.rng.sample([*compiled, *narrated], len(compiled) + len(narrated)):
            for kind in sorted(KINDS, key=lambda kind: found.planted[kind]):
                if found.planted[kind] >= quota:
                    continue
                wrong = PLANTERS[kind](Told(sentence, session), maker, knowledge)
                if wrong is None or wrong == sentence.text:
                    continue
                found.planted[kind] += 1
                if checker.check(wrong).struck:
                    found.caught[kind] += 1
                else:
                    found.missed.append((kind, wrong))
                break
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--errors", type=int, default=1900)
    parser.add_argument("--seed", type=int, default=20261123)
    parser.add_argument("--show", action="store_true", help="Print what went wrong.")
    options = parser.parse_args()
    result = score(options.errors, options.seed)
    for kind in KINDS:
        print(f"{kind:20} {result.caught[kind]:4} of {result.planted[kind]:4}")
    planted, caught = result.planted.total(), result.caught.total()
    detection, alarms = caught / planted, result.alarms / result.correct
    print(f"{'detected':20} {caught} of {planted} = {detection:.2%}")
    print(f"{'false alarms':20} {result.alarms} of {result.correct} = {alarms:.2%}")
    if options.show:
        for kind, text in (*result.missed, *result.false):
            print(f"- {kind}: {text}")
    return 0 if detection >= 0.99 and alarms <= 0.01 else 1


if __name__ == "__main__":
    sys.exit(main())
