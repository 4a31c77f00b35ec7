"""HRF: healthy against glaucoma and diabetic retinopathy, beside what was published.

Run: python benchmarks/biomarker_cohort.py --cache FOLDER [--data FOLDER]

Vessels, arteries and veins are the published outlines of all 45 photographs; nothing of the
measures was fitted to them. Disc and fovea come from Fovea's tools; where a tool refuses a
photograph it is left out and said. Each photograph is one person.

An effect is Cohen's d against the healthy with a 95 % interval (Hedges and Olkin, Statistical
methods for meta-analysis, 1985: variance (n1 + n2) / (n1 n2) + d^2 / (2 (n1 + n2))). With 15
in a group it reaches about 0.7 to either side, and with some 40 effects two intervals leave
out 0 by chance: this is a check of directions, no finding.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from biomarker_cases import Places, field_of_view, hrf

from fovea_plugins.biomarkers import Disc, measure

GROUPS = ("glaucoma", "diabetic_retinopathy")

# Published direction for glaucoma and for diabetic retinopathy: - lower, + higher, 0 no
# difference, ? disputed, blank not reported; then the sources, in the order of `SOURCES`.
PUBLISHED: Mapping[str, tuple[str, str, str]] = {
    "vessel_area_artery": ("-", "", "1"), "vessel_area_vein": ("-", "", "1"),
    "vessel_length_artery": ("-", "", "1"), "vessel_length_vein": ("-", "", "1"),
    "tortuosity_artery": ("0", "", "1"), "tortuosity_vein": ("0", "", "1"),
    "branching_angle_artery": ("-", "", "1"), "branching_angle_vein": ("0", "", "1"),
    "ends_artery": ("-", "", "1"), "ends_vein": ("-", "", "1"),
    "bifurcations_artery": ("-", "", "1"), "bifurcations_vein": ("-", "", "1"),
    "fractal_dimension_artery": ("-", "", "1"), "fractal_dimension_vein": ("-", "", "1"),
    "information_dimension_artery": ("-", "", "1"),
    "correlation_dimension_artery": ("-", "", "1"),
    "singularity_length_artery": ("-", "", "1"), "singularity_length_vein": ("0", "", "1"),
    "fractal_dimension": ("?", "-", "2, 5"),
    "crae": ("- d -0.55", "+", "2, 3, 4"), "crve": ("- d -0.46", "+", "3, 4"),
    "avr": ("", "", ""), "vessel_density": ("", "", ""), "width_mean_um_artery": ("", "", ""),
    "width_mean_um_vein": ("", "", ""), "lacunarity": ("", "", ""),
}  # fmt: skip

SOURCES = (
    "Fhima et al., PVBM, ECCV 2022 Workshops (arXiv 2208.00392), abstract: in glaucoma all "
    "biomarkers of arterioles and venules were significantly lower, except tortuosity, venular "
    "singularity length and venular branching angles. It states no effect sizes there.",
    "Chan et al., BMJ Open Ophthalmol 2016;1:e000032 (review): narrower arterioles and lower "
    "fractal dimension in glaucoma.",
    "Retinal vascular caliber between eyes with asymmetric glaucoma (158 people, "
    "https://scholars.duke.edu/publication/1148014): arterioles 131.5 (SD 17.8) against 141.6 "
    "(18.8) um, venules 201.0 (21.4) against 211.7 (25.3) um in the fellow eye with mild "
    "disease; d from these means and SDs.",
    "Retinal vascular caliber, diabetes, and retinopathy (Blue Mountains Eye Study, 3654 "
    "people): venules wider in moderate and severe retinopathy (236.7 and 262.7 against 221.9 um "
    "without diabetes), arterioles wider in diabetes (193.5 against 190.2 um).",
    "Yu and Lakshminarayanan, Appl Sci 2021;11:2376 (meta-analysis of 28 studies): fractal "
    "dimension lower in diabetic retinopathy, uncertain in glaucoma.",
)


def effect(theirs: Sequence[float], own: Sequence[float]) -> tuple[float, float, float] | None:
    """Cohen's d of a group against the healthy, with its 95 % interval.

    None where a group has fewer than three values or neither varies.
    """
    n, m = len(theirs), len(own)
    if min(n, m) < 3:
        return None
    pooled = ((n - 1) * np.var(theirs, ddof=1) + (m - 1) * np.var(own, ddof=1)) / (n + m - 2)
    if not pooled > 0:
        return None
    d = float((np.mean(theirs) - np.mean(own)) / math.sqrt(pooled))
    half = 1.96 * math.sqrt((n + m) / (n * m) + d * d / (2 * (n + m)))
    return d, d - half, d + half


def measured(data: Path, cache: Path) -> dict[str, list[dict[str, float | None]]]:
    """Rows of values by group."""
    places, groups = Places(cache), dict[str, list[dict[str, float | None]]]()
    with (data / "HRF" / "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        try:
            case = hrf(data, row["id"], places)
        except RuntimeError as error:
            print(f"{row['id']} is left out: {error}")
            continue
        disc = None
        if case.place.disc:
            x, y, radius = case.place.disc
            disc = Disc(x, y, 2.0 * radius)
        found = measure(
            case.masks["vessels"], arteries=case.masks["artery"], veins=case.masks["vein"],
            disc=disc, fovea=case.place.fovea, field=field_of_view(data, row["id"]),
        )  # fmt: skip
        groups.setdefault(row["group"], []).append(found.as_row())
    return groups


def main() -> None:
    """Print means, effects and what was published."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="for disc and fovea")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    given = parser.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    groups = measured(given.data, given.cache)
    print(", ".join(f"{name} {len(rows)}" for name, rows in groups.items()))
    print(
        f"{'':32}{'healthy mean (SD, n)':>26}{'glaucoma d (95 % interval)':>30}{'publ.':>11}"
        f"{'retinopathy d (95 % interval)':>32}{'publ.':>6}  source"
    )
    for name, (glaucoma, retinopathy, source) in PUBLISHED.items():
        values = {
            group: [v for row in rows if (v := row[name]) is not None]
            for group, rows in groups.items()
        }
        own = values["healthy"]
        line = f"{name:32}"
        line += f"{np.mean(own):11.4g} ({np.std(own, ddof=1):.3g}, {len(own)})".rjust(26)
        for group, told, widths in zip(
            GROUPS, (glaucoma, retinopathy), ((30, 11), (32, 6)), strict=True
        ):
            found = effect(values.get(group, []), own)
            said = f"{found[0]:+.2f} ({found[1]:+.2f} to {found[2]:+.2f})" if found else "-"
            line += said.rjust(widths[0]) + told.rjust(widths[1])
        print(f"{line}  {source}")
    for number, text in enumerate(SOURCES, 1):
        print(f"{number}. {text}")


if __name__ == "__main__":
    main()
