"""Reads a photograph with the network in a weight file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open

from fovea.errors import WeightsError
from fovea.image import Mask, Photograph
from fovea_plugins.classifier.judge import Judge, from_json
from fovea_plugins.classifier.net import ClassifierConfig, ClassifierNet
from fovea_plugins.classifier.picture import network_view, square_view
from fovea_plugins.classifier.targets import TARGETS

Floats = NDArray[np.float32]
OOD = ("ood_mean", "ood_spread")


@dataclass(frozen=True)
class Reading:
    """What the network says about one photograph.

    Attributes:
        logits: (14,), mean over the picture and its mirror image, in the order of `TARGETS`.
        distance: From the training photographs: root mean square of the standardised features.
    """

    logits: Floats
    distance: float


class ClassifierReader:
    """The network, how far training photographs spread, and the second stage.

    Args:
        network: The network.
        facts: What the weight file says about itself.
        spread: Mean and standard deviation (F,) of the pooled features of the training
            photographs; None before they are known.
    """

    def __init__(
        self,
        network: ClassifierNet,
        facts: dict[str, Any],
        spread: tuple[Floats, Floats] | None = None,
    ) -> None:
        self.network = network.eval()
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.facts, self._spread = facts, spread
        self.input_px = int(facts["input_px"])

    @classmethod
    def read(cls, path: Path) -> ClassifierReader:
        """The reader in a weight file.

        Raises:
            WeightsError: it holds no classifier, or one with other targets.
        """
        with safe_open(path, framework="pt") as stored:
            facts = json.loads((stored.metadata() or {}).get("fovea", "{}"))
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        if facts.get("targets") != list(TARGETS):
            raise WeightsError(
                "It holds no classifier with these targets",
                where=path.name,
                why=f"Expected {', '.join(TARGETS)}",
                fix="Train it again with `fovea train classifier`",
            )
        shape: dict[str, Any] = dict(facts["network"])
        config = ClassifierConfig(**{**shape, "levels": tuple(shape["levels"])})
        network = ClassifierNet(config)
        spread = None
        if all(name in tensors for name in OOD):
            spread = (tensors.pop(OOD[0]).numpy(), tensors.pop(OOD[1]).numpy())
        network.load_state_dict(tensors)
        return cls(network, facts, spread)

    @property
    def judge(self) -> Judge:
        """The second stage in the weight file."""
        return from_json(self.facts["judge"])

    def on_photograph(self, photograph: Photograph) -> Reading:
        """Logits and distance of a photograph."""
        return self.on_view(*square_view(photograph, self.input_px))

    def on_view(self, pixels: NDArray[Any], inside: Mask) -> Reading:
        """Logits and distance of a square view (S, S, 3) and its field (S, S)."""
        pictures, style = self.tensors(pixels, inside)
        logits, pooled = self.answer(pictures, style)
        return Reading(logits, self.distance(pooled))

    def answer(self, pictures: torch.Tensor, style: torch.Tensor) -> tuple[Floats, Floats]:
        """Logits (14,) and pooled features (F,), mean over a picture and its mirror image."""
        with torch.inference_mode():
            pooled = self.network.pooled(pictures, style)
            logits = self.network.logits(self.network.hidden_of(pooled))
        return logits.mean(dim=0).numpy(), pooled.mean(dim=0).numpy()

    def tensors(self, pixels: NDArray[Any], inside: Mask) -> tuple[torch.Tensor, torch.Tensor]:
        """The view and its mirror image (2, 5, S, S), and their style numbers (2, 6)."""
        picture, style = network_view(pixels, inside)
        both = torch.from_numpy(np.stack([picture, picture[..., ::-1]]))
        styles = torch.from_numpy(np.stack([style, style]))
        return both.contiguous(memory_format=torch.channels_last), styles

    def distance(self, pooled: Floats) -> float:
        """Root mean square of the standardised features; 0 before their spread is known."""
        if self._spread is None:
            return 0.0
        return float(np.sqrt(np.mean(((pooled - self._spread[0]) / self._spread[1]) ** 2)))
