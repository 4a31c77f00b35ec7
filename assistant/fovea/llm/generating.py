"""Token by token generation: streaming, stopping within a token, reuse of what was read.

`transformers` generates in a thread of its own and hands over text as it comes. The keys and
values of the last prompt are kept: the next turn reads only what is new in it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from fovea.errors import ModelError
from fovea.llm.loading import LoadedModel

if TYPE_CHECKING:
    from fovea.llm.constrain import Constraint


@dataclass(frozen=True)
class Generation:
    """A finished reply.

    Attributes:
        text: The whole reply, marks of tool calls included.
        read: Tokens of the prompt.
        written: Tokens of the reply.
        ended: `stop`, `length` or `cancelled`.
        confidence: Product of the probabilities of the likeliest allowed tokens.
    """

    text: str
    read: int
    written: int
    ended: str
    confidence: float | None


class Running:
    """A generation in progress: iterate for text, then ask `finished`."""

    def __init__(self, pieces: Iterator[str], outcome: list[Generation | Exception]) -> None:
        self._pieces, self._outcome = pieces, outcome

    def __iter__(self) -> Iterator[str]:
        return self._pieces

    def finished(self) -> Generation:
        """The whole reply; call it when the iteration has ended."""
        made = self._outcome[0]
        if isinstance(made, Exception):
            raise made
        return made


class Generator:
    """Generates with one model, one request at a time."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self._lock = threading.Lock()
        self._cache: Any = None
        self._cached: tuple[str | None, list[int]] = (None, [])

    def run(
        self,
        prompt: str,
        *,
        pictures: Sequence[Any],
        adapter: str | None,
        constraint: Constraint | None,
        max_new_tokens: int,
        temperature: float,
        stop: Sequence[str],
        halted: threading.Event,
    ) -> Running:
        """Start generating; it ends early when `halted` is set.

        Raises:
            ModelError: later, from `Running.finished`, if the model failed.
        """
        queue: SimpleQueue[str | None] = SimpleQueue()
        outcome: list[Generation | Exception] = []

        def work() -> None:
            try:
                with self._lock, self._using(adapter):
                    outcome.append(
                        self._generate(
                            prompt,
                            pictures,
                            adapter,
                            constraint,
                            max_new_tokens,
                            temperature,
                            tuple(stop),
                            halted,
                            queue,
                        )
                    )
            except Exception as error:  # handed to the caller's thread  # noqa: BLE001
                self._cache = None
                outcome.append(_as_model_error(error))
            finally:
                queue.put(None)

        thread = threading.Thread(target=work, name="fovea-generate", daemon=True)
        thread.start()

        def pieces() -> Iterator[str]:
            while (piece := queue.get()) is not None:
                yield piece
            thread.join()
            if isinstance(outcome[0], Exception):
                raise outcome[0]

        return Running(pieces(), outcome)

    @contextmanager
    def _using(self, adapter: str | None) -> Iterator[None]:
        model = self.loaded.model
        if not self.loaded.adapters:
            yield
            return
        if adapter is not None:
            model.set_adapter(adapter)
        with nullcontext() if adapter is not None else model.disable_adapter():
            yield

    def _generate(
        self,
        prompt: str,
        pictures: Sequence[Any],
        adapter: str | None,
        constraint: Constraint | None,
        max_new_tokens: int,
        temperature: float,
        stop: tuple[str, ...],
        halted: threading.Event,
        queue: SimpleQueue[str | None],
    ) -> Generation:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        tokenizer, model = self.loaded.tokenizer, self.loaded.model
        inputs = self._inputs(prompt, pictures)
        ids = inputs["input_ids"][0].tolist()
        teller = _Teller(tokenizer, queue, len(ids), stop, halted)
        if constraint is not None:
            constraint.read = len(ids)
        past = None if pictures else self._reusable(adapter, ids)
        sampled = {"do_sample": True, "temperature": temperature} if temperature > 0 else {}
        with torch.inference_mode():
            made = model.generate(
                **{name: tensor.to(model.device) for name, tensor in inputs.items()},
                **sampled,
                **({} if temperature > 0 else {"do_sample": False}),
                past_key_values=past,
                max_new_tokens=max_new_tokens,
                logits_processor=LogitsProcessorList([constraint] if constraint else []),
                stopping_criteria=StoppingCriteriaList([teller]),
                pad_token_id=_pad(tokenizer),
                use_cache=True,
            )
        new = made[0, len(ids) :].tolist()
        text = teller.finish(made)
        if not pictures:
            self._cached = (adapter, ids)
        ended = "cancelled" if halted.is_set() else teller.stopped or "stop"
        if not halted.is_set() and not teller.stopped and len(new) >= max_new_tokens:
            ended = "length"
        return Generation(
            text, len(ids), len(new), ended, constraint.confidence if constraint else None
        )

    def _inputs(self, prompt: str, pictures: Sequence[Any]) -> dict[str, Any]:
        if pictures:
            return dict(
                self.loaded.processor(
                    text=[prompt],
                    images=[list(pictures)],
                    return_tensors="pt",
                    add_special_tokens=False,
                )
            )
        return dict(
            self.loaded.tokenizer(
                prompt, return_tensors="pt", add_special_tokens=False, return_token_type_ids=False
            )
        )

    def _reusable(self, adapter: str | None, ids: list[int]) -> Any:
        """Keys and values of the longest beginning that this prompt shares with the last."""
        from transformers import DynamicCache

        before, cached = self._cached
        same = 0
        if self._cache is not None and before == adapter:
            limit = min(len(cached), len(ids) - 1)  # one token at least must be read
            while same < limit and cached[same] == ids[same]:
                same += 1
        if same and _croppable(self._cache):
            if surplus := int(self._cache.get_seq_length()) - same:
                self._cache.crop(-surplus)
        else:
            self._cache = DynamicCache(config=self.loaded.model.config)
        self._cached = (adapter, [])
        return self._cache


def _croppable(cache: Any) -> bool:
    # A sliding window has forgotten its beginning and cannot be cut back.
    return not any(getattr(layer, "is_sliding", False) for layer in cache.layers)


class _Teller:
    """A stopping criterion that also passes the text on: it sees every token first."""

    def __init__(
        self,
        tokenizer: Any,
        queue: SimpleQueue[str | None],
        prompt: int,
        stop: tuple[str, ...],
        halted: threading.Event,
    ) -> None:
        self.tokenizer, self.queue, self.prompt = tokenizer, queue, prompt
        self.stop, self.halted = stop, halted
        self.told, self.stopped = "", ""
        self.ends = {tokenizer.eos_token_id, *_ends(tokenizer)}

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        import torch

        text = self._text(input_ids)
        self._tell(text)
        done = self.halted.is_set() or bool(self.stopped)
        return torch.full((input_ids.shape[0],), done, dtype=torch.bool, device=input_ids.device)

    def finish(self, input_ids: Any) -> str:
        """The whole text, with what was held back passed on."""
        text = self._cut(self._text(input_ids))
        if len(text) > len(self.told):
            self.queue.put(text[len(self.told) :])
            self.told = text
        return text

    def _text(self, input_ids: Any) -> str:
        new = input_ids[0, self.prompt :].tolist()
        while new and new[-1] in self.ends:
            new.pop()
        return str(self.tokenizer.decode(new, skip_special_tokens=False))

    def _cut(self, text: str) -> str:
        places = [place for mark in self.stop if (place := text.find(mark)) >= 0]
        if places:
            self.stopped = "stop"
            return text[: min(places)]
        return text

    def _tell(self, text: str) -> None:
        text = self._cut(text)
        # Half a character, or what may become a stop text, waits for the next token.
        held = max((len(mark) - 1 for mark in self.stop), default=0)
        safe = text if self.stopped else text[: len(text) - held] if held else text
        safe = safe.rstrip("�")
        if len(safe) > len(self.told) and safe.startswith(self.told):
            self.queue.put(safe[len(self.told) :])
            self.told = safe


def _ends(tokenizer: Any) -> set[int]:
    marks = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "</s>", "<end>")
    vocabulary = tokenizer.get_added_vocab()
    return {vocabulary[mark] for mark in marks if mark in vocabulary}


def _pad(tokenizer: Any) -> int:
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    return int(pad if pad is not None else end)


def _as_model_error(error: Exception) -> ModelError:
    if isinstance(error, ModelError):
        return error
    text = " ".join(str(error).split())[:200]
    if "out of memory" in text.lower():
        return ModelError(
            "The device ran out of memory while answering", why=text,
            fix="Use `FOVEA_QUANTISATION=nf4`, a smaller model, or `FOVEA_BACKEND=rules`",
        )  # fmt: skip
    return ModelError("The model failed while answering", why=text)
