"""Random weights of the published networks, for tests: made in memory, never kept."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from fovea.image import Photograph
from fovea.testing import synthetic_fundus, synthetic_photograph
from fovea_plugins.segmenter.published import rrwnet
from fovea_plugins.segmenter.published.catalogue import BIG_WNET, RRWNET, VARIANTS, WNET
from fovea_plugins.segmenter.published.pipelines import find_vessels
from fovea_plugins.segmenter.published.reading import build

NAMES = ("wnet-drive", "big-wnet-drive", "rrwnet-rite")
SIDE = 64
"""Working size in tests: a hundredth of the work of 512 pixels."""


def make_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """RRWNet with few channels and every network at a small size: quick, same layers."""
    monkeypatch.setattr(rrwnet, "WIDTHS", (2, 4, 8, 16, 32))
    for name in NAMES:
        monkeypatch.setitem(VARIANTS, name, replace(VARIANTS[name], size_px=SIDE))


@cache
def random_weights(name: str) -> bytes:
    """Random weights (small), with the last bias set so that a tenth of the field is vessel."""
    torch.manual_seed(1)
    variant, photograph = VARIANTS[name], drawn()
    network = build(variant.network).eval()
    if variant.network is RRWNET:  # without normalisation layers, its defaults fade out
        for value in network.parameters():
            if value.dim() > 1:
                nn.init.kaiming_normal_(value)
    last = network.first_u.outconv if variant.network is RRWNET else network.unet2.final
    place, sign = {WNET: (0, 1), BIG_WNET: (0, -1), RRWNET: (2, 1)}[variant.network]
    low, high = -20.0, 20.0
    for _ in range(24):
        with torch.no_grad():
            last.bias[place] = sign * (low + high) / 2
        mask = find_vessels(network, variant, photograph, lambda text: None).masks["vessels"]
        share = mask.sum() / photograph.field_of_view.sum()
        low, high = ((low + high) / 2, high) if share < 0.1 else (low, (low + high) / 2)
        if 0.03 < share < 0.2:
            return save({n: value.contiguous() for n, value in network.state_dict().items()})
    raise AssertionError("no bias gives a tenth of vessel")


@cache
def drawn() -> Photograph:
    return synthetic_photograph("img1", fundus=synthetic_fundus(eye="OD"))


def stored(network: nn.Module, path: Path) -> str:
    """Write weights as `fovea models convert` would; gives the sha256."""
    tensors = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(tensors, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()
