"""The report as DICOM: a structured report, the photographs, and their outlined masks.

The structured report follows TID 1500 (DICOM PS3.16); there is no template for fundus
photographs yet. Concepts without a free code use the private scheme `99FOVEA`, whose codes
are the names of the manifests and of the knowledge base. Beside it, where the pixels are at
hand, lie each photograph as Secondary Capture and its masks as Segmentation of that: a
Segmentation of a minimal Ophthalmic Photography image is refused by highdicom.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.sr import (
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    QualitativeEvaluation,
    RelationshipTypeValues,
    TextContentItem,
    TrackingIdentifier,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SecondaryCaptureImageStorage

import fovea
from fovea.errors import FoveaError
from fovea.evidence import ImageRecord
from fovea.image import Eye
from fovea.report.model import Fact, Report
from fovea.report.review import shown
from fovea.report.views.material import Material

SCHEME = "99FOVEA"
MAKER = "Fovea"
_LONGEST_MEANING = 64
_STATES = {
    "present": codes.SCT.Present,
    "absent": codes.SCT.Absent,
    "indeterminate": CodedConcept("indeterminate", SCHEME, "Indeterminate"),
    "not_assessable": CodedConcept("not_assessable", SCHEME, "Not assessable"),
}
_UNITS = {"px": "{pixel}", "px2": "{pixel2}", "[DD]": "{disc diameter}", "[DA]": "{disc area}"}
"""Units that UCUM does not know are annotations there."""
_SIDES: Mapping[Eye, Any] = {"OD": codes.SCT.Right, "OS": codes.SCT.Left}
_LATERALITY = {"OD": "R", "OS": "L"}
_EYE = CodedConcept("81745001", "SCT", "Eye")
_STATE_NAME = CodedConcept("121106", "DCM", "Comment")
_SAID = CodedConcept("121071", "DCM", "Finding")
_ANATOMY = frozenset({"vessels", "arteries", "veins", "optic_disc", "optic_cup"})


def dicom_files(material: Material) -> dict[str, bytes]:
    """The files by what is put before the ending: `` is the report, `.img1`, `.img1.masks`.

    Raises:
        FoveaError: the report is about no photograph.
    """
    if not material.report.images:
        raise FoveaError(
            "A DICOM report needs a photograph to refer to", fix="Choose another format"
        )
    study = _Study(material.report)
    headers = [study.header(record) for record in material.report.images]
    files = {"": _bytes(_structured_report(material, study, headers))}
    for record in material.report.images:
        if record.handle in material.photographs:
            image = study.picture(record, material.photographs[record.handle].pixels)
            files[f".{record.handle}"] = _bytes(image)
            masks = study.masks(record.handle, image, material)
            files |= {f".{record.handle}.masks": _bytes(masks)} if masks is not None else {}
    return files


class _Study:
    """The ids that the files of one report share; the same report gives the same ids."""

    def __init__(self, report: Report) -> None:
        self._report = report
        digests = "".join(record.sha256 for record in report.images)
        self._space = uuid.uuid5(uuid.NAMESPACE_URL, f"fovea:{digests}:{report.created}")
        day, _, clock = report.created.partition("T")
        self._date, self._time = day.replace("-", ""), clock[:8].replace(":", "")

    def uid(self, key: str) -> str:
        """A UID below 2.25, which needs no registration."""
        return f"2.25.{uuid.uuid5(self._space, key).int}"

    def header(self, record: ImageRecord) -> Dataset:
        """What a reference to a photograph needs; no name and no date of a person."""
        made = Dataset()
        made.SOPClassUID = SecondaryCaptureImageStorage
        made.SOPInstanceUID = self.uid(record.handle)
        made.SeriesInstanceUID = self.uid("photographs")
        made.StudyInstanceUID = self.uid("study")
        made.Modality = "OT"
        made.Rows, made.Columns = record.height, record.width
        made.SpecificCharacterSet = "ISO_IR 192"
        made.PatientID, made.PatientName = record.sha256[:12], ""
        made.PatientBirthDate = made.PatientSex = made.AccessionNumber = made.StudyID = ""
        made.StudyDate, made.StudyTime = self._date, self._time
        made.ReferringPhysicianName = None
        return made

    def picture(self, record: ImageRecord, pixels: np.ndarray[Any, Any]) -> Dataset:
        """A photograph (H, W, 3) as Secondary Capture, upright as Fovea opened it."""
        header = self.header(record)
        spacing = record.um_per_px / 1000.0 if record.um_per_px else None
        return hd.sc.SCImage(
            pixel_array=np.ascontiguousarray(pixels),
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            patient_orientation=("L", "F"),
            study_instance_uid=header.StudyInstanceUID,
            series_instance_uid=header.SeriesInstanceUID,
            series_number=1,
            sop_instance_uid=header.SOPInstanceUID,
            instance_number=int(record.handle.removeprefix("img")),
            manufacturer=MAKER,
            patient_id=header.PatientID,
            study_date=self._date,
            study_time=self._time,
            laterality=_LATERALITY[record.eye] if record.eye else None,
            pixel_spacing=(spacing, spacing) if spacing else None,
        )

    def masks(self, handle: str, image: Dataset, material: Material) -> Dataset | None:
        """The masks of a photograph as one binary Segmentation; None when there is none."""
        found = {name: pair for name, pair in material.masks(handle).items() if pair[1].any()}
        if not found:
            return None
        stack = np.stack([mask for _, mask in found.values()], axis=-1)[np.newaxis]
        segments = []
        for number, (name, (piece, _)) in enumerate(found.items(), start=1):
            category = (
                codes.SCT.AnatomicalStructure
                if name in _ANATOMY
                else codes.SCT.MorphologicallyAbnormalStructure
            )
            segments.append(
                hd.seg.SegmentDescription(
                    segment_number=number,
                    segment_label=name.replace("_", " "),
                    segmented_property_category=category,
                    segmented_property_type=_concept(name),
                    algorithm_type="AUTOMATIC",
                    algorithm_identification=hd.AlgorithmIdentificationSequence(
                        name=piece.tool,
                        family=codes.DCM.ArtificialIntelligence,
                        version=piece.provenance.plugin_version,
                    ),
                )
            )
        return hd.seg.Segmentation(
            source_images=[image],
            pixel_array=stack,
            segmentation_type="BINARY",
            segment_descriptions=segments,
            series_instance_uid=self.uid(f"masks of {handle}"),
            series_number=100 + int(handle.removeprefix("img")),
            sop_instance_uid=self.uid(f"segmentation of {handle}"),
            instance_number=1,
            manufacturer=MAKER,
            manufacturer_model_name="Fovea",
            software_versions=fovea.__version__,
            device_serial_number="0",
            content_description="Outlined by AI, not reviewed",
        )


def _structured_report(material: Material, study: _Study, headers: list[Dataset]) -> Dataset:
    report = material.report
    valid = report.signature()
    device = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=study.uid("device"), name="Fovea", manufacturer_name=MAKER,
            model_name=f"Fovea {fovea.__version__}",
        ),
    )  # fmt: skip
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=device),
        procedure_reported=CodedConcept("fundus_photography", SCHEME, "Fundus photography"),
        imaging_measurements=list(_groups(material, study)),
    )
    content[0].ContentSequence.extend(_prose(report))
    return Comprehensive3DSR(
        evidence=headers,
        content=content,
        series_instance_uid=study.uid("report"),
        series_number=1000,
        sop_instance_uid=study.uid(f"report {report.digest()} {report.label}"),
        instance_number=len(report.edits) + len(report.signatures) + 1,
        manufacturer=MAKER,
        is_complete=valid is not None,
        is_final=valid is not None,
        is_verified=valid is not None,
        verifying_observer_name=_person(valid.by) if valid else None,
        verifying_organization="not stated" if valid else None,
        series_description="Reviewed" if valid else "AI DRAFT, not reviewed",
    )


def _groups(material: Material, study: _Study) -> Iterator[MeasurementsAndQualitativeEvaluations]:
    """What each piece of evidence says of each eye, as far as the report still tells it."""
    told: dict[tuple[str, Eye | None], dict[str, Fact]] = {}
    for section in shown(material.report):
        for sentence in section.sentences:
            for fact in sentence.facts if sentence.evidence else ():
                if fact.kind in ("measurement", "finding", "grade"):
                    group = told.setdefault((sentence.evidence[0], fact.eye), {})
                    group[f"{fact.kind} {fact.name} {fact.zone} {fact.state}"] = fact
    for (identifier, eye), facts in told.items():
        values = [_measured(f) for f in facts.values() if f.kind == "measurement"]
        states = [_stated(f) for f in facts.values() if f.kind != "measurement"]
        key = f"{identifier} {eye or ''}".strip()
        yield MeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(uid=study.uid(key), identifier=key),
            finding_sites=[FindingSite(_EYE, laterality=_SIDES[eye])] if eye else None,
            measurements=[value for value in values if value is not None],
            qualitative_evaluations=[state for state in states if state is not None],
        )
    if not told:
        yield MeasurementsAndQualitativeEvaluations(
            tracking_identifier=TrackingIdentifier(
                uid=study.uid("nothing"), identifier="nothing measured"
            )
        )


def _measured(fact: Fact) -> Measurement | None:
    if fact.value is None:
        return None
    unit = _UNITS.get(fact.unit or "1", fact.unit or "1")
    name = f"{fact.name}_{fact.zone}" if fact.zone else fact.name
    return Measurement(name=_concept(name), value=fact.value, unit=CodedConcept(unit, "UCUM", unit))


def _stated(fact: Fact) -> QualitativeEvaluation | None:
    if fact.kind == "finding":
        if fact.state == "present" and fact.text:
            value = _concept(fact.text)
        else:
            value = _STATES[fact.state or "not_assessable"]
        return QualitativeEvaluation(name=_concept(fact.name), value=value)
    if fact.text is None:  # a disagreement is told in words
        return None
    bound = "" if fact.state == "exact" else "at_least_"
    return QualitativeEvaluation(name=_concept(fact.name), value=_concept(bound + fact.text))


def _prose(report: Report) -> Iterator[TextContentItem]:
    """The state, and every sentence as it is shown; TID 1500 may be extended."""
    yield _text(_STATE_NAME, report.label)
    for section in shown(report):
        for sentence in section.sentences:
            yield _text(_SAID, f"{section.number}. {section.title}: {sentence.text}")


def _text(name: CodedConcept, text: str) -> TextContentItem:
    return TextContentItem(name=name, value=text, relationship_type=RelationshipTypeValues.CONTAINS)


def _concept(name: str) -> CodedConcept:
    return CodedConcept(name, SCHEME, name.replace("_", " ")[:_LONGEST_MEANING])


def _person(name: str) -> str:
    """A name in one component as DICOM writes it; signs that separate parts are left out."""
    return "".join(" " if sign in "\\^=" else sign for sign in name)[:63] + "^"


def _bytes(dataset: Dataset) -> bytes:
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()
