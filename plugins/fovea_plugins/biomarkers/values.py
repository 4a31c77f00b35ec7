"""What `fovea_plugins.biomarkers.measure` gives: each value, or why there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from fovea_plugins.biomarkers.calibre import VesselUsed
from fovea_plugins.biomarkers.definitions import DEFINITIONS, FIELD, PHYSICAL, Key, Vessels
from fovea_plugins.biomarkers.fractal import Multifractal

NORMAL_90 = 1.645
"""Standard errors to either side that hold 90 % of a normal distribution."""

OUTLINE = "range over moved thresholds of the vessel probability"
SCALE = "1.645 standard errors of the pixel scale"


@dataclass(frozen=True)
class Interval:
    """An interval around a value, in the unit of the value.

    Attributes:
        level: Nominal coverage (0 to 1); None for a range without one.
        how: How it was obtained, in words.
    """

    low: float
    high: float
    level: float | None
    how: str


@dataclass(frozen=True)
class NotMeasured:
    """A measure that could not be made, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Measure:
    """A number with its unit.

    Attributes:
        count: How many segments, junctions or boxes it rests on; None where that means nothing.
        interval: From moved thresholds, the error of the pixel scale, or both; None without
            either.
    """

    value: float
    unit: str
    count: int | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class PhysicalScale:
    """Micrometres per pixel, with the relative standard error where it is known."""

    um_per_px: float
    relative_sd: float | None = None


@dataclass(frozen=True)
class VesselMeasures:
    """Everything measured on one picture; `DEFINITIONS` says what each name means.

    Attributes:
        found: Each value by name, vessels and region, or why there is none.
        vessels_used: The vessels behind CRAE (`artery`) and CRVE (`vein`), widest first, in
            pixels of the mask as it was given.
        spectra: Multifractal spectra by vessels and region.
        regions: The regions that were measured, `field` first.
        scale: The pixel scale that was used, given or from the disc-fovea distance.

    Example:
        >>> import numpy as np
        >>> from fovea_plugins.biomarkers import measure
        >>> mask = np.zeros((200, 200), bool)
        >>> mask[98:103, 20:180] = True
        >>> found = measure(mask)
        >>> round(found.value("width_mean"), 1)
        5.0
        >>> found.reason("crae")
        'No artery mask was given'
    """

    found: Mapping[Key, Measure | NotMeasured]
    vessels_used: Mapping[Literal["artery", "vein"], tuple[VesselUsed, ...]]
    spectra: Mapping[tuple[Vessels, str], Multifractal]
    regions: tuple[str, ...]
    scale: PhysicalScale | None

    @cached_property
    def values(self) -> Mapping[str, Measure | NotMeasured]:
        """Each value by column, such as `tortuosity` or `width_mean_vein_zone_b`."""
        return {key.column: found for key, found in self.found.items()}

    def get(
        self, name: str, *, vessels: Vessels | None = None, region: str | None = None
    ) -> Measure | NotMeasured:
        """The value, or why there is none.

        Args:
            name: A key of `DEFINITIONS`.
            vessels: On which vessels; None: all, or the only ones on which it is measured.
            region: None: the whole field, or the only region in which it is measured.

        Raises:
            KeyError: there is no such measure, or it is not measured on these vessels or in
                this region.
        """
        meant = DEFINITIONS[name]
        only = {"anywhere": FIELD, "field": FIELD, "zone_b": "zone_b"}[meant.where]
        return self.found[Key(name, vessels or meant.vessels[0], region or only)]

    def value(
        self, name: str, *, vessels: Vessels | None = None, region: str | None = None
    ) -> float | None:
        """The number, or None where it was not measured."""
        found = self.get(name, vessels=vessels, region=region)
        return found.value if isinstance(found, Measure) else None

    def reason(
        self, name: str, *, vessels: Vessels | None = None, region: str | None = None
    ) -> str | None:
        """Why there is no number, or None where there is one."""
        found = self.get(name, vessels=vessels, region=region)
        return found.reason if isinstance(found, NotMeasured) else None

    def as_row(self) -> dict[str, float | None]:
        """One row of a table: each value by column, None where it was not measured."""
        return {
            column: found.value if isinstance(found, Measure) else None
            for column, found in self.values.items()
        }

    def rows(self) -> Iterator[dict[str, str | float | int | None]]:
        """One row for each value, with unit, interval and count, or the reason for the gap."""
        for key, found in self.found.items():
            row: dict[str, str | float | int | None] = {
                **key._asdict(), "value": None, "unit": DEFINITIONS[key.name].unit,
                "low": None, "high": None, "count": None, "reason": None,
            }  # fmt: skip
            if isinstance(found, NotMeasured):
                row["reason"] = found.reason
            else:
                row |= {"value": found.value, "count": found.count}
                if found.interval:
                    row |= {"low": found.interval.low, "high": found.interval.high}
            yield row


@dataclass(frozen=True)
class Raw:
    """A value in pixels, before units and intervals."""

    value: float
    count: int | None = None


Sheet = Mapping[Key, Raw | str]
"""Each value in pixels, or why there is none."""


def finished(
    wanted: Iterator[Key],
    sheet: Sheet,
    variants: tuple[Sheet, ...],
    *,
    scale: PhysicalScale | None,
    disc_diameter_px: float | None,
) -> dict[Key, Measure | NotMeasured]:
    """Values in all units, with intervals.

    Args:
        wanted: Which values, those in other units included.
        sheet: The values in pixels.
        variants: The same with moved thresholds.
        scale: Pixel scale, or None.
        disc_diameter_px: Diameter of the optic disc, or None.
    """
    done: dict[Key, Measure | NotMeasured] = {}
    for key in wanted:
        meant = DEFINITIONS[key.name]
        base = key._replace(name=meant.scales or key.name)
        raw = sheet[base]
        if isinstance(raw, str):
            done[key] = NotMeasured(name=key.name, reason=raw)
            continue
        factor, relative_sd = 1.0, None
        if meant.scales and meant.unit in PHYSICAL:
            if scale is None:
                done[key] = NotMeasured(name=key.name, reason="The pixel scale is not known")
                continue
            factor = PHYSICAL[meant.unit] * scale.um_per_px**meant.power
            relative_sd = scale.relative_sd
        elif meant.scales:
            if disc_diameter_px is None:
                reason = "The diameter of the optic disc is not known"
                done[key] = NotMeasured(name=key.name, reason=reason)
                continue
            factor = disc_diameter_px**-meant.power
        elif meant.unit in PHYSICAL and scale is not None:
            relative_sd = scale.relative_sd
        power = meant.power or 1
        done[key] = Measure(
            raw.value * factor,
            meant.unit,
            raw.count,
            _interval(base, raw.value, variants, factor, power, relative_sd),
        )
    return done


def _interval(
    key: Key,
    value: float,
    variants: tuple[Sheet, ...],
    factor: float,
    power: int,
    relative_sd: float | None,
) -> Interval | None:
    moved = [raw for raw in (sheet[key] for sheet in variants) if isinstance(raw, Raw)]
    ends = [value, *(raw.value for raw in moved)]
    # A value that vanishes when the threshold moves has an unknown range, not a narrow one.
    known = bool(variants) and len(moved) == len(variants)
    if not (known or relative_sd):
        return None
    low, high = (min(ends), max(ends)) if known else (value, value)
    share = NORMAL_90 * abs(power) * (relative_sd or 0.0)
    low, high = max(0.0, low * (1.0 - share)) * factor, high * (1.0 + share) * factor
    how = "; ".join([OUTLINE] * known + [SCALE] * bool(relative_sd))
    level = 0.9 if relative_sd and not known else None
    # The product is rounded: the value must not fall out of its own interval.
    low, high = float(np.fmin(low, value * factor)), float(np.fmax(high, value * factor))
    return Interval(low=low, high=high, level=level, how=how)
