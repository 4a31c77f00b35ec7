"""The same conversation on every backend: the benchmark of that name, as a test."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

pytest.importorskip("langchain_openai")
from one_conversation import QUESTIONS, Talk, talks

from fovea.llm.backends import EMBEDDED

LEARNED = ("embedded", "local", "local int8", "local nf4", "local + adapter", "served")


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Talk]:
    """The conversation, once on each backend; one of them is a server of its own."""
    return dict(talks(tmp_path_factory.mktemp("talks"), EMBEDDED))


@pytest.mark.parametrize("backend", LEARNED)
def test_events_and_evidence_are_those_of_the_rules(held: Mapping[str, Talk], backend: str) -> None:
    assert held[backend].events == held["rules"].events
    assert held[backend].evidence == held["rules"].evidence
    assert held[backend].notices == ()


@pytest.mark.parametrize("backend", LEARNED)
def test_the_language_model_was_asked_at_every_question(
    held: Mapping[str, Talk], backend: str
) -> None:
    assert held[backend].planners == ("both",) * len(QUESTIONS)


def test_the_conversation_measures_something(held: Mapping[str, Talk]) -> None:
    tools = {tool for tool, *_ in held["rules"].evidence.values()}
    assert {"assess_quality", "segment_optic_disc", "segment_vessels"} <= tools
    assert "[E" in str(held["rules"].events)
