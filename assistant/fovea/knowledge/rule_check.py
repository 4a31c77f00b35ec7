"""Whether grading rules are sound: exhaustive, monotone, and used as their facts are meant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fovea.knowledge.clauses import QUADRANTS, Facts, Value
from fovea.knowledge.derived import GIVEN
from fovea.knowledge.glossary import FactMeaning, Glossary, Use, entry_of, uses_of
from fovea.knowledge.models import Entry
from fovea.knowledge.rules import ScaleRules

MAX_NODES = 50_000
"""Partial combinations of facts that the search for a gap may look at."""

_Settled = Value | Mapping[str, Value]


def check_rules(
    rules: Mapping[str, ScaleRules], glossary: Glossary, entries: Mapping[str, Entry]
) -> list[tuple[str, str]]:
    """Pairs of the id of rules, or "" for the glossary, and what is wrong there."""
    found = []
    for scale in rules.values():
        problems = (*_strangers(scale, entries), *misuses(scale, glossary))
        found += [(scale.id, problem) for problem in problems]
    clauses = [clause for scale in rules.values() for clause in scale.clauses()]
    asked = {use.atom.fact for clause in clauses for use in uses_of(clause)}
    asked |= {fact.partition(".")[0] for fact in asked}  # whose absence settles the rest
    for fact in sorted(set(glossary) - asked - GIVEN):
        found.append(("", f"no rule asks for `{fact}`"))
    about = {entry for fact in glossary if (entry := entry_of(fact))}
    about |= {entry for meaning in glossary.values() for entry in meaning.shown_by}
    found += [("", f"no entry is called `{entry}`") for entry in sorted(about - set(entries))]
    return found


def misuses(scale: ScaleRules, glossary: Glossary) -> list[str]:
    """What is wrong with rules whose facts are all in the glossary, one sentence each.

    A number needs a limit and a presence none; a fact is asked for by quadrant only
    where it is known so; one lesion more never lowers a grade; and every combination of
    facts has a grade.
    """
    found = []
    for number, clause in enumerate(scale.clauses()):
        for use in uses_of(clause):
            fact, meaning = use.atom.fact, glossary[use.atom.fact]
            if bool(use.atom.limits()) != (meaning.unit is not None):
                found.append(f"`{fact}` needs {'no' if meaning.unit is None else 'a'} limit")
            if use.quadrants and not meaning.quadrants:
                found.append(f"`{fact}` is not known by quadrant")
            # The mildest grade is what is left when the others fail, so it may fall.
            if number and not _rises(use, meaning):
                found.append(f"{meaning.graver} of `{fact}` is graver, and could lower the grade")
    try:
        gap = find_gap(scale)
    except OverflowError:
        found.append("too many combinations of facts to prove that each has a grade")
    else:
        found += [] if gap is None else [f"no grade when {gap}"]
    return list(dict.fromkeys(found))


def find_gap(scale: ScaleRules) -> str | None:
    """Facts for which every clause is false, in words, or None when there are none.

    Facts are settled one after the other, and a branch ends as soon as a clause is true:
    what is still unknown then cannot make it false. So every combination of true, false
    and unknown is covered without writing all of them out.

    Raises:
        OverflowError: more than `MAX_NODES` branches.
    """
    choices = _choices(scale)
    nodes = 0

    def search(settled: dict[str, _Settled]) -> str | None:
        nonlocal nodes
        nodes += 1
        if nodes > MAX_NODES:
            raise OverflowError
        whole = {fact: value for fact, value in settled.items() if not isinstance(value, Mapping)}
        parts = {fact: value for fact, value in settled.items() if isinstance(value, Mapping)}
        truths = [rule.when.judge(Facts.of(whole, parts)) for rule in scale.grades]
        if True in truths:
            return None
        if None not in truths:
            return ", ".join(f"`{fact}` is {_told(value)}" for fact, value in settled.items())
        fact = next(fact for fact in choices if fact not in settled)
        tried = (search({**settled, fact: value}) for value in choices[fact])
        return next((gap for gap in tried if gap is not None), None)

    return search({})


def _strangers(scale: ScaleRules, entries: Mapping[str, Entry]) -> list[str]:
    """Entries that do not exist, or that know their grade by another name."""
    found = []
    about = entries.get(scale.entry)
    if about is None or about.kind != "scale":
        found.append(f"no entry of kind `scale` is called `{scale.entry}`")
    names = {rule.grade for rule in scale.grades}
    for rule in scale.grades:
        if rule.entry is None:
            continue
        entry = entries.get(rule.entry)
        if entry is None:
            found.append(f"grade `{rule.grade}` stands for `{rule.entry}`, which no file defines")
            continue
        own = {other.grade for other in scale.grades if other.entry == entry.id}
        stated = entry.criteria
        if stated and stated.scale == scale.entry and stated.grade in names - own:
            found.append(f"grade `{rule.grade}` is called `{stated.grade}` by `{entry.id}`")
    return found


def _rises(use: Use, meaning: FactMeaning) -> bool:
    """Whether the clause can only gain when the fact gets graver."""
    if meaning.graver == "neither":
        return True
    upward = use.atom.lt is None and use.atom.le is None
    downward = bool(use.atom.limits()) and use.atom.gt is None and use.atom.ge is None
    return upward if (meaning.graver == "more") == use.positive else downward


def _choices(scale: ScaleRules) -> dict[str, Sequence[_Settled]]:
    """The values of each fact that clauses can tell apart.

    Attributes come before their findings, because the absence of a finding settles only
    attributes that are unknown.
    """
    numbers: dict[str, set[float]] = {}
    parted: dict[str, set[int]] = {}
    for rule in scale.grades:
        for use in uses_of(rule.when):
            sides = {side for how, limit in use.atom.limits() for side in _sides(how, limit)}
            numbers.setdefault(use.atom.fact, set()).update(sides)
            if use.quadrants:
                held = {use.quadrants - 1, use.quadrants}
                parted.setdefault(use.atom.fact, set()).update(held)
    found: dict[str, Sequence[_Settled]] = {}
    for fact in sorted(numbers, key=lambda name: ("." not in name, name)):
        values: list[Value] = [*sorted(numbers[fact])] or [False, True]
        held_in = sorted(parted.get(fact, ()))
        found[fact] = [_high_in(values, number) for number in held_in] or values
    return found


def _sides(how: str, limit: float) -> tuple[float, float]:
    """The nearest values on either side of a limit."""
    if how in ("ge", "lt"):
        return math.nextafter(limit, -math.inf), limit
    return limit, math.nextafter(limit, math.inf)


def _high_in(values: Sequence[Value], quadrants: int) -> Mapping[str, Value]:
    parts = [values[-1]] * quadrants + [values[0]] * (len(QUADRANTS) - quadrants)
    return dict(zip(QUADRANTS, parts, strict=True))


def _told(value: _Settled) -> str:
    if isinstance(value, Mapping):
        return " and ".join(str(part).lower() for part in dict.fromkeys(value.values()))
    return str(value).lower()
