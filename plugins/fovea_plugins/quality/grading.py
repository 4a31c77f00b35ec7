"""How well vessels, disc and macula can be judged, as a score, three grades and reasons.

The grades good, usable and reject follow EyeQ (Fu et al. 2019, MICCAI): an ordinal
logistic model of measured features, see `training/quality.py` and MODEL_CARD.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fovea.image import Mask, View
from fovea_plugins.quality.examination import Examination
from fovea_plugins.quality.fitted import Linear
from fovea_plugins.quality.landmarks import Disc, Fovea
from fovea_plugins.quality.lines import BACKGROUND_SIGMA_PX, LineMaps, Map, erode, masked_blur
from fovea_plugins.quality.modality import log_odds

Grade = Literal["good", "usable", "reject"]

GRADES: tuple[Grade, Grade, Grade] = ("reject", "usable", "good")
GRADE_FEATURES = ("coverage", "contrast", "clarity", "light", "evenness", "retina")
"""All are higher in better pictures, and the model may only count them so. Disc and fovea are
not among them: a picture centred elsewhere is not a worse one."""

CELLS = 6
MIN_CELL_LINES = 0.03
DARK_LEVEL = 30.0
GLARE_LEVEL = 225.0
MIN_COVERAGE = 0.75
MIN_LINE_CONTRAST = 0.035
MIN_LIGHT = 12.0
"""Mean of the green channel below which lines are noise."""
CONTRAST_RANGE = (float(np.log(0.02)), float(np.log(0.30)))


@dataclass(frozen=True)
class Visibility:
    """How much is seen of the vessels, and by what light.

    Attributes:
        coverage: Share of a 6 x 6 raster in which vessels are seen.
        line_contrast: 95th percentile of dark line contrast.
        clarity: That percentile over the median, the level of noise and haze.
        light: Mean of the smoothed green channel, 0 to 255.
        dark_share, glare_share: Share of the field that is too dark or too bright.
    """

    coverage: float
    line_contrast: float
    clarity: float
    light: float
    dark_share: float
    glare_share: float

    @property
    def reason(self) -> str:
        """The weakest part, in plain words."""
        if self.dark_share > 0.2 or self.light < 30:
            return "too dark in a large part of the field"
        if self.glare_share > 0.1:
            return "overexposed in a large part of the field"
        if self.line_contrast < 2 * MIN_LINE_CONTRAST:
            return "out of focus or hazy: vessels have little contrast"
        if self.coverage < 0.9:
            return f"vessels are seen in only {self.coverage:.0%} of the field"
        return "vessels are seen across the field"


@dataclass(frozen=True)
class Quality:
    """The grade, its probability by the model, and the score: the mean grade, 0 to 1."""

    grade: Grade
    probability: float
    score: float


def grade_features(examined: Examination, visibility: Visibility) -> dict[str, float]:
    """The features of the model, by `GRADE_FEATURES`."""
    return {
        "coverage": _ramp(visibility.coverage, 0.4, 1.0),
        "contrast": _ramp(float(np.log(max(visibility.line_contrast, 1e-3))), *CONTRAST_RANGE),
        "clarity": _ramp(visibility.clarity, 3.0, 12.0),
        "light": _ramp(visibility.light, 10.0, 60.0),
        "evenness": 1.0 - min(visibility.dark_share + 2.0 * visibility.glare_share, 1.0),
        "retina": log_odds(examined.seen.retina),
    }


def grade_quality(features: dict[str, float], model: Linear) -> Quality:
    """The likeliest of the three grades, and the mean grade as a score."""
    usable, good = (float(value) for value in model.probabilities(features))
    chances = (1.0 - usable, usable - good, good)
    best = int(np.argmax(chances))
    return Quality(GRADES[best], chances[best], 0.5 * (usable + good))


@dataclass(frozen=True)
class Gradable:
    """Whether a structure can be judged. `state` is a finding state."""

    state: Literal["present", "absent", "not_assessable"]
    reason: str


def _ramp(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))


def measure_visibility(view: View, lines: LineMaps) -> Visibility:
    """The parts of the quality score of a view of `lines.FIELD_DIAMETER_PX`."""
    inside, inner = view.field_of_view, lines.inner
    green = masked_blur(view.pixels[..., 1], inside, BACKGROUND_SIGMA_PX)[inside]
    dark = lines.dark[inner]
    high, middle = (float(value) for value in np.percentile(dark, (95, 50)))
    return Visibility(
        coverage=_coverage(lines),
        line_contrast=high,
        clarity=high / max(middle, 1e-4),
        light=float(green.mean()),
        dark_share=float((green < DARK_LEVEL).mean()),
        glare_share=float((green > GLARE_LEVEL).mean()),
    )


def _coverage(lines: LineMaps) -> float:
    height, width = lines.inner.shape
    seen = []
    for row in range(CELLS):
        for column in range(CELLS):
            cell = (
                slice(row * height // CELLS, (row + 1) * height // CELLS),
                slice(column * width // CELLS, (column + 1) * width // CELLS),
            )
            if lines.inner[cell].mean() > 0.6:
                share = lines.vessels[cell].sum() / lines.inner[cell].sum()
                seen.append(share > MIN_CELL_LINES)
    return float(np.mean(seen)) if seen else 0.0


def grade_vessels(visibility: Visibility) -> Gradable:
    """Whether vessels can be judged over most of the field."""
    lit = visibility.light >= MIN_LIGHT
    contrast = visibility.line_contrast >= MIN_LINE_CONTRAST
    if lit and contrast and visibility.coverage >= MIN_COVERAGE:
        return Gradable("present", f"Vessels are seen in {visibility.coverage:.0%} of the field.")
    return Gradable("absent", f"The photograph is {visibility.reason}.")


def grade_disc(view: View, lines: LineMaps, disc: Disc | None) -> Gradable:
    """Whether the optic disc can be judged."""
    if disc is None:
        return Gradable("absent", "No optic disc was found in the field.")
    whole = _disc_shape(view, disc, 1.0)
    if _share_inside(view, disc) < 0.9:
        return Gradable("absent", "The optic disc is cut off by the edge of the field.")
    problem = _local_problem(view, lines, whole, _disc_shape(view, disc, 2.5))
    if problem:
        return Gradable("absent", f"The optic disc is {problem}.")
    return Gradable("present", "The optic disc is in the field, lit and in focus.")


def grade_macula(view: View, lines: LineMaps, fovea: Fovea | None) -> Gradable:
    """Whether the macula can be judged. Without a disc its place is unknown."""
    if fovea is None:
        return Gradable("absent", "The macula is not in the field, or its place is unknown.")
    spot = Disc(fovea.x, fovea.y, 28.0, 0.0)
    # The fovea itself has no vessels: focus is judged on those around it.
    problem = _local_problem(
        view, lines, _disc_shape(view, spot, 1.0), _disc_shape(view, spot, 3.0)
    )
    if problem:
        return Gradable("absent", f"The macula is {problem}.")
    return Gradable("present", "The macula is in the field, lit, with vessels seen around it.")


def _disc_shape(view: View, disc: Disc, factor: float) -> Mask:
    height, width = view.field_of_view.shape
    y, x = np.mgrid[:height, :width]
    return np.asarray(np.hypot(x - disc.x, y - disc.y) <= factor * disc.radius)


def _share_inside(view: View, disc: Disc) -> float:
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    x = np.rint(disc.x + disc.radius * np.cos(angle)).astype(int)
    y = np.rint(disc.y + disc.radius * np.sin(angle)).astype(int)
    inside = erode(view.field_of_view, 2)
    height, width = inside.shape
    ok = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return float(inside[y[ok], x[ok]].sum() / len(angle))


def _local_problem(view: View, lines: LineMaps, core: Mask, around: Mask) -> str:
    green: Map = view.pixels[..., 1].astype(np.float32)
    core = core & view.field_of_view
    light = float(green[core].mean()) if core.any() else 0.0
    red = float(view.pixels[..., 0][core].mean()) if core.any() else 0.0
    if max(light, 0.5 * red) < 18.0:
        return "too dark"
    if light > 245.0:
        return "overexposed"
    region = around & lines.inner
    strength = float(np.percentile(lines.dark[region], 95)) if region.any() else 0.0
    if strength < MIN_LINE_CONTRAST:
        return "out of focus or hazy"
    return ""
