"""The task `vessels`: where the blood vessels are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from fovea.image import Mask
from fovea_plugins.field_network import CHANNELS, FieldNetwork
from fovea_plugins.segmenter.vessels.reading import read_network, vessel_map
from fovea_plugins.training import data, metrics, trainer
from fovea_plugins.training.data import Entry, Floats, Sample
from fovea_plugins.training.field_task import FieldTask
from fovea_plugins.training.measure_vessels import best_threshold, evaluate
from fovea_plugins.training.nets import NetConfig, WNet
from fovea_plugins.training.trainer import Schedule

__all__ = ["SCHEDULE", "VesselTask", "evaluate", "finish", "make", "training_entries"]

TRAIN_SETS = ("DRIVE", "HRF")
"""Other data sets with vessel labels are kept for the test on unseen cameras."""

HELD_OUT_EVERY = 8
SCHEDULE = Schedule(learning_rate=1e-2, validate_minutes=6.0, minutes=75.0, first_validation=0.3)


def training_entries(root: Path) -> tuple[list[Entry], list[Entry]]:
    """Photographs to train on, and photographs to choose weights and cuts by."""
    entries = [
        entry
        for entry in data.find_entries(root, ("vessels",))
        if entry.use == "train" and (entry.dataset in TRAIN_SETS or entry.folder == root)
    ]
    return data.split_held_out(entries, HELD_OUT_EVERY)


class VesselTask(FieldTask):
    """One output: vessel."""

    name = "vessels"
    config = NetConfig(
        inputs=CHANNELS, outputs=1, first=(8, 16, 32, 64), second=(8, 16, 32, 32), block=1
    )
    field_diameter_px = 540
    patch_px = 256
    patches = 4
    zoom = 2.6
    scale = (0.7, 1.8)

    @staticmethod
    def labels(entry: Entry) -> tuple[Floats, Floats]:
        """Target and known, (1, H, W)."""
        vessel = entry.label("vessels")
        if vessel is None:
            raise FileNotFoundError(f"{entry.dataset} {entry.name} has no vessel label")
        target = (vessel > 0).astype(np.float32)[None]
        return target, np.ones_like(target)

    def scale_of(self, sample: Sample) -> tuple[float, float]:
        """Sharp photographs are also seen at their own resolution.

        Labels of coarse photographs are drawn wide for their pixels; a network that sees
        sharp edges only in coarse pixels draws every vessel as wide as that.
        """
        return self.scale[0], max(self.scale[1], 1.0 / sample.step)

    def loss_of(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Cross-entropy and Dice."""
        per_pixel = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
        entropy = (per_pixel * weight).sum() / weight.sum().clamp(min=1.0)
        found, wanted = logits.sigmoid() * weight, target * weight
        overlap = 1.0 - (2.0 * (found * wanted).sum() + 1.0) / ((found + wanted).sum() + 1.0)
        return 2.0 * entropy + overlap

    def validate(self, network: WNet) -> dict[str, float]:
        """Dice at the best of one cut for all held-out photographs."""
        predictor = FieldNetwork(network, self.field_diameter_px, mirrors=1)
        found = [(s, predictor.probabilities(s.pixels, s.inside)[0]) for s in self._held]
        pairs = [(p[s.inside], s.target[0][s.inside] > 127) for s, p in found]
        cut = best_threshold([pairs])
        dice = float(np.mean([metrics.dice(p >= cut, truth) or 0.0 for p, truth in pairs]))
        return {"score": dice, "cut": cut}


def make(root: Path) -> VesselTask:
    """The task on the data below `root`."""
    return VesselTask(*training_entries(root))


def finish(root: Path, weights: Path) -> None:
    """Chooses the cut on the held-out photographs as a whole, and writes it into the file."""
    network = read_network(weights)
    pairs: dict[str, list[tuple[Floats, Mask]]] = {}
    for entry in training_entries(root)[1]:
        photograph = entry.photograph()
        found, frame = vessel_map(network, photograph)
        inside = photograph.field_of_view
        truth = VesselTask.labels(entry)[0][0] > 0
        pair = (frame.map_to_original(found)[inside], truth[inside])
        pairs.setdefault(entry.dataset, []).append(pair)
    trainer.add_facts(weights, {"threshold": best_threshold(list(pairs.values()))})
