"""The full set of values and its data dictionary, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fovea.contract import Artifact, Context, Measurement, NotMeasured
from fovea_plugins.biomarkers.definitions import data_dictionary
from fovea_plugins.biomarkers.values import VesselMeasures
from fovea_plugins.biomarkers.working import Working

COLUMNS = ("name", "vessels", "region", "value", "unit", "low", "high", "count", "reason")
DICTIONARY = ("name", "meaning", "unit", "source", "low", "high")

LESIONS: tuple[dict[str, str | float], ...] = (
    {"name": "lesion_count", "meaning": "Connected spots by the region of their centre",
     "unit": "1", "source": "segment_lesions", "low": 0, "high": 5000},
    {"name": "lesion_area", "meaning": "Pixels of the outlined lesions in the region",
     "unit": "px2", "source": "segment_lesions", "low": 0, "high": 1e8},
    {"name": "lesion_area_mm2", "meaning": "The same in square millimetres",
     "unit": "mm2", "source": "segment_lesions", "low": 0, "high": 300},
    {"name": "lesion_fovea_distance",
     "meaning": "From the fovea to the nearest pixel of a lesion in the region",
     "unit": "px", "source": "segment_lesions", "low": 0, "high": 20000},
)  # fmt: skip


def values_table(
    context: Context,
    working: Working,
    measures: VesselMeasures,
    disc: Iterable[Measurement | NotMeasured],
    lesions: Iterable[Mapping[str, Any]],
) -> Artifact:
    """Every value with unit, range and count, or the reason for the gap.

    A value in pixels means pixels of the photograph. Gaps are empty, never a number.
    """
    rows: list[Mapping[str, Any]] = []
    for row in measures.rows():
        name = str(row["name"])
        kept = {part: _scaled(working, name, row[part]) for part in ("value", "low", "high")}
        rows.append(row | kept)
    rows += [_disc_row(item) for item in disc]
    rows += lesions
    return _written(context, "biomarker_values", COLUMNS, rows)


def dictionary_table(context: Context, outputs: Iterable[Mapping[str, Any]]) -> Artifact:
    """What each name of the values means: unit, formula, source and plausible range.

    Args:
        context: Where to write it.
        outputs: Measurements of the disc, as the manifest declares them.
    """
    disc = [{"source": "segment_optic_disc", **output} for output in outputs]
    rows = [*data_dictionary(), *disc, *LESIONS]
    return _written(context, "biomarker_dictionary", DICTIONARY, rows)


def _scaled(working: Working, name: str, value: Any) -> float | None:
    return None if value is None else working.in_photograph(name, float(value))


def _disc_row(item: Measurement | NotMeasured) -> dict[str, Any]:
    row: dict[str, Any] = {**dict.fromkeys(COLUMNS), "name": item.name, "region": "disc"}
    if isinstance(item, NotMeasured):
        return row | {"reason": item.reason}
    row |= {"value": item.value, "unit": item.unit, "region": item.zone or "disc"}
    if item.interval:
        row |= {"low": item.interval.low, "high": item.interval.high}
    return row


def _written(
    context: Context, name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]
) -> Artifact:
    path = context.work_dir / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow([_cell(row[column]) for column in columns])
    return Artifact(name=name, kind="table", path=path, media_type="text/csv")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)
