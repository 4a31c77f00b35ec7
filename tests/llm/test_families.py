"""Tool calls as each family of models writes them, from stored replies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fovea.llm.families import PARSERS, Parsed, RawCall, family_of, written

HERMES = '<tool_call>\n{"name": "segment_vessels", "arguments": {"image": "img1"}}\n</tool_call>'
CALL = ("segment_vessels", {"image": "img1"})


def calls(parsed: Parsed) -> list[tuple[str, dict[str, Any]]]:
    return [(call.name, dict(call.arguments)) for call in parsed.calls]


@pytest.mark.parametrize(
    ("family", "reply"),
    [
        ("hermes", HERMES),
        ("hermes", f"<think>Vessels are asked for.</think>\n\n{HERMES}<|im_end|>"),
        ("hermes", HERMES.removesuffix("</tool_call>")),  # cut at the token limit
        ("hermes", '<tool_call>{"name": "segment_vessels", '
         '"arguments": "{\\"image\\": \\"img1\\"}"}</tool_call>'),
        ("llama3", '{"name": "segment_vessels", "parameters": {"image": "img1"}}<|eot_id|>'),
        ("llama3", '<|python_tag|>{"name": "segment_vessels", "parameters": {"image": "img1"}}'),
        ("llama3", '{"type": "function", "function": {"name": "segment_vessels", '
         '"parameters": {"image": "img1"}}}'),
        ("mistral", '[TOOL_CALLS][{"name": "segment_vessels", '
         '"arguments": {"image": "img1"}}]</s>'),
        ("mistral", '[TOOL_CALLS]segment_vessels[ARGS]{"image": "img1"}</s>'),
        ("mistral", '[TOOL_CALLS]segment_vessels[CALL_ID]a1B2c3D4e[ARGS]{"image": "img1"}'),
        ("gemma", '```tool_code\nprint(segment_vessels(image="img1"))\n```<end_of_turn>'),
        ("gemma", '```json\n[{"name": "segment_vessels", "arguments": {"image": "img1"}}]\n```'),
        ("gemma", '{"name": "segment_vessels", "parameters": {"image": "img1"}}'),
        ("pythonic", '[segment_vessels(image="img1")]'),
        ("pythonic", '<|python_start|>[segment_vessels(image="img1")]<|python_end|><|eot|>'),
    ],
)  # fmt: skip
def test_one_call_in_every_spelling(family: str, reply: str) -> None:
    parsed = PARSERS[family](reply)
    assert calls(parsed) == [CALL]
    assert parsed.text == ""
    assert parsed.malformed == ()


@pytest.mark.parametrize(
    ("family", "reply"),
    [
        ("hermes", f"I look at both.\n{HERMES}\n{HERMES.replace('img1', 'img2')}"),
        ("llama3", '{"name": "segment_vessels", "parameters": {"image": "img1"}}; '
         '{"name": "segment_vessels", "parameters": {"image": "img2"}}'),
        ("mistral", '[TOOL_CALLS][{"name": "segment_vessels", "arguments": {"image": "img1"}}, '
         '{"name": "segment_vessels", "arguments": {"image": "img2"}}]'),
        ("mistral", '[TOOL_CALLS]segment_vessels[ARGS]{"image": "img1"}'
         '[TOOL_CALLS]segment_vessels[ARGS]{"image": "img2"}'),
        ("gemma", '```tool_code\n[segment_vessels(image="img1"), '
         'segment_vessels(image="img2")]\n```'),
        ("pythonic", '[segment_vessels(image="img1"), segment_vessels(image="img2")]'),
    ],
)  # fmt: skip
def test_two_calls(family: str, reply: str) -> None:
    assert calls(PARSERS[family](reply)) == [CALL, ("segment_vessels", {"image": "img2"})]


@pytest.mark.parametrize(
    ("family", "reply", "why"),
    [
        ("hermes", '<tool_call>{"name": "f", "arguments": {</tool_call>', "not JSON"),
        ("hermes", '<tool_call>["f"]</tool_call>', "no name"),
        ("hermes", '<tool_call>{"name": "f", "arguments": [1]}</tool_call>', "no object"),
        ("hermes", '<tool_call>{"name": "f", "arguments": "{"}</tool_call>', "not JSON"),
        ("hermes", '<tool_call>{"arguments": {}}</tool_call>', "no name"),
        ("llama3", '{"name": "f", "parameters": {"a": }', "not JSON"),
        ("mistral", "[TOOL_CALLS][{'name': 'f'}]", "not JSON"),
        ("mistral", "[TOOL_CALLS]f[ARGS]{oops", "not JSON"),
        ("gemma", '```tool_code\nprint(f(1, 2))\n```', "named arguments"),
        ("gemma", "```tool_code\nimport os\n```", ""),
        ("pythonic", "[f(a=open('x'))]", "plain value"),
        ("pythonic", "[f(**x)]", "named arguments"),
        ("pythonic", "[f(a=1", "not Python"),
    ],
)  # fmt: skip
def test_malformed_calls_are_reported_and_not_guessed(family: str, reply: str, why: str) -> None:
    parsed = PARSERS[family](reply)
    assert parsed.calls == ()
    assert len(parsed.malformed) == 1
    assert why in parsed.malformed[0].why


@pytest.mark.parametrize("family", sorted(PARSERS))
def test_plain_text_stays_text(family: str) -> None:
    text = "The ratio is 0.4 [E1]. It was measured (see the mask)."
    assert PARSERS[family](text) == Parsed(text)
    assert PARSERS[family]("") == Parsed("")


@settings(max_examples=150, deadline=None)
@given(
    family=st.sampled_from(sorted(PARSERS)),
    text=st.text(max_size=200)
    | st.lists(
        st.sampled_from(
            ["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "{", "}", "[", "]", '"name"',
             ":", '"f"', "```json", "```", "f(", "a=1", ")", ",", "<|python_tag|>", "(" * 300,
             "[" * 3000, "\x00"]
        ),
        max_size=20,
    ).map("".join),
)  # fmt: skip
def test_no_reply_raises(family: str, text: str) -> None:
    parsed = PARSERS[family](text)
    assert all(isinstance(call.name, str) for call in parsed.calls)


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,6}", fullmatch=True),
        st.text(max_size=20) | st.integers() | st.booleans() | st.none(),
        max_size=3,
    )
)
def test_arguments_survive_hermes(arguments: dict[str, Any]) -> None:
    body = json.dumps({"name": "f", "arguments": arguments})
    if "tool_call>" in body:
        return
    assert calls(PARSERS["hermes"](f"<tool_call>\n{body}\n</tool_call>")) == [("f", arguments)]


@pytest.mark.parametrize("family", sorted(PARSERS))
def test_written_calls_are_read_back(family: str) -> None:
    made = [RawCall("f", {"image": "img1", "k": 3}), RawCall("g", {"on": True})]
    assert PARSERS[family](written(family, made)).calls == tuple(made)


@pytest.mark.parametrize(
    ("template", "model_type", "family"),
    [
        ("... <tool_call> ...", "qwen3", "hermes"),
        ("{{ '<|python_tag|>' }}", "llama", "llama3"),
        ("[TOOL_CALLS]", "mistral3", "mistral"),
        ("<start_of_turn>model", "gemma3", "gemma"),
        ("<|python_start|>", "llama4", "pythonic"),
        ("<images> <answer>", "llama", "fovea"),
        ("", "phi3", "hermes"),
    ],
)
def test_family_is_told_by_the_template(template: str, model_type: str, family: str) -> None:
    assert family_of(template, model_type) == family
