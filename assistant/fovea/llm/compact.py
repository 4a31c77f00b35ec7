"""How a question is put to the small planner: few tokens, no identifiers to copy.

The model knows Fovea's own tools by heart; others are listed under short aliases with the
words that matter of their descriptions. Photographs are numbered tokens, earlier turns are
cut to their ends. The chat template of the model prints the same; tests hold both together.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fovea.llm.base import ImageFact, ToolSpec

MAX_TOOLS, MAX_IMAGES = 32, 8
REPLY_KINDS = (
    "ask_image", "greet", "thank", "about", "outside", "treatment",
    "hostile", "empty",
)  # fmt: skip
TOOL_TOKENS = tuple(f"<t{n}>" for n in range(1, MAX_TOOLS + 1))
# What these stand for is learnt; other tools are listed, with descriptions, under the next ones.
OWN_TOOLS = (
    "assess_quality", "segment_vessels", "segment_optic_disc", "segment_lesions", "place_grid",
    "classify_disease", "measure_biomarkers", "find_similar_cases", "explain_prediction",
    "compare_images", "lookup_knowledge", "draft_report",
)  # fmt: skip
IMAGE_TOKENS = tuple(f"<i{n}>" for n in range(1, MAX_IMAGES + 1))
ALL_IMAGES = "<all>"
REPLY_TOKENS = tuple(f"<{kind}>" for kind in REPLY_KINDS)
PAD, END, USER, BOT, IMAGES, ANSWER = "<pad>", "<end>", "<user>", "<bot>", "<images>", "<answer>"
SPECIAL = (
    PAD, END, USER, BOT, IMAGES, ANSWER, ALL_IMAGES, *TOOL_TOKENS, *IMAGE_TOKENS, *REPLY_TOKENS,
)  # fmt: skip
EYES: Mapping[str | None, str] = {"OD": "right", "OS": "left", None: ""}

_COMMON = """
a an the and or of in on to for with from by at as is are was be it its this that these those
which what when where how why who if use used uses whenever somebody someone person people
wants want asks asked ask about any all one ones each other than then there they them their
can could should would does do does not no but into such some more most so i me my you your we us
please give show fundus photograph photo image picture example examples say says tells tell
has have had between also only very per both needs need e.g
"""
STOP_WORDS = frozenset(_COMMON.split())
_WORD = re.compile(r"[a-z0-9][a-z0-9/\-]*[a-z0-9]|[a-z0-9]")
_QUESTION_CHARS, _TURN_WORDS = 400, 10


def plain(text: str) -> str:
    """Text of a person or a tool without anything that looks like a token of the template."""
    text = unicodedata.normalize("NFKC", text).replace("<", "(").replace(">", ")")
    return " ".join(text.lower().split())


def tool_words(name: str, description: str, budget: int = 16) -> str:
    """The name in words and the words of the description that tell it from other tools."""
    purpose, _, examples = description.partition("Examples:")
    named = _WORD.findall(name.lower().replace("_", " "))
    kept = list(dict.fromkeys(w for w in _content(purpose) if w not in named))[:budget]
    often = Counter(word for word in _content(examples) if word not in {*kept, *named})
    kept += [word for word, _ in often.most_common(max(0, budget - len(kept)))]
    return f"{' '.join(named)}: {' '.join(kept)}".strip()


def _content(text: str) -> list[str]:
    return [word for word in _WORD.findall(plain(text)) if word not in STOP_WORDS]


def aliases_of(names: Sequence[str]) -> list[str]:
    """The token that stands for each tool."""
    free = iter(TOOL_TOKENS[len(OWN_TOOLS) :])
    return [
        TOOL_TOKENS[OWN_TOOLS.index(name)] if name in OWN_TOOLS else next(free) for name in names
    ]


def tools_text(tools: Sequence[ToolSpec]) -> str:
    """The list of tools that are not Fovea's own: the same from turn to turn."""
    aliases = aliases_of([tool.name for tool in tools])
    return "".join(
        f"{alias} {tool_words(tool.name, tool.description)}"
        for alias, tool in zip(aliases, tools, strict=True)
        if tool.name not in OWN_TOOLS
    )


def images_text(images: Sequence[ImageFact]) -> str:
    """The photographs as numbered tokens, with the eye where it is known."""
    listed = (
        f"{token} {EYES[image.eye]}".strip()
        for token, image in zip(IMAGE_TOKENS, images, strict=False)
    )
    return " ".join(listed)


def shortened(role: str, text: str) -> str:
    """An earlier turn: its beginning, and what it asks at the end."""
    text = plain(text)
    words = text.split()
    if len(words) <= _TURN_WORDS + 6:
        return text
    if role == "user":
        return " ".join(words[-_TURN_WORDS - 6 :])
    last = re.split(r"(?<=[.!?]) ", text)[-1]
    ending = " ".join(last.split()[-8:]) if last.endswith("?") else ""
    return " ".join([*words[:_TURN_WORDS], ending]).strip()


def turn_text(
    images: Sequence[ImageFact],
    history: Sequence[tuple[str, str]],
    question: str,
    suggested: str = "",
) -> str:
    """What follows the list of tools: photographs, the last turns, the question, a suggestion.

    Args:
        images: Photographs of the session.
        history: Earlier turns as (`user` or `assistant`, text), oldest first.
        question: The question.
        suggested: Tokens that another planner would answer with.
    """
    parts = [f"{IMAGES} {images_text(images)}".strip()]
    for role, text in list(history)[-4:]:
        parts.append(f"{USER if role == 'user' else BOT} {shortened(role, text)}")
    parts.append(f"{USER} {plain(question)[-_QUESTION_CHARS:]}{suggested}")
    return "".join([*parts, ANSWER])


def as_chat(
    tools: Sequence[ToolSpec],
    images: Sequence[ImageFact],
    history: Sequence[tuple[str, str]],
    question: str,
    suggested: str = "",
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Tools and messages for the chat template, which prints them as the functions above do."""
    listed = [{"name": t.name, "description": tool_words(t.name, t.description)} for t in tools]
    messages = [{"role": "system", "content": images_text(images)}]
    messages += [{"role": r, "content": shortened(r, t)} for r, t in list(history)[-4:]]
    asked = plain(question)[-_QUESTION_CHARS:]
    messages.append({"role": "user", "content": f"{asked}{suggested}"})
    return listed, messages


_OWN = ", ".join(f"'{name}'" for name in OWN_TOOLS)
CHAT_TEMPLATE = (
    "{%- set own = [" + _OWN + "] -%}"
    f"{{%- set last = namespace(alias={len(OWN_TOOLS)}) -%}}"
    "{%- for tool in tools or [] -%}"
    "{%- set function = tool.function if tool.function is defined else tool -%}"
    "{%- if function.name not in own -%}"
    "{%- set last.alias = last.alias + 1 -%}"
    "{{ '<t' ~ last.alias ~ '> ' ~ function.description }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}{{ ('<images> ' ~ message.content) | trim }}"
    "{%- elif message.role == 'user' -%}{{ '<user> ' ~ message.content }}"
    "{%- elif message.role == 'assistant' -%}{{ '<bot> ' ~ message.content }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<answer>{%- endif -%}"
)
"""Tools are printed with the words that `as_chat` has put into their description."""
