"""Whose plan to take: that of a small language model, or that of the rules and the word model.

Where the word model is sure, it is nearly always right and nothing else is asked, so that about
half of the turns cost two milliseconds and no weights. Elsewhere both opinions count: the
language model's probability of its own answer, and how likely the word model finds the one
set of tools beside the other.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

SURE = 0.05
"""The word model is sure when each tool's probability is as near as this to 0 or 1."""
WEIGHT = 0.5
"""How much the word model's log ratio counts beside the language model's log odds."""
_LEAST = 1e-4


def is_sure(chances: Mapping[str, float]) -> bool:
    """Whether the word model leaves no doubt about any tool; without an opinion it is not sure."""
    return bool(chances) and all(min(chance, 1.0 - chance) <= SURE for chance in chances.values())


def weighed(
    confidence: float,
    planned: Collection[str],
    ruled: Collection[str],
    chances: Mapping[str, float],
) -> float:
    """The confidence in a language model's tools once the word model was heard, 0 to 1.

    Args:
        confidence: Probability that the language model gives its own answer.
        planned: Tools that it would call.
        ruled: Tools that the rules would call.
        chances: Probability of each of Fovea's own tools by the word model; it has no opinion
            about others, and none at all if this is empty.
    """
    odds = math.log(_kept_off(confidence) / _kept_off(1.0 - confidence))
    if not {*planned, *ruled} - set(chances):
        odds += WEIGHT * (_likelihood(planned, chances) - _likelihood(ruled, chances))
    return 1.0 / (1.0 + math.exp(-odds))


def _likelihood(tools: Collection[str], chances: Mapping[str, float]) -> float:
    """The log probability that just these tools are wished for."""
    return sum(
        math.log(_kept_off(chance if name in tools else 1.0 - chance))
        for name, chance in chances.items()
    )


def _kept_off(chance: float) -> float:
    """A probability that a logarithm can bear."""
    return min(max(chance, _LEAST), 1.0)
