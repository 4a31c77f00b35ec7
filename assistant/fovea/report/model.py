"""The report as data. Its JSON is the source; every other format is a view of it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from fovea.evidence import ImageRecord
from fovea.image import Eye

State = Literal["filled", "absent", "not_assessable", "not_measured"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class History(_Frozen):
    """What was told about the person: quoted as data, never obeyed. None is not known."""

    text: str = Field("", max_length=2000, description="Indication and history, word for word.")
    diabetes: bool | None = None
    age_years: float | None = Field(None, ge=0, le=130)
    myopia: bool | None = None


class Fact(_Frozen):
    """One machine-readable statement behind a sentence."""

    kind: Literal[
        "measurement", "finding", "not_measured", "comparison", "case", "statement", "grade"
    ]
    name: str
    value: float | None = None
    unit: str | None = None
    low: float | None = None
    high: float | None = None
    state: str | None = None
    text: str | None = None
    eye: Eye | None = None
    image: str | None = None
    zone: str | None = None


class Sentence(_Frozen):
    """Prose that ends in its citations, and the facts that it words."""

    text: str
    evidence: tuple[str, ...] = ()
    knowledge: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()


class Row(_Frozen):
    """A labelled value, such as the date or a digest."""

    label: str
    value: str


class Section(_Frozen):
    """One of the 17 sections; never silently empty."""

    number: int = Field(ge=1, le=17)
    key: str
    title: str
    state: State
    reason: str = Field("", description="Why the section is not filled.")
    sentences: tuple[Sentence, ...] = ()
    rows: tuple[Row, ...] = ()


class SourceText(_Frozen):
    """A cited entry of the knowledge base with its publications."""

    id: str
    title: str
    review: str
    sources: tuple[str, ...]


class Report(_Frozen):
    """A draft report over the photographs of a session."""

    schema_version: Literal[1] = 1
    label: str
    created: str = Field(description="UTC, ISO 8601.")
    images: tuple[ImageRecord, ...]
    sections: tuple[Section, ...] = Field(min_length=17, max_length=17)
    evidence: tuple[str, ...]
    knowledge: tuple[SourceText, ...]
    knowledge_version: str

    def section(self, key: str) -> Section:
        """The section of that key."""
        return next(section for section in self.sections if section.key == key)
