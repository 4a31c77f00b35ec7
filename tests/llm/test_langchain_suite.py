"""The chat-model suite of langchain-tests, on models in this process."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.unit_tests import ChatModelUnitTests
from tiny_models import tiny_hermes

from fovea.llm.local import LocalChatModel
from fovea.llm.rules import RulesChatModel


class _Suite(ChatModelUnitTests):
    @property
    def has_tool_calling(self) -> bool:
        return True

    @property
    def has_structured_output(self) -> bool:
        return True


class TestLocalModel(_Suite):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return _Tiny

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"name_or_path": "tiny"}


class TestRulesModel(_Suite):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return RulesChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {}


class _Tiny(LocalChatModel):
    """The suite makes models from plain parameters; the weights are made once."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**{k: v for k, v in fields.items() if k in LocalChatModel.model_fields})
        loaded = tiny_hermes()
        self._loaded = loaded
        from fovea.llm.generating import Generator

        self._generator = Generator(loaded)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
