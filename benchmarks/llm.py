"""How the planners choose tools, side by side: exact sets, false triggers, validity, latency.

Run: python benchmarks/llm.py [--model FOLDER [--adapter FOLDER]] [--file QUESTIONS ...]

* `words alone`: TF-IDF of words and pieces of words, and logistic regressions; no rules.
* `rules alone`: the grammar of the planner without its word model.
* `rules + words`: `FOVEA_BACKEND=rules`, which answers without a language model.
* `embedded`: the default, a small language model with the former at its side; `--model` sets
  another one of `fovea llm train` in its place.
* `embedded + adapter`: the same with a LoRA adapter of `fovea llm adapt`, if one is named.

Seconds are by the clock, of planning one turn, in this process; the first turn (loading) apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from fovea.llm import planning
from fovea.llm.backends import EMBEDDED
from fovea.llm.base import load_model
from fovea.llm.training.fitting import Examples, fit
from fovea.llm.training.written import written
from fovea.llm.wishes import Turn, WishModel, wish_model
from fovea.llm_evaluation import Case, evaluate, read_cases
from fovea.registry import Registry
from fovea.settings import Settings

FLOW = Path(__file__).parents[1] / "tests" / "flow"
FILES = tuple(
    FLOW / f"{name}.jsonl"
    for name in (
        "unseen_questions",
        "unseen_questions_2",
        "unseen_questions_3",
        "planning_questions",
    )
)


class Undecided(WishModel):
    """A word model that leaves every tool to the rules."""

    def chances(self, turn: Turn) -> dict[str, float]:
        """Certain of what the rules name."""
        return {name: float(name in turn.tools) for name in super().chances(turn)}


def words_alone() -> WishModel:
    """The word model fitted without being told what the rules think."""
    examples = Examples.of(written())
    bare = tuple(replace(turn, tools=frozenset(), reply="") for turn in examples.turns)
    return fit(Examples(bare, examples.wished))


def by_words(model: WishModel, cases: Sequence[Case]) -> dict[str, Any]:
    """The figures of a word model that has nothing at its side."""
    exact, idle, seconds = 0, [], []
    for case in cases:
        said = [turn.content for turn in case.history if turn.role == "assistant"]
        before = tuple(turn.content for turn in case.history if turn.role == "user")
        clock = time.perf_counter()
        chances = model.chances(
            Turn(case.question, before, said[-1] if said else "", images=case.images)
        )
        seconds.append(time.perf_counter() - clock)
        got = {name for name, chance in chances.items() if chance >= 0.5}
        got &= got if case.images else {"lookup_knowledge"}
        got -= {"compare_images"} if case.images < 2 else set()
        exact += got in [set(one) for one in (case.expect, *case.accept)]
        if not case.expect:
            idle.append(bool(got))
    return _row(exact / len(cases), idle, None, seconds)


def by_model(settings: Settings, cases: Sequence[Case]) -> dict[str, Any]:
    """The figures of a backend."""
    model, registry = load_model(settings), Registry.discover(settings)
    clock = time.perf_counter()
    evaluate(model, cases[:1], registry)
    loading = time.perf_counter() - clock
    found = evaluate(model, cases, registry)
    wrong = {(one["question"], tuple(one["expect"])) for one in found.wrong if one["got"]}
    idle = [(case.question, ()) in wrong for case in cases if not case.expect]
    valid = 1.0 - found.invalid / max(1, found.made_calls)
    return _row(found.exact / found.questions, idle, valid, found.seconds, loading)


def _row(
    exact: float, idle: Sequence[bool], valid: float | None, seconds: Sequence[float],
    loading: float = 0.0,
) -> dict[str, Any]:  # fmt: skip
    return {
        "exact": exact, "idle": f"{sum(idle)} of {len(idle)}", "valid": valid,
        "median": float(np.median(seconds)), "p95": float(np.quantile(seconds, 0.95)),
        "loading": loading,
    }  # fmt: skip


def rules_alone(settings: Settings, cases: Sequence[Case]) -> dict[str, Any]:
    """The figures of the rules with the word model put aside."""
    shipped = wish_model()
    aside = Undecided(**{one.name: getattr(shipped, one.name) for one in fields(shipped)})
    planning.wish_model = lambda: aside  # type: ignore[assignment]
    try:
        return by_model(settings, cases)
    finally:
        planning.wish_model = wish_model


def main() -> None:
    """Measure every planner on every file, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=EMBEDDED, help="folder of a small planner")
    parser.add_argument("--adapter", type=Path, help="LoRA adapter of that model")
    parser.add_argument("--file", type=Path, nargs="+", default=FILES)
    given = parser.parse_args()
    rules, words = Settings(backend="rules"), words_alone()
    small = Settings(backend="local", model_dir=given.model)
    planners: dict[str, Callable[[Sequence[Case]], dict[str, Any]]] = {
        "words alone": lambda cases: by_words(words, cases),
        "rules alone": lambda cases: rules_alone(rules, cases),
        "rules + words": lambda cases: by_model(rules, cases),
        "embedded": lambda cases: by_model(small, cases),
    }
    if given.adapter:
        adapted = small.model_copy(update={"adapters": (f"one={given.adapter}",), "adapter": "one"})
        planners["embedded + adapter"] = lambda cases: by_model(adapted, cases)
    for path in given.file:
        cases = read_cases(path)
        print(f"\n{path.name}: {len(cases)} questions")
        print(f"{'':26}{'exact':>8}{'called in vain':>16}{'valid':>8}{'median':>10}{'p95':>10}"
              f"{'first':>9}")  # fmt: skip
        for name, measure in planners.items():
            row = measure(cases)
            valid = "-" if row["valid"] is None else f"{row['valid']:.3f}"
            print(f"{name:26}{row['exact']:8.3f}{row['idle']:>16}{valid:>8}"
                  f"{1e3 * row['median']:7.1f} ms{1e3 * row['p95']:7.1f} ms"
                  f"{row['loading']:7.1f} s")  # fmt: skip


if __name__ == "__main__":
    main()
