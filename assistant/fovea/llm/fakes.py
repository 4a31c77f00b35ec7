"""Chat models for tests: one follows a script, one calls every tool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.messages.tool import tool_call
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import Field, PrivateAttr

from fovea.llm.base import ToolSpec, minimal_value

Scripted = str | Sequence[tuple[str, dict[str, Any]]]


class _FakeModel(BaseChatModel):
    """Binds tools without a network."""

    tools: tuple[ToolSpec, ...] = Field(default=(), description="Tools bound to this copy.")

    @property
    def _llm_type(self) -> str:
        return "fovea-fake"

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """A copy that knows these tools; a script goes on where it was."""
        return self.model_copy(update={"tools": tuple(ToolSpec.from_bound(t) for t in tools)})

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._reply(messages))])

    def _reply(self, messages: Sequence[BaseMessage]) -> AIMessage:
        raise NotImplementedError


class ScriptedModel(_FakeModel):
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


class EveryTool(_FakeModel):
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
