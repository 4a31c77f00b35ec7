"""The disc-and-cup network: reads its weights, looks twice, averages mirror images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (the customary name)

from fovea.image import Mask, Photograph
from fovea_plugins.segmenter.optic_disc.crop import Crop, Floats, cut_crop, network_input
from fovea_plugins.training.nets import NetConfig, WNet

FIRST_WIDTH = 1 / 2.2
"""Width of the first square as a share of the field diameter: about 2.3 to 3.5 discs."""

SECOND_WIDTH = 2.2
"""Width of the second square in disc diameters."""

MIRRORS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))


@dataclass(frozen=True)
class Seen:
    """What the network saw in one square.

    Attributes:
        crop: The square.
        each: (4, 2, H, W) probabilities of disc and cup, one for each mirror image.
    """

    crop: Crop
    each: Floats

    @property
    def disc(self) -> Floats:
        """Mean probability of disc (H, W)."""
        return np.asarray(self.each[:, 0].mean(axis=0))

    @property
    def cup(self) -> Floats:
        """Mean probability of cup (H, W), nowhere above that of disc."""
        return np.asarray(self.each[:, 1].mean(axis=0))


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
    """Probabilities of disc and cup around a place in a photograph."""

    def __init__(self, network: WNet) -> None:
        self._network = network.eval().to(memory_format=torch.channels_last)

    @classmethod
    def read(cls, path: Path) -> DiscNetwork:
        """The network in a weight file written by the trainer."""
        with safe_open(path, framework="pt") as weights:
            shape: dict[str, Any] = json.loads(weights.metadata()["fovea"])["network"]
            tensors = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118
        config = NetConfig(**{k: tuple(v) if isinstance(v, list) else v for k, v in shape.items()})
        network = WNet(config)
        network.load_state_dict(tensors)
        return cls(network)

    def probabilities(
        self, pixels: NDArray[Any], inside: Mask, *, mirrored: bool = True
    ) -> Floats:
        """Probabilities of disc and cup, (4, 2, H, W) or (1, 2, H, W) without mirror images.

        Args:
            pixels: (H, W, 3) RGB, 0 to 255; H and W multiples of the network's own.
            inside: (H, W) bool, the field of view.
            mirrored: Look at the three mirror images as well.
        """
        picture = torch.from_numpy(network_input(pixels, inside))[None]
        axes = MIRRORS if mirrored else MIRRORS[:1]
        with torch.inference_mode():
            views = torch.cat([picture.flip(axis) for axis in axes])
            logits = self._network(views.contiguous(memory_format=torch.channels_last))[-1]
            found = torch.exp(log_probabilities(logits)[0])
            back = torch.cat(
                [one[None].flip(axis) for one, axis in zip(found, axes, strict=True)]
            )
        return np.asarray(back.numpy() * inside, np.float32)

    def first_look(self, photograph: Photograph, centre_xy: NDArray[Any]) -> Seen:
        """The square of fixed width around a place (x, y) of the original, one look."""
        width = FIRST_WIDTH * 2.0 * photograph.field_circle.radius
        crop = cut_crop(photograph, centre_xy, width)
        return Seen(crop, self.probabilities(crop.pixels, crop.inside, mirrored=False))

    def second_look(
        self, photograph: Photograph, centre_xy: NDArray[Any], disc_diameter_px: float
    ) -> Seen:
        """The square that a disc of this place and size fills alike on every camera."""
        crop = cut_crop(photograph, centre_xy, SECOND_WIDTH * disc_diameter_px)
        return Seen(crop, self.probabilities(crop.pixels, crop.inside))
