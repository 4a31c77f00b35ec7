"""The compiled report: 17 sections, each true, checked and never silently empty."""

from __future__ import annotations

import json

import pytest
import report_evidence as made
from hypothesis import given, settings
from hypothesis import strategies as st

from fovea.contract import Caveat, Finding, Interval, Measurement, NotMeasured
from fovea.knowledge import load
from fovea.report.check import check_text
from fovea.report.compile import TITLES, compile_report
from fovea.report.labels import LABEL
from fovea.report.model import Report
from fovea.report.render import render_json, render_markdown

KNOWLEDGE = load()
WHEN = "2026-11-22T12:00:00+00:00"
JUDGED = ("optic_disc", "macula", "vessels", "lesions", "biomarkers", "impression", "similar")


def report(evidence=made.EVERYTHING, images=None, **more) -> Report:
    images = (made.record(),) if images is None else images
    return compile_report(images, evidence, knowledge=KNOWLEDGE, created=WHEN, **more)


def sentences(compiled: Report) -> list[str]:
    return [sentence.text for section in compiled.sections for sentence in section.sentences]


def test_sections_are_the_17_required_ones_in_order():
    compiled = report()
    assert [(s.number, s.key) for s in compiled.sections] == [
        (number, key) for number, (key, _) in enumerate(TITLES, start=1)
    ]
    for section in compiled.sections:
        if section.state == "filled":
            assert section.sentences or section.rows
        else:
            assert section.reason


def test_values_appear_with_eye_interval_unit_and_citation():
    compiled = report()
    disc = compiled.section("optic_disc")
    assert disc.sentences[0].text == (
        "The vertical cup-to-disc ratio of the right eye (OD) is 0.42 "
        "(95 % interval 0.36 to 0.49) [E3]."
    )
    fact = disc.sentences[0].facts[0]
    assert (fact.name, fact.value, fact.unit, fact.eye) == ("vertical_cdr", 0.4236, "1", "OD")
    assert disc.sentences[0].evidence == ("E3",)
    assert "152 µm" in " ".join(s.text for s in compiled.section("vessels").sentences)


def test_every_sentence_passes_the_checker_and_none_was_withheld():
    compiled = report()
    for text in sentences(compiled):
        assert check_text(text, made.EVERYTHING, KNOWLEDGE, images=(made.record(),)).struck == ()
    rows = compiled.section("limitations").rows
    assert not [row for row in rows if row.label == "Withheld sentence"]
    assert len(compiled.section("biomarkers").rows) >= 5


@pytest.mark.parametrize(
    "bad",
    [
        {"quality": "reject"},
        {"fundus": "absent"},
        {"disc": "absent", "macula": "not_assessable", "vessels": "absent"},
    ],
)
def test_unusable_photograph_is_not_assessable_and_never_normal(bad):
    evidence = (made.quality(**bad), *made.EVERYTHING[1:])
    compiled = report(evidence)
    for key in JUDGED:
        assert compiled.section(key).state == "not_assessable", key
        assert compiled.section(key).reason.startswith("Not assessable")
    text = " ".join(sentences(compiled)).lower()
    assert "0.42" not in text
    assert "normal" not in text
    assert "microaneurysm" not in text
    # The knowledge base has advice for a poor photograph, none for a picture of something else.
    assert ("repeated" in text) == (bad != {"fundus": "absent"})


def test_only_the_structure_that_is_not_gradable_is_left_out():
    compiled = report((made.quality(disc="absent"), *made.EVERYTHING[1:]))
    assert compiled.section("optic_disc").state == "not_assessable"
    assert "not gradable" in compiled.section("optic_disc").sentences[0].text
    assert compiled.section("vessels").state == "filled"
    assert "cup-to-disc" not in " ".join(s.text for s in compiled.section("biomarkers").sentences)


def test_missing_tools_are_named_with_their_reason():
    compiled = report(
        (made.quality(), made.disc()),
        refused={
            "classify_disease": "No such plugin is installed.",
            "segment_vessels img1": "Slow",
        },
    )
    assert "No such plugin is installed" in compiled.section("impression").reason
    assert "Slow" in compiled.section("vessels").reason
    assert compiled.section("lesions").reason == (
        "Not measured: `segment_lesions` is not installed or was not run"
    )
    labels = [row.label for row in compiled.section("limitations").rows]
    assert "Not available: classify_disease" in labels


def test_empty_session_still_gives_a_report():
    compiled = report((), images=())
    assert compiled.section("header").state == "absent"
    assert compiled.section("quality").state == "not_measured"


def test_eye_has_a_source_and_a_conflict_is_flagged():
    def eye_row(images):
        rows = report(images=images).section("header").rows
        return next(row.value for row in rows if row.label == "img1: eye")

    assert eye_row((made.record(),)) == "right eye (OD), inferred from the photograph"
    assert eye_row((made.record(eye="OD", source="dicom"),)) == "right eye (OD), from the file"
    conflict = eye_row((made.record(eye="OS", source="person"),))
    assert conflict == "left eye (OS), named by a person; CONFLICT: looks like the right eye (OD)"


def test_a_wrong_eye_label_costs_no_sentence_of_the_quality_gate():
    told = Caveat(code="eye_conflict", text="By the person this is OS, but it lies as in OD")
    gate = made.quality(eye="OD")
    gate = gate.model_copy(update={"result": gate.result.model_copy(update={"caveats": (told,)})})
    compiled = report((gate,), images=(made.record(eye="OS", source="person"),))
    said = [sentence.text for sentence in compiled.section("quality").sentences]
    assert "The disc is gradable [E1]." in said
    assert any("is good" in text for text in said)
    caveats = [sentence.text for sentence in compiled.section("limitations").sentences]
    assert caveats == [f"{told.text} [E1]."]


def test_a_rejected_photograph_says_why_even_in_words_of_a_barred_structure():
    bad = {"disc": "absent", "macula": "absent", "vessels": "absent"}
    gate = made.quality(quality="reject", **bad)
    why = "Out of focus: vessels have little contrast"
    findings = tuple(
        f.model_copy(update={"detail": why}) if f.concept == "quality" else f
        for f in gate.result.findings
    )
    result = gate.result.model_copy(update={"findings": findings})
    compiled = report((gate.model_copy(update={"result": result}),))
    said = " ".join(sentence.text for sentence in compiled.section("quality").sentences)
    assert f"is rejected: {why} [E1]." in said


def test_cases_that_are_not_near_enough_are_not_shown_as_similar():
    far = Caveat(code="not_similar_enough", text="Even the nearest case is not close")
    cases = made.similar()
    result = cases.result.model_copy(update={"caveats": (far,)})
    compiled = report((made.quality(), cases.model_copy(update={"result": result})))
    assert compiled.section("similar").state == "absent"
    assert "near enough" in compiled.section("similar").reason
    assert f"{far.text} [E6]." in [s.text for s in compiled.section("limitations").sentences]


def test_provenance_is_in_the_order_of_the_evidence():
    compiled = report(tuple(reversed(made.EVERYTHING)))
    labels = [row.label for row in compiled.section("provenance").rows if row.label[0] == "E"]
    assert labels == sorted(labels)


def test_value_passed_on_by_a_second_tool_is_stated_once():
    again = made.evidence(
        8, "measure_biomarkers",
        measurements=(made.disc().result.measurements[0],),
        not_measured=(NotMeasured(name="branching_angle", reason="No branch was found."),),
    )  # fmt: skip
    compiled = report((made.quality(), made.disc(), again))
    said = " ".join(sentences(compiled))
    assert said.count("The vertical cup-to-disc ratio of the right eye (OD) is 0.42") == 1
    assert "The branching angle of the right eye (OD) could not be measured: No branch" in said


def test_measurement_that_no_entry_explains_is_still_listed():
    extra = Measurement(name="novel_index", value=3.25, unit="px", method="sum", eye="OD")
    piece = made.evidence(8, "third_party", measurements=(extra,))
    compiled = report((made.quality(), piece))
    rows = {row.label: row.value for row in compiled.section("biomarkers").rows}
    assert rows["Novel index OD"] == "3.25 px [E8]"


def test_a_full_set_of_disc_measures_is_a_table_and_not_forty_sentences():
    def by_hour(name, hours):
        return [
            Measurement(name=name, value=0.1 + hour / 100, unit="1", method="rays", eye="OD",
                        zone=f"clock_{hour}") for hour in hours
        ]  # fmt: skip

    piece = made.evidence(
        8, "measure_biomarkers",
        measurements=(*by_hour("rim_disc_ratio", (1, 2, 3)), made.disc().result.measurements[1]),
        not_measured=tuple(
            NotMeasured(name=name, reason="No cup was seen.") for name in ("rim_area", "cup_area")
        ),
    )  # fmt: skip
    compiled = report((made.quality(), made.disc(), piece))
    rows = {row.label: row.value for row in compiled.section("biomarkers").rows}
    assert rows["Rim-to-disc ratio by clock hour OD"] == (
        "clock 1 0.11, clock 2 0.12, clock 3 0.13 [E8]"
    )
    assert rows["Not measured: No cup was seen"] == "rim area, cup area [E8]"
    said = " ".join(sentences(compiled))
    assert "rim" not in said.lower()
    assert said.count("horizontal cup-to-disc ratio") == 1


def test_two_eyes_are_never_mixed():
    images = (made.record("img1"), made.record("img2"))
    evidence = (
        made.quality(1), made.quality(2, eye="OS", image="img2"),
        made.disc(3), made.disc(4, eye="OS", vcdr=0.61, image="img2"),
    )  # fmt: skip
    text = " ".join(s.text for s in report(evidence, images).section("optic_disc").sentences)
    assert "of the right eye (OD) in img1 is 0.42" in text
    assert "of the left eye (OS) in img2 is 0.61" in text


def test_reference_range_only_within_its_own_method():
    def position(method, unit, size, vcdr):
        base = made.disc(vcdr=vcdr, method=method).result
        others = tuple(m for m in base.measurements if m.name != "disc_diameter_vertical")
        diameter = Measurement(
            name="disc_diameter_vertical", value=size, unit=unit, method="mask", eye="OD"
        )
        piece = made.evidence(3, "segment_optic_disc", measurements=(*others, diameter))
        found = report((made.quality(), piece)).section("biomarkers").sentences
        states = [s.facts[0].state for s in found if s.facts[0].name == "vertical_cdr"]
        return states[0] if states else "not_compared"

    assert position(made.BMES, "mm", 1.2, 0.6) == "above"
    assert position(made.BMES, "um", 1900.0, 0.7) == "within"
    assert position(made.BMES, "mm", 3.0, 0.6) == "not_compared"
    assert position(made.BMES, "px", 180.0, 0.6) == "not_compared"
    assert position("another method", "mm", 1.2, 0.9) == "not_compared"


def test_recommendations_are_quoted_and_the_urgent_one_comes_first():
    piece = made.evidence(
        5, "classify_disease",
        findings=(
            Finding(concept="dr_npdr_moderate", state="present"),
            Finding(concept="haem_preretinal", state="present"),
            Finding(concept="glaucoma", state="absent"),
        ),
    )  # fmt: skip
    compiled = report((made.quality(), piece))
    section = compiled.section("recommendation")
    assert [s.knowledge[0] for s in section.sentences] == ["haem_preretinal", "dr_npdr_moderate"]
    assert section.rows[0].value.startswith("U4, within 24 hours (guideline set uk_nhs)")
    assert {entry.id for entry in compiled.knowledge} >= {"haem_preretinal", "dr_npdr_moderate"}
    assert compiled.section("differential").sentences[0].knowledge == ("htn_moderate",)


def test_words_of_a_plugin_are_checked_like_those_of_a_model():
    piece = made.evidence(
        5, "segment_lesions",
        findings=(Finding(concept="ma", state="present",
                          detail="refer urgently and see https://evil.example"),),
        caveats=(Caveat(code="odd", text="The patient must start treatment today."),),
    )  # fmt: skip
    compiled = report((made.quality(), piece))
    text = render_markdown(compiled)
    assert "evil" not in text
    assert "treatment today" not in text
    assert any(r.label == "Withheld sentence" for r in compiled.section("limitations").rows)


def test_renderings_hold_everything():
    compiled = report()
    assert Report.model_validate_json(render_json(compiled)) == compiled
    assert json.loads(render_json(compiled))["label"] == LABEL
    text = render_markdown(compiled)
    assert text.count(LABEL) >= 3
    for _, title in TITLES:
        assert f". {title}\n" in text
    assert "0.42 (95 % interval 0.36 to 0.49) [E3]" in text


def test_markdown_cannot_be_injected():
    images = (made.record().model_copy(update={"notes": ("<script>x</script> | ![a](b)",)}),)
    text = render_markdown(report(images=images))
    assert "<script>" not in text
    assert "![a](b)" not in text


def test_same_input_gives_the_same_report():
    assert render_json(report()) == render_json(report())


_FINDINGS = st.lists(
    st.tuples(
        st.sampled_from(sorted(
            e.id for e in KNOWLEDGE.entries.values() if e.kind in ("condition", "finding")
        )),
        st.sampled_from(["present", "absent", "indeterminate", "not_assessable"]),
    ),
    max_size=5, unique_by=lambda pair: pair[0],
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(
    _FINDINGS,
    st.sampled_from(["OD", "OS", None]),
    st.floats(0.01, 0.99),
    st.sampled_from(["present", "absent", "not_assessable", "indeterminate"]),
    st.booleans(),
)
def test_any_evidence_gives_a_sound_report(found, eye, vcdr, disc_state, with_quality):
    pieces = [
        made.evidence(
            2, "classify_disease",
            findings=tuple(Finding(concept=name, state=state) for name, state in found),
        ),
        made.evidence(
            3, "segment_optic_disc",
            measurements=(
                Measurement(
                    name="vertical_cdr", value=vcdr, unit="1", method="masks", eye=eye,
                    interval=Interval(level=0.95, low=vcdr * 0.9, high=vcdr * 1.1, how="test set"),
                ),
            ),
        ),
    ]  # fmt: skip
    if with_quality:
        pieces.append(made.quality(1, eye=eye or "OD", disc=disc_state))
    images = (made.record(eye=eye, source="person" if eye else None),)
    compiled = report(tuple(pieces), images)
    assert len(compiled.sections) == 17
    known = {piece.id for piece in pieces}
    for section in compiled.sections:
        for sentence in section.sentences:
            assert set(sentence.evidence) <= known
            assert sentence.facts
            assert sentence.evidence or sentence.knowledge
    text = " ".join(sentences(compiled))
    wrong = {"OD": "left eye", "OS": "right eye"}.get(eye or "")
    assert wrong is None or wrong not in text.split("OD is the right eye")[0]
    if with_quality and disc_state in ("absent", "not_assessable"):
        assert "cup-to-disc ratio of" not in text
    elif compiled.section("optic_disc").state == "filled":
        assert "cup-to-disc ratio" in text
    withheld = [r.value for r in compiled.section("limitations").rows if "Withheld" in r.label]
    assert withheld == []
