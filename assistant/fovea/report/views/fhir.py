"""The report as a FHIR R4 bundle, labelled as asserted by artificial intelligence.

Codes: UCUM for units, LOINC for the grade of diabetic retinopathy where it is settled,
HL7 `AIAST` on every resource that a model made. Names without a free code are text.
"""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

from fovea.evidence import Evidence
from fovea.image import Eye
from fovea.report.model import Fact, Sentence
from fovea.report.render import render_markdown
from fovea.report.review import shown
from fovea.report.views.material import Material
from fovea.report.wording import EYE_NAMES

AI_LABEL = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "AIAST",
    "display": "Artificial Intelligence asserted",
}
_UCUM = "http://unitsofmeasure.org"
_ANNOTATED = {"px": "{pixel}", "px2": "{pixel2}", "[DD]": "{disc diameter}", "[DA]": "{disc area}"}
"""Units that UCUM does not know are annotations there."""
_DR_SEVERITY: dict[Eye, str] = {"OS": "71490-7", "OD": "71491-5"}
_DR_ANSWERS = {
    "0": ("LA18643-9", "No apparent retinopathy"),
    "1": ("LA18644-7", "Mild non-proliferative retinopathy"),
    "2": ("LA18645-4", "Moderate non-proliferative retinopathy"),
    "3": ("LA18646-2", "Severe non-proliferative retinopathy"),
    "4": ("LA18648-8", "Proliferative retinopathy"),
}
_DR_SCALE = "s_icdr"
_ABSENT_REASONS = "http://terminology.hl7.org/CodeSystem/data-absent-reason"


def fhir_bytes(material: Material) -> bytes:
    """The report as a FHIR R4 `Bundle` of type `collection`, in JSON."""
    return (json.dumps(_Bundle(material).content(), indent=2, ensure_ascii=False) + "\n").encode()


class _Bundle:
    def __init__(self, material: Material) -> None:
        self._material, self._report = material, material.report
        digests = "".join(record.sha256 for record in self._report.images)
        self._space = uuid.uuid5(uuid.NAMESPACE_URL, f"fovea:{digests}:{self._report.created}")
        self._resources: list[tuple[str, dict[str, Any]]] = []

    def content(self) -> dict[str, Any]:
        self._add("patient", {"resourceType": "Patient", "active": True})
        self._add("software", {"resourceType": "Device", "deviceName": [_device_name("Fovea")]})
        for piece in self._material.cited().values():
            self._add(f"device {piece.tool}", _device(piece))
        if self._report.images:
            self._add("study", self._study())
        observations = self._observations()
        report = self._diagnostic_report(observations)
        self._add("report", report)
        self._add("provenance", self._provenance([self._ref("report"), *observations]))
        return {
            "resourceType": "Bundle",
            "type": "collection",
            "timestamp": self._report.created,
            "meta": {"security": [AI_LABEL]},
            "entry": [
                {"fullUrl": f"urn:uuid:{self._id(key)}", "resource": resource}
                for key, resource in self._resources
            ],
        }

    def _id(self, key: str) -> str:
        return str(uuid.uuid5(self._space, key))

    def _ref(self, key: str) -> dict[str, str]:
        return {"reference": f"urn:uuid:{self._id(key)}"}

    def _add(self, key: str, resource: dict[str, Any]) -> dict[str, str]:
        if key not in {known for known, _ in self._resources}:
            self._resources.append((key, {**resource, "id": self._id(key)}))
        return self._ref(key)

    def _study(self) -> dict[str, Any]:
        return {
            "resourceType": "ImagingStudy",
            "status": "available",
            "subject": self._ref("patient"),
            "modality": [
                {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "OP",
                 "display": "Ophthalmic Photography"}
            ],
            "numberOfInstances": len(self._report.images),
            "note": [
                {"text": f"{record.handle}: {record.width} x {record.height} px, sha256 "
                         f"{record.sha256}"}
                for record in self._report.images
            ],
        }  # fmt: skip

    def _observations(self) -> list[dict[str, str]]:
        """One for each fact that the report tells; a fact told twice is one observation."""
        references = {}
        for section in shown(self._report):
            for sentence in section.sentences:
                for fact in sentence.facts:
                    if fact.kind not in ("measurement", "finding", "not_measured", "grade"):
                        continue
                    key = f"{fact.kind} {fact.name} {fact.image} {fact.eye} {fact.zone}"
                    key += f" {fact.state} {sentence.evidence[0]}"
                    if key not in references:
                        content = self._observation(fact, sentence)
                        references[key] = self._add(key, content)
        return list(references.values())

    def _observation(self, fact: Fact, sentence: Sentence) -> dict[str, Any]:
        piece = self._material.evidence.get(sentence.evidence[0])
        names = [fact.name.replace("_", " "), fact.zone and fact.zone.replace("_", " ")]
        made: dict[str, Any] = {
            "resourceType": "Observation",
            "meta": {"security": [AI_LABEL]},
            "status": "preliminary",
            "code": {"text": ", ".join(filter(None, names))},
            "subject": self._ref("patient"),
            "issued": self._report.created,
            "note": [{"text": sentence.text}],
        }
        if piece is not None:
            made["device"] = self._ref(f"device {piece.tool}")
        if fact.eye:
            made["bodySite"] = {"text": EYE_NAMES[fact.eye]}
        if fact.kind == "measurement" and fact.value is not None:
            made |= {"valueQuantity": _quantity(fact), "method": {"text": fact.text or fact.name}}
        elif fact.kind == "grade":
            made |= _grade(fact, sentence)
        elif fact.kind == "finding" and fact.state != "not_assessable":
            made["valueCodeableConcept"] = {"text": " ".join(filter(None, (fact.state, fact.text)))}
        else:
            why = {"coding": [{"system": _ABSENT_REASONS, "code": "unknown"}]}
            made["dataAbsentReason"] = {**why, "text": fact.text or fact.state or "not measured"}
        return made

    def _diagnostic_report(self, observations: list[dict[str, str]]) -> dict[str, Any]:
        impression = next(part for part in shown(self._report) if part.key == "impression")
        said = [sentence.text for sentence in impression.sentences]
        markdown = base64.b64encode(render_markdown(self._report).encode()).decode()
        content: dict[str, Any] = {
            "resourceType": "DiagnosticReport",
            "meta": {"security": [AI_LABEL]},
            "status": "final" if self._report.signature() else "preliminary",
            "category": [{"text": "Ophthalmology"}],
            "code": {"text": "Retinal photograph report"},
            "subject": self._ref("patient"),
            "issued": self._report.created,
            "conclusion": "\n".join([self._report.label, *said]),
            "presentedForm": [{"contentType": "text/markdown", "data": markdown}],
        }
        if observations:
            content["result"] = observations
        if self._report.images:
            content["imagingStudy"] = [self._ref("study")]
        valid = self._report.signature()
        if valid:
            content["resultsInterpreter"] = [{"display": valid.by}]
        return content

    def _provenance(self, targets: list[dict[str, str]]) -> dict[str, Any]:
        used = [
            {"role": "source", "what": {"display": f"photograph {record.handle}",
             "identifier": {"system": "urn:fovea:sha256", "value": record.sha256}}}
            for record in self._report.images
        ]  # fmt: skip
        content: dict[str, Any] = {
            "resourceType": "Provenance",
            "target": targets,
            "recorded": self._report.created,
            "activity": {"text": f"Drafted; knowledge base {self._report.knowledge_version}"},
            "agent": [{"type": {"text": "assembler"}, "who": self._ref("software")}],
        }
        valid = self._report.signature()
        if valid:
            reviewer = {"type": {"text": "verifier"}, "who": {"display": valid.by}}
            content["agent"].append(reviewer)
        return {**content, "entity": used} if used else content


def _device_name(name: str) -> dict[str, str]:
    return {"name": name, "type": "model-name"}


def _device(piece: Evidence) -> dict[str, Any]:
    source = piece.provenance
    weights = [
        {"system": "urn:fovea:weights-sha256", "value": digest}
        for _, digest in sorted(source.weights_sha256.items())
    ]
    content: dict[str, Any] = {
        "resourceType": "Device",
        "deviceName": [_device_name(f"Fovea {piece.tool}")],
        "version": [{"value": source.plugin_version}],
    }
    return {**content, "identifier": weights} if weights else content


def _quantity(fact: Fact) -> dict[str, Any]:
    unit = fact.unit or "1"
    code = _ANNOTATED.get(unit, unit)
    return {"value": fact.value, "unit": unit, "system": _UCUM, "code": code}


def _grade(fact: Fact, sentence: Sentence) -> dict[str, Any]:
    """A settled grade of diabetic retinopathy with its LOINC codes; every other one as text."""
    said = sentence.text.partition(" [")[0]
    value: dict[str, Any] = {"text": said}
    if fact.name != _DR_SCALE or fact.state != "exact" or fact.eye is None:
        return {"valueCodeableConcept": value}
    code, display = _DR_ANSWERS[fact.text or ""]
    loinc = "http://loinc.org"
    value["coding"] = [{"system": loinc, "code": code, "display": display}]
    return {
        "code": {"coding": [{"system": loinc, "code": _DR_SEVERITY[fact.eye]}],
                 "text": "Diabetic retinopathy severity"},
        "valueCodeableConcept": value,
    }  # fmt: skip
