"""The two fitted models of the gate: is it retina, and how good is the picture.

Both are linear in measured features, so that the features that speak against a
picture can be named; coefficients and how they came about are in the weight file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

Vector = NDArray[np.float64]

MOST_BEYOND = 2.0
"""Further out than this counts no more."""


@dataclass(frozen=True)
class Linear:
    """Log odds linear in standardised features: sum(weight * (x - mean) / scale) - cut.

    Attributes:
        names: Of the features.
        mean, scale, weight: One per feature.
        cuts: One per threshold, rising: two for three ordered grades.
    """

    names: tuple[str, ...]
    mean: Vector
    scale: Vector
    weight: Vector
    cuts: Vector

    def parts(self, features: Mapping[str, float]) -> dict[str, float]:
        """What each feature adds to the log odds."""
        values = np.array([features[name] for name in self.names])
        added = self.weight * (values - self.mean) / self.scale
        return dict(zip(self.names, (float(one) for one in added), strict=True))

    def probabilities(self, features: Mapping[str, float]) -> Vector:
        """Probability to lie above each cut, falling."""
        total = sum(self.parts(features).values())
        odds: Vector = 1.0 / (1.0 + np.exp(np.clip(self.cuts - total, -40.0, 40.0)))
        return odds


@dataclass(frozen=True)
class Ranges:
    """The range that each property has in retinal photographs."""

    names: tuple[str, ...]
    low: Vector
    high: Vector

    def beyond(self, values: Mapping[str, float | None]) -> dict[str, float]:
        """How far each value lies outside, in widths of the range; 0 inside, and where unknown."""
        found = {}
        for name, low, high in zip(self.names, self.low, self.high, strict=True):
            value = values[name]
            excess = 0.0 if value is None else max(low - value, value - high, 0.0)
            found[name] = float(min(excess / (high - low), MOST_BEYOND))
        return found


@dataclass(frozen=True)
class Fitted:
    """All that was fitted: is it retina, the ranges used for that, and the three grades."""

    fundus: Linear
    appearance: Ranges
    grade: Linear

    @classmethod
    def read(cls, path: Path, names: Mapping[str, Sequence[str]]) -> Fitted:
        """The models in a weight file.

        Args:
            path: A safetensors file that `write` made.
            names: The features that the program measures, for each model.

        Raises:
            ValueError: the file was fitted on other features.
        """
        with safe_open(path, framework="numpy") as stored:
            facts: dict[str, Any] = json.loads(stored.metadata()["fovea"])
            found = {
                key: np.asarray(stored.get_tensor(key), np.float64) for key in sorted(stored.keys())
            }
        for model, wanted in names.items():
            if tuple(facts["features"][model]) != tuple(wanted):
                raise ValueError(f"the weights of `{model}` were fitted on other features")
        linear = {
            name: Linear(
                tuple(names[name]),
                *(found[f"{name}.{part}"] for part in ("mean", "scale", "weight", "cuts")),
            )
            for name in ("fundus", "grade")
        }
        low, high = found["appearance.low"], found["appearance.high"]
        return cls(linear["fundus"], Ranges(tuple(names["appearance"]), low, high), linear["grade"])

    def write(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Writes the models and how they came about as safetensors."""
        tensors = {"appearance.low": self.appearance.low, "appearance.high": self.appearance.high}
        for name, model in (("fundus", self.fundus), ("grade", self.grade)):
            parts = {"mean": model.mean, "scale": model.scale, "weight": model.weight}
            tensors |= {f"{name}.{part}": value for part, value in parts.items()}
            tensors[f"{name}.cuts"] = model.cuts
        names = {
            "fundus": self.fundus.names,
            "appearance": self.appearance.names,
            "grade": self.grade.names,
        }
        save_file(
            {name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()},
            path,
            metadata={"fovea": json.dumps({**facts, "features": names})},
        )
