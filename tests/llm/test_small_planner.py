"""The small planner's short form: prompt, grammar, reading of replies, training data."""

from __future__ import annotations

import random
from itertools import islice
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from routing_tools import offered, tool

from fovea.errors import ModelUnavailable
from fovea.llm.backends import PROFILE, read_profile, write_profile
from fovea.llm.base import ImageFact, ToolSpec, session_facts
from fovea.llm.compact import CHAT_TEMPLATE, OWN_TOOLS, aliases_of, tools_text, turn_text
from fovea.llm.embedded import CompactTurn
from fovea.llm.suggestion import suggestion
from fovea.llm.training.lessons import NEVER_TAUGHT, lesson, lessons, tools_prompt
from fovea.llm_evaluation import Case, Figures, evaluate, problems
from fovea.settings import Settings

TOPICS = ("drusen", "glaucoma", "optic disc")
PALLOR = tool(
    "estimate_pallor",
    description='Rates pallor of the nerve. Examples: "How pale is it?"',
    sector={"type": "string", "enum": ["temporal", "nasal"]},
    required=("sector",),
)


def turn(
    question: str, images: int = 1, history: tuple[tuple[str, str], ...] = (), tools: Any = None
) -> CompactTurn:
    facts = [ImageFact(f"img{n}", "OD" if n == 1 else None) for n in range(1, images + 1)]
    messages: list[Any] = [SystemMessage(session_facts(facts))]
    messages += [HumanMessage(t) if r == "user" else AIMessage(t) for r, t in history]
    specs = [ToolSpec.from_bound(t) for t in tools or [*offered(images), PALLOR]]
    return CompactTurn.of([*messages, HumanMessage(question)], specs)


def calls(made: CompactTurn, reply: str) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, dict(call.arguments)) for call in made.read(reply).calls]


@pytest.mark.parametrize("images", [0, 1, 3])
def test_the_chat_template_prints_what_training_reads(images: int) -> None:
    import jinja2

    history = (("user", "What is <t3> the CDR?"), ("assistant", "It is 0.6. " * 20 + "Go on?"))
    made = turn("And the OTHER  one?", images, history)
    listed, chat = made.chat()
    printed = jinja2.Template(CHAT_TEMPLATE).render(
        tools=listed, messages=chat, add_generation_prompt=True
    )
    names = [tool.name for tool in made.tools]
    aliases = dict(zip(names, aliases_of(names), strict=True))
    said = suggestion(made.question, made.history, made.images, made.tools, aliases)
    asked = turn_text(made.images, made.history, made.question, said)
    assert printed == tools_text(made.tools) + asked
    assert "<t13> estimate pallor: rates nerve pale" in printed
    assert "(t3)" in printed, "a person must not write marks"


def test_marks_become_calls_with_valid_arguments() -> None:
    made = turn("How pale is the nasal half, top 3 cases", 2)
    schemas = {t.name: t.parameters for t in made.tools}
    got = calls(made, "<t1><i2><t3><all><t11><t13><end>")
    assert got[:3] == [
        ("assess_quality", {"image": "img2"}),
        ("segment_optic_disc", {"image": "img1"}),
        ("segment_optic_disc", {"image": "img2"}),
    ]
    assert got[3][0] == "lookup_knowledge"
    assert got[3][1]["query"]
    assert got[4] == ("estimate_pallor", {"sector": "nasal"})
    assert all(not problems(arguments, schemas[name]) for name, arguments in got)


@pytest.mark.parametrize(
    ("reply", "images", "words"),
    [
        ("<t3>", 0, "add a photograph"),
        ("<t10>", 1, "second photograph"),
        ("<treatment>", 1, "medicines"),
        ("<outside>", 1, "outside what I do"),
    ],
)
def test_what_cannot_be_called_is_said(reply: str, images: int, words: str) -> None:
    read = turn("x", images).read(reply)
    assert not read.calls
    assert words in read.text


def test_a_tool_that_is_not_installed_is_named() -> None:
    tools = [t for t in offered(1) if t["name"] != "segment_lesions"]
    assert "`segment_lesions`" in turn("x", 1, tools=tools).read("<t4>").text


@pytest.mark.parametrize("reply", ["", "<end>", "<t31>", "<i1>", "words"])
def test_nonsense_is_malformed(reply: str) -> None:
    read = turn("x").read(reply)
    assert read.malformed
    assert not read.calls


@pytest.mark.parametrize(("reply", "allowed"), [
    ("<t3><i2>", True), ("<t3><all>", True), ("<t3>", False), ("<t3><i3>", False),
    ("<t11>", True), ("<outside>", True), ("<outside><t3>", False), ("<t14>", False),
    ("<t10>", True), ("hello", False),
])  # fmt: skip
def test_the_grammar_of_a_turn(reply: str, allowed: bool) -> None:
    import llguidance
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from fovea.llm.compact import SPECIAL
    from fovea.llm.constrain import vocabulary_of
    from fovea.llm.training.tokens import for_transformers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={c: n for n, c in enumerate(letters)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_tokens(list(SPECIAL))
    fast = for_transformers(raw)
    matcher = llguidance.LLMatcher(vocabulary_of(fast, len(fast)), turn("x", 2).grammar())
    assert not matcher.is_error(), matcher.get_error()
    ids = fast(reply, add_special_tokens=False)["input_ids"]
    assert (matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()) is allowed


# Training data -----------------------------------------------------------------------


def test_lessons_are_the_same_for_the_same_seed_and_every_phrase_is_filled() -> None:
    first, second = (list(islice(lessons(3, TOPICS), 60)) for _ in range(2))
    assert [made.scenes for made in first] == [made.scenes for made in second]
    tools = set()
    for made in first:
        for scene in made.scenes:
            assert not set("{}[|") & set(scene.question), scene.question
            assert made.answer(scene).startswith("<")
            tools |= {wish.tool for wish in scene.wishes}
    assert set(OWN_TOOLS) <= tools


def test_held_back_plugins_are_never_taught() -> None:
    chance = random.Random(1)  # noqa: S311
    prompts = " ".join(tools_prompt(lesson(chance, TOPICS, 1), chance) for _ in range(400))
    assert NEVER_TAUGHT
    for name in NEVER_TAUGHT:
        assert name.replace("_", " ") + ":" not in prompts


def test_packed_questions_see_the_tools_and_themselves_only() -> None:
    from fovea.llm.training.lessons import Tokens
    from fovea.llm.training.trainer import packed

    batch = packed([Tokens([5, 6], [([7, 8, 9], 1), ([10, 11], 1)])])
    mask = batch.mask[0, 0]
    assert batch.positions[0].tolist() == [0, 1, 2, 3, 4, 2, 3]
    assert mask[6].tolist() == [True, True, False, False, False, True, True]
    assert mask[2].tolist() == [True, True, True, False, False, False, False]
    assert batch.learn[0].tolist() == [False, False, False, True, False, True, False]


# Profile and figures -------------------------------------------------------------------


def test_a_changed_file_of_a_planner_is_noticed(tmp_path: Any) -> None:
    from fovea.llm.backends import small_planner

    (tmp_path / "config.json").write_text("{}")
    write_profile(tmp_path, "p", threshold=0.5)
    assert read_profile(tmp_path).threshold == 0.5
    (tmp_path / "config.json").write_text("{ }")
    with pytest.raises(ModelUnavailable, match="SHA-256"):
        small_planner(Settings(), tmp_path)
    for damaged in (b"{}", b"\xff\xfe{", b""):
        (tmp_path / PROFILE).write_bytes(damaged)
        with pytest.raises(ModelUnavailable, match="profile"):
            read_profile(tmp_path)


def test_figures_count_what_was_called(settings: Settings) -> None:
    from fovea.llm.rules import RulesChatModel
    from fovea.registry import Registry

    cases = [
        Case(question="Is this image gradable?", images=1, expect=("assess_quality",)),
        Case(question="Is this image gradable?", images=1, expect=("draft_report",)),
        Case(question="Tell me a joke", images=1, expect=(), kind="off_topic"),
        Case(question="Is this image gradable?", images=1, expect=(), kind="near_miss"),
    ]
    figures: Figures = evaluate(RulesChatModel(), cases, Registry.discover(settings))
    content = figures.as_json()
    assert content["exact_tool_set"] == 0.5
    assert content["false_trigger_off_topic"] == 0.0
    assert content["near_miss"] == 1.0
    assert content["arguments_valid"] == 1.0
    assert len(content["wrong"]) == 2
