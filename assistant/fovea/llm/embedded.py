"""The small planner of `fovea llm train`: it plans, rules word the answers.

Its reply is a handful of tokens: aliases of tools, numbers of photographs, or the kind of
a plain reply. The grammar of a turn allows only what the offered tools and the photographs
of the session make possible; arguments that the model does not choose are filled in here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from fovea.llm.arguments import how_many, subject
from fovea.llm.base import ImageFact, ToolSpec, minimal_value, read_session_facts, resolved
from fovea.llm.clause import LOOKUP
from fovea.llm.compact import (
    ALL_IMAGES,
    IMAGE_TOKENS,
    MAX_IMAGES,
    MAX_TOOLS,
    OWN_TOOLS,
    REPLY_KINDS,
    REPLY_TOKENS,
    aliases_of,
    as_chat,
)
from fovea.llm.families import Malformed, Parsed, RawCall
from fovea.llm.matching import Described, comparer
from fovea.llm.planning import (
    NEED_IMAGE,
    NEED_OTHER,
    NEED_SECOND,
    NO_TOOLS,
    REPLIES,
    abilities,
)
from fovea.llm.suggestion import suggestion

_TOKEN = re.compile(r"<(t\d+|i\d+|all|[a-z_]+)>")
_PAIR = ("first", "second")


@dataclass(frozen=True)
class CompactTurn:
    """One turn as the small planner sees it.

    Attributes:
        tools: Tools that it is offered, at most as many as it has aliases.
        images: Photographs of the session.
        history: Earlier turns as (role, text).
        question: The question of this turn.
    """

    tools: tuple[ToolSpec, ...]
    images: tuple[ImageFact, ...]
    history: tuple[tuple[str, str], ...]
    question: str

    @classmethod
    def of(cls, messages: Sequence[BaseMessage], tools: Sequence[ToolSpec]) -> CompactTurn:
        """The turn that a conversation ends with."""
        images: tuple[ImageFact, ...] = ()
        for message in messages:
            if isinstance(message, SystemMessage):
                images = read_session_facts(str(message.text)) or images
        spoken = [
            ("user" if isinstance(message, HumanMessage) else "assistant", str(message.text))
            for message in messages
            if isinstance(message, HumanMessage)
            or (isinstance(message, AIMessage) and message.text)
        ]
        asked = max((n for n, (role, _) in enumerate(spoken) if role == "user"), default=-1)
        question = spoken[asked][1] if asked >= 0 else ""
        return cls(_most_fitting(tools, question), images[:MAX_IMAGES],
                   tuple(spoken[:max(asked, 0)]), question)  # fmt: skip

    def chat(self) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
        """Tools and messages for the chat template."""
        names = [tool.name for tool in self.tools]
        aliases = dict(zip(names, aliases_of(names), strict=True))
        said = suggestion(self.question, self.history, self.images, self.tools, aliases)
        return as_chat(self.tools, self.images, self.history, self.question, said)

    def grammar(self) -> str:
        """What may be answered in this turn.

        Fovea's own tools may always be meant: if one is not installed, `read` says so.
        """
        offered = {tool.name: tool for tool in self.tools}
        names = [*OWN_TOOLS, *(name for name in offered if name not in OWN_TOOLS)]
        calls = []
        for name, alias in zip(names, aliases_of(names), strict=True):
            tool = offered.get(name)
            many = len(self._handles(tool)) if tool else len(self.images)
            one = " | ".join(IMAGE_TOKENS[:many])
            if tool is None:
                calls.append(f"{alias} ({one} | {ALL_IMAGES}){{0,3}}" if many > 1 else alias)
            elif "image" in tool.properties:
                calls.append(f"{alias} ({one} | {ALL_IMAGES}){{1,{min(many, 3)}}}")
            elif set(_PAIR) <= set(tool.properties):
                calls.append(f"{alias} ({one}) ({one})")
            else:
                calls.append(alias)
        replies = " | ".join(REPLY_TOKENS)
        return f"start: reply | call{{1,6}}\nreply: {replies}\ncall: {' | '.join(calls)}\n"

    def read(self, reply: str) -> Parsed:
        """The calls and words that the tokens of a reply stand for."""
        marks = [mark for mark in _TOKEN.findall(reply) if mark != "end"]
        offered = {tool.name: tool for tool in self.tools}
        names = [*OWN_TOOLS, *(name for name in offered if name not in OWN_TOOLS)]
        by_alias = {alias[1:-1]: n for n, alias in zip(names, aliases_of(names), strict=True)}
        meant: dict[str, list[str]] = {}
        malformed = []
        for mark in marks:
            if mark in REPLY_KINDS:
                return Parsed(self.words(mark))
            if mark in by_alias:
                places = meant.setdefault(by_alias[mark], [])
            elif meant and (mark == "all" or f"<{mark}>" in IMAGE_TOKENS):
                places.append(mark)
            else:
                malformed.append(Malformed(f"<{mark}>", "no tool or photograph goes by that"))
        if not meant and not malformed:
            malformed.append(Malformed(reply, "it is empty"))
        notes = [note for name in meant if (note := self._hindrance(name))]
        calls = [
            call
            for name, places in meant.items()
            if not self._hindrance(name)
            for call in self._calls(offered[name], places)
        ]
        words = " ".join(dict.fromkeys(notes)) if not calls and not malformed else ""
        return Parsed(words, tuple(calls), tuple(malformed))

    def _hindrance(self, name: str) -> str:
        """Why a tool cannot be called now; empty if it can."""
        if name not in {tool.name for tool in self.tools}:
            return f"No plugin for `{name}` is installed. {abilities(self._names())}".strip()
        if name in OWN_TOOLS and name != LOOKUP:
            if not self.images:
                return NEED_IMAGE
            if name == "compare_images" and len(self.images) < 2:
                return NEED_SECOND
        return ""

    def _names(self) -> set[str]:
        return {tool.name for tool in self.tools}

    def words(self, kind: str) -> str:
        """What is said when nothing is called."""
        able = abilities(self._names())
        if kind == "ask_image":
            return NEED_OTHER if self.images else NEED_IMAGE
        return f"{REPLIES[kind]} {'' if kind == 'thank' else able}".strip() or NO_TOOLS

    def _handles(self, tool: ToolSpec) -> tuple[str, ...]:
        for name in ("image", *_PAIR):
            if name in tool.properties:
                allowed = resolved(tool.properties[name], tool.parameters).get("enum", ())
                return tuple(str(handle) for handle in allowed)[:MAX_IMAGES]
        return ()

    def _calls(self, tool: ToolSpec, places: Sequence[str]) -> list[RawCall]:
        handles = self._handles(tool)
        chosen = [handles[int(mark[1:]) - 1] for mark in dict.fromkeys(places) if mark != "all"]
        if "all" in places or not chosen:
            chosen = list(handles)
        rest = self._arguments(tool)
        if set(_PAIR) <= set(tool.properties):
            pair = sorted([*chosen, *(h for h in handles if h not in chosen)][:2])
            return [RawCall(tool.name, {**dict(zip(_PAIR, pair, strict=True)), **rest})]
        if "image" in tool.properties:
            return [RawCall(tool.name, {"image": handle, **rest}) for handle in chosen]
        return [RawCall(tool.name, rest)]

    def _arguments(self, tool: ToolSpec) -> dict[str, Any]:
        """Arguments other than photographs: as the question says, else the smallest allowed."""
        given: dict[str, Any] = {}
        text = subject(self.question, [said for role, said in self.history if role == "user"])
        for name, schema in tool.properties.items():
            if name in ("image", *_PAIR):
                continue
            kind = resolved(schema, tool.parameters)
            named = self._named(kind)
            if named is not None:
                given[name] = named
            elif name in tool.required:
                given[name] = minimal_value(schema, tool.parameters, text=text)
        return given

    def _named(self, schema: Mapping[str, Any]) -> Any:
        """The allowed value that the question names, if it names one."""
        said = self.question.lower()
        if "enum" in schema:
            return next(
                (v for v in schema["enum"]
                 if re.search(rf"\b{re.escape(str(v).replace('_', ' ').lower())}\b", said)), None
            )  # fmt: skip
        if schema.get("type") == "integer" and (count := how_many(self.question)):
            low, high = schema.get("minimum", 1), schema.get("maximum", count)
            return int(min(max(count, low), high))
        return None


def _most_fitting(tools: Sequence[ToolSpec], question: str) -> tuple[ToolSpec, ...]:
    """At most as many tools as there are aliases; Fovea's own and the best matches stay."""
    own = [tool for tool in tools if tool.name in OWN_TOOLS]
    others = [tool for tool in tools if tool.name not in OWN_TOOLS]
    room = MAX_TOOLS - len(OWN_TOOLS)
    if len(others) > room:
        seen = comparer()
        near = {
            tool.name: float(seen.likenesses(question, Described.of(tool), 0.5)[:-2].sum())
            for tool in others
        }
        others = sorted(others, key=lambda tool: -near[tool.name])[:room]
    kept = {tool.name for tool in (*own, *others)}
    return tuple(tool for tool in tools if tool.name in kept)
