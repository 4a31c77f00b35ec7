"""What the vessel measures are worth: repeatability, observers, and intervals.

Run: python benchmarks/biomarker_evidence.py {repeat|observers} --data ../shared/data

repeat     the whole chain of tools on DRIVE 01-20 and on two changed copies of each photograph
           (turned by 3 degrees and a fifth darker; 0.85 of the size as JPEG of quality 60); and
           how often the interval of the automatic value holds the observer's
observers  the outlines of two people of the same photographs (DRIVE 01-20, CHASE_DB1)
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from fovea.assistant import Assistant
from fovea.contract import Context, Result
from fovea.runner import finished
from fovea.session import Session
from fovea.settings import Settings
from fovea_plugins.biomarkers import Disc, Measure, VesselMeasures, measure
from fovea_plugins.biomarkers.headline import HEADLINE
from fovea_plugins.biomarkers.working import Working

NAMES = (
    *(key.column for key in HEADLINE), "crae_px", "crve_px", "width_mean", "squared_curvature",
    "tortuosity_density", "singularity_length", "asymmetry_ratio", "ends", "strahler_order",
)  # fmt: skip


class Chain:
    """The tools of an installation, on one photograph after the other."""

    def __init__(self, folder: Path) -> None:
        self.assistant = Assistant(Settings(data_dir=folder))

    def run(self, photograph: Path, *tools: str) -> tuple[Session, dict[str, Result]]:
        session = self.assistant.store.create()
        session.add_image(photograph)
        bench = self.assistant.workbench(session)
        for tool in tools:
            finished(bench.run(tool, {}, ("img1",)))
        found = {}
        for evidence in session.evidence.values():
            manifest = self.assistant.registry.manifest(evidence.tool)
            found |= {output.name: evidence.result for output in manifest.outputs}
        return session, found

    def measured(self, photograph: Path) -> tuple[Working, VesselMeasures]:
        """All vessel measures of a photograph, from its own outline."""
        session, found = self.run(photograph, "segment_vessels", "segment_optic_disc")
        context = Context((session.photograph("img1"),), session.work_dir(), found)
        mask = context.mask("vessels")
        if mask is None:
            raise RuntimeError(f"no vessels were outlined in {photograph.name}")
        working = Working.of(context, mask)
        return working, working.measured()


def read(path: Path) -> np.ndarray:
    """A mask as bool."""
    return np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) > 127


def changed(photograph: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Copies of a photograph as another exposure and head, or another camera file would be."""
    pixels = cv2.imread(str(photograph))
    height, width = pixels.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 3.0, 1.0)
    turned = cv2.warpAffine(pixels, turn, (width, height), flags=cv2.INTER_CUBIC)
    small = cv2.resize(pixels, None, fx=0.85, fy=0.85, interpolation=cv2.INTER_AREA)
    for name, ending, picture in (
        ("turned and darker", "png", np.round(turned * 0.8).astype(np.uint8)),
        ("smaller JPEG", "jpg", small),
    ):
        path = folder / f"{photograph.stem}_{name.split()[0]}.{ending}"
        quality = [cv2.IMWRITE_JPEG_QUALITY, 60] if ending == "jpg" else []
        cv2.imwrite(str(path), picture, quality)
        yield name, path


def print_pairs(title: str, pairs: Sequence[tuple[VesselMeasures, VesselMeasures]]) -> None:
    """Repeatability of each measure over pairs of the same eye."""
    print(f"\n{title}: {len(pairs)} pairs")
    print(f"{'measure':26s} {'pairs':>5s} {'mean':>9s} {'bias %':>7s} {'CV %':>6s} {'r':>6s}")
    for name in NAMES:
        values = np.array(
            [
                (one.value, two.value)
                for a, b in pairs
                if isinstance(one := a.values[name], Measure)
                and isinstance(two := b.values[name], Measure)
            ]
        )
        if len(values) < 5:
            print(f"{name:26s} {len(values):5d}")
            continue
        gap, mean = values[:, 1] - values[:, 0], values.mean()
        within = np.sqrt((gap**2).mean() / 2.0)
        r = np.corrcoef(values.T)[0, 1] if values.std() else float("nan")
        print(
            f"{name:26s} {len(values):5d} {mean:9.4g} {100 * gap.mean() / mean:7.1f} "
            f"{100 * within / mean:6.1f} {r:6.2f}"
        )


def repeat(data: Path, images: int) -> None:
    """Repeatability of the whole chain, and what the intervals hold."""
    pairs: dict[str, list[tuple[VesselMeasures, VesselMeasures]]] = {}
    held: dict[str, list[bool]] = {}
    with tempfile.TemporaryDirectory() as home:
        chain = Chain(Path(home) / "data")
        for number in range(1, images + 1):
            photograph = data / "DRIVE" / "images" / f"{number:02d}.png"
            working, own = chain.measured(photograph)
            for name, path in changed(photograph, Path(home)):
                pairs.setdefault(name, []).append((own, chain.measured(path)[1]))
            for name, inside in _held(working, own, data, number):
                held.setdefault(name, []).append(inside)
            print(f"{photograph.name} done", flush=True)
    for name, found in pairs.items():
        print_pairs(name, found)
    print_pairs("all changes", [pair for found in pairs.values() for pair in found])
    print("\nThe interval of the automatic value holds the observer's:")
    for name, inside in held.items():
        print(f"{name:26s} {sum(inside)}/{len(inside)}")


def _held(
    working: Working, own: VesselMeasures, data: Path, number: int
) -> Iterator[tuple[str, bool]]:
    """Whether the interval of each automatic value holds that of the first observer."""
    places = working.landmarks
    disc = Disc(*places.disc_xy, places.disc_diameter_px) if places.disc_xy else None
    observer = measure(
        read(data / "DRIVE" / "vessels" / f"{number:02d}.png"),
        disc=disc,
        fovea=places.fovea_xy,
        field=working.context.image.field_of_view,
        fovea_seen=places.fovea_seen,
    )
    for name in NAMES:
        found, truth = own.values[name], observer.values[name]
        if isinstance(found, Measure) and isinstance(truth, Measure) and found.interval:
            yield name, found.interval.low <= truth.value <= found.interval.high


def observers(data: Path) -> None:
    """Two people's outlines of the same photographs."""
    for folder in ("DRIVE", "CHASE_DB1"):
        pairs = []
        for second in sorted((data / folder / "vessels_obs2").glob("*.png")):
            field = read(data / folder / "fov" / second.name)
            first = read(data / folder / "vessels" / second.name)
            pairs.append((measure(first, field=field), measure(read(second), field=field)))
        print_pairs(f"{folder}, first against second observer", pairs)


def main() -> None:
    """Print one of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("repeat", "observers"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=20, help="photographs of `repeat`")
    given = parser.parse_args()
    if given.what == "repeat":
        repeat(given.data, given.images)
    else:
        observers(given.data)


if __name__ == "__main__":
    main()
