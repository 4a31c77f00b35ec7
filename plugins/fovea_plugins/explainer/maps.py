"""Saliency maps of the image network, and figures of how far they can be trusted.

Gradient times activation of the finest pooled level (Captum): because the network
pools its last levels by mean and soft maximum, this is its own first-order account of
where a log-odds comes from. Infidelity and sensitivity after Yeh et al. (NeurIPS 2019);
the test with random weights after Adebayo et al. (NeurIPS 2018).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from captum.attr import LayerGradientXActivation
from captum.metrics import infidelity, sensitivity_max
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the customary name)

from fovea_plugins.classifier.net import ClassifierNet

SAMPLES = 8
SHAKES = 4
PATCH_PX = 48
RADIUS = 0.05
SEEDS = (11, 12, 13)


@dataclass(frozen=True)
class Trust:
    """How far a map can be trusted.

    Attributes:
        infidelity: Mean squared error, in squared log-odds and after the best scaling, with
            which the map predicts what greying out patches does; 0 is perfect.
        sensitivity: Largest relative change of the map under an unnoticeable change of the
            picture; 0 is perfect.
        randomised_agreement: Rank correlation with the maps of networks with random weights;
            near 0 if the map shows what was learned.
    """

    infidelity: float
    sensitivity: float
    randomised_agreement: float


def saliency(network: ClassifierNet, picture: Tensor, style: Tensor, target: int) -> Tensor:
    """What each place adds to a log-odds, (N, 1, h, w), at the finest pooled level.

    Args:
        network: In evaluation mode.
        picture: (N, 5, S, S).
        style: (N, 6).
        target: Output.
    """
    level = network.down[len(network.config.levels) - network.config.pooled]
    found = LayerGradientXActivation(network, level).attribute(
        picture, target=target, additional_forward_args=(style,)
    )
    assert isinstance(found, Tensor)  # noqa: S101  (a tuple only for layers with several outputs)
    return found.sum(dim=1, keepdim=True).detach()


def as_picture(found: Tensor, size: int) -> NDArray[np.float32]:
    """A map (h, w) resampled to (size, size)."""
    large = F.interpolate(found[:1], size=(size, size), mode="bilinear", align_corners=False)
    return np.asarray(large[0, 0].numpy(), np.float32)


def trust(
    network: ClassifierNet, picture: Tensor, style: Tensor, target: int, rng: np.random.Generator
) -> Trust:
    """The three figures, for one picture (1, 5, S, S)."""
    size = picture.shape[-1]
    channels = picture.shape[1]

    def spread(inputs: Tensor) -> Tensor:
        found = saliency(network, inputs, style.expand(len(inputs), -1), target)
        large = F.interpolate(found, size=(size, size), mode="bilinear", align_corners=False)
        return large.expand(-1, channels, -1, -1) / channels

    def mapped(inputs: Any) -> tuple[Tensor]:
        # A tuple: captum 0.9.0 takes a bare tensor of one picture for a tuple of its channels.
        first = inputs[0] if isinstance(inputs, tuple) else inputs
        found = saliency(network, first, style.expand(len(first), -1), target)
        return (found.contiguous(),)

    def grey_patch(inputs: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
        keep = torch.ones_like(inputs)
        for one in keep:
            top, left = (int(v) for v in rng.integers(0, size - PATCH_PX, 2))
            one[:, top : top + PATCH_PX, left : left + PATCH_PX] = 0.0
        # Taken away is the share of the map under the patch: ones there, not pixel values.
        return 1.0 - keep, inputs * keep

    def shaken(inputs: Any, radius: float) -> Any:
        first = inputs[0] if isinstance(inputs, tuple) else inputs
        noise = torch.from_numpy(rng.uniform(-1, 1, first.shape).astype(np.float32))
        return (first + radius * noise,)

    error = infidelity(
        lambda inputs: network(inputs, style.expand(len(inputs), -1))[:, target],
        grey_patch, picture, spread(picture), n_perturb_samples=SAMPLES, normalize=True,
    )  # fmt: skip
    change = sensitivity_max(
        mapped, picture, shaken, perturb_radius=RADIUS, n_perturb_samples=SHAKES
    )
    own = saliency(network, picture, style, target).flatten().numpy()
    alike = []
    for seed in SEEDS:
        other = saliency(randomised(network, seed), picture, style, target).flatten().numpy()
        alike.append(abs(float(spearmanr(own, other).statistic)))
    return Trust(float(error[0].detach()), float(change[0].detach()), float(np.nanmean(alike)))


def randomised(network: ClassifierNet, seed: int) -> ClassifierNet:
    """The same network with all weights drawn anew."""
    other = deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in other.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                fan_in = module.weight[0].numel()
                module.weight.normal_(0.0, (2.0 / fan_in) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                module.reset_running_stats()
                module.reset_parameters()
    return other.eval()
