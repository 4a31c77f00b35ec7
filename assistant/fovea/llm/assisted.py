"""A language model with the rules planner at its side.

The conversation never stops because a model does: when it fails, answers with something
unusable or is not sure enough, the rules planner takes the turn over and says so.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGenerationChunk
from pydantic import Field, PrivateAttr

from fovea.errors import BadReply, FoveaError, ModelError
from fovea.llm.bound import BoundModel
from fovea.llm.rules import CHANCES, WISHED, RulesChatModel
from fovea.llm.weighing import is_sure, weighed

log = logging.getLogger(__name__)

NOTICE = "notice"
"""Key of a reply's metadata: what the person should be told about who answered."""
LONGEST_REPLY = 100_000
_TAKEN_OVER = "The rules planner answers instead."
_UNSURE = (
    "The language model read the question otherwise, but was not sure (confidence "
    "{confidence:.0%}, below {threshold:.0%}); the rules planner chose the tools."
)


class AssistedModel(BoundModel):
    """A chat model that falls back on rules.

    Attributes:
        plans_only: The model chooses tools; rules word the answer from the evidence.
        threshold: Confidence below which the rules planner chooses; 0 always trusts the model.
    """

    label: str = Field(description="What the model is called in messages to people.")
    plans_only: bool = Field(False, description="Rules word the answers.")
    threshold: float = Field(0.0, ge=0, le=1, description="Least confidence of a plan.")
    _make: Callable[[], BaseChatModel] = PrivateAttr()
    # Lists are shared by the copies that `bind_tools` makes.
    _made: list[BaseChatModel] = PrivateAttr(default_factory=list)
    _failed: list[ModelError] = PrivateAttr(default_factory=list)
    _making: list[threading.Lock] = PrivateAttr(default_factory=lambda: [threading.Lock()])

    @classmethod
    def around(
        cls, make: Callable[[], BaseChatModel], *, label: str, **fields: Any
    ) -> AssistedModel:
        """The model that `make` gives; it is made at the first question."""
        assisted = cls(label=label, **fields)
        assisted._make = make
        return assisted

    @property
    def wrapped(self) -> BaseChatModel:
        """The language model itself.

        Raises:
            ModelError: it cannot be loaded.
        """
        with self._making[0]:
            if self._failed:
                raise self._failed[0]
            if not self._made:
                try:
                    self._made.append(self._make())
                except ModelError as error:
                    self._failed.append(error)
                    raise
            return self._made[0]

    @property
    def sees_images(self) -> bool:
        """Whether photographs can go into the messages."""
        if self.plans_only:
            return False
        try:
            return bool(getattr(self.wrapped, "sees_images", False))
        except ModelError:
            return False

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        turn = _turn(messages)
        answering = any(isinstance(message, ToolMessage) for message in turn)
        handed_over = any(
            isinstance(m, AIMessage) and m.response_metadata.get("planner") == "rules" for m in turn
        )
        if handed_over or (answering and self.plans_only):
            yield from self._by_rules(messages)
            return
        try:
            if self.plans_only:
                yield self._planned(messages)
            else:
                yield from self._written(messages, turn, stop)
        except ModelError as error:
            yield from self._by_rules(messages, f"{error} {_TAKEN_OVER}")
        except FoveaError:
            raise
        except Exception:  # a backend is a stranger's code
            log_id = uuid.uuid4().hex[:8]
            log.exception("language model failed, log id %s", log_id)
            told = f"{self.label} failed; the details are in the log under id {log_id}."
            yield from self._by_rules(messages, f"{told} {_TAKEN_OVER}")

    def _reply(self, messages: Sequence[BaseMessage]) -> AIMessage:
        whole: Any = None
        for chunk in self._stream(list(messages)):
            whole = chunk if whole is None else whole + chunk
        message = whole.message
        return AIMessage(
            content=message.content, tool_calls=message.tool_calls,
            response_metadata=message.response_metadata,
        )  # fmt: skip

    # Who answers ----------------------------------------------------------------

    def _planned(self, messages: list[BaseMessage]) -> ChatGenerationChunk:
        ruled = self._rules().invoke(messages)
        chances = ruled.response_metadata.get(CHANCES, {})
        if is_sure(chances) and {tool.name for tool in self.tools} <= set(chances):
            return _chunk(ruled, {"planner": "rules"})
        bound: Any = self.wrapped.bind_tools([_as_dict(tool) for tool in self.tools])
        reply = bound.invoke(messages)
        self._check(reply, [])
        sure = float(reply.response_metadata.get("confidence", 1.0))
        wished = {call["name"] for call in reply.tool_calls}
        by_rules = set(ruled.response_metadata.get(WISHED, ()))
        if wished == by_rules or not (wished or ruled.tool_calls):
            return _chunk(ruled, {"planner": "both", "confidence": sure})
        sure = weighed(sure, wished, by_rules, chances)
        if sure < self.threshold:
            told = _UNSURE.format(confidence=sure, threshold=self.threshold)
            return _chunk(ruled, {"planner": "rules", "confidence": sure, NOTICE: told})
        if wished:  # which photographs are meant the rules read better
            reply = self._rules().reply_to(messages, wished)
        return _chunk(reply, {"planner": "model", "confidence": sure})

    def _written(
        self, messages: list[BaseMessage], turn: Sequence[BaseMessage], stop: list[str] | None
    ) -> Iterator[ChatGenerationChunk]:
        model: Any = self.wrapped
        bound = model.bind_tools([_as_dict(tool) for tool in self.tools]) if self.tools else model
        whole: AIMessageChunk | None = None
        size = 0
        for chunk in bound.stream(messages, stop=stop):
            if not isinstance(chunk, AIMessageChunk):  # a model that cannot stream
                chunk = AIMessageChunk(**chunk.model_dump(exclude={"type"}))
            whole = chunk if whole is None else whole + chunk
            size += len(str(chunk.text))
            if size > LONGEST_REPLY:
                raise BadReply(f"{self.label} wrote more than {LONGEST_REPLY} characters",
                               fix="Lower `FOVEA_MAX_NEW_TOKENS`")  # fmt: skip
            if str(chunk.text).strip() and not whole.tool_call_chunks:
                yield ChatGenerationChunk(message=AIMessageChunk(content=chunk.content))
        if whole is None:
            raise BadReply(f"{self.label} said nothing")
        reply = AIMessage(
            content=whole.content, tool_calls=whole.tool_calls,
            invalid_tool_calls=whole.invalid_tool_calls,
            response_metadata=whole.response_metadata,
        )  # fmt: skip
        self._check(reply, turn)
        if reply.tool_calls:
            yield _chunk(reply.model_copy(update={"content": ""}), {"planner": "model"})
        else:
            yield ChatGenerationChunk(
                message=AIMessageChunk(content="", response_metadata={"planner": "model"})
            )

    def _by_rules(
        self, messages: list[BaseMessage], notice: str = ""
    ) -> Iterator[ChatGenerationChunk]:
        noted: dict[str, Any] = {"planner": "rules"}
        if notice:
            noted[NOTICE] = notice
        yield _chunk(self._rules().invoke(messages), noted)

    def _rules(self) -> Any:
        return RulesChatModel().bind_tools([_as_dict(tool) for tool in self.tools])

    def _check(self, reply: AIMessage, turn: Sequence[BaseMessage]) -> None:
        """Refuse a reply that cannot be used.

        Raises:
            BadReply: malformed or unknown call, the same call again and again, or nothing.
        """
        if reply.invalid_tool_calls:
            bad = reply.invalid_tool_calls[0]
            raise BadReply(f"{self.label} wrote a tool call that cannot be read",
                           why=str(bad.get("error") or "")[:200])  # fmt: skip
        known = {tool.name for tool in self.tools}
        for call in reply.tool_calls:
            if call["name"] not in known:
                raise BadReply(f"{self.label} called the unknown tool `{call['name'][:60]}`",
                               why=f"It was offered {len(known)} others")  # fmt: skip
        done = [key for message in turn if isinstance(message, AIMessage) for key in _keys(message)]
        again = [key for key in _keys(reply) if done.count(key) >= 2]
        if again:
            raise BadReply(f"{self.label} makes the same call over and over",
                           where=f"`{json.loads(again[0])[0]}`")  # fmt: skip
        if not reply.tool_calls and not str(reply.text).strip():
            raise BadReply(f"{self.label} gave an empty reply")
        if reply.response_metadata.get("finish_reason") == "length":
            raise BadReply(f"{self.label} did not come to an end",
                           fix="Raise `FOVEA_MAX_NEW_TOKENS`, or use a larger model")  # fmt: skip


def _turn(messages: Sequence[BaseMessage]) -> Sequence[BaseMessage]:
    asked = [n for n, message in enumerate(messages) if isinstance(message, HumanMessage)]
    return messages[asked[-1] + 1 :] if asked else ()


def _keys(message: AIMessage) -> list[str]:
    return [json.dumps([c["name"], c["args"]], sort_keys=True) for c in message.tool_calls]


def _chunk(reply: AIMessage, noted: dict[str, Any]) -> ChatGenerationChunk:
    from langchain_core.messages.tool import tool_call_chunk

    chunks = [
        tool_call_chunk(name=c["name"], args=json.dumps(c["args"]), id=c["id"], index=place)
        for place, c in enumerate(reply.tool_calls)
    ]
    return ChatGenerationChunk(
        message=AIMessageChunk(
            content=reply.content, tool_call_chunks=chunks, response_metadata=noted
        )
    )


def _as_dict(tool: Any) -> dict[str, Any]:
    return {
        "name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)
    }  # fmt: skip
