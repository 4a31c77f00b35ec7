"""The task `artery_vein`: which vessels are arteries and which are veins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from fovea_plugins.field_network import CHANNELS, FieldNetwork
from fovea_plugins.segmenter.vessels.reading import read_network, side_map, vessel_map
from fovea_plugins.segmenter.vessels.sides import settle_sides
from fovea_plugins.training import data, trainer
from fovea_plugins.training.data import Entry, Floats
from fovea_plugins.training.field_task import FieldTask
from fovea_plugins.training.measure_vessels import evaluate, shipped_weights
from fovea_plugins.training.nets import NetConfig, WNet
from fovea_plugins.training.trainer import Schedule

__all__ = ["SCHEDULE", "ArteryVeinTask", "evaluate", "finish", "make"]

ARTERY, VEIN, CROSSING, UNKNOWN = 1, 2, 3, 4
"""Values of the artery/vein label images of DRIVE and HRF."""

TRAIN_SETS = ("DRIVE", "HRF")
HELD_OUT_EVERY = 8
SCHEDULE = Schedule(learning_rate=8e-3, validate_minutes=6.0, minutes=75.0, first_validation=0.3)
CHANNEL_WEIGHTS = (0.5, 0.3, 0.3)


class ArteryVeinTask(FieldTask):
    """Three outputs: vessel, artery, vein.

    The field is smaller than for vessels, so that a patch shows most of it: a vessel
    is told by where it comes from, not by its pixels alone.
    """

    name = "artery_vein"
    config = NetConfig(
        inputs=CHANNELS, outputs=3, first=(16, 32, 48, 64, 96), second=(16, 32, 48, 64), detail=8
    )
    field_diameter_px = 448
    patch_px = 352
    patches = 3

    @staticmethod
    def labels(entry: Entry) -> tuple[Floats, Floats]:
        """Target and known, (3, H, W): vessel, artery, vein.

        Crossings are artery and vein at once. Where the artery/vein label says
        unknown, or contradicts the vessel label (DRIVE 34), it is not learned from.
        """
        vessel, kinds = entry.label("vessels"), entry.label("av")
        if vessel is None or kinds is None:
            raise FileNotFoundError(f"{entry.dataset} {entry.name} has no artery/vein label")
        drawn = vessel > 0
        artery = np.isin(kinds, (ARTERY, CROSSING))
        vein = np.isin(kinds, (VEIN, CROSSING))
        agree = ((kinds > 0) == drawn) & (kinds != UNKNOWN)
        target = np.stack([drawn, artery, vein]).astype(np.float32)
        return target, np.stack([np.ones_like(agree), agree, agree]).astype(np.float32)

    def loss_of(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Cross-entropy, Dice, and artery against vein on the vessels themselves."""
        area = weight.sum(dim=(0, 2, 3)).clamp(min=1.0)
        per_pixel = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        entropy = (per_pixel * weight).sum(dim=(0, 2, 3)) / area
        found = logits.sigmoid() * weight
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
        return ((2.0 * entropy + overlap) * entropy.new_tensor(CHANNEL_WEIGHTS)).sum() + 2.0 * sides

    def validate(self, network: WNet) -> dict[str, float]:
        """Artery/vein accuracy on the vessel pixels of the held-out photographs."""
        predictor = FieldNetwork(network, self.field_diameter_px, mirrors=1)
        right = []
        for sample in self._held:
            _, artery, vein = predictor.probabilities(sample.pixels, sample.inside)
            truth = sample.target > 127
            judged = sample.inside & (truth[1] ^ truth[2]) & (sample.known[1] > 0)
            if judged.any():
                right.append(float(((artery > vein) == truth[1])[judged].mean()))
        return {"score": float(np.mean(right))}


def make(root: Path) -> ArteryVeinTask:
    """The task on the data below `root`."""
    return ArteryVeinTask(*_entries(root))


def _entries(root: Path) -> tuple[list[Entry], list[Entry]]:
    entries = [
        entry
        for entry in data.find_entries(root, ("vessels", "av"))
        if entry.use == "train" and (entry.dataset in TRAIN_SETS or entry.folder == root)
    ]
    return data.split_held_out(entries, HELD_OUT_EVERY)


def finish(root: Path, weights: Path) -> None:
    """Chooses the cut between vein and artery on the held-out photographs, sets alike."""
    network = read_network(weights)
    outliner = read_network(shipped_weights()["vessels"])
    threshold = float(outliner.facts["threshold"])
    sets: dict[str, list[tuple[Floats, NDArray[np.bool_]]]] = {}
    for entry in _entries(root)[1]:
        photograph = entry.photograph()
        # Judged as it is used: one opinion for each segment, where a vessel was found.
        vessel, frame = vessel_map(outliner, photograph)
        sides = side_map(network, photograph, vessel.shape)
        share = frame.map_to_original(settle_sides(sides, vessel >= threshold))
        found = frame.map_to_original(vessel) >= threshold
        target, known = ArteryVeinTask.labels(entry)
        judged = photograph.field_of_view & found & (target[1] != target[2]) & (known[1] > 0)
        if judged.any():
            sets.setdefault(entry.dataset, []).append((share[judged], target[1][judged] > 0))
    trainer.add_facts(weights, {"artery_cut": best_artery_cut(list(sets.values()))})


def best_artery_cut(sets: list[list[tuple[Floats, NDArray[np.bool_]]]]) -> float:
    """The cut of the artery share with the highest accuracy over (share, truth) pairs of sets."""
    cuts = np.arange(0.25, 0.76, 0.05)
    scores = [
        np.mean([np.mean([((s > cut) == truth).mean() for s, truth in one]) for one in sets])
        for cut in cuts
    ]
    return float(round(cuts[int(np.argmax(scores))], 2))
