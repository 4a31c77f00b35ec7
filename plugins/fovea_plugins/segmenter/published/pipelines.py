"""From a photograph to maps of vessel, artery and vein, prepared as the authors prepare it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from fovea.image import Mask, Photograph, Pixels
from fovea_plugins.segmenter.published.catalogue import Variant
from fovea_plugins.segmenter.published.rrwnet import MULTIPLE, REFINEMENTS, RRWNet

Floats = NDArray[np.float32]
Step = Callable[[str], None]

MIRRORS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))

BORDER = 0.03
"""RRWNet: dark border around the field, as a share of its diameter; DRIVE has 0.02 to 0.04."""
RIM = 0.011
"""RRWNet: share of its diameter by which the field is narrowed before anything else.

The field that Fovea finds takes in the dark rim; on DRIVE, where the authors had masks
drawn by hand, that rim alone would set the darkest value of the stretched picture.
"""
ZOOM = 1.15
WEAR_RADIUS_PX = 5
BACKGROUND_SIGMA_PX = 10.0
"""RRWNet: enlargement that fills the border, wear of the field, and blur of its background."""


@dataclass(frozen=True)
class Found:
    """What a network found, in the frame of the original; all (H, W).

    Attributes:
        probability: Of vessel, 0 to 1.
        masks: `vessels`, and `arteries` and `veins` from a network that tells them apart.
    """

    probability: Floats
    masks: dict[str, Mask]


def find_vessels(network: nn.Module, variant: Variant, photograph: Photograph, step: Step) -> Found:
    """Vessels of a photograph by a published network.

    Args:
        network: From `reading.read_network`, of this variant.
        variant: Which weights they are.
        photograph: The photograph.
        step: Called between parts of the work with what is done next; may raise to stop.
    """
    if isinstance(network, RRWNet):
        return _by_rrwnet(network, variant, photograph, step)
    return _by_wnet(network, variant, photograph, step)


def _by_wnet(network: nn.Module, variant: Variant, photograph: Photograph, step: Step) -> Found:
    """The box around the field as a square, mirrored four ways, enlarged back (Galdran 2022)."""
    inside = photograph.field_of_view
    rows, columns = np.nonzero(inside)
    box = (slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
    side = variant.size_px
    square = Image.fromarray(photograph.pixels[box]).resize((side, side), Image.Resampling.BILINEAR)
    picture = _tensor(np.asarray(square, np.float32) / 255.0)
    views: list[Floats] = []
    for number, axes in enumerate(MIRRORS, 1):
        step(f"{variant.network.title}: view {number} of {len(MIRRORS)}")
        with torch.inference_mode():
            logits = network(picture.flip(axes)).flip(axes)
            shares = torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, 1)
        views.append(shares[0].numpy())
    mean = np.mean(views, axis=0)
    maps = np.zeros((len(mean), *inside.shape), np.float32)
    for own, small in zip(maps, mean, strict=True):
        height, width = own[box].shape
        how = cv2.INTER_CUBIC if min(height, width) >= side else cv2.INTER_AREA
        own[box] = np.clip(cv2.resize(small, (width, height), interpolation=how), 0.0, 1.0)
        own[~inside] = 0.0
    if variant.threshold is not None:
        return Found(maps[0], {"vessels": maps[0] > variant.threshold})
    none, unsure, artery, vein = maps
    artery, vein = artery + unsure / 2, vein + unsure / 2
    vessels = inside & (np.maximum(artery, vein) > none)
    masks = {"vessels": vessels, "arteries": vessels & (artery >= vein)}
    return Found(artery + vein, {**masks, "veins": vessels & (vein > artery)})


def _by_rrwnet(network: RRWNet, variant: Variant, photograph: Photograph, step: Step) -> Found:
    """The field at its trained size, freed of its background, seven passes (Morano 2024)."""
    view = photograph.view(variant.size_px)
    border = round(BORDER * variant.size_px)
    pixels = cv2.copyMakeBorder(view.pixels, *(border,) * 4, cv2.BORDER_CONSTANT)
    field = _narrowed(np.pad(view.field_of_view, border), round(RIM * variant.size_px))
    worn, enhanced = enhance(np.asarray(pixels, np.uint8), field)
    height, width = worn.shape
    filled = [(0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0)]
    picture = _tensor(np.pad(enhanced, filled))
    with torch.inference_mode():
        step(_pass(variant, 1))
        found = network.first(picture)
        for number in range(REFINEMENTS):
            step(_pass(variant, 2 + number))
            found = network.refine(found)
    small = found[0, :, :height, :width].numpy() * worn
    cut = small[:, border : height - border, border : width - border]
    maps = [view.frame.map_to_original(one) for one in cut]
    inside = photograph.field_of_view
    artery, vein, vessel = (inside & (one >= 0.5) for one in maps)
    return Found(maps[2] * inside, {"vessels": vessel, "arteries": artery, "veins": vein})


def _pass(variant: Variant, number: int) -> str:
    network, passes = variant.network, REFINEMENTS + 1
    return f"{network.title} ({network.size}, {variant.cost}): pass {number} of {passes}"


def enhance(pixels: Pixels, inside: Mask) -> tuple[Mask, Floats]:
    """The field worn at its edge, and the picture freed of its background (Morano 2024).

    Outside the field stands an enlarged copy of the picture, so that the blurred
    background has no dark rim; what is left after subtraction is stretched to 0 to 1.

    Args:
        pixels: (H, W, 3) RGB, 0 to 255.
        inside: (H, W), the field of view.

    Returns:
        The worn field (H, W) and the enhanced picture (H, W, 3), 0 outside the field.
    """
    height, width = inside.shape
    large = (int(width * ZOOM), int(height * ZOOM))
    zoomed = np.asarray(Image.fromarray(pixels).resize(large, Image.Resampling.BICUBIC))
    top = zoomed.shape[0] // 2 - height // 2
    left = zoomed.shape[1] // 2 - width // 2
    around = zoomed[top : top + height, left : left + width]
    worn = _narrowed(inside, WEAR_RADIUS_PX)
    picture = np.where(worn[..., None], pixels, around).astype(np.float32) / 255.0
    window = (2 * round(4 * BACKGROUND_SIGMA_PX) + 1,) * 2
    background = cv2.GaussianBlur(
        picture, window, BACKGROUND_SIGMA_PX, borderType=cv2.BORDER_REFLECT
    )
    left_over = (picture - background) * worn[..., None]
    low, high = float(left_over.min()), float(left_over.max())
    stretched = (left_over - low) / max(high - low, 1e-6) * worn[..., None]
    return worn, np.asarray(stretched, np.float32)


def _narrowed(mask: Mask, radius_px: int) -> Mask:
    across = np.arange(-radius_px, radius_px + 1)
    disk = (across[:, None] ** 2 + across**2 <= radius_px**2).astype(np.uint8)
    return cv2.erode(mask.astype(np.uint8), disk, borderValue=0).astype(bool)


def _tensor(picture: NDArray[Any]) -> Tensor:
    """(H, W, 3) as (1, 3, H, W), in the order of memory that runs fastest on processors."""
    return torch.from_numpy(np.ascontiguousarray(picture))[None].permute(0, 3, 1, 2)
