"""Photographs with known disc and fovea, without, and pictures that are no retina."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from fovea.errors import ImageError, UnreadableImage
from fovea.image import Mask, Photograph, find_field_of_view
from fovea_plugins.training import data, drawn
from fovea_plugins.training.data import Bytes, Entry

log = logging.getLogger(__name__)

NOT_FUNDUS = ("NOT_FUNDUS", "OCT_samples")
"""Folders of pictures that are no retinal photographs."""

SEGMENTED_TWICE = "IDRiD_segmentation"
"""Most of its photographs are also in IDRiD_grading, on either side of the split: left out."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Truth:
    """What is known of a photograph; centres (x, y) in pixels of the original.

    Attributes:
        disc_diameter_px: From the outline where there is one, else a seventh of the field.
        eye: `OD` or `OS` by the data set, or None.
    """

    disc: Point | None = None
    fovea: Point | None = None
    disc_diameter_px: float | None = None
    eye: str | None = None


@dataclass(frozen=True)
class Scene:
    """A picture at a fixed field diameter; centres in its own pixels, None where unknown."""

    dataset: str
    name: str
    pixels: Bytes
    inside: Mask
    fundus: bool
    disc: Point | None = None
    fovea: Point | None = None
    eye: str | None = None


def fundus_entries(root: Path, use: str | None = None) -> list[Entry]:
    """Retinal photographs below `root`; with `use`, only that side of the split.

    Raises:
        UnreadableImage: there are none.
    """
    entries = data.find_entries(root, ())
    skipped = (*NOT_FUNDUS, SEGMENTED_TWICE)
    return [e for e in entries if e.dataset not in skipped and use in (None, e.use)]


def other_entries(root: Path, use: str | None = None) -> list[Entry]:
    """Pictures below `root` that are no retinal photographs, none where there is no such folder."""
    try:
        entries = data.find_entries(root, ())
    except UnreadableImage:
        return []
    return [e for e in entries if e.dataset in NOT_FUNDUS and use in (None, e.use)]


@cache
def _rows(folder: Path) -> dict[str, dict[str, str]]:
    table = next((folder / n for n in ("splits.csv", "labels.csv") if (folder / n).exists()), None)
    if table is None:
        return {}
    with table.open(newline="", encoding="utf-8") as lines:
        return {row["id"]: row for row in csv.DictReader(lines)}


def row_of(entry: Entry) -> dict[str, str]:
    """The line of a photograph in the table of its data set; empty when there is no table."""
    return _rows(entry.folder).get(entry.name, {})


def truth_of(entry: Entry) -> Truth:
    """Disc, fovea and eye of a photograph, as far as its data set tells."""
    row = row_of(entry)
    eye = {"l": "OS", "r": "OD"}.get(row.get("eye", "")[:1].lower())
    if row.get("od_x") and row.get("fovea_x"):
        disc = (float(row["od_x"]), float(row["od_y"]))
        fovea = (float(row["fovea_x"]), float(row["fovea_y"]))
        # The photographs of that set are upright.
        return Truth(disc, fovea, eye=eye or ("OD" if disc[0] > fovea[0] else "OS"))
    outline = entry.label("softmap_disc")
    if outline is None:
        return Truth(eye=eye)
    rows, columns = np.nonzero(outline > 127)
    diameter = 2.0 * float(np.sqrt(len(rows) / np.pi))
    return Truth((float(columns.mean()), float(rows.mean())), None, diameter, eye)


def read_scenes(entries: Iterable[Entry], field_px: int, *, fundus: bool) -> list[Scene]:
    """The pictures at that field diameter, with what is known of them; unreadable ones left out."""
    scenes = []
    for entry in entries:
        try:
            photograph = entry.photograph()
        except ImageError as error:
            log.info("left out: %s %s (%s)", entry.dataset, entry.name, error.what)
            continue
        scenes.append(scene_of(entry, photograph, field_px, fundus=fundus))
    return scenes


def scene_of(entry: Entry, photograph: Photograph, field_px: int, *, fundus: bool) -> Scene:
    """An opened picture at that field diameter, with what is known of it."""
    view = photograph.view(field_px)
    scene = Scene(entry.dataset, entry.name, view.pixels, view.field_of_view, fundus)
    if not fundus:
        return scene
    truth = truth_of(entry)

    def moved(point: Point | None) -> Point | None:
        if point is None:
            return None
        x, y = view.frame.to_view(np.array(point))
        return float(x), float(y)

    return replace(scene, disc=moved(truth.disc), fovea=moved(truth.fovea), eye=truth.eye)


def drawn_photograph(family: str, number: int) -> Photograph:
    """A drawn picture that is no retina, opened as if it were a photograph."""
    pixels = drawn.draw(family, number)
    mask, circle = find_field_of_view(pixels)
    grey = bool((pixels == pixels[..., :1]).all())
    name = f"{family}_{number}"
    return Photograph(name, pixels, mask, circle, sha256="", format="drawn", grey=grey)


def drawn_scene(family: str, number: int, field_px: int) -> Scene:
    """The same at that field diameter."""
    view = drawn_photograph(family, number).view(field_px)
    name = f"{family}_{number}"
    return Scene("drawn", name, view.pixels, view.field_of_view, fundus=False)
