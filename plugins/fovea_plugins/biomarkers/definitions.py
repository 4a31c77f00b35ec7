"""Every vessel measure: what it is, by which formula, in which unit, after whom.

This is the data dictionary of the tables, and where the manifest's words come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

Vessels = Literal["all", "artery", "vein"]
Power = Literal[-2, -1, 0, 1, 2]
Where = Literal["anywhere", "field", "zone_b"]

ALL: tuple[Vessels, ...] = ("all", "artery", "vein")

FIELD = "field"
"""The region that is always there: the field of view, or the whole picture, less the disc."""

ZONE_B = "zone_b"
"""Where calibres are measured: 0.5 to 1 disc diameter from the disc's margin."""

PHYSICAL: Mapping[str, float] = {
    "um": 1.0, "mm": 1e-3, "mm2": 1e-6, "1/mm": 1e3, "1/mm2": 1e6,
}  # fmt: skip
"""Physical units, and their number in one micrometre (squared, or to the minus first)."""

_PIXELS: Mapping[Power, str] = {-2: "px-2", -1: "px-1", 1: "px", 2: "px2"}
_DISCS: Mapping[Power, str] = {-2: "[DD]-2", -1: "[DD]-1", 1: "[DD]", 2: "[DD]2"}


@dataclass(frozen=True)
class Definition:
    """One measure.

    Attributes:
        meaning: What it is, with its formula.
        source: Where the definition comes from.
        unit: UCUM unit; `px` for pixels of the mask, `[DD]` for disc diameters.
        low, high: Plausible range in an eye, wide enough for disease.
        power: Of the length: 1 for a length, 2 for an area, 0 for what has no size.
        scales: The measure in pixels of which this is the size in another unit.
        where: Whether it is measured in every region or in one alone.
        vessels: On which vessels it is measured.
    """

    meaning: str
    source: str
    unit: str
    low: float
    high: float
    power: Power = 0
    scales: str | None = None
    where: Where = "anywhere"
    vessels: tuple[Vessels, ...] = ALL


class Key(NamedTuple):
    """Which value: of what, on which vessels, where."""

    name: str
    vessels: Vessels
    region: str

    @property
    def column(self) -> str:
        """The name of the value in a table: `tortuosity`, `tortuosity_vein_zone_b`."""
        parts = [self.name]
        if len(DEFINITIONS[self.name].vessels) > 1 and self.vessels != "all":
            parts.append(self.vessels)
        if DEFINITIONS[self.name].where == "anywhere" and self.region != FIELD:
            parts.append(self.region)
        return "_".join(parts)


class _Sized(NamedTuple):
    """A measure with a size: its power, physical unit and range, in that unit."""

    power: Power
    physical: str
    low: float
    high: float
    meaning: str
    source: str


_PLAIN = "direct"
_HART = "Hart et al., Int J Med Inform 1999;53:239-252"
_GRISAN = "Grisan, Foracchia, Ruggeri, Proc IEEE EMBS 2003;866-869"
_MURRAY = "Murray, Proc Natl Acad Sci 1926;12:207-214"
_ZAMIR = "Zamir, J Theor Biol 1976;62:227-251"
_SANDBOX = (
    "Tel, Fulop, Vicsek, Physica A 1989;159:155-166; Stosic and Stosic, IEEE Trans Med "
    "Imaging 2006;25:1101-1107"
)
_KNUDTSON = "Knudtson et al., Curr Eye Res 2003;27:143-149"
_HUBBARD = "Hubbard et al., Ophthalmology 1999;106:2269-2280"

_SIZES: dict[str, _Sized] = {
    "vessel_area": _Sized(2, "mm2", 0, 300, "Pixels of the mask", _PLAIN),
    "vessel_length": _Sized(
        1, "mm", 0, 2000,
        "Length of the smooth centrelines; free ends reach to a quarter of the width before the "
        "tip", _PLAIN,
    ),
    "vessel_length_per_area": _Sized(
        -1, "1/mm", 0, 50, "Vessel length over the area of the region", _PLAIN
    ),
    "perimeter": _Sized(
        1, "mm", 0, 4000,
        "Length of the outline smoothed as centrelines are, holes and the part along the "
        "picture's border included", _PLAIN,
    ),
    "width_mean": _Sized(
        1, "um", 5, 400,
        "Mean over vessel length of the width across the path: the mask summed along the normal",
        _PLAIN,
    ),
    "width_median": _Sized(
        1, "um", 5, 400, "Median over vessel length of the width across the path", _PLAIN
    ),
    "width_sd": _Sized(
        1, "um", 0, 200, "Standard deviation over vessel length of the width", _PLAIN
    ),
    "squared_curvature": _Sized(
        -2, "1/mm2", 0, 1000,
        "Integral of the squared curvature over the length of the segments, divided by it", _HART,
    ),
    "tortuosity_density": _Sized(
        -1, "1/mm", 0, 50,
        "(n - 1) / L * sum(arc_i / chord_i - 1) over the n turns between inflections of a "
        "segment of length L, mean over length", _GRISAN,
    ),
}  # fmt: skip

_RATIOS: dict[str, Definition] = {
    "vessel_density": Definition(
        "Vessel area over the area of the region", _PLAIN, "1", 0, 0.5
    ),
    "vessel_length_density": Definition(
        "Vessel length times the diameter of the circle of the region's area, over that area: how "
        "often a line of vessel crosses the region", _PLAIN, "1", 0, 80,
    ),
    "tortuosity": Definition(
        "Arc over chord of vessel segments of at least five widths, mean over length: "
        "sum(arc^2 / chord) / sum(arc)", _HART, "1", 1, 3,
    ),
    "tortuosity_median": Definition(
        "Median over segments of arc over chord", _HART, "1", 1, 3
    ),
    "bifurcations": Definition(
        "Junctions of three vessels or more that are no crossing", _PLAIN, "1", 0, 2000
    ),
    "ends": Definition(
        "Free ends of vessels, without those where the field of view cuts them off",
        _PLAIN, "1", 0, 5000,
    ),
    "crossings": Definition(
        "Junctions, or pairs of junctions joined by a short bridge, whose opposite arms go on "
        "within 40 degrees of straight; with artery and vein masks, an artery opposite itself "
        "and a vein opposite itself", _PLAIN, "1", 0, 1000, vessels=("all",),
    ),
    "branching_angle": Definition(
        "Median over bifurcations of the angle between the daughters: the two arms with the "
        "smallest angle between them, or beside the widest where angles are within 10 degrees",
        _ZAMIR, "deg", 0, 180,
    ),
    "asymmetry_ratio": Definition(
        "Median over bifurcations of (narrow daughter / wide daughter)^2", _ZAMIR, "1", 0, 1
    ),
    "junction_exponent": Definition(
        "Median over bifurcations of x in parent^x = wide^x + narrow^x, over those whose parent "
        "is the widest; 3 by Murray's law", _MURRAY, "1", 0.3, 60,
    ),
    "fractal_dimension": Definition(
        "Capacity dimension D0 of the mask, sandbox method, boxes around vessel pixels of the "
        "region with sides of 1.4 to 35 % of the tree's extent", _SANDBOX, "1", 0.5, 2.2,
    ),
    "information_dimension": Definition(
        "Information dimension D1, as D0", _SANDBOX, "1", 0.5, 2.2
    ),
    "correlation_dimension": Definition(
        "Correlation dimension D2, as D0", _SANDBOX, "1", 0.5, 2.2
    ),
    "singularity_length": Definition(
        "Width of the multifractal spectrum: largest less smallest alpha over q = -10 to 10",
        _SANDBOX, "1", 0, 4,
    ),
    "lacunarity": Definition(
        "Mean over boxes of 2, 4, 8 and 16 % of the region's extent of E[M^2] / E[M]^2",
        "Allain and Cloitre, Phys Rev A 1991;44:3552-3558", "1", 1, 1000,
    ),
    "strahler_order": Definition(
        "Highest Strahler order of the trees", "Strahler, Trans Am Geophys Union 1957;38:913-920",
        "1", 1, 12, where="field",
    ),
    "strahler_ratio": Definition(
        "Geometric mean of the number of vessels of one order over that of the next",
        "Horton, Bull Geol Soc Am 1945;56:275-370", "1", 1, 100, where="field",
    ),
}  # fmt: skip

_MEANS: tuple[tuple[str, Vessels, str], ...] = (
    ("crae", "artery", "artery equivalent of the six widest arterioles"),
    ("crve", "vein", "vein equivalent of the six widest venules"),
)


def _definitions() -> Iterator[tuple[str, Definition]]:
    for name, made in _SIZES.items():
        yield from _in_all_units(name, name, made)
    yield from _RATIOS.items()
    for name, vessels, text in _MEANS:
        meaning = f"Central retinal {text} of zone B, by Knudtson"
        made = _Sized(1, "um", 20, 600, meaning, _KNUDTSON)
        for key, unit in _in_all_units(f"{name}_px", name, made):
            yield key.removesuffix("_um"), _calibre(unit, vessels)
        meaning = f"Central retinal {text} of zone B, by Hubbard"
        hubbard = Definition(meaning, _HUBBARD, "um", 20, 600)
        yield f"{name}_hubbard", _calibre(hubbard, vessels)
    avr = Definition("CRAE over CRVE, by Knudtson", _KNUDTSON, "1", 0.2, 2)
    yield "avr", _calibre(avr, "all")
    avr = Definition("CRAE over CRVE, by Hubbard", _HUBBARD, "1", 0.2, 2)
    yield "avr_hubbard", _calibre(avr, "all")


def _in_all_units(pixels: str, stem: str, made: _Sized) -> Iterator[tuple[str, Definition]]:
    """The measure in pixels, in disc diameters and in a physical unit.

    A pixel is 1 to 50 micrometres, and a disc 500 to 4000.
    """
    ends = made.low / PHYSICAL[made.physical], made.high / PHYSICAL[made.physical]
    for name, unit, smallest, largest in (
        (pixels, _PIXELS[made.power], 1.0, 50.0),
        (f"{stem}_dd", _DISCS[made.power], 500.0, 4000.0),
    ):
        divisor = largest, smallest
        if made.power < 0:
            divisor = smallest, largest
        low, high = (e / d**made.power for e, d in zip(ends, divisor, strict=True))
        scales = None if name == pixels else pixels
        yield name, Definition(made.meaning, made.source, unit, low, high, made.power, scales)
    suffix = made.physical.replace("1/", "per_")
    yield (
        f"{stem}_{suffix}",
        Definition(
            made.meaning, made.source, made.physical, made.low, made.high, made.power, pixels
        ),
    )


def _calibre(made: Definition, vessels: Vessels) -> Definition:
    return Definition(
        made.meaning, made.source, made.unit, made.low, made.high, made.power, made.scales,
        "zone_b", (vessels,),
    )  # fmt: skip


DEFINITIONS: Mapping[str, Definition] = dict(_definitions())
"""Every measure by name."""


def keys(regions: tuple[str, ...], kinds: tuple[Vessels, ...] = ALL) -> Iterator[Key]:
    """Every value there can be in these regions, `FIELD` among them, in the order of tables."""
    for name, meant in DEFINITIONS.items():
        only = {"anywhere": regions, "field": (FIELD,), "zone_b": (ZONE_B,)}[meant.where]
        for vessels in (kind for kind in meant.vessels if kind in kinds or meant.where == "zone_b"):
            for region in only:
                yield Key(name, vessels, region)


def data_dictionary() -> list[dict[str, str | float]]:
    """One row for each measure: name, meaning, unit, source and plausible range.

    Columns of a wide table add `_artery` or `_vein`, then the region; see `Key.column`.
    """
    return [
        {
            "name": name,
            "meaning": meant.meaning,
            "unit": meant.unit,
            "source": meant.source,
            "low": meant.low,
            "high": meant.high,
        }
        for name, meant in DEFINITIONS.items()
    ]
