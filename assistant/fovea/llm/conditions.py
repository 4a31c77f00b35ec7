"""Answers about disease: of all that was judged, the conditions that the question names."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from fovea.contract import Finding, Result
from fovea.llm.clause import Ask
from fovea.llm.lexicon import load_lexicon

CONCEPTS = frozenset({"disease", "dr", "macula"})
"""Concepts of the lexicon whose phrases name conditions."""


@cache
def _table() -> dict[str, Any]:
    table = tomllib.loads(files("fovea.llm").joinpath("words.toml").read_text(encoding="utf-8"))
    return table["condition"]  # type: ignore[no-any-return]


def asked_conditions(result: Result, ask: Ask) -> tuple[list[Finding], list[str]]:
    """Findings that the question names, and names of conditions that are not judged.

    Both are empty where it asks in general.

    Args:
        result: What the classifier found.
        ask: Concepts and words of the question.
    """
    named: list[str] = []
    others: list[str] = []
    for hit in load_lexicon().subjects.find(ask.words):
        if hit.name not in CONCEPTS or hit.name not in ask.concepts:
            continue
        phrase = " ".join(ask.words[hit.start : hit.end])
        known = [name for name, phrases in _table()["words"].items() if phrase in phrases]
        named += known
        if not known and phrase not in _table()["general"]:
            others.append(phrase)
    judged = [f for f in result.findings if f.concept in named]
    missing = [name for name in named if all(f.concept != name for f in judged)]
    return judged, list(dict.fromkeys([*others, *missing]))


def not_judged(others: Sequence[str]) -> str:
    """That these cannot be judged, and what can; names of conditions as the question has them."""
    *rest, last = _table()["can"]
    return f"I cannot judge {' or '.join(others)}: I can judge {', '.join(rest)} and {last} only."
