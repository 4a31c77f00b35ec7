"""Tools that Fovea does not know: met by what their authors say of them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from routing_tools import offered
from unseen_plugins import ELSEWHERE, Stranger, share, strangers

from fovea.llm.base import ImageFact, ToolSpec
from fovea.llm.matching import (
    LIKENESSES,
    Described,
    chances,
    comparer,
    is_example,
    may_be_meant,
)
from fovea.llm.planning import plan_turn
from fovea.llm.training.fitting import plugins
from fovea.llm.wishes import wish_model
from fovea.llm_evaluation import Case, read_cases
from fovea.settings import Settings

PALLOR = ToolSpec(
    "rate_pallor",
    'Rates how pale the optic nerve is. Examples: "How pale is the nerve?" "Rate the pallor."',
    {},
)


def chance(question: str, tool: ToolSpec = PALLOR, own: float = 0.3) -> float:
    found = comparer().likenesses(question, Described.of(tool), own)
    return chances({"it": found}, wish_model().likenesses)["it"]


def test_the_parts_of_a_description() -> None:
    made = Described.of(PALLOR)
    assert made.name == "rate pallor"
    assert made.examples == ("How pale is the nerve?", "Rate the pallor.")
    assert "Examples" not in made.said
    assert made.without("Rate the pallor.").examples == ("How pale is the nerve?",)
    assert Described.of(ToolSpec("x", "", {})).examples == ()


@pytest.mark.parametrize("question", ["", "?!", "   ", "\u0000", "x" * 5000, "ÄÖ 眼"])
def test_any_text_can_be_compared(question: str) -> None:
    found = comparer().likenesses(question, Described.of(PALLOR), 0.5)
    assert found.shape == (len(LIKENESSES),)
    assert np.isfinite(found).all()
    assert 0.0 <= chance(question) <= 1.0


def test_telling_words_count_and_others_do_not() -> None:
    assert chance("is the pallor temporal") > 0.5
    assert chance("Tell me a joke") < 0.05
    assert chance("is the pallor temporal", own=0.99) < chance("is the pallor temporal", own=0.1)


def test_the_likeliest_or_none() -> None:
    weights = np.array([1.0, 0.0], np.float32)
    two = {"a": np.array([3.0, 1.0], np.float32), "b": np.array([1.0, 1.0], np.float32)}
    found = chances(two, weights)
    assert found["b"] == 0.0
    assert found["a"] == pytest.approx(np.exp(3) / (1 + np.exp(3) + np.exp(1)), rel=1e-5)
    assert chances({}, weights) == {}


def test_an_example_is_recognised_nearly_as_it_stands() -> None:
    assert is_example("how pale is the NERVE", PALLOR)
    assert not is_example("How pale is it?", PALLOR)
    assert not is_example("", PALLOR)


def test_what_does_the_same_as_a_tool_of_foveas_must_be_named() -> None:
    assert may_be_meant("Use the W-Net for the vessels", "segment_vessels_wnet")
    assert not may_be_meant("Segment the vessels", "segment_vessels_wnet")
    assert may_be_meant("anything", "rate_pallor")
    assert may_be_meant("vessels by the rrw net", "segment_vessels_rrwnet")
    # Whole words: "same" does not name `sam`.
    assert not may_be_meant("vessels of the same eye", "segment_vessels_sam")


def plan(question: str) -> tuple[str, ...]:
    """What is called with the pallor plugin installed."""
    tools = [*(ToolSpec(t["name"], t["description"], t["parameters"]) for t in offered(1)), PALLOR]
    return tuple(call.tool for call in plan_turn([question], [ImageFact("img1")], tools).calls)


def test_what_a_plugin_claims_takes_nothing_else_away() -> None:
    assert plan("rate the pallor of this nerve") == ("rate_pallor",)
    assert plan("Which drug cures pallor of the nerve?") == ()
    assert plan("Don't rate the pallor") == ()
    assert set(plan("Rate the pallor and segment the vessels")) == {
        "rate_pallor",
        "segment_vessels",
    }


def test_all_that_an_author_says_is_read() -> None:
    long = "Rates how pale the optic nerve is. " + "It is meant for adults in clinics. " * 13
    telling = ToolSpec("rate_it", long, {})
    assert len(long) > 480
    found = comparer().likenesses("how pale is it", Described.of(telling), 0.3)
    assert found[LIKENESSES.index("words of the description")] > 0


# Plugins that nobody who fitted anything has seen --------------------------------------


@pytest.fixture
def installed(tmp_path: Path) -> Settings:
    """Settings with one of them, as its author would install it."""
    made = strangers()[8].install(tmp_path)
    return Settings(backend="rules", data_dir=tmp_path, plugins_dir=made)


def test_measured_plugins_are_not_those_that_were_learnt_from() -> None:
    learnt = {line for plugin, asked in plugins() for line in (*plugin.examples, *asked)}
    measured = {line for one in strangers() for line in (*one.examples, *one.asked)}
    assert len(learnt) > 800
    assert not learnt & measured
    assert not {one.name.replace("_", " ") for one in strangers()} & {p.name for p, _ in plugins()}


def test_every_example_of_an_unseen_plugin_calls_it() -> None:
    assert _mean(lambda one: one.examples) == 1.0


def test_half_of_what_others_ask_of_it_calls_it_too() -> None:
    # 0.53 when it was first measured; the rest says nothing that its author has said.
    assert _mean(lambda one: one.asked) > 0.45


def test_foveas_own_tools_are_not_crowded_out(installed: Settings, tmp_path: Path) -> None:
    cases = read_cases(ELSEWHERE)
    alone = share(Settings(backend="rules", data_dir=tmp_path), cases)
    assert share(installed, cases) > alone - 0.03


def _mean(questions: object) -> float:
    right = asked = 0.0
    for one in strangers():
        right += _right(one, questions(one))  # type: ignore[operator]
        asked += len(questions(one))  # type: ignore[operator]
    return right / asked


def _right(one: Stranger, questions: tuple[str, ...]) -> float:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        settings = Settings(backend="rules", data_dir=folder, plugins_dir=one.install(folder))
        cases = [Case(question=text, images=1, expect=(one.name,)) for text in questions]
        return share(settings, cases) * len(cases)
