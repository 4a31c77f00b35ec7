"""The clauses of grading rules: three-valued, total, and able to say why.

A clause is true, false or unknown (Kleene's strong logic). What was not looked at,
or could not be, is unknown and never false. A number is known as a pair of bounds:
a clause about it is true or false only when it is so for every value between them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Truth = bool | None
"""True, false, or None: unknown."""

Quadrant = Literal["superotemporal", "superonasal", "inferotemporal", "inferonasal"]
QUADRANTS: tuple[Quadrant, ...] = (
    "superotemporal", "superonasal", "inferotemporal", "inferonasal",
)  # fmt: skip


@dataclass(frozen=True)
class Bounds:
    """A number that is known to lie between two values, both included."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ValueError(f"bounds need low <= high, not {self.low} and {self.high}")


Value = bool | float | Bounds | None
"""Presence, a number, bounds of a number, or None: not known."""


@dataclass(frozen=True)
class Facts:
    """What is known about one eye.

    A fact is a finding (`irma`) or something about one (`irma.prominent`). What is
    said about a finding that is absent does not hold: where there are no drusen,
    none is large.

    Attributes:
        whole: Value of each fact for the whole photograph.
        quadrants: Values by quadrant, where a fact is known so; a quadrant that is
            missing is unknown. Presences, counts and sizes only, never distances.
        evidence: Ids of the evidence behind each fact.
        reasons: Why a fact is not known.
    """

    whole: Mapping[str, Value]
    quadrants: Mapping[str, Mapping[str, Value]]
    evidence: Mapping[str, tuple[str, ...]]
    reasons: Mapping[str, str]

    @classmethod
    def of(
        cls,
        whole: Mapping[str, Value] | None = None,
        quadrants: Mapping[str, Mapping[str, Value]] | None = None,
        evidence: Mapping[str, tuple[str, ...]] | None = None,
        reasons: Mapping[str, str] | None = None,
    ) -> Facts:
        """Facts with what is not given left empty."""
        return cls(whole or {}, quadrants or {}, evidence or {}, reasons or {})

    def value(self, fact: str) -> Value:
        """Its value for the whole photograph, or what its quadrants say about that.

        The whole has at least what the richest quadrant has, and at most what all four
        have together; this is so for counts, for the largest size and for presence.
        """
        known = self.whole.get(fact)
        if known is not None:
            return known
        parts = [self.quadrants.get(fact, {}).get(name) for name in QUADRANTS]
        found = [as_bounds(part) for part in parts if part is not None]
        if not found:
            return None
        highest = sum(part.high for part in found) if len(found) == len(parts) else math.inf
        return Bounds(max(part.low for part in found), highest)

    def in_quadrant(self, fact: str, quadrant: str) -> Value:
        """Its value in one quadrant."""
        return self.quadrants.get(fact, {}).get(quadrant)

    def lacks(self, fact: str, quadrant: str | None = None) -> bool:
        """Whether it is about a finding that is absent, there or everywhere."""
        finding, _, about = fact.partition(".")
        if not about:
            return False
        there = self.in_quadrant(finding, quadrant) if quadrant else None
        return any(
            value is not None and as_bounds(value).high == 0.0
            for value in (self.value(finding), there)
        )


@dataclass(frozen=True)
class Step:
    """One atom of a clause as it was judged.

    Attributes:
        text: What is sought: the atom, or that it does not hold.
        fact: The fact it is about; those of a sum are joined by ` + `.
        truth: Whether what is sought is so.
        evidence: Ids of the evidence behind the fact.
        reason: Why it is not known; empty where it is.
        asked: The atom itself, whichever way it is sought.
    """

    text: str
    fact: str
    truth: Truth
    evidence: tuple[str, ...]
    reason: str
    asked: str


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


FACT_PATTERN = r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?$"
FactName = Annotated[str, Field(pattern=FACT_PATTERN)]


class Atom(_Frozen):
    """A fact that is present, or a number that lies within limits."""

    fact: FactName
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None

    def judge(self, facts: Facts) -> Truth:
        """Its truth for the whole photograph."""
        truth = self.holds(facts.value(self.fact))
        return False if truth is None and facts.lacks(self.fact) else truth

    def holds(self, value: Value) -> Truth:
        """Its truth for one value."""
        if value is None:
            return None
        limits = self.limits() or [("gt", 0.0)]  # a number above 0 is a presence
        return all_of([_compare(as_bounds(value), how, limit) for how, limit in limits])

    def steps(self, facts: Facts, sought: bool = True) -> Iterator[Step]:
        """The atom itself."""
        truth, value = self.judge(facts), facts.value(self.fact)
        reason = "" if truth is not None else _why_open(value, facts.reasons.get(self.fact))
        evidence = facts.evidence.get(self.fact, ())
        yield _step(str(self), self.fact, truth, sought, evidence, reason, self._opposite())

    def limits(self) -> list[tuple[str, float]]:
        """Pairs of `gt`, `ge`, `lt` or `le` and the number."""
        pairs = [("gt", self.gt), ("ge", self.ge), ("lt", self.lt), ("le", self.le)]
        return [(how, limit) for how, limit in pairs if limit is not None]

    def _opposite(self) -> str:
        """What is so when the atom is not: the opposite of one limit is a limit."""
        match self.limits():
            case [(how, limit)]:
                return f"{self.fact} {_SIGNS[_OPPOSITES[how]]} {limit:g}"
        return f"no {self}"

    def __str__(self) -> str:
        limits = [f"{_SIGNS[how]} {limit:g}" for how, limit in self.limits()]
        return f"{self.fact} {' and '.join(limits)}" if limits else self.fact


class All(_Frozen):
    """True when every part is."""

    all: tuple[Clause, ...] = Field(min_length=1)

    def judge(self, facts: Facts) -> Truth:
        """Kleene's conjunction."""
        return all_of([part.judge(facts) for part in self.all])

    def steps(self, facts: Facts, sought: bool = True) -> Iterator[Step]:
        """The atoms that make it `sought`, or else those in the way."""
        return _deciding(self.all, facts, sought, together=sought)


class Any(_Frozen):
    """True when one part is."""

    any: tuple[Clause, ...] = Field(min_length=1)

    def judge(self, facts: Facts) -> Truth:
        """Kleene's disjunction."""
        return any_of([part.judge(facts) for part in self.any])

    def steps(self, facts: Facts, sought: bool = True) -> Iterator[Step]:
        """The atoms that make it `sought`, or else those in the way."""
        return _deciding(self.any, facts, sought, together=not sought)


class Not(_Frozen):
    """True when the part is false."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
    part: Clause = Field(alias="not")

    def judge(self, facts: Facts) -> Truth:
        """Kleene's negation."""
        truth = self.part.judge(facts)
        return None if truth is None else not truth

    def steps(self, facts: Facts, sought: bool = True) -> Iterator[Step]:
        """The atoms of the part, sought the other way round."""
        return self.part.steps(facts, not sought)


class Quadrants(_Frozen):
    """True when an atom holds in at least so many quadrants."""

    where: Atom
    at_least: int = Field(ge=1, le=4)

    @model_validator(mode="after")
    def _lower_limits_only(self) -> Quadrants:
        if self.where.lt is not None or self.where.le is not None:
            raise ValueError("in quadrants an atom has lower limits only")
        return self

    def judge(self, facts: Facts) -> Truth:
        """Counts what is certain and what is possible."""
        truths = self._truths(facts)
        if sum(truth is True for truth in truths) >= self.at_least:
            return True
        possible = sum(truth is not False for truth in truths)
        return None if possible >= self.at_least else False

    def steps(self, facts: Facts, sought: bool = True) -> Iterator[Step]:
        """One step for all quadrants together."""
        truth, fact = self.judge(facts), self.where.fact
        truths = self._truths(facts)
        held = [name for name, one in zip(QUADRANTS, truths, strict=True) if one]
        unseen = [name for name, one in zip(QUADRANTS, truths, strict=True) if one is None]
        told = f"held in {', '.join(held)}; " if held else ""
        reason = f"{told}not settled in {', '.join(unseen)}" if truth is None else ""
        text = f"{self.where} in at least {self.at_least} of 4 quadrants"
        yield _step(text, fact, truth, sought, facts.evidence.get(fact, ()), reason)

    def _truths(self, facts: Facts) -> list[Truth]:
        fact = self.where.fact
        # No quadrant exceeds what the whole does not exceed.
        nowhere = self.where.holds(facts.whole.get(fact)) is False
        truths: list[Truth] = []
        for name in QUADRANTS:
            truth = self.where.holds(facts.in_quadrant(fact, name))
            absent = truth is None and (nowhere or facts.lacks(fact, name))
            truths.append(False if absent else truth)
        return truths


class Sum(_Frozen):
    """True when scores add up to at least so much; what is unknown may be anything allowed."""

    sum: tuple[FactName, ...] = Field(min_length=2)
    each_at_most: float = Field(gt=0)
    ge: float

    def judge(self, facts: Facts) -> Truth:
        """Compares the least and the greatest possible total."""
        return _compare(self._total(facts), "ge", self.ge)

    def steps(self, facts: Facts, sought: bool = True) -> Iterator[Step]:
        """One step for the total."""
        truth, total = self.judge(facts), self._total(facts)
        unseen = [fact for fact in self.sum if facts.value(fact) is None]
        reason = f"{total.low:g} to {total.high:g}; not assessed: {', '.join(unseen) or 'none'}"
        evidence = dict.fromkeys(e for fact in self.sum for e in facts.evidence.get(fact, ()))
        fact = " + ".join(self.sum)
        yield _step(
            f"{fact} >= {self.ge:g}", fact, truth, sought, tuple(evidence),
            reason if truth is None else "", f"{fact} < {self.ge:g}",
        )  # fmt: skip

    def _total(self, facts: Facts) -> Bounds:
        most = self.each_at_most
        values = [facts.value(fact) for fact in self.sum]
        parts = [Bounds(0.0, most) if value is None else as_bounds(value) for value in values]
        return Bounds(
            sum(min(part.low, most) for part in parts), sum(min(part.high, most) for part in parts)
        )


def _kind(value: object) -> str | None:
    """Which of the clauses it is, by the one key that only this has."""
    if isinstance(value, Not):
        return "not"
    if isinstance(value, BaseModel):
        keys = set(type(value).model_fields)
    else:
        keys = set(value) if isinstance(value, dict) else set()
    found = keys & {"fact", "all", "any", "not", "where", "sum"}
    return found.pop() if len(found) == 1 else None


Clause = Annotated[
    Annotated[Atom, Tag("fact")]
    | Annotated[All, Tag("all")]
    | Annotated[Any, Tag("any")]
    | Annotated[Not, Tag("not")]
    | Annotated[Quadrants, Tag("where")]
    | Annotated[Sum, Tag("sum")],
    Discriminator(
        _kind,
        custom_error_type="clause",
        custom_error_message="a clause has exactly one of: fact, all, any, not, where, sum",
    ),
]
for _model in (All, Any, Not):
    _model.model_rebuild()


def all_of(truths: list[Truth]) -> Truth:
    """Kleene's conjunction of many."""
    if any(truth is False for truth in truths):
        return False
    return None if any(truth is None for truth in truths) else True


def any_of(truths: list[Truth]) -> Truth:
    """Kleene's disjunction of many."""
    if any(truth is True for truth in truths):
        return True
    return None if any(truth is None for truth in truths) else False


def as_bounds(value: bool | float | Bounds) -> Bounds:
    """A number; a presence is some number above 0, an absence is 0."""
    if isinstance(value, bool):
        return Bounds(math.ulp(0.0), math.inf) if value else Bounds(0.0, 0.0)
    return value if isinstance(value, Bounds) else Bounds(value, value)


_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}
_OPPOSITES = {"gt": "le", "ge": "lt", "lt": "ge", "le": "gt"}
_COMPARISONS = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}


def _compare(bounds: Bounds, how: str, limit: float) -> Truth:
    holds = _COMPARISONS[how]
    at_low, at_high = holds(bounds.low, limit), holds(bounds.high, limit)
    return at_low if at_low == at_high else None


def _step(
    asked: str,
    fact: str,
    truth: Truth,
    sought: bool,
    evidence: tuple[str, ...],
    reason: str,
    opposite: str = "",
) -> Step:
    """A step about an atom, or about its opposite where that is sought."""
    if sought:
        return Step(asked, fact, truth, evidence, reason, asked)
    turned = None if truth is None else not truth
    return Step(opposite or f"no {asked}", fact, turned, evidence, reason, asked)


def _deciding(
    parts: tuple[Clause, ...], facts: Facts, sought: bool, *, together: bool
) -> Iterator[Step]:
    """The atoms of the parts that count.

    Together every part has to be as sought: once they are, all count, else those in the
    way. Otherwise one part is enough: those that are as sought count, or all when none is.
    """
    fitting = [part for part in parts if part.judge(facts) is sought]
    others = [part for part in parts if part.judge(facts) is not sought]
    counting = (others or fitting) if together else (fitting or others)
    for part in counting:
        yield from part.steps(facts, sought)


def _why_open(value: Value, reason: str | None) -> str:
    if value is None or reason:
        return reason or "not assessed"
    bounds = as_bounds(value)
    if bounds.high == math.inf:
        return "known to be present only" if bounds.low < 1.0 else f"at least {bounds.low:g}"
    return f"between {bounds.low:g} and {bounds.high:g}"
