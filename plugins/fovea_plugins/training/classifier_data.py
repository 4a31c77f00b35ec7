"""Photographs with labels of disease, kept as small arrays so that an epoch reads no file.

Known tables: IDRiD grading (`dr_grade`, `dme_risk`) and ODIR-5K (eight letters per eye).
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from fovea.errors import UnreadableImage
from fovea.image import Mask, Photograph, find_field_of_view
from fovea_plugins.classifier.targets import CONDITIONS, GRADES, OEDEMA, TARGETS
from fovea_plugins.training.data import IMAGE_SUFFIXES, Bytes, Floats

KEPT_PX = 352
"""Field diameter at which photographs are kept."""

CALIBRATION_PARTS = 6
"""One patient in that many is kept from training, to calibrate on."""


@dataclass(frozen=True)
class Case:
    """One labelled photograph.

    Attributes:
        dataset: Name of the folder.
        name: Identity in the table.
        group: Patient, or photograph with all its duplicates: never split.
        use: `train`, `calibration` or `val`.
        path: The image file.
        targets: (14,) 0, 1 or NaN where the table says nothing, in the order of `TARGETS`.
        age: In years, or None.
        sex: `Female`, `Male` or None.
    """

    dataset: str
    name: str
    group: str
    use: str
    path: Path
    targets: tuple[float, ...]
    age: float | None = None
    sex: str | None = None

    @property
    def key(self) -> str:
        """Dataset and name."""
        return f"{self.dataset}/{self.name}"


def find_cases(root: Path) -> list[Case]:
    """Every labelled photograph in a data set, or in the data sets of a folder.

    Raises:
        UnreadableImage: no table with labels of disease below `root`.
    """
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    cases: list[Case] = []
    for folder in folders:
        table = folder / "labels.csv"
        if not (table.is_file() and (folder / "images").is_dir()):
            continue
        with table.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        columns = set(rows[0]) if rows else set()
        if {"id", "use", "dr_grade", "dme_risk"} <= columns:
            cases += [_idrid(folder, row) for row in rows]
        elif {"id", "use", "patient", *CONDITIONS} <= columns:
            cases += [_odir(folder, row) for row in rows]
    if not cases:
        raise UnreadableImage(
            "No photographs with labels of disease were found",
            where=root.name,
            why="Expected `labels.csv` with `dr_grade` and `dme_risk`, or with the eight letters "
            f"{' '.join(CONDITIONS)}, beside a folder `images`",
            fix="Name the folder of a data set, or the folder that holds them",
        )
    return cases


def _idrid(folder: Path, row: dict[str, str]) -> Case:
    grade, risk = int(row["dr_grade"]), int(row["dme_risk"])
    targets = [float(grade > k) for k in range(len(GRADES))]
    targets += [float(risk > k) for k in range(len(OEDEMA))]
    targets += [float("nan")] * len(CONDITIONS)
    # Copies of one photograph stand under several names, sometimes with other grades.
    group = min(row["id"], row.get("same_image_as") or row["id"])
    return _case(folder, row, group, targets)


def _odir(folder: Path, row: dict[str, str]) -> Case:
    letters = [float(row[letter]) for letter in CONDITIONS]
    said, diabetic = row.get("dr_grade_from_keywords", ""), row["D"] == "1"
    if said and (diabetic or float(said) == 0):
        grades = [float(float(said) > k) for k in range(len(GRADES))]
    elif diabetic:  # retinopathy of unknown grade
        grades = [1.0] + [float("nan")] * (len(GRADES) - 1)
    else:
        grades = [0.0] * len(GRADES)
    unknown = [float("nan")] * len(OEDEMA)
    return _case(folder, row, row["patient"], grades + unknown + letters)


def _case(folder: Path, row: dict[str, str], group: str, targets: Sequence[float]) -> Case:
    use = row["use"]
    digest = hashlib.sha256(f"{folder.name}/{group}".encode()).digest()
    if use == "train" and digest[0] % CALIBRATION_PARTS == 0:
        use = "calibration"
    names = (folder / "images" / f"{row['id']}{suffix}" for suffix in IMAGE_SUFFIXES)
    path = next((one for one in names if one.exists()), None)
    if path is None:
        raise UnreadableImage("A photograph of the table is missing", where=row["id"])
    age, sex = row.get("age") or None, row.get("sex") or None
    return Case(
        folder.name,
        row["id"],
        group,
        use,
        path,
        tuple(targets),
        float(age) if age and float(age) > 1 else None,  # ODIR writes 1 where it is unknown
        sex,
    )


def read_photograph(path: Path) -> Photograph:
    """A photograph of a trusted data set, decoded here and not in a process of its own."""
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"), np.uint8)
    except OSError as error:
        raise UnreadableImage("A photograph cannot be decoded", where=path.name) from error
    mask, circle = find_field_of_view(pixels)
    return Photograph(
        handle=path.stem,
        pixels=pixels,
        field_of_view=mask,
        field_circle=circle,
        sha256="",
        format=path.suffix,
        grey=False,
    )


@dataclass(frozen=True)
class Pictures:
    """Photographs at one size: pixels (N, S, S, 3) uint8 and field of view (N, S, S) bool."""

    pixels: Bytes
    inside: NDArray[np.bool_]


def load_pictures(cases: Sequence[Case]) -> Pictures:
    """The pictures of the cases, made on the first call and read from the cache afterwards."""
    from fovea_plugins.classifier.picture import square_view

    names = "".join(f"{case.path.resolve()}:{case.path.stat().st_size};" for case in cases)
    digest = hashlib.sha256(f"2;{KEPT_PX};{names}".encode()).hexdigest()[:16]
    folder = cache_folder()
    where = {kind: folder / f"classifier_{digest}_{kind}.npy" for kind in ("pixels", "inside")}
    if not all(path.exists() for path in where.values()):
        pixels = np.zeros((len(cases), KEPT_PX, KEPT_PX, 3), np.uint8)
        inside = np.zeros((len(cases), KEPT_PX, KEPT_PX), np.bool_)
        for index, case in enumerate(cases):
            pixels[index], inside[index] = square_view(read_photograph(case.path), KEPT_PX)
        for kind, values in (("pixels", pixels), ("inside", inside)):
            unfinished = where[kind].with_suffix(".part.npy")
            np.save(unfinished, values)
            unfinished.replace(where[kind])
    return Pictures(*(np.load(path, mmap_mode="r") for path in where.values()))


def cache_folder() -> Path:
    """Where derived arrays are kept: `$XDG_CACHE_HOME/fovea`, or `~/.cache/fovea`."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "fovea"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def targets_of(cases: Sequence[Case]) -> Floats:
    """(N, 14) float32, NaN where unknown."""
    return np.array([case.targets for case in cases], np.float32).reshape(-1, len(TARGETS))


def turned(pixels: Bytes, inside: Mask, matrix: Floats, size: int) -> tuple[Bytes, Mask]:
    """Pixels (S, S, 3) and field (S, S) through a 2x3 map from the new picture to the old."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(pixels, matrix, (size, size), flags=flags)
    field = cv2.warpAffine(inside.astype(np.uint8), matrix, (size, size), flags=flags)
    return np.asarray(moved, np.uint8), np.asarray(field) > 0
