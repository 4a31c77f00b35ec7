"""Facts that follow from others: exact where they can be, bounds or unknown where not."""

from __future__ import annotations

import pytest
from graded_eyes import KNOWLEDGE
from hypothesis import given
from hypothesis import strategies as st

from fovea.knowledge.clauses import QUADRANTS, Bounds, Facts
from fovea.knowledge.derived import (
    at_least,
    difference,
    in_disc_diameters,
    limit_bounds,
    upper_limit,
    with_derived,
    with_scale_error,
)
from fovea.knowledge.models import RangePoint

INF = float("inf")
LIMITS = KNOWLEDGE.get("b_vcdr").ranges[0].by_disc_diameter
HILL = tuple(
    RangePoint(disc_diameter_mm=mm, median=0.3, high=high)
    for mm, high in ((1.0, 0.5), (1.5, 0.9), (2.0, 0.6))
)


def ends(value):
    """Both ends of bounds, without the noise of the last digit."""
    return None if value is None else (round(value.low, 9), round(value.high, 9))


def derived(whole=None, quadrants=None, **more):
    return with_derived(Facts.of(whole, quadrants, **more), LIMITS)


# Percentile limits of the vertical cup-to-disc ratio (Blue Mountains Eye Study)


@pytest.mark.parametrize(
    ("diameter", "limit"),
    [(1.2, 0.59), (1.9, 0.74), (1.55, 0.665), (1.199, None), (1.901, None), (1.27, 0.605)],
)
def test_the_limit_is_linear_between_the_published_sizes_and_unknown_outside(diameter, limit):
    found = upper_limit(LIMITS, diameter)
    assert found == (None if limit is None else pytest.approx(limit))


@pytest.mark.parametrize(
    ("ratio", "diameter", "over"),
    [
        (0.589, 1.2, False), (0.59, 1.2, True), (0.591, 1.2, True),
        (0.739, 1.9, False), (0.741, 1.9, True),
        (0.60, 1.2, True), (0.70, 1.9, False),  # small disc abnormal, large disc not
        (Bounds(0.62, 0.80), Bounds(1.3, 1.6), None),
        (Bounds(0.69, 0.80), Bounds(1.3, 1.6), True),
        (Bounds(0.50, 0.60), Bounds(1.3, 1.6), False),
        (0.9, 1.19, None), (0.9, 1.91, None), (0.9, Bounds(1.8, 2.0), None),
        (0.9, None, None), (None, 1.5, None),
    ],
)  # fmt: skip
def test_a_ratio_is_judged_by_the_size_of_its_disc(ratio, diameter, over):
    facts = derived({"b_vcdr.ratio": ratio, "b_disc_size.vertical_mm": diameter})
    assert facts.value("b_vcdr.over_p975") is over
    if over is None:
        assert len(facts.reasons["b_vcdr.over_p975"]) > 20


def test_evidence_of_what_is_derived_is_that_of_its_sources():
    facts = derived(
        {"b_vcdr.ratio": 0.7, "b_disc_size.vertical_mm": 1.3},
        evidence={"b_vcdr.ratio": ("E2",), "b_disc_size.vertical_mm": ("E2", "E3")},
    )
    assert facts.evidence["b_vcdr.over_p975"] == ("E2", "E3")


def test_what_is_given_stands():
    facts = derived(
        {"b_vcdr.ratio": 0.9, "b_disc_size.vertical_mm": 1.5, "b_vcdr.over_p975": False}
    )
    assert facts.value("b_vcdr.over_p975") is False
    told = derived({"b_vcdr.ratio": 0.9}, reasons={"b_vcdr.over_p975": "the disc is cut off"})
    assert told.reasons["b_vcdr.over_p975"] == "the disc is cut off"


def test_limits_over_a_span_of_sizes_include_a_peak_within_it():
    assert ends(limit_bounds(HILL, Bounds(1.1, 1.9))) == (0.58, 0.9)
    assert ends(limit_bounds(HILL, Bounds(1.2, 1.2))) == (0.66, 0.66)
    assert limit_bounds(HILL, Bounds(0.9, 1.5)) is None
    assert limit_bounds((), Bounds(1.0, 1.5)) is None


@given(st.floats(1.2, 1.9), st.floats(0, 0.3), st.floats(0, 1), st.floats(0, 0.5))
def test_uncertainty_never_turns_a_judgement_round(diameter, wide, ratio, spread):
    exact = at_least(Bounds(ratio, ratio), limit_bounds(LIMITS, Bounds(diameter, diameter)))
    around = limit_bounds(LIMITS, Bounds(max(1.2, diameter - wide), min(1.9, diameter + wide)))
    assert at_least(Bounds(ratio - spread, ratio + spread), around) in (exact, None)


# Asymmetry


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (0.7, 0.4, (0.3, 0.3)), (0.4, 0.7, (0.3, 0.3)),
        (Bounds(0.4, 0.6), Bounds(0.5, 0.9), (0.0, 0.5)),
        (Bounds(0.4, 0.5), Bounds(0.7, 0.9), (0.2, 0.5)),
        (None, 0.5, None), (0.5, None, None),
    ],
)  # fmt: skip
def test_asymmetry_is_the_distance_between_the_ratios(one, other, expected):
    assert ends(difference(one, other)) == expected
    facts = derived({"b_vcdr.ratio": one, "b_vcdr.fellow_ratio": other})
    assert ends(facts.value("b_cdr_asym.difference")) == expected
    if expected is None:
        assert facts.reasons["b_cdr_asym.difference"] == "the ratio of both eyes is needed"


# Distances and sizes


@pytest.mark.parametrize(
    ("distance", "diameter", "expected"),
    [
        (1500, 1.5, Bounds(1, 1)), (750, 1.5, Bounds(0.5, 0.5)), (3000, 1.5, Bounds(2, 2)),
        (Bounds(1400, 1600), Bounds(1.6, 2.0), Bounds(0.7, 1.0)),
        (500, None, None), (None, 1.5, None), (500, 0.0, None),
    ],
)  # fmt: skip
def test_a_distance_in_disc_diameters(distance, diameter, expected):
    assert in_disc_diameters(distance, diameter) == expected
    whole = {"hard_exudate.fovea_distance_um": distance, "b_disc_size.vertical_mm": diameter}
    assert derived(whole).value("hard_exudate.fovea_distance_dd") == expected


def test_the_error_of_the_scale_goes_into_the_bounds():
    assert with_scale_error(500, relative_sd=0.0) == Bounds(500, 500)
    wide = with_scale_error(500, relative_sd=0.0714)  # of the disc-fovea distance
    assert (wide.low, wide.high) == (pytest.approx(430.0, abs=0.1), pytest.approx(570.0, abs=0.1))
    assert with_scale_error(500, relative_sd=0.9).low == 0.0


# Presence


@pytest.mark.parametrize(
    ("count", "present"),
    [(0, False), (1, True), (Bounds(0, 3), None), (Bounds(1, INF), True), (True, True),
     (False, False), (None, None)],
)  # fmt: skip
def test_a_count_tells_presence(count, present):
    assert derived({"haem_deep.count": count}).value("haem_deep") is present
    assert derived({"drusen.largest_um": count}).value("drusen") is present


def test_counts_by_quadrant_tell_presence():
    assert derived(None, {"haem_deep.count": {"superonasal": 2}}).value("haem_deep") is True
    none = derived(None, {"haem_deep.count": dict.fromkeys(QUADRANTS, 0)})
    assert none.value("haem_deep") is False
    seen = derived(None, {"haem_deep.count": dict.fromkeys(QUADRANTS, Bounds(0, INF))})
    assert seen.value("haem_deep") is None
    assert derived({"haem_deep": False, "haem_deep.count": 3}).value("haem_deep") is False


def test_nothing_follows_from_nothing():
    assert dict(derived().whole) == {}
