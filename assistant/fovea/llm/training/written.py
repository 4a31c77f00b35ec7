"""Questions that were worded one by one, as scenes.

The grammar says many things in many ways, but only in its own words; these, written by a large
language model in the roles of many people and by the makers, have the words
that nobody thought of. None of them is among the questions that planners are measured on.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from fovea.llm.base import ImageFact
from fovea.llm.training.scenes import Scene, Wish

_PAIRS: tuple[tuple[str | None, str | None], ...] = (("OD", "OS"), ("OS", "OD"), (None, None))


@dataclass(frozen=True)
class Written:
    """One question as written.

    Attributes:
        question: The words.
        images: Number of photographs.
        history: Earlier turns as (role, text).
        tools: The set of tools that it needs.
        reply: The kind of reply where it needs none.
        part: It may mean some of several photographs; which, was not written down.
    """

    question: str
    images: int
    history: tuple[tuple[str, str], ...]
    tools: tuple[str, ...]
    reply: str
    part: bool = False

    @classmethod
    def of(cls, row: dict[str, Any]) -> Written:
        """The question of a line of the file."""
        history = tuple((turn["role"], turn["content"]) for turn in row["history"])
        return cls(
            row["question"], row["images"], history, tuple(row["expect"]), row["reply"],
            row.get("part", False),
        )  # fmt: skip

    def scene(self, chance: random.Random) -> Scene:
        """The question in a session whose eyes are known or not."""
        eyes: Sequence[str | None] = [chance.choice(("OD", "OS", None)) for _ in range(self.images)]
        if self.images == 2:
            eyes = chance.choice(_PAIRS)
        images = tuple(ImageFact(f"img{n}", eye) for n, eye in enumerate(eyes, 1))  # type: ignore[arg-type]
        made = Scene(images, self.history, self.question, reply=self.reply, source=self.question)
        return replace(made, wishes=tuple(Wish(tool) for tool in self.tools))


@cache
def written() -> tuple[Written, ...]:
    """All of them."""
    file = files("fovea.llm.training").joinpath("grammar/written.jsonl")
    return tuple(
        Written.of(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()
    )
