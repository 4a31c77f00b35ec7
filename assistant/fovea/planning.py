"""What the language model would call for a question; nothing is run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fovea.errors import FoveaError
from fovea.evidence import ImageRecord
from fovea.llm.base import system_prompt
from fovea.manifest import field_messages
from fovea.offer import offered_tools
from fovea.registry import Registry


class Turn(BaseModel):
    """One line of earlier conversation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Literal["user", "assistant"]
    content: str


class Question(BaseModel):
    """One line of a question file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str | int = ""
    question: str
    images: int = Field(0, ge=0, le=16)
    history: tuple[Turn, ...] = ()


def read_question(line: str, number: int) -> Question:
    """One JSON line as a question.

    Raises:
        FoveaError: naming the line and the field.
    """
    try:
        return Question.model_validate_json(line)
    except ValidationError as error:
        raise FoveaError(
            "It is not a question", where=f"line {number}", why=field_messages(error),
            fix='Write {"id", "question", "images", "history"} as JSON',
        ) from error  # fmt: skip


def plan(question: Question, registry: Registry, model: BaseChatModel) -> dict[str, Any]:
    """The calls and the reply of the model's first step, as plain JSON."""
    handles = [f"img{n}" for n in range(1, question.images + 1)]
    return plan_with(question, offered_tools(registry, handles), model)


def plan_with(
    question: Question, tools: Sequence[Mapping[str, Any]], model: BaseChatModel
) -> dict[str, Any]:
    """The same for the tools that are given, as OpenAI-style functions."""
    handles = [f"img{n}" for n in range(1, question.images + 1)]
    records = [
        ImageRecord(handle=handle, sha256="0" * 64, format="JPEG", width=2000, height=2000)
        for handle in handles
    ]
    messages: list[BaseMessage] = [SystemMessage(system_prompt(records))]
    messages += _history(question.history)
    messages.append(HumanMessage(question.question))
    clock = time.perf_counter()
    reply = model.bind_tools([dict(tool) for tool in tools]).invoke(messages)
    seconds = time.perf_counter() - clock
    calls: Sequence[Mapping[str, Any]] = reply.tool_calls if isinstance(reply, AIMessage) else []
    planned: dict[str, Any] = {
        "id": question.id,
        "calls": [{"tool": call["name"], "arguments": call["args"]} for call in calls],
        "reply": str(reply.text),
        "seconds": round(seconds, 4),
    }
    if told := reply.response_metadata.get("notice"):
        planned["notice"] = str(told)
    return planned


def _history(turns: Sequence[Turn]) -> list[BaseMessage]:
    return [
        HumanMessage(turn.content) if turn.role == "user" else AIMessage(turn.content)
        for turn in turns
    ]
