"""The task `probe`: a linear layer on frozen features, to adapt them to own photographs.

`fovea train probe --data DIR`, where DIR holds one folder of photographs per condition
(`DIR/glaucoma/a.jpg`), named as the knowledge base names it, and perhaps a checkpoint of
an image-text or image model in `DIR/model`; without one the classifier's own features
are used. Every fifth photograph is held out.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (the customary name)

from fovea.errors import ConfigError, UnreadableImage
from fovea_plugins.classifier.picture import square_view
from fovea_plugins.classifier.reading import ClassifierReader
from fovea_plugins.classifier.zero_shot import ImageTextModel, knowledge_prompts
from fovea_plugins.training import classifier_metrics as metrics
from fovea_plugins.training.classifier_data import read_photograph
from fovea_plugins.training.data import IMAGE_SUFFIXES, Floats
from fovea_plugins.training.measure_classifier import shipped_weights
from fovea_plugins.training.trainer import Schedule, read_facts

MODEL = "model"
HELD_OUT = 5
BATCH = 64
SCHEDULE = Schedule(steps=400, learning_rate=1e-2, weight_decay=1e-2, ema=0.98)


@dataclass(frozen=True)
class ProbeConfig:
    """Width of the features, and number of conditions."""

    inputs: int
    outputs: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


class Probe(nn.Module):
    """Logits (N, outputs) of features (N, inputs)."""

    def __init__(self, config: ProbeConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.BatchNorm1d(config.inputs, affine=False)
        self.logits = nn.Linear(config.inputs, config.outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, outputs)."""
        found: Tensor = self.logits(self.norm(features))
        return found


@dataclass(frozen=True)
class Labelled:
    """Photographs by folder: which condition each shows, and whether it is held out."""

    labels: tuple[str, ...]
    paths: tuple[Path, ...]
    truth: tuple[int, ...]
    held_out: tuple[bool, ...]


def find_labelled(root: Path) -> Labelled:
    """The photographs in the folders of conditions below `root`.

    Raises:
        ConfigError: a folder is named like no condition, or there is one condition only.
        UnreadableImage: there are no photographs.
    """
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and path.name != MODEL]
    known = list(knowledge_prompts())
    for folder in folders:
        if folder.name not in known:
            near = difflib.get_close_matches(folder.name, known, n=1)
            raise ConfigError(
                f"No condition is named `{folder.name}`",
                where=folder.name,
                fix=f"Did you mean `{near[0]}`?" if near else "See `fovea knowledge search`",
            )
    pairs = [
        (index, path)
        for index, folder in enumerate(folders)
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not pairs:
        raise UnreadableImage(
            "There are no labelled photographs",
            where=root.name,
            why="Expected one folder of photographs per condition",
            fix="Put photographs into `glaucoma`, `normal_fundus` and so on",
        )
    if len({index for index, _ in pairs}) < 2:
        raise ConfigError(
            "There is only one condition to learn",
            where=folders[pairs[0][0]].name,
            why="A probe tells conditions apart",
            fix="Add photographs of another one, such as `normal_fundus`",
        )
    digests = [hashlib.sha256(path.name.encode()).digest()[0] for _, path in pairs]
    return Labelled(
        tuple(folder.name for folder in folders),
        tuple(path for _, path in pairs),
        tuple(index for index, _ in pairs),
        tuple(digest % HELD_OUT == 0 for digest in digests),
    )


def features(root: Path, paths: tuple[Path, ...]) -> Floats:
    """(N, D) of photographs, by the checkpoint in `root/model` or the classifier's own network."""
    if (root / MODEL).is_dir():
        model = ImageTextModel.read(root / MODEL)
        return np.stack([model.of_photograph(read_photograph(path)) for path in paths])
    reader = ClassifierReader.read(shipped_weights())
    found = []
    for path in paths:
        pictures, style = reader.tensors(*square_view(read_photograph(path), reader.input_px))
        found.append(reader.answer(pictures, style)[1])
    return np.stack(found)


class ProbeTask:
    """Frozen features and their conditions; see `trainer.Task`."""

    name = "probe"

    def __init__(self, root: Path) -> None:
        self._cases = find_labelled(root)
        self._features = torch.from_numpy(features(root, self._cases.paths))
        self._truth = torch.tensor(self._cases.truth)
        held = np.array(self._cases.held_out)
        self._train, self._held = np.flatnonzero(~held), np.flatnonzero(held)
        self.facts: Mapping[str, Any] = {"task": self.name, "labels": list(self._cases.labels)}

    def network(self) -> Probe:
        """A new linear layer."""
        return Probe(ProbeConfig(int(self._features.shape[1]), len(self._cases.labels)))

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Features (64, D) and conditions (64,), each condition as likely as any other."""
        truth = self._truth.numpy()[self._train]
        groups = [self._train[truth == label] for label in np.unique(truth)]
        picked = [int(rng.choice(groups[int(rng.integers(len(groups)))])) for _ in range(BATCH)]
        return {"features": self._features[picked], "truth": self._truth[picked]}

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(network(batch["features"]), batch["truth"])

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Balanced accuracy on the held-out photographs; the last weights are kept."""
        with torch.inference_mode():
            found = network(self._features[self._held]).argmax(dim=1)
        truth = self._truth[self._held]
        shares = [float((found[truth == one] == one).float().mean()) for one in torch.unique(truth)]
        return {"score": float(np.mean(shares)) if shares else 0.0}


def make(root: Path) -> ProbeTask:
    """The task on the folders below `root`."""
    return ProbeTask(root)


def finish(root: Path, weights: Path) -> None:
    """Nothing is left to choose."""


def evaluate(root: Path, weights: Path | None) -> dict[str, Any]:
    """AUC of each condition on the held-out photographs.

    Raises:
        ConfigError: no weights are named, or they are of other conditions.
    """
    if weights is None:
        raise ConfigError("No probe is shipped", where="--weights", fix="Name the file to measure")
    task = ProbeTask(root)
    cases = find_labelled(root)
    if read_facts(weights)["labels"] != list(cases.labels):
        raise ConfigError(
            "The probe was trained on other conditions", where=weights.name, fix="Train it again"
        )
    from safetensors.torch import load_file

    network = task.network()
    network.load_state_dict(load_file(weights))
    network.eval()
    held = np.flatnonzero(np.array(cases.held_out))
    with torch.inference_mode():
        shares = network(task._features[held]).softmax(dim=1).numpy()
    truth = np.array(cases.truth)[held]
    return {
        "n": len(held),
        "auc": {
            label: metrics.auc((truth == index).astype(float), shares[:, index])
            for index, label in enumerate(cases.labels)
        },
    }
