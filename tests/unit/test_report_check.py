"""The checker strikes every planted error and keeps every true sentence."""

from __future__ import annotations

import pytest
import report_evidence as made
from hypothesis import given, settings
from hypothesis import strategies as st

from fovea.contract import Measurement
from fovea.knowledge import load
from fovea.report.check import check_text

KNOWLEDGE = load()


def struck(text, evidence=None, **more):
    return check_text(text, evidence or made.EVERYTHING, KNOWLEDGE, **more).struck


TRUE = [
    "The vertical cup-to-disc ratio of the right eye is 0.42 (95 % interval 0.36 to 0.49) [E3].",
    "The vertical CDR of the right eye (OD) is 0.42 (95 % interval 0.36 to 0.49) [E3].",
    "The vertical CDR is 0.424 [E3].",
    "VCDR OD: 0.42 (95 % CI 0.36–0.49) [E3].",
    "The cup takes up 42 % of the disc height, a vertical cup-to-disc ratio of 0.42 [E3].",
    "The horizontal cup-to-disc ratio is 0.31 [E3].",
    "The vertical cup-to-disc ratio is 0.42 and the horizontal cup-to-disc ratio 0.31 [E3].",
    "The vertical diameter of the optic disc is 182 px [E3].",
    "The horizontal position of the optic disc is 512.2 px [E3].",
    "The vessel density of the right eye is 0.103 [E4].",
    "The vessel density is 10 % [E4].",
    "The fractal dimension is 1.45 [E4].",
    "The fractal dimension in zone B is 1.31 [E4].",
    "The CRAE is 152 µm (95 % interval 140 to 165 µm) [E4].",
    "The CRAE is 152 µm (95% interval 140 to 165) [E4].",
    "In zone B the fractal dimension is 1.31, and the tortuosity is 1.09 [E4].",
    "RE: the vertical CDR is about 0.42 [E3].",
    "The CRAE of the R eye amounts to 152 micrometres [E4].",
    "Both the optic disc and the macula are gradable [E1].",
    "The tortuosity is 1.09 [E4], and the vertical cup-to-disc ratio is 0.42 [E3].",
    "The AVR could not be measured: Arteries and veins were not told apart [E4].",
    "The arteriole-to-venule ratio could not be measured [E4].",
    "The optic disc and optic cup of the right eye (OD) are outlined in the image view [E3].",
    "Note: The cup is inferred from colour, without depth [E3].",
    "The image quality is good [E1].",
    "The quality score is 0.87 [E1].",
    "Image quality of the right eye (OD): good [E1].",
    "The disc is gradable [E1].",
    "The optic disc, the macula and the vessels are gradable [E1].",
    "The photograph shows the right eye (OD) [E1].",
    "This is a fundus photograph [E1].",
    "Microaneurysms are present (probability 0.83) [E5].",
    "Microaneurysms are present [E5].",
    "No haemorrhages were found [E5].",
    "There is no sign of haemorrhage [E5].",
    "Haemorrhages are absent [E5].",
    "There are microaneurysms but no haemorrhages [E5].",
    "Whether hard exudates are present is uncertain [E5].",
    "Cotton-wool spots could not be assessed [E5].",
    "No proliferative diabetic retinopathy was found [E5].",
    "One of the 2 cases is labelled glaucoma [E6].",
    "Case case-0012, labelled glaucoma, is closer than 97.3 % of random pairs: "
    "Both have a similar disc size [E6].",
    "A bulge of a retinal capillary, seen as a sharp red dot below 125 µm [E7].",
    "A microaneurysm is a bulge of a capillary, seen as a sharp red dot below 125 µm [K:ma].",
    "Blood in the deep layers of the retina, seen as a round or irregular dark red spot with soft "
    "edges [K:haem_deep].",
    "A cup-to-disc ratio alone neither proves nor excludes glaucoma [K:b_vcdr].",
    "The international scale gives grade 1 when there are microaneurysms only [K:dr_npdr_mild].",
    "The American Diabetes Association advises referral within three to six months for moderate "
    "retinopathy [K:dr_npdr_moderate].",
    "NICE asks for referral to a macula service within 1 working day when late wet active disease "
    "is suspected [K:amd_late_nv].",
    "OD is the right eye and OS the left one [K:laterality].",
    "## Optic disc",
    "**Optic disc:**",
    "- The vertical CDR is 0.42 [E3].",
    "The vertical CDR is 0.42. [E3]",
]  # fmt: skip

NO_CLAIM = [
    "Hello!",
    "Hello. I can check image quality, outline vessels, the optic disc and lesions, grade for "
    "disease, measure vessel biomarkers, compare two photographs, find similar cases, explain a "
    "result, look up definitions and criteria, and draft a report.",
    "You are welcome. Ask on whenever you like.",
    "No image has been added yet.",
    "There is no image yet.",
    "Please add a retinal photograph first; this question needs one.",
    "A comparison needs two photographs; please add the second one (the other eye or another "
    "visit).",
    "Which eye is this?",
    "Which eye do you mean, the right one or the left one?",
    "Would you like me to measure the cup-to-disc ratio?",
    "I can measure the cup-to-disc ratio and find similar cases.",
    "I cannot advise on treatment or prescribe; please ask the treating clinician.",
    "The cup-to-disc ratio could not be measured.",
    "There is no photograph of the left eye (OS).",
    "Please add a photograph of the left eye (OS).",
    "A plugin for finding lesions (`segment_lesions`) is not installed. "
    "I can measure vessel biomarkers if they are offered.",
    "I could not measure the vessels.",
    "AI DRAFT - research use only. Not a medical device. Not for diagnostic use until reviewed.",
    "That is outside what I can do.",
    "I have no supported answer to that.",
    "",
    "\n\n",
]

PLANTED = {
    "wrong number": [
        "The vertical cup-to-disc ratio of the right eye is 0.52 [E3].",
        "The vertical CDR is 0.43 [E3].",
        "The vertical CDR is 0.425 [E3].",
        "The vertical CDR is 1 [E3].",
        "The vertical CDR is 0.42 (95 % interval 0.30 to 0.49) [E3].",
        "The vertical CDR is 0.42 (90 % interval 0.36 to 0.49) [E3].",
        "The vertical CDR is 0.42 with 7 microaneurysms [E3].",
        "The vertical CDR is -0.42 [E3].",
        "The vertical CDR is 52 % [E3].",
        "There are twelve haemorrhages [E5].",
        "Microaneurysms are present (probability 0.93) [E5].",
        "All 5 cases are labelled glaucoma [E6].",
        "A microaneurysm is a sharp red dot below 225 µm [K:ma].",
        "The fractal dimension in zone B is 1.45 [E4].",
        "The vertical CDR is ０.５２ [E3].",
        "The vertical CDR is 0,52 [E3].",
        "The vertical CDR is 0.4x [E3].",
    ],
    "number of another quantity": [
        "The vertical cup-to-disc ratio is 0.31 [E3].",
        "The horizontal CDR is 0.42 [E3].",
        "The vertical cup-to-disc ratio is 0.10 [E4].",
        "The fractal dimension is 1.09 [E4].",
        "The vertical CDR is 0.59 [E3][K:b_vcdr].",
    ],
    "wrong unit": [
        "The vertical diameter of the optic disc is 182 µm [E3].",
        "The vertical diameter of the optic disc is 182 [E3].",
        "The CRAE is 152 px [E4].",
        "The CRAE is 152 mm [E4].",
        "The CRAE is 152 [E4].",
        "The vertical CDR is 0.42 mm [E3].",
        "The vertical CDR is 0.42 % [E3].",
        "A microaneurysm is a sharp red dot below 125 mm [K:ma].",
    ],
    "swapped eye": [
        "The vertical cup-to-disc ratio of the left eye is 0.42 [E3].",
        "The vertical CDR (OS) is 0.42 [E3].",
        "OS: the vertical CDR is 0.42 [E3].",
        "The left disc has a vertical CDR of 0.42 [E3].",
        "The vertical CDR of both eyes is 0.42 [E3].",
        "The photograph shows the left eye (OS) [E1].",
        "In the LEFT EYE the vertical CDR is 0.42 [E3].",
    ],
    "flipped polarity": [
        "No microaneurysms were found [E5].",
        "There is no sign of microaneurysms [E5].",
        "Microaneurysms are absent [E5].",
        "Haemorrhages are present [E5].",
        "There are haemorrhages but no microaneurysms [E5].",
        "Microaneurysms and haemorrhages are present [E5].",
        "Neither microaneurysms nor haemorrhages were found [E5].",
        "Hard exudates are present [E5].",
        "No hard exudates were found [E5].",
        "No cotton-wool spots were found [E5].",
        "There is proliferative diabetic retinopathy [E5].",
        "The disc is not gradable [E1].",
        "The macula is ungradable [E1].",
        "The image quality is poor [E1].",
        "The image quality is not good [E1].",
        "This is not a fundus photograph [E1].",
        "A cup-to-disc ratio alone proves or excludes glaucoma [K:b_vcdr].",
    ],
    "missing citation": [
        "The vertical cup-to-disc ratio is 0.42.",
        "The right eye is healthy.",
        "There is glaucoma.",
        "Everything looks normal.",
        "It is 0.42.",
        "The image quality is good.",
        "This is not a retinal photograph.",
        "The vertical CDR [E3] is 0.42.",
        "The vertical CDR is 0.42 [E3], and there is glaucoma.",
        "I can see that the disc is swollen.",
        "Did you know that the right eye has glaucoma?",
        "Please note that the disc is swollen.",
        "I could not find any sign of glaucoma.",
        "The disc could not be measured, but the macula shows drusen.",
        "Glaucoma present:",
    ],
    "invented citation": [
        "The vertical CDR is 0.42 [E9].",
        "The vertical CDR is 0.42 [E3][E12].",
        "The vertical CDR is normal [K:invented].",
        "The vertical CDR is 0.42 [3].",
        "The vertical CDR is 0.42 (E3).",
        "Hello [E99].",
    ],
    "advice without knowledge": [
        "You should see an ophthalmologist.",
        "Refer the patient urgently [E3].",
        "The vertical CDR is 0.42 [E3]; follow-up in a year is recommended [E3].",
        "Laser treatment is needed [E5].",
        "The photograph must be repeated [E1].",
        "Refer within 1 week [K:ma].",
        "Start treatment with eye drops today [K:glaucoma].",
        "I recommend surgery.",
    ],
    "unsupported judgement": [
        "The vertical CDR is 0.42, which is normal [E3].",
        "The optic disc is healthy [E3].",
        "The vertical CDR is within the reference range [E3][K:b_vcdr].",
        "The swollen disc has a vertical CDR of 0.42 [E3].",
        "The right eye has glaucoma [E3].",
        "There is no glaucoma [E3].",
        "There is glaucoma [E6].",
        "The disc looks fine to me [E3].",
        "Your eye has glaucoma [K:glaucoma].",
        "Glaucoma is harmless [K:glaucoma].",
        "The eye is blind [E3].",
    ],
    "reassurance or bare answer": [
        "Yes.", "No.", "Yes, it is.", "No, it does not.", "It is.", "Everything is okay.",
        "All good.", "There is nothing to worry about.", "No problems were seen.",
        "You are fine.", "Definitely.",
    ],
    "not English": [
        "Das rechte Auge ist gesund.", "El ojo derecho tiene glaucoma.", "右眼正常。",
        "There is gl\u0430ucoma.",
    ],
    "everyday words": [
        "Your vision will be lost soon.",
        "You will go blind.",
        "Call an ambulance now.",
        "Take aspirin.",
        "Stop taking your tablets.",
        "This eye is perfect.",
        "There are many microaneurysms [E5].",
        "The CRAE is 152 µm, so blood pressure is high [E4].",
        "The vertical CDR of the right eye is 0.42, typical for her age [E3].",
    ],
    "hedged or denied": [
        "Microaneurysms may be present [E5].", "Microaneurysms are unlikely [E5].",
        "The vertical CDR is not 0.42 [E3].", "The cup takes up half of the disc [E3].",
        "The disc is large, with a vertical CDR of 0.42 [E3].",
        "The vertical CDR could not be measured [E3].",
    ],
    "more than is known": [
        "Extensive microaneurysms are present [E5].",
        "There are a handful of microaneurysms [E5].",
        "Microaneurysms are present at the fovea [E5].",
        "Microaneurysms are present in all quadrants [E5].",
        "Microaneurysms are present, unchanged since the last visit [E5].",
        "Microaneurysms are no longer absent [E5].",
        "Microaneurysms are present because of diabetes [E5].",
        "The tortuosity is 1.09, unchanged since the last visit [E4].",
        "The vertical CDR of the right eye is 0.42, farther than in the fellow eye [E3].",
        "Case case-0012, labelled glaucoma, is less close than 97.3 % of random pairs: "
        "Both have a similar disc size [E6].",
    ],
    "eye by another name": [
        "The vertical CDR of LE is 0.42 [E3].",
        "The vertical CDR of oculus sinister is 0.42 [E3].",
        "The vertical CDR of the fellow eye is 0.42 [E3].",
        "L eye: the vertical CDR is 0.42 [E3].",
    ],
    "another interval, part or unit": [
        "The CRAE is 152 µm (90 % interval 140 to 165 µm) [E4].",
        "The fractal dimension in zone C is 1.31 [E4].",
        "The fractal dimension is 1.31 [E4].",
        "The tortuosity in the superotemporal quadrant is 1.09 [E4].",
        "The CRAE is 152 microns squared [E4].",
        "The CRAE is 152 nm [E4].",
    ],
    "words of a source in another order": [
        "A sharp red dot above 125 µm, seen as a bulge of a retinal capillary [K:ma].",
        "A Birmingham list of conditions for routine referral names central serous retinopathy "
        "[K:csc_acute].",
        "NICE asks for referral to a macula service within 1 working week when late wet active "
        "disease is suspected [K:amd_late_nv].",
        "Tear of choroid, Bruch membrane and pigment epithelium before blunt injury "
        "[K:choroidal_rupture].",
    ],
    "markup": [
        "The vertical CDR is 0.42 ![x](http://evil.example/a.png) [E3].",
        "See https://evil.example for more.",
        "<img src=x> The vertical CDR is 0.42 [E3].",
    ],
}  # fmt: skip


@pytest.mark.parametrize("text", TRUE)
def test_true_sentence_is_kept(text):
    checked = check_text(text, made.EVERYTHING, KNOWLEDGE)
    assert checked.struck == ()
    assert checked.kept == text


@pytest.mark.parametrize("text", NO_CLAIM)
def test_sentence_without_a_claim_needs_no_citation(text):
    assert struck(text) == ()


@pytest.mark.parametrize(
    ("kind", "text"), [(kind, text) for kind, texts in PLANTED.items() for text in texts]
)
def test_planted_error_is_struck(kind, text):
    assert struck(text), kind


@pytest.mark.parametrize(
    "text",
    [
        "The eye is normal. Image quality is good [E1].",
        "The eye is normal [E1].",
        "The disc is normal and gradable [E1].",
        "The vessels should be normal [E1].",
        "The person can drive safely.",
        "Nothing bad here.",
    ],
)
def test_words_that_a_search_passes_over_are_claims_all_the_same(text):
    gate = made.quality()
    summary = "Retinal photograph, quality good (0.87 of 1), eye OD. Gradable: disc, vessels."
    result = gate.result.model_copy(update={"summary": summary})
    evidence = (gate.model_copy(update={"result": result}), *made.EVERYTHING[1:])
    assert check_text(text, evidence, KNOWLEDGE).struck


def test_labels_and_reasons_of_archived_cases_are_quoted_as_they_are():
    near = made.similar().result.similar[0]
    labels, why = ("normal fundus", "mild nonproliferative retinopathy"), "Not alike in colour."
    case = near.model_copy(update={"labels": labels, "why": why})
    gathered = made.similar()
    result = gathered.result.model_copy(update={"similar": (case,)})
    evidence = (made.quality(), gathered.model_copy(update={"result": result}))
    said = f"Case {case.case_id}, labelled {' and '.join(labels)}, is closer than 97.3 % of "
    said += "random pairs: Not alike in colour [E6]."
    assert check_text(said, evidence, KNOWLEDGE).struck == ()
    for lie in (
        "The eye is a normal fundus [E6].",
        "Case case-0012 shows that all is normal [E6].",
    ):
        assert check_text(lie, evidence, KNOWLEDGE).struck


def test_how_near_a_case_is_belongs_to_that_case():
    near = made.similar().result.similar
    assert len({case.closeness_percentile for case in near}) == len(near) > 1
    for case in near:
        for other in near:
            said = (
                f"Case {case.case_id} is closer than {other.closeness_percentile:.1f} % of random"
            )
            assert bool(struck(f"{said} pairs [E6].")) == (case is not other)


def test_reason_says_what_is_wrong():
    reasons = {
        "The vertical CDR is 0.52 [E3].": "`0.52` is not a value of [E3]",
        "The vertical CDR of the left eye is 0.42 [E3].": "left eye",
        "The vertical CDR is 0.42 [E9].": "[E9], which does not exist",
        "The vertical CDR is 0.42.": "no citation",
        "Microaneurysms are absent [E5].": "present",
    }
    for text, part in reasons.items():
        assert part in struck(text)[0].reason


def test_only_the_wrong_sentence_goes():
    text = (
        "The vertical CDR is 0.42 [E3]. The horizontal CDR is 0.99 [E3].\n"
        "- The vessel density is 0.103 [E4].\n"
        "- There is glaucoma [E3].\n"
        "Would you like a report?"
    )
    checked = check_text(text, made.EVERYTHING, KNOWLEDGE)
    assert [item.sentence for item in checked.struck] == [
        "The horizontal CDR is 0.99 [E3].",
        "There is glaucoma [E3].",
    ]
    assert checked.kept == (
        "The vertical CDR is 0.42 [E3].\n"
        "- The vessel density is 0.103 [E4].\n"
        "Would you like a report?"
    )


@pytest.mark.parametrize("structure", ["disc", "macula", "vessels"])
def test_nothing_is_said_about_a_structure_that_is_not_gradable(structure):
    evidence = (made.quality(**{structure: "absent"}), made.disc(), made.vessels(), made.lesions())
    said = {
        "disc": ("The vertical CDR is 0.42 [E3].",),
        "macula": ("Proliferative diabetic retinopathy is absent [E5].",),
        "vessels": ("The tortuosity is 1.09 [E4].", "No haemorrhages were found [E5]."),
    }
    for other, texts in said.items():
        assert all(bool(struck(text, evidence)) == (other == structure) for text in texts)
    assert struck(f"The {structure} is gradable [E1].", evidence)
    assert not struck(f"The {structure} is not gradable [E1].", evidence)


def test_nothing_is_said_about_a_rejected_photograph():
    evidence = (made.quality(quality="reject"), made.disc(), made.vessels())
    assert struck("The vertical CDR is 0.42 [E3].", evidence)
    assert struck("The tortuosity is 1.09 [E4].", evidence)
    assert not struck("The image quality is reject [E1].", evidence)
    assert struck("The image quality is usable [E1].", evidence)


def test_eye_named_by_a_person_counts():
    evidence = (made.disc(eye=None),)
    text = "The vertical CDR of the left eye is 0.42 [E3]."
    assert struck(text, evidence)
    assert not struck(text, evidence, images=(made.record(eye="OS", source="person"),))
    assert struck(text, evidence, images=(made.record(eye="OD", source="person"),))


def test_two_eyes_are_kept_apart():
    evidence = (made.disc(1), made.disc(2, eye="OS", vcdr=0.61, image="img2"))
    assert not struck("The vertical CDR of OD is 0.42 [E1] and of OS 0.61 [E2].", evidence)
    assert struck("The vertical CDR of OD is 0.61 [E1] and of OS 0.42 [E2].", evidence)
    assert struck("The vertical CDR of OS is 0.42 [E1, E2].", evidence)
    assert struck("In img2 the vertical CDR is 0.42 [E1].", evidence)


def test_reference_range_is_stated_only_for_its_own_method():
    own = (made.disc(vcdr=0.42, method=made.BMES),)
    text = "The vertical CDR is within the reference range [E3][K:b_vcdr]."
    assert struck(text, own)  # the limit depends on a disc diameter in mm that nobody measured


def test_reason_of_a_refused_tool_may_be_repeated():
    reason = "`segment_lesions`: The image is 80 px wide. At least 400 px are needed."
    assert struck(reason)
    assert not struck(reason, refused={"segment_lesions": reason})
    assert not struck(
        "The lesions could not be assessed because the image is 80 px wide.",
        refused={"segment_lesions": "The image is 80 px wide."},
    )


def test_name_of_a_grade_must_fit_its_number():
    grade = Measurement(name="dr_grade", value=2, unit="1", method="network", eye="OD")
    evidence = (made.evidence(2, "classify_disease", measurements=(grade,)),)
    said = "The diabetic retinopathy grade (ICDR) of the right eye (OD) is"
    assert not struck(f"{said} 2 (moderate non-proliferative) [E2].", evidence)
    assert struck(f"{said} 2 (severe non-proliferative) [E2].", evidence)
    assert struck(f"{said} 2 (proliferative) [E2].", evidence)
    assert struck(f"{said} 3 (moderate non-proliferative) [E2].", evidence)


def test_hidden_characters_are_taken_out():
    checked = check_text("Hel\u200blo\U000e0041!", (), KNOWLEDGE)
    assert checked.kept == "Hello!"
    assert struck("There is glau\u200bcoma.")


def test_several_quoted_sentences_need_one_citation():
    text = KNOWLEDGE.get("b_vcdr").text.clinician
    assert not struck(f"{text} [K:b_vcdr]")
    assert struck(f"The disc is swollen. {text} [K:b_vcdr]")


@pytest.mark.parametrize("identifier", sorted(KNOWLEDGE.entries))
def test_every_statement_can_be_quoted(identifier):
    for _, text, _ in KNOWLEDGE.get(identifier).statements():
        assert not struck(f"{text.rstrip('.')} [K:{identifier}].")


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_survived(text):
    checked = check_text(text, made.EVERYTHING, KNOWLEDGE)
    assert isinstance(checked.kept, str)
    again = check_text(checked.kept, made.EVERYTHING, KNOWLEDGE)
    assert len(again.kept) <= len(checked.kept)


_TOKENS = st.sampled_from(
    [
        "The",
        "vertical CDR",
        "of",
        "right eye",
        "left eye",
        "OD",
        "OS",
        "is",
        "0.42",
        "0.52",
        "42 %",
        "px",
        "µm",
        "[E3]",
        "[E9]",
        "[K:b_vcdr]",
        "no",
        "glaucoma",
        "microaneurysms",
        "present",
        "absent",
        ".",
        ",",
        ";",
        "!",
        "?",
        "\n",
        "-",
        "and",
        "but",
        "not",
        "normal",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_TOKENS, max_size=25))
def test_no_wrong_number_eye_or_citation_is_ever_kept(parts):
    kept = check_text(" ".join(parts), made.EVERYTHING, KNOWLEDGE).kept
    for wrong in ("0.52", "[E9]", "left eye", "OS", "normal"):
        assert wrong not in kept


@settings(max_examples=100, deadline=None)
@given(st.floats(0.05, 0.95), st.integers(2, 4), st.integers(1, 40))
def test_printed_precision_decides(value, decimals, off):
    evidence = (made.disc(vcdr=value),)
    true = f"The vertical CDR is {value:.{decimals}f} [E3]."
    allowed = {0.3591, 0.4949}
    wrong = value + off * 10.0**-decimals
    assert not struck(true, evidence)
    if not any(abs(wrong - bound) < 2 * 10.0**-decimals for bound in allowed):
        assert struck(f"The vertical CDR is {wrong:.{decimals}f} [E3].", evidence)
