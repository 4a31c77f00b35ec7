"""Training of a LoRA adapter on prompts with known answers, for any causal model."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_BATCH, _REPLAY_SHARE = 16, 0.75


@dataclass(frozen=True)
class Pair:
    """A prompt as the chat template writes it, and the reply that it should get."""

    prompt: str
    answer: str


def right_share(model: Any, tokenizer: Any, pairs: Sequence[Pair]) -> float:
    """Share of the pairs whose whole answer is the likeliest at every token."""
    import torch

    right = 0
    for start in range(0, len(pairs), _BATCH):
        ids, mask, labels = _tensors(tokenizer, pairs[start : start + _BATCH], model.device)
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask).logits
        hit = (logits[:, :-1].argmax(-1) == labels[:, 1:]) | (labels[:, 1:] == -100)
        right += int(hit.all(dim=1).sum())
    return right / len(pairs)


def train_adapter(
    model: Any,
    tokenizer: Any,
    new: Sequence[Pair],
    known: Sequence[Pair],
    *,
    steps: int,
    rate: float,
    progress: Callable[[str], None],
) -> Any:
    """The model with a LoRA adapter that learnt `new` without forgetting `known`.

    Three quarters of every batch repeat what is known. The base weights stay as they are.
    """
    import torch
    from accelerate import Accelerator
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    chance = random.Random(0)  # noqa: S311  # order of batches, no secret
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    cuda = torch.cuda.is_available()
    accelerator = Accelerator(cpu=not cuda, mixed_precision="bf16" if cuda else "no")
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
    adapted, optimiser = accelerator.prepare(adapted, optimiser)
    adapted.train()
    many = int(_BATCH * _REPLAY_SHARE)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 10, 2 * (steps - step) / steps)
        batch = [*chance.choices(new, k=_BATCH - many), *chance.choices(known, k=many)]
        ids, mask, labels = _tensors(tokenizer, batch, accelerator.device)
        with accelerator.autocast():
            loss = adapted(input_ids=ids, attention_mask=mask, labels=labels).loss
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if (step + 1) % 40 == 0 or step + 1 == steps:
            progress(f"step {step + 1} of {steps}: loss {loss.item():.3f}")
    return accelerator.unwrap_model(adapted).eval()


def save_adapter(adapted: Any, folder: Path, base: str) -> None:
    """Write the adapter; it names its base by folder name only, no path."""
    for config in adapted.peft_config.values():
        config.base_model_name_or_path = base
    # Left to itself, peft asks the Hub whether the base's vocabulary has changed.
    adapted.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)


def _tensors(
    tokenizer: Any, pairs: Sequence[Pair], device: Any
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Right-padded ids, mask, and labels that are -100 outside the answers."""
    import torch

    rows = []
    for pair in pairs:
        asked = tokenizer(pair.prompt, add_special_tokens=False)["input_ids"]
        said = tokenizer(pair.answer, add_special_tokens=False)["input_ids"]
        rows.append((asked + said, [-100] * len(asked) + said))
    length = max(len(ids) for ids, _ in rows)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ids = torch.tensor([ids + [pad] * (length - len(ids)) for ids, _ in rows])
    mask = torch.tensor([[1] * len(ids) + [0] * (length - len(ids)) for ids, _ in rows])
    labels = torch.tensor([said + [-100] * (length - len(said)) for _, said in rows])
    return ids.to(device), mask.to(device), labels.to(device)
