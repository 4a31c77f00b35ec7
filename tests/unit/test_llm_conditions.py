"""Answers about disease: what the question names, and nothing that was not judged."""

from __future__ import annotations

import pytest
import report_evidence as made
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from routing_tools import offered

from fovea.contract import Finding
from fovea.knowledge import load
from fovea.llm.base import ImageFact, session_facts
from fovea.llm.rules import RulesChatModel
from fovea.report.check import check_text

KNOWLEDGE = load()


def judged():
    """Evidence of a classifier on one right eye."""
    said = (
        ("referable_dr", "present", 0.93), ("dr", "present", 0.97), ("dme", "absent", 0.04),
        ("glaucoma", "indeterminate", 0.32), ("media_opacity", "absent", 0.02),
        ("amd", "absent", 0.03), ("hypertensive_retinopathy", "absent", 0.05),
        ("pathologic_myopia", "absent", 0.01), ("normal_fundus", "absent", 0.02),
    )  # fmt: skip
    findings = tuple(
        Finding(concept=name, state=state, probability=p, calibrated=True, threshold=0.3)
        for name, state, p in said
    )
    return made.evidence(4, "classify_disease", findings=findings)


def answer(question: str) -> str:
    model = RulesChatModel().bind_tools(offered(1))
    messages = [SystemMessage(session_facts([ImageFact("img1", "OD")])), HumanMessage(question)]
    call = model.invoke(messages)
    assert [c["name"] for c in call.tool_calls] == ["classify_disease"], question
    reply = ToolMessage("{}", tool_call_id=call.tool_calls[0]["id"], name="classify_disease",
                        artifact=judged())  # fmt: skip
    return str(model.invoke([*messages, call, reply]).text)


@pytest.mark.parametrize(
    ("question", "said", "unsaid"),
    [
        (
            "Any sign of glaucoma?",
            ["Whether glaucoma is present", "0.32"],
            ["retinopathy", "edema"],
        ),
        ("Is there macular oedema?", ["No diabetic macular oedema was found"], ["glaucoma"]),
        ("Does he have AMD or cataract?", ["macular degeneration", "opacity"], ["retinopathy"]),
        ("Is there a vein occlusion?", ["I cannot judge vein occlusion", "glaucoma"], ["found"]),
        ("Is there diabetic retinopathy?", ["Diabetic retinopathy is present"], ["glaucoma"]),
        ("Is there any disease?", ["Referable diabetic retinopathy is present"], ["I cannot"]),
    ],
)
def test_what_was_asked_is_answered_and_supported(question, said, unsaid):
    text = answer(question)
    for part in said:
        assert part in text, text
    for part in unsaid:
        assert part not in text, text
    checked = check_text(text, [judged()], KNOWLEDGE, images=(made.record(eye="OD"),))
    assert checked.struck == (), [s.reason for s in checked.struck]


def test_what_is_present_comes_before_what_is_not():
    text = answer("What is wrong with this eye?")
    assert text.index("is present") < text.index("uncertain") < text.index("No ")
