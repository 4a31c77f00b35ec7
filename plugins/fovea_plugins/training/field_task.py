"""What the tasks that label pixels of a whole field share: samples, batches, deep supervision."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from fovea_plugins.field_network import network_input
from fovea_plugins.training import augment, data
from fovea_plugins.training.data import Entry, Floats, Sample
from fovea_plugins.training.nets import NetConfig, WNet

EARLY_WEIGHT = 0.4
"""Weight of the loss of the first U-Net beside that of the second."""


class FieldTask(ABC):
    """Patches of labelled photographs at one field diameter; see `trainer.Task`.

    Args:
        train: Photographs to learn from.
        held_out: Photographs by which weights and cuts are chosen.
    """

    name: ClassVar[str]
    config: ClassVar[NetConfig]
    field_diameter_px: ClassVar[int]
    patch_px: ClassVar[int]
    patches: ClassVar[int]
    """Patches in a batch."""
    zoom: ClassVar[float] = 1.5
    """Training photographs are kept up to this much finer than the field diameter asks for."""
    scale: ClassVar[tuple[float, float]] = (0.7, 1.5)
    """Random magnification."""
    damaged: ClassVar[float] = 1.0
    """Share of patches that may be blurred, noisy or compressed."""

    def __init__(self, train: Sequence[Entry], held_out: Sequence[Entry] = ()) -> None:
        self._samples = [self.sample(entry, self.zoom) for entry in train]
        self._held = [self.sample(entry, 1.0) for entry in held_out]
        self._curves = {(s.dataset, s.name): augment.tone_curve(s) for s in self._samples}
        self.facts: Mapping[str, Any] = {
            "task": self.name,
            "field_diameter_px": self.field_diameter_px,
            "trained_on": [f"{e.dataset}/{e.name}" for e in train],
            "held_out": [f"{e.dataset}/{e.name}" for e in held_out],
            "patch_px": self.patch_px,
            "batch": self.patches,
        }

    def without(self, entries: Sequence[Entry]) -> Self:
        """The task on all of its photographs but these, without reading them again."""
        left_out = {(entry.dataset, entry.name) for entry in entries}
        other = copy(self)
        other._samples = [s for s in self._samples if (s.dataset, s.name) not in left_out]
        kept = [f"{s.dataset}/{s.name}" for s in other._samples]
        other.facts = {**self.facts, "trained_on": kept}
        return other

    @staticmethod
    @abstractmethod
    def labels(entry: Entry) -> tuple[Floats, Floats]:
        """Target and known, (C, H, W) each, in the frame of the original."""

    @abstractmethod
    def loss_of(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """The loss of one output; all (N, C, H, W)."""

    @abstractmethod
    def validate(self, network: WNet) -> dict[str, float]:
        """Figures on the held-out photographs; `score` is to be as high as can be."""

    @classmethod
    def sample(cls, entry: Entry, zoom: float) -> Sample:
        """The photograph with labels, at up to `zoom` times the field diameter."""
        return data.load_sample(entry, cls.field_diameter_px, zoom=zoom, label=cls.labels)

    def network(self) -> WNet:
        """A new network with random weights."""
        return WNet(self.config)

    def draw(self, rng: np.random.Generator) -> Sample:
        """The next photograph to cut a patch from: each data set as likely as any other."""
        names = sorted({sample.dataset for sample in self._samples})
        name = names[int(rng.integers(len(names)))]
        group = [sample for sample in self._samples if sample.dataset == name]
        return group[int(rng.integers(len(group)))]

    def centre(self, rng: np.random.Generator, sample: Sample) -> Floats | None:
        """Where a patch is to be centred, (x, y) in the sample; None: anywhere in the field."""
        return None

    def scale_of(self, sample: Sample) -> tuple[float, float]:
        """Random magnification of the patches of one photograph."""
        return self.scale

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Inputs (N, 5, S, S), targets and weights (N, C, S, S)."""
        inputs, targets, weights = [], [], []
        curves = list(self._curves.values())
        for _ in range(self.patches):
            sample = self.draw(rng)
            patch = augment.cut_patch(
                rng,
                sample,
                size=self.patch_px,
                scale=self.scale_of(sample),
                around=self.centre(rng, sample),
            )
            own = self._curves[sample.dataset, sample.name]
            pixels = augment.restyle(rng, patch.pixels, own=own, others=curves)
            if rng.random() < self.damaged:
                pixels = augment.damage(rng, pixels)
            inputs.append(network_input(pixels, patch.inside))
            targets.append(patch.target)
            weights.append(patch.known * patch.inside)
        return {
            "input": torch.from_numpy(np.stack(inputs)),
            "target": torch.from_numpy(np.stack(targets)).float(),
            "weight": torch.from_numpy(np.stack(weights)).float(),
        }

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of the last output, and part of that of the earlier one."""
        picture = batch["input"].contiguous(memory_format=torch.channels_last)
        *early, last = network(picture)
        total = self.loss_of(last, batch["target"], batch["weight"])
        for logits in early:
            total = total + EARLY_WEIGHT * self.loss_of(logits, batch["target"], batch["weight"])
        return total
