"""Fakes and checks for tests, public for plugin authors.

from fovea.testing import check_plugin
assert check_plugin(Path("my_plugin")) == []
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fovea.conformance import check_plugin
from fovea.contract import Context, NoArgs, Plugin, Result
from fovea.llm.fakes import EveryTool, ScriptedModel
from fovea.manifest import API_VERSION, Manifest
from fovea.synthetic import SyntheticFundus, synthetic_fundus, synthetic_photograph

__all__ = [
    "EveryTool", "FakePlugin", "ScriptedModel", "SyntheticFundus", "check_plugin", "fake_manifest",
    "synthetic_fundus", "synthetic_photograph",
]  # fmt: skip


def fake_manifest(name: str = "fake_tool", **changes: Any) -> Manifest:
    """A valid manifest for tests; `changes` replace its fields."""
    fields: dict[str, Any] = {
        "name": name,
        "version": "0.0.1",
        "api_version": API_VERSION,
        "title": name.replace("_", " ").capitalize(),
        "when_to_use": f"Only in tests: answers whatever `{name}` was told to answer.",
        "examples": (f"Run {name}.", f"What does {name} say?"),
        "entry": "plugin:FakePlugin",
        "intended_use": "Tests of the host and of other plugins.",
        "limitations": ("Measures nothing.",),
        "references": ("None: a fake.",),
    }
    return Manifest.model_validate({**fields, **changes})


class FakePlugin(Plugin[NoArgs]):
    """A plugin that gives the result, or raises the error, that it was told to.

    Example:
        >>> plugin = FakePlugin(Result(summary="Nothing."))
        >>> plugin.manifest.name
        'fake_tool'
    """

    Args = NoArgs

    def __init__(
        self,
        outcome: Result | Exception | Callable[[Context], Result],
        manifest: Manifest | None = None,
        folder: Path = Path(),
    ) -> None:
        super().__init__(manifest or fake_manifest(), folder)
        self.outcome = outcome
        self.contexts: list[Context] = []
        self.loads = self.unloads = 0

    def load(self, device: str) -> None:
        """Counts."""
        self.loads += 1

    def unload(self) -> None:
        """Counts."""
        self.unloads += 1

    def run(self, context: Context, args: NoArgs) -> Result:
        """The outcome; every context is kept in `contexts`."""
        self.contexts.append(context)
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome if isinstance(self.outcome, Result) else self.outcome(context)
