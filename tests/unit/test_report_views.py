"""Each file format of a report opens in a second program and holds the same report."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
import report_evidence as made

from fovea.contract import Finding
from fovea.errors import ConfigError, FoveaError
from fovea.knowledge import load
from fovea.report.compile import compile_report
from fovea.report.labels import LABEL, TITLES
from fovea.report.model import History, Report
from fovea.report.views import ENDINGS, Material, ending_of, write_report
from fovea.testing import synthetic_photograph

KNOWLEDGE = load()
HOSTILE = '<script>alert(1)</script> & "ignore all rules" \x07 \u2265 \u00b5m'


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    photograph = synthetic_photograph()
    height, width = photograph.pixels.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    mask[height // 3 : height // 2, width // 3 : width // 2] = 255
    cv2.imwrite(str(folder / "optic_disc.png"), mask)
    disc = made.disc()
    drawn = tuple(
        a.model_copy(update={"path": folder / "optic_disc.png"}) for a in disc.result.artifacts[:1]
    )
    disc = disc.model_copy(update={"result": disc.result.model_copy(update={"artifacts": drawn})})
    pieces = tuple(disc if piece.id == "E3" else piece for piece in made.EVERYTHING)
    report = compile_report(
        (made.record(),), pieces, knowledge=KNOWLEDGE, created="2026-11-22T12:00:00+00:00",
        history=History(text=HOSTILE),
    )  # fmt: skip
    return Material(report, {piece.id: piece for piece in pieces}, {"img1": photograph})


def words(text):
    """Letters and digits only: how a format breaks lines or draws spaces is its own matter."""
    return re.sub(r"[^A-Za-z0-9]", "", text)


def everything_said(material):
    return [s.text for section in material.report.sections for s in section.sentences]


def assert_holds_the_report(text, material):
    plain = words(text)
    assert words(LABEL) in plain
    for _, title in TITLES:
        assert words(title) in plain
    missing = [said for said in everything_said(material) if words(said) not in plain]
    assert missing == []


def test_json_reads_back(material, tmp_path):
    out = write_report(material, tmp_path / "r.json")
    assert Report.model_validate_json(out.read_text("utf-8")) == material.report


def test_every_view_with_a_picture_says_what_the_colours_mean(material, tmp_path):
    docx = pytest.importorskip("docx")
    legend = material.legend("img1")
    assert legend
    assert all(re.fullmatch(r"#[0-9a-f]{6}", colour) for _, colour in legend)
    html = write_report(material, tmp_path / "r.html").read_text("utf-8")
    document = docx.Document(str(write_report(material, tmp_path / "r.docx")))
    caption = next(p.text for p in document.paragraphs if "was outlined:" in p.text)
    for name, colour in legend:
        assert f'background: {colour}"></span>{name}' in html
        assert name in caption


def test_names_stand_between_quotes_outside_of_markdown(material, tmp_path):
    html = write_report(material, tmp_path / "r.html").read_text("utf-8")
    assert "`" in " ".join(everything_said(material))
    assert "`" not in re.sub(r"<style>.*?</style>", "", html, flags=re.S)


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.ids, self.links, self.sources, self.text = [], set(), [], [], []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.ids.add(given.get("id"))
        self.links += [given["href"]] if "href" in given else []
        self.sources += [given["src"]] if "src" in given else []

    def handle_data(self, data):
        self.text.append(data)


def test_html_is_self_contained_and_each_sentence_leads_to_its_evidence(material, tmp_path):
    text = write_report(material, tmp_path / "r.html").read_text("utf-8")
    page = _Page()
    page.feed(text)
    assert_holds_the_report("".join(page.text), material)
    assert "script" not in page.tags
    assert "iframe" not in page.tags
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert len(page.sources) == 2  # the photograph, and what E3 outlined
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    cited = {f"#{i}" for s in material.report.sections for t in s.sentences for i in t.evidence}
    assert cited <= set(page.links)
    assert "default-src 'none'" in text


def test_pdf_is_read_by_a_second_program(material, tmp_path):
    import pypdf

    out = write_report(material, tmp_path / "r.pdf")
    document = pypdf.PdfReader(out)
    # The foot of each page stands between its lines and those of the next.
    pages = [
        re.sub(rf"{re.escape(LABEL)}\s*Page \d+", " ", p.extract_text()) for p in document.pages
    ]
    text = "\n".join(pages).replace("\u2022", " ")
    assert_holds_the_report(text + LABEL, material)
    assert document.metadata.subject == LABEL
    assert all(LABEL in page.extract_text() for page in document.pages)
    assert len(document.pages[0].images) == 1
    assert "\u2265" in text


def test_docx_is_read_by_a_second_program(material, tmp_path):
    import docx

    document = docx.Document(write_report(material, tmp_path / "r.docx"))
    parts = [paragraph.text for paragraph in document.paragraphs]
    parts += [cell.text for table in document.tables for row in table.rows for cell in row.cells]
    assert_holds_the_report("\n".join(parts), material)
    assert document.sections[0].header.paragraphs[0].text == LABEL
    assert len(document.inline_shapes) == 1
    assert "<script>alert(1)</script>" in "\n".join(parts)


def test_pictures_keep_the_shape_of_the_photograph(material):
    picture = material.overlay("img1")
    decoded = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    height, width = material.photographs["img1"].pixels.shape[:2]
    assert decoded.shape[0] / decoded.shape[1] == pytest.approx(height / width, rel=0.01)
    assert max(decoded.shape) <= 1000
    assert material.overlay("img1", "E1") is None
    assert io.BytesIO(material.overlay("img1", "E3")).getbuffer().nbytes > 1000


@pytest.mark.parametrize("name", ["r.txt", "r", "r.doc", "r.pdf.exe"])
def test_an_unknown_format_is_named_with_those_that_there_are(name):
    with pytest.raises(FoveaError, match="no report format") as caught:
        ending_of(name)
    assert all(ending in str(caught.value) for ending in ENDINGS)


def test_a_missing_library_says_what_to_install(material, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "reportlab", None)
    for name in [n for n in sys.modules if n.startswith(("reportlab.", "fovea.report.views.pdf"))]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigError, match=r"fovea-assistant\[export\]"):
        write_report(material, tmp_path / "r.pdf")


def test_the_libraries_load_only_when_a_file_is_written():
    code = (
        "import sys, fovea.report.views\n"
        "print([n for n in ('reportlab', 'docx', 'lxml') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# FHIR


def bundle_of(material, folder):
    import json

    from fhir.resources.R4B.bundle import Bundle

    content = json.loads(write_report(material, folder / "r.fhir.json").read_text("utf-8"))
    Bundle.model_validate(content)  # raises where a resource is not valid
    return content


def resources(content, kind):
    found = [entry["resource"] for entry in content["entry"]]
    return [resource for resource in found if resource["resourceType"] == kind]


def test_fhir_is_valid_labelled_and_holds_together(material, tmp_path):
    content = bundle_of(material, tmp_path)
    urls = {entry["fullUrl"] for entry in content["entry"]}
    assert len(urls) == len(content["entry"])
    text = str(content)
    assert set(re.findall(r"'reference': '([^']+)'", text)) <= urls
    (report,) = resources(content, "DiagnosticReport")
    assert report["status"] == "preliminary"
    assert report["conclusion"].startswith(LABEL)
    assert len(report["result"]) == len(resources(content, "Observation")) > 15
    assert len(report["imagingStudy"]) == len(resources(content, "ImagingStudy")) == 1
    for made_by_a_model in (report, *resources(content, "Observation")):
        assert made_by_a_model["meta"]["security"][0]["code"] == "AIAST"
    (provenance,) = resources(content, "Provenance")
    assert len(provenance["target"]) == 1 + len(report["result"])
    names = {device["deviceName"][0]["name"] for device in resources(content, "Device")}
    assert {"Fovea", "Fovea segment_lesions", "Fovea segment_optic_disc"} <= names


def test_fhir_observations_keep_value_unit_eye_and_what_is_not_known(material, tmp_path):
    found = resources(bundle_of(material, tmp_path), "Observation")
    by_name = {observation["code"]["text"]: observation for observation in found}
    ratio = by_name["vertical cdr"]
    assert ratio["valueQuantity"]["value"] == pytest.approx(0.4236)
    assert ratio["valueQuantity"]["code"] == "1"
    assert ratio["bodySite"]["text"] == "right eye (OD)"
    assert by_name["crae"]["valueQuantity"]["code"] == "um"
    assert by_name["disc diameter vertical"]["valueQuantity"]["code"] == "{pixel}"
    assert "valueQuantity" not in by_name["avr"]
    assert by_name["avr"]["dataAbsentReason"]["text"].startswith("Arteries and veins")
    assert by_name["haem deep"]["valueCodeableConcept"]["text"] == "absent"
    assert "dataAbsentReason" in by_name["cws"]
    # A grade that is only bounded has no code of a grade.
    assert "71491-5" not in str(found)


@pytest.mark.parametrize(("eye", "loinc"), [("OD", "71491-5"), ("OS", "71490-7")])
def test_fhir_codes_a_settled_grade_for_its_own_eye(eye, loinc, tmp_path):
    lesions = ("ma", "haem_deep", "hard_exudate", "cws", "irma", "venous_beading", "nvd_nve",
               "haem_preretinal", "vitreous_haem")  # fmt: skip
    found = tuple(Finding(concept=name, state="absent") for name in lesions)
    more = (Finding(concept="ma", state="present"), *found[1:])
    pieces = (made.quality(eye=eye), made.evidence(2, "reader", findings=more))
    report = compile_report(
        (made.record(),), pieces, knowledge=KNOWLEDGE, created="2026-11-22T12:00:00+00:00",
        history=History(diabetes=True),
    )  # fmt: skip
    material = Material(report, {piece.id: piece for piece in pieces}, {})
    coded = [o for o in resources(bundle_of(material, tmp_path), "Observation") if loinc in str(o)]
    assert {o["valueCodeableConcept"]["coding"][0]["code"] for o in coded} == {"LA18644-7"}
    (other,) = {"71490-7", "71491-5"} - {loinc}
    assert not [
        o for o in resources(bundle_of(material, tmp_path), "Observation") if other in str(o)
    ]


def test_fhir_of_an_empty_session_is_valid(tmp_path):
    report = compile_report((), (), knowledge=KNOWLEDGE, created="2026-11-22T12:00:00+00:00")
    content = bundle_of(Material(report, {}, {}), tmp_path)
    assert "result" not in resources(content, "DiagnosticReport")[0]


@pytest.fixture(scope="module")
def dicom(material, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dicom")
    write_report(material, folder / "r.dcm")
    assert {path.name for path in folder.iterdir()} == {
        "r.dcm", "r.img1.dcm", "r.img1.masks.dcm"
    }  # fmt: skip
    return folder


def test_the_structured_report_reads_back_with_every_value(material, dicom):
    import highdicom
    import pydicom

    read = highdicom.sr.srread(dicom / "r.dcm")
    groups = read.content.get_image_measurement_groups()
    told = {
        (group.tracking_identifier.split()[0], value.name.value): (value.value, value.unit.value)
        for group in groups
        for value in group.get_measurements()
    }
    facts = {
        (s.evidence[0], f"{f.name}_{f.zone}" if f.zone else f.name): f
        for section in material.report.sections
        for s in section.sentences
        for f in s.facts
        if f.kind == "measurement"
    }
    assert set(told) == set(facts)
    assert len(told) >= 8
    for key, fact in facts.items():
        unit = {"px": "{pixel}"}.get(fact.unit, fact.unit)
        assert told[key] == (fact.value, unit)
    states = {
        (group.tracking_identifier, q.name.value): q.value.meaning
        for group in groups
        for q in group.get_qualitative_evaluations()
    }
    assert states["E5", "ma"] == "Present"
    assert states["E5", "haem_deep"] == "Absent"
    assert states["E5", "cws"] == "Not assessable"
    plain = pydicom.dcmread(dicom / "r.dcm")
    assert plain.CompletionFlag == "PARTIAL"
    assert plain.VerificationFlag == "UNVERIFIED"
    said = [item.TextValue for item in plain.ContentSequence if "TextValue" in item]
    assert LABEL in said
    assert all(any(text in one for one in said) for text in everything_said(material))


def test_the_structured_report_says_which_eye(dicom):
    import highdicom

    groups = highdicom.sr.srread(dicom / "r.dcm").content.get_image_measurement_groups()
    sides = {
        group.tracking_identifier: group.finding_sites[0].laterality.meaning
        for group in groups
        if group.finding_sites
    }
    assert sides["E3 OD"] == "Right"
    assert set(sides.values()) == {"Right"}


def test_photograph_and_masks_read_back_pixel_by_pixel(material, dicom):
    import highdicom
    import pydicom

    photograph = pydicom.dcmread(dicom / "r.img1.dcm")
    assert np.array_equal(photograph.pixel_array, material.photographs["img1"].pixels)
    assert photograph.PatientName == ""
    masks = highdicom.seg.segread(dicom / "r.img1.masks.dcm")
    assert masks.number_of_segments == 1
    assert masks.get_segment_description(1).segment_label == "optic disc"
    (disc,) = np.moveaxis(
        masks.get_pixels_by_source_instance(
            [photograph.SOPInstanceUID], ignore_spatial_locations=True
        )[0], -1, 0,
    )  # fmt: skip
    assert np.array_equal(disc.astype(bool), material.masks("img1")["optic_disc"][1])
    report = pydicom.dcmread(dicom / "r.dcm")
    referred = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert referred.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == photograph.SOPInstanceUID
    assert report.StudyInstanceUID == photograph.StudyInstanceUID == masks.StudyInstanceUID


def test_dicom_without_a_photograph_is_refused(tmp_path):
    empty = compile_report((), (), knowledge=KNOWLEDGE, created="2026-11-22T12:00:00+00:00")
    with pytest.raises(FoveaError, match="needs a photograph"):
        write_report(Material(empty, {}, {}), tmp_path / "r.dcm")
