"""Eyes for tests of the grading rules: everything known and absent, and what differs."""

from __future__ import annotations

from collections.abc import Mapping

from fovea.knowledge import load
from fovea.knowledge.clauses import QUADRANTS, Facts
from fovea.knowledge.glossary import uses_of

KNOWLEDGE = load()
CONTEXT = {
    "person.diabetes": True, "person.age_years": 70, "person.myopia": True,
    "person.acuity_six_over": 6, "naevus": True, "quality.gradable": True,
    "quality.small_vessels": True, "quality.fovea_visible": True, "quality.field_share": 1.0,
}  # fmt: skip
NOT_DIABETIC = {"person.diabetes": False}


def facts_of(scale):
    """The names of the facts that the rules of a scale ask for, and of their findings."""
    clauses = KNOWLEDGE.rules[scale].clauses()
    asked = {use.atom.fact for clause in clauses for use in uses_of(clause)}
    return sorted(asked | ({fact.partition(".")[0] for fact in asked} & set(KNOWLEDGE.facts)))


def healthy(scale):
    """Every fact of a scale known, with no lesion; distances stay unknown, as nothing is there."""
    clear = {}
    for fact in facts_of(scale):
        meaning = KNOWLEDGE.facts[fact]
        if meaning.graver != "less":
            clear[fact] = CONTEXT.get(fact, 0.0 if meaning.unit else False)
    return clear


def eye(scale, **different):
    """A healthy eye but for what differs; `__` stands for the dot, a mapping for quadrants."""
    given = {name.replace("__", "."): value for name, value in different.items()}
    parts = {fact: value for fact, value in given.items() if isinstance(value, Mapping)}
    whole = {fact: value for fact, value in given.items() if fact not in parts}
    return Facts.of({k: v for k, v in {**healthy(scale), **whole}.items() if k not in parts}, parts)


def graded(scale, **different):
    return KNOWLEDGE.grade(scale, eye(scale, **different))


def spread(scale, **different):
    """The mildest and the gravest grade that are open."""
    found = graded(scale, **different)
    return found.lowest.grade, found.highest.grade


def quadrants(*values):
    """Values by quadrant, in the order of `QUADRANTS`; fewer leave the others unknown."""
    return dict(zip(QUADRANTS, values, strict=False))
