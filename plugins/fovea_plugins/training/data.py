"""Readers of labelled photographs, brought to a common field diameter.

A data set is a folder with `images/`, one folder per kind of label, and a table
`splits.csv` or `labels.csv` with the columns `id` and `use` (train or val).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fovea.errors import UnreadableImage
from fovea.image import Frame, Mask, Photograph, open_photograph

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Entry:
    """One photograph of a data set on disk: where it is, and the side it is on."""

    dataset: str
    name: str
    use: str
    folder: Path

    def photograph(self) -> Photograph:
        """The opened photograph."""
        return open_photograph(_file(self.folder / "images", self.name))

    def label(self, kind: str) -> Bytes | None:
        """The label image (H, W) uint8 of that kind, or None when there is none."""
        folder = self.folder / kind
        path = _find(folder, self.name) if folder.is_dir() else None
        if path is None:
            return None
        try:
            with Image.open(path) as picture:  # Pillow keeps the indices of a palette image
                values = picture if picture.mode in ("P", "L") else picture.convert("L")
                return np.asarray(values, np.uint8)
        except OSError as error:
            raise UnreadableImage("A label image cannot be decoded", where=path.name) from error


@dataclass(frozen=True)
class Sample:
    """A photograph with its labels at the field diameter that a network trains on.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        inside: (H, W) bool, the field of view.
        target: (C, H, W) uint8, 0 to 255: the share of the pixel that is labelled.
        known: (C, H, W) uint8, 0 or 255: where the label can be trusted.
        step: Pixels of the training view per pixel of `pixels`: below 1 where the
            photograph is kept finer than the view, for zooming in.
    """

    dataset: str
    name: str
    pixels: Bytes
    inside: Mask
    target: Bytes
    known: Bytes
    step: float


def find_entries(root: Path, kinds: tuple[str, ...]) -> list[Entry]:
    """Every photograph below `root` in a data set that has labels of all these kinds.

    Args:
        root: A data set, or a folder of data sets.
        kinds: Folder names of the labels that must exist.

    Raises:
        UnreadableImage: no such data set, or a table without `id` and `use`.
    """
    candidates = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    found: list[Entry] = []
    for folder in candidates:
        if (folder / "images").is_dir() and all((folder / kind).is_dir() for kind in kinds):
            found += _entries_of(folder)
    if not found:
        raise UnreadableImage(
            "No labelled photographs were found",
            where=root.name,
            why=f"Expected `images` and {', '.join(f'`{kind}`' for kind in kinds)} in a folder",
            fix="Name the folder of a data set, or the folder that holds them",
        )
    return found


def _entries_of(folder: Path) -> list[Entry]:
    table = next((folder / n for n in ("splits.csv", "labels.csv") if (folder / n).exists()), None)
    if table is None:
        names = sorted(path.stem for path in (folder / "images").iterdir())
        return [Entry(folder.name, name, "val", folder) for name in names]
    with table.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or not {"id", "use"} <= rows[0].keys():
        raise UnreadableImage(
            "A table of photographs lacks the column `id` or `use`", where=table.name
        )
    return [Entry(folder.name, row["id"], row["use"], folder) for row in rows]


def _find(folder: Path, name: str) -> Path | None:
    paths = (folder / f"{name}{suffix}" for suffix in IMAGE_SUFFIXES)
    return next((path for path in paths if path.exists()), None)


def _file(folder: Path, name: str) -> Path:
    return _find(folder, name) or folder / f"{name}.png"


Labeller = Callable[[Entry], tuple[Floats, Floats]]
"""Gives target and known, each (C, H, W) float32 0..1, in the frame of the original."""


def load_sample(entry: Entry, field_diameter_px: int, *, zoom: float, label: Labeller) -> Sample:
    """The photograph at up to `zoom` times the field diameter, with its labels.

    Args:
        entry: What to read.
        field_diameter_px: Field diameter that the network sees.
        zoom: Keep up to this much finer pixels, where the photograph has them.
        label: Makes the labels.
    """
    photograph = entry.photograph()
    target, known = label(entry)
    native = 2.0 * photograph.field_circle.radius
    kept = round(float(np.clip(native, field_diameter_px, zoom * field_diameter_px)))
    view = photograph.view(kept)
    return Sample(
        entry.dataset,
        entry.name,
        view.pixels,
        view.field_of_view,
        _as_bytes([to_view(one, view.frame) for one in target]),
        _as_bytes([(to_view(one, view.frame) > 0.99).astype(np.float32) for one in known]),
        step=field_diameter_px / kept,
    )


def to_view(values: Floats, frame: Frame) -> Floats:
    """A map (H, W) of the original in the pixels of the view, as `Photograph.view` resamples."""
    x0, y0 = int(frame.left), int(frame.top)
    width, height = round(frame.width * frame.step), round(frame.height * frame.step)
    cut = values[y0 : y0 + height, x0 : x0 + width]
    # Area averages keep vessels that are thinner than a pixel of the view as part of it.
    how = cv2.INTER_AREA if frame.step > 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(cut, (frame.width, frame.height), interpolation=how), np.float32)


def _as_bytes(maps: list[Floats]) -> Bytes:
    return np.stack([np.round(np.clip(one, 0, 1) * 255) for one in maps]).astype(np.uint8)


def split_held_out(entries: list[Entry], every: int) -> tuple[list[Entry], list[Entry]]:
    """Entries to train on, and every n-th of each data set to choose the checkpoint by."""
    kept: list[Entry] = []
    held: list[Entry] = []
    for name in sorted({entry.dataset for entry in entries}):
        of_set = [entry for entry in entries if entry.dataset == name]
        held += of_set[every - 1 :: every]
        kept += [entry for index, entry in enumerate(of_set) if (index + 1) % every]
    return kept, held


def batches_of(rng: np.random.Generator, samples: list[Sample], size: int) -> Iterator[Sample]:
    """`size` samples, each data set as likely as any other, however large it is."""
    names = sorted({sample.dataset for sample in samples})
    groups: dict[str, list[Any]] = {
        name: [sample for sample in samples if sample.dataset == name] for name in names
    }
    for _ in range(size):
        group = groups[names[int(rng.integers(len(names)))]]
        yield group[int(rng.integers(len(group)))]
