"""Training of the small planner on lessons: resumable, on one CPU core or more.

Questions of a lesson share its list of tools: they are packed behind it, each sees the
list and itself only, and starts at the same position, so that one pass reads the list once.
"""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.errors import ModelError
from fovea.llm.training.lessons import Tokens, encoded, lesson

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What `fovea llm train` does.

    Attributes:
        steps: Optimiser steps.
        lessons_per_step: Lessons in a batch.
        learning_rate: Its highest value.
        warm_up: Steps of rising rate.
        unlisted_steps: Steps, at first, with Fovea's own tools alone: questions are learnt
            before descriptions, which halves the time to both.
        cool_down: Share of the steps, at the end, of falling rate.
        hidden: Width; a multiple of 64, so that 4-bit quantisation works.
        inner: Width of the feed-forward part; a multiple of 64.
        layers: Number of layers.
        seed: Seed of data and weights.
    """

    steps: int = 6200
    lessons_per_step: int = 6
    learning_rate: float = 8e-4
    warm_up: int = 80
    unlisted_steps: int = 300
    cool_down: float = 0.13
    hidden: int = 256
    inner: int = 512
    layers: int = 5
    seed: int = 6

    def rate(self, step: int) -> float:
        """The learning rate at a step: rising, level, then falling to nothing."""
        falling = int(self.steps * self.cool_down)
        share = min(1.0, (step + 1) / self.warm_up, (self.steps - step) / max(1, falling))
        return self.learning_rate * max(0.0, share)


@dataclass(frozen=True)
class Batch:
    """Padded tokens of some lessons.

    Attributes:
        ids: (lessons, length) token ids.
        positions: (lessons, length); each question begins where the list of tools ends.
        groups: (lessons, length); 0 is the list of tools, then questions, -1 is padding.
        learn: (lessons, length); true where the next token is part of an answer.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    groups: torch.Tensor
    learn: torch.Tensor

    @property
    def mask(self) -> torch.Tensor:
        """(lessons, 1, length, length): what each token may look at."""
        import torch

        length = self.ids.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        same = self.groups[:, :, None] == self.groups[:, None, :]
        listed = (self.groups == 0)[:, None, :]
        return ((same | listed) & causal)[:, None]


def packed(lessons: Sequence[Tokens], pad: int = 0) -> Batch:
    """Lessons side by side."""
    import torch

    rows = []
    for made in lessons:
        ids, start = list(made.tools), len(made.tools)
        positions, groups, learn = list(range(start)), [0] * start, [False] * start
        for number, (turn, answer) in enumerate(made.turns, 1):
            ids += turn
            positions += range(start, start + len(turn))
            groups += [number] * len(turn)
            learn += [False] * (len(turn) - answer - 1) + [True] * answer + [False]
        rows.append((ids, positions, groups, learn))
    length = max(len(row[0]) for row in rows)

    def filled(place: int, filler: Any) -> torch.Tensor:
        return torch.tensor([[*row[place], *[filler] * (length - len(row[place]))] for row in rows])

    return Batch(filled(0, pad), filled(1, 0), filled(2, -1), filled(3, False))


class Lessons:
    """A data set of batches: the batch of a step depends on seed and step only."""

    def __init__(self, plan: Plan, tokenizer: Tokenizer, topics: Sequence[str]) -> None:
        from fovea.llm.training.tokens import with_dropout

        self.plan, self.topics = plan, topics
        self.tokenizers = (*[tokenizer] * 5, with_dropout(tokenizer, 0.1))

    def __len__(self) -> int:
        return self.plan.steps

    def __getitem__(self, step: int) -> Batch:
        chance = random.Random(self.plan.seed * 1_000_003 + step)  # noqa: S311  # no secret
        further = step >= self.plan.unlisted_steps
        made = [
            lesson(chance, self.topics, further=further) for _ in range(self.plan.lessons_per_step)
        ]
        return packed([encoded(one, chance, chance.choice(self.tokenizers)) for one in made])


def new_model(plan: Plan, vocabulary: int, end: int) -> Any:
    """An untrained decoder of the Llama architecture."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(plan.seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=plan.hidden,
        intermediate_size=plan.inner,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.hidden // 64,
        num_key_value_heads=plan.hidden // 64,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def answer_loss(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean loss per answer token, and which of them were right."""
    import torch

    base = model.module if hasattr(model, "module") else model
    hidden = base.model(
        input_ids=batch.ids, attention_mask=batch.mask, position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state  # fmt: skip
    places = batch.learn.nonzero(as_tuple=True)
    logits = base.lm_head(hidden[places]).float()
    wanted = batch.ids[places[0], places[1] + 1]
    loss = torch.nn.functional.cross_entropy(logits, wanted)
    return loss, logits.argmax(-1) == wanted


def train(
    plan: Plan, tokenizer: Tokenizer, topics: Sequence[str], work: Path, *, every: int = 200
) -> Iterator[dict[str, float]]:
    """Train or go on training in `work`; yields figures as it goes.

    Raises:
        ModelError: `work` holds a training of another plan.
    """
    import torch
    from accelerate import Accelerator
    from torch.utils.data import DataLoader, Subset

    work.mkdir(parents=True, exist_ok=True)
    cuda = torch.cuda.is_available()
    # Without bfloat16 units in the processor, autocast takes three times as long as float32.
    accelerator = Accelerator(cpu=not cuda, mixed_precision="bf16" if cuda else "no")
    model = new_model(plan, tokenizer.get_vocab_size(), int(tokenizer.token_to_id("<end>") or 0))
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.05, fused=True
    )
    model, optimiser = accelerator.prepare(model, optimiser)
    start = _resumed(plan, work, accelerator)
    every_batch: Any = Lessons(plan, tokenizer, topics)
    rest: Any = Subset(every_batch, range(start, plan.steps))
    loader = DataLoader(rest, batch_size=None, num_workers=1, prefetch_factor=4)
    clock, tokens, right, asked, summed = time.perf_counter(), 0, 0, 0, 0.0
    for step, batch in enumerate(loader, start):
        for group in optimiser.param_groups:
            group["lr"] = plan.rate(step)
        with accelerator.autocast():
            loss, hits = answer_loss(model, batch)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if not math.isfinite(loss.item()):
            raise ModelError(f"The loss became {loss.item()}", where=f"step {step}")
        tokens += int((batch.groups >= 0).sum())
        right, asked, summed = right + int(hits.sum()), asked + len(hits), summed + loss.item()
        if (step + 1) % 25 == 0:
            seconds = time.perf_counter() - clock
            yield {
                "step": step + 1,
                "loss": round(summed / 25, 4),
                "right": round(right / asked, 4),
                "tokens_per_s": round(tokens / seconds),
            }
            clock, tokens, right, asked, summed = time.perf_counter(), 0, 0, 0, 0.0
        if (step + 1) % every == 0 or step + 1 == plan.steps:
            accelerator.save_state(str(work / "state"))
            (work / "progress.json").write_text(json.dumps({"step": step + 1, **asdict(plan)}))
    save_model(accelerator.unwrap_model(model), tokenizer, work / "model")


def _resumed(plan: Plan, work: Path, accelerator: Any) -> int:
    """The step to go on from, with the state of the work folder loaded."""
    noted = work / "progress.json"
    if not noted.exists():
        return 0
    before = json.loads(noted.read_text())
    fixed = ("hidden", "inner", "layers", "seed")
    if any(before[name] != getattr(plan, name) for name in fixed):
        raise ModelError(
            "The folder holds a training with another plan", where=str(work),
            fix="Use another folder, or the same settings",
        )  # fmt: skip
    accelerator.load_state(str(work / "state"))
    return int(before["step"])


def save_model(model: Any, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights (bfloat16), configuration, tokenizer and chat template."""
    import copy

    import torch

    from fovea.llm.training.tokens import save_tokenizer

    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
