"""Whose plan is taken: the language model's, or that of rules and word model."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fovea.llm.compact import OWN_TOOLS
from fovea.llm.weighing import SURE, is_sure, weighed

CHANCE = st.floats(0, 1)
CHANCES = st.fixed_dictionaries(dict.fromkeys(OWN_TOOLS, CHANCE))
SETS = st.sets(st.sampled_from(OWN_TOOLS), max_size=4)
TRIED = settings(derandomize=True, deadline=None)


def chances(**others: float) -> dict[str, float]:
    return {name: others.get(name, 0.01) for name in OWN_TOOLS}


def test_sure_is_who_doubts_no_tool() -> None:
    assert is_sure(chances(segment_vessels=1.01 - SURE))
    assert not is_sure(chances(segment_vessels=0.9))
    assert not is_sure(chances(draft_report=0.06))
    assert not is_sure({}), "no opinion is no certainty"


def test_the_word_model_raises_or_lowers_a_confidence() -> None:
    doubted = chances(segment_vessels=0.5, draft_report=0.5)
    assert weighed(0.7, {"segment_vessels"}, {"draft_report"}, doubted) == pytest.approx(0.7)
    told = chances(segment_vessels=0.9, draft_report=0.1)
    assert weighed(0.7, {"segment_vessels"}, {"draft_report"}, told) > 0.9
    assert weighed(0.7, {"draft_report"}, {"segment_vessels"}, told) < 0.3
    # By hand: odds 1, the sets differ by 0.9 / 0.1 twice, half of the log counts.
    assert weighed(0.5, {"segment_vessels"}, {"draft_report"}, told) == pytest.approx(0.9)


def test_about_tools_that_it_does_not_know_it_has_no_say() -> None:
    told = chances(segment_vessels=0.9)
    assert weighed(0.4, {"rate_pallor"}, {"segment_vessels"}, told) == pytest.approx(0.4)
    assert weighed(0.4, {"draft_report"}, set(), {}) == pytest.approx(0.4)


@TRIED
@given(CHANCE, SETS, SETS, CHANCES)
def test_it_is_a_probability_and_the_other_side_is_its_complement(
    confidence: float, one: set[str], other: set[str], told: dict[str, float]
) -> None:
    found = weighed(confidence, one, other, told)
    assert 0.0 <= found <= 1.0
    assert found + weighed(1.0 - confidence, other, one, told) == pytest.approx(1.0, abs=1e-6)


@TRIED
@given(CHANCE, CHANCE, SETS, SETS, CHANCES)
def test_more_confidence_never_counts_less(
    first: float, second: float, one: set[str], other: set[str], told: dict[str, float]
) -> None:
    low, high = sorted((first, second))
    assert weighed(low, one, other, told) <= weighed(high, one, other, told)
