"""What one YAML file of the knowledge base may say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, field_validator, model_validator

from fovea.manifest import Structure

Kind = Literal["condition", "finding", "anatomy", "quality", "scale", "biomarker", "guideline"]
Urgency = Literal["U0", "U1", "U2", "U3", "U4w", "U4", "U5"]
"""Referral urgency from U0 (usual recall) to U5 (now); U4w: a macula service in one working day."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Reference(_Frozen):
    """One publication in `references.yaml`."""

    citation: str = Field(min_length=15)
    doi: str | None = Field(None, pattern=r"^10\.\d{4,9}/\S+$")
    url: str | None = Field(None, pattern=r"^https://\S+$")


class Translated(_Frozen):
    """A name in English."""

    en: str = Field(min_length=2)


class Synonyms(_Frozen):
    """Other names; spelling variants, plurals and hyphens need not be listed."""

    en: tuple[str, ...] = ()


class Cited(_Frozen):
    """A statement in our own words with the sources that it rests on."""

    text: str = Field(min_length=10)
    cite: tuple[str, ...] = Field(min_length=1)


class Explanation(_Frozen):
    """What it is, once for clinicians and once for everybody."""

    clinician: str = Field(min_length=20)
    lay: str = Field(min_length=20)
    cite: tuple[str, ...] = Field(min_length=1)


class Descriptor(Cited):
    """How it looks, for report wording and for image-text prompts."""

    use: tuple[Literal["prompt", "report"], ...] = Field(min_length=1)


class Related(_Frozen):
    """Another entry and what its presence means for this one."""

    ref: str
    role: Literal["supports", "required", "excludes"]


class Criteria(Cited):
    """The clause of a grading scale that this entry stands for."""

    scale: str = Field(description="Id of an entry of kind `scale`.")
    grade: str
    image_limits: str = Field("", description="What one photograph cannot settle.")


class RangePoint(_Frozen):
    """Bounds at one disc diameter; between points they are interpolated linearly."""

    disc_diameter_mm: FiniteFloat = Field(gt=0)
    median: FiniteFloat
    high: FiniteFloat = Field(description="97.5th percentile.")


class Range(Cited):
    """Reference values of one measuring method. They hold for no other method."""

    output: str = Field(description="Measurement name that the range is about.")
    method: str = Field(min_length=5, description="Compared word for word with the measurement's.")
    unit: str
    population: str = Field(min_length=5)
    mean: FiniteFloat | None = None
    sd: FiniteFloat | None = Field(None, gt=0)
    by_disc_diameter: tuple[RangePoint, ...] = ()

    @model_validator(mode="after")
    def _one_form(self) -> Range:
        has_mean = self.mean is not None and self.sd is not None
        if has_mean == bool(self.by_disc_diameter) or (self.mean is None) != (self.sd is None):
            raise ValueError("give either `mean` and `sd`, or `by_disc_diameter`")
        sizes = [point.disc_diameter_mm for point in self.by_disc_diameter]
        if len(sizes) == 1 or sizes != sorted(set(sizes)):
            raise ValueError("`by_disc_diameter` needs at least two points of rising diameter")
        return self


class Referral(Cited):
    """What one guideline asks for."""

    urgency: Urgency


class Source(_Frozen):
    """Which publication stands behind which claim of this entry."""

    key: str
    claim: str = Field(min_length=3)
    locator: str = ""


class Review(_Frozen):
    """Who has checked the entry. `draft` until a clinician has."""

    status: Literal["draft", "clinician_reviewed"]
    by: str | None = None
    date: str | None = Field(None, pattern=r"^\d{4}-\d{2}-\d{2}$")

    @model_validator(mode="after")
    def _reviewer_named(self) -> Review:
        if self.status == "clinician_reviewed" and not (self.by and self.date):
            raise ValueError("a reviewed entry names reviewer (`by`) and `date`")
        return self


class Entry(_Frozen):
    """One concept of the knowledge base."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    kind: Kind
    name: Translated
    synonyms: Synonyms = Synonyms()
    structure: Structure | None = Field(None, description="What must be gradable to judge it.")
    outputs: Mapping[str, tuple[str, ...]] = Field(
        default_factory=dict, description="Plugin outputs about it, with phrases that name them."
    )
    dataset_labels: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    codes: Mapping[str, str] = Field(default_factory=dict)
    findings: tuple[Related, ...] = ()
    text: Explanation
    descriptors: tuple[Descriptor, ...] = ()
    criteria: Criteria | None = None
    ranges: tuple[Range, ...] = ()
    differential: tuple[str, ...] = Field((), description="Ids of entries that look alike.")
    pitfalls: tuple[Cited, ...] = ()
    referral: Mapping[str, Referral] = Field(
        default_factory=dict, description="Guideline set (`uk_nhs`, `us_ada_aao`) to its advice."
    )
    no_referral: Mapping[str, str] = Field(
        default_factory=dict, description="Guideline set to the reason why it has no advice here."
    )
    sources: tuple[Source, ...] = Field(min_length=1)
    review: Review

    @model_validator(mode="after")
    def _advice_or_reason(self) -> Entry:
        both = sorted(self.referral.keys() & self.no_referral.keys())
        if both:
            raise ValueError(f"`{both[0]}` has advice in `referral` and a reason for having none")
        return self

    @field_validator("descriptors")
    @classmethod
    def _say_something(cls, value: tuple[Descriptor, ...]) -> tuple[Descriptor, ...]:
        if any(len(descriptor.text.split()) < 4 for descriptor in value):
            raise ValueError("a descriptor says how it looks, in at least four words")
        return value

    @model_validator(mode="after")
    def _cites_are_listed(self) -> Entry:
        listed = {source.key for source in self.sources}
        unlisted = sorted({key for cited in self.cited() for key in cited.cite} - listed)
        if unlisted:
            raise ValueError(f"cites {', '.join(unlisted)}, which `sources` does not list")
        return self

    def cited(self) -> Iterator[Cited | Explanation]:
        """Every part of the entry that carries citations."""
        yield self.text
        yield from self.descriptors
        if self.criteria:
            yield self.criteria
        yield from self.ranges
        yield from self.pitfalls
        yield from self.referral.values()

    def names(self) -> tuple[str, ...]:
        """Name, synonyms and the phrases of its outputs."""
        phrases = (phrase for group in self.outputs.values() for phrase in group)
        return tuple(dict.fromkeys((self.name.en, *self.synonyms.en, *phrases)))

    def refs(self) -> tuple[tuple[str, str], ...]:
        """Pairs of field and id of every entry that this one points to."""
        pairs = [("findings", related.ref) for related in self.findings]
        pairs += [("differential", other) for other in self.differential]
        if self.criteria:
            pairs.append(("criteria", self.criteria.scale))
        return tuple(pairs)

    def statements(self) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
        """Every quotable statement as (topic, text, citation keys)."""
        found = [
            ("definition", self.text.clinician, self.text.cite),
            ("in plain words", self.text.lay, self.text.cite),
        ]
        found += [("appearance", part.text, part.cite) for part in self.descriptors]
        if self.criteria:
            found.append(("criteria", self.criteria.text, self.criteria.cite))
        found += [("reference values", part.text, part.cite) for part in self.ranges]
        found += [("pitfall", part.text, part.cite) for part in self.pitfalls]
        found += [
            (f"referral, {name}", part.text, part.cite) for name, part in self.referral.items()
        ]
        return tuple(found)
