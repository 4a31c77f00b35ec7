"""The tools of Fovea as the host offers them, without any plugin installed."""

from __future__ import annotations

from typing import Any

IMAGE_TOOLS = (
    "assess_quality", "segment_vessels", "segment_optic_disc", "segment_lesions",
    "classify_disease", "measure_biomarkers", "find_similar_cases", "explain_prediction",
    "place_grid",
)  # fmt: skip


def tool(
    name: str, *, required: tuple[str, ...] = (), description: str = "", **properties: Any
) -> dict[str, Any]:
    """An OpenAI-style tool dict."""
    return {
        "name": name,
        "description": description or f"Does {name}.",
        "parameters": {
            "type": "object",
            "properties": properties,
            "required": list(required),
            "additionalProperties": False,
        },
    }


def offered(images: int) -> list[dict[str, Any]]:
    """All twelve tools, with image handles from the second image on."""
    handles = {"type": "string", "enum": [f"img{n}" for n in range(1, images + 1)]}
    named = {"image": handles} if images > 1 else {}
    tools = [tool(name, required=tuple(named), **named) for name in IMAGE_TOOLS]
    pair = {"first": handles, "second": handles} if images > 2 else {}
    tools.append(tool("compare_images", required=tuple(pair), **pair))
    tools.append(tool("lookup_knowledge", required=("query",), query={"type": "string"}))
    tools.append(tool("draft_report"))
    return tools
