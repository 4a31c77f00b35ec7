"""Whether a picture is a retinal photograph at all, and why not when it is not.

A linear model weighs what speaks for a retina (the network sees retina, disc and fovea;
the field ends in a round edge) against what lies beyond the range that retinas show
(colours, texture, lines). What weighs most is the reason given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from fovea.image import Photograph
from fovea_plugins.quality.examination import Examination
from fovea_plugins.quality.fitted import Linear, Ranges
from fovea_plugins.quality.maps import DISC, FOVEA

EVIDENCE = ("retina", "disc", "fovea", "edge", "corners")
APPEARANCE = ("red", "blue", "warm", "fine", "strong", "hard", "bright_lines", "line_share")
FUNDUS_FEATURES = (*EVIDENCE, *(f"beyond_{name}" for name in APPEARANCE))

MIN_STRUCTURE = 0.006
"""90th percentile of line contrast below which a picture is blank."""

REASONS = {
    ("retina", "disc", "fovea"): "No optic disc, fovea or retinal vessels can be made out in it.",
    ("edge", "corners"): "It has no round camera field, and too little of a retina is seen in it.",
    ("beyond_red", "beyond_blue", "beyond_warm"): "Its colours are not those of a retina.",
    tuple(f"beyond_{name}" for name in APPEARANCE[3:]): (
        "It has hard edges or texture that a retina does not have."
    ),
}


FEATURELESS = 0.0125
"""90th percentile of line contrast below which the round field of a camera shows nothing that
would tell a retina behind opaque media from anything else; all six of 889
training photographs that were refused lie below it."""

CAMERA_EDGE, CAMERA_WARM = 0.25, 0.95
"""Least share of the circle at which a camera's field visibly ends, and of warm colours in it;
all refused training photographs have more."""

NOTHING_SEEN = (
    "Nothing can be seen in the round field: opaque media, a failed flash or no eye before the "
    "camera."
)


@dataclass(frozen=True)
class Modality:
    """The verdict; `reason` is in plain words, also when it is a fundus photograph.

    Attributes:
        state: Whether it is a fundus photograph; `indeterminate` for the round field of a
            camera in which nothing can be seen.
        reason: Why.
        probability: Of a fundus photograph.
    """

    state: Literal["present", "absent", "indeterminate"]
    reason: str
    probability: float

    @property
    def fundus(self) -> bool:
        """Whether it may be judged as a fundus photograph."""
        return self.state == "present"


def measure_evidence(examined: Examination) -> dict[str, float]:
    """What speaks for a retina: log odds of the network, and the edge of the field."""
    maps = examined.seen.maps
    return {
        "retina": log_odds(examined.seen.retina),
        "disc": log_odds(float(maps[DISC].max(initial=0.0))),
        "fovea": log_odds(float(maps[FOVEA].max(initial=0.0))),
        "edge": _edge_share(examined.photograph),
        "corners": _dark_corners(examined.photograph) / 4.0,
    }


def measure_appearance(examined: Examination) -> dict[str, float | None]:
    """Colours and texture, as far as there are any: a grey picture has no colours."""
    view, lines = examined.view, examined.lines
    dark, bright = lines.dark[lines.inner], lines.bright[lines.inner]
    if not dark.size:
        return dict.fromkeys(APPEARANCE)
    fine, strong = (float(value) for value in np.percentile(dark, (50, 90)))
    found: dict[str, float | None] = {
        "fine": float(np.log(fine + 1e-3)),
        "strong": float(np.log(strong + 1e-3)),
        "hard": float(np.log((np.maximum(dark, bright) > 0.3).mean() + 1e-3)),
        "bright_lines": float(np.log((np.percentile(bright, 90) + 1e-3) / (strong + 1e-3))),
        "line_share": float(lines.vessels.mean()),
    }
    if examined.photograph.grey:
        return found | dict.fromkeys(("red", "blue", "warm"))
    colour = view.pixels[view.field_of_view].astype(np.float32)
    red, green, blue = colour.T
    total = colour.sum(axis=1) + 1
    return found | {
        "red": float(np.median(red / total)),
        "blue": float(np.median(blue / total)),
        "warm": float(((red >= green - 3) & (green >= blue - 12)).mean()),
    }


def fundus_features(examined: Examination, ranges: Ranges) -> dict[str, float]:
    """The features of the model, by `FUNDUS_FEATURES`."""
    return with_appearance(measure_evidence(examined), measure_appearance(examined), ranges)


def with_appearance(
    evidence: dict[str, float], appearance: dict[str, float | None], ranges: Ranges
) -> dict[str, float]:
    """Evidence, and how far the appearance lies outside of what retinas show."""
    beyond = ranges.beyond(appearance)
    return evidence | {f"beyond_{name}": value for name, value in beyond.items()}


def judge_modality(examined: Examination, model: Linear, ranges: Ranges) -> Modality:
    """Whether the opened picture is a retinal photograph."""
    inner = examined.lines.inner
    if not inner.any():
        return Modality("absent", "The picture has no area large enough to be a retina.", 0.0)
    features = fundus_features(examined, ranges)
    probability = float(model.probabilities(features)[0])
    contrast = float(np.percentile(examined.lines.dark[inner], 90))
    if contrast >= MIN_STRUCTURE and probability >= 0.5:
        return Modality("present", _why_fundus(examined), probability)
    if contrast < FEATURELESS and _by_a_camera(examined):
        return Modality("indeterminate", NOTHING_SEEN, probability)
    if contrast < MIN_STRUCTURE:
        return Modality("absent", "The picture is blank: it shows no structure.", 0.0)
    parts = model.parts(features)
    groups = {reason: sum(parts[name] for name in names) for names, reason in REASONS.items()}
    return Modality("absent", min(groups, key=lambda reason: groups[reason]), probability)


def _by_a_camera(examined: Examination) -> bool:
    """Whether the picture has the dark frame, round edge and warm light of a fundus camera."""
    evidence, appearance = measure_evidence(examined), measure_appearance(examined)
    warm = appearance["warm"]
    framed = evidence["corners"] == 1.0 and evidence["edge"] >= CAMERA_EDGE
    return framed and (warm is None or warm >= CAMERA_WARM)


def _why_fundus(examined: Examination) -> str:
    kind = "Grey picture" if examined.photograph.grey else "Picture"
    if examined.disc and examined.fovea and examined.fovea.seen:
        return f"{kind} of a retina with optic disc and fovea."
    if examined.disc:
        return f"{kind} of a retina with an optic disc."
    return f"{kind} with colours, field and smoothness of a retina; no optic disc was found."


def log_odds(probability: float) -> float:
    """Log odds, between -6 and 6."""
    inside = min(max(probability, 1e-9), 1.0 - 1e-9)
    return float(np.clip(np.log(inside / (1.0 - inside)), -6.0, 6.0))


def _edge_share(photograph: Photograph) -> float:
    """Share of the fitted circle (0 to 1) at which a field of view visibly ends."""
    circle = photograph.field_circle
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    centre = np.array([circle.x, circle.y])
    outer = np.rint(centre + direction * circle.radius * 1.04).astype(int)
    inner = np.rint(centre + direction * circle.radius * 0.95).astype(int)
    limit = np.array([photograph.width, photograph.height])
    usable = np.all((outer >= 0) & (outer < limit) & (inner >= 0) & (inner < limit), axis=1)
    outer, inner = outer[usable], inner[usable]
    mask, pixels = photograph.field_of_view, photograph.pixels
    crosses = ~mask[outer[:, 1], outer[:, 0]] & mask[inner[:, 1], inner[:, 0]]
    step = pixels[outer[:, 1], outer[:, 0]].mean(axis=1) - pixels[inner[:, 1], inner[:, 0]].mean(
        axis=1
    )
    return float((crosses & (np.abs(step) > 4)).sum() / len(angle))


def _dark_corners(photograph: Photograph) -> int:
    """Number of image corners (0 to 4) that are much darker than the middle."""
    small = cv2.resize(photograph.pixels, (64, 64), interpolation=cv2.INTER_AREA).mean(axis=2)
    middle = float(np.median(small[16:48, 16:48]))
    corners = (small[:3, :3], small[:3, -3:], small[-3:, :3], small[-3:, -3:])
    return sum(float(np.median(corner)) < 0.55 * middle for corner in corners)
