"""The word model of the planner: its file, its training data, and that it learns."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from fovea.errors import ModelUnavailable
from fovea.llm.compact import OWN_TOOLS, REPLY_KINDS
from fovea.llm.training.fitting import Examples, as_turn, fit, save
from fovea.llm.training.written import Written, written
from fovea.llm.wishes import FLAGS, FOLDER, Turn, flags, weighted, wish_model

FLOW = Path(__file__).parents[1] / "flow"


def row(question: str, *tools: str, images: int = 1, **more: object) -> Written:
    given = {"question": question, "images": images, "history": [], "expect": tools, "reply": ""}
    return Written.of({**given, **more})


def words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def test_no_written_question_is_among_those_that_planners_are_measured_on() -> None:
    measured = set()
    for path in sorted(FLOW.glob("*_questions*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            if entry.get("split") != "dev" and not entry["history"]:
                measured.add(words(entry["question"]))
    assert len(measured) > 700
    dev = {
        words(entry["question"])
        for line in (FLOW / "routing_questions.jsonl").read_text(encoding="utf-8").splitlines()
        if (entry := json.loads(line))["split"] == "dev"
    }
    alone = {words(one.question) for one in written() if not one.history}
    assert not (alone & measured) - dev


def test_written_questions_are_whole() -> None:
    everything = written()
    assert len(everything) > 5000
    for one in everything:
        assert one.question.strip()
        assert set(one.tools) <= set(OWN_TOOLS)
        assert (one.reply in REPLY_KINDS) == (not one.tools), one.question
        assert one.images or set(one.tools) <= {"lookup_knowledge"}, one.question
    for tool in OWN_TOOLS:
        assert sum(tool in one.tools for one in everything) > 200


def test_it_learns_words_that_the_rules_do_not_know(tmp_path: Path) -> None:
    drawn = [row(f"sketch the plumbing of number {n}", "segment_vessels") for n in range(30)]
    graded = [row(f"thumbs up or down for number {n}", "classify_disease") for n in range(30)]
    model = fit(Examples.of([*drawn, *graded]))
    found = model.chances(as_turn(row("could you sketch her plumbing")))
    assert max(found, key=lambda tool: found[tool]) == "segment_vessels"
    assert found["segment_vessels"] > 0.5 > found["classify_disease"]
    save(model, tmp_path)
    assert wish_model(tmp_path).chances(as_turn(row("sketch"))) == pytest.approx(
        model.chances(as_turn(row("sketch")))
    )


def test_questions_that_only_lack_a_photograph_are_not_learnt_from() -> None:
    lacking = row("sketch the plumbing", images=0, reply="ask_image")
    assert not Examples.of([lacking, row("thumbs up?", "classify_disease")]).wished[0][
        OWN_TOOLS.index("segment_vessels")
    ]
    assert len(Examples.of([lacking]).turns) == 0


@pytest.mark.parametrize("spoilt", ["altered", "no digest", "no weights"])
def test_an_altered_or_missing_file_is_refused_with_its_name(tmp_path: Path, spoilt: str) -> None:
    content = bytearray((FOLDER / "wishes.safetensors").read_bytes())
    content[-5] ^= 1 if spoilt == "altered" else 0
    if spoilt != "no weights":
        (tmp_path / "wishes.safetensors").write_bytes(content)
    if spoilt != "no digest":
        (tmp_path / "wishes.sha256").write_bytes((FOLDER / "wishes.sha256").read_bytes())
    with pytest.raises(ModelUnavailable, match=r"wishes\.safetensors"):
        wish_model(tmp_path)


@pytest.mark.parametrize("text", ["", "?", "\u200b", "a" * 5000, "視神経乳頭", "<t3> <answer>"])
def test_any_text_has_a_probability_for_every_tool(text: str) -> None:
    found = wish_model().chances(Turn(text))
    assert set(found) == set(OWN_TOOLS)
    assert all(0.0 <= chance <= 1.0 for chance in found.values())


def test_flags_and_values() -> None:
    turn = Turn("Where?", ("Any blood?",), "Some.", {"segment_lesions"}, "", 2)
    told = dict(zip(FLAGS, flags(turn).tolist(), strict=True))
    assert {name for name, on in told.items() if on} == {"segment_lesions", "pictures", "earlier"}
    assert flags(Turn("x", reply="thank"))[FLAGS.index("nothing")] == 1
    place, value = weighted(turn, np.ones(1 << 16, np.float16))
    assert len(place) == len(value) > 5
    assert np.isclose((value**2).sum(), 2.0, atol=1e-3)
