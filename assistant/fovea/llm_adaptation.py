"""Teaching a language model a plugin or a user's own turns by a LoRA adapter.

Half of the questions are kept back to see whether the adapter understands rather than
repeats; questions made from the grammar show whether anything else got worse.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from fovea.errors import FoveaError
from fovea.evidence import ImageRecord
from fovea.llm.base import ToolSpec, minimal_value, system_prompt
from fovea.llm.compact import END, OWN_TOOLS, aliases_of
from fovea.llm.families import RawCall, written
from fovea.llm.local import LocalChatModel
from fovea.llm.training.lessons import lessons
from fovea.llm.training.lora import Pair, right_share, save_adapter, train_adapter
from fovea.llm.training.phrases import misspelt, one_of, word_lists
from fovea.llm.training.scenes import Scene
from fovea.llm_evaluation import Case, every_tool, read_cases
from fovea.registry import Registry

_KNOWN, _CHECKED, _WORST_LOSS = 1200, 400, 0.005
_SEED_KNOWN, _SEED_CHECKED = 1001, 1002


@dataclass(frozen=True)
class Outcome:
    """What an adaptation did; shares of questions whose whole plan is right.

    Attributes:
        new_before: Kept-back new questions, before.
        new_after: The same, after learning the other half.
        new_after_all: All new questions after learning all of them: what is delivered.
        known_before: Questions from the grammar that the adapter did not learn from, before.
        known_after: The same, after.
        kept: Whether the adapter was written.
    """

    new_questions: int
    new_before: float
    new_after: float
    new_after_all: float
    known_before: float
    known_after: float
    kept: bool
    folder: str

    def as_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


def adapt(
    registry: Registry,
    base: Path,
    out: Path,
    *,
    plugin: str | None = None,
    dialogues: Path | None = None,
    steps: int = 120,
    progress: Callable[[str], None] = lambda text: None,
) -> Outcome:
    """Train an adapter and keep it if the new is learnt and nothing else gets worse.

    Args:
        registry: Its healthy tools are offered.
        base: Model folder.
        out: Folder for the adapter.
        plugin: Plugin whose `examples` are learnt.
        dialogues: File of questions with `expect` instead.
        steps: Optimiser steps.
        progress: Gets a line now and then.

    Raises:
        FoveaError: there are fewer than four questions, or the model is not usable.
    """
    cases = read_cases(dialogues) if dialogues else _from_examples(registry, plugin or "")
    if len(cases) < 4:
        raise FoveaError(
            "There is too little to learn from", where=f"`{plugin or dialogues}`",
            why=f"{len(cases)} questions; half of them are kept back",
            fix="Give at least four `examples`",
        )  # fmt: skip
    known = _known_pairs(_SEED_KNOWN, _KNOWN, registry, base)
    checked = _known_pairs(_SEED_CHECKED, _CHECKED, registry, base)
    # Twice from the start: on half of the questions to measure, on all to deliver.
    half = _Trial(base, registry, cases, steps, progress)
    new_before = half.share(cases[1::2])
    known_before = half.known(checked)
    half.learn(cases[::2], known)
    new_after = half.share(cases[1::2])
    whole = _Trial(base, registry, cases, steps, progress)
    whole.learn(cases, known)
    new_after_all, known_after = whole.share(cases), whole.known(checked)
    kept = known_after >= known_before - _WORST_LOSS and new_after >= new_before
    if kept:
        save_adapter(whole.model, out, base.name)
    return Outcome(
        len(cases), new_before, new_after, new_after_all, known_before, known_after, kept, str(out)
    )


class _Trial:
    """A fresh copy of the base model, to be adapted once."""

    def __init__(
        self,
        base: Path,
        registry: Registry,
        cases: Sequence[Case],
        steps: int,
        progress: Callable[[str], None],
    ) -> None:
        self.chat = LocalChatModel.from_folder(base)
        self.model: Any = self.chat._loaded.model
        self.tokenizer = self.chat._loaded.tokenizer
        self.registry, self.steps, self.progress = registry, steps, progress
        self.rate = 2e-3 if self.chat.family == "fovea" else 2e-4

    def learn(self, cases: Sequence[Case], known: Sequence[Pair]) -> None:
        new = [self._pair(variant) for case in cases for variant in _variants(case)]
        self.model = train_adapter(
            self.model, self.tokenizer, new, known, steps=self.steps, rate=self.rate,
            progress=self.progress,
        )  # fmt: skip

    def share(self, cases: Sequence[Case]) -> float:
        return right_share(self.model, self.tokenizer, [self._pair(case) for case in cases])

    def known(self, pairs: Sequence[Pair]) -> float:
        return right_share(self.model, self.tokenizer, pairs)

    def _pair(self, case: Case) -> Pair:
        handles = [f"img{n}" for n in range(1, case.images + 1)]
        tools = every_tool(self.registry, handles)
        return as_pair(self.chat, case, tools)


def as_pair(chat: LocalChatModel, case: Case, tools: Sequence[dict[str, Any]]) -> Pair:
    """A question with its answer as a model reads and writes them."""
    specs = tuple(ToolSpec.from_bound(tool) for tool in tools)
    records = [
        ImageRecord(handle=f"img{n}", sha256="0" * 64, format="JPEG", width=2000, height=2000)
        for n in range(1, case.images + 1)
    ]
    messages: list[BaseMessage] = [SystemMessage(system_prompt(records))]
    messages += [
        HumanMessage(turn.content) if turn.role == "user" else AIMessage(turn.content)
        for turn in case.history
    ]
    messages.append(HumanMessage(case.question))
    bound: LocalChatModel = chat.bind_tools([*tools])
    request = bound._request(messages, None)
    wanted = case.handles or tuple(record.handle for record in records)
    if chat.family == "fovea":
        return Pair(request.prompt, _marks(case, specs, wanted) + END)
    by_name = {spec.name: spec for spec in specs}
    calls = [call for name in case.expect for call in _calls(by_name[name], wanted, case.question)]
    return Pair(request.prompt, written(chat.family, calls) + chat._loaded.tokenizer.eos_token)


def _marks(case: Case, specs: Sequence[ToolSpec], wanted: Sequence[str]) -> str:
    names = [*OWN_TOOLS, *(spec.name for spec in specs if spec.name not in OWN_TOOLS)]
    alias = dict(zip(names, aliases_of(names), strict=True))
    by_name = {spec.name: spec for spec in specs}
    marks = []
    for name in case.expect:
        marks.append(alias[name])
        if "image" in by_name[name].properties:
            every = len(wanted) == case.images
            marks += ["<all>"] if every else [f"<i{handle[3:]}>" for handle in wanted]
    return "".join(marks) or "<outside>"


def _calls(spec: ToolSpec, wanted: Sequence[str], question: str) -> list[RawCall]:
    rest = {
        name: minimal_value(spec.properties[name], spec.parameters, text=question)
        for name in spec.required
        if name not in {"image", "first", "second"}
    }
    if "image" in spec.properties:
        return [RawCall(spec.name, {"image": handle, **rest}) for handle in wanted]
    if "first" in spec.properties:
        rest |= dict(zip(("first", "second"), wanted, strict=False))
    return [RawCall(spec.name, rest)]


def _from_examples(registry: Registry, plugin: str) -> list[Case]:
    manifest = registry.manifest(plugin)
    images = max(1, manifest.inputs.images)
    return [
        Case(question=text, images=images if manifest.inputs.images else 0, expect=(plugin,))
        for text in manifest.examples
    ]


def _variants(case: Case, count: int = 6) -> list[Case]:
    """The question as several people would type it."""
    chance = random.Random(case.question)  # noqa: S311  # training data, no secret
    talk, found = word_lists(), [case]
    for _ in range(count):
        text = case.question
        if chance.random() < 0.5:
            text = f"{one_of(chance, talk['opening'])} {text}"
        if chance.random() < 0.4:
            text = f"{text} {chance.choice(talk['closing'])}"
        found.append(case.model_copy(update={"question": misspelt(text, chance, 0.1)}))
    return found


def _known_pairs(seed: int, count: int, registry: Registry, base: Path) -> list[Pair]:
    """Questions of the grammar about Fovea's own tools, in the model's own form."""
    chat = LocalChatModel.from_folder(base)
    names = set(OWN_TOOLS)
    cases: list[Case] = []
    source = lessons(seed, ("glaucoma", "drusen", "microaneurysm", "optic disc", "fovea"))
    while len(cases) < count:
        for scene in next(source).scenes:
            if all(wish.tool in names for wish in scene.wishes) and _plain(scene):
                cases.append(_case(scene))
    return [
        as_pair(chat, case, every_tool(registry, [f"img{n}" for n in range(1, case.images + 1)]))
        for case in cases[:count]
    ]


def _plain(scene: Scene) -> bool:
    """Whether the answer needs no photograph to be told apart."""
    return len(scene.images) == 1 and scene.reply in {"", "outside"}


def _case(scene: Scene) -> Case:
    return Case.model_validate(
        {
            "question": scene.question,
            "images": len(scene.images),
            "history": [{"role": role, "content": text} for role, text in scene.history],
            "expect": list(dict.fromkeys(wish.tool for wish in scene.wishes)),
        }
    )
