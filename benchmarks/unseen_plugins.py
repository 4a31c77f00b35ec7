"""Whether plugins that no planner has seen are called, before and after `fovea llm adapt`.

Run: python benchmarks/unseen_plugins.py [--backend rules] [--adapt NAME ...] [--steps 120]

`tests/llm/unseen_plugins.jsonl` holds twelve plugins: what their authors would say of them,
eight example questions of each, and twelve questions by others. Each is installed by itself,
beside Fovea's own tools. A question counts if the plugin is called and nothing else. `examples`
are in the manifest, so every planner may read them; `others` are nowhere. `adapt` teaches the
embedded planner the examples; `elsewhere` are questions for Fovea's own tools.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fovea.llm.backends import EMBEDDED
from fovea.llm.base import load_model
from fovea.llm_adaptation import adapt
from fovea.llm_evaluation import Case, evaluate, read_cases
from fovea.registry import Registry
from fovea.scaffold import new_plugin
from fovea.settings import Settings

TESTS = Path(__file__).parents[1] / "tests"
PLUGINS = TESTS / "llm" / "unseen_plugins.jsonl"
ELSEWHERE = TESTS / "flow" / "unseen_questions_2.jsonl"


@dataclass(frozen=True)
class Stranger:
    """A plugin, and how it is asked for."""

    name: str
    title: str
    when_to_use: str
    examples: tuple[str, ...]
    asked: tuple[str, ...]

    def install(self, folder: Path) -> Path:
        """The plugin in a folder for `plugins_dir`: it measures brightness, and is never run."""
        made = new_plugin(self.name, folder)
        manifest = made / f"fovea_{self.name}" / "plugin.toml"
        lines = manifest.read_text(encoding="utf-8").splitlines()
        start = next(n for n, line in enumerate(lines) if line.startswith("examples"))
        end = next(n for n, line in enumerate(lines[start:], start) if line == "]")
        lines[start : end + 1] = [f"examples = {json.dumps(self.examples)}"]
        said = f"when_to_use = {json.dumps(self.when_to_use)}"
        lines = [said if line.startswith("when_to_use") else line for line in lines]
        manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return made


def strangers(path: Path = PLUGINS) -> tuple[Stranger, ...]:
    """The plugins of a file."""
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return tuple(
        Stranger(r["name"], r["title"], r["when_to_use"], tuple(r["examples"]), tuple(r["asked"]))
        for r in rows
    )


def share(settings: Settings, cases: Sequence[Case]) -> float:
    """Share of the questions with exactly the right tools."""
    found = evaluate(load_model(settings), cases, Registry.discover(settings))
    return found.exact / found.questions


def figures(settings: Settings, stranger: Stranger) -> list[float]:
    """The shares of examples and of other questions."""
    wanted = {"images": 1, "expect": (stranger.name,)}
    return [
        share(settings, [Case(question=text, **wanted) for text in texts])
        for texts in (stranger.examples, stranger.asked)
    ]


def main() -> None:
    """Measure and print one line per plugin, then the means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="embedded")
    parser.add_argument("--adapt", nargs="*", default=[], help="plugins that are also taught")
    parser.add_argument("--steps", type=int, default=120)
    given = parser.parse_args()
    rows: list[list[float]] = []
    print(f"{'':26}{'examples':>10}{'others':>10}{'elsewhere':>10}", flush=True)
    for stranger in strangers():
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            settings = Settings(
                backend=given.backend, plugins_dir=stranger.install(folder), data_dir=folder
            )
            rows.append(figures(settings, stranger))
            _show(stranger.name, rows[-1])
            if stranger.name in given.adapt:
                _adapted(settings, stranger, folder, given.steps)
    _show("mean", [sum(column) / len(rows) for column in zip(*rows, strict=True)])


def _adapted(settings: Settings, stranger: Stranger, folder: Path, steps: int) -> None:
    elsewhere = read_cases(ELSEWHERE)
    _show("  before", [*figures(settings, stranger), share(settings, elsewhere)])
    clock, out = time.perf_counter(), folder / "adapter"
    outcome = adapt(Registry.discover(settings), EMBEDDED, out, plugin=stranger.name, steps=steps)
    seconds = time.perf_counter() - clock
    told: Mapping[str, object] = outcome.as_json()
    print(f"  adapted in {seconds:.0f} s: {told}".replace(str(folder), ""), flush=True)
    if outcome.kept:
        taught = settings.model_copy(update={"adapters": (f"one={out}",), "adapter": "one"})
        _show("  with the adapter", [*figures(taught, stranger), share(taught, elsewhere)])


def _show(name: str, row: Sequence[float]) -> None:
    print(f"{name:26}" + "".join(f"{value:10.3f}" for value in row), flush=True)


if __name__ == "__main__":
    main()
