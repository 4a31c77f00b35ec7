"""Tables: a row per kind of lesion with all that was measured of it, and what is left over."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fovea.contract import Measurement
from fovea.evidence import Evidence
from fovea.knowledge import Entry, Knowledge
from fovea.report.model import Row
from fovea.report.wording import is_position, name_of, printed, region


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


def tabled_rows(
    piece: Evidence, chosen: Callable[[str], bool], knowledge: Knowledge, *, several: bool
) -> tuple[Row, ...]:
    """A row for each measurement that is told in a table alone.

    Values by region share a row, and gaps a row for each reason.

    Args:
        piece: Evidence of one tool.
        chosen: Which outputs these are.
        knowledge: Names of measurements.
        several: Whether there is more than one photograph to tell apart.
    """
    values: dict[str, list[str]] = {}
    for m in piece.result.measurements:
        if chosen(m.name) and not is_position(m.name):
            name = f"{name_of(m.name, knowledge)} {m.eye or ''}".rstrip()
            where = f"{region(m.zone)} " if m.zone else ""
            values.setdefault(name, []).append(where + _with_interval(m))
    for gap in piece.result.not_measured:
        if chosen(gap.name):
            reason = f"not measured: {gap.reason.rstrip('.')}"
            values.setdefault(reason, []).append(name_of(gap.name, knowledge))
    where = f", {piece.images[0]}" if several and piece.images else ""
    return tuple(
        Row(label=label[:1].upper() + label[1:] + where, value=f"{', '.join(said)} [{piece.id}]")
        for label, said in values.items()
    )


def _with_interval(m: Measurement) -> str:
    if not m.interval:
        return printed(m.value, m.unit)
    low, high = (printed(end, m.unit) for end in (m.interval.low, m.interval.high))
    level = f"{m.interval.level * 100:g} % interval" if m.interval.level else "range"
    return f"{printed(m.value, m.unit)} ({level} {low} to {high})"


def _own(piece: Evidence, entry: Entry | None, knowledge: Knowledge) -> list[Measurement]:
    return [m for m in piece.result.measurements if knowledge.about_output(m.name) == entry]


def _whole(piece: Evidence, entry: Entry | None, knowledge: Knowledge) -> list[str]:
    said = []
    for m in _own(piece, entry, knowledge):
        if m.zone:
            continue
        said.append(f"{name_of(m.name, knowledge)} {_with_interval(m)}")
    return said


def _by_zone(piece: Evidence, entry: Entry | None, knowledge: Knowledge) -> list[str]:
    zones: dict[str, list[str]] = {}
    for m in _own(piece, entry, knowledge):
        if m.zone:
            value = f"{region(m.zone)} {printed(m.value, m.unit)}"
            zones.setdefault(m.name, []).append(value)
    return [f"{name_of(name, knowledge)}: {', '.join(values)}" for name, values in zones.items()]


def _gaps(piece: Evidence, entry: Entry | None, knowledge: Knowledge) -> list[str]:
    """Gaps that share a reason are told together."""
    reasons: dict[str, list[str]] = {}
    for gap in piece.result.not_measured:
        if knowledge.about_output(gap.name) == entry:
            reasons.setdefault(gap.reason.rstrip("."), []).append(name_of(gap.name, knowledge))
    return [f"not measured: {', '.join(names)} ({reason})" for reason, names in reasons.items()]
