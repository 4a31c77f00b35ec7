"""A chat model in this process: any transformers model with a chat template.

One path for the small planner and for large ones: messages and tools go through the
chat template, llguidance leaves only valid calls, one pure parser per family reads them.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import invalid_tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field, PrivateAttr

from fovea.errors import BadReply, ConfigError
from fovea.llm.base import ToolSpec
from fovea.llm.bound import BoundModel
from fovea.llm.constrain import Constraint, call_grammar, vocabulary_of
from fovea.llm.context import fitted
from fovea.llm.embedded import CompactTurn
from fovea.llm.families import OPENINGS, PARSERS, Parsed
from fovea.llm.generating import Generation, Generator
from fovea.llm.loading import LoadedModel, Quantisation, load_folder
from fovea.llm.messages import as_template_messages

LONGEST_REPLY = 100_000
"""Characters; a longer reply is refused before anybody has to parse it."""


@dataclass(frozen=True)
class _Request:
    """What is generated from, and how the reply is read."""

    prompt: str
    pictures: tuple[Any, ...]
    grammar: str | None
    compact: CompactTurn | None


class LocalChatModel(BoundModel):
    """A transformers model as a langchain chat model.

    `adapter` switches between registered LoRA adapters: a copy of this object with another
    adapter shares the weights, so that sessions can differ.

    Example:
        >>> model = LocalChatModel.from_folder(Path("models/qwen3-4b"))  # doctest: +SKIP
        >>> model.bind_tools(tools).invoke("Is it sharp?").tool_calls  # doctest: +SKIP
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name_or_path: str = Field(description="Name of the model's folder.")
    adapter: str | None = Field(None, description="LoRA adapter in use; None: the plain model.")
    native_calls: bool = Field(
        False, description="Trust the model to write tool calls by itself, without a grammar."
    )
    max_new_tokens: int = Field(512, ge=1, description="Longest reply in tokens.")
    temperature: float = Field(0.0, ge=0, le=2, description="0: always the likeliest token.")
    stop: list[str] | None = Field(None, description="Texts at which a reply ends.")
    _loaded: LoadedModel = PrivateAttr()
    _generator: Generator = PrivateAttr()
    _vocabulary: list[Any] = PrivateAttr(default_factory=list)

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        *,
        quantisation: Quantisation = "none",
        device: str = "auto",
        adapters: Mapping[str, Path] | None = None,
        **fields: Any,
    ) -> LocalChatModel:
        """Load a model folder.

        Raises:
            ModelUnavailable: folder, memory or an adapter will not do.
        """
        loaded = load_folder(folder, quantisation=quantisation, device=device, adapters=adapters)
        return cls.of(loaded, folder.name, **fields)

    @classmethod
    def of(cls, loaded: LoadedModel, name: str, **fields: Any) -> LocalChatModel:
        """A chat model over weights that are in memory already."""
        model = cls(name_or_path=name, **fields)
        model._loaded = loaded
        model._generator = Generator(loaded)
        return model

    @property
    def _llm_type(self) -> str:
        return f"fovea-local-{self._loaded.family}"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": self.name_or_path, "adapter": self.adapter}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        """What langchain reports to tracers and tests: provider, model and limits."""
        found = super()._get_ls_params(stop=stop, **kwargs)
        found["ls_provider"] = "fovea"
        found.setdefault("ls_model_name", self.name_or_path)
        if "model" in kwargs:
            found["ls_model_name"] = kwargs["model"]
        return found

    @property
    def family(self) -> str:
        """How the model writes tool calls."""
        return self._loaded.family

    @property
    def sees_images(self) -> bool:
        """Whether photographs can go into the messages."""
        return self._loaded.processor is not None

    def with_adapter(self, name: str | None) -> LocalChatModel:
        """A copy that uses another adapter, or none.

        Raises:
            ConfigError: no such adapter is registered.
        """
        if name is not None and name not in self._loaded.adapters:
            raise ConfigError(
                f"There is no adapter `{name}`", where="`adapter`",
                fix=f"Registered: {', '.join(self._loaded.adapters) or 'none'}",
            )  # fmt: skip
        return self.model_copy(update={"adapter": name})

    def bind_tools(self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any) -> Any:
        """A copy that may call these tools; with `tool_choice` it has to call one of them."""
        specs = tuple(ToolSpec.from_bound(tool) for tool in tools)
        bound: Any = self.model_copy(update={"tools": specs})
        choice = tool_choice
        if isinstance(choice, Mapping):
            choice = choice.get("function", choice).get("name")
        return bound.bind(must_call=choice) if choice and choice != "auto" else bound

    # One reply ------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        whole: ChatGenerationChunk | None = None
        for chunk in self._stream(messages, stop, run_manager, **kwargs):
            whole = chunk if whole is None else whole + chunk
        if whole is None or not isinstance(whole.message, AIMessageChunk):
            raise BadReply("The model said nothing", where=f"`{self.name_or_path}`")
        message = whole.message
        reply = AIMessage(
            content=message.content, tool_calls=message.tool_calls,
            invalid_tool_calls=message.invalid_tool_calls, usage_metadata=message.usage_metadata,
            response_metadata=message.response_metadata,
        )  # fmt: skip
        return ChatResult(generations=[ChatGeneration(message=reply)])

    def _reply(self, messages: Sequence[BaseMessage]) -> AIMessage:
        result = self._generate(list(messages)).generations[0].message
        assert isinstance(result, AIMessage)  # noqa: S101  # made by `_generate`
        return result

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        must_call: str | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        request = self._request(messages, must_call)
        halted = threading.Event()
        running = self._generator.run(
            request.prompt, pictures=request.pictures, adapter=self.adapter,
            constraint=self._constraint(request), max_new_tokens=self.max_new_tokens,
            temperature=self.temperature, stop=[*(stop or ()), *(self.stop or ())], halted=halted,
        )  # fmt: skip
        opened, said = "", ""
        try:
            for piece in running:
                opened += piece
                if len(opened) > LONGEST_REPLY:
                    raise BadReply("The reply is too long", where=f"`{self.name_or_path}`",
                                   why=f"More than {LONGEST_REPLY} characters")  # fmt: skip
                shown = self._showable(opened)
                if len(shown) > len(said):
                    fresh, said = shown[len(said) :], shown
                    chunk = ChatGenerationChunk(message=AIMessageChunk(content=fresh))
                    if run_manager:
                        run_manager.on_llm_new_token(fresh, chunk=chunk)
                    yield chunk
        finally:
            halted.set()
        yield self._last(request, running.finished(), said)

    def _last(self, request: _Request, made: Generation, said: str) -> ChatGenerationChunk:
        """The closing chunk: calls, what could not be read, and the counts."""
        parsed = self._parsed(made.text, request)
        usage = {"input_tokens": made.read, "output_tokens": made.written,
                 "total_tokens": made.read + made.written}  # fmt: skip
        notes: dict[str, Any] = {"model_name": self.name_or_path, "finish_reason": made.ended}
        if made.confidence is not None:
            notes["confidence"] = round(made.confidence, 4)
        chunk = AIMessageChunk(
            content=parsed.text[len(said) :] if parsed.text.startswith(said) else "",
            tool_call_chunks=[
                tool_call_chunk(
                    name=call.name, args=json.dumps(dict(call.arguments)),
                    id=f"call_{made.read}_{place}", index=place,
                )
                for place, call in enumerate(parsed.calls, 1)
            ],
            usage_metadata=usage,
            response_metadata=notes,
            chunk_position="last",
        )  # fmt: skip
        chunk.invalid_tool_calls = [
            *chunk.invalid_tool_calls,
            *(
                invalid_tool_call(
                    name=None, args=bad.text[:500], id=f"bad_{made.read}_{place}", error=bad.why
                )
                for place, bad in enumerate(parsed.malformed, 1)
            ),
        ]
        return ChatGenerationChunk(message=chunk)

    def _parsed(self, text: str, request: _Request) -> Parsed:
        if request.compact is not None:
            return request.compact.read(text)
        if not self.tools:
            return Parsed(text.strip())
        return PARSERS[self._loaded.family](text)

    def _showable(self, text: str) -> str:
        """The beginning of a reply that is surely no tool call."""
        if not self.tools and self._loaded.family != "fovea":
            return text
        openings = OPENINGS[self._loaded.family]
        if self._loaded.family in {"llama3", "pythonic"}:
            # Their calls begin a reply or do not occur.
            return "" if text.lstrip()[:1] in {"", "{", "[", "<"} else text
        for opening in openings:
            place = text.find(opening)
            if place >= 0:
                return text[:place].rstrip()
        kept = text.rstrip()
        for opening in openings:
            for length in range(len(opening) - 1, 0, -1):
                if kept.endswith(opening[:length]):
                    return kept[:-length].rstrip()
        return kept

    # What is generated from -------------------------------------------------------

    def _request(self, messages: Sequence[BaseMessage], must_call: str | None) -> _Request:
        tokenizer = self._loaded.tokenizer
        tools: Sequence[ToolSpec] = self.tools
        if must_call and must_call not in {"any", "required"}:
            tools = [tool for tool in tools if tool.name == must_call]
        if self._loaded.family == "fovea":
            turn = CompactTurn.of(messages, tools)
            listed, chat = turn.chat()
            prompt = self._rendered(chat, listed)
            return _Request(prompt, (), turn.grammar(), turn)
        limit = self._loaded.context - self.max_new_tokens

        def length(kept: Sequence[BaseMessage]) -> int:
            chat, pictures = as_template_messages(kept, tokenizer, sees=self.sees_images)
            text = self._rendered(chat, self._listed(tools))
            return len(tokenizer(text, add_special_tokens=False)["input_ids"]) + 600 * len(pictures)

        kept = fitted(messages, length, limit)
        chat, pictures = as_template_messages(kept, tokenizer, sees=self.sees_images)
        grammar = None
        if tools and not self.native_calls:
            grammar = call_grammar(self._loaded.family, tools, special=self._special())
            if must_call:
                grammar = grammar.replace("start: text | ", "start: ", 1)
        return _Request(self._rendered(chat, self._listed(tools)), tuple(pictures), grammar, None)

    def _listed(self, tools: Sequence[ToolSpec]) -> list[dict[str, Any]]:
        return [
            convert_to_openai_tool(
                {"name": t.name, "description": t.description, "parameters": dict(t.parameters)}
            )
            for t in tools
        ]

    def _rendered(self, chat: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> str:
        renderer = self._loaded.processor or self._loaded.tokenizer
        try:
            text = renderer.apply_chat_template(
                list(chat), tools=list(tools) or None, tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # a template is a stranger's code
            raise BadReply(
                "The model's chat template cannot write this conversation",
                where=f"`{self.name_or_path}`", why=" ".join(str(error).split())[:200],
            ) from error  # fmt: skip
        return str(text)

    def _special(self) -> tuple[str, ...]:
        return tuple(str(text) for text in self._loaded.tokenizer.get_added_vocab())

    def _constraint(self, request: _Request) -> Constraint | None:
        if request.grammar is None:
            return None
        if not self._vocabulary:
            config = self._loaded.model.config
            size = getattr(config, "text_config", config).vocab_size
            self._vocabulary.append(vocabulary_of(self._loaded.tokenizer, size))
        return Constraint(request.grammar, self._vocabulary[0])


def likeliest(confidence: float, temperature: float) -> float:
    """A confidence with its logit divided by a calibration temperature."""
    kept = min(max(confidence, 1e-6), 1 - 1e-6)
    return 1 / (1 + math.exp(-math.log(kept / (1 - kept)) / temperature))
