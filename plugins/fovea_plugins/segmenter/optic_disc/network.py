"""The disc-and-cup networks: read their weights, look twice, and are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (the customary name)

from fovea.image import Mask, Photograph
from fovea_plugins.segmenter.optic_disc.crop import Crop, Floats, cut_crop, network_input
from fovea_plugins.training.nets import WNet, read_net

FIRST_WIDTH = 1 / 2.2
"""Width of the first square as a share of the field diameter: about 2.3 to 3.5 discs."""

SECOND_WIDTHS = (1.9, 2.6)
"""Widths of the squares of the second look in disc diameters, narrowest first."""

MIRRORS: tuple[tuple[int, ...], ...] = ((), (3,))
"""As it is, and left for right: a fundus turned over is none that a camera gives."""


@dataclass(frozen=True)
class Seen:
    """What the network saw in one square: probabilities of disc and cup, (H, W) each."""

    crop: Crop
    disc: Floats
    cup: Floats


def log_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log probability of yes and of no, each (N, 2, H, W), from logits (N, 2, H, W).

    The second logit is that of cup given disc, so cup lies inside disc by construction.
    """
    disc, cup = logits[:, :1], logits[:, 1:]
    yes = torch.cat([F.logsigmoid(disc), F.logsigmoid(disc) + F.logsigmoid(cup)], dim=1)
    no_disc = F.logsigmoid(-disc)
    no_cup = torch.logaddexp(no_disc, F.logsigmoid(disc) + F.logsigmoid(-cup))
    return yes, torch.cat([no_disc, no_cup], dim=1)


class DiscNetwork:
    """Probabilities of disc and cup around a place in a photograph: the mean of its members.

    Args:
        members: Networks trained on different photographs.
    """

    def __init__(self, members: Sequence[WNet]) -> None:
        self._members = [one.eval() for one in members]
        for one in self._members:
            one.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def read(cls, paths: Sequence[Path]) -> DiscNetwork:
        """The networks in weight files written by the trainer."""
        return cls([read_net(path)[0] for path in paths])

    def probabilities(self, pixels: NDArray[Any], inside: Mask) -> Floats:
        """Probabilities of disc and cup, (2, H, W).

        Args:
            pixels: (H, W, 3) RGB, 0 to 255; H and W multiples of the network's own.
            inside: (H, W) bool, the field of view.
        """
        picture = torch.from_numpy(network_input(pixels, inside))[None]
        with torch.inference_mode():
            views = torch.cat([picture.flip(axis) for axis in MIRRORS])
            views = views.contiguous(memory_format=torch.channels_last)
            logits = [network(views)[-1] for network in self._members]
            found = torch.stack([log_probabilities(one)[0].exp() for one in logits]).mean(dim=0)
            pairs = zip(found, MIRRORS, strict=True)
            back = torch.cat([one[None].flip(axis) for one, axis in pairs])
        return np.asarray(back.mean(dim=0).numpy() * inside, np.float32)

    def first_look(self, photograph: Photograph, centre_xy: NDArray[Any]) -> Seen:
        """The square of fixed width around a place (x, y) of the original."""
        width = FIRST_WIDTH * 2.0 * photograph.field_circle.radius
        crop = cut_crop(photograph, centre_xy, width)
        return Seen(crop, *self.probabilities(crop.pixels, crop.inside))

    def second_look(
        self, photograph: Photograph, centre_xy: NDArray[Any], disc_diameter_px: float
    ) -> Seen:
        """Squares that a disc of this place and size fills alike on every camera, averaged."""
        crops = [cut_crop(photograph, centre_xy, w * disc_diameter_px) for w in SECOND_WIDTHS]
        found = [
            _resampled(self.probabilities(crop.pixels, crop.inside), crop, crops[0])
            for crop in crops
        ]
        return Seen(crops[0], *np.mean(found, axis=0))


def _resampled(maps: Floats, crop: Crop, other: Crop) -> Floats:
    """Maps (2, H, W) of one square in the pixels of another."""
    scale = other.step / crop.step
    shift_x = (0.5 * other.step + other.left - crop.left) / crop.step - 0.5
    shift_y = (0.5 * other.step + other.top - crop.top) / crop.step - 0.5
    matrix = np.array([[scale, 0.0, shift_x], [0.0, scale, shift_y]])
    size = maps.shape[:0:-1]
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.stack([cv2.warpAffine(one, matrix, size, flags=how) for one in maps])
