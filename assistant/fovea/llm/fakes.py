"""Chat models for tests: one follows a script, one calls every tool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.messages.tool import tool_call
from pydantic import Field, PrivateAttr

from fovea.llm.base import minimal_value
from fovea.llm.bound import BoundModel

Scripted = str | Sequence[tuple[str, dict[str, Any]]]


class ScriptedModel(BoundModel):
    """Gives the replies it was told to give, in order.

    A reply is text, or a list of (tool, arguments) to call. Asking for more
    replies than there are is an `AssertionError`.

    Example:
        >>> model = ScriptedModel(replies=[[("assess_quality", {})], "Done."])
        >>> model.invoke("Is it sharp?").tool_calls[0]["name"]
        'assess_quality'
    """

    replies: list[Any] = Field(description="Text, or a list of (tool, arguments).")
    seen: list[list[BaseMessage]] = Field(
        default_factory=list, description="The messages of each call, for assertions."
    )
    # A list is shared by the copies that `bind_tools` makes; a number would not be.
    _given: list[int] = PrivateAttr(default_factory=list)

    def _reply(self, messages: Sequence[BaseMessage]) -> AIMessage:
        place = len(self._given)
        if place >= len(self.replies):
            raise AssertionError(
                f"the script has {len(self.replies)} replies, another was asked for"
            )
        self._given.append(place)
        self.seen.append(list(messages))
        reply: Scripted = self.replies[place]
        if isinstance(reply, str):
            return AIMessage(content=reply)
        return _calls([(name, arguments) for name, arguments in reply], prefix=f"scripted_{place}")


class EveryTool(BoundModel):
    """Calls every bound tool once with the smallest valid arguments, then answers."""

    answer: str = Field("Every tool was called.", description="What it says at the end.")

    def _reply(self, messages: Sequence[BaseMessage]) -> AIMessage:
        if messages and isinstance(messages[-1], ToolMessage):
            return AIMessage(content=self.answer)
        calls = [
            (tool.name, minimal_value({**tool.parameters, "type": "object"}, tool.parameters))
            for tool in self.tools
        ]
        return _calls(calls, prefix="every") if calls else AIMessage(content=self.answer)


def _calls(calls: Sequence[tuple[str, dict[str, Any]]], *, prefix: str) -> AIMessage:
    return AIMessage(
        content="",
        tool_calls=[
            tool_call(name=name, args=arguments, id=f"{prefix}_{place}")
            for place, (name, arguments) in enumerate(calls)
        ],
    )
