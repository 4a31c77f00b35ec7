"""Answers are made of evidence, cite it, and survive the checker."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import ValidationError
from routing_tools import offered

from fovea.contract import (
    Caveat,
    Finding,
    Interval,
    Measurement,
    NotMeasured,
    Passage,
    Result,
)
from fovea.errors import ConfigError
from fovea.evidence import Evidence, ImageRecord, Provenance
from fovea.knowledge import load
from fovea.llm.answers import number
from fovea.llm.base import ImageFact, load_model, read_session_facts, session_facts, system_prompt
from fovea.llm.planning import REPLIES
from fovea.llm.rules import RulesChatModel
from fovea.report.check import check_text
from fovea.settings import Settings

ONE = [ImageFact("img1", "OD")]
TWO = [ImageFact("img1", "OD"), ImageFact("img2", "OS")]


def evidence(
    number: int, tool: str, result: Result, images: tuple[str, ...] = ("img1",)
) -> Evidence:
    return Evidence(
        id=f"E{number}",
        tool=tool,
        images=images,
        result=result,
        provenance=Provenance(
            plugin=tool, plugin_version="1.0.0", weights_sha256={}, image_sha256=("0" * 64,),
            arguments={}, preprocessing=(), used=(), seed=0, started="2026-01-01T00:00:00",
            seconds=0.1, libraries={},
        ),
    )  # fmt: skip


def cdr(value: float, eye: Any = "OD") -> Result:
    return Result(
        summary=f"Vertical CDR {value}.",
        measurements=(
            Measurement(
                name="vertical_cdr", value=value, unit="1", method="cup over disc height", eye=eye,
                interval=Interval(
                    level=0.95, low=value - 0.06, high=value + 0.07, how="repeated outlines"
                ),
            ),
        ),
        caveats=(Caveat(code="no_depth", text="A single photograph has no depth."),),
    )  # fmt: skip


def answer(question: str, images: list[ImageFact], *outcomes: Evidence | str) -> str:
    """The answer when the planned calls have these outcomes, in order; text is a refusal."""
    model = RulesChatModel().bind_tools(offered(len(images)))
    messages: list[Any] = [SystemMessage(system_prompt(images)), HumanMessage(question)]
    planned = model.invoke(messages)
    assert isinstance(planned, AIMessage)
    assert len(planned.tool_calls) == len(outcomes), planned.tool_calls
    messages.append(planned)
    for call, outcome in zip(planned.tool_calls, outcomes, strict=True):
        refused = isinstance(outcome, str)
        messages.append(
            ToolMessage(
                outcome if isinstance(outcome, str) else outcome.result.summary,
                tool_call_id=call["id"],
                name=call["name"],
                status="error" if refused else "success",
                artifact=None if refused else outcome,
            )
        )
    reply = model.invoke(messages)
    streamed = "".join(str(chunk.text) for chunk in model.stream(messages))
    assert streamed == reply.text
    return str(reply.text)


def test_number_comes_with_eye_interval_and_citation() -> None:
    text = answer("What is the CDR?", ONE, evidence(3, "segment_optic_disc", cdr(0.42)))
    assert text.splitlines()[0] == (
        "The vertical cup-to-disc ratio of the right eye (OD) is 0.42 "
        "(95 % interval 0.36 to 0.49) [E3]."
    )
    assert text.splitlines()[1] == "Note: A single photograph has no depth [E3]."


def test_each_image_is_named_when_there_are_several() -> None:
    first = evidence(1, "segment_optic_disc", cdr(0.42))
    second = evidence(2, "segment_optic_disc", cdr(0.55, "OS"), ("img2",))
    lines = answer("compare the CDR of both eyes", TWO, first, second).splitlines()
    assert "right eye (OD) in img1 is 0.42" in lines[0]
    assert lines[0].endswith("[E1].")
    assert "left eye (OS) in img2 is 0.55" in lines[1]
    assert lines[1].endswith("[E2].")


def test_refusal_and_missing_measurement_say_why() -> None:
    result = Result(
        summary="No ratio.",
        not_measured=(NotMeasured(name="vertical_cdr", reason="the disc is cut off"),),
    )
    text = answer("What is the CDR?", ONE, evidence(1, "segment_optic_disc", result))
    assert "could not be measured: the disc is cut off [E1]." in text
    text = answer("What is the CDR?", ONE, "The image is too dark.")
    assert text == "The image is too dark."


def test_what_was_not_measured_is_not_replaced_by_something_else() -> None:
    density = Measurement(name="vessel_density", value=0.14, unit="1", method="area share")
    result = Result(summary="Density 0.14.", measurements=(density,))
    found = evidence(1, "measure_biomarkers", result)
    text = answer("What is the AVR?", ONE, found)
    assert text == "I cannot measure the artery-to-vein ratio."
    assert check_text(text, [found], load()).struck == ()


def test_findings_keep_their_polarity() -> None:
    result = Result(
        summary="Findings.",
        findings=(
            Finding(concept="microaneurysms", state="present"),
            Finding(concept="haemorrhages", state="absent"),
            Finding(concept="hard_exudates", state="indeterminate"),
            Finding(concept="soft_exudates", state="not_assessable", detail="blurred"),
        ),
    )
    text = answer("Mark the lesions", ONE, evidence(1, "segment_lesions", result))
    assert "Microaneurysms are present of the right eye" not in text
    assert "Microaneurysms are present in the right eye (OD) [E1]." in text
    assert "No haemorrhages were found in the right eye (OD) [E1]." in text
    assert "uncertain" in text
    assert "could not be assessed: blurred [E1]." in text
    only = answer("Any haemorrhages?", ONE, evidence(1, "segment_lesions", result))
    assert "icroaneurysms" not in only


def test_probability_says_whether_it_is_calibrated() -> None:
    for calibrated, word in ((True, "(probability 0.12"), (False, "(uncalibrated score 0.12")):
        finding = Finding(
            concept="referable_dr", state="absent", probability=0.12, threshold=0.5,
            calibrated=calibrated,
        )  # fmt: skip
        result = Result(summary="Grade.", findings=(finding,))
        text = answer("Is this referable?", ONE, evidence(1, "classify_disease", result))
        assert word in text


def test_lookup_quotes_the_passage_that_was_asked_for() -> None:
    def passage(kind: str, text: str) -> Passage:
        return Passage(
            entry_id="b_vcdr", title=f"Ratio: {kind}", text=text, sources=(), review="draft"
        )

    result = Result(
        summary="Ratio.",
        passages=(
            passage("definition", "Cup over disc. It has no unit."),
            passage("reference values", "The median was 0.35."),
        ),
    )
    found = evidence(1, "lookup_knowledge", result, ())
    assert answer("Define CDR", ONE, found) == (
        "Cup over disc [K:b_vcdr]. It has no unit [K:b_vcdr]."
    )
    assert answer("What is a normal CDR?", ONE, found) == "The median was 0.35 [K:b_vcdr]."


def test_result_of_an_unknown_plugin_is_told_by_its_summary() -> None:
    message = ToolMessage(
        "{}", tool_call_id="x", name="estimate_pallor",
        artifact=evidence(4, "estimate_pallor", Result(summary="Pallor is low. It is even.")),
    )  # fmt: skip
    call = AIMessage("", tool_calls=[{"name": "estimate_pallor", "args": {}, "id": "x"}])
    reply = RulesChatModel().invoke([HumanMessage("How pale is it?"), call, message])
    assert reply.text == "Pallor is low [E4]. It is even [E4]."


@pytest.mark.parametrize(
    ("question", "tool", "result"),
    [
        ("What is the CDR?", "segment_optic_disc", cdr(0.42)),
        (
            "Is the image gradable?",
            "assess_quality",
            Result(
                summary="Gradable.",
                findings=(
                    Finding(concept="gradable_disc", state="present"),
                    Finding(concept="gradable_macula", state="absent", detail="too dark"),
                ),
            ),
        ),
    ],
)
def test_answers_survive_the_checker(question: str, tool: str, result: Result) -> None:
    found = evidence(1, tool, result)
    text = answer(question, ONE, found)
    record = ImageRecord(
        handle="img1", sha256="0" * 64, format="PNG", width=600, height=600, eye="OD",
        eye_source="person",
    )  # fmt: skip
    checked = check_text(text, [found], load(), images=[record])
    assert not checked.struck
    assert checked.kept == text


@pytest.mark.parametrize("kind", sorted(REPLIES))
def test_replies_without_tools_survive_the_checker(kind: str) -> None:
    assert check_text(REPLIES[kind], [], load()).struck == ()


@pytest.mark.parametrize(
    ("question", "images", "without"),
    [
        ("CDR?", [], ""), ("what changed?", ONE, ""), ("and CDR of the left eye?", ONE, ""),
        *[(q, ONE, t) for q, t in (
            ("CDR?", "segment_optic_disc"), ("AVR?", "measure_biomarkers"),
            ("grade it", "classify_disease"),
            ("any exudates?", "segment_lesions"), ("show the vessels", "segment_vessels"),
            ("is it sharp?", "assess_quality"), ("why?", "explain_prediction"),
            ("find similar cases", "find_similar_cases"), ("write the report", "draft_report"),
            ("define CDR", "lookup_knowledge"),
        )],
    ],
)  # fmt: skip
def test_notes_survive_the_checker(question: str, images: list[ImageFact], without: str) -> None:
    tools = [entry for entry in offered(len(images)) if entry["name"] != without]
    model = RulesChatModel().bind_tools(tools)
    reply = model.invoke([SystemMessage(session_facts(images)), HumanMessage(question)])
    assert not reply.tool_calls
    assert check_text(str(reply.text), [], load()).struck == ()


def test_session_facts_come_back() -> None:
    assert read_session_facts(system_prompt(TWO)) == tuple(TWO)
    assert read_session_facts(session_facts([])) == ()
    assert read_session_facts("no images here") is None


def test_backend_is_checked() -> None:
    assert isinstance(load_model(Settings(backend="rules")), RulesChatModel)
    with pytest.raises(ValidationError, match="rules"):
        Settings(backend="oracle")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="base_url"):
        load_model(Settings(backend="remote"))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.4234, "0.42"),
        (12.34, "12.3"),
        (3.0, "3"),
        (0.0123, "0.012"),
        (-0.5, "-0.50"),
        (150.4, "150"),
    ],
)
def test_numbers_are_printed_at_a_fitting_precision(value: float, text: str) -> None:
    assert number(value) == text
