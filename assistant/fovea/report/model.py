"""The report as data. Its JSON is the source; every other format is a view of it."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fovea.evidence import ImageRecord
from fovea.image import Eye
from fovea.report.labels import LABEL, REVIEWED, SIGN_AGAIN

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


class Edit(_Frozen):
    """What a reviewer made of one sentence. The draft itself stays as it was."""

    section: int = Field(ge=1, le=17)
    sentence: int = Field(ge=1, description="Place in its section; a place after the last adds.")
    before: str = Field(description="Empty: the sentence is new.")
    after: str = Field(max_length=2000, description="Empty: the sentence is taken out.")
    by: str
    at: str = Field(description="UTC, ISO 8601.")


class Signature(_Frozen):
    """Who reviewed the report, and the digest of what was reviewed."""

    by: str = Field(min_length=2, max_length=120)
    at: str = Field(description="UTC, ISO 8601.")
    digest: str = Field(description="SHA-256 of the draft with the edits made until then.")


class Report(_Frozen):
    """A report over the photographs of a session: the draft, its edits and signatures.

    Attributes:
        label: The state, as it stands on every export: an AI draft, or reviewed by whom.
        sections: The draft. What a reader is shown is `fovea.report.review.shown`.
    """

    schema_version: Literal[1] = 1
    label: str
    created: str = Field(description="UTC, ISO 8601.")
    images: tuple[ImageRecord, ...]
    sections: tuple[Section, ...] = Field(min_length=17, max_length=17)
    evidence: tuple[str, ...]
    knowledge: tuple[SourceText, ...]
    knowledge_version: str
    edits: tuple[Edit, ...] = ()
    signatures: tuple[Signature, ...] = ()

    @model_validator(mode="after")
    def _state_is_true(self) -> Report:
        if self.label != self.state():
            raise ValueError(
                "`label` is not the state of this report: it was changed outside of a review"
            )
        return self

    def digest(self) -> str:
        """SHA-256 of the draft and its edits, without label and signatures."""
        content = self.model_dump(mode="json", exclude={"label", "signatures"})
        plain = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(plain.encode()).hexdigest()

    def signature(self) -> Signature | None:
        """The last signature, if nothing was changed since."""
        last = self.signatures[-1] if self.signatures else None
        return last if last and last.digest == self.digest() else None

    def state(self) -> str:
        """What `label` has to say."""
        valid = self.signature()
        if valid:
            return REVIEWED.format(by=valid.by, at=valid.at)
        if self.signatures:
            return f"{LABEL} {SIGN_AGAIN.format(by=self.signatures[-1].by)}"
        return LABEL

    def section(self, key: str) -> Section:
        """The section of that key."""
        return next(section for section in self.sections if section.key == key)
