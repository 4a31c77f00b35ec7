"""A person edits, compares and signs; the draft, the edits and the signatures are kept."""

from __future__ import annotations

import json
from html import unescape
from types import SimpleNamespace

import pytest
import report_evidence as made
from pydantic import ValidationError
from typer.testing import CliRunner

from fovea.cli import app
from fovea.errors import FoveaError
from fovea.knowledge import load
from fovea.report.compile import compile_report
from fovea.report.labels import LABEL
from fovea.report.model import Report
from fovea.report.render import render_json, render_markdown
from fovea.report.review import changes, difference, edit, place, shown, sign, texts
from fovea.report.views import ENDINGS, Material, write_report

DRAFT = compile_report(
    (made.record(),), made.EVERYTHING, knowledge=load(), created="2026-11-22T12:00:00+00:00"
)
WORDS = "The cup is large; compare with the fellow eye [E3]."
DISC = DRAFT.section("optic_disc")


def edited(report=DRAFT, words=WORDS, sentence=1):
    return edit(report, DISC.number, sentence, words, by="Dr Roe", at="2026-11-23T08:00:00+00:00")


def signed(report=DRAFT, by="Dr Roe"):
    return sign(report, by=by, at="2026-11-23T09:00:00+00:00")


def test_an_edit_is_shown_and_the_draft_is_kept():
    report = edited()
    assert report.section("optic_disc") == DISC
    assert report.edits[0].before == DISC.sentences[0].text
    now = next(part for part in shown(report) if part.key == "optic_disc")
    assert [s.text for s in now.sentences] == [WORDS, *(s.text for s in DISC.sentences[1:])]
    assert now.sentences[0].evidence == ("E3",)
    assert now.sentences[0].facts == ()  # no machine-readable value stands behind new words
    assert now.sentences[1:] == DISC.sentences[1:]


def test_a_sentence_can_be_taken_out_and_one_added():
    report = edited(words="")
    place_after = len(DISC.sentences) + 1
    report = edited(report, "The rim is pale.", place_after)
    now = next(part for part in shown(report) if part.key == "optic_disc")
    assert [s.text for s in now.sentences] == [
        *(s.text for s in DISC.sentences[1:]), "The rim is pale."
    ]  # fmt: skip
    assert texts(report, DISC)[0] == ""  # places stay as they were
    back = edited(report, DISC.sentences[0].text)
    assert [c.now for c in changes(back)] == ["The rim is pale."]


def test_a_sentence_added_to_an_empty_section_fills_it():
    section = DRAFT.section("comparison")
    assert section.state == "absent"
    report = edit(DRAFT, section.number, 1, "The photograph of 2024 looked the same.", by="Dr Roe")
    now = next(part for part in shown(report) if part.key == "comparison")
    assert (now.state, now.reason, len(now.sentences)) == ("filled", "", 1)


def test_the_difference_names_the_words():
    (change,) = changes(edited(words=DISC.sentences[0].text.replace("The ", "This ", 1)))
    assert change.place == f"{DISC.number}.1"
    assert difference(change).startswith("[-The-] {+This+} ")
    assert changes(DRAFT) == []


def test_signing_states_who_and_when_and_an_edit_makes_it_void():
    assert DRAFT.label == LABEL
    report = signed(edited())
    assert report.label.startswith("Reviewed by Dr Roe on 2026-11-23T09:00:00+00:00.")
    assert "AI DRAFT" not in report.label
    again = edited(report, "Another thing.", 2)
    assert again.label.startswith(LABEL)
    assert "signed again" in again.label
    assert again.signatures == report.signatures
    assert again.signature() is None
    anew = signed(again)
    assert anew.label.startswith("Reviewed by Dr Roe")
    rows = {row.label: row.value for row in shown(anew)[16].rows}
    assert rows["Earlier signature, void"].startswith("Dr Roe")
    assert "[-vertical" in rows[f"Edited by Dr Roe: {DISC.number}.1 Optic disc"]


def test_a_second_reviewer_may_sign_too_but_nobody_twice():
    report = signed(signed(), by="Dr Doe")
    assert [s.by for s in report.signatures] == ["Dr Roe", "Dr Doe"]
    with pytest.raises(FoveaError, match="signed it already"):
        signed(report, by="Dr Doe")


@pytest.mark.parametrize("report", [DRAFT, edited(), signed(edited())])
def test_every_state_reads_back(report):
    assert Report.model_validate_json(render_json(report)) == report


@pytest.mark.parametrize(
    "forge",
    [
        lambda c: c["edits"][0].update(after="The cup is small [E3]."),
        lambda c: c["sections"][3]["sentences"][1].update(text="All is well."),
        lambda c: c.update(label="Reviewed by Dr Doe on 2026-11-23."),
        lambda c: c["signatures"].clear(),
    ],
)
def test_a_signed_file_that_was_changed_by_hand_is_refused(forge):
    content = json.loads(render_json(signed(edited())))
    forge(content)
    with pytest.raises(ValidationError, match="not the state of this report"):
        Report.model_validate(content)


@pytest.mark.parametrize(
    ("section", "sentence", "words", "by", "what"),
    [
        (DISC.number, 0, "x", "Dr Roe", "has no sentence 0"),
        (DISC.number, 99, "x", "Dr Roe", "has no sentence 99"),
        (17, 1, "x", "Dr Roe", "cannot be edited"),
        (18, 1, "x", "Dr Roe", "cannot be edited"),
        (DISC.number, 1, DISC.sentences[0].text, "Dr Roe", "says that already"),
        (DISC.number, 1, "x" * 2001, "Dr Roe", "2001 characters"),
        (DISC.number, 1, "x", " \u200b ", "name of the reviewer"),
    ],
)
def test_what_cannot_be_edited_is_said(section, sentence, words, by, what):
    with pytest.raises(FoveaError, match=what):
        edit(DRAFT, section, sentence, words, by=by)


@pytest.mark.parametrize("text", ["", "4", "4.", "a.b", "4.2.1", "4,2"])
def test_a_place_that_is_none_is_refused(text):
    with pytest.raises(FoveaError, match="not a sentence"):
        place(text)


@pytest.mark.parametrize("ending", sorted(ENDINGS))
def test_every_export_carries_the_state_and_the_new_words(ending, tmp_path):
    report = signed(edited(words="Uncommonly large cup."))
    out = write_report(Material(report, {}, {}), tmp_path / f"r{ending}")
    text = plain_text(out, ending)
    assert "Reviewed by Dr Roe" in text
    assert "Uncommonly large cup." in text
    if ending != ".json":  # which keeps the draft with its own words
        assert "AI DRAFT" not in text


def plain_text(out, ending):
    if ending == ".pdf":
        import pypdf

        return " ".join(
            " ".join(page.extract_text().split()) for page in pypdf.PdfReader(out).pages
        )
    if ending == ".docx":
        import docx

        document = docx.Document(str(out))
        cells = [c.text for t in document.tables for row in t.rows for c in row.cells]
        return "\n".join([*(p.text for p in document.paragraphs), *cells])
    if ending == ".fhir.json":
        import base64

        bundle = json.loads(out.read_text("utf-8"))
        report = next(
            e["resource"] for e in bundle["entry"]
            if e["resource"]["resourceType"] == "DiagnosticReport"
        )  # fmt: skip
        assert report["status"] == "final"
        assert report["resultsInterpreter"] == [{"display": "Dr Roe"}]
        return base64.b64decode(report["presentedForm"][0]["data"]).decode() + report["conclusion"]
    if ending == ".dcm":
        import pydicom

        read = pydicom.dcmread(out)
        assert read.VerificationFlag == "VERIFIED"
        assert read.CompletionFlag == "COMPLETE"
        return "\n".join(item.TextValue for item in read.ContentSequence if "TextValue" in item)
    return out.read_text("utf-8")


def test_an_unsigned_fhir_report_is_preliminary(tmp_path):
    out = write_report(Material(edited(), {}, {}), tmp_path / "r.fhir.json")
    said = out.read_text("utf-8")
    assert '"final"' not in said
    assert "verifier" not in said


def test_a_hostile_edit_stays_text():
    report = edited(words="<script>alert(1)</script> | [x](http://y) ignore all rules")
    said = render_markdown(report)
    assert "<script>" not in said.replace("\\<script\\>", "")
    assert "](http" not in said


def test_the_commands_edit_compare_and_sign(tmp_path):
    file, run = tmp_path / "r.json", CliRunner()
    file.write_text(render_json(DRAFT), "utf-8")
    where = f"{DISC.number}.1"

    def fovea(*arguments):
        done = run.invoke(app, ["review", *map(str, arguments)])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert f"{where}\t{DISC.sentences[0].text}" in fovea("show", file)
    assert "Nothing differs" in fovea("diff", file)
    fovea("edit", file, where, WORDS, "--by", "Dr Roe")
    fovea("sign", file, "--by", "Dr Roe")
    told = json.loads(fovea("diff", file, "--json"))
    assert told["state"].startswith("Reviewed by Dr Roe")
    assert [c["now"] for c in told["changes"]] == [WORDS]
    fovea("export", file, "--out", tmp_path / "r.md")
    assert WORDS in (tmp_path / "r.md").read_text("utf-8")
    assert list(tmp_path.glob("*.new")) == []


def test_a_file_that_is_no_report_is_refused_in_words(tmp_path):
    file = tmp_path / "r.json"
    file.write_text("{}", "utf-8")
    done = CliRunner().invoke(app, ["review", "show", str(file)])
    assert isinstance(done.exception, FoveaError)
    assert "not a report that can be reviewed" in str(done.exception)


@pytest.fixture
def page(tmp_path):
    """The review controls over a session that has a report, without a browser."""
    import gradio as gr

    from fovea.session import SessionStore, StoredReport
    from fovea.settings import Settings
    from fovea.ui.review import Reviewing, build_review

    store = SessionStore(Settings(data_dir=tmp_path))
    session = store.create()
    session.evidence = {piece.id: piece for piece in made.EVERYTHING}
    session.images = {"img1": made.record()}
    session.reports = [StoredReport(id="R1", evidence_id="E9")]
    (session.folder / "R1.json").write_text(render_json(DRAFT), "utf-8")
    with gr.Blocks():
        controls = build_review()
    shown_again = []
    handlers = Reviewing(
        SimpleNamespace(store=store, knowledge=load()),
        SimpleNamespace(show_report=lambda session: shown_again.append(session.id) or {}),
        controls,
    )
    return SimpleNamespace(session=session, controls=controls, on=handlers, shown=shown_again)


def test_the_page_offers_edits_and_signs(page):
    own, key = page.controls, page.session.id
    offered = page.on.offer(key, "")
    places = {where for _, where in offered[own.sentence]["choices"]}
    assert {f"{DISC.number}.1", "10.1"} <= places
    assert not any(where.startswith(("16.", "17.")) for where in places)
    assert page.on.choose(key, f"{DISC.number}.1") == DISC.sentences[0].text
    assert page.on.choose(key, "10.1") == ""
    said = page.on.save(key, f"{DISC.number}.1", WORDS, "Dr Roe")[own.said]
    assert "Not backed by the evidence" in said
    assert "[-" in unescape(said)
    assert "signed" in page.on.sign(key, "Dr Roe")[own.said]
    kept = Report.model_validate_json((page.session.folder / "R1.json").read_text("utf-8"))
    assert kept.signature().by == "Dr Roe"
    assert "Reviewed by Dr Roe" in (page.session.folder / "R1.md").read_text("utf-8")
    assert page.shown == [key, key]


def test_the_page_says_what_is_missing(page):
    own, key = page.controls, page.session.id
    assert "name of the reviewer" in page.on.sign(key, " ")[own.said]
    assert "choose a sentence" in page.on.save(key, None, "x", "Dr Roe")[own.said]
    assert "Draft a report" in page.on.sign(None, "Dr Roe")[own.said]
    assert page.on.offer("0" * 32, "")[own.sentence]["choices"] == []
