"""Grammars that leave a model only valid tool calls, applied token by token by llguidance.

Free text stays free; a call must name an offered tool and fit its JSON schema, image
handles and other enums included, so that no model copies an identifier.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fovea.errors import BadReply
from fovea.llm.base import ToolSpec

if TYPE_CHECKING:
    import llguidance
    import torch

_LONGEST_TEXT, _LONGEST_LIST, _MOST_CALLS = 200, 8, 8


def bounded(schema: Any) -> Any:
    """The schema with a limit on every text and list: an unsure model would write on for ever."""
    if isinstance(schema, list):
        return [bounded(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept = {key: bounded(value) for key, value in schema.items() if key not in {"title", "default"}}
    if isinstance(schema.get("properties"), Mapping):
        # Properties may themselves be called `title` or `default`.
        kept["properties"] = {n: bounded(part) for n, part in schema["properties"].items()}
    kind = schema.get("type")
    if kind == "string" and not {"enum", "const", "pattern", "format"} & set(schema):
        kept.setdefault("maxLength", _LONGEST_TEXT)
    if kind == "array":
        kept.setdefault("maxItems", _LONGEST_LIST)
    if kind == "object":
        kept.setdefault("additionalProperties", False)
    return kept


def call_grammar(family: str, tools: Sequence[ToolSpec], *, special: Sequence[str] = ()) -> str:
    """A Lark grammar, in llguidance's dialect: plain text, or calls as the family writes them.

    Args:
        family: `hermes`, `llama3`, `mistral`, `gemma` or `pythonic`.
        tools: Tools that may be called.
        special: Marks such as `<tool_call>` that are single tokens of the tokenizer.
    """

    def mark(text: str) -> str:
        return text if text in special and text.startswith("<") else json.dumps(text)

    rules = [f"start: text | calls{{1,{_MOST_CALLS}}}"]
    inside = "parameters" if family == "llama3" else "arguments"
    schemas = [_call_schema(tool, inside) for tool in tools]
    union = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    options = json.dumps({"x-guidance": {"whitespace_flexible": False}, **union})
    if family == "hermes":
        rules[0] = f'start: text | call ("\\n" call){{0,{_MOST_CALLS - 1}}}'
        rules.append(f'call: {mark("<tool_call>")} "\\n" object "\\n" {mark("</tool_call>")}')
        rules.append(r"text: /(?s:[^<\x00-\x08][^<]*)/")
    elif family == "mistral":
        rules[0] = "start: text | calls"
        rules.append(f'calls: {mark("[TOOL_CALLS]")} "[" object ("," " "? object)* "]"')
        rules.append(r"text: /(?s:[^\[\x00-\x08].*)/")
    elif family == "gemma":
        rules[0] = "start: text | calls"
        rules.append('calls: "```json\\n[" object ("," " "? object)* "]\\n```"')
        rules.append(r"text: /(?s:[^`\x00-\x08].*)/")
    else:
        # Bare objects: Llama 3.x, and what is bound to models that write Python calls.
        rules[0] = "start: text | calls"
        rules.append('calls: object (";" " "? object)*')
        rules.append(r"text: /(?s:[^{\[\x00-\x08].*)/")
    rules.append(f"object: %json {options}")
    return "\n".join(rules) + "\n"


def _call_schema(tool: ToolSpec, inside: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {}, **tool.parameters}
    # References point to the root of the tool's own schema, which is not the root here.
    parameters = bounded(_inlined(parameters, parameters))
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, inside: parameters},
        "required": ["name", inside],
        "additionalProperties": False,
    }


def _inlined(part: Any, root: Mapping[str, Any], depth: int = 0) -> Any:
    if depth > 32:
        raise BadReply("The arguments of a tool refer to themselves", fix="Use flat arguments")
    if isinstance(part, list):
        return [_inlined(one, root, depth + 1) for one in part]
    if not isinstance(part, Mapping):
        return part
    if "$ref" in part:
        target: Any = root
        for step in part["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        part = {**target, **{key: value for key, value in part.items() if key != "$ref"}}
    return {k: _inlined(v, root, depth + 1) for k, v in part.items() if k != "$defs"}


class Constraint:
    """Leaves only tokens that the grammar allows; a transformers logits processor.

    Also notes how sure the model was: the product of the probabilities, among the allowed
    tokens, of the ones it held for likeliest.
    """

    def __init__(self, grammar: str, vocabulary: llguidance.LLTokenizer) -> None:
        import llguidance
        from llguidance.numpy import allocate_token_bitmask

        self.matcher = llguidance.LLMatcher(vocabulary, grammar)
        if self.matcher.is_error():
            raise BadReply("The tools give no grammar", why=self.matcher.get_error()[:300])
        self.mask = allocate_token_bitmask(1, vocabulary.vocab_size)
        self.read = 0
        self.confidence = 1.0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores with everything that the grammar forbids at minus infinity."""
        import torch
        from llguidance.numpy import apply_token_bitmask_inplace, fill_next_token_bitmask

        for token in input_ids[0, self.read :].tolist():
            self.matcher.consume_token(token)
        self.read = input_ids.shape[1]
        fill_next_token_bitmask(self.matcher, self.mask)
        kept = scores.float().cpu().numpy().copy()
        apply_token_bitmask_inplace(kept, self.mask)
        allowed = torch.from_numpy(kept).to(scores.device)
        self.confidence *= float(torch.softmax(allowed[0], -1).max())
        return allowed


def vocabulary_of(tokenizer: Any, size: int) -> llguidance.LLTokenizer:
    """The tokenizer as llguidance reads it; building it takes a while, so keep it."""
    import llguidance.hf

    return llguidance.hf.from_tokenizer(tokenizer, n_vocab=size)
