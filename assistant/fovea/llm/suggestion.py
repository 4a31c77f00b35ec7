"""What the rules would answer, in the tokens of the small planner.

The small planner sees it behind the question: it need not learn again what the rules know,
only when they are wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fovea.llm.base import ImageFact, ToolSpec
from fovea.llm.compact import ALL_IMAGES, IMAGE_TOKENS
from fovea.llm.planning import LEFT_OUT, NEED_IMAGE, NEED_OTHER, NEED_SECOND, REPLIES, plan_turn
from fovea.llm.wishes import WishModel


def suggestion(
    question: str,
    history: Sequence[tuple[str, str]],
    images: Sequence[ImageFact],
    tools: Sequence[ToolSpec],
    aliases: Mapping[str, str],
    words: WishModel | None = None,
) -> str:
    """The tokens that the rules planner would answer with.

    Args:
        question: The question.
        history: Earlier turns as (`user` or `assistant`, text), oldest first.
        images: Photographs of the session.
        tools: All tools that are bound.
        aliases: The token of each tool; a tool without one is not suggested.
        words: The word model of the rules; None: the shipped one.
    """
    asked = [text for role, text in history if role == "user"]
    said = [text for role, text in history if role != "user"]
    plan = plan_turn([*asked, question], images, tools, said[-1] if said else "", words)
    if not plan.calls:
        return _reply(plan.reply)
    places = {image.handle: place for place, image in enumerate(images)}
    meant: dict[str, set[int]] = {}
    for call in plan.calls:
        if call.tool in aliases:
            named = meant.setdefault(call.tool, set())
            named |= {places[v] for v in call.arguments.values() if _is_handle(v, places)}
    return "".join(aliases[tool] + _handles(named, len(images)) for tool, named in meant.items())


def _is_handle(value: object, places: Mapping[str, int]) -> bool:
    return isinstance(value, str) and places.get(value, len(IMAGE_TOKENS)) < len(IMAGE_TOKENS)


def _handles(named: set[int], count: int) -> str:
    if count < 2 or not named:
        return ""
    if len(named) == count:
        return ALL_IMAGES
    return "".join(IMAGE_TOKENS[place] for place in sorted(named))


def _reply(said: str) -> str:
    if any(need in said for need in (NEED_IMAGE, NEED_SECOND, NEED_OTHER)):
        return "<ask_image>"
    if said == LEFT_OUT:
        return "<empty>"
    kinds = [kind for kind, words in REPLIES.items() if words and said.startswith(words)]
    return f"<{kinds[0]}>" if kinds else "<about>" if said.startswith("I can ") else ""
