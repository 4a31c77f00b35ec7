"""`python -m fovea_plugins.training.picture_lesions --data DIR --out FILE`: the worst photographs.

Three photographs of the segmentation set with the lowest precision, each as the
network that did not learn from it reads it: marked lesions left, found ones right, without
the photograph itself, so that the picture can be given on.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from fovea_plugins.segmenter.lesions.operating_points import POINTS
from fovea_plugins.segmenter.lesions.reading import KINDS, Floats
from fovea_plugins.training import lesions, measure_lesions
from fovea_plugins.training.measure_lesions import Members
from fovea_plugins.training.metrics import PixelCounts

log = logging.getLogger(__name__)

SHOWN = 3
WIDTH_PX = 520
LARGEST_BYTES = 150_000
COLOURS = ((255, 0, 200), (0, 255, 255), (255, 255, 120), (120, 255, 120))
"""Of microaneurysms, haemorrhages, hard and soft exudates."""

Picture = NDArray[np.uint8]


def precision(maps: Floats, marked: NDArray[np.bool_]) -> float:
    """Mean AUPR of the kinds that a photograph has; both (kinds, h, w)."""
    found = []
    for probability, truth in zip(maps, marked, strict=True):
        counts = PixelCounts()
        counts.add(probability, truth)
        value = counts.average_precision()
        if value is not None:
            found.append(value)
    return float(np.mean(found)) if found else 1.0


def panel(field: NDArray[np.bool_], masks: NDArray[np.bool_], title: str) -> Picture:
    """Masks (kinds, h, w) in their colours on the field (h, w), made small."""
    drawn = np.zeros((*field.shape, 3), np.uint8)
    drawn[field] = 40
    for colour, mask in zip(COLOURS, masks, strict=True):
        contours, _ = cv2.findContours(
            mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        cv2.drawContours(drawn, contours, -1, colour, cv2.FILLED)
        cv2.drawContours(drawn, contours, -1, colour, 2)
    height = round(WIDTH_PX * drawn.shape[0] / drawn.shape[1])
    small = cv2.resize(drawn, (WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    cv2.putText(small, title, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1)
    return np.asarray(small, np.uint8)


def worst(root: Path, members: Members) -> Picture:
    """One row for each of the worst photographs."""
    rows: list[tuple[float, Picture]] = []
    for entry in lesions.find(root):
        reader = members.unseen(entry)
        if reader is None:
            continue
        sample = lesions.LesionTask.sample(entry, 1.0)
        maps, _ = reader.maps(entry.photograph())
        shape = (sample.pixels.shape[1], sample.pixels.shape[0])
        fitted = np.stack([cv2.resize(one, shape) for one in maps])
        marked = sample.target > 127
        score = precision(fitted, marked)
        log.info("%s %.3f", entry.name, score)
        found = np.stack(
            [m >= POINTS[name].cuts.counted for m, name in zip(fitted, KINDS, strict=True)]
        )
        row = np.hstack(
            [
                panel(sample.inside, marked, f"{entry.name}: marked by experts"),
                panel(sample.inside, found, f"found, mean AUPR {score:.2f}"),
            ]
        )
        rows = sorted([*rows, (score, row)], key=lambda pair: pair[0])[:SHOWN]
    return np.vstack([row for _, row in rows])


def main() -> None:
    """Reads the arguments; progress goes to stderr."""
    parser = argparse.ArgumentParser(prog="python -m fovea_plugins.training.picture_lesions")
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets")
    parser.add_argument("--out", type=Path, required=True, help="a JPEG file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    drawn = worst(given.data, Members.read(measure_lesions.shipped_weights()))
    for quality in range(90, 20, -5):
        _, content = cv2.imencode(".jpg", drawn[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        if len(content) <= LARGEST_BYTES:
            break
    given.out.write_bytes(content.tobytes())


if __name__ == "__main__":
    main()
