"""Lessons made from the grammar, and how they become tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fovea.llm.base import ToolSpec
from fovea.llm.compact import END, OWN_TOOLS, TOOL_TOKENS, tool_words, turn_text
from fovea.llm.suggestion import suggestion
from fovea.llm.training.author import Author
from fovea.llm.training.fitting import by_halves, half_of
from fovea.llm.training.phrases import grammar, lines
from fovea.llm.training.scenes import COMPARE, LOOKUP, WITHOUT_HANDLE, Lesson, Scene
from fovea.llm.training.strangers import Stranger, offered_strangers

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SCENES_PER_LESSON = 14
WRITTEN = 0.6
"""Share of the scenes that were worded one by one."""

SUGGESTED = 0.85
"""Share of the scenes in which the planner sees what the rules would answer."""

# Subjects that no training data mentions: what they reach shows whether descriptions are read.
NEVER_TAUGHT = frozenset(
    {"retinal_age", "tessellation", "rotation", "icd_code", "bone_spicules", "macular_thickness",
     "cholesterol", "slit_lamp", "disc_pallor", "translation"}
)  # fmt: skip


def lesson(
    chance: random.Random,
    topics: Sequence[str],
    scenes: int = SCENES_PER_LESSON,
    *,
    further: bool = True,
) -> Lesson:
    """A list of further tools, often empty, and questions.

    Args:
        chance: Source of randomness.
        topics: What can be looked up: names and synonyms of the knowledge base.
        scenes: Number of questions.
        further: Whether there may be further tools.
    """
    tools: dict[str, ToolSpec] = {}
    strangers: dict[str, Stranger] = {}
    count = chance.choices((0, 1, 2, 3, 4, 7), (38, 18, 16, 14, 9, 5))[0] if further else 0
    for stranger in offered_strangers(chance, count, NEVER_TAUGHT):
        spec = stranger.spec(chance)
        if spec.name not in tools:
            tools[spec.name], strangers[spec.name] = spec, stranger
    # At times somebody else's plugin does what one of Fovea's own would do.
    if further and chance.random() < 0.3:
        for name in chance.sample(OWN_TOOLS, chance.choice((1, 2, 4))):
            tools[name] = _replaced(name, chance)
    listed = list(tools)
    chance.shuffle(listed)
    free = list(TOOL_TOKENS[len(OWN_TOOLS) :])
    if chance.random() < 0.5:
        chance.shuffle(free)
    aliases = dict(zip(OWN_TOOLS, TOOL_TOKENS, strict=False))
    aliases |= dict(zip(listed, free, strict=False))
    made = Lesson(
        aliases,
        {name: tools[name] for name in listed},
        frozenset(n for n, s in strangers.items() if s.kind == "blind") | ({LOOKUP} & set(tools)),
    )
    author = Author(chance, topics, strangers)
    made.scenes = [
        author.as_written() if chance.random() < WRITTEN else author.scene() for _ in range(scenes)
    ]
    return made


def lessons(seed: int, topics: Sequence[str]) -> Iterator[Lesson]:
    """Lessons without end; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311  # training data, no secret
    while True:
        yield lesson(chance, topics)


def _replaced(name: str, chance: random.Random) -> ToolSpec:
    """A plugin that does the work of one of Fovea's own under another name."""
    entry = grammar("tools")[name]
    shown = chance.choice(entry["names"]).replace(" ", "_")
    return ToolSpec(shown, chance.choice(lines(entry["says"])), {})


def tools_prompt(made: Lesson, chance: random.Random) -> str:
    """The list of tools, with as many words for each as chance allows."""
    budget = chance.choice((8, 12, 16))
    return "".join(
        f"{made.aliases[name]} {tool_words(tool.name, tool.description, budget)}"
        for name, tool in made.tools.items()
    )


@dataclass(frozen=True)
class Tokens:
    """A lesson as tokens: the list of tools, then each question with its answer.

    Attributes:
        tools: Ids of the list of tools.
        turns: Per question the ids, and how many of the last ones are the answer.
    """

    tools: list[int]
    turns: list[tuple[list[int], int]]


def suggested(made: Lesson, scene: Scene) -> str:
    """What the rules planner would answer in a scene, had its word model not seen the question."""
    handles = [image.handle for image in scene.images]
    own = {
        name: ToolSpec(name, "", _parameters(name, handles))
        for name in OWN_TOOLS
        if name not in made.tools
    }
    aliases = {name: made.aliases[name] for name in own}
    aliases |= {tool.name: made.aliases[name] for name, tool in made.tools.items()}
    tools = [*own.values(), *made.tools.values()]
    words = by_halves()[half_of(scene.source)]
    return suggestion(scene.question, scene.history, scene.images, tools, aliases, words)


def _parameters(name: str, handles: Sequence[str]) -> dict[str, Any]:
    one = {"type": "string", "enum": list(handles)}
    if name == COMPARE and len(handles) > 1:
        return {"properties": {"first": one, "second": one}, "required": ["first", "second"]}
    if name in WITHOUT_HANDLE or not handles:
        return {}
    return {"properties": {"image": one}, "required": ["image"]}


def encoded(made: Lesson, chance: random.Random, tokenizer: Tokenizer) -> Tokens:
    """The lesson in tokens."""

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return found

    turns = []
    for scene in made.scenes:
        answer = ids(made.answer(scene) + END)
        # Without a suggestion at times: or questions would not be read any more.
        said = suggested(made, scene) if chance.random() < SUGGESTED else ""
        asked = ids(turn_text(scene.images, scene.history, scene.question, said))
        turns.append((asked + answer, len(answer)))
    return Tokens(ids(tools_prompt(made, chance)), turns)
