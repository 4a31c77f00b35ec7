"""What the facts of the grading rules mean, and how a photograph can know them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from fovea.knowledge.clauses import All, Any, Atom, Clause, Not, Quadrants, Step, Sum

PERSON = "person"

KnownFrom = Literal["photograph", "both_eyes", "earlier_photograph", "examination", "history"]


class FactMeaning(BaseModel):
    """One fact that clauses may use; its id begins with the entry that it is about."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    name: str = Field(min_length=2, description="In words, with the unit, for the trace.")
    unit: str | None = Field(None, description="UCUM unit of a number; a presence has none.")
    graver: Literal["more", "less", "neither"] = Field(
        "more", description="Whether more or less of it is graver; neither for what is no lesion."
    )
    known_from: KnownFrom
    quadrants: bool = Field(False, description="Whether it is asked for by quadrant.")
    shown_by: tuple[str, ...] = Field(
        (), description="Other findings whose presence shows it: a flame haemorrhage is one."
    )
    meaning: str = Field(min_length=10)
    photo: str = Field(min_length=10, description="How one photograph can know it, or cannot.")


Glossary = Mapping[str, FactMeaning]


def entry_of(fact: str) -> str | None:
    """Id of the entry that a fact is about; None for the person's history."""
    entry = fact.partition(".")[0]
    return None if entry == PERSON else entry


def in_words(step: Step, glossary: Glossary) -> Step:
    """The step with the names of its facts instead of their ids."""
    text, reason = step.text, step.reason
    for fact in sorted(step.fact.split(" + "), key=len, reverse=True):
        text = text.replace(fact, glossary[fact].name, 1)
        reason = reason.replace(fact, glossary[fact].name, 1)
    return replace(step, text=text, reason=reason)


class Use(NamedTuple):
    """An atom where a clause uses it.

    Attributes:
        atom: The atom.
        positive: Whether it stands under an even number of negations.
        quadrants: In how many quadrants it has to hold; None: in the whole photograph.
    """

    atom: Atom
    positive: bool
    quadrants: int | None = None


def uses_of(clause: Clause, positive: bool = True) -> Iterator[Use]:
    """Every atom of a clause; a sum counts as one atom for each of its terms."""
    match clause:
        case Atom():
            yield Use(clause, positive)
        case Quadrants(where=atom, at_least=quadrants):
            yield Use(atom, positive, quadrants)
        case Sum(sum=names, ge=least):
            for name in names:
                yield Use(Atom(fact=name, ge=least), positive)
        case Not(part=part):
            yield from uses_of(part, not positive)
        case All(all=parts) | Any(any=parts):  # pragma: no branch  (there is no further kind)
            for part in parts:
                yield from uses_of(part, positive)
