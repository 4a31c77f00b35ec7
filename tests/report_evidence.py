"""Hand-made evidence that the report tests share."""

from __future__ import annotations

from pathlib import Path

from fovea.contract import (
    Artifact,
    Caveat,
    Finding,
    Interval,
    Measurement,
    Neighbour,
    NotMeasured,
    Passage,
    Result,
    Source,
)
from fovea.evidence import Evidence, ImageRecord, Provenance

BMES = "stereoscopic disc photographs measured by graders, Blue Mountains Eye Study"


def provenance(tool: str) -> Provenance:
    return Provenance(
        plugin=tool, plugin_version="0.1.0", weights_sha256={"net.safetensors": "a" * 64},
        image_sha256=("b" * 64,), arguments={}, preprocessing=(), used=(), seed=0,
        started="2026-11-22T12:00:00+00:00", seconds=1.5, libraries={},
    )  # fmt: skip


def evidence(number: int, tool: str, *, image: str = "img1", **fields: object) -> Evidence:
    result = Result.model_validate({"summary": f"Result of {tool}.", **fields})
    images = () if tool == "lookup_knowledge" else (image,)
    return Evidence(
        id=f"E{number}", tool=tool, images=images, result=result, provenance=provenance(tool)
    )


def quality(number: int = 1, *, eye: str = "OD", image: str = "img1", **bad: str) -> Evidence:
    """Quality evidence; `disc="absent"` makes the disc not gradable."""
    value = bad.get("quality", "good")
    return evidence(
        number, "assess_quality", image=image,
        summary=f"Image quality {value}.",
        findings=(
            Finding(concept="fundus_photograph", state=bad.get("fundus", "present")),
            Finding(concept="quality", state="present", value=value),
            Finding(concept="gradable_disc", state=bad.get("disc", "present")),
            Finding(concept="gradable_macula", state=bad.get("macula", "present")),
            Finding(concept="gradable_vessels", state=bad.get("vessels", "present")),
            Finding(concept="eye", state="present", value=eye),
            Finding(concept="field", state="present", value="macula_centred"),
        ),
        measurements=(
            Measurement(name="quality_score", value=0.87, unit="1", method="mean of three cues"),
        ),
    )  # fmt: skip


def disc(number: int = 3, *, eye: str | None = "OD", vcdr: float = 0.4236, image: str = "img1",
         method: str = "disc and cup masks, vertical extent") -> Evidence:  # fmt: skip
    return evidence(
        number, "segment_optic_disc", image=image,
        measurements=(
            Measurement(
                name="vertical_cdr", value=vcdr, unit="1", method=method, eye=eye,
                interval=Interval(level=0.95, low=0.3591, high=0.4949, how="test-set error"),
            ),
            Measurement(name="horizontal_cdr", value=0.3141, unit="1", eye=eye,
                        method="disc and cup masks, horizontal extent"),
            Measurement(name="disc_diameter_vertical", value=182.4, unit="px", eye=eye,
                        method="vertical extent of the disc mask"),
            Measurement(name="disc_x", value=512.25, unit="px", eye=eye, method="mask centroid"),
        ),
        artifacts=(
            Artifact(name="optic_disc", kind="mask", path=Path("optic_disc.png")),
            Artifact(name="optic_cup", kind="mask", path=Path("optic_cup.png")),
        ),
        caveats=(Caveat(code="no_depth", text="The cup is inferred from colour, without depth."),),
    )  # fmt: skip


def vessels(number: int = 4, *, eye: str | None = "OD", image: str = "img1") -> Evidence:
    return evidence(
        number, "measure_biomarkers", image=image,
        measurements=(
            Measurement(name="vessel_density", value=0.1034, unit="1", eye=eye, method="share"),
            Measurement(name="fractal_dimension", value=1.4512, unit="1", eye=eye, method="boxes"),
            Measurement(name="fractal_dimension", value=1.31, unit="1", eye=eye, method="boxes",
                        zone="zone_b"),
            Measurement(name="tortuosity", value=1.0871, unit="1", eye=eye, method="arc to chord"),
            Measurement(name="crae", value=152.4, unit="um", eye=eye, method="Knudtson",
                        interval=Interval(level=0.95, low=140.2, high=164.6, how="scale")),
        ),
        not_measured=(
            NotMeasured(name="avr", reason="Arteries and veins were not told apart."),
        ),
    )  # fmt: skip


def lesions(number: int = 5, *, image: str = "img1") -> Evidence:
    return evidence(
        number, "segment_lesions", image=image,
        findings=(
            Finding(concept="ma", state="present", probability=0.83, calibrated=True),
            Finding(concept="haem_deep", state="absent"),
            Finding(concept="hard_exudate", state="indeterminate"),
            Finding(concept="cws", state="not_assessable", detail="blurred"),
            Finding(concept="dr_pdr", state="absent"),
        ),
    )  # fmt: skip


def similar(number: int = 6, *, image: str = "img1") -> Evidence:
    return evidence(
        number, "find_similar_cases", image=image,
        similar=(
            Neighbour(case_id="case-0012", rank=1, labels=("glaucoma",), eye="OD",
                      closeness_percentile=97.3, why="Both have a similar disc size."),
            Neighbour(case_id="case-0044", rank=2, labels=("drusen",),
                      closeness_percentile=91.0, why="Both have similar colour."),
        ),
    )  # fmt: skip


def lookup(number: int = 7) -> Evidence:
    return evidence(
        number, "lookup_knowledge",
        passages=(
            Passage(entry_id="ma", title="Microaneurysm: definition", review="draft",
                    text="A bulge of a retinal capillary, seen as a sharp red dot below 125 µm.",
                    sources=(Source(key="etdrs1991", citation="ETDRS report 10"),)),
        ),
    )  # fmt: skip


def record(handle: str = "img1", eye: str | None = None, source: str | None = None) -> ImageRecord:
    return ImageRecord(
        handle=handle, sha256="c" * 64, format="PNG", width=1024, height=768, eye=eye,
        eye_source=source,
    )  # fmt: skip


EVERYTHING = (quality(), disc(), vessels(), lesions(), similar(), lookup())
