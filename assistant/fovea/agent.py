"""The conversation loop: one turn as a generator of typed events.

The model proposes tool calls, the workbench runs them, the checker strikes what
no evidence supports. Page, command line and API render the events.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)

from fovea.errors import BadArguments, Cancelled, FoveaError, StepLimitReached
from fovea.events import AnswerChunk, Answered, Event, Notice, Refused, Stopped
from fovea.evidence import Evidence
from fovea.llm.base import system_prompt
from fovea.offer import DRAFT_REPORT, offered_tools, split_images
from fovea.report.check import check_text
from fovea.report.draft import draft_report
from fovea.session import Message, Session
from fovea.workbench import Workbench

log = logging.getLogger(__name__)

MAX_TRIES_PER_TOOL = 2
MAX_QUESTION_CHARS = 4000
STOPPED = "Stopped. What was measured so far is kept."


def answer_turn(question: str, workbench: Workbench, model: BaseChatModel) -> Iterator[Event]:
    """Answer one question in a session; hold `session.turn()` while iterating.

    Evidence made before an interruption is kept; the transcript always gets both
    the question and what was answered, even if that is the reason for stopping.
    """
    session = workbench.session
    question = question.strip()[:MAX_QUESTION_CHARS]
    messages: list[BaseMessage] = [
        SystemMessage(system_prompt(list(session.images.values()))),
        *_history(session),
        HumanMessage(question),
    ]
    session.messages.append(Message(role="user", content=question))
    ids: list[str] = []
    final: Answered | Stopped
    try:
        final = yield from _steps(messages, workbench, model, ids)
    except Cancelled:
        final = Stopped(reason="cancelled", text=STOPPED)
    except GeneratorExit:  # the page was closed: the transcript still says how the turn ended
        session.messages.append(Message(role="assistant", content=STOPPED))
        raise
    except StepLimitReached as error:
        final = Stopped(reason="steps", text=str(error))
    except FoveaError as error:
        final = Stopped(reason="model_error", text=str(error))
    except Exception:  # a model backend is a stranger's code: never a traceback to people
        log_id = uuid.uuid4().hex[:8]
        log.exception("model failed, log id %s", log_id)
        text = f"The language model failed; the details are in the log under id {log_id}."
        final = Stopped(reason="model_error", text=text)
    session.messages.append(
        Message(role="assistant", content=final.text, evidence_ids=tuple(dict.fromkeys(ids)))
    )
    yield final


def _steps(
    messages: list[BaseMessage], workbench: Workbench, model: BaseChatModel, ids: list[str]
) -> Generator[Event, None, Answered]:
    session = workbench.session
    handles = tuple(session.images)
    tools = offered_tools(workbench.registry, handles)
    bound: Any = model.bind_tools(tools) if tools else model
    bad_tries: dict[str, int] = {}
    refusals: dict[str, str] = {}
    for _ in range(session.settings.max_steps):
        reply = yield from _reply(bound, messages, session)
        messages.append(reply)
        if told := reply.response_metadata.get("notice"):
            yield Notice(text=str(told))
        if not reply.tool_calls and not reply.invalid_tool_calls:
            checked = check_text(
                _text(reply),
                list(session.evidence.values()),
                workbench.knowledge,
                images=list(session.images.values()),
                refused=refusals,
            )
            return Answered(
                text=checked.kept or "I have no supported answer to that.",
                evidence_ids=tuple(dict.fromkeys(ids)),
                struck=tuple(s.sentence for s in checked.struck),
            )
        for invalid in reply.invalid_tool_calls:
            messages.append(
                ToolMessage(
                    "The arguments were not valid JSON. Send them again.",
                    tool_call_id=invalid.get("id") or "invalid",
                    status="error",
                )
            )
        for call in reply.tool_calls:
            answer = yield from _call(call, workbench, handles, bad_tries)
            if isinstance(answer.artifact, Evidence):
                ids.append(answer.artifact.id)
            else:
                refusals[call["name"]] = str(answer.text)
            messages.append(answer)
    raise StepLimitReached(
        f"The question took more than {session.settings.max_steps} steps",
        why="What was measured so far is kept",
        fix="Ask for one thing at a time",
    )


def _reply(
    model: Any, messages: Sequence[BaseMessage], session: Session
) -> Generator[Event, None, AIMessage]:
    """One reply of the model; its text is passed on while it comes in."""
    whole: AIMessageChunk | None = None
    for chunk in model.stream(list(messages)):
        if session.stop.is_set():
            raise Cancelled
        if isinstance(chunk, AIMessage) and not isinstance(chunk, AIMessageChunk):
            return chunk  # a model that cannot stream answers at once
        whole = chunk if whole is None else whole + chunk
        if chunk.content and not whole.tool_call_chunks:
            yield AnswerChunk(text=_text(chunk))
    if whole is None:
        return AIMessage("")
    return AIMessage(
        content=whole.content,
        tool_calls=whole.tool_calls,
        invalid_tool_calls=whole.invalid_tool_calls,
        response_metadata=whole.response_metadata,
    )


def _call(
    call: ToolCall, workbench: Workbench, handles: tuple[str, ...], bad_tries: dict[str, int]
) -> Generator[Event, None, ToolMessage]:
    """Run one tool call; whatever happens becomes a message that the model can use."""
    tool, call_id = call["name"], call["id"] or "call"
    try:
        if bad_tries.get(tool, 0) >= MAX_TRIES_PER_TOOL:
            raise BadArguments(tool, "It was called wrongly too often and is not tried again")
        if tool == DRAFT_REPORT:
            running = draft_report(workbench)
        else:
            manifest = workbench.registry.manifest(tool)
            arguments, images = split_images(tool, manifest, call["args"], handles)
            running = workbench.run(tool, arguments, images)
    except FoveaError as error:
        bad_tries[tool] = bad_tries.get(tool, 0) + 1
        yield Refused(call_id=call_id, tool=tool, error=error.code, reason=str(error), seconds=0.0)
        return _refusal(call_id, tool, error)
    try:
        evidence = yield from running
    except Cancelled:
        raise
    except FoveaError as error:  # its Refused event has been seen already
        if isinstance(error, BadArguments):
            bad_tries[tool] = bad_tries.get(tool, 0) + 1
        return _refusal(call_id, tool, error)
    content = {"evidence": evidence.id, "summary": evidence.result.summary}
    return ToolMessage(
        json.dumps(content, ensure_ascii=False), tool_call_id=call_id, name=tool, artifact=evidence
    )


def _refusal(call_id: str, tool: str, error: FoveaError) -> ToolMessage:
    return ToolMessage(str(error), tool_call_id=call_id, name=tool, status="error")


def _history(session: Session) -> list[BaseMessage]:
    return [
        HumanMessage(m.content) if m.role == "user" else AIMessage(m.content)
        for m in session.messages
    ]


def _text(message: AIMessage | AIMessageChunk) -> str:
    return message.text if isinstance(message.text, str) else str(message.text())
