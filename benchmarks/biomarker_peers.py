"""PVBM and VascX, each in an environment of its own: what `biomarkers.py` compares with.

Imported, this makes the environments. Run by the Python of such an environment on a folder
of masks, it prints values, CPU seconds and peak memory as JSON; it then imports no Fovea.

A folder holds `vessels.npy`, perhaps `artery.npy` and `vein.npy`, and `place.json` with
`disc` (x, y, radius) and `fovea` (x, y), null where it is not known; in pixels. `fractals`
false there leaves PVBM's slowest step out, for shapes that are about something else.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from biomarker_memory import peak_mb


class Peer(NamedTuple):
    """What is installed: the packages themselves, and what they need to measure masks."""

    packages: tuple[str, ...]
    needs: tuple[str, ...]


# Without `--no-deps` both bring gigabytes for networks that are not used here.
PEERS = {
    "pvbm": Peer(
        ("pvbm==3.0.1.8",),
        ("numpy==2.4.6", "scipy==1.17.1", "scikit-image==0.26.0", "pillow<13",
         "opencv-python-headless==5.0.0.93"),
    ),
    "vascx": Peer(
        ("retinalysis-vascx==2.1.0", "retinalysis-enface==2.0.0"),
        ("numpy==2.4.6", "scipy==1.17.1", "scikit-image==0.26.0", "pillow<12",
         "opencv-python-headless<5", "pandas<3", "scikit-learn", "matplotlib", "joblib", "tqdm",
         "typing_extensions", "click", "sortedcontainers", "networkx", "numba"),
    ),
}  # fmt: skip

PVBM_ROTATIONS = 25
VASCX_SIDE = 1024
"""VascX documents square crops of this side as its input."""


def environment(name: str, cache: Path) -> Path:
    """The Python with the peer installed, made on first use.

    Raises:
        RuntimeError: it cannot be installed, and why.
    """
    folder = cache / name
    python = folder / "bin" / "python"
    done = folder / "installed"
    if done.exists():
        return python
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, "--no-deps", *PEERS[name].packages],
        [*pip, "--prefer-binary", *PEERS[name].needs],
    ):
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            said = (ran.stderr or ran.stdout).strip().splitlines()
            raise RuntimeError(f"`{name}` cannot be installed: {said[-1] if said else 'no reason'}")
    done.touch()
    return python


def run_peer(
    name: str, python: Path, *folders: Path, timeout_s: float = 7200.0
) -> list[dict[str, Any]]:
    """What the peer measured in folders of masks, all in one process.

    Raises:
        RuntimeError: the peer failed, with its last line.
    """
    command = [str(python), __file__, name, *map(str, folders)]
    try:
        ran = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"`{name}` took longer than {timeout_s:g} s") from error
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip().splitlines()
        raise RuntimeError(f"`{name}` failed: {said[-1] if said else ran.returncode}")
    found: list[dict[str, Any]] = json.loads(ran.stdout.splitlines()[-1])
    return found


class Stopwatch:
    """CPU seconds of named steps; a step that fails leaves its reason."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.values: dict[str, Any] = {}

    def run(self, step: str, work: Callable[[], dict[str, Any]], *names: str) -> None:
        started = time.process_time()
        try:
            self.values |= work()
        except Exception as error:  # noqa: BLE001 - a failure of a peer is a result
            reason = f"{type(error).__name__}: {str(error)[:60]}".rstrip(": ")
            self.values |= dict.fromkeys(names, reason)
        self.seconds[step] = time.process_time() - started


def circle(shape: tuple[int, int], x: float, y: float, radius: float) -> Any:
    """A filled circle (H, W)."""
    down, across = np.ogrid[: shape[0], : shape[1]]
    return (across - x) ** 2 + (down - y) ** 2 <= radius**2


def read_mask(path: Path) -> Any:
    """A mask (H, W) of 0 and 1 as float64, None where there is no file."""
    return np.load(path) * 1.0 if path.exists() else None


# PVBM


def run_pvbm(folder: Path) -> dict[str, Any]:
    """The set that PVBM 3 offers, on all vessels; CRAE and CRVE where sides are known.

    Used as its README says, except that the region is the whole picture and not a circle of
    600 pixels, and that the recursion limit is raised, without which it fails. Its circles round
    the disc are drawn here: its own `DiscSegmenter` would load OpenCV and a network.
    """
    from PVBM.CentralRetinalAnalysis import CREVBMs
    from PVBM.FractalAnalysis import MultifractalVBMs
    from PVBM.GeometryAnalysis import GeometricalVBMs
    from skimage.morphology import skeletonize

    sys.setrecursionlimit(1_000_000)
    vessels = read_mask(folder / "vessels.npy")
    place = json.loads((folder / "place.json").read_text())
    x, y, radius = (round(part) for part in place["disc"])
    zones = np.zeros((*vessels.shape, 3), np.uint8)
    for times, channel in ((1, 1), (2, 0), (3, 2)):
        zones[:, :, channel] = 255 * circle(vessels.shape, x, y, radius * times)
    roi = np.full_like(zones, 255)
    watch, before = Stopwatch(), peak_mb()
    kept: dict[str, Any] = {}

    def skeleton() -> dict[str, Any]:
        kept["skeleton"] = skeletonize(vessels) * 1
        return {}

    def geometry() -> dict[str, Any]:
        tool = GeometricalVBMs()
        kept["in_roi"], bones = tool.apply_roi(vessels, kept["skeleton"], zones, roi)
        found, _ = tool.compute_geomVBMs(kept["in_roi"], bones, x, y, radius)
        return dict(zip(GEOMETRY, map(float, found), strict=True))

    def fractals(*, least: float = 0.0001, most: float = 0.9999, **how: Any) -> dict[str, float]:
        tool = MultifractalVBMs(min_proba=least, maxproba=most, **how)
        found = tool.compute_multifractals(kept["in_roi"].copy())
        return dict(zip(FRACTALS, map(float, found), strict=True))

    def equivalents(mask: Any, bones: Any, *, artery: bool) -> dict[str, Any]:
        tool = CREVBMs()
        inside, inner = tool.apply_roi(mask, bones, zones)
        found, vessels_found = tool.compute_central_retinal_equivalents(
            inside, inner, x, y, radius, artery=artery
        )
        widths = [float(vessel["Mean diameter"]) for vessel in vessels_found or ()]
        return {**found, "widths": sorted(widths)}

    watch.run("skeleton", skeleton)
    watch.run("geometry", geometry, *GEOMETRY)
    if place.get("fractals", True):
        watch.run(
            "fractals", lambda: fractals(n_rotations=PVBM_ROTATIONS, optimize=True), *FRACTALS
        )
    # Timed on all vessels; the value means something for arteries and for veins only.
    timed = Stopwatch()
    timed.run("cre", lambda: equivalents(vessels, kept["skeleton"], artery=True))
    peak = peak_mb()
    single = Stopwatch()
    if place.get("fractals", True):
        single.run(
            "", lambda: fractals(least=0.0, most=1.0, n_rotations=1, optimize=False), *FRACTALS
        )
    for side, names in (("artery", ("craek", "craeh")), ("vein", ("crvek", "crveh"))):
        mask = read_mask(folder / f"{side}.npy")
        if mask is not None:
            bones = skeletonize(mask) * 1
            apart = Stopwatch()
            apart.run(
                "",
                lambda mask=mask, bones=bones, side=side: equivalents(
                    mask, bones, artery=side == "artery"
                ),
                *names,
            )
            watch.values |= {key: apart.values[key] for key in names}
            widths = apart.values.get("widths", [])
            watch.values |= {f"n_{side}": len(widths), f"widths_{side}": widths}
    return {
        "values": watch.values | {f"{n}_one_rotation": v for n, v in single.values.items()},
        "seconds": watch.seconds | timed.seconds,
        "peak_mb": peak, "before_mb": before,
    }  # fmt: skip


def run_pvbm_counts(folder: Path) -> dict[str, Any]:
    """PVBM's ends, starts included, and intersections.

    On `vessels.npy` as PVBM is used; on `lines.npy` on these lines, of which all trees count.
    """
    from PVBM.GeometryAnalysis import GeometricalVBMs
    from skimage.morphology import skeletonize

    sys.setrecursionlimit(10_000_000)
    x, y, radius = (round(p) for p in json.loads((folder / "place.json").read_text())["disc"])
    vessels, lines = read_mask(folder / "vessels.npy"), read_mask(folder / "lines.npy")
    if lines is None:
        down, across = np.ogrid[: vessels.shape[0], : vessels.shape[1]]
        lines = skeletonize(vessels) * (np.hypot(across - x, down - y) > radius)
    else:
        radius = max(lines.shape)
    found, _ = GeometricalVBMs().compute_geomVBMs(lines, lines.copy(), x, y, radius)
    values = dict(zip(GEOMETRY, map(float, found), strict=True))
    return {
        "ends": values["endpoints"] + values["startpoints"],
        "nodes": values["intersections"],
    }


GEOMETRY = ("area", "tortuosity_index", "tortuosity_median", "length", "branching_angle",
            "startpoints", "endpoints", "intersections")  # fmt: skip
FRACTALS = ("D0", "D1", "D2", "singularity_length")


# VascX


def run_vascx(folder: Path) -> dict[str, Any]:
    """The recommended set of VascX (`full_v3`), on a square of 1024 pixels as it documents."""
    import cv2
    from vascx.fundus.feature_sets import full_v3  # noqa: F401 - registers the set by its name
    from vascx.fundus.layer import VesselTreeLayer
    from vascx.fundus.retina import Retina
    from vascx.fundus.vessels_layer import FundusVesselsLayer
    from vascx.shared.features import FeatureSet

    place = json.loads((folder / "place.json").read_text())
    vessels = read_mask(folder / "vessels.npy")
    height, width = vessels.shape
    side = max(height, width)
    factor = VASCX_SIDE / side
    shift = np.array([(side - width) // 2, (side - height) // 2])

    def square(mask: Any) -> Any:
        padded = np.zeros((side, side), np.uint8)
        padded[shift[1] : shift[1] + height, shift[0] : shift[0] + width] = mask
        size = (VASCX_SIDE, VASCX_SIDE)
        return cv2.resize(padded, size, interpolation=cv2.INTER_NEAREST).astype(bool)

    def moved(point: Any) -> Any:
        return tuple(((np.array(point) + shift) * factor).tolist())

    layers: dict[str, Any] = {"vessels": FundusVesselsLayer("vessels", square(vessels))}
    for name, layer in (("artery", "arteries"), ("vein", "veins")):
        mask = read_mask(folder / f"{name}.npy")
        if mask is not None:
            layers[layer] = VesselTreeLayer(layer, square(mask))
    x, y, radius = place["disc"]
    disc = np.zeros((height, width), np.uint8)
    cv2.circle(disc, (round(x), round(y)), round(radius), 1, -1)
    watch, before = Stopwatch(), peak_mb()

    def features() -> dict[str, Any]:
        retina = Retina(
            disc_path_or_mask=square(disc).astype(np.uint8), layers=layers,
            fovea_location=moved(place["fovea"]) if place["fovea"] else None,
        )  # fmt: skip
        found = retina.calc_features(FeatureSet.get_by_name("full_v3"))
        return {name: None if value is None else float(value) for name, value in found.items()}

    # The first call compiles; the second one is what a batch costs.
    watch.run("first", features)
    watch.run("features", features)
    values = {k: v if np.isfinite(v) else "nan" for k, v in watch.values.items() if v is not None}
    return {
        "values": values, "columns": len(watch.values), "factor": factor,
        "seconds": {"features": watch.seconds["features"]},
        "peak_mb": peak_mb(), "before_mb": before,
    }  # fmt: skip


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    runner = {
        "pvbm": run_pvbm, "pvbm-counts": run_pvbm_counts, "vascx": run_vascx,
    }[sys.argv[1]]  # fmt: skip
    print(json.dumps([runner(Path(folder)) for folder in sys.argv[2:]]))
