"""Any OpenAI-compatible server: vLLM, llama.cpp, Ollama, `transformers serve`, a cloud.

The client is langchain-openai's. Keys come from `OPENAI_API_KEY` or a file and are never
logged; photographs leave the machine only if `allow_remote_images` is set.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import invalid_tool_call, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk
from pydantic import Field, PrivateAttr, SecretStr

from fovea.errors import BadReply, ModelError, ModelUnavailable
from fovea.llm.bound import BoundModel
from fovea.llm.embedded import CompactTurn
from fovea.llm.families import Parsed
from fovea.llm.vision import without_images

_NO_KEY = "none"  # local servers ask for no key, but the client insists on one


class RemoteChatModel(BoundModel):
    """A served model as a langchain chat model.

    `compact` speaks to a server that serves Fovea's own small model, whose questions are put
    in its short form and whose replies are a few marks.
    """

    base_url: str = Field(description="Address of the server, such as http://127.0.0.1:8000/v1.")
    served_model: str = Field(description="Name of the model on the server.")
    timeout_s: float = Field(60.0, gt=0, description="Longest wait for the server, in seconds.")
    max_new_tokens: int = Field(512, ge=1, description="Longest reply in tokens.")
    allow_images: bool = Field(False, description="Photographs may be sent to the server.")
    compact: bool = Field(False, description="The server serves Fovea's own small model.")
    _client: Any = PrivateAttr()

    @classmethod
    def connect(cls, *, key_file: Path | None = None, **fields: Any) -> RemoteChatModel:
        """A model on a server; nothing is sent yet.

        Raises:
            ModelUnavailable: the client is not installed, or the key file is not readable.
        """
        try:
            from langchain_openai import ChatOpenAI
        except ImportError as error:
            raise ModelUnavailable(
                "The client for served models is not installed", where="`backend=remote`",
                fix="Run `pip install 'fovea-assistant[remote]'`",
            ) from error  # fmt: skip
        model = cls(**fields)
        model._client = ChatOpenAI(
            base_url=model.base_url,
            model=model.served_model,
            api_key=SecretStr(_key(key_file)),
            timeout=model.timeout_s,
            max_retries=1,
            temperature=0,
            max_completion_tokens=None,
            extra_body={"max_tokens": model.max_new_tokens},
        )
        return model

    @property
    def sees_images(self) -> bool:
        """Whether photographs go into the messages."""
        return self.allow_images and not self.compact

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        if self.compact:
            yield self._compact(messages)
            return
        client: Any = self._client
        if self.tools:
            client = client.bind_tools(
                [
                    {"type": "function",
                     "function": {"name": t.name, "description": t.description,
                                  "parameters": dict(t.parameters)}}
                    for t in self.tools
                ]
            )  # fmt: skip
        try:
            for chunk in client.stream(self._sendable(messages), stop=stop):
                yield ChatGenerationChunk(message=chunk)
        except ModelError:
            raise
        except Exception as error:  # the client's own tree of errors  # noqa: BLE001
            raise self._plain(error) from None  # its text may hold the request

    def _reply(self, messages: Sequence[BaseMessage]) -> AIMessage:
        whole: Any = None
        for chunk in self._stream(list(messages)):
            whole = chunk if whole is None else whole + chunk
        if whole is None:
            raise BadReply("The server answered with nothing", where=f"`{self.served_model}`")
        message = whole.message
        return AIMessage(
            content=message.content, tool_calls=message.tool_calls,
            invalid_tool_calls=message.invalid_tool_calls, usage_metadata=message.usage_metadata,
            response_metadata=message.response_metadata,
        )  # fmt: skip

    def _sendable(self, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        if self.allow_images:
            return list(messages)
        return [m.model_copy(update={"content": without_images(m.content)}) for m in messages]

    def _compact(self, messages: Sequence[BaseMessage]) -> ChatGenerationChunk:
        turn = CompactTurn.of(messages, self.tools)
        listed, chat = turn.chat()
        tools = [{"type": "function", "function": {**tool, "parameters": {}}} for tool in listed]
        try:
            reply = self._client.bind(tools=tools or None).invoke(chat)
        except Exception as error:  # the client's own tree of errors  # noqa: BLE001
            raise self._plain(error) from None
        return _chunk(turn.read(str(reply.text)), self.served_model)

    def _plain(self, error: Exception) -> ModelError:
        """One clear message instead of the client's; it never holds the key or the question."""
        where = f"`{self.served_model}` at {self.base_url}"
        status = getattr(error, "status_code", None)
        kind = type(error).__name__
        if status in {401, 403}:
            return ModelUnavailable(
                "The server does not accept the key", where=where, why=f"It answered {status}",
                fix="Set `OPENAI_API_KEY`, or `FOVEA_API_KEY_FILE` to a file that holds the key",
            )  # fmt: skip
        if status == 404:
            return ModelUnavailable(
                "The server does not know this model or address", where=where,
                why="It answered 404", fix="Check `FOVEA_SERVED_MODEL` and `FOVEA_BASE_URL`",
            )  # fmt: skip
        if "Timeout" in kind:
            return ModelUnavailable(
                "The server did not answer in time", where=where,
                why=f"Nothing came within {self.timeout_s:g} s",
                fix="Raise `FOVEA_REMOTE_TIMEOUT_S`, or use a smaller model",
            )  # fmt: skip
        if "Connect" in kind or "Connection" in kind:
            return ModelUnavailable(
                "The server cannot be reached", where=where,
                why="Nothing answers there", fix="Start it, or check `FOVEA_BASE_URL`",
            )  # fmt: skip
        if status is not None:
            return ModelError("The server refused the request", where=where,
                              why=f"It answered {status}")  # fmt: skip
        return BadReply("The server answered with something unreadable", where=where, why=kind)


def _chunk(parsed: Parsed, name: str) -> ChatGenerationChunk:
    message = AIMessageChunk(
        content=parsed.text,
        tool_call_chunks=[
            tool_call_chunk(name=call.name, args=json.dumps(dict(call.arguments)),
                            id=f"call_{place}", index=place)
            for place, call in enumerate(parsed.calls, 1)
        ],
        response_metadata={"model_name": name},
    )  # fmt: skip
    message.invalid_tool_calls = [
        *message.invalid_tool_calls,
        *(invalid_tool_call(name=None, args=bad.text[:500], id=None, error=bad.why)
          for bad in parsed.malformed),
    ]  # fmt: skip
    return ChatGenerationChunk(message=message)


def _key(key_file: Path | None) -> str:
    if key_file is None:
        return os.environ.get("OPENAI_API_KEY") or _NO_KEY
    try:
        key = key_file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelUnavailable(
            "The key file cannot be read", where=f"`{key_file.name}`",
            why=getattr(error, "strerror", None) or "It is no text",
            fix="Set `FOVEA_API_KEY_FILE` to a file that holds the key alone",
        ) from error  # fmt: skip
    if not key:
        raise ModelUnavailable("The key file is empty", where=f"`{key_file.name}`")
    return key
