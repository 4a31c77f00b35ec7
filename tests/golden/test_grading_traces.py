"""What the trace of a grading says, word for word, for two eyes on each main scale."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from graded_eyes import KNOWLEDGE, eye, quadrants

from fovea.knowledge.clauses import Bounds, Facts

GOLDEN = yaml.safe_load(Path(__file__).with_name("grading_traces.yaml").read_text("utf-8"))
SEEN = quadrants(*[Bounds(count, float("inf")) for count in (25, 30, 2, 0)])
UNSEEN = {"naevus__enlargement_score": None, "naevus__fluid_score": None}
NO_DIABETES = {"person__diabetes": False}

CASES = {
    "icdr: red lesions, quadrants beyond the field": eye(
        "s_icdr", ma=True, haem_deep=True, haem_deep__count=SEEN, irma=None, venous_beading=None
    ),
    "icdr: severe": eye(
        "s_icdr", ma=True, haem_deep=True, haem_deep__count=quadrants(21, 25, 30, 40)
    ),
    "icdr_dme: exudates at 400 to 600 µm": eye(
        "s_icdr_dme", hard_exudate=True, hard_exudate__fovea_distance_um=Bounds(400, 600),
        hard_exudate__at_centre=None, hard_exudate__approaching=None, dme__thickening=None,
        dme__thickening_approaching=None, dme__thickening_at_centre=None, person__diabetes=None,
    ),
    "icdr_dme: exudates far away": eye(
        "s_icdr_dme", hard_exudate=True, hard_exudate__fovea_distance_um=2600
    ),
    "etdrs: new vessels on the disc": eye(
        "s_etdrs", nvd_nve=True, nvd_nve__at_disc=True, nvd_nve__disc_area_da=Bounds(0.2, 0.3),
        nvd_nve__over_standard_10a=None,
    ),
    "etdrs: microaneurysms only": eye("s_etdrs", ma=True),
    "desp.r: blot haemorrhages": eye(
        "s_desp.r", haem_deep=True, haem_deep__count=7, haem_deep__multiple_blot=None
    ),
    "desp.r: blurred": eye("s_desp.r", quality__small_vessels=False, ma=None, haem_deep=None),
    "desp.m: microaneurysm near the fovea, acuity unknown": eye(
        "s_desp.m", ma=True, ma__fovea_distance_dd=0.6, person__acuity_six_over=None
    ),
    "desp.m: exudate near the fovea": eye(
        "s_desp.m", hard_exudate=True, hard_exudate__fovea_distance_dd=0.8
    ),
    "areds: one large druse": eye("s_areds", drusen=True, drusen__largest_um=130),
    "areds: drusen not sized": eye(
        "s_areds", drusen=True, drusen__largest_um=None, drusen__many_small=None,
        drusen__extensive_medium=None,
    ),
    "beckman: drusen of 110 to 140 µm, age unknown": eye(
        "s_beckman", drusen=True, drusen__largest_um=Bounds(110, 140), person__age_years=None
    ),
    "beckman: atrophy": eye("s_beckman", amd_late_ga=True),
    "ng82: blood, activity unknown": eye("s_ng82", amd_late_nv=True, amd_late_nv__active=None),
    "ng82: small drusen only": eye("s_ng82", drusen=True, drusen__largest_um=50),
    "kwb: nicking and haemorrhage, diabetes unknown": eye(
        "s_kwb", av_nicking=True, haem_deep=True, person__diabetes=None,
        htn_moderate__attributed=None,
    ),
    "kwb: narrowing": eye("s_kwb", art_narrowing=True, **NO_DIABETES),
    "mw: cotton-wool spots, other eye unknown": eye(
        "s_mw", cws=True, papilloedema=None, **NO_DIABETES
    ),
    "mw: healthy": eye("s_mw", **NO_DIABETES),
    "metapm: atrophy of a kind that is not told": eye(
        "s_metapm", choroid_atrophy=True, choroid_atrophy__patchy=None,
        choroid_atrophy__macular=None,
    ),
    "metapm: tessellation, refraction unknown": eye(
        "s_metapm", tessellation=True, person__myopia=None
    ),
    "isgeo: large cup in a small disc": Facts.of(
        {"b_vcdr.ratio": 0.62, "b_disc_size.vertical_mm": 1.25, "disc_haem": False},
        evidence={"b_vcdr.ratio": ("E2",), "b_disc_size.vertical_mm": ("E3",)},
    ),
    "isgeo: without scale": Facts.of({"b_vcdr.ratio": 0.62, "disc_haem": False}),
    "moles: orange pigment in one photograph": eye("s_moles", naevus__orange_score=1, **UNSEEN),
    "moles: three signs": eye(
        "s_moles", naevus__orange_score=2, naevus__fluid_score=2, naevus__size_score=1
    ),
}  # fmt: skip


def lines(steps):
    """Each step as one line: its text, what it rests on, and why it is not known."""
    told = []
    for step in map(KNOWLEDGE.told, steps):
        evidence = f" [{', '.join(step.evidence)}]" if step.evidence else ""
        told.append(f"{step.text}{evidence}{f' ({step.reason})' if step.reason else ''}")
    return told


def trace(name):
    found = KNOWLEDGE.grade(f"s_{name.partition(':')[0]}", CASES[name])
    parts = ("because", "missing_up", "missing_down", "unsettled", "provided")
    steps = {part: lines(getattr(found, part, ())) for part in parts}
    return {"words": found.words(), **{part: told for part, told in steps.items() if told}}


@pytest.mark.parametrize("name", CASES)
def test_the_trace_reads_as_agreed(name):
    assert trace(name) == GOLDEN[name]


def test_each_main_scale_has_two_cases():
    parts = {"s_etdrs.csme", "s_desp.p", "s_metapm.plus", "s_metapm.pathologic"}
    told = [f"s_{name.partition(':')[0]}" for name in CASES]
    assert {scale: told.count(scale) for scale in KNOWLEDGE.rules if scale not in parts} == (
        dict.fromkeys(sorted(set(KNOWLEDGE.rules) - parts), 2)
    )
    assert set(CASES) == set(GOLDEN)
