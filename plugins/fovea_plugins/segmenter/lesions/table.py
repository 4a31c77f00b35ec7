"""A table of every counted lesion, as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from fovea.contract import Artifact, Context
from fovea_plugins.segmenter.lesions.measures import STEMS
from fovea_plugins.segmenter.lesions.places import Places
from fovea_plugins.segmenter.lesions.reading import Kind

COLUMNS = ("kind", "x_px", "y_px", "area_px2", "highest_probability", "quadrant", "etdrs_field")


def write_table(kinds: Sequence[Kind], places: Places, context: Context) -> Artifact:
    """One row per counted lesion: kind, centre, area, probability, regions of the centre."""
    path = context.work_dir / "lesions.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for kind in kinds:
            for spot in kind.lesions:
                table.writerow(
                    (
                        STEMS[kind.name],
                        f"{spot.x:.1f}",
                        f"{spot.y:.1f}",
                        spot.area_px,
                        f"{spot.probability:.3f}",
                        places.quadrants.region(spot) or "",
                        places.etdrs.region(spot) or "",
                    )
                )
    return Artifact(name="lesions", kind="table", path=path, media_type="text/csv")
