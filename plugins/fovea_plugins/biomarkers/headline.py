"""The few vessel measures that the tool states one by one; all others are in its table."""

from __future__ import annotations

from collections.abc import Iterator

from fovea.contract import Interval, Measurement, NotMeasured
from fovea.image import Eye
from fovea_plugins.biomarkers import values
from fovea_plugins.biomarkers.definitions import ALL, DEFINITIONS, FIELD, ZONE_B, Key
from fovea_plugins.biomarkers.working import WORKING_FIELD_PX

HEADLINE: tuple[Key, ...] = (
    Key("crae", "artery", ZONE_B),
    Key("crve", "vein", ZONE_B),
    Key("avr", "all", ZONE_B),
    *(
        Key(name, vessels, FIELD)
        for name in ("vessel_density", "fractal_dimension", "tortuosity", "width_mean_um")
        for vessels in ALL
    ),
    *(
        Key(name, "all", FIELD)
        for name in (
            "vessel_length_density", "branching_angle", "junction_exponent", "bifurcations",
            "crossings", "lacunarity",
        )
    ),
)  # fmt: skip

_CALLED = {"all": "all vessels", "artery": "arteries", "vein": "veins"}
_COUNTED = {
    "crae": "vessels", "crve": "vessels", "tortuosity": "segments", "branching_angle": "forks",
    "junction_exponent": "forks", "fractal_dimension": "boxes of the largest size",
}  # fmt: skip


def meaning_of(key: Key) -> str:
    """What the manifest says of a headline measure."""
    meant = DEFINITIONS[key.name]
    ending = f", of the {_CALLED[key.vessels]}" if key.column != key.name else ""
    return f"{meant.meaning}{ending}."


def headline(
    measures: values.VesselMeasures, *, eye: Eye | None, where: str
) -> Iterator[Measurement | NotMeasured]:
    """Each headline measure, or why there is none.

    Args:
        measures: Everything that was measured.
        eye: Which eye it is.
        where: What the field is, for the method.
    """
    for key in HEADLINE:
        found, meant = measures.found[key], DEFINITIONS[key.name]
        if isinstance(found, values.NotMeasured):
            yield NotMeasured(name=key.column, reason=found.reason)
            continue
        if not meant.low <= found.value <= meant.high:
            # The host would refuse the whole result; one bad scale must not cost the rest.
            unit = "" if meant.unit == "1" else f" {meant.unit}"
            reason = (
                f"{found.value:.4g}{unit} is not plausible ({meant.low:g} to {meant.high:g}): "
                "the vessel outline, the optic disc or the pixel scale is wrong"
            )
            yield NotMeasured(name=key.column, reason=reason)
            continue
        rests = ""
        if found.count is not None and key.name in _COUNTED:
            rests = f"; {found.count} {_COUNTED[key.name]}"
        place = "zone B" if meant.where == ZONE_B else where
        yield Measurement(
            name=key.column,
            value=found.value,
            unit=meant.unit,
            eye=eye,
            zone=ZONE_B if meant.where == ZONE_B else None,
            method=f"{meant.meaning} ({meant.source}); {place}{rests}; at a field diameter of at "
            f"most {WORKING_FIELD_PX:.0f} pixels",
            interval=interval_of(found.interval),
        )


def interval_of(interval: values.Interval | None) -> Interval | None:
    """The interval as the contract has it; a range without coverage says so."""
    if interval is None:
        return None
    unknown = "; sensitivity to the outline, not a confidence interval"
    how = interval.how if interval.level is not None else interval.how + unknown
    return Interval(low=interval.low, high=interval.high, level=interval.level, how=how)
