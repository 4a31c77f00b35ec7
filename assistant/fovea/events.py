"""What happens in one turn, as typed events. Page, command line and API only render them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fovea.evidence import Evidence


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CallStarted(_Event):
    """A plugin begins. `parent` names the call that needs its result, if any."""

    call_id: str
    tool: str
    title: str
    arguments: Mapping[str, Any]
    images: tuple[str, ...]
    parent: str | None = None


class CallProgress(_Event):
    """A running plugin says what it is doing."""

    call_id: str
    text: str


class Called(_Event):
    """A plugin has answered; `reused` if the answer was already there."""

    call_id: str
    evidence: Evidence
    seconds: float
    reused: bool


class Refused(_Event):
    """A plugin gave no answer. `reason` is the whole message for people."""

    call_id: str
    tool: str
    error: str = Field(description="Class name from `fovea.errors`.")
    reason: str
    seconds: float


class ReportDrafted(_Event):
    """A report was composed and lies in the session under this id."""

    report_id: str


class AnswerChunk(_Event):
    """A piece of the answer while it is being written."""

    text: str


class Notice(_Event):
    """What the person should know about this turn, such as who planned it and why."""

    text: str


class Answered(_Event):
    """The checked answer. `struck` are sentences that no evidence supports."""

    text: str
    evidence_ids: tuple[str, ...]
    struck: tuple[str, ...] = ()


class Stopped(_Event):
    """The turn ended without a full answer; evidence made so far is kept."""

    reason: Literal["cancelled", "steps", "model_error"]
    text: str


Event = (
    CallStarted
    | CallProgress
    | Called
    | Refused
    | ReportDrafted
    | AnswerChunk
    | Notice
    | Answered
    | Stopped
)
