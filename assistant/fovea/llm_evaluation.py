"""How well a language model chooses tools: measured on questions with known answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from pydantic import Field, ValidationError

from fovea.errors import FoveaError
from fovea.llm.base import resolved
from fovea.llm.compact import OWN_TOOLS
from fovea.llm.training.phrases import grammar, lines
from fovea.manifest import field_messages
from fovea.offer import DRAFT_REPORT, offered_tools
from fovea.planning import Question, plan_with
from fovea.registry import Registry

_SIGHTLESS = frozenset({"lookup_knowledge", DRAFT_REPORT})


class Case(Question):
    """A question and the tools that answer it.

    Attributes:
        expect: The tools, in any order; empty if none may be called.
        accept: Further sets of tools that are as good.
        kind: What calling anything would be: a `false_trigger` on an off-topic question, or a
            `near_miss` on another modality.
    """

    expect: tuple[str, ...]
    accept: tuple[tuple[str, ...], ...] = ()
    kind: Literal["", "off_topic", "near_miss"] = ""
    handles: tuple[str, ...] | None = Field(None, description="Photographs that must be named.")


@dataclass
class Figures:
    """What was measured; shares are of all questions unless said otherwise."""

    questions: int = 0
    exact: int = 0
    right_calls: int = 0
    made_calls: int = 0
    wanted_calls: int = 0
    invalid: int = 0
    kinds: dict[str, list[int]] = field(default_factory=dict)
    handed_over: int = 0
    handles: list[int] = field(default_factory=lambda: [0, 0])
    seconds: list[float] = field(default_factory=list)
    wrong: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON; a share without a single question is null."""
        off, near = (self.kinds.get(kind, [0, 0]) for kind in ("off_topic", "near_miss"))
        ordered = sorted(self.seconds)
        return {
            "questions": self.questions,
            "exact_tool_set": _share(self.exact, self.questions),
            "precision": _share(self.right_calls, self.made_calls),
            "recall": _share(self.right_calls, self.wanted_calls),
            "arguments_valid": _share(self.made_calls - self.invalid, self.made_calls),
            "photographs_right": _share(*self.handles),
            "false_trigger_off_topic": _share(*off),
            "off_topic_questions": off[1],
            "near_miss": _share(*near),
            "near_miss_questions": near[1],
            "handed_to_rules": _share(self.handed_over, self.questions),
            "seconds_median": _quantile(ordered, 0.5),
            "seconds_p95": _quantile(ordered, 0.95),
            "wrong": self.wrong,
        }


def read_cases(path: Path) -> list[Case]:
    """The questions of a file of JSON lines.

    Raises:
        FoveaError: naming the line and the field.
    """
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            found.append(Case.model_validate_json(line))
        except ValidationError as error:
            raise FoveaError(
                "It is not a question with its answer", where=f"{path.name}, line {number}",
                why=field_messages(error), fix='Write {"question", "images", "expect"} as JSON',
            ) from error  # fmt: skip
    return found


def evaluate(model: BaseChatModel, cases: Sequence[Case], registry: Registry) -> Figures:
    """Ask a model every question; nothing is run.

    Tools of Fovea that are not installed are offered all the same, so that figures do not
    depend on the installation.
    """
    figures = Figures()
    for case in cases:
        handles = [f"img{n}" for n in range(1, case.images + 1)]
        tools = every_tool(registry, handles)
        planned = plan_with(case, tools, model)
        _count(figures, case, planned, tools)
    return figures


def every_tool(registry: Registry, handles: Sequence[str]) -> list[dict[str, Any]]:
    """The healthy tools, and stand-ins for those of Fovea that are not installed."""
    tools = offered_tools(registry, handles)
    present = {tool["name"] for tool in tools}
    return [*tools, *(_stand_in(name, handles) for name in OWN_TOOLS if name not in present)]


def _stand_in(name: str, handles: Sequence[str]) -> dict[str, Any]:
    named: list[str] = []
    if name == "compare_images":
        named = ["first", "second"] if len(handles) > 2 else []
    elif name not in _SIGHTLESS:
        named = ["image"] if len(handles) > 1 else []
    return {
        "name": name,
        "description": lines(grammar("tools")[name]["says"])[0],
        "parameters": {
            "type": "object",
            "properties": {n: {"type": "string", "enum": list(handles)} for n in named},
            "required": named,
            "additionalProperties": False,
        },
    }


def _count(
    figures: Figures, case: Case, planned: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]
) -> None:
    made = [call["tool"] for call in planned["calls"]]
    got, wanted = set(made), set(case.expect)
    right = got == wanted or any(got == set(other) for other in case.accept)
    figures.questions += 1
    figures.exact += right
    figures.right_calls += len(got) if right else len(got & wanted)
    figures.made_calls += len(got)
    figures.wanted_calls += len(got) if right else len(wanted)
    figures.handed_over += "notice" in planned
    figures.seconds.append(planned["seconds"])
    schemas = {tool["name"]: tool["parameters"] for tool in tools}
    bad = {c["tool"] for c in planned["calls"] if problems(c["arguments"], schemas[c["tool"]])}
    figures.invalid += len(bad)
    if case.kind:
        counted = figures.kinds.setdefault(case.kind, [0, 0])
        counted[0] += bool(got)
        counted[1] += 1
    if case.handles is not None and right:
        named = sorted(call["arguments"].get("image", "") for call in planned["calls"])
        figures.handles[0] += named == sorted(case.handles)
        figures.handles[1] += 1
    if not right:
        figures.wrong.append(
            {"id": case.id, "question": case.question, "images": case.images,
             "expect": sorted(wanted), "got": sorted(got)}
        )  # fmt: skip


def problems(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    """What is wrong with the arguments of a call; empty if they fit the schema."""
    return list(_problems(arguments, schema))


_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
    "array": (list,), "object": (dict,), "null": (type(None),),
}  # fmt: skip


def _problems(arguments: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    properties = schema.get("properties", {})
    yield from (f"`{n}` is missing" for n in schema.get("required", ()) if n not in arguments)
    for name, value in arguments.items():
        if name not in properties:
            yield f"`{name}` is not known"
            continue
        part = resolved(properties[name], schema)
        if "enum" in part and value not in part["enum"]:
            yield f"`{name}` is none of its values"
        kinds = part.get("type", ())
        allowed = [
            t for kind in ([kinds] if isinstance(kinds, str) else kinds) for t in _TYPES[kind]
        ]
        if allowed and not isinstance(value, tuple(allowed)):
            yield f"`{name}` has the wrong type"
        elif isinstance(value, str) and not (
            part.get("minLength", 0) <= len(value) <= part.get("maxLength", math.inf)
        ):
            yield f"`{name}` is too short or too long"
        elif isinstance(value, int | float) and not (
            part.get("minimum", -math.inf) <= value <= part.get("maximum", math.inf)
        ):
            yield f"`{name}` is out of range"


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    if not ordered:
        return None
    return round(ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)], 4)
