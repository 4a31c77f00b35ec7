"""Keeps a conversation within a model's context: older turns become a summary.

What was measured stays, with its evidence id; nothing is cut without a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from fovea.errors import ModelError
from fovea.llm.messages import summary_line

HEADING = "Summary of the conversation so far (older turns were left out to save room):"
NO_ROOM = "Older turns of this conversation had to be left out; say so if they matter."


def fitted(
    messages: Sequence[BaseMessage], length: Callable[[Sequence[BaseMessage]], int], limit: int
) -> list[BaseMessage]:
    """The messages, with as many old turns summarised as the limit asks for.

    Args:
        messages: The conversation.
        length: Tokens that some messages take.
        limit: Tokens that are free.

    Raises:
        ModelError: even the last turn alone is too long.
    """
    if length(messages) <= limit:
        return list(messages)
    system = [m for m in messages if isinstance(m, SystemMessage)]
    turns = _turns([m for m in messages if not isinstance(m, SystemMessage)])
    for dropped in range(1, len(turns)):
        old = [message for turn in turns[:dropped] for message in turn]
        kept = [message for turn in turns[dropped:] for message in turn]
        for shorten in (False, True):
            told = _summary(system, old, evidence_only=shorten)
            if length([told, *kept]) <= limit:
                return [told, *kept]
    left_out = SystemMessage("\n".join([*(str(m.text) for m in system), NO_ROOM]))
    alone = [left_out, *turns[-1]] if len(turns) > 1 else list(messages)
    needed = length(alone)
    if needed <= limit:
        return alone
    raise ModelError(
        "The question does not fit into the model's context",
        why=f"It needs {needed} tokens, {limit} are free",
        fix="Ask a shorter question, or use a model with a longer context",
    )


def _turns(messages: Sequence[BaseMessage]) -> list[list[BaseMessage]]:
    turns: list[list[BaseMessage]] = []
    for message in messages:
        if isinstance(message, HumanMessage) or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns


def _summary(
    system: Sequence[BaseMessage], old: Sequence[BaseMessage], *, evidence_only: bool
) -> SystemMessage:
    """The system prompt with a line for every old message, or for every old evidence."""
    lines = [summary_line(message) for message in old]
    if evidence_only:
        lines = [line for line in lines if line.startswith("[E")]
    before = "\n".join(str(message.text) for message in system)
    return SystemMessage("\n".join([before, HEADING, *lines]).strip())
