"""Whether a picture is a retinal photograph at all, and why not when it is not.

Rules on field, colour, texture and anatomy; every refusal names the rule that
fired. The limits enclose the photographs of the development data with a small
margin; they were set by looking at those and at 75 pictures that are no retina,
so the rates in MODEL_CARD.md are not held-out figures.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fovea.image import Photograph, View
from fovea_plugins.quality.landmarks import Disc
from fovea_plugins.quality.lines import LineMaps

MIN_STRUCTURE = 0.006
MAX_TEXTURE = 3.55
MAX_TEXTURE_CLEAR_DISC = 4.2
MAX_LINE_SHARE = 0.24
MIN_WARM_SHARE = 0.45
MIN_RED = 0.34
MAX_BLUE = 0.325
MIN_EDGE_SHARE = 0.12
MIN_EVIDENCE_UNSURE = 1.2e-3
MIN_EVIDENCE_CLEAR = 5e-3
MIN_EVIDENCE_CORNERS = 3e-4
MIN_EVIDENCE_FRAMELESS = 3e-3


@dataclass(frozen=True)
class Modality:
    """The verdict; `reason` is in plain words, also when it is a fundus photograph."""

    fundus: bool
    reason: str


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


def judge_modality(
    photograph: Photograph, view: View, *, lines: LineMaps, disc: Disc | None
) -> Modality:
    """Whether the opened picture is a retinal photograph."""
    if not lines.inner.any():
        return Modality(False, "The picture has no area large enough to be a retina.")
    dark = lines.dark[lines.inner]
    median, upper = (float(value) for value in np.percentile(dark, (50, 90)))
    hard = float((np.maximum(lines.dark, lines.bright)[lines.inner] > 0.3).mean())
    if upper < MIN_STRUCTURE:
        return Modality(False, "The picture is blank: it shows no structure.")
    # Each term is 1 at the 99th percentile of retinal photographs.
    texture = median / 0.033 + upper / 0.147 + hard / 0.035
    evidence = disc.evidence if disc else 0.0
    edge = _edge_share(photograph)
    # Sharp photographs of young eyes are rich in texture; their disc is beyond doubt.
    clear = edge >= MIN_EDGE_SHARE and evidence >= MIN_EVIDENCE_CLEAR
    limit = MAX_TEXTURE_CLEAR_DISC if clear else MAX_TEXTURE
    if texture > limit or float(lines.vessels.mean()) > MAX_LINE_SHARE:
        return Modality(False, "It has hard edges or texture that a retina does not have.")
    if photograph.grey:
        if edge < MIN_EDGE_SHARE and evidence < MIN_EVIDENCE_FRAMELESS:
            return Modality(
                False, "It is a grey picture without a round camera field and retinal vessels."
            )
        if evidence < MIN_EVIDENCE_UNSURE:
            return Modality(
                False, "It is a grey picture in which no vessels run out of an optic disc."
            )
        return Modality(True, "Grey (red-free) picture with vessels running out of an optic disc.")
    colour = view.pixels[view.field_of_view].astype(np.float32)
    red, green, blue = colour.T
    total = colour.sum(axis=1) + 1
    warm = float(((red >= green - 3) & (green >= blue - 12)).mean())
    cold = float(np.median(red / total)) < MIN_RED or float(np.median(blue / total)) > MAX_BLUE
    if warm < MIN_WARM_SHARE or cold:
        return Modality(False, "Its colours are not those of a retina.")
    corners = _dark_corners(photograph)
    # A round thing on white is more often a drawing than a retina: ask for anatomy.
    if edge >= MIN_EDGE_SHARE and (corners or evidence >= MIN_EVIDENCE_UNSURE):
        return Modality(True, "Round camera field with the colours and smoothness of a retina.")
    if corners >= 3 and evidence >= MIN_EVIDENCE_CORNERS:
        return Modality(True, "Cut camera field with vessels running out of an optic disc.")
    if evidence >= MIN_EVIDENCE_FRAMELESS:
        return Modality(True, "Frameless, but with vessels running out of an optic disc.")
    return Modality(
        False, "It has neither a round camera field nor vessels running out of an optic disc."
    )
