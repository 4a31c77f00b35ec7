"""The lesions table: one row per kind of finding, with everything measured of it."""

from __future__ import annotations

from collections.abc import Iterable

from fovea.contract import Measurement
from fovea.evidence import Evidence
from fovea.knowledge import Entry, Knowledge
from fovea.report.model import Row
from fovea.report.wording import name_of, printed


def lesion_rows(
    told: Iterable[tuple[Evidence, str]], knowledge: Knowledge, *, several: bool
) -> tuple[Row, ...]:
    """A row for each finding of which something was measured.

    Args:
        told: Evidence, and the name of one of its findings.
        knowledge: Names of findings and measurements.
        several: Whether there is more than one photograph to tell apart.
    """
    rows = []
    for piece, concept in told:
        entry = knowledge.about_output(concept)
        said = _whole(piece, entry, knowledge) + _by_zone(piece, entry, knowledge)
        if entry and said:
            said += _gaps(piece, entry, knowledge)
            name = name_of(concept, knowledge)
            label = name[:1].upper() + name[1:]
            where = f", {piece.images[0]}" if several and piece.images else ""
            rows.append(Row(label=label + where, value=f"{'; '.join(said)} [{piece.id}]"))
    return tuple(rows)


def _own(piece: Evidence, entry: Entry | None, knowledge: Knowledge) -> list[Measurement]:
    return [m for m in piece.result.measurements if knowledge.about_output(m.name) == entry]


def _whole(piece: Evidence, entry: Entry | None, knowledge: Knowledge) -> list[str]:
    said = []
    for m in _own(piece, entry, knowledge):
        if m.zone:
            continue
        value = printed(m.value, m.unit)
        if m.interval:
            low, high = (printed(end, m.unit) for end in (m.interval.low, m.interval.high))
            level = f"{m.interval.level * 100:g} % interval" if m.interval.level else "range"
            value += f" ({level} {low} to {high})"
        said.append(f"{name_of(m.name, knowledge)} {value}")
    return said


def _by_zone(piece: Evidence, entry: Entry | None, knowledge: Knowledge) -> list[str]:
    zones: dict[str, list[str]] = {}
    for m in _own(piece, entry, knowledge):
        if m.zone:
            region = m.zone.replace("_", " ").replace("etdrs", "ETDRS")
            value = f"{region} {printed(m.value, m.unit)}"
            zones.setdefault(m.name, []).append(value)
    return [f"{name_of(name, knowledge)}: {', '.join(values)}" for name, values in zones.items()]


def _gaps(piece: Evidence, entry: Entry | None, knowledge: Knowledge) -> list[str]:
    """Gaps that share a reason are told together."""
    reasons: dict[str, list[str]] = {}
    for gap in piece.result.not_measured:
        if knowledge.about_output(gap.name) == entry:
            reasons.setdefault(gap.reason.rstrip("."), []).append(name_of(gap.name, knowledge))
    return [f"not measured: {', '.join(names)} ({reason})" for reason, names in reasons.items()]
