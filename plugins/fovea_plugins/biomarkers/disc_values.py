"""The measures of the optic disc as values: what each is, its unit, or why there is none.

They are made by `fovea_plugins.biomarkers.disc`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, SupportsFloat

from fovea.scale import Eye
from fovea_plugins.biomarkers.values import NORMAL_90, Interval, NotMeasured

Need = Literal["cup", "eye", "fovea", "scale", "atrophy"]
"""What a measure needs beside the disc mask."""

CLOCK_HOURS = tuple(range(1, 13))
SECTORS = ("inferior", "superior", "nasal", "temporal")


@dataclass(frozen=True)
class Definition:
    """One measure.

    Attributes:
        unit: UCUM unit; `px` and `px2` for pixels of the masks.
        low, high: Plausible range in an eye, wide enough for disease.
        meaning: What it is, in one sentence, with its formula.
        needs: What must be known beside the disc.
        scales: The measure in pixels of which this is the physical size.
        oriented: Whether it depends on what counts as vertical.
    """

    unit: str
    low: float
    high: float
    meaning: str
    needs: tuple[Need, ...] = ()
    scales: str | None = None
    oriented: bool = False


def _in_um(name: str, of: Definition, low: float, high: float) -> tuple[str, Definition]:
    meaning = f"{of.meaning.removesuffix('.')}, in micrometres."
    needs: tuple[Need, ...] = (*of.needs, "scale")
    return f"{name}_um", Definition("um", low, high, meaning, needs, name, of.oriented)


def _sizes() -> Iterator[tuple[str, Definition]]:
    diameter = Definition("px", 5, 10000, "Diameter of the circle of the area of the disc.")
    yield "disc_diameter", diameter
    yield _in_um("disc_diameter", diameter, 500, 4000)
    for way in ("vertical", "horizontal"):
        name = f"disc_diameter_{way}"
        meaning = f"{way.capitalize()} extent of the disc"
        yield name, Definition("px", 5, 10000, f"{meaning}.", oriented=True)
        yield (
            f"{name}_mm",
            Definition("mm", 0.5, 4.0, f"{meaning}, in millimetres.", ("scale",), name, True),
        )
    parts: tuple[tuple[str, tuple[Need, ...]], ...] = (
        ("disc", ()), ("cup", ("cup",)), ("rim", ("cup",)),
    )  # fmt: skip
    for part, needs in parts:
        less = " less that of the cup" if part == "rim" else ""
        meaning = f"Area of the {'disc' if part == 'rim' else part}{less}"
        name = f"{part}_area_px2"
        yield name, Definition("px2", 0, 1e8, f"{meaning}, in square pixels.", needs)
        low = 0.2 if part == "disc" else 0.0
        yield (
            f"{part}_area",
            Definition("mm2", low, 12.0, f"{meaning}.", (*needs, "scale"), name),
        )


def _ratios() -> Iterator[tuple[str, Definition]]:
    for way in ("vertical", "horizontal"):
        meaning = f"{way.capitalize()} extent of the cup over that of the disc."
        yield f"{way}_cdr", Definition("1", 0, 1, meaning, ("cup",), oriented=True)
    yield "area_cdr", Definition("1", 0, 1, "Area of the cup over that of the disc.", ("cup",))


def _rim() -> Iterator[tuple[str, Definition]]:
    meaning = "Mean distance from cup edge to disc edge along the rays of one clock hour."
    by_hour = Definition("px", 0, 5000, meaning, ("cup",), oriented=True)
    yield "rim_width", by_hour
    yield _in_um("rim_width", by_hour, 0, 2500)
    for sector in SECTORS:
        needs: tuple[Need, ...] = ("cup", "eye") if sector in ("nasal", "temporal") else ("cup",)
        meaning = f"Mean distance from cup edge to disc edge in the {sector} quarter of the disc."
        width = Definition("px", 0, 5000, meaning, needs, oriented=True)
        yield f"rim_width_{sector}", width
        yield _in_um(f"rim_width_{sector}", width, 0, 2500)
    meaning = (
        "Rim width over the disc diameter on the same axis, mean over the rays of one clock hour."
    )
    yield "rim_disc_ratio", Definition("1", 0, 1, meaning, ("cup",), oriented=True)
    meaning = (
        "Rim width over the disc diameter on the same axis, where that is smallest; mean over "
        "11 degrees."
    )
    yield "rim_disc_ratio_min", Definition("1", 0, 1, meaning, ("cup",))
    meaning = (
        "Clock hour where the rim-to-disc ratio is smallest, on the face of a clock laid over the "
        "photograph."
    )
    yield "rim_disc_ratio_min_clock_hour", Definition("1", 1, 12, meaning, ("cup",), oriented=True)
    meaning = "Arc of the disc in which the rim is narrower than one pixel."
    yield "rim_absent_arc", Definition("deg", 0, 360, meaning, ("cup",))


def _shape() -> Iterator[tuple[str, Definition]]:
    meaning = "Minor over major axis of the ellipse with the second moments of the disc; 1 if round"
    yield "disc_ovality", Definition("1", 0.2, 1, f"{meaning}.")
    meaning = "Angle of the long axis of the disc from the vertical, anticlockwise positive."
    yield "disc_orientation", Definition("deg", -90, 90, meaning, oriented=True)
    meaning = (
        "Angle of the long axis of the disc from the perpendicular to the disc-fovea line; "
        "positive where its upper end leans temporally."
    )
    yield "disc_torsion", Definition("deg", -90, 90, meaning, ("eye", "fovea"))


def _fovea() -> Iterator[tuple[str, Definition]]:
    meaning = "Distance from the centroid of the disc to the fovea."
    distance = Definition("px", 20, 20000, meaning, ("fovea",))
    yield "disc_fovea_distance", distance
    yield _in_um("disc_fovea_distance", distance, 2000, 8000)
    meaning = "Distance from the centroid of the disc to the fovea, in disc diameters."
    yield "disc_fovea_distance_dd", Definition("1", 1, 8, meaning, ("fovea",))
    meaning = "Angle by which the line from disc to fovea falls below the horizontal."
    yield "disc_fovea_angle", Definition("deg", -45, 45, meaning, ("fovea",), oriented=True)


def _atrophy() -> Iterator[tuple[str, Definition]]:
    meaning = "Area of peripapillary atrophy outside the disc"
    needs: tuple[Need, ...] = ("atrophy",)
    pixels = Definition("px2", 0, 1e8, f"{meaning}, in square pixels.", needs)
    yield "atrophy_area_px2", pixels
    scaled: tuple[Need, ...] = ("atrophy", "scale")
    yield "atrophy_area", Definition("mm2", 0, 50, f"{meaning}.", scaled, "atrophy_area_px2")
    yield "atrophy_disc_ratio", Definition("1", 0, 20, f"{meaning}, over that of the disc.", needs)


DEFINITIONS: dict[str, Definition] = dict(
    pair for group in (_ratios, _sizes, _rim, _shape, _fovea, _atrophy) for pair in group()
)
"""Every measure by name. Measures by clock hour have the zones `clock_1` to `clock_12`."""

DESCRIPTORS: dict[str, tuple[Need, ...]] = {
    "isnt_order": ("cup", "eye"),
    "disc_size_class": ("scale",),
}
"""What is said in words, with what it needs."""


@dataclass(frozen=True)
class DiscMeasure:
    """A number with unit and method.

    Attributes:
        eye: The eye that was given, or None.
        zone: `clock_1` to `clock_12`; None for the whole disc.
        interval: From the error of the pixel scale; None for what does not depend on it, or
            where that error is not known.
    """

    name: str
    value: float
    unit: str
    method: str
    eye: Eye | None = None
    zone: str | None = None
    interval: Interval | None = None


@dataclass(frozen=True)
class Descriptor:
    """Something said in words rather than in a number; it describes and judges nothing."""

    name: str
    text: str
    method: str


@dataclass(frozen=True)
class DiscMeasures:
    """What was measured, said and not measured; see `DEFINITIONS` for the names.

    Example:
        >>> import numpy as np
        >>> from fovea_plugins.biomarkers.disc import measure_disc
        >>> y, x = np.mgrid[:300, :300]
        >>> disc = np.hypot(x - 150, y - 150) <= 100
        >>> cup = np.hypot(x - 150, y - 150) <= 50
        >>> measures = measure_disc(disc, cup, eye="OD")
        >>> round(measures.value("vertical_cdr"), 2)
        0.5
        >>> measures.reason("disc_area")
        'The pixel scale is not known'
    """

    measurements: tuple[DiscMeasure, ...]
    descriptors: tuple[Descriptor, ...]
    not_measured: tuple[NotMeasured, ...]

    def value(self, name: str, *, zone: str | None = None) -> float | None:
        """The value of that name and zone, or None where it was not measured."""
        found = (m.value for m in self.measurements if (m.name, m.zone) == (name, zone))
        return next(found, None)

    def said(self, name: str) -> str | None:
        """The descriptor of that name, or None."""
        return next((d.text for d in self.descriptors if d.name == name), None)

    def reason(self, name: str) -> str | None:
        """Why there is nothing of that name, or None where there is."""
        return next((n.reason for n in self.not_measured if n.name == name), None)


@dataclass(frozen=True)
class PixelScale:
    """Micrometres per pixel and their relative standard error, None where not known."""

    um_per_px: float
    relative_sd: float | None

    def physical(self, pixels: float, unit: str) -> tuple[float, Interval | None]:
        """A length or area in pixels in `um`, `mm` or `mm2`, with its interval."""
        factor, power = {"um": (1.0, 1), "mm": (1e-3, 1), "mm2": (1e-3, 2)}[unit]
        value = pixels * (self.um_per_px * factor) ** power
        if not self.relative_sd:
            return value, None
        share = NORMAL_90 * power * self.relative_sd
        how = "1.645 standard errors of the pixel scale; the error of the outline is not in it"
        low, high = max(0.0, value * (1 - share)), value * (1 + share)
        return value, Interval(low=low, high=high, level=0.9, how=how)


@dataclass
class Sheet:
    """What has been measured so far.

    Attributes:
        values: In pixels, degrees and ratios, by name and zone.
        words: Text and method of descriptors, by name.
        reasons: Why one measure is missing, by its name.
        missing: Why all that need something are missing.
    """

    values: dict[str, dict[str | None, float]] = field(default_factory=dict)
    words: dict[str, tuple[str, str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    missing: dict[Need, str] = field(default_factory=dict)

    def put(self, name: str, value: SupportsFloat, *, zone: str | None = None) -> None:
        """Note a value."""
        self.values.setdefault(name, {})[zone] = float(value)

    def get(self, name: str) -> float:
        """A value that has no zone."""
        return self.values[name][None]

    def measures(
        self, *, scale: PixelScale | None, eye: Eye | None, axis_deg: float
    ) -> DiscMeasures:
        """All of it with units, methods, physical sizes and the reasons for gaps."""
        made: list[DiscMeasure] = []
        for name, meant in DEFINITIONS.items():
            if meant.scales and scale is None:
                continue
            for zone, pixels in self.values.get(meant.scales or name, {}).items():
                physical = scale.physical(pixels, meant.unit) if scale and meant.scales else None
                value, interval = physical or (pixels, None)
                made.append(
                    DiscMeasure(
                        name=name,
                        value=value,
                        unit=meant.unit,
                        method=_method(meant, axis_deg),
                        eye=eye,
                        zone=zone,
                        interval=interval,
                    )
                )
        has = {m.name for m in made} | self.words.keys()
        needs = {name: meant.needs for name, meant in DEFINITIONS.items()} | DESCRIPTORS
        return DiscMeasures(
            measurements=tuple(made),
            descriptors=tuple(Descriptor(name, *words) for name, words in self.words.items()),
            not_measured=tuple(
                NotMeasured(name=name, reason=self._reason(name, needed))
                for name, needed in needs.items()
                if name not in has
            ),
        )

    def _reason(self, name: str, needed: tuple[Need, ...]) -> str:
        if name in self.reasons:
            return self.reasons[name]
        return next(self.missing[need] for need in needed if need in self.missing)


def _method(meant: Definition, axis_deg: float) -> str:
    method = f"{meant.meaning.removesuffix('.')}; masks with holes filled, edge between pixels"
    if not meant.oriented:
        return method
    return f"{method}; vertical " + (
        f"turned {axis_deg:.1f} degrees anticlockwise" if axis_deg else "of the image"
    )


def nothing_measured(reason: str) -> DiscMeasures:
    """Every measure missing for one reason."""
    names = (*DEFINITIONS, *DESCRIPTORS)
    return DiscMeasures((), (), tuple(NotMeasured(name=name, reason=reason) for name in names))
