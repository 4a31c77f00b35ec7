"""Why a case is similar, in numbers: what both photographs were measured by the same tools."""

from __future__ import annotations

from collections.abc import Iterable

from fovea.contract import Difference, Neighbour, Result
from fovea.evidence import Evidence
from fovea.knowledge.norms import made_by, plain_method
from fovea.services import Archive, Measured

COMPARED = (
    "vertical_cdr", "horizontal_cdr", "vessel_density", "crae", "crve", "avr",
    "fractal_dimension", "tortuosity",
)  # fmt: skip
"""The few that a person compares eyes by; they are what the archive keeps of a photograph."""


def measured_in(evidence: Iterable[Evidence], handle: str) -> tuple[Measured, ...]:
    """The values of one photograph that can be compared, in the order of `COMPARED`."""
    found: set[Measured] = set()
    for piece in evidence:
        if piece.images != (handle,):
            continue
        origin = piece.provenance
        by = made_by(origin.plugin, origin.plugin_version, origin.inputs)
        for m in piece.result.measurements:
            if m.name in COMPARED:
                made = f"{plain_method(m.method)}; {by}"
                found.add(Measured(m.name, m.zone, m.unit, m.value, made))
    places = {name: place for place, name in enumerate(COMPARED)}
    return tuple(sorted(found, key=lambda e: (places[e.name], e.zone or "", e.made_by, e.value)))


def with_differences(result: Result, own: Iterable[Measured], archive: Archive) -> Result:
    """The result, each neighbour with what it and the photograph were both measured for."""
    here = {(each.name, each.zone, each.unit, each.made_by): each for each in own}

    def beside(neighbour: Neighbour) -> Neighbour:
        found: dict[tuple[str, str | None], Difference] = {}
        for there in archive.measured(neighbour.case_id):
            mine = here.get((there.name, there.zone, there.unit, there.made_by))
            if mine is not None:  # two tools may give a value: the first that both photographs have
                found.setdefault(
                    (mine.name, mine.zone),
                    Difference(
                        name=mine.name, zone=mine.zone, unit=mine.unit, here=mine.value,
                        there=there.value,
                    ),
                )  # fmt: skip
        return neighbour.model_copy(update={"differences": tuple(found.values())})

    return result.model_copy(update={"similar": tuple(map(beside, result.similar))})
