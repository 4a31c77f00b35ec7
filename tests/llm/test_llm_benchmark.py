"""The rows of `benchmarks/llm.py` differ in what is put aside, and in nothing else."""

from __future__ import annotations

import pytest
from llm import by_model, by_words, rules_alone

from fovea.llm import planning
from fovea.llm.wishes import wish_model
from fovea.llm_evaluation import Case
from fovea.settings import Settings

PLAIN = Case(question="Segment the vessels", images=1, expect=("segment_vessels",))
WORDY = Case(
    question="The GP muttered something about bleeding at the back of her eye, is he right?",
    images=1, expect=("segment_lesions",),
)  # fmt: skip


def test_rules_alone_leave_the_word_model_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    shipped = wish_model()
    whole = type(shipped).chances
    monkeypatch.setattr(
        type(shipped), "chances",
        lambda self, turn: asked.append(type(self).__name__) or whole(self, turn),
    )  # fmt: skip
    settings = Settings(backend="rules")
    assert rules_alone(settings, [PLAIN])["exact"] == 1.0
    assert set(asked) == {"Undecided"}
    assert planning.wish_model is wish_model, "the word model is put back"
    assert by_model(settings, [PLAIN])["valid"] == 1.0
    assert "WishModel" in asked


def test_words_alone_need_no_rules() -> None:
    row = by_words(wish_model(), [PLAIN, WORDY])
    assert 0.5 <= row["exact"] <= 1.0
    assert row["idle"] == "0 of 0"
