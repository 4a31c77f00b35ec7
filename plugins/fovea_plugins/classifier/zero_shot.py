"""Scores conditions of the knowledge base by an image-text model that a person has.

CLIP-like checkpoints in the format of transformers (FLAIR- and UniMed-CLIP-style ones,
converted): a folder with `config.json` and `model.safetensors`. Nothing is downloaded.
`fovea zero-shot IMAGE --model DIR` prints the scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from fovea.errors import WeightsError
from fovea.image import Photograph, open_photograph
from fovea_plugins.classifier.picture import square_view

Floats = NDArray[np.float32]
LEAD = "a fundus photograph of"


class ImageTextModel:
    """A model that puts photographs and texts into one space.

    Args:
        model: With an image and a text tower.
        processor: Its tokenizer and image processor.
    """

    def __init__(self, model: Any, processor: Any) -> None:
        self._model, self._processor = model.eval(), processor
        self.image_px = int(model.config.vision_config.image_size)

    @classmethod
    def read(cls, folder: Path) -> ImageTextModel:
        """The model in a folder.

        Raises:
            WeightsError: no checkpoint, no text tower, pickled weights, or damaged files.
        """
        from transformers import AutoConfig, AutoModel, AutoProcessor
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        where = folder.name
        if not (folder / "config.json").is_file():
            raise WeightsError(
                "There is no image-text model in this folder",
                where=where,
                why="`config.json` is missing",
                fix="Name a folder that `save_pretrained` of transformers wrote",
            )
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            if getattr(config, "text_config", None) is None:
                raise WeightsError(
                    "The checkpoint has no text tower, so it cannot be asked in words",
                    where=where,
                    why=f"Its type is `{config.model_type}`",
                    fix="Use a CLIP-like checkpoint, or train a linear probe on this one",
                )
            model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise WeightsError(
                "The image-text model cannot be read",
                where=where,
                why=str(error).splitlines()[0][:200],
                fix="Save it again with safetensors, tokenizer and image processor",
            ) from error
        return cls(model, processor)

    def of_photograph(self, photograph: Photograph) -> Floats:
        """Unit vector (D,) of a photograph, its field of view filling the picture."""
        pixels, _ = square_view(photograph, self.image_px)
        inputs = self._processor(images=[pixels], return_tensors="pt")
        with torch.inference_mode():
            return np.asarray(_unit(self._model.get_image_features(**inputs))[0])

    def of_texts(self, texts: Sequence[str]) -> Floats:
        """Unit vectors (N, D) of texts."""
        inputs = self._processor(
            text=list(texts), return_tensors="pt", padding=True, truncation=True,
            max_length=int(self._model.config.text_config.max_position_embeddings),
        )  # fmt: skip
        with torch.inference_mode():
            return _unit(self._model.get_text_features(**inputs))

    def scores(
        self, photograph: Photograph, prompts: Mapping[str, Sequence[str]]
    ) -> dict[str, float]:
        """Share of each condition, adding up to 1; uncalibrated, it only orders them.

        Args:
            photograph: The photograph.
            prompts: Texts by condition; their vectors are averaged.
        """
        if not prompts:
            return {}
        means = np.stack([self.of_texts(texts).mean(axis=0) for texts in prompts.values()])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        scale = getattr(self._model, "logit_scale", None)
        alike = means @ self.of_photograph(photograph)
        alike = alike * (float(scale.detach().exp()) if scale is not None else 100.0)
        shares = np.exp(alike - alike.max())
        return dict(zip(prompts, (shares / shares.sum()).tolist(), strict=True))


def _unit(found: Any) -> Floats:
    # transformers 5 returns the tower's output object, earlier ones the vectors themselves.
    vectors = getattr(found, "pooler_output", found)
    return np.asarray(torch.nn.functional.normalize(vectors, dim=-1).numpy(), np.float32)


def knowledge_prompts() -> dict[str, list[str]]:
    """Texts of every condition of the knowledge base: names, synonyms and how it looks."""
    prompts = {}
    folder = files("fovea_knowledge") / "conditions"
    for path in sorted(folder.iterdir(), key=lambda one: one.name):
        entry = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = [entry["name"]["en"], *entry.get("synonyms", {}).get("en", [])]
        texts = [f"{LEAD} {name}" for name in names]
        parts = entry.get("descriptors", [])
        texts += [f"{LEAD} {part['text']}" for part in parts if "prompt" in part["use"]]
        prompts[entry["id"]] = texts
    return prompts


def likeliest(folder: Path, image: Path, *, most: int = 10) -> dict[str, Any]:
    """The conditions that a checkpoint finds likeliest in a photograph, as `fovea zero-shot`.

    Args:
        folder: Of the checkpoint.
        image: A fundus photograph.
        most: How many conditions are given.

    Raises:
        WeightsError: the checkpoint cannot be used.
        ImageError: the photograph cannot be read.
    """
    scores = ImageTextModel.read(folder).scores(open_photograph(image), knowledge_prompts())
    ordered = sorted(scores.items(), key=lambda item: -item[1])[:most]
    rows = [{"condition": name, "share": round(share, 4)} for name, share in ordered]
    return {"calibrated": False, "scores": rows}
