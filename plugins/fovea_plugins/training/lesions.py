"""The task `lesions`: microaneurysms, haemorrhages, hard and soft exudates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from fovea.errors import UnreadableImage
from fovea_plugins.field_network import CHANNELS, FieldNetwork
from fovea_plugins.training import data, metrics
from fovea_plugins.training.data import Entry, Floats, Sample
from fovea_plugins.training.field_task import FieldTask
from fovea_plugins.training.measure_lesions import evaluate
from fovea_plugins.training.nets import NetConfig, WNet
from fovea_plugins.training.trainer import Schedule

__all__ = ["KINDS", "SCHEDULE", "LesionTask", "evaluate", "find", "finish", "make"]

KINDS = ("MA", "HE", "EX", "SE")
"""Folders of the label images, in the order of the outputs."""

KIND_WEIGHTS = (0.5, 0.3, 0.15, 0.2)
"""Of the losses: microaneurysms are learned last, hard exudates first."""

HEALTHY_SET, HEALTHY_SUFFIX = "HRF", "_h"
"""Photographs of healthy eyes: another camera, and no lesion in them."""

HEALTHY_SHARE = 0.15
"""Share of patches from healthy eyes."""

ON_LESION = 0.7
"""Share of patches centred near a lesion, each kind as often as any other."""

SCHEDULE = Schedule(learning_rate=8e-3, validate_minutes=8.0, minutes=40.0, first_validation=0.5)


def find(root: Path) -> list[Entry]:
    """Photographs below `root` with outlined lesions."""
    return data.find_entries(root, ("masks/MA",))


def healthy(root: Path) -> list[Entry]:
    """Photographs of healthy eyes to train on; none is no error."""
    try:
        entries = data.find_entries(root, ("vessels",))
    except UnreadableImage:
        return []
    of_set = [e for e in entries if e.dataset == HEALTHY_SET and e.use == "train"]
    return [entry for entry in of_set if entry.name.endswith(HEALTHY_SUFFIX)]


class LesionTask(FieldTask):
    """One output per kind of lesion."""

    name = "lesions"
    config = NetConfig(
        inputs=CHANNELS, outputs=4, first=(16, 32, 48, 64, 96), second=(16, 32, 48, 64), detail=8
    )
    field_diameter_px = 1152
    patch_px = 448
    patches = 2
    zoom = 1.3
    scale = (0.8, 1.5)
    damaged = 0.4

    def __init__(self, train: Sequence[Entry], held_out: Sequence[Entry] = ()) -> None:
        super().__init__(train, held_out)
        self._places = {(s.dataset, s.name): _places(s) for s in self._samples}

    @staticmethod
    def labels(entry: Entry) -> tuple[Floats, Floats]:
        """Target and known, (4, H, W). A missing label image means that there is no lesion."""
        masks = [entry.label(f"masks/{kind}") for kind in KINDS]
        present = next((mask for mask in masks if mask is not None), None)
        if present is None:
            photograph = entry.photograph()
            shape = (photograph.height, photograph.width)
        else:
            shape = present.shape
        target = np.zeros((len(KINDS), *shape), np.float32)
        for index, mask in enumerate(masks):
            if mask is not None:
                target[index] = mask > 0
        return target, np.ones_like(target)

    def draw(self, rng: np.random.Generator) -> Sample:
        """A photograph with lesions, or now and then one of a healthy eye."""
        sick = [s for s in self._samples if s.dataset != HEALTHY_SET]
        well = [s for s in self._samples if s.dataset == HEALTHY_SET]
        group = well if well and rng.random() < HEALTHY_SHARE else sick
        return group[int(rng.integers(len(group)))]

    def centre(self, rng: np.random.Generator, sample: Sample) -> Floats | None:
        """Near a lesion, so that rare kinds are seen as often as common ones."""
        places = [one for one in self._places[sample.dataset, sample.name] if len(one)]
        if not places or rng.random() >= ON_LESION:
            return None
        of_kind = places[int(rng.integers(len(places)))]
        place = of_kind[int(rng.integers(len(of_kind)))]
        return np.asarray(place + rng.uniform(-0.3, 0.3, 2) * self.patch_px, np.float32)

    def loss_of(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """Cross-entropy in proportion to how much of a kind there is, and Dice."""
        per_pixel = F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight
        amount = (target * weight).sum(dim=(0, 2, 3)) + 0.004 * weight.sum(dim=(0, 2, 3))
        entropy = per_pixel.sum(dim=(0, 2, 3)) / amount.clamp(min=1.0)
        found, wanted = logits.sigmoid() * weight, target * weight
        both, either = (found * wanted).sum(dim=(0, 2, 3)), (found + wanted).sum(dim=(0, 2, 3))
        overlap = 1.0 - (2.0 * both + 20.0) / (either + 20.0)
        return ((entropy + overlap) * entropy.new_tensor(KIND_WEIGHTS)).sum()

    def validate(self, network: WNet) -> dict[str, float]:
        """Area under the precision-recall curve of each kind, pixels of all held-out together."""
        predictor = FieldNetwork(network, self.field_diameter_px, mirrors=1)
        counts = [metrics.PixelCounts() for _ in KINDS]
        for sample in self._held or self._samples[:4]:
            found = predictor.probabilities(sample.pixels, sample.inside)
            for index, one in enumerate(counts):
                inside = sample.inside
                one.add(found[index][inside], sample.target[index][inside] > 127)
        figures = {k: one.average_precision() for k, one in zip(KINDS, counts, strict=True)}
        known = {name: value for name, value in figures.items() if value is not None}
        return {"score": float(np.mean(list(known.values()))), **known}


def _places(sample: Sample) -> list[Floats]:
    """Centres (N, 2), x and y, of the lesions of each kind."""
    found = []
    for mask in sample.target:
        count, _, _, centres = cv2.connectedComponentsWithStats((mask > 127).astype(np.uint8))
        found.append(centres[1:count].astype(np.float32))
    return found


def make(root: Path) -> LesionTask:
    """The task on all photographs with outlined lesions below `root`."""
    return LesionTask(find(root) + healthy(root))


def finish(root: Path, weights: Path) -> None:
    """Nothing is left to choose: the cuts were settled on the folds, see the model card."""
