"""A picture of the photographs on which `segment_vessels` agrees least with the observer.

Run: python benchmarks/worst_vessels.py DATA FIGURES.json OUT.jpg [SET ...]

FIGURES.json comes from `fovea evaluate vessels --data DATA --json`. Of each: vessels found by
both (white), by the tool only (red), by the observer only (green). Photographs of data sets
are not shown, so that the picture can be given on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from fovea_plugins.segmenter.vessels.reading import VesselReader
from fovea_plugins.training.data import Entry, find_entries
from fovea_plugins.training.measure_vessels import shipped_weights

WORST, HEIGHT_PX = 3, 420


def row(reader: VesselReader, entry: Entry, dice: float) -> np.ndarray:
    """The agreement picture of a photograph."""
    photograph = entry.photograph()
    truth = entry.label("vessels") > 0
    found = reader.read(photograph).vessels
    agreement = np.zeros_like(photograph.pixels)
    agreement[found & truth] = (255, 255, 255)
    agreement[found & ~truth] = (255, 60, 60)
    agreement[~found & truth] = (60, 220, 60)
    size = (round(agreement.shape[1] * HEIGHT_PX / agreement.shape[0]), HEIGHT_PX)
    small = cv2.resize(agreement, size, interpolation=cv2.INTER_AREA)
    text = f"{entry.dataset} {entry.name}: Dice {dice:.2f}"
    cv2.putText(small, text, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (255, 255, 255), 1)
    return small


def main() -> None:
    """Writes the picture."""
    data, figures, out, *wanted = sys.argv[1:]
    sets = json.loads(Path(figures).read_text(encoding="utf-8"))["sets"]
    rows = [(r["dice"], n, r["name"]) for n in wanted or sets for r in sets[n]["each"]]
    worst = {(name, photo): dice for dice, name, photo in sorted(rows)[:WORST]}
    files = shipped_weights()
    reader = VesselReader.load(files["vessels"], files["artery_vein"])
    entries = {(e.dataset, e.name): e for e in find_entries(Path(data), ("vessels",))}
    pictures = [row(reader, entries[key], dice) for key, dice in worst.items()]
    width = max(picture.shape[1] for picture in pictures)
    padded = [cv2.copyMakeBorder(p, 2, 2, 0, width - p.shape[1], 0) for p in pictures]
    picture = cv2.cvtColor(np.vstack(padded), cv2.COLOR_RGB2BGR)
    cv2.imwrite(out, picture, [cv2.IMWRITE_JPEG_QUALITY, 80])


if __name__ == "__main__":
    main()
