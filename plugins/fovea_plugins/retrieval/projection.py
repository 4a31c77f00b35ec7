"""From raw descriptors to one unit vector, and back to what two vectors share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from fovea_plugins.retrieval.features import BLOCKS, Floats

BLOCK_SHARES = {"colour": 0.15, "texture": 0.60, "layout": 0.25}
"""Share of each block in the closeness of two photographs (sum 1)."""
PARTS = {"looks": 0.4, "diagnosis": 0.6}
"""Share of the two parts of a block: unlabelled variation, and directions that go with a label."""
CLIP_SD = 6.0


@dataclass(frozen=True)
class Projection:
    """Linear maps fitted on a data set, one pair per block.

    Attributes:
        tensors: Per block `mean`, `sd`, `centre` (N,), `looks` and `diagnosis`
            (N, D); and `pairs` per block and for `all`: sorted quantiles of
            the cosine distance of random pairs of patients.
    """

    tensors: Mapping[str, Floats]

    @classmethod
    def read(cls, path: Path) -> Projection:
        """The projection in a safetensors file."""
        return cls(load_file(path))

    def write(self, path: Path) -> None:
        """Write the projection as a safetensors file."""
        save_file({name: np.ascontiguousarray(v) for name, v in self.tensors.items()}, path)

    def vector(self, descriptors: Mapping[str, Floats]) -> Floats:
        """The unit vector (D,) float32 of raw descriptors.

        Each part of each block has a fixed length, so the closeness of two
        vectors is the weighted mean of the closeness of their blocks.
        """
        parts = []
        for block in BLOCKS:
            standard = standardised(
                descriptors[block], self.tensors[f"{block}.mean"], self.tensors[f"{block}.sd"]
            )
            centred = standard - self.tensors[f"{block}.centre"]
            for part, share in PARTS.items():
                values = centred @ self.tensors[f"{block}.{part}"]
                length = max(float(np.linalg.norm(values)), 1e-9)
                parts.append(values * np.sqrt(BLOCK_SHARES[block] * share) / length)
        vector = np.concatenate(parts)
        return np.asarray(vector / np.linalg.norm(vector), np.float32)

    def block_distances(self, first: Floats, second: Floats) -> dict[str, float]:
        """Cosine distance of two vectors (D,) in each block, 0 to 2."""
        distances, start = {}, 0
        for block in BLOCKS:
            width = sum(self.tensors[f"{block}.{part}"].shape[1] for part in PARTS)
            span = slice(start, start + width)
            start += width
            distances[block] = 1.0 - float(first[span] @ second[span]) / BLOCK_SHARES[block]
        return distances

    def share_further_apart(self, name: str, distance: float) -> float:
        """Share (0 to 1) of the reference pairs that are further apart than `distance`."""
        return share_above(self.tensors[f"{name}.pairs"], distance)


def standardised(values: Floats, mean: Floats, sd: Floats) -> Floats:
    """Values in standard deviations, clipped: one odd pixel must not rule the vector."""
    return np.asarray(np.clip((values - mean) / sd, -CLIP_SD, CLIP_SD), np.float32)


def share_above(ordered: Floats, value: float) -> float:
    """Share (0 to 1) of sorted values that are larger than `value`."""
    return 1.0 - float(np.searchsorted(ordered, value, side="right")) / len(ordered)
