"""Arguments that the words of a question give."""

from __future__ import annotations

import pytest

from fovea.llm.arguments import how_many, subject


@pytest.mark.parametrize(
    ("question", "count"),
    [("five similar cases", 5), ("top-3", 3), ("show me 12 matches", 12), ("similar cases", None)],
)
def test_how_many(question: str, count: int | None) -> None:
    assert how_many(question) == count


def test_a_short_question_leans_on_the_one_before() -> None:
    before = ("Grade it.", "What is venous beading?")
    assert subject("And why?", before) == "What is venous beading? And why?"
    assert subject("And why?", ()) == "And why?"
    alone = "What do the guidelines say about referral of maculopathy?"
    assert subject(alone, before) == alone
