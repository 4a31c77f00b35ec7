"""The task `retrieval`: fits the projection of the encoder, and measures it beside baselines."""

from __future__ import annotations

from pathlib import Path

from fovea_plugins.retrieval import train
from fovea_plugins.retrieval.evaluation import evaluate, odir_folder

__all__ = ["evaluate", "fit"]


def fit(root: Path, out: Path, *, seed: int) -> Path:
    """Fit the projection on `use=train` of ODIR; the weight file. Nothing in it is drawn."""
    del seed  # linear algebra only: every seed gives the same weights
    path = out / "classical.safetensors"
    out.mkdir(parents=True, exist_ok=True)
    train.fit(train.read_odir(odir_folder(root), "train")).write(path)
    return path
