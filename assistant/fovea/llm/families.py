"""How each family of language models writes tool calls: one pure function per family.

Every parser takes the raw text of a reply and gives the plain text, the calls and what
looked like a call but was none; it never raises. Malformed calls are reported, not guessed.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

FamilyName = Literal["hermes", "llama3", "mistral", "gemma", "pythonic", "fovea"]


@dataclass(frozen=True)
class RawCall:
    """A tool call as the model wrote it; nothing is checked yet."""

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Malformed:
    """Text that was meant as a tool call and is none."""

    text: str
    why: str


@dataclass(frozen=True)
class Parsed:
    """A reply taken apart."""

    text: str = ""
    calls: tuple[RawCall, ...] = ()
    malformed: tuple[Malformed, ...] = field(default=())


def parse_hermes(reply: str) -> Parsed:
    r"""Hermes and Qwen: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`.

    >>> parse_hermes('<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>').calls[0].name
    'f'
    """
    pieces = re.split(r"<tool_call>(.*?)(?:</tool_call>|\Z)", _without_thoughts(reply), flags=re.S)
    return _collected("".join(pieces[::2]), pieces[1::2], _named_object)


def parse_llama3(reply: str) -> Parsed:
    """Llama 3.x: `{"name": ..., "parameters": {...}}`, several apart by `;`, tagged or not."""
    text = re.sub(r"<\|eo[tm]_id\|>|<\|end_of_text\|>", "", reply).strip()
    tagged = text.startswith("<|python_tag|>")
    text = text.removeprefix("<|python_tag|>").strip()
    if not tagged and not re.match(r'\{\s*"(name|type|function)"', text):
        return Parsed(text)
    return _collected("", _objects(text), _named_object)


def parse_mistral(reply: str) -> Parsed:
    """Mistral: `[TOOL_CALLS][{...}]`, or `[TOOL_CALLS]name[ARGS]{...}` since 2025."""
    before, *rest = re.sub(r"</s>", "", reply).split("[TOOL_CALLS]")
    if not rest:
        return Parsed(before.strip())
    bodies: list[str] = []
    for part in (part.strip() for part in rest):
        if newer := re.match(r"([\w.\-]+)\s*(?:\[CALL_ID\][\w\-]+)?\[ARGS\](.*)", part, re.S):
            bodies.append(f'{{"name": {json.dumps(newer[1])}, "arguments": {newer[2].strip()}}}')
        elif part.startswith("["):
            bodies += _objects(part[1:].removesuffix("]"))
        else:
            bodies.append(part)
    return _collected(before, bodies, _named_object)


def parse_gemma(reply: str) -> Parsed:
    """Gemma and MedGemma: fenced `tool_code` in Python or fenced JSON."""
    text = reply.replace("<end_of_turn>", "").strip()
    pieces = re.split(r"```(?:tool_code|tool_call|json|python)\s*(.*?)(?:```|\Z)", text, flags=re.S)
    plain, bodies = "".join(pieces[::2]), [body.strip() for body in pieces[1::2]]
    if not bodies and re.match(r'[\[{]\s*\{?\s*"name"', text):
        plain, bodies = "", [text]
    calls: list[RawCall] = []
    malformed: list[Malformed] = []
    for body in bodies:
        structured = body.startswith("{") or re.match(r"\[\s*\{", body)
        part = (
            _collected("", _objects(body.removeprefix("[")), _named_object)
            if structured
            else parse_pythonic(re.sub(r"^print\((.*)\)$", r"\1", body, flags=re.S))
        )
        calls += part.calls
        malformed += part.malformed
        if part.text:
            malformed.append(Malformed(body, "it is no call"))
    return Parsed(plain.strip(), tuple(calls), tuple(malformed))


def parse_pythonic(reply: str) -> Parsed:
    """Llama 4 and others: `[f(a=1), g(b="x")]`, with literal arguments by name."""
    text = re.sub(r"<\|(python_start|python_end|eot|eot_id)\|>", "", reply).strip()
    if not re.match(r"\[?\s*[A-Za-z_][\w.]*\s*\(", text):
        return Parsed(text)
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Parsed("", (), (Malformed(text, "it is not Python"),))
    calls: list[RawCall] = []
    malformed: list[Malformed] = []
    for node in tree.elts if isinstance(tree, ast.List | ast.Tuple) else [tree]:
        written = ast.unparse(node)
        if not isinstance(node, ast.Call) or node.args or any(k.arg is None for k in node.keywords):
            malformed.append(Malformed(written, "it is no call with named arguments"))
            continue
        try:
            given = {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
        except (ValueError, TypeError, SyntaxError, RecursionError):
            malformed.append(Malformed(written, "an argument is no plain value"))
            continue
        calls.append(RawCall(ast.unparse(node.func), given))
    return Parsed("", tuple(calls), tuple(malformed))


PARSERS: Mapping[str, Callable[[str], Parsed]] = {
    "hermes": parse_hermes,
    "llama3": parse_llama3,
    "mistral": parse_mistral,
    "gemma": parse_gemma,
    "pythonic": parse_pythonic,
}
"""The parser of each family; the small planner's own is in `fovea.llm.embedded`."""

# What a call begins with: nothing after it is shown to a person while it is written.
OPENINGS: Mapping[str, tuple[str, ...]] = {
    "hermes": ("<tool_call>", "<think>"),
    "llama3": ("<|python_tag|>", "{"),
    "mistral": ("[TOOL_CALLS]",),
    "gemma": ("```",),
    "pythonic": ("[", "<|python_start|>"),
    "fovea": ("<",),
}


def written(family: str, calls: Sequence[RawCall]) -> str:
    """Calls as a family writes them: what its parser reads back."""

    def bodies(inside: str) -> list[str]:
        return [json.dumps({"name": c.name, inside: dict(c.arguments)}) for c in calls]

    if family == "llama3":
        return "; ".join(bodies("parameters"))
    if family == "mistral":
        return f"[TOOL_CALLS][{', '.join(bodies('arguments'))}]"
    if family == "gemma":
        return f"```json\n[{', '.join(bodies('arguments'))}]\n```"
    if family == "pythonic":
        told = (
            f"{c.name}({', '.join(f'{k}={v!r}' for k, v in c.arguments.items())})" for c in calls
        )
        return f"[{', '.join(told)}]"
    return "\n".join(f"<tool_call>\n{body}\n</tool_call>" for body in bodies("arguments"))


def family_of(template: str, model_type: str) -> FamilyName:
    """The family that a chat template and a model type belong to; Hermes when in doubt."""
    if "<answer>" in template and "<images>" in template:
        return "fovea"
    if "[TOOL_CALLS]" in template or model_type.startswith(("mistral", "mixtral", "pixtral")):
        return "mistral"
    if "<tool_call>" in template:
        return "hermes"
    if "<|python_start|>" in template or model_type == "llama4":
        return "pythonic"
    if "<|python_tag|>" in template or "ipython" in template:
        return "llama3"
    if "<start_of_turn>" in template or model_type.startswith("gemma"):
        return "gemma"
    return "hermes"


def _collected(text: str, bodies: list[str], read: Callable[[str], RawCall | Malformed]) -> Parsed:
    found = [read(body.strip()) for body in bodies]
    return Parsed(
        text.strip(),
        tuple(one for one in found if isinstance(one, RawCall)),
        tuple(one for one in found if isinstance(one, Malformed)),
    )


def _named_object(body: str) -> RawCall | Malformed:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        return Malformed(body, f"it is not JSON: {error}")
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return Malformed(body, "it has no name")
    arguments = value.get("arguments", value.get("parameters", value.get("args", {})))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return Malformed(body, "its arguments are not JSON")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        return Malformed(body, "its arguments are no object")
    return RawCall(value["name"], arguments)


def _objects(text: str) -> list[str]:
    """The JSON objects of a text, whatever stands between them; a broken rest comes last."""
    found: list[str] = []
    decoder, place = json.JSONDecoder(), 0
    while (start := text.find("{", place)) >= 0:
        try:
            _, place = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            return [*found, text[start:]]
        found.append(text[start:place])
    return found or [text]


def _without_thoughts(reply: str) -> str:
    return re.sub(r"<think>.*?(?:</think>|\Z)|<\|im_end\|>", "", reply, flags=re.S)
