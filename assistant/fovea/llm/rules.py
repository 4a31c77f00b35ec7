"""A chat model without a network: rules choose the tools and word the evidence.

It is deterministic, answers in milliseconds and loads no language model: what stands beside
the learned planners, takes over where they fail, and words their answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.tool import tool_call, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from fovea.evidence import Evidence
from fovea.llm.answers import Step, compose
from fovea.llm.base import ImageFact, ToolSpec, read_session_facts, resolved
from fovea.llm.bound import BoundModel
from fovea.llm.clause import LOOKUP, Ask
from fovea.llm.planning import Plan, plan_turn

CHANCES = "chances"
"""Key of a reply's metadata: probability of each tool by the word model."""
WISHED = "wished"
"""Key of a reply's metadata: tools that are wished for, whether they can be called or not."""
_CHUNK = re.compile(r"\S+\s*")
_IMAGE_TOOLS = frozenset({"assess_quality", "segment_optic_disc", "classify_disease"})


class RulesChatModel(BoundModel):
    """The deterministic planner as a langchain chat model.

    Example:
        >>> model = RulesChatModel().bind_tools([{
        ...     "name": "lookup_knowledge", "description": "Definitions.",
        ...     "parameters": {"type": "object", "required": ["query"],
        ...                    "properties": {"query": {"type": "string"}}}}])
        >>> model.invoke("What is a normal CDR?").tool_calls[0]["name"]
        'lookup_knowledge'
    """

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        reply = self._reply(messages)
        if reply.tool_calls:
            chunks = [
                tool_call_chunk(
                    name=call["name"], args=json.dumps(call["args"]), id=call["id"], index=place
                )
                for place, call in enumerate(reply.tool_calls)
            ]
            yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=chunks))
            return
        for piece in _CHUNK.findall(reply.text):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
            if run_manager:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk

    def _reply(self, messages: Sequence[BaseMessage]) -> AIMessage:
        return self.reply_to(messages)

    def reply_to(
        self, messages: Sequence[BaseMessage], wished: Collection[str] | None = None
    ) -> AIMessage:
        """The calls or the answer of this turn.

        Args:
            messages: The conversation.
            wished: Tools that a language model found the question to wish for, if it was asked.
        """
        start = max(
            (n for n, message in enumerate(messages) if isinstance(message, HumanMessage)),
            default=None,
        )
        questions = [str(m.text) for m in messages if isinstance(m, HumanMessage)]
        turn = messages[start + 1 :] if start is not None else []
        # Planned as before the calls: an eye that they found must not change what was asked.
        known = self._images(messages[: len(messages) - len(turn)])
        said = [str(m.text) for m in messages[:start] if isinstance(m, AIMessage) and m.text]
        plan = plan_turn(
            questions or [""], known, self.tools, said[-1] if said else "", wished=wished
        )
        images = self._images(messages)
        if any(isinstance(message, ToolMessage) for message in turn):
            # Without a plan of its own there is nothing that it could not do.
            notes = plan.notes if plan.calls else ()
            return AIMessage(content=compose(_steps(turn, plan), images, notes))
        noted = {CHANCES: plan.chances, WISHED: sorted(plan.wished)}
        if not plan.calls:
            return AIMessage(content=plan.reply, response_metadata=noted)
        return AIMessage(
            content="",
            tool_calls=[
                # Numbered by turn, so that ids stay unique within a conversation.
                tool_call(
                    name=call.tool, args=dict(call.arguments), id=f"call_{len(questions)}_{place}"
                )
                for place, call in enumerate(plan.calls, 1)
            ],
            response_metadata=noted,
        )

    def _images(self, messages: Sequence[BaseMessage]) -> tuple[ImageFact, ...]:
        """The photographs: as the host lists them, else as the tools' arguments name them."""
        listed = None
        for message in messages:
            if isinstance(message, SystemMessage):
                facts = read_session_facts(str(message.text))
                listed = listed if facts is None else facts
        if listed is None:
            listed = _from_schemas(self.tools)
        eyes = _eyes_seen(messages)
        return tuple(ImageFact(i.handle, i.eye or eyes.get(i.handle)) for i in listed)


def _from_schemas(tools: Sequence[ToolSpec]) -> tuple[ImageFact, ...]:
    for tool in tools:
        for name in ("image", "first"):
            if name in tool.properties:
                handles = resolved(tool.properties[name], tool.parameters).get("enum", ())
                if handles:
                    return tuple(ImageFact(str(handle)) for handle in handles)
    # One photograph needs no handle: the tools that look at it are offered without one.
    offered = {tool.name for tool in tools} & _IMAGE_TOOLS
    return (ImageFact("img1"),) if offered else ()


def _eyes_seen(messages: Sequence[BaseMessage]) -> dict[str, Any]:
    """Eyes that earlier evidence of the conversation has determined, by handle."""
    eyes = {}
    for message in messages:
        artifact = message.artifact if isinstance(message, ToolMessage) else None
        if isinstance(artifact, Evidence) and len(artifact.images) == 1:
            finding = artifact.result.finding("eye")
            if finding and finding.state == "present" and finding.value in {"OD", "OS"}:
                eyes[artifact.images[0]] = finding.value
    return eyes


def _steps(turn: Sequence[BaseMessage], plan: Plan) -> list[Step]:
    """The calls of this turn with what they asked, in the order of the plan."""
    called = {
        call["id"]: call
        for message in turn
        if isinstance(message, AIMessage)
        for call in message.tool_calls
    }
    order: list[tuple[int, Step]] = []
    for message in turn:
        if not isinstance(message, ToolMessage):
            continue
        call = called.get(message.tool_call_id)
        tool = call["name"] if call else message.name or ""
        place, ask = _asked(tool, call["args"] if call else {}, plan)
        evidence = message.artifact if isinstance(message.artifact, Evidence) else None
        step = Step(ask, evidence, str(message.text), message.status == "error")
        order.append((place, step))
    return [step for _, step in sorted(order, key=lambda pair: pair[0])]


def _asked(tool: str, arguments: dict[str, Any], plan: Plan) -> tuple[int, Ask]:
    same = [(n, call) for n, call in enumerate(plan.calls) if call.tool == tool]
    for place, call in same:
        if dict(call.arguments) == arguments:
            return place, call.ask
    if same:
        return same[0][0], same[0][1].ask
    return len(plan.calls), Ask(
        tool, query=str(arguments.get("query", "")) if tool == LOOKUP else ""
    )
