"""Match a question to tools that Fovea does not know, by their own words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from fovea.llm.base import ToolSpec
from fovea.llm.lexicon import Lexicon, load_lexicon
from fovea.llm.text import BREAKS, tokens

_EXAMPLE = re.compile(r'"([^"]+)"')
_EXACT = 0.85
_CLOSE = 0.6


@dataclass(frozen=True)
class Match:
    """A tool that the question may mean.

    Attributes:
        exact: The question is one of the tool's examples, or nearly so.
        distinctive: It uses a word of the tool's name or examples that no other tool owns.
    """

    tool: str
    exact: bool
    distinctive: bool


def vocabulary(tools: Sequence[ToolSpec]) -> frozenset[str]:
    """Words of the tools' names and descriptions: none of them is a misspelling."""
    return frozenset(
        word for tool in tools for word in _tokens(f"{tool.name} {tool.description}")
    ) - BREAKS  # fmt: skip


@lru_cache(maxsize=512)
def _tokens(text: str) -> tuple[str, ...]:
    """Words of a tool's text, which is the same in every turn."""
    return tuple(tokens(text))


def match_tools(words: Sequence[str], tools: Sequence[ToolSpec]) -> list[Match]:
    """Tools whose name or examples share enough content words with the question."""
    lexicon = load_lexicon()
    asked = _content(words, lexicon)
    if not asked:
        return []
    found = [_match(asked, tool, lexicon) for tool in tools]
    return [match for match in found if match is not None]


def _match(asked: frozenset[str], tool: ToolSpec, lexicon: Lexicon) -> Match | None:
    described, _, examples = tool.description.partition("Examples:")
    name = _content(_tokens(tool.name), lexicon)
    lines = _EXAMPLE.findall(examples) or examples.splitlines()
    likeness = max((_jaccard(asked, _content(_tokens(line), lexicon)) for line in lines), default=0)
    owned = name | {w for w in _content(_tokens(described + " " + examples), lexicon)
                    if w not in lexicon.known}  # fmt: skip
    owned_asked = {word for word in asked & owned if word not in lexicon.known}
    named = bool(name) and name <= asked
    if likeness >= _EXACT:
        return Match(tool.name, exact=True, distinctive=True)
    if named or (owned_asked and likeness >= _CLOSE / 2):
        return Match(tool.name, exact=False, distinctive=bool(owned_asked) or named)
    if likeness >= _CLOSE and len(asked) >= 2:
        return Match(tool.name, exact=False, distinctive=False)
    return None


def _content(words: Sequence[str], lexicon: Lexicon) -> frozenset[str]:
    skipped = lexicon.stop | lexicon.generic | BREAKS
    return frozenset(word for word in words if word not in skipped and not word.isdigit())


def _jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    union = first | second
    return len(first & second) / len(union) if union else 0.0
