"""Grades by rules: which grade the facts prove, which they leave open, and why.

Each grade of a scale has a clause. The gravest grade whose clause is true is proved;
a graver one whose clause is unknown is not excluded. A grade is therefore bounded
where the photograph cannot settle it, and never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fovea.knowledge.clauses import Any, Atom, Clause, Facts, Not, Step, Truth


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


_REST = Atom(fact="rest")


class GradeRule(_Frozen):
    """One grade of a scale and the clause that earns it."""

    grade: str = Field(min_length=1)
    name: str = Field(min_length=3)
    when: Clause = Field(_REST, description="Left out: what is left when no other grade holds.")
    entry: str | None = Field(None, description="Id of the condition that the grade stands for.")


class Applies(_Frozen):
    """Whom, or which photographs, a scale is made for."""

    when: Clause
    to: str = Field(min_length=5, description="The same in words: `a person older than 55 years`.")
    otherwise: str = Field("not graded", min_length=3, description="What the report says instead.")


class ScaleRules(_Frozen):
    """The grades of a scale from the mildest to the gravest; the gravest that holds counts."""

    id: str = Field(
        pattern=r"^s_[a-z0-9_]+(\.[a-z0-9_]+)?$",
        description="Id of the scale's entry; after a dot, the part of a scale that has several.",
    )
    name: str = Field(min_length=3)
    cite: tuple[str, ...] = Field(min_length=1)
    image_limits: str = Field(min_length=10, description="What one photograph cannot settle.")
    applies: tuple[Applies, ...] = ()
    grades: tuple[GradeRule, ...] = Field(min_length=2)

    @field_validator("grades")
    @classmethod
    def _what_is_left(cls, grades: tuple[GradeRule, ...]) -> tuple[GradeRule, ...]:
        mildest, *others = grades
        if any("when" not in rule.model_fields_set for rule in others):
            raise ValueError("only the mildest grade may leave `when` out")
        if "when" in mildest.model_fields_set:
            return grades
        nothing_else = Not(part=Any(any=tuple(rule.when for rule in others)))
        return (mildest.model_copy(update={"when": nothing_else}), *others)

    @model_validator(mode="after")
    def _distinct(self) -> ScaleRules:
        names = [rule.grade for rule in self.grades]
        if len(names) != len(set(names)):
            raise ValueError("two grades have the same name")
        return self

    @property
    def entry(self) -> str:
        """Id of the entry about the scale."""
        return self.id.partition(".")[0]

    def clauses(self) -> tuple[Clause, ...]:
        """Every clause: of the grades in their order, then those about whom it is made for."""
        graded = tuple(rule.when for rule in self.grades)
        return graded + tuple(part.when for part in self.applies)


@dataclass(frozen=True)
class Grading:
    """What the facts say on one scale.

    Attributes:
        scale: Id of the scale.
        lowest, highest: The mildest and the gravest grade that the facts allow.
        proved: Whether the clause of `lowest` is true; otherwise nothing is graded,
            and `lowest` is only not excluded.
        because: The atoms that earn `lowest`; none when it is not proved.
        missing_up: What the next graver grade would need and does not have, or is
            not known.
        missing_down: What would have to be otherwise for the next milder grade.
        unsettled: What is not known, and would have to be to name one grade.
        provided: What is not known about whether the scale applies at all.
        only_for: Whom the scale is made for, as far as that is not known of this eye.
    """

    scale: str
    lowest: GradeRule
    highest: GradeRule
    proved: bool
    because: tuple[Step, ...]
    missing_up: tuple[Step, ...]
    missing_down: tuple[Step, ...]
    unsettled: tuple[Step, ...]
    provided: tuple[Step, ...]
    only_for: tuple[Applies, ...]

    @property
    def exact(self) -> bool:
        """Whether one grade only is left, is proved, and the scale surely applies."""
        return self.proved and self.lowest == self.highest and not self.only_for

    def words(self) -> str:
        """The grade as a report words it."""
        if not self.only_for:
            return self._graded()
        whom = " and ".join(part.to for part in self.only_for)
        return f"{self._graded()}; the scale is for {whom}, which is not known here"

    def _graded(self) -> str:
        if self.proved and self.lowest == self.highest:
            return self.lowest.name
        if self.proved:
            return (
                f"at least {self.lowest.name}; up to {self.highest.name} is not excluded, "
                "because not everything that it asks for could be assessed"
            )
        if self.lowest == self.highest:
            return f"not graded: {self.lowest.name} is not excluded"
        return (
            "not graded: nothing is proved; "
            f"{self.lowest.name} to {self.highest.name} are not excluded"
        )


@dataclass(frozen=True)
class NotGraded:
    """A scale that is not made for this eye or this photograph.

    Attributes:
        scale: Id of the scale.
        applies: Whom the scale is made for, and what is said otherwise.
        because: The atoms that keep it from being applied.
    """

    scale: str
    applies: Applies
    because: tuple[Step, ...]

    def words(self) -> str:
        """Why there is no grade, as a report words it."""
        return f"{self.applies.otherwise}: the scale is for {self.applies.to}"


def grade(rules: ScaleRules, facts: Facts) -> Grading | NotGraded:
    """The grading of the facts on one scale.

    Raises:
        ValueError: every clause is false, so the scale is not exhaustive.
    """
    for part in rules.applies:
        if part.when.judge(facts) is False:
            return NotGraded(rules.id, part, _unique(part.when.steps(facts, sought=False)))
    doubted = tuple(part for part in rules.applies if part.when.judge(facts) is None)
    truths: list[Truth] = [rule.when.judge(facts) for rule in rules.grades]
    possible = [index for index, truth in enumerate(truths) if truth is not False]
    if not possible:
        raise ValueError(f"the scale `{rules.id}` has no grade for these facts: it has a gap")
    certain = [index for index, truth in enumerate(truths) if truth is True]
    lowest = certain[-1] if certain else possible[0]
    here = _unique(rules.grades[lowest].when.steps(facts)) if certain else ()
    open_grades = [index for index in possible if index > lowest or not certain]
    return Grading(
        scale=rules.id,
        lowest=rules.grades[lowest],
        highest=rules.grades[possible[-1]],
        proved=bool(certain),
        because=here,
        missing_up=_unique(
            step for rule in rules.grades[lowest + 1 :][:1] for step in rule.when.steps(facts)
        ),
        missing_down=here if lowest else (),
        unsettled=_unknown(facts, [rules.grades[index] for index in open_grades]),
        provided=_unique(step for part in doubted for step in part.when.steps(facts)),
        only_for=doubted,
    )


def _unknown(facts: Facts, rules: Sequence[GradeRule]) -> tuple[Step, ...]:
    """The unknown atoms of open grades, once each although the mildest seeks their absence."""
    steps = [step for rule in rules for step in rule.when.steps(facts) if step.truth is None]
    plain = {step.asked for step in steps if step.text == step.asked}
    return _unique(step for step in steps if step.text == step.asked or step.asked not in plain)


def _unique(steps: Iterable[Step]) -> tuple[Step, ...]:
    return tuple(dict.fromkeys(steps))
