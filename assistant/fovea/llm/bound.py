"""A chat model that lives in this process and knows which tools it may call."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams, LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import Field

from fovea.llm.base import ToolSpec


class BoundModel(BaseChatModel):
    """Answers with `_reply`; `bind_tools` gives a copy that may call these tools and no others."""

    tools: tuple[ToolSpec, ...] = Field(default=(), description="Tools bound to this copy.")

    @property
    def _llm_type(self) -> str:
        return type(self).__name__

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """A copy of the model that may call these tools and no others.

        `tool_choice` is handed on with each call; a model that decides by itself, as the
        rules planner does, need not follow it.
        """
        copy = self.model_copy(update={"tools": tuple(ToolSpec.from_bound(t) for t in tools)})
        return copy.bind(tool_choice=tool_choice) if tool_choice else copy

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        """What langchain reports to tracers: a model without a name is called by its type."""
        found = super()._get_ls_params(stop=stop, **kwargs)
        found.setdefault("ls_model_name", self._llm_type)
        return found

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self._reply(messages))])

    @abstractmethod
    def _reply(self, messages: Sequence[BaseMessage]) -> AIMessage:
        """The next message of the conversation."""
