"""Fovea's biomarkers beside those of PVBM and VascX: values, CPU seconds, memory, known truth.

Run: python benchmarks/biomarkers.py --cache FOLDER [--data FOLDER] [--part PART]
Parts: pictures (values, seconds, memory), truth (drawn shapes), counts (ends and junctions, step
by step), resolution (fewer pixels).

PVBM 3.0.1.8 and VascX 2.1.0 are installed into environments of their own in the cache folder,
from the package index that pip uses here; one that cannot be installed is said and left out.
Each toolbox measures each picture in a process of its own, one thread, one after another.
Seconds are CPU seconds of the measuring: imports and reading the masks are left out for all.
Memory is the highest resident size of the process: whole, with interpreter, imports and the
masks as read, and what the measuring added to that.

PVBM's set: geometry (8 values), fractals with 25 rotations (4), central retinal equivalents
(2), and the skeleton that it asks for, on one mask. Fovea's call gives these and everything
else that it measures on the mask, in the field and every zone. VascX measures arteries and
veins of a square of 1024 pixels, its documented input: other work, so it is not in the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from biomarker_peers import PEERS, environment, run_peer

from fovea_plugins.biomarkers.calibre import BIG_SIX, knudtson

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)

PARTS = ("all", "pictures", "truth", "counts", "resolution")

ROWS = (
    # name, what Fovea calls it, PVBM, VascX, whether VascX's is a length to bring back to pixels
    ("vessel area, px2", "vessel_area", "area", None),
    ("vessel length, px", "vessel_length", "length", None),
    ("tortuosity, whole tree", "tortuosity", "tortuosity_index", None),
    ("tortuosity, median", "tortuosity_median", "tortuosity_median", None),
    ("branching angle, median, deg", "branching_angle", "branching_angle", None),
    ("ends", "ends", "endpoints", None),
    ("bifurcations + crossings", "nodes", "intersections", None),
    ("D0", "fractal_dimension", "D0", None),
    ("D1", "information_dimension", "D1", None),
    ("D2", "correlation_dimension", "D2", None),
    ("D0, one grid, every box", "grid_d0", "D0_one_rotation", None),
    ("D1, one grid, every box", "grid_d1", "D1_one_rotation", None),
    ("D2, one grid, every box", "grid_d2", "D2_one_rotation", None),
    ("singularity length", "singularity_length", "singularity_length", None),
    ("CRAE Knudtson, px", "crae_px", "craek", "full_cre_arteries"),
    ("CRVE Knudtson, px", "crve_px", "crvek", "full_cre_veins"),
    ("CRAE Knudtson of PVBM's widths", "craek_same", "craek", None),
    ("CRVE Knudtson of PVBM's widths", "crvek_same", "crvek", None),
    ("AVR Knudtson", "avr", "avr_k", "avr"),
    ("CRAE Hubbard, um / px", "crae_hubbard", "craeh", None),
    ("CRVE Hubbard, um / px", "crve_hubbard", "crveh", None),
    ("AVR Hubbard", "avr_hubbard", "avr_h", None),
    ("arteries: tortuosity, median", "tortuosity_median_artery", None, "md_tort_dist_arteries"),
    ("veins: tortuosity, median", "tortuosity_median_vein", None, "md_tort_dist_veins"),
    ("arteries: width, median, px", "width_median_artery", None, "md_diam_arteries"),
    ("veins: width, median, px", "width_median_vein", None, "md_diam_veins"),
    ("arteries: branching angle", "branching_angle_artery", None, "bifangle_arteries"),
    ("veins: branching angle", "branching_angle_vein", None, "bifangle_veins"),
)


def fovea_apart(*folders: Path) -> list[dict[str, Any]]:
    """What `biomarker_own.py` finds in each folder, in one process of its own."""
    own = Path(__file__).with_name("biomarker_own.py")
    command = [sys.executable, str(own), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"fovea failed: {done.stderr.strip().splitlines()[-1]}")
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(folder: Path, peers: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """What each toolbox found in a folder; a failure is told and leaves it out."""
    found: dict[str, dict[str, Any]] = {}
    for name in ("fovea", *peers):
        try:
            (found[name],) = (
                fovea_apart(folder) if name == "fovea" else run_peer(name, peers[name], folder)
            )
        except RuntimeError as error:
            print(f"  {error}")
    for result in found.values():
        _add_ratios(result["values"])
    if {"fovea", "pvbm"} <= set(found):
        found["fovea"]["values"] |= same_widths(found["pvbm"]["values"])
    return found


def same_widths(theirs: Mapping[str, Any]) -> dict[str, float]:
    """Fovea's formula of Knudtson on the vessels and widths that PVBM found."""
    return {
        name: knudtson(widths[-BIG_SIX:], side)
        for side, name in (("artery", "craek_same"), ("vein", "crvek_same"))
        if (widths := theirs.get(f"widths_{side}"))
    }  # fmt: skip


def _add_ratios(values: dict[str, Any]) -> None:
    """CRAE over CRVE, where both are numbers: PVBM and VascX leave it to their users."""
    pairs = {"avr_k": ("craek", "crvek"), "avr_h": ("craeh", "crveh"),
             "avr": ("full_cre_arteries", "full_cre_veins")}  # fmt: skip
    for name, pair in pairs.items():
        artery, vein = (values.get(key) for key in pair)
        if isinstance(artery, float) and isinstance(vein, float) and min(artery, vein) > 0:
            values[name] = artery / vein


def print_speed(cases: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Seconds and memory, and PVBM's as multiples of Fovea's."""
    print("\nSpeed and memory: PVBM's set on the vessel mask\n")
    print(f"{'':26}{'CPU seconds':>26}{'MB added':>26}{'MB whole':>26}")
    print(" " * 26 + 3 * f"{'Fovea':>10}{'PVBM':>8}{'':>8}")
    for name, found in cases.items():
        if "fovea" not in found:
            continue
        own, theirs = found["fovea"], found.get("pvbm")
        seconds = own["seconds"]["all vessels"]
        added, peak = own["peak_mb"] - own["before_mb"], own["peak_mb"]
        if theirs:
            slower, larger = sum(theirs["seconds"].values()), theirs["peak_mb"]
            more = larger - theirs["before_mb"]
            line = f"{name:26}{seconds:10.2f}{slower:8.2f}{slower / seconds:7.1f}x"
            line += f"{added:10.1f}{more:8.1f}{added / more:8.3f}"
            line += f"{peak:10.1f}{larger:8.1f}{peak / larger:8.3f}"
        else:
            line = f"{name:26}{seconds:10.2f}{'':16}{added:10.1f}{'':16}{peak:10.1f}"
        print(line)
        whole = own["seconds"]["with arteries and veins"]
        text = f"  Fovea, {own['columns']} columns: {whole:.2f} s, {own['peak_whole_mb']:.0f} MB"
        if "vascx" in found:
            other = found["vascx"]
            text += (
                f"; VascX, {other['columns']} columns at 1024 px: "
                f"{other['seconds']['features']:.2f} s, {other['peak_mb']:.0f} MB"
            )
        print(text)
        if "pvbm" in found:
            steps = ", ".join(f"{k} {v:.2f} s" for k, v in found["pvbm"]["seconds"].items())
            print(f"  PVBM: {steps}")


def print_values(cases: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Values side by side, PVBM's and VascX's also as multiples of Fovea's."""
    for name, found in cases.items():
        print(f"\n{name}\n{'':32}{'Fovea':>11}{'PVBM':>11}{'/Fovea':>8}{'VascX':>11}{'/Fovea':>8}")
        own = found.get("fovea", {}).get("values", {})
        pvbm = found.get("pvbm", {}).get("values", {})
        vascx = found.get("vascx", {}).get("values", {})
        factor = found.get("vascx", {}).get("factor", 1.0)
        for words, mine, theirs, other in ROWS:
            if not any((mine in own, theirs in pvbm, other in vascx)):
                continue
            line = f"{words:32}{_shown(own.get(mine))}"
            for value in (pvbm.get(theirs), vascx.get(other)):
                if value is vascx.get(other) and isinstance(value, float) and words.endswith("px"):
                    value /= factor
                line += _shown(value) + _ratio(value, own.get(mine))
            print(line)
        counts = ", ".join(
            f"{side}s: Fovea {own.get(f'n_{side}', 0)}, PVBM {pvbm.get(f'n_{side}') or 0}"
            for side in ("artery", "vein") if f"n_{side}" in own
        ).replace("arterys", "arteries")  # fmt: skip
        if counts:
            print(f"Vessels found in zone B: {counts}")


def _shown(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:11.0f}" if abs(value) >= 1000 else f"{value:11.4g}"
    return f"{value[:10] if value else '-':>11}"


def _ratio(value: Any, own: Any) -> str:
    both = isinstance(value, int | float) and isinstance(own, int | float) and own
    return f"{value / own:8.3f}" if both else " " * 8


def main() -> None:
    """Install the peers, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="for environments and masks")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--part", choices=PARTS, default="all")
    given = parser.parse_args()
    os.environ.update(ONE_THREAD)
    given.cache.mkdir(parents=True, exist_ok=True)
    peers = {}
    for name in PEERS:
        try:
            peers[name] = environment(name, given.cache)
        except RuntimeError as error:
            print(error)
    if given.part in ("all", "truth"):
        from biomarker_truth import print_truth

        tools: dict[str, Any] = {"fovea": fovea_apart}
        tools |= {name: partial(run_peer, name, python) for name, python in peers.items()}
        print_truth(given.cache, tools)
    if given.part in ("all", "counts"):
        from biomarker_cases import Places, drive, hrf
        from biomarker_counts import print_counts

        cases, places = [], Places(given.cache)
        if (given.data / "DRIVE").is_dir():
            cases.append(drive(given.data, "01", places))
        if (given.data / "HRF").is_dir():
            cases.append(hrf(given.data, "01_h", places).shrunk(0.45))
        count = partial(run_peer, "pvbm-counts", peers["pvbm"]) if "pvbm" in peers else None
        print_counts(cases, given.cache, count)
    if given.part in ("all", "resolution") and (given.data / "HRF").is_dir():
        from biomarker_cases import Places, hrf
        from biomarker_truth import print_resolution

        places = Places(given.cache)
        pictures = [hrf(given.data, name, places) for name in ("01_h", "02_h", "03_h")]
        print_resolution(pictures, given.cache, peers, measured)
    if given.part in ("all", "pictures"):
        cases = {}
        for case in _pictures(given.data, given.cache):
            print(f"measuring {case.name} ...", file=sys.stderr)
            cases[case.name] = measured(case.write(given.cache / "masks" / case.name), peers)
        print_speed(cases)
        print_values(cases)


def _pictures(data: Path, cache: Path) -> list[Any]:
    from biomarker_cases import Case, Places, drive, hrf

    from fovea.samples import sample_photograph

    places = Places(cache)
    found = []
    if (data / "DRIVE").is_dir():
        small = drive(data, "01", places)
        found += [small, small.enlarged("DRIVE 01 at 2448 x 2368", (2448, 2368))]
    if (data / "HRF").is_dir():
        picture = hrf(data, "01_h", places)
        found += [picture, picture.enlarged("HRF 01_h at 2336 x 3504", (2336, 3504))]
    if not found:
        print(f"No DRIVE or HRF in {data.name}: the sample photograph only")
    photograph = sample_photograph(cache)
    masks = places.masks(photograph, "vessels", "arteries", "veins")
    renamed = {{"arteries": "artery", "veins": "vein"}.get(k, k): m for k, m in masks.items()}
    found.append(Case("sample", renamed, places.of("sample", photograph)))
    return found


if __name__ == "__main__":
    main()
