"""The task `vessels`: one network for vessels, arteries and veins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from fovea_plugins.training import augment, data, metrics, trainer
from fovea_plugins.training.data import Entry, Floats, Sample
from fovea_plugins.training.infer_vessels import FIELD_DIAMETER_PX, VesselNetwork, network_input
from fovea_plugins.training.measure_vessels import best_artery_cut, best_threshold, evaluate
from fovea_plugins.training.nets import NetConfig, WNet
from fovea_plugins.training.sides import settle_sides
from fovea_plugins.training.trainer import Schedule

__all__ = ["SCHEDULE", "VesselTask", "evaluate", "finish", "make", "vessel_labels"]

NAME = "vessels"
TRAIN_SETS = ("DRIVE", "HRF")
"""Other data sets with vessel labels are kept for the test on unseen cameras."""

ARTERY, VEIN, CROSSING, UNKNOWN = 1, 2, 3, 4
"""Values of the artery/vein label images of DRIVE and HRF."""

CONFIG = NetConfig(
    inputs=5, outputs=3, first=(16, 32, 48, 64, 96), second=(16, 32, 48, 64), detail=8
)
PATCH_PX = 384
BATCH = 2
ZOOM = 1.5
HELD_OUT_EVERY = 8
SCHEDULE = Schedule(learning_rate=8e-3, validate_minutes=6.0)
CHANNEL_WEIGHTS = (1.0, 0.3, 0.3)
EARLY_WEIGHT = 0.4
"""Weight of the loss of the first U-Net beside that of the second."""


def vessel_labels(entry: Entry) -> tuple[Floats, Floats]:
    """Target and known, (3, H, W): vessel, artery, vein.

    Crossings are artery and vein at once. Where the artery/vein label says
    unknown, or contradicts the vessel label (DRIVE 34), it is not learned from.
    """
    vessel = entry.label("vessels")
    if vessel is None:
        raise FileNotFoundError(f"{entry.dataset} {entry.name} has no vessel label")
    vessel = vessel > 0
    kinds = entry.label("av")
    if kinds is None:
        known = np.zeros((3, *vessel.shape), np.float32)
        known[0] = 1.0
        return np.stack([vessel, vessel, vessel]).astype(np.float32), known
    artery = np.isin(kinds, (ARTERY, CROSSING))
    vein = np.isin(kinds, (VEIN, CROSSING))
    agree = ((kinds > 0) == vessel) & (kinds != UNKNOWN)
    target = np.stack([vessel, artery, vein]).astype(np.float32)
    return target, np.stack([np.ones_like(agree), agree, agree]).astype(np.float32)


class VesselTask:
    """Samples, network, loss and validation; see `trainer.Task`."""

    name = NAME

    def __init__(self, root: Path) -> None:
        entries = [
            entry
            for entry in data.find_entries(root, ("vessels",))
            if entry.use == "train" and (entry.dataset in TRAIN_SETS or entry.folder == root)
        ]
        train, held = data.split_held_out(entries, HELD_OUT_EVERY)
        self._samples = [self.sample(entry, ZOOM) for entry in train]
        self._held = [self.sample(entry, 1.0) for entry in held]
        self._curves = {(s.dataset, s.name): augment.tone_curve(s) for s in self._samples}
        self.facts: Mapping[str, Any] = {
            "task": NAME,
            "field_diameter_px": FIELD_DIAMETER_PX,
            "trained_on": [f"{e.dataset}/{e.name}" for e in train],
            "held_out": [f"{e.dataset}/{e.name}" for e in held],
            "patch_px": PATCH_PX,
            "batch": BATCH,
        }

    @staticmethod
    def sample(entry: Entry, zoom: float) -> Sample:
        """The photograph with labels, at up to `zoom` times the field diameter."""
        return data.load_sample(entry, FIELD_DIAMETER_PX, zoom=zoom, label=vessel_labels)

    def network(self) -> WNet:
        """A new network with random weights."""
        return WNet(CONFIG)

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Inputs (N, 5, S, S), targets and weights (N, 3, S, S)."""
        inputs, targets, weights = [], [], []
        curves = list(self._curves.values())
        for sample in data.batches_of(rng, self._samples, BATCH):
            patch = augment.cut_patch(rng, sample, size=PATCH_PX)
            own = self._curves[sample.dataset, sample.name]
            pixels = augment.restyle(rng, patch.pixels, own=own, others=curves)
            inputs.append(network_input(augment.damage(rng, pixels), patch.inside))
            targets.append(patch.target)
            weights.append(patch.known * patch.inside)
        return {
            "input": torch.from_numpy(np.stack(inputs)),
            "target": torch.from_numpy(np.stack(targets)).float(),
            "weight": torch.from_numpy(np.stack(weights)).float(),
        }

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """The loss of the last output, and part of that of the earlier one."""
        *early, last = network(batch["input"])
        total = _loss(last, batch["target"], batch["weight"])
        for logits in early:
            total = total + EARLY_WEIGHT * _loss(logits, batch["target"], batch["weight"])
        return total

    def validate(self, network: WNet) -> dict[str, float]:
        """Figures on the held-out training photographs; `score` is to be as high as can be."""
        predictor = VesselNetwork(network, flips=False)
        dice, sides = [], []
        for sample in self._held:
            found = predictor.probabilities(sample.pixels, sample.inside)
            truth = sample.target > 127
            inside = sample.inside
            dice.append(metrics.dice(found[0][inside] >= 0.45, truth[0][inside]))
            judged = inside & (truth[1] ^ truth[2]) & (sample.known[1] > 0)
            if judged.any():
                sides.append(float(((found[1] > found[2]) == truth[1])[judged].mean()))
        figures = {"dice": float(np.mean(dice))}
        if sides:
            figures["av_accuracy"] = float(np.mean(sides))
        return {"score": float(np.mean(list(figures.values()))), **figures}


def _loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy, Dice, and artery against vein on the vessels themselves."""
    area = weight.sum(dim=(0, 2, 3)).clamp(min=1.0)
    per_pixel = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (per_pixel * weight).sum(dim=(0, 2, 3)) / area
    found = torch.sigmoid(logits) * weight
    wanted = target * weight
    both = (found * wanted).sum(dim=(0, 2, 3))
    either = (found + wanted).sum(dim=(0, 2, 3))
    overlap = 1.0 - (2.0 * both + 1.0) / (either + 1.0)
    # Whole vessels flip, pixels do not: this term looks only at which of the two it is.
    side = F.binary_cross_entropy_with_logits(
        logits[:, 1] - logits[:, 2], target[:, 1], reduction="none"
    )
    on_vessel = weight[:, 1] * (target[:, 1] - target[:, 2]).abs()
    sides = (side * on_vessel).sum() / on_vessel.sum().clamp(min=1.0)
    return ((2.0 * entropy + overlap) * entropy.new_tensor(CHANNEL_WEIGHTS)).sum() + sides


def make(root: Path) -> VesselTask:
    """The task on the data below `root`."""
    return VesselTask(root)


def finish(root: Path, weights: Path) -> None:
    """Chooses both cuts on the held-out photographs, and writes them into the file."""
    facts = trainer.read_facts(weights)
    network = VesselNetwork.read(weights)
    held = [
        entry
        for entry in data.find_entries(root, ("vessels",))
        if f"{entry.dataset}/{entry.name}" in facts["held_out"]
    ]
    found = []
    for entry in held:
        sample = VesselTask.sample(entry, 1.0)
        found.append((sample, network.probabilities(sample.pixels, sample.inside)))
    threshold = best_threshold([(p[0][s.inside], s.target[0][s.inside] > 127) for s, p in found])
    shares = []
    for sample, probabilities in found:
        truth = sample.target > 127
        judged = sample.inside & (truth[1] ^ truth[2]) & (sample.known[1] > 0)
        if judged.any():
            share = settle_sides(probabilities, probabilities[0] >= threshold)
            shares.append((share[judged], truth[1][judged]))
    cut = best_artery_cut(shares) if shares else 0.5
    trainer.add_facts(weights, {"threshold": threshold, "artery_cut": cut})
