"""Questions about lesions: routed, answered with what was asked, and every sentence supported."""

from __future__ import annotations

import pytest
import report_evidence as made
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from routing_tools import offered

from fovea.contract import Artifact, Caveat, Finding, Interval, Measurement, NotMeasured, Result
from fovea.evidence import Evidence
from fovea.knowledge import load
from fovea.llm.base import ImageFact, session_facts
from fovea.llm.rules import RulesChatModel
from fovea.report.check import check_text
from fovea.report.compile import compile_report

KNOWLEDGE = load()
QUADRANTS = ("superotemporal", "inferotemporal", "superonasal", "inferonasal")
RANGE = "from the spots that pass a strict cut to those that pass a lenient one"


def value(name: str, number: float, unit: str = "1", *, low: float | None = None,
          high: float | None = None, zone: str | None = None) -> Measurement:  # fmt: skip
    interval = Interval(low=low, high=high, how=RANGE) if low is not None else None
    return Measurement(name=name, value=number, unit=unit, method="connected spots", eye="OD",
                       interval=interval, zone=zone)  # fmt: skip


def found(number: int = 5) -> Evidence:
    """Haemorrhages and exudates beyond doubt, microaneurysms open, cotton-wool spots none."""
    open_detail = (
        "none was outlined in the field; on held-out photographs of one camera 62% of the marked "
        "ones are found, and at least one in 24 of 26 eyes that have any"
    )
    result = Result(
        summary="Lesions counted (range by cut): microaneurysms 3 (0-6), haemorrhages 12 (8-17), "
        "hard exudates 20 (15-31), soft exudates 0 (0-0). Nearest hard exudate: 0.8 disc diameters "
        "from the fovea. Small and faint ones are missed: a count of 0 excludes nothing.",
        findings=(
            Finding(concept="microaneurysm", state="indeterminate", probability=0.61,
                    threshold=0.8, detail="3 counted, none of them beyond doubt"),
            Finding(concept="haemorrhage", state="present", probability=0.97, threshold=0.8,
                    detail="12 counted in the field (range 8 to 17)"),
            Finding(concept="hard_exudate", state="present", probability=0.99, threshold=0.8,
                    detail="20 counted in the field (range 15 to 31)"),
            Finding(concept="soft_exudate", state="indeterminate", probability=0.2,
                    threshold=0.8, detail=open_detail),
        ),
        measurements=(
            value("microaneurysm_count", 3, low=0, high=6),
            value("haemorrhage_count", 12, low=8, high=17),
            value("hard_exudate_count", 20, low=15, high=31),
            value("soft_exudate_count", 0, low=0, high=0),
            value("hard_exudate_area", 0.3142, "mm2", low=0.2, high=0.4),
            value("hard_exudate_area_share", 0.24, "%", low=0.2, high=0.31),
            value("hard_exudate_fovea_distance", 0.8123, "[DD]", low=0.61, high=1.01),
            value("hard_exudate_fovea_distance_um", 1234.5, "um", low=1100, high=1369),
            *(value("haemorrhage_quadrant_count", n, zone=zone)
              for n, zone in zip((5, 4, 2, 1), QUADRANTS, strict=True)),
            *(value("haemorrhage_etdrs_count", n, zone=zone)
              for n, zone in ((0, "etdrs_centre"), (3, "etdrs_inner_superior"))),
        ),
        not_measured=(
            NotMeasured(name="haemorrhage_fovea_distance",
                        reason="The diameter of the optic disc is not known."),
            NotMeasured(name="soft_exudate_fovea_distance",
                        reason="None was counted whose distance could be told."),
        ),
        artifacts=(
            Artifact(name="haemorrhages", kind="mask", path="haemorrhages.png"),
            Artifact(name="hard_exudates", kind="mask", path="hard_exudates.png"),
        ),
        caveats=(
            Caveat(code="lesions_missed", text="Small and faint lesions are missed, and lesions "
                   "beyond the field are not seen: a count of 0 does not rule out disease."),
        ),
    )  # fmt: skip
    base = made.evidence(number, "segment_lesions")
    return base.model_copy(update={"result": result})


def answer(question: str, *history: str) -> str:
    model = RulesChatModel().bind_tools(offered(1))
    messages = [SystemMessage(session_facts([ImageFact("img1", "OD")]))]
    for text in history:
        messages += [HumanMessage(text), AIMessage("Yes.")]
    messages.append(HumanMessage(question))
    call = model.invoke(messages)
    assert [c["name"] for c in call.tool_calls] == ["segment_lesions"], question
    reply = ToolMessage("{}", tool_call_id=call.tool_calls[0]["id"], name="segment_lesions",
                        artifact=found())  # fmt: skip
    return str(model.invoke([*messages, call, reply]).text)


@pytest.mark.parametrize(
    ("question", "said", "unsaid"),
    [
        ("Are there any haemorrhages?",
         ["Haemorrhages are present in the right eye (OD)", "12 counted in the field"],
         ["exudate", "icroaneurysm"]),
        ("Count the microaneurysms.",
         ["The number of microaneurysms of the right eye (OD) is 3 (range 0 to 6) [E5]."],
         ["present", "haemorrhage"]),
        ("How many bleeds per quadrant?",
         ["superotemporal 5, inferotemporal 4, superonasal 2, inferonasal 1 [E5]."],
         ["exudate"]),
        ("How far are the exudates from the fovea?",
         ["is 0.81 disc diameters (range 0.61 to 1.01 disc diameters) [E5].", "µm"],
         ["haemorrhage"]),
        ("exudate area in mm2", ["is 0.31 mm²", "0.24 %"], ["haemorrhage"]),
        ("How far from the fovea is the nearest haemorrhage?",
         ["could not be measured: The diameter of the optic disc is not known [E5]."], ["µm"]),
        ("Any cotton-wool spots?",
         ["Whether cotton-wool spots are present in the right eye (OD) is uncertain", "62%"],
         ["No cotton-wool", "absent"]),
        ("Where are the bleeds?", ["haemorrhages of the right eye (OD) are outlined"], ["exudate"]),
        ("How many haemorrhages are in each ETDRS field?", ["ETDRS inner superior 3"], ["exudate"]),
        ("lesion count", ["microaneurysms of the right eye (OD) is 3", "hard exudates of"], []),
        ("List all lesions", ["Haemorrhages are present", "uncertain"], []),
    ],
)  # fmt: skip
def test_what_was_asked_is_answered_and_supported(question, said, unsaid):
    text = answer(question)
    for part in said:
        assert part in text, text
    body = text.rpartition("\nNote: ")[0] or text
    for part in unsaid:
        assert part not in body, text
    checked = check_text(text, [found()], KNOWLEDGE, images=(made.record(eye="OD"),))
    assert checked.struck == (), [s.reason for s in checked.struck]


def test_a_follow_up_keeps_the_kind():
    text = answer("How many are there?", "Any haemorrhages?")
    assert text.startswith("The number of haemorrhages of the right eye (OD) is 12")


@pytest.mark.parametrize("question", ["Any drusen?", "Is there venous beading?"])
def test_what_is_not_looked_for_is_not_answered_with_something_else(question):
    text = answer(question)
    assert text.startswith("I cannot find")
    assert "counted" not in text.splitlines()[0]
    assert "present" not in text.splitlines()[0]
    assert check_text(text, [found()], KNOWLEDGE).struck == ()


def test_a_count_belongs_to_what_it_counts():
    def struck(text: str) -> bool:
        return bool(check_text(text, [found()], KNOWLEDGE).struck)

    assert not struck("There are 12 haemorrhages [E5].")
    assert not struck("There are 12 retinal haemorrhages [E5].")
    assert not struck("There are 5 haemorrhages in the superotemporal quadrant [E5].")
    assert struck("There are 20 haemorrhages [E5].")
    assert struck("There are 12 hard exudates [E5].")
    assert struck("There are 4 haemorrhages in the superotemporal quadrant [E5].")


def test_a_detail_speaks_for_its_own_finding_only():
    def struck(text: str, detail: str = "12 counted in the field (range 8 to 17)") -> bool:
        evidence = found()
        findings = [
            f.model_copy(update={"detail": detail}) if f.concept == "haemorrhage" else f
            for f in evidence.result.findings
        ]
        result = evidence.result.model_copy(update={"findings": tuple(findings)})
        evidence = evidence.model_copy(update={"result": result})
        return bool(check_text(text, [evidence], KNOWLEDGE).struck)

    said = "Haemorrhages are present: 12 counted in the field (range 8 to 17) [E5]."
    assert not struck(said)
    assert struck(said.replace("Haemorrhages", "Hard exudates"))
    assert struck("There are 99 hard exudates [E5].", detail="99")
    assert struck("Haemorrhages are present: 99 counted in the field [E5].", detail="99")


@pytest.mark.parametrize(
    "text",
    [
        "There are no microaneurysms [E5].",
        "No cotton-wool spots were found [E5].",
        "The retina is normal [E5].",
        "There are no lesions [E5].",
        "Haemorrhages are absent [E5].",
        "The nearest hard exudate lies 0.5 disc diameters from the fovea [E5].",
    ],
)
def test_more_than_was_found_is_struck(text):
    assert check_text(text, [found()], KNOWLEDGE).struck


def test_the_report_has_a_table_of_lesions_and_the_distance_under_macula():
    report = compile_report(
        (made.record(),), (made.quality(), found()), knowledge=KNOWLEDGE, created="2026-11-22"
    )
    section = report.section("lesions")
    assert section.state == "filled"
    text = " ".join(sentence.text for sentence in section.sentences)
    assert "`retinal haemorrhage` is present in the right eye (OD)" in text
    assert "`cotton-wool spot` is indeterminate" in text
    assert "absent" not in text
    rows = {row.label: row.value for row in section.rows}
    assert "number of haemorrhages 12 (range 8 to 17)" in rows["Retinal haemorrhage"]
    assert "number of haemorrhages by quadrant: superotemporal 5" in rows["Retinal haemorrhage"]
    assert rows["Hard exudate"].endswith("[E5]")
    macula = " ".join(sentence.text for sentence in report.section("macula").sentences)
    assert "nearest hard exudate to the fovea of the right eye (OD) is 0.812 disc" in macula
    assert "number of" not in macula
    vessels = " ".join(sentence.text for sentence in report.section("vessels").sentences)
    assert "haemorrhage" not in vessels
    assert not [r for r in report.section("limitations").rows if r.label == "Withheld sentence"]


def test_a_macula_that_cannot_be_judged_gives_no_distance_but_leaves_the_counts():
    report = compile_report(
        (made.record(),), (made.quality(macula="absent"), found()), knowledge=KNOWLEDGE,
        created="2026-11-22",
    )  # fmt: skip
    assert report.section("macula").state == "not_assessable"
    assert report.section("lesions").state == "filled"
