"""The library alone: what it loads, and its own array work held against OpenCV's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from fovea_plugins import biomarkers
from fovea_plugins.biomarkers import Disc
from fovea_plugins.biomarkers.borders import borders
from fovea_plugins.biomarkers.depths import Depths
from fovea_plugins.biomarkers.disc import measure_disc
from fovea_plugins.biomarkers.fractal import integral
from fovea_plugins.biomarkers.placing import disc_circle
from fovea_plugins.biomarkers.profiles import Corners
from fovea_plugins.biomarkers.rectangle import smallest_rectangle
from fovea_plugins.biomarkers.sample import sample

MEASURE = """
import sys
import numpy as np
from fovea_plugins.biomarkers import Disc, measure

rows, columns = np.mgrid[:584, :565]
vessels = np.zeros((584, 565), bool)
for start in range(40, 580, 40):
    vessels |= np.abs(rows - start - 12 * np.sin(columns / 30)) < 3
    vessels |= np.abs(columns - start) < 2
assert vessels.sum() > 10_000  # the sandbox then takes a sample of the pixels
found = measure(vessels, disc=Disc(90.0, 260.0, 80.0), fovea=(290.0, 280.0))
assert found.value("fractal_dimension") and found.value("bifurcations")
print(*sorted({name.split(".")[0] for name in sys.modules} | set(sys.modules)))
"""

MEASURE_DISC = """
import sys
import numpy as np
from fovea_plugins.biomarkers.disc import measure_disc

rows, columns = np.mgrid[:200, :200]
disc = np.hypot(columns - 100, rows - 100) <= 60
assert measure_disc(disc, None, eye="OD", um_per_px=20.0).value("disc_area")
print(*sys.modules)
"""

ASSISTANT = {"pydantic", "fovea.contract", "fovea.image", "fovea.manifest", "fovea.settings"}

SHARES = (0.02, 0.2, 0.4, 0.6, 0.8, 0.97)


def measured_apart(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def noise(share: float, shape: tuple[int, int] = (41, 53)):
    mask = np.random.default_rng(int(share * 100)).random(shape) < share
    mask[3, 5] = True
    return mask


def turned(points):
    """A closed chain from its smallest point on."""
    start = min(range(len(points)), key=lambda k: points[k:] + points[:k])
    return tuple(points[start:] + points[:start])


def test_measuring_arrays_loads_nothing_of_the_assistant() -> None:
    loaded = set(measured_apart(MEASURE).split())
    unwanted = {
        "cv2", "scipy", "torch", "PIL", "skimage", "numpy.random",
        "fovea_plugins.biomarkers.plugin",
    }  # fmt: skip
    assert loaded & (unwanted | ASSISTANT) == set()


def test_measuring_a_disc_loads_nothing_of_the_assistant() -> None:
    assert set(measured_apart(MEASURE_DISC).split()) & ASSISTANT == set()


def test_vessels_and_disc_share_their_types() -> None:
    rows, columns = np.mgrid[:200, :200]
    disc = np.hypot(columns - 100, rows - 100) <= 60
    found = measure_disc(disc, None, eye="OD", um_per_px=20.0, scale_relative_sd=0.05)
    assert found.not_measured
    assert {type(gap) for gap in found.not_measured} == {biomarkers.NotMeasured}
    intervals = {type(item.interval) for item in found.measurements if item.unit == "um"}
    assert intervals == {biomarkers.Interval}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc here")
def test_measuring_a_small_mask_takes_little_memory() -> None:
    code = MEASURE + "\nprint(open('/proc/self/status').read())"
    (line,) = (part for part in measured_apart(code).splitlines() if part.startswith("VmHWM:"))
    # 40 MB where this was written, of which Python and NumPy are 25; OpenCV would add 16.
    assert int(line.split()[1]) / 1024 < 50


@pytest.mark.parametrize("share", SHARES)
def test_borders_are_those_of_opencv(share: float) -> None:
    mask = noise(share)
    found = borders(mask)
    pixels, first = found.rings
    width = mask.shape[1] + 2
    own = set()
    for hole, start, stop in zip(found.holes.tolist(), first[:-1], first[1:], strict=True):
        chain = [(int(p % width), int(p // width)) for p in pixels[start:stop]]
        own.add((turned(chain), hole))
    contours, parents = cv2.findContours(
        np.pad(mask, 1).view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    theirs = {
        (turned([(int(x), int(y)) for ((x, y),) in contour]), bool(parent[3] >= 0))
        for contour, parent in zip(contours, parents[0], strict=True)
    }
    assert own == theirs
    assert len(first) - 1 == len(contours)


def test_holes_are_filled_with_what_lies_in_them() -> None:
    mask = np.zeros((20, 30), bool)
    mask[2:12, 2:14] = True
    mask[4:10, 4:12] = False
    mask[6:8, 6:9] = True  # an island in the hole
    mask[2:8, 18:26] = True
    mask[4:6, 20:24] = False
    found = borders(mask)
    (large, small) = sorted(np.flatnonzero(found.holes), key=lambda k: -np.diff(found.first)[k])
    filled = found.filled(np.array([large]))[1:-1, 1:-1]
    assert filled[2:12, 2:14].all()
    assert filled.sum() == 120 + mask[:, 18:].sum()
    both = found.filled(np.array([large, small]))[1:-1, 1:-1]
    assert both.sum() == 120 + 48
    assert (found.padded[1:-1, 1:-1] == mask).all()


@pytest.mark.parametrize("share", [0.5, 0.97, 0.999])
def test_depths_are_those_of_opencv(share: float) -> None:
    padded = np.pad(noise(share, (90, 120)), 1)
    whole = cv2.distanceTransform(padded.view(np.uint8), cv2.DIST_L2, 5).ravel()
    asked = np.arange(padded.size)
    assert np.allclose(Depths(padded).at(asked), whole, rtol=0, atol=1e-5)


def test_a_vessel_longer_than_16_bits_count_keeps_its_depth() -> None:
    mask = np.zeros((132_000, 5), bool)  # in its middle both ends are further than 65535
    mask[1:-1, 1:-1] = True
    middle = np.zeros_like(mask)
    middle[2:-2, 2] = True
    assert set(Depths(mask).at(np.flatnonzero(middle)).tolist()) == {2.0}


@pytest.mark.parametrize("population", [10_001, 27_690, 500_000, 500_001, 3_000_000])
def test_the_sample_is_that_of_numpy(population: int) -> None:
    theirs = np.random.default_rng(0).choice(population, 10_000, replace=False)
    assert (sample(population, 10_000) == np.sort(theirs)).all()


def test_places_between_pixels_are_read_as_opencv_reads_them() -> None:
    mask = np.pad(noise(0.5), 1)
    random = np.random.default_rng(1)
    x = (random.random((300, 12)) * 65 - 5).astype(np.float32)
    y = (random.random((300, 12)) * 53 - 5).astype(np.float32)
    x[:5], y[5:9] = np.rint(x[:5]), np.rint(y[5:9])
    grey = mask.view(np.uint8) * np.uint8(255)
    theirs = cv2.remap(grey, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    own = Corners(mask)._between(x, y)
    assert np.abs(own.astype(int) - theirs.astype(int)).max() <= 1
    assert (own == theirs).mean() > 0.999


@pytest.mark.parametrize("seed", range(5))
def test_the_smallest_rectangle_is_that_of_opencv(seed: int) -> None:
    points = np.random.default_rng(seed).integers(0, 400, (60, 2))
    _, sizes, _ = cv2.minAreaRect(points.astype(np.float32))
    own = smallest_rectangle(points)
    assert np.prod([high - low for _, low, high in own]) == pytest.approx(np.prod(sizes), rel=1e-5)
    for axis, low, high in own:
        assert np.hypot(*axis) == pytest.approx(1.0)
        assert (points @ axis).min() == pytest.approx(low)
        assert (points @ axis).max() == pytest.approx(high)


def test_of_equal_rectangles_the_squarest_is_taken() -> None:
    # A right triangle fits into a square and, just as well, into one twice as long as high.
    corner = np.array([[0, 0], [100, 0], [0, 100]])
    assert sorted(high - low for _, low, high in smallest_rectangle(corner)) == [100.0, 100.0]


def test_a_line_has_a_rectangle_without_height() -> None:
    line = np.column_stack([np.arange(20), np.arange(20)])
    sizes = sorted(high - low for _, low, high in smallest_rectangle(line))
    assert sizes == pytest.approx([0.0, 19 * np.sqrt(2.0)], abs=1e-9)


def test_the_integral_is_that_of_opencv() -> None:
    mask = noise(0.4, (70, 33))
    assert (integral(mask) == cv2.integral(mask.view(np.uint8))).all()


@pytest.mark.parametrize(
    "disc", [Disc(30.2, 20.9, 22.0), Disc(-3.0, 5.0, 30.0), Disc(49.0, 70.0, 9.0)]
)
def test_the_disc_is_a_circle_wherever_it_lies(disc: Disc) -> None:
    rows, columns = np.mgrid[:40, :50]
    circle = (columns - disc.x) ** 2 + (rows - disc.y) ** 2 <= (disc.diameter_px / 2.0) ** 2
    assert (disc_circle((40, 50), disc) == circle).all()
