"""From langchain messages to what a chat template expects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from fovea.llm.vision import is_image, picture_of

_ROLES = {HumanMessage: "user", AIMessage: "assistant", SystemMessage: "system"}


def as_template_messages(
    messages: Sequence[BaseMessage], tokenizer: Any, *, sees: bool
) -> tuple[list[dict[str, Any]], list[Any]]:
    """Template messages and the pictures in them, in order.

    Text that looks like a control token of the model is broken up, so that a question cannot
    open a turn of its own. Pictures are left out when the model does not see.
    """
    marks = tuple(sorted(_marks(tokenizer), key=len, reverse=True))
    out: list[dict[str, Any]] = []
    pictures: list[Any] = []
    for message in messages:
        text = harmless(str(message.text), marks)
        if isinstance(message, ToolMessage):
            named = {"name": message.name} if message.name else {}
            out.append(
                {"role": "tool", "content": text, "tool_call_id": message.tool_call_id, **named}
            )
            continue
        role = next((r for kind, r in _ROLES.items() if isinstance(message, kind)), "user")
        content: Any = text
        if sees:
            found = [picture_of(b) for b in _blocks(message) if is_image(b)]
            pictures += found
            content = [{"type": "image"}] * len(found) + [{"type": "text", "text": text}]
        entry: dict[str, Any] = {"role": role, "content": content}
        if isinstance(message, AIMessage) and message.tool_calls:
            entry["tool_calls"] = [
                {"type": "function", "id": call["id"],
                 "function": {"name": call["name"], "arguments": call["args"]}}
                for call in message.tool_calls
            ]  # fmt: skip
        out.append(entry)
    return out, pictures


def harmless(text: str, marks: Sequence[str]) -> str:
    """The text with every control token broken up by a space."""
    for mark in marks:
        if mark in text:
            text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text


def _marks(tokenizer: Any) -> set[str]:
    return {mark for mark in tokenizer.get_added_vocab() if len(mark) > 2 and mark.strip() == mark}


def _blocks(message: BaseMessage) -> list[Any]:
    return list(message.content) if isinstance(message.content, list) else []


def summary_line(message: BaseMessage) -> str:
    """One line about a message that had to make room."""
    if isinstance(message, ToolMessage):
        try:
            told = json.loads(str(message.text))
            return f"[{told['evidence']}] {told['summary']}"
        except (ValueError, KeyError, TypeError):
            return f"{message.name or 'tool'}: {_start(str(message.text))}"
    if isinstance(message, HumanMessage):
        return f"The person asked: {_start(str(message.text))}"
    calls = message.tool_calls if isinstance(message, AIMessage) else []
    if calls:
        return f"Called: {', '.join(call['name'] for call in calls)}"
    return f"Answered: {_start(str(message.text))}"


def _start(text: str, words: int = 24) -> str:
    parts = text.split()
    return " ".join(parts[:words]) + (" ..." if len(parts) > words else "")
