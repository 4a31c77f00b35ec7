"""What Fovea measures in folders of masks, as JSON: what a user of the library would run.

A process of its own that loads nothing else, so that memory is that of measuring. Folders are
those of `biomarker_peers.py`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from biomarker_memory import peak_mb

from fovea_plugins.biomarkers import Disc, measure
from fovea_plugins.biomarkers.fractal import grid_dimensions


def run_fovea(folder: Path) -> dict[str, Any]:
    """Fovea's set on all vessels, timed; the sides apart afterwards."""
    masks = {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))}
    place = json.loads((folder / "place.json").read_text())
    vessels, disc = masks["vessels"], None
    if place["disc"]:
        x, y, radius = place["disc"]
        disc = Disc(x, y, 2.0 * radius)
    warm_up = np.zeros((80, 80), bool)
    warm_up[38:43, 5:75] = True
    measure(warm_up)
    before, started = peak_mb(), time.process_time()
    measure(vessels, disc=disc)
    seconds = time.process_time() - started
    peak = peak_mb()
    started = time.process_time()
    found = measure(
        vessels, arteries=masks.get("artery"), veins=masks.get("vein"), disc=disc,
        fovea=tuple(place["fovea"]) if place["fovea"] else None,
    )  # fmt: skip
    whole = time.process_time() - started
    values: dict[str, Any] = {k: v for k, v in found.as_row().items() if v is not None}
    values["nodes"] = values.get("bifurcations", 0) + values.get("crossings", 0)
    inside = vessels.copy()
    if disc:
        down, across = np.ogrid[: vessels.shape[0], : vessels.shape[1]]
        inside &= np.hypot(across - round(x), down - round(y)) > round(radius)
    sides = np.linspace(5, int(0.6 * min(vessels.shape)), 20).astype(np.int64)
    grid = grid_dimensions(inside, sides)
    values |= dict(zip(("grid_d0", "grid_d1", "grid_d2"), grid, strict=True))
    used = {f"n_{side}": len(vessels) for side, vessels in found.vessels_used.items()}
    return {
        "values": values | used, "columns": len(found.as_row()),
        "seconds": {"all vessels": seconds, "with arteries and veins": whole},
        "peak_mb": peak, "before_mb": before, "peak_whole_mb": peak_mb(),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps([run_fovea(Path(folder)) for folder in sys.argv[1:]]))
