"""Fits the word model of the planner on written questions, and the eye for other tools."""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.llm.base import ToolSpec
from fovea.llm.compact import OWN_TOOLS
from fovea.llm.intents import read_conversation
from fovea.llm.matching import LIKENESSES, Comparer, Described
from fovea.llm.training.written import Written, written
from fovea.llm.wishes import BUCKETS, Floats, Turn, WishModel, counts, flags, weighted

RIDGE, LIKENESS_RIDGE = 0.05, 0.5
OWN_PER_PLUGIN = 60

Matrix = Any
"""A sparse matrix of scipy."""


@dataclass(frozen=True)
class Examples:
    """Questions with the tools that they wish for.

    Attributes:
        turns: N turns.
        wished: (N, T) whether each of Fovea's own tools is.
    """

    turns: tuple[Turn, ...]
    wished: NDArray[np.bool_]

    @classmethod
    def of(cls, questions: Sequence[Written]) -> Examples:
        """All but those that only lack a photograph: what they wish for was not written down."""
        kept = [one for one in questions if one.reply != "ask_image"]
        wished = np.array([[tool in one.tools for tool in OWN_TOOLS] for one in kept])
        return cls(tuple(as_turn(one) for one in kept), wished)


def as_turn(one: Written) -> Turn:
    """What the word model sees of a written question."""
    before = tuple(text for role, text in one.history if role == "user")
    said = next((text for role, text in reversed(one.history) if role != "user"), "")
    reading = read_conversation([*before, one.question], pictured=bool(one.images))[-1]
    return Turn.of(one.question, before, said, reading, one.images)


def fit(examples: Examples) -> WishModel:
    """A ridge logistic regression for each tool."""
    from scipy import sparse

    idf = _rarity(examples.turns)
    rows = [weighted(turn, idf) for turn in examples.turns]
    start = np.cumsum([0, *(len(place) for place, _ in rows)])
    words = sparse.csr_array(
        (np.concatenate([value for _, value in rows]),
         np.concatenate([place for place, _ in rows]), start),
        shape=(len(rows), BUCKETS),
    )  # fmt: skip
    told = sparse.csr_array(np.array([flags(turn) for turn in examples.turns]))
    design = sparse.hstack([words, told], format="csr")
    weights = np.column_stack([_logistic(design, wished, RIDGE) for wished in examples.wished.T])
    made = WishModel(
        idf.astype(np.float16), weights[:BUCKETS].astype(np.float16),
        weights[BUCKETS:-1].astype(np.float32), weights[-1].astype(np.float32),
        np.zeros(len(LIKENESSES), np.float32),
    )  # fmt: skip
    return replace(made, likenesses=_for_others(made, examples.turns))


def _for_others(model: WishModel, turns: Sequence[Turn]) -> Floats:
    """How much each likeness to a tool that is not Fovea's own counts.

    Learnt from plugins that do not exist and how people ask for them, against questions for
    other plugins and for Fovea's own tools. An example question is compared with the rest of
    its tool's description only.
    """
    chance = random.Random(1)  # noqa: S311  # training data, no secret
    seen = Comparer(model.idf)
    own = [turn for turn in turns if not turn.before]
    rows, wished = [], []

    def learn(turn: Turn, plugin: Described, meant: bool) -> None:
        likeliest = max(model.chances(turn).values())
        rows.append(seen.likenesses(turn.question, plugin.without(turn.question), likeliest))
        wished.append(meant)

    for plugin, questions in plugins():
        for question in (*plugin.examples, *questions):
            learn(_alone(question), plugin, True)
        for other, asked in plugins():
            if other is not plugin:
                learn(_alone(chance.choice(asked)), plugin, False)
        for turn in chance.sample(own, OWN_PER_PLUGIN):
            learn(turn, plugin, False)
    found = _logistic(np.array(rows)[:, :-1], np.array(wished), LIKENESS_RIDGE)
    return found.astype(np.float32)


@cache
def plugins() -> tuple[tuple[Described, tuple[str, ...]], ...]:
    """Plugins that do not exist, and how people ask for them."""
    file = files("fovea.llm.training").joinpath("grammar/plugins.jsonl")
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return tuple((_described(row), tuple(row["asked"])) for row in rows)


def _described(row: dict[str, Any]) -> Described:
    examples = " ".join(f'"{line}"' for line in row["examples"])
    return Described.of(ToolSpec(row["name"], f"{row['when_to_use']} Examples: {examples}", {}))


def _alone(question: str) -> Turn:
    """A question that begins a conversation about one photograph."""
    return Turn.of(question, (), "", read_conversation([question], pictured=True)[-1], 1)


def _rarity(turns: Sequence[Turn]) -> NDArray[np.float32]:
    """Smoothed inverse document frequency of each bucket."""
    seen = np.zeros(BUCKETS)
    for turn in turns:
        for part in counts(turn):
            seen[list(part)] += 1
    return np.asarray(np.log((1 + len(turns)) / (1 + seen)) + 1.0, np.float32)


def _logistic(design: Matrix, wished: NDArray[np.bool_], ridge: float) -> NDArray[np.float64]:
    """Weights and, last, the bias, of least ridge-penalised loss."""
    from scipy.optimize import minimize

    sign = np.where(wished, 1.0, -1.0)

    def loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        margin = sign * (design @ at[:-1] + at[-1])
        pull = -sign / (1.0 + np.exp(np.clip(margin, -30, 30)))
        value = np.logaddexp(0.0, -margin).sum() + 0.5 * ridge * float(at[:-1] @ at[:-1])
        slope = np.append(design.T @ pull + ridge * at[:-1], pull.sum())
        return float(value), slope

    start = np.zeros(design.shape[1] + 1)
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x)


def save(model: WishModel, folder: Path) -> Path:
    """Writes the weights and their digest."""
    from safetensors.numpy import save as as_bytes

    folder.mkdir(parents=True, exist_ok=True)
    content = as_bytes({name: np.ascontiguousarray(v) for name, v in model.tensors().items()})
    path = folder / "wishes.safetensors"
    path.write_bytes(content)
    (folder / "wishes.sha256").write_text(sha256(content).hexdigest() + "\n", encoding="ascii")
    return path


def half_of(question: str) -> int:
    """Which half of the written questions one belongs to."""
    return zlib.crc32(question.encode()) % 2


@cache
def by_halves() -> tuple[WishModel, WishModel]:
    """For each half of the written questions, the model of the other half."""
    first, second = (
        fit(Examples.of([one for one in written() if half_of(one.question) != half]))
        for half in (0, 1)
    )
    return first, second
