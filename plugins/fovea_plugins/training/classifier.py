"""The task `classifier`: grade of retinopathy, risk of macular oedema, ODIR's conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the customary name)

from fovea.errors import WeightsError
from fovea_plugins.classifier.net import ClassifierConfig, ClassifierNet
from fovea_plugins.classifier.picture import network_view
from fovea_plugins.classifier.targets import TARGETS
from fovea_plugins.training import augment
from fovea_plugins.training.classifier_data import (
    KEPT_PX,
    Case,
    find_cases,
    load_pictures,
    targets_of,
    turned,
)
from fovea_plugins.training.classifier_ship import finish
from fovea_plugins.training.data import Floats
from fovea_plugins.training.measure_classifier import evaluate
from fovea_plugins.training.trainer import Schedule

__all__ = ["SCHEDULE", "ClassifierTask", "evaluate", "finish", "make"]

START = Path(__file__).parents[1] / "segmenter/vessels/weights/artery_vein.safetensors"
START_LEVELS = "first.down."

BATCH = 16
SIZES = (192, 256, 320)
"""Pictures are shown at several sizes: small ones are cheap, large ones show small lesions."""

SIZE_SHARES = (0.4, 0.35, 0.25)
INPUT_PX = 320
"""Size at which photographs are judged afterwards."""

SMOOTH = 0.02
"""Labels are moved this far from 0 and 1: some are wrong."""

IDRID_SHARE = 0.25
"""Share of pictures from sets that are graded for oedema; they are few."""

SCHEDULE = Schedule(
    learning_rate=2e-3,
    weight_decay=0.02,
    minutes=45.0,
    validate_minutes=8.0,
    first_validation=0.3,
    ema=0.995,
)


class ClassifierTask:
    """Whole pictures with every label that their table gives; see `trainer.Task`.

    Args:
        cases: All cases; `use` says which are learned from and which are held out.
    """

    name = "classifier"
    config = ClassifierConfig(outputs=len(TARGETS))

    def __init__(self, cases: Sequence[Case]) -> None:
        self._cases = list(cases)
        self._pictures = load_pictures(self._cases)
        self._targets = targets_of(self._cases)
        self._train = np.array([i for i, c in enumerate(self._cases) if c.use == "train"])
        self._held = np.array([i for i, c in enumerate(self._cases) if c.use == "calibration"])
        known = ~np.isnan(self._targets[self._train])
        positive = np.nansum(self._targets[self._train], axis=0)
        # The square root: rare conditions count more, but their probability is not bent too far.
        ratio = (known.sum(axis=0) - positive) / np.maximum(positive, 1)
        self._weight = torch.from_numpy(np.sqrt(np.clip(ratio, 0.25, 25)).astype(np.float32))
        few = ~np.isnan(self._targets[self._train][:, TARGETS.index("dme_1")])
        self._parts = [part for part in (self._train[few], self._train[~few]) if len(part)]
        self._curves = {int(i): self._curve(i) for i in self._train}
        self.facts: Mapping[str, Any] = {
            "task": self.name,
            "targets": list(TARGETS),
            "input_px": INPUT_PX,
            "trained_on": [self._cases[i].key for i in self._train],
            "held_out": [self._cases[i].key for i in self._held],
            "batch": BATCH,
        }

    def network(self) -> ClassifierNet:
        """A new network whose first levels are those of the artery-vein network.

        They were learned from other photographs and hold no label of disease; with some
        thousand photographs a network that starts at random learns edges badly.
        """
        network = ClassifierNet(self.config)
        shared = {}
        with safe_open(START, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                if name.startswith(START_LEVELS):
                    shared[name.removeprefix("first.")] = stored.get_tensor(name)
        left = network.load_state_dict(shared, strict=False)
        if left.unexpected_keys or not shared:
            raise WeightsError("The encoder does not fit", where=START.name)
        return network

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Inputs (N, 5, S, S), style numbers (N, 6) and targets (N, 14), NaN where unknown."""
        size = int(rng.choice(SIZES, p=SIZE_SHARES))
        inputs, styles, picked = [], [], []
        for _ in range(BATCH):
            index = self._draw(rng)
            pixels, inside = self._shown(rng, index, size)
            picture, style = network_view(pixels, inside)
            inputs.append(picture)
            styles.append(style)
            picked.append(index)
        return {
            "input": torch.from_numpy(np.stack(inputs)),
            "style": torch.from_numpy(np.stack(styles)),
            "target": torch.from_numpy(self._targets[picked]),
        }

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of every known label."""
        picture = batch["input"].contiguous(memory_format=torch.channels_last)
        logits: Tensor = network(picture, batch["style"])
        target = batch["target"]
        known = ~target.isnan()
        smooth = target.nan_to_num(0.5) * (1 - 2 * SMOOTH) + SMOOTH
        losses = F.binary_cross_entropy_with_logits(
            logits, smooth, reduction="none", pos_weight=self._weight
        )
        return (losses * known).sum() / known.sum().clamp(min=1)

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Area under the ROC curve of each output on the calibration part; `score` counts steps.

        The last weights are always the ones that are kept: choosing by the calibration part
        would spoil it for calibrating.
        """
        from fovea_plugins.training.classifier_metrics import auc

        index = self._held
        found = self.logits(network, index)
        figures = {}
        for column, name in enumerate(TARGETS):
            truth = self._targets[index, column]
            known = ~np.isnan(truth)
            value = auc(truth[known], found[known, column])
            if value is not None:
                figures[name] = value
        self._validations = getattr(self, "_validations", 0) + 1
        return {"score": float(self._validations), **figures}

    def logits(self, network: nn.Module, index: Sequence[int] | Any) -> Floats:
        """Logits (N, 14) of cases, each as it is (no flips)."""
        found = []
        network.eval()
        for one in index:
            pixels, inside = _resized(self._pictures.pixels[one], self._pictures.inside[one])
            picture, style = network_view(pixels, inside)
            with torch.inference_mode():
                tensor = torch.from_numpy(picture)[None]
                tensor = tensor.contiguous(memory_format=torch.channels_last)
                found.append(network(tensor, torch.from_numpy(style)[None])[0].numpy())
        return np.array(found, np.float32).reshape(-1, len(TARGETS))

    def _draw(self, rng: np.random.Generator) -> int:
        part = self._parts[0 if rng.random() < IDRID_SHARE or len(self._parts) < 2 else 1]
        return int(part[int(rng.integers(len(part)))])

    def _shown(self, rng: np.random.Generator, index: int, size: int) -> tuple[Any, Any]:
        """The picture turned, scaled, mirrored, restyled and damaged at random."""
        angle = np.deg2rad(rng.uniform(-25, 25))
        zoom = float(np.exp(rng.uniform(np.log(0.85), np.log(1.25)))) * size / KEPT_PX
        flip = 1.0 if rng.random() < 0.5 else -1.0
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn @ np.diag([flip, 1.0 if rng.random() < 0.8 else -1.0]) / zoom
        shift = rng.uniform(-0.05, 0.05, 2) * KEPT_PX
        middle = np.full(2, (KEPT_PX - 1) / 2)
        offset = middle + shift - matrix @ np.full(2, (size - 1) / 2)
        pixels, inside = turned(
            self._pictures.pixels[index],
            self._pictures.inside[index],
            np.column_stack([matrix, offset]).astype(np.float32),
            size,
        )
        other = self._curves[int(self._train[int(rng.integers(len(self._train)))])]
        styled = _restyled(rng, pixels, self._curves[index], other)
        return augment.damage(rng, styled) if rng.random() < 0.4 else styled, inside

    def _curve(self, index: int) -> Floats:
        pixels = self._pictures.pixels[index][self._pictures.inside[index]]
        counts = [np.bincount(pixels[:, c], minlength=256) + 1e-3 for c in range(3)]
        return np.stack([np.cumsum(c) / c.sum() for c in counts]).astype(np.float32)


def _restyled(rng: np.random.Generator, pixels: Any, own: Floats, other: Floats) -> Floats:
    """As `augment.restyle`, by tables of 256 values: ten times faster on whole pictures."""
    levels = np.arange(256, dtype=np.float32)
    tables = np.stack([levels] * 3)
    if rng.random() < 0.35:  # part of the way to another photograph's tones
        share = float(rng.uniform(0.3, 1.0))
        matched = np.stack([np.interp(own[c], other[c], levels) for c in range(3)])
        tables = share * matched + (1.0 - share) * tables
    gamma = np.exp(rng.normal(0.0, 0.2, (3, 1)))
    tables = 255.0 * (tables / 255.0) ** gamma * rng.uniform(0.7, 1.25)
    styled = cv2.LUT(pixels, np.clip(tables, 0, 255).T.astype(np.uint8)[:, None, :])
    moved = styled.astype(np.float32)
    if rng.random() < 0.5:
        mix = np.eye(3) + rng.uniform(-augment.MIXES, augment.MIXES, (3, 3))
        moved = np.asarray(cv2.transform(moved, mix.astype(np.float32)), np.float32)
    if rng.random() < 0.05:
        moved = np.repeat(moved[..., 1:2], 3, axis=2)  # red-free: one grey channel
    coarse = np.exp(rng.normal(0.0, 0.12, (3, 3))).astype(np.float32)
    light = cv2.resize(coarse, moved.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(np.clip(moved * light[..., None], 0, 255), np.float32)


def _resized(pixels: Any, inside: Any) -> tuple[Any, Any]:
    matrix = np.array([[1.0, 0, 0], [0, 1.0, 0]], np.float32) * (KEPT_PX / INPUT_PX)
    matrix[:, 2] = (KEPT_PX / INPUT_PX - 1) / 2
    return turned(np.asarray(pixels), np.asarray(inside), matrix, INPUT_PX)


def make(root: Path) -> ClassifierTask:
    """The task on every labelled photograph below `root`."""
    return ClassifierTask(find_cases(root))
