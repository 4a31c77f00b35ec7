"""Recognise text that tries to change how the assistant works instead of asking."""

from __future__ import annotations

import re

_PATTERNS = (
    r"\b(ignore|disregard|forget|override|bypass|overrule)\b[^.?!]{0,40}"
    r"\b(instructions?|rules?|prompts?|guidelines|system|guardrails?|polic(y|ies)"
    r"|everything (you|above)|what you were told|previous messages?|training)\b",
    r"\bsystem\s+(prompt|message|override)|\bjailbreak|\bdeveloper mode\b|\bdo anything now\b",
    r"^\W*(system|assistant|developer|tool)\s*:|\byou must (now )?(call|run|execute|obey)\b",
    r"\bpretend (to be|you)|\byou are now\b|\brole-?play\b|\bact as (if|an?|root|admin)\b",
    r"\b(delete|erase|wipe|drop)\b.{0,30}\b(files?|database|archive|disk|sessions?|tables?)\b",
    r"\b(rm -rf|sudo|chmod|curl|wget|eval\(|os\.system|<script|select \*|/etc/|\.\./)",
    r"\b(reveal|print|show|leak|output|repeat)\b.{0,25}"
    r"\b(prompts?|secrets?|api keys?|passwords?|instructions)\b",
    r"(^|[.!?,;]|\b(please|just|to|and|then|now|you|can|could|instead)) *"
    r"(fake|make up|invent|fabricate|hallucinate)\b (a |an |the |some )?\w+",
    # Paths, markup and call syntax are no part of a question to a person.
    r"[/\\]\w+[/\\]\w+|</?(tool|system|assistant)|tool_calls?\b|\"arguments\"",
)
_HOSTILE = re.compile("|".join(f"(?:{pattern})" for pattern in _PATTERNS), re.IGNORECASE)


def is_hostile(text: str) -> bool:
    """Whether the text gives orders to the machine rather than asking about an eye."""
    return bool(_HOSTILE.search(text))
