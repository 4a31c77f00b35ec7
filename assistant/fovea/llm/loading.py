"""Loads a model folder: weights, quantisation, adapters, with plain errors.

Nothing is downloaded: the folder must hold everything. Only safetensors are read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fovea.errors import ModelUnavailable
from fovea.llm.families import FamilyName, family_of

Quantisation = Literal["none", "int8", "nf4"]
_BYTES: Mapping[Quantisation, float] = {"none": 2.0, "int8": 1.1, "nf4": 0.65}
"""Bytes per parameter in memory, scales included; `none` is 4 on a CPU (float32)."""
_NEEDED = ("config.json",)
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tekken.json")


@dataclass
class LoadedModel:
    """A model in memory.

    Attributes:
        model: The transformers model, a PEFT model when adapters are registered.
        tokenizer: Its tokenizer.
        processor: Turns images into tensors; None for a text-only model.
        family: How it writes tool calls.
        adapters: Names that can be switched to.
    """

    model: Any
    tokenizer: Any
    processor: Any
    family: FamilyName
    adapters: tuple[str, ...] = ()

    @property
    def context(self) -> int:
        """Longest prompt and answer together, in tokens."""
        config = self.model.config
        text = getattr(config, "text_config", config)
        return int(getattr(text, "max_position_embeddings", 4096))


def load_folder(
    folder: Path,
    *,
    quantisation: Quantisation = "none",
    device: str = "auto",
    adapters: Mapping[str, Path] | None = None,
    family: FamilyName | None = None,
) -> LoadedModel:
    """The model in a folder.

    Args:
        folder: Holds config, tokenizer and safetensors.
        quantisation: int8 or nf4 by bitsandbytes, on CPU or CUDA.
        device: `auto`, `cpu` or a CUDA device.
        adapters: LoRA adapters by name; none is switched on.
        family: How it writes tool calls; told by its chat template when omitted.

    Raises:
        ModelUnavailable: folder, memory or adapter will not do.
    """
    config = _checked(folder)
    _quiet()
    import torch
    from safetensors import SafetensorError
    from transformers import AutoTokenizer

    target = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    _check_memory(folder, quantisation, target)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        seeing = "vision_config" in config
        model = _model_class(seeing).from_pretrained(
            folder, local_files_only=True, use_safetensors=True, device_map=target,
            **_precision(quantisation, target),
        )  # fmt: skip
        processor = None
        if seeing:
            from transformers import AutoProcessor

            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
    except (
        OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError,
    ) as error:  # fmt: skip
        raise ModelUnavailable(
            "The model cannot be loaded", where=f"`{folder.name}`", why=_short(error),
            fix="Use a folder as `save_pretrained` writes it, with safetensors",
        ) from error  # fmt: skip
    if not tokenizer.chat_template:
        raise ModelUnavailable(
            "The model has no chat template", where=f"`{folder.name}`",
            why="Without one nobody knows how it expects questions and tools",
            fix="Use an instruction-tuned model",
        )  # fmt: skip
    model.eval()
    model, names = _with_adapters(model, folder, dict(adapters or {}))
    template = tokenizer.chat_template
    text = template if isinstance(template, str) else json.dumps(template)
    found = family or family_of(text, str(config.get("model_type", "")))
    return LoadedModel(model, tokenizer, processor, found, names)


def _checked(folder: Path) -> dict[str, Any]:
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if not folder.is_dir() or missing:
        raise ModelUnavailable(
            "There is no model in this folder", where=f"`{folder.name}`",
            why=f"It has no {' or '.join(missing or _NEEDED)}",
            fix="Set `FOVEA_MODEL_DIR` to a folder as `save_pretrained` writes it",
        )  # fmt: skip
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ModelUnavailable(
            "The model has no tokenizer", where=f"`{folder.name}`",
            why=f"None of {', '.join(_TOKENIZERS)} is there",
            fix="Copy the tokenizer files of the model into the folder",
        )  # fmt: skip
    if not list(folder.glob("*.safetensors")):
        raise ModelUnavailable(
            "The model has no safetensors weights", where=f"`{folder.name}`",
            why="Pickled weights can run code and are not read",
            fix="Convert them with `save_pretrained`",
        )  # fmt: skip
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelUnavailable(
            "The model's config.json is no JSON", where=f"`{folder.name}`", why=_short(error)
        ) from error
    return config


def _model_class(seeing: bool) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    return AutoModelForImageTextToText if seeing else AutoModelForCausalLM


def _precision(quantisation: Quantisation, target: str) -> dict[str, Any]:
    import torch
    from transformers import BitsAndBytesConfig

    cuda = target.startswith("cuda")
    # A CPU decodes small models in float32 as fast, and without rounding.
    dtype = torch.bfloat16 if cuda else torch.float32
    if quantisation == "int8":
        return {"dtype": dtype, "quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    if quantisation == "nf4":
        return {
            "dtype": dtype,
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype,
                bnb_4bit_use_double_quant=True,
            ),
        }  # fmt: skip
    return {"dtype": dtype}


def _with_adapters(
    model: Any, folder: Path, adapters: dict[str, Path]
) -> tuple[Any, tuple[str, ...]]:
    if not adapters:
        return model, ()
    from peft import PeftModel

    for name, path in adapters.items():
        check_adapter(path, folder)
        try:
            if isinstance(model, PeftModel):
                model.load_adapter(str(path), adapter_name=name, use_safetensors=True)
            else:
                model = PeftModel.from_pretrained(
                    model, str(path), adapter_name=name, use_safetensors=True
                )
        except (RuntimeError, ValueError, OSError, KeyError) as error:
            raise ModelUnavailable(
                "The adapter does not fit the model", where=f"adapter `{name}`",
                why=_short(error), fix="Train it again with `fovea llm adapt`",
            ) from error  # fmt: skip
    model.eval()
    return model, tuple(adapters)


def check_adapter(adapter: Path, folder: Path) -> None:
    """Whether an adapter was made for the model in a folder.

    Raises:
        ModelUnavailable: it is none, or was made for another model.
    """
    try:
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            "There is no adapter in this folder", where=f"`{adapter.name}`", why=_short(error)
        ) from error
    base = config.get("base_model_name_or_path") or ""
    if base and Path(base).name != folder.name:
        raise ModelUnavailable(
            "The adapter was made for another model", where=f"`{adapter.name}`",
            why=f"It belongs to `{Path(base).name}`, not to `{folder.name}`",
            fix="Choose its model, or train an adapter for this one",
        )  # fmt: skip


def needed_gb(folder: Path, quantisation: Quantisation, target: str = "cpu") -> float:
    """Memory in GB that the weights take, with a fifth for activations and cache."""
    stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    parameters = stored / 2  # published weights have two bytes per parameter
    each = _BYTES[quantisation]
    if quantisation == "none" and not target.startswith("cuda"):
        each = 4.0
    return parameters * each * 1.2 / 1e9


def _check_memory(folder: Path, quantisation: Quantisation, target: str) -> None:
    free = free_gb(target)
    needed = needed_gb(folder, quantisation, target)
    if needed <= free:
        return
    smaller = [q for q in ("int8", "nf4") if needed_gb(folder, q, target) <= free]
    fix = (
        f"Set `FOVEA_QUANTISATION={smaller[0]}`, which needs "
        f"{needed_gb(folder, smaller[0], target):.1f} GB"  # type: ignore[arg-type]
        if smaller
        else "Use a smaller model, or `FOVEA_BACKEND=rules`, which needs no weights"
    )
    raise ModelUnavailable(
        "There is not enough memory for the model", where=f"`{folder.name}`",
        why=f"It needs {needed:.1f} GB with quantisation `{quantisation}`; {free:.1f} GB are free",
        fix=fix,
    )  # fmt: skip


def free_gb(target: str) -> float:
    """Free memory of the device in GB."""
    if target.startswith("cuda"):
        import torch

        return float(torch.cuda.mem_get_info(target)[0]) / 1e9
    import psutil

    return float(psutil.virtual_memory().available) / 1e9


def _quiet() -> None:
    """Silence what bitsandbytes says at every matrix product, and bars of a second's loading."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    for name in ("bitsandbytes.autograd._functions", "bitsandbytes.backends.cpu.ops"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
