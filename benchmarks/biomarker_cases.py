"""The masks that the biomarker benchmarks measure, and where disc and fovea lie in them.

Masks are observers' outlines of DRIVE and HRF, and for the sample photograph Fovea's own.
Disc and fovea come from Fovea's tools on the photograph, the same for every toolbox; they
are kept in the cache folder, because finding them takes longer than all measuring.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Bools = NDArray[np.bool_]

TOOLS = ("assess_quality", "segment_optic_disc")


@dataclass(frozen=True)
class Place:
    """Disc centre and radius, and fovea, in pixels of the photograph; None: not found."""

    disc: tuple[float, float, float] | None
    fovea: tuple[float, float] | None

    def scaled(self, factor: float) -> Place:
        """The same places in a picture of another size."""
        disc, fovea = self.disc, self.fovea
        return Place(
            (disc[0] * factor, disc[1] * factor, disc[2] * factor) if disc else None,
            (fovea[0] * factor, fovea[1] * factor) if fovea else None,
        )


@dataclass(frozen=True)
class Case:
    """Masks (H, W) of one picture by `vessels`, `artery` and `vein`, and its landmarks."""

    name: str
    masks: dict[str, Bools]
    place: Place

    def enlarged(self, name: str, shape: tuple[int, int]) -> Case:
        """The same picture at another size, pixels repeated, as PVBM's speed was stated."""
        height, width = next(iter(self.masks.values())).shape
        factor = shape[0] / height
        rows = np.minimum((np.arange(shape[0]) * height) // shape[0], height - 1)
        columns = np.minimum((np.arange(shape[1]) * width) // shape[1], width - 1)
        masks = {key: mask[np.ix_(rows, columns)] for key, mask in self.masks.items()}
        return Case(name, masks, self.place.scaled(factor))

    def shrunk(self, factor: float) -> Case:
        """The same outlines with fewer pixels: those of which half or more is inside."""
        height, width = next(iter(self.masks.values())).shape
        size = (round(width * factor), round(height * factor))
        masks = {
            key: cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) >= 0.5
            for key, mask in self.masks.items()
        }
        return Case(self.name, masks, self.place.scaled(factor))

    def write(self, folder: Path, *, fractals: bool = True) -> Path:
        """The folder that `biomarker_peers.py` reads; PVBM measures fractals or not."""
        folder.mkdir(parents=True, exist_ok=True)
        for key, mask in self.masks.items():
            np.save(folder / f"{key}.npy", mask)
        content = {"disc": self.place.disc, "fovea": self.place.fovea, "fractals": fractals}
        (folder / "place.json").write_text(json.dumps(content))
        return folder


class Places:
    """Finds disc and fovea once for each photograph."""

    def __init__(self, cache: Path) -> None:
        self._file = cache / "places.json"
        self._known: dict[str, Any] = (
            json.loads(self._file.read_text()) if self._file.exists() else {}
        )
        # The measuring itself needs no assistant: its memory is not to count.
        from fovea.assistant import Assistant
        from fovea.settings import Settings

        # A busy machine must not change what is found.
        settings = Settings(data_dir=cache / "fovea", plugin_timeout_s=3600.0)
        self._assistant = Assistant(settings)

    def of(self, name: str, photograph: Path) -> Place:
        """Where they are, from the tools of this version.

        Raises:
            RuntimeError: a tool refuses the photograph, and why.
        """
        versions = [self._assistant.registry.manifest(tool).version for tool in TOOLS]
        key = f"{name} {' '.join(versions)}"
        if key not in self._known:
            self._known[key] = self._find(photograph)
            self._file.write_text(json.dumps(self._known, indent=1))
        disc, fovea = self._known[key]["disc"], self._known[key]["fovea"]
        return Place(tuple(disc) if disc else None, tuple(fovea) if fovea else None)

    def masks(self, photograph: Path, *names: str) -> dict[str, Bools]:
        """Masks that Fovea's vessel tool draws."""
        from fovea.contract import read_mask

        analysis = self._assistant.analyse(photograph, only=["segment_vessels"])
        found = {a.name: a for e in analysis.evidence.values() for a in e.result.artifacts}
        try:
            return {name: read_mask(found[name].path) for name in names if name in found}
        finally:
            self._assistant.store.delete(analysis.session.id)

    def _find(self, photograph: Path) -> dict[str, Any]:
        from fovea.contract import read_mask

        analysis = self._assistant.analyse(photograph, only=TOOLS)
        if analysis.refused:
            self._assistant.store.delete(analysis.session.id)
            raise RuntimeError(" ".join(map(str, analysis.refused.values())))
        results = [evidence.result for evidence in analysis.evidence.values()]
        points = {m.name: m.value for result in results for m in result.measurements}
        masks = {a.name: a.path for result in results for a in result.artifacts}
        disc = None
        if "optic_disc" in masks and (mask := read_mask(masks["optic_disc"])).any():
            rows, columns = np.nonzero(mask)
            size = (np.ptp(rows) + np.ptp(columns) + 2) / 4.0
            disc = [float(columns.mean()), float(rows.mean()), float(size)]
        self._assistant.store.delete(analysis.session.id)
        known = "fovea_x" in points and "fovea_y" in points
        return {"disc": disc, "fovea": [points["fovea_x"], points["fovea_y"]] if known else None}


def sides(path: Path) -> dict[str, Bools]:
    """Artery and vein masks of an index picture: 1 artery, 2 vein, 3 crossing, 4 unknown."""
    index = np.asarray(Image.open(path))
    return {"artery": (index == 1) | (index == 3), "vein": (index == 2) | (index == 3)}


def drive(data: Path, number: str, places: Places) -> Case:
    """A picture of DRIVE with the vessels of observer 1, whose sides are not labelled."""
    folder = data / "DRIVE"
    mask = np.asarray(Image.open(folder / "vessels" / f"{number}.png").convert("L")) > 127
    place = places.of(f"DRIVE {number}", _photograph(folder, number))
    return Case(f"DRIVE {number}", {"vessels": mask}, place)


def hrf(data: Path, name: str, places: Places) -> Case:
    """A picture of HRF with vessels, arteries and veins."""
    folder = data / "HRF"
    mask = np.asarray(Image.open(folder / "vessels" / f"{name}.png").convert("L")) > 127
    masks = {"vessels": mask, **sides(folder / "av" / f"{name}.png")}
    return Case(f"HRF {name}", masks, places.of(f"HRF {name}", _photograph(folder, name)))


def field_of_view(data: Path, name: str) -> Bools:
    """The field of view of a picture of HRF (H, W)."""
    (path,) = (data / "HRF" / "fov").glob(f"{name}.*")
    return np.asarray(Image.open(path).convert("L")) > 127


def _photograph(folder: Path, name: str) -> Path:
    (path,) = (folder / "images").glob(f"{name}.*")
    return path
