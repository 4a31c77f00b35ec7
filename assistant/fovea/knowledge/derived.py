"""Facts that follow from others: presence from counts, distances, percentiles, asymmetry.

Nothing is rounded away: an uncertain measurement enters as bounds and leaves as
bounds, and what the source does not cover stays unknown, with the reason.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from fovea.knowledge.clauses import Bounds, Facts, Truth, Value, as_bounds
from fovea.knowledge.models import RangePoint

RATIO, FELLOW_RATIO = "b_vcdr.ratio", "b_vcdr.fellow_ratio"
OVER_LIMIT, ASYMMETRY = "b_vcdr.over_p975", "b_cdr_asym.difference"
DISC_HIDDEN = "optic_disc.not_seen"
DISC_DIAMETER_MM = "b_disc_size.vertical_mm"
GIVEN = frozenset({RATIO, FELLOW_RATIO, DISC_DIAMETER_MM})
"""Facts that no clause asks for, because others are derived from them."""

UM_PER_MM = 1000.0
Z_95 = 1.959964


def with_derived(facts: Facts, limits: Sequence[RangePoint]) -> Facts:
    """The facts, and those that follow from them and are not given.

    Args:
        facts: As measured or told.
        limits: Upper limits of the vertical cup-to-disc ratio by disc diameter.
    """
    made: dict[str, tuple[Value, str]] = {}
    sources: dict[str, tuple[str, ...]] = {}
    ratio, fellow = facts.value(RATIO), facts.value(FELLOW_RATIO)
    diameter = facts.value(DISC_DIAMETER_MM)
    made[OVER_LIMIT] = _over_limit(ratio, diameter, limits)
    sources[OVER_LIMIT] = (RATIO, DISC_DIAMETER_MM)
    both = None if ratio is None or fellow is None else difference(ratio, fellow)
    made[ASYMMETRY] = (both, "the ratio of both eyes is needed")
    sources[ASYMMETRY] = (RATIO, FELLOW_RATIO)
    if ratio is not None:
        made[DISC_HIDDEN], sources[DISC_HIDDEN] = (False, ""), (RATIO,)
    for fact in {*facts.whole, *facts.quadrants}:
        finding, _, about = fact.partition(".")
        if about in ("count", "largest_um"):
            made[finding] = (_present(facts.value(fact)), "there may be none or some")
            sources[finding] = (fact,)
        elif about == "fovea_distance_um":
            name = f"{finding}.fovea_distance_dd"
            made[name] = (
                in_disc_diameters(facts.value(fact), diameter),
                "the disc is not measured",
            )
            sources[name] = (fact, DISC_DIAMETER_MM)
    return _joined(facts, made, sources)


def upper_limit(points: Sequence[RangePoint], disc_diameter_mm: float) -> float | None:
    """The limit at a disc diameter, linear between the points; None outside them."""
    for left, right in itertools.pairwise(points):
        if left.disc_diameter_mm <= disc_diameter_mm <= right.disc_diameter_mm:
            width = right.disc_diameter_mm - left.disc_diameter_mm
            share = (disc_diameter_mm - left.disc_diameter_mm) / width
            return left.high + share * (right.high - left.high)
    return None


def limit_bounds(points: Sequence[RangePoint], diameter_mm: Bounds) -> Bounds | None:
    """The limits over all diameters between bounds; None when one lies outside the points."""
    inside = [p.disc_diameter_mm for p in points]
    corners = [d for d in inside if diameter_mm.low < d < diameter_mm.high]
    found = [upper_limit(points, d) for d in (diameter_mm.low, *corners, diameter_mm.high)]
    known = [limit for limit in found if limit is not None]
    return Bounds(min(known), max(known)) if len(known) == len(found) else None


def at_least(value: Bounds, limit: Bounds) -> Truth:
    """Whether a value reaches a limit, for all values of both or for none."""
    if value.low >= limit.high:
        return True
    return False if value.high < limit.low else None


def difference(one: Value, other: Value) -> Bounds | None:
    """The distance between two numbers, whichever is greater."""
    if one is None or other is None:
        return None
    left, right = as_bounds(one), as_bounds(other)
    least = max(0.0, left.low - right.high, right.low - left.high)
    return Bounds(least, max(left.high - right.low, right.high - left.low))


def in_disc_diameters(distance_um: Value, disc_diameter_mm: Value) -> Bounds | None:
    """A distance as a multiple of the disc's own diameter; None when one is unknown."""
    if distance_um is None or disc_diameter_mm is None:
        return None
    distance, disc = as_bounds(distance_um), as_bounds(disc_diameter_mm)
    if disc.low <= 0.0:
        return None
    return Bounds(distance.low / (disc.high * UM_PER_MM), distance.high / (disc.low * UM_PER_MM))


def with_scale_error(value: float, relative_sd: float) -> Bounds:
    """A length with the 95 % interval of the pixel scale that it was measured by.

    Args:
        value: In a physical unit, such as a distance from the fovea in µm.
        relative_sd: Standard error of the scale as a share of it (`Scale.relative_sd`).
    """
    half = Z_95 * relative_sd * abs(value)
    return Bounds(max(0.0, value - half), value + half)


def _over_limit(
    ratio: Value, diameter_mm: Value, points: Sequence[RangePoint]
) -> tuple[Truth, str]:
    if ratio is None:
        return None, "the cup-to-disc ratio is not measured"
    if diameter_mm is None:
        return None, "the limit depends on the disc diameter in millimetres, which is not known"
    limit = limit_bounds(points, as_bounds(diameter_mm))
    if limit is None:
        return None, "the disc diameter may lie outside the sizes that the source covers"
    reached = at_least(as_bounds(ratio), limit)
    return reached, "the ratio is too near to the limit to tell" if reached is None else ""


def _present(count: Value) -> Truth:
    bounds = None if count is None else as_bounds(count)
    if bounds is None or bounds.low <= 0.0 < bounds.high:
        return None
    return bounds.low > 0.0


def _joined(
    facts: Facts,
    made: Mapping[str, tuple[Value, str]],
    sources: Mapping[str, tuple[str, ...]],
) -> Facts:
    """What is given stands; what is derived fills the gaps, with its evidence or its reason."""
    whole, evidence, reasons = dict(facts.whole), dict(facts.evidence), dict(facts.reasons)
    for fact, (value, reason) in made.items():
        if facts.value(fact) is not None:
            continue
        if value is None:
            reasons.setdefault(fact, reason)
            continue
        whole[fact] = value
        cited = [key for name in sources[fact] for key in facts.evidence.get(name, ())]
        evidence[fact] = tuple(dict.fromkeys(cited))
    return Facts(whole, facts.quadrants, evidence, reasons)
