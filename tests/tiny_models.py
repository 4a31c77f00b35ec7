"""Tiny untrained transformers models in real formats, for tests of the plumbing.

Their words mean nothing: what is tested is that constrained calls are valid, that streaming,
stopping, adapters and quantisation work, and that errors are typed.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from fovea.llm.loading import LoadedModel

TEMPLATE = (
    "{%- if tools %}<|im_start|>system\nTools: {{ tools | tojson }}<|im_end|>\n{%- endif %}"
    "{%- for message in messages -%}"
    "<|im_start|>{{ message.role }}\n"
    "{%- if message.content is string %}{{ message.content }}"
    "{%- else %}{%- for part in message.content %}"
    "{%- if part.type == 'image' %}<image>{%- else %}{{ part.text }}{%- endif %}"
    "{%- endfor %}{%- endif %}"
    "{%- for call in message.tool_calls or [] %}<tool_call>{{ call | tojson }}</tool_call>"
    "{%- endfor %}<|im_end|>\n{%- endfor -%}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif -%}"
)
MARKS = ("<pad>", "<|im_start|>", "<|im_end|>", "<image>")


@cache
def tokenizer() -> Any:
    """A byte-level tokenizer with the marks of the Hermes format."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384, special_tokens=list(MARKS), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    words = ["the vessels of the eye are measured", "name arguments image img1 tool call"] * 40
    made.train_from_iterator(words, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, padding_side="left", **{"pad_token": MARKS[0], "eos_token": MARKS[2]}
    )
    fast.chat_template = TEMPLATE
    return fast


def _config(**changes: Any) -> Any:
    from transformers import LlamaConfig

    fields: dict[str, Any] = {
        "vocab_size": len(tokenizer()), "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 2048, "tie_word_embeddings": True, "bos_token_id": None,
        "eos_token_id": tokenizer().eos_token_id, "pad_token_id": 0,
    }  # fmt: skip
    return LlamaConfig(**(fields | changes))


@cache
def tiny_hermes() -> LoadedModel:
    """A text model of the Hermes family in memory."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    return LoadedModel(LlamaForCausalLM(_config()).eval(), tokenizer(), None, "hermes")


def save_hermes(folder: Path) -> Path:
    """The same as a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_hermes().model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def save_adapter(folder: Path, base: Path, seed: int = 1) -> Path:
    """A LoRA adapter for the model of a folder, with weights that change its replies."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.5)
    adapted.save_pretrained(folder)
    return folder


def save_llava(folder: Path) -> Path:
    """A vision-language model (CLIP and Llama) with its processor."""
    import torch
    from transformers import (
        CLIPImageProcessorPil,
        CLIPVisionConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    torch.manual_seed(0)
    fast = tokenizer()
    mark = fast.convert_tokens_to_ids("<image>")
    vision = CLIPVisionConfig(
        hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        image_size=28, patch_size=14,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=_config(), image_token_id=mark, image_token_index=mark,
        vision_feature_layer=-1, vision_feature_select_strategy="default",
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    LlavaForConditionalGeneration(config).eval().save_pretrained(folder)
    pictures = CLIPImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    processor = LlavaProcessor(
        image_processor=pictures, tokenizer=fast, patch_size=14, chat_template=TEMPLATE,
        vision_feature_select_strategy="default", **{"image_token": MARKS[3]},
        num_additional_image_tokens=1,
    )  # fmt: skip
    processor.save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder
