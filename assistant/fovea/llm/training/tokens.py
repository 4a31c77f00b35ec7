"""The tokenizer of the small planner: byte-level pieces learnt from the grammar."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from fovea.llm.compact import CHAT_TEMPLATE, END, PAD, SPECIAL, turn_text
from fovea.llm.training.lessons import lessons, tools_prompt

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 4096
_LESSONS = 2500


def learn_tokenizer(seed: int, topics: Sequence[str]) -> Tokenizer:
    """A tokenizer for text as the grammar writes it; every byte can be encoded."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=3,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(seed, topics), trainer)
    # Marks of an answer are content: servers leave special tokens out of the text.
    content = json.loads(tokenizer.to_str())
    for token in content["added_tokens"]:
        token["special"] = token["content"] in {PAD, END}
    return Tokenizer.from_str(json.dumps(content))


def _texts(seed: int, topics: Sequence[str]) -> Iterator[str]:
    chance = random.Random(seed)  # noqa: S311  # training data, no secret
    for made in islice(lessons(seed, topics), _LESSONS):
        yield tools_prompt(made, chance)
        for scene in made.scenes:
            yield turn_text(scene.images, scene.history, scene.question)
    yield from topics


def with_dropout(tokenizer: Tokenizer, share: float) -> Tokenizer:
    """A copy that leaves out a share of the merges, so that misspelt words look less strange."""
    from tokenizers import Tokenizer

    other = Tokenizer.from_str(tokenizer.to_str())
    other.model.dropout = share
    return other


def for_transformers(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer with its chat template, as `AutoTokenizer` loads it."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        padding_side="left",
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer and chat template where `AutoTokenizer` finds them."""
    for_transformers(tokenizer).save_pretrained(folder)
