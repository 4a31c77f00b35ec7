"""The task `optic_disc`: one network for optic disc and cup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from fovea.errors import UnreadableImage
from fovea_plugins.segmenter.optic_disc.crop import CHANNELS, INPUT_PX, network_input
from fovea_plugins.segmenter.optic_disc.network import SECOND_WIDTHS, DiscNetwork, log_probabilities
from fovea_plugins.training import augment, data, metrics
from fovea_plugins.training.augment import Patch
from fovea_plugins.training.data import Bytes, Entry, Floats, Sample
from fovea_plugins.training.measure_optic_disc import DISC_KIND, SOFT_KINDS, evaluate
from fovea_plugins.training.nets import NetConfig, WNet
from fovea_plugins.training.trainer import Schedule

__all__ = ["SCHEDULE", "OpticDiscTask", "disc_labels", "evaluate", "find", "finish", "make"]

NAME = "optic_disc"
CONFIG = NetConfig(
    inputs=CHANNELS, outputs=2, first=(16, 32, 48, 64), second=(16, 32, 48), detail=8
)
FIELD_DIAMETER_PX = 700
"""Field diameter at which photographs are kept for training."""

WITH_CUP, WITHOUT_CUP = 5, 1
"""Samples of a batch from photographs with and without an outlined cup, where there are both."""

ELSEWHERE = 0.12
"""Share of samples cut anywhere in the field: they teach where there is no disc."""

WIDE, NARROW = (1.8, 4.0), (1.9, 2.6)
"""Widths of training squares in disc diameters: as in the first look, as in the second."""

CUP_POWERS = (0.4, 1.3)
"""Radial powers by which cups are made smaller or larger within their disc."""

RESIZED = 0.6
"""Share of samples with a labelled cup whose cup is brought to another size."""

# The last weights are kept: a checkpoint chosen on the photographs of the folds would flatter.
SCHEDULE = Schedule(steps=2000, learning_rate=6e-3, ema=0.985, first_validation=1.0)
EARLY_WEIGHT = 0.4
"""Weight of the loss of the first U-Net beside that of the second."""


@dataclass(frozen=True)
class Place:
    """Centre (x, y) and diameter of a labelled disc in pixels of its sample."""

    x: float
    y: float
    diameter: float


def find(root: Path) -> list[Entry]:
    """Photographs below `root` with an outlined disc, with or without an outlined cup.

    Raises:
        UnreadableImage: there are none.
    """
    found: list[Entry] = []
    for kinds in (SOFT_KINDS, (DISC_KIND,)):
        try:
            found += data.find_entries(root, kinds)
        except UnreadableImage:
            continue
    if not found:
        raise UnreadableImage(
            "No photographs with an outlined optic disc were found",
            where=root.name,
            why=f"Expected `images` and `{'`, `'.join(SOFT_KINDS)}` or `{DISC_KIND}` in a folder",
            fix="Name the folder of a data set, or the folder that holds them",
        )
    return [entry for entry in found if _has_disc(entry)]


def _has_disc(entry: Entry) -> bool:
    return any(entry.label(kind) is not None for kind in (SOFT_KINDS[0], DISC_KIND))


def disc_labels(entry: Entry) -> tuple[Floats, Floats]:
    """Target and known, (2, H, W): disc, cup; the share of experts where there are several."""
    disc, cup = (entry.label(kind) for kind in SOFT_KINDS)
    if disc is None:
        disc = entry.label(DISC_KIND)
    if disc is None:
        raise FileNotFoundError(f"{entry.dataset} {entry.name} has no disc label")
    known = np.ones((2, *disc.shape), np.float32)
    if cup is None:
        known[1] = 0.0
        cup = np.zeros_like(disc)
    return np.stack([disc, cup]).astype(np.float32) / 255.0, known


def place_of(sample: Sample) -> Place:
    """Where the disc of a sample is."""
    rows, columns = np.nonzero(sample.target[0] > 127)
    diameter = 2.0 * float(np.sqrt(len(rows) / np.pi))
    return Place(float(columns.mean()), float(rows.mean()), diameter)


def cut_square(rng: np.random.Generator, sample: Sample, place: Place) -> Patch:
    """A square of `INPUT_PX` around the disc, at a random place, scale, angle, mirrored or not.

    Where the cup is known it is often made smaller or larger: radii within the disc
    are raised to a power, which leaves the disc edge where it is. Most cups of the
    data are large, and the network must not learn that as the usual size.
    """
    first = rng.random() < 0.4
    width = float(np.exp(rng.uniform(*np.log(WIDE if first else NARROW)))) * place.diameter
    reach = 0.3 * (width - 1.1 * place.diameter) if first else 0.12 * place.diameter
    centre = np.array([place.x, place.y]) + rng.uniform(-reach, reach, 2)
    if rng.random() < ELSEWHERE:
        rows, columns = np.nonzero(sample.inside[::8, ::8])
        pick = int(rng.integers(len(rows)))
        centre = 8.0 * np.array([columns[pick], rows[pick]])
    angle = np.deg2rad(rng.uniform(-25.0, 25.0))
    squeeze = float(np.exp(rng.uniform(-0.06, 0.06)))
    flip_x = 1.0 if rng.random() < 0.5 else -1.0
    flip_y = 1.0 if rng.random() < 0.7 else -1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    step = width / INPUT_PX
    matrix = step * turn @ np.diag([flip_x * squeeze, flip_y / squeeze])
    grid = np.arange(INPUT_PX, dtype=np.float64) - (INPUT_PX - 1) / 2
    x, y = grid[None, :], grid[:, None]
    map_x = matrix[0, 0] * x + matrix[0, 1] * y + centre[0]
    map_y = matrix[1, 0] * x + matrix[1, 1] * y + centre[1]
    if sample.known[1].any() and rng.random() < RESIZED:
        power = float(np.exp(rng.uniform(*np.log(CUP_POWERS))))
        map_x, map_y = _resize_cup(map_x, map_y, place, power)
    maps = (map_x.astype(np.float32), map_y.astype(np.float32))
    pixels = sample.pixels
    if step > 1.2:  # a coarser square averages, as a smaller view of the photograph does
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), 0.4 * step), np.uint8)

    def moved(values: Bytes, how: int) -> Floats:
        return np.asarray(cv2.remap(values, *maps, how), np.float32)

    return Patch(
        moved(pixels, cv2.INTER_LINEAR),
        moved(sample.inside.astype(np.uint8), cv2.INTER_NEAREST) > 0,
        np.stack([moved(one, cv2.INTER_LINEAR) for one in sample.target]) / 255.0,
        np.stack([moved(one, cv2.INTER_NEAREST) for one in sample.known]) / 255.0,
    )


def _resize_cup(
    map_x: np.ndarray, map_y: np.ndarray, place: Place, power: float
) -> tuple[np.ndarray, np.ndarray]:
    dx, dy = map_x - place.x, map_y - place.y
    rho = np.hypot(dx, dy) / (0.5 * place.diameter)
    # Below 0.9 of the radius, so that the edge of an oval disc stays in place.
    stretch = np.clip(rho / 0.9, 1e-3, 1.0) ** (power - 1.0)
    return place.x + dx * stretch, place.y + dy * stretch


class OpticDiscTask:
    """Samples, network, loss and validation; see `trainer.Task`.

    Args:
        train: Photographs to learn from.
        held_out: Photographs that the run reports on; it never chooses by them.
    """

    name = NAME

    def __init__(self, train: Sequence[Entry], held_out: Sequence[Entry] = ()) -> None:
        samples = [_sample(entry) for entry in train]
        self._samples = [(sample, place_of(sample)) for sample in samples]
        self._held = [_sample(entry) for entry in held_out]
        self._curves = [augment.tone_curve(sample) for sample in samples]
        cups = [bool(sample.known[1].any()) for sample in samples]
        self._with_cup = np.flatnonzero(cups)
        self._without_cup = np.flatnonzero(np.logical_not(cups))
        self.facts: Mapping[str, Any] = {
            "task": NAME,
            "input_px": INPUT_PX,
            "trained_on": [f"{e.dataset}/{e.name}" for e in train],
            "held_out": [f"{e.dataset}/{e.name}" for e in held_out],
            "batch": [WITH_CUP, WITHOUT_CUP],
        }

    def network(self) -> WNet:
        """A new network with random weights."""
        return WNet(CONFIG)

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Inputs (N, CHANNELS, S, S), targets and weights (N, 2, S, S)."""
        inputs, targets, weights = [], [], []
        for index in self._draw(rng):
            sample, place = self._samples[index]
            patch = cut_square(rng, sample, place)
            pixels = augment.restyle(
                rng, patch.pixels, own=self._curves[index], others=self._curves
            )
            inputs.append(network_input(augment.damage(rng, pixels), patch.inside))
            targets.append(patch.target)
            weights.append(patch.known * patch.inside)
        return {
            "input": torch.from_numpy(np.stack(inputs)),
            "target": torch.from_numpy(np.stack(targets)).float(),
            "weight": torch.from_numpy(np.stack(weights)).float(),
        }

    def _draw(self, rng: np.random.Generator) -> list[int]:
        groups = [(self._with_cup, WITH_CUP), (self._without_cup, WITHOUT_CUP)]
        present = [(group, count) for group, count in groups if len(group)]
        if len(present) == 1:
            present = [(present[0][0], WITH_CUP + WITHOUT_CUP)]
        return [int(i) for group, count in present for i in rng.choice(group, count)]

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of the last output, and part of that of the earlier one."""
        picture = batch["input"].contiguous(memory_format=torch.channels_last)
        *early, last = network(picture)
        total = _loss(last, batch["target"], batch["weight"])
        for logits in early:
            total = total + EARLY_WEIGHT * _loss(logits, batch["target"], batch["weight"])
        return total

    def validate(self, network: WNet) -> dict[str, float]:
        """Dice in the ideal square of the held-out photographs, or else of some trained on."""
        reader = DiscNetwork([network])
        overlap: dict[str, list[float]] = {"disc": [], "cup": []}
        for sample in self._held or [sample for sample, _ in self._samples[:8]]:
            patch = _ideal_square(sample)
            found = reader.probabilities(patch.pixels, patch.inside)
            for index, name in enumerate(overlap):
                truth = patch.target[index] > 0.5
                if patch.known[index].any() and truth.any():
                    overlap[name].append(metrics.dice(found[index] >= 0.5, truth) or 0.0)
        figures = {name: float(np.mean(each)) for name, each in overlap.items() if each}
        return {"score": float(np.mean(list(figures.values()))), **figures}


def _sample(entry: Entry) -> Sample:
    return data.load_sample(entry, FIELD_DIAMETER_PX, zoom=1.0, label=disc_labels)


def _ideal_square(sample: Sample) -> Patch:
    place = place_of(sample)
    scale = INPUT_PX / (SECOND_WIDTHS[0] * place.diameter)
    middle = (INPUT_PX - 1) / 2
    matrix = np.array([[scale, 0, middle - scale * place.x], [0, scale, middle - scale * place.y]])

    def moved(values: Bytes) -> Floats:
        return np.asarray(cv2.warpAffine(values, matrix, (INPUT_PX, INPUT_PX)), np.float32)

    return Patch(
        moved(sample.pixels),
        moved(sample.inside.astype(np.uint8)) > 0,
        np.stack([moved(one) for one in sample.target]) / 255.0,
        np.stack([moved(one) for one in sample.known]) / 255.0,
    )


def _loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy and Dice of disc and cup against soft targets, (N, 2, H, W) each."""
    yes, no = log_probabilities(logits)
    per_pixel = -(target * yes + (1.0 - target) * no)
    entropy = (per_pixel * weight).sum((0, 2, 3)) / weight.sum((0, 2, 3)).clamp(min=1.0)
    found, wanted = torch.exp(yes) * weight, target * weight
    # min(a, b) rather than a * b: a soft target is then matched best by itself.
    both = torch.minimum(found, wanted).sum((2, 3))
    either = (found + wanted).sum((2, 3))
    overlap = 1.0 - (2.0 * both + 20.0) / (either + 20.0)
    return 4.0 * entropy.sum() + 0.5 * overlap.mean(0).sum()


def make(root: Path) -> OpticDiscTask:
    """The task on all photographs with an outlined disc below `root`."""
    return OpticDiscTask(find(root))


def finish(root: Path, weights: Path) -> None:
    """Nothing is left to choose: thresholds were settled on the folds, see MODEL_CARD.md."""
