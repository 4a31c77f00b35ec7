"""The tools that the LLM is offered in a turn, as JSON schemas.

The host adds the image argument: an enum of the handles in the session, left
out when there is only one, so that a model never has to copy an identifier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fovea.errors import BadArguments
from fovea.manifest import Manifest
from fovea.registry import Registry

DRAFT_REPORT = "draft_report"
DRAFT_REPORT_TOOL: dict[str, Any] = {
    "name": DRAFT_REPORT,
    "description": (
        "Write a structured draft report about all photographs of the session: runs the "
        "measurements that are missing, fills every section, and cites the evidence. "
        'Examples: "Write it up." "Draft a report for this eye." "Prepare the letter."'
    ),
    "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
}


def offered_tools(registry: Registry, handles: Sequence[str]) -> list[dict[str, Any]]:
    """Every healthy tool as an OpenAI-style function, image handles included.

    Tools are offered even while there is no photograph, so that the model can say
    what it could do with one; calling them then is refused with that reason.
    """
    tools = [_tool(registry, name, handles) for name in registry.healthy_names()]
    return [*tools, DRAFT_REPORT_TOOL]


def split_images(
    tool: str, manifest: Manifest, arguments: Mapping[str, Any], handles: Sequence[str]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A model's arguments parted into the plugin's own and the image handles.

    Raises:
        BadArguments: no photograph, an unknown handle, or one that must be named.
    """
    own = dict(arguments)
    wanted = manifest.inputs.images
    if wanted == 0:
        return own, ()
    if len(handles) < wanted:
        raise BadArguments(
            tool,
            "There is no photograph in this session"
            if not handles
            else "It needs two photographs and there is one",
            fix="Ask the person to add one",
        )
    if wanted == 1:
        chosen = (own.pop("image", handles[0] if len(handles) == 1 else None),)
    else:
        pair = (handles[0], handles[1]) if len(handles) == 2 else (None, None)
        chosen = (own.pop("first", pair[0]), own.pop("second", pair[1]))  # type: ignore[assignment]
    for handle in chosen:
        if handle not in handles:
            raise BadArguments(
                tool,
                "An image must be named" if handle is None else f"There is no image `{handle}`",
                fix=f"Use one of {', '.join(handles)}",
            )
    return own, tuple(str(handle) for handle in chosen)


def _tool(registry: Registry, name: str, handles: Sequence[str]) -> dict[str, Any]:
    manifest = registry.manifest(name)
    schema = dict(registry.schema(name))
    properties = dict(schema.get("properties", {}))
    required = list(schema.get("required", []))
    if manifest.inputs.images == 1 and len(handles) > 1:
        properties["image"] = _handle("Which photograph.", handles)
        required.append("image")
    if manifest.inputs.images == 2 and len(handles) > 2:
        for argument in ("first", "second"):
            properties[argument] = _handle(f"The {argument} photograph.", handles)
            required.append(argument)
    parameters = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    if "$defs" in schema:
        parameters["$defs"] = schema["$defs"]
    examples = " ".join(f'"{example}"' for example in manifest.examples)
    return {
        "name": name,
        "description": f"{manifest.when_to_use} Examples: {examples}",
        "parameters": parameters,
    }


def _handle(description: str, handles: Sequence[str]) -> dict[str, Any]:
    return {"type": "string", "enum": list(handles), "description": description}
