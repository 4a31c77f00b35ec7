"""Measurements of one kind of lesion, or why they could not be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fovea.contract import Interval, Measurement, NotMeasured
from fovea.image import Eye, Photograph
from fovea_plugins.segmenter.lesions.places import Grid, Places
from fovea_plugins.segmenter.lesions.reading import Kind, Spot

STEMS = {
    "microaneurysms": "microaneurysm",
    "haemorrhages": "haemorrhage",
    "hard_exudates": "hard_exudate",
    "soft_exudates": "soft_exudate",
}
"""Finding, and beginning of the measurement names, of each kind."""

ENDINGS = (
    "count", "area", "area_px", "area_share", "quadrant_count", "etdrs_count",
    "fovea_distance", "fovea_distance_um",
)  # fmt: skip
"""What is measured of each kind, in the order of the answer."""

RANGE = (
    "from the spots that pass a strict cut to those that pass a lenient one; no confidence interval"
)

Item = Measurement | NotMeasured


def unmeasured(kind: str, reason: str) -> Iterator[NotMeasured]:
    """Every measurement of a kind that cannot be assessed."""
    for ending in ENDINGS:
        yield NotMeasured(name=f"{STEMS[kind]}_{ending}", reason=reason)


def measure(kind: Kind, places: Places, photograph: Photograph, eye: Eye | None) -> Iterator[Item]:
    """Count, areas, counts by region and distance to the fovea of one kind."""
    stem, cuts = STEMS[kind.name], kind.cuts
    how = f"connected spots above {cuts.outline:.2f} that reach {cuts.counted:.2f}"
    yield Measurement(
        name=f"{stem}_count",
        value=len(kind.lesions),
        unit="1",
        eye=eye,
        method=f"{how}, in the whole field; mean probability of the networks",
        interval=_interval(kind, lambda spots: float(len(spots))),
    )
    yield from _areas(kind, stem, places, photograph, eye)
    for ending, grid in (("quadrant_count", places.quadrants), ("etdrs_count", places.etdrs)):
        yield from _by_region(f"{stem}_{ending}", kind, grid, eye)
    yield from _distances(stem, kind, places, eye)


def _areas(
    kind: Kind, stem: str, places: Places, photograph: Photograph, eye: Eye | None
) -> Iterator[Item]:
    field_px = int(photograph.field_of_view.sum())
    scale = places.scale
    if scale is None:
        yield NotMeasured(name=f"{stem}_area", reason="The pixel scale is not known.")
    else:
        source = "the file" if scale.source == "dicom" else "the disc-fovea distance (4.76 mm)"
        yield _area(kind, f"{stem}_area", "mm2", (scale.um_per_px / 1000.0) ** 2, eye,
                    f"area of the outlined spots; scale from {source}")  # fmt: skip
    yield _area(kind, f"{stem}_area_px", "px2", 1.0, eye, "pixels of the outlined spots")
    yield _area(kind, f"{stem}_area_share", "%", 100.0 / max(field_px, 1), eye,
                "pixels of the outlined spots over those of the field of view")  # fmt: skip


def _area(
    kind: Kind, name: str, unit: str, per_px: float, eye: Eye | None, method: str
) -> Measurement:
    def area(spots: tuple[Spot, ...]) -> float:
        return per_px * sum(spot.area_px for spot in spots)

    value = area(kind.lesions)
    return Measurement(
        name=name, value=value, unit=unit, eye=eye, method=method, interval=_interval(kind, area)
    )


def _interval(kind: Kind, of: Callable[[tuple[Spot, ...]], float]) -> Interval:
    cuts = kind.cuts
    return Interval(low=of(kind.at(cuts.strict)), high=of(kind.at(cuts.lenient)), how=RANGE)


def _by_region(name: str, kind: Kind, grid: Grid, eye: Eye | None) -> Iterator[Item]:
    if grid.labels is None:
        yield NotMeasured(name=name, reason=grid.why_not)
        return
    if not kind.lesions:
        yield NotMeasured(name=name, reason="None was counted that could lie in a region.")
        return
    for zone, count in grid.counts(kind.lesions).items():
        yield Measurement(
            name=name,
            value=count,
            unit="1",
            eye=eye,
            zone=zone,
            method="counted lesions by the region of their centre, as far as the field shows it",
        )
    if grid.unseen:
        hidden = ", ".join(zone.replace("_", " ") for zone in grid.unseen)
        yield NotMeasured(name=name, reason=f"Not enough of it is in the field: {hidden}.")


def _distances(stem: str, kind: Kind, places: Places, eye: Eye | None) -> Iterator[Item]:
    names = f"{stem}_fovea_distance", f"{stem}_fovea_distance_um"
    if not kind.lesions:
        for name in names:
            yield NotMeasured(name=name, reason="None was counted whose distance could be told.")
        return
    found = places.distance(kind.mask)
    missing = (
        "The diameter of the optic disc is not known.",
        "The pixel scale is not known.",
    )
    values = (
        (found.disc_diameters, "[DD]", found.error_disc_diameters),
        (found.um, "um", found.error_um),
    )
    for name, reason, (value, unit, error) in zip(names, missing, values, strict=True):
        if value is None:
            yield NotMeasured(name=name, reason=found.why_not or reason)
            continue
        yield Measurement(
            name=name,
            value=round(value, 4),
            unit=unit,
            eye=eye,
            method="from the centre of the fovea to the nearest pixel of a counted lesion",
            interval=Interval(
                low=max(0.0, value - error),
                high=value + error,
                how="errors of the place of the fovea and of the "
                f"{'disc diameter' if unit == '[DD]' else 'scale'}, in quadrature; which spots "
                "are lesions is taken as settled",
            )
            if error
            else None,
        )
