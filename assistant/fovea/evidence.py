"""A plugin's result with the provenance that the host adds: one piece of evidence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from fovea.contract import Result
from fovea.image import Eye


class Provenance(BaseModel):
    """How a result came about, complete enough to repeat it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plugin: str
    plugin_version: str
    weights_sha256: Mapping[str, str] = Field(description="Digest of each weight file used.")
    image_sha256: tuple[str, ...]
    arguments: Mapping[str, JsonValue]
    preprocessing: tuple[str, ...] = Field(description="What was done to the pixels on opening.")
    used: tuple[str, ...] = Field(description="Ids of the evidence that the plugin was given.")
    inputs: Mapping[str, str] = Field(
        default_factory=dict,
        description="Versions of the tools that it needs or uses; values depend on them.",
    )
    seed: int
    started: str = Field(description="UTC, ISO 8601.")
    seconds: float
    libraries: Mapping[str, str]


class Evidence(BaseModel):
    """What a report sentence points to. `id` is E1, E2 ... inside a session."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^E[1-9][0-9]*$")
    tool: str
    images: tuple[str, ...] = Field(description="Handles of the photographs, such as `img1`.")
    result: Result
    provenance: Provenance

    @property
    def key(self) -> str:
        """Equal for equal tool, arguments and images: such a call is not run again."""
        return call_key(self.tool, self.provenance.arguments, self.images)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON for `result.json` and `--json`; artifact paths lose their folder."""
        content = self.result.model_dump(mode="json", exclude_none=False)
        for artifact in content["artifacts"]:
            artifact["path"] = artifact["path"].replace("\\", "/").rsplit("/", 1)[-1]
        provenance = self.provenance.model_dump(mode="json")
        return {"tool": self.tool, "images": list(self.images), **content, "provenance": provenance}


def call_key(tool: str, arguments: Mapping[str, Any], images: Iterable[str]) -> str:
    """A stable text for one call."""
    return json.dumps([tool, dict(arguments), list(images)], sort_keys=True)


class ImageRecord(BaseModel):
    """What a session keeps about one photograph besides its pixels. No file name, no identity."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    handle: str = Field(pattern=r"^img[1-9][0-9]*$")
    sha256: str
    format: str
    width: int
    height: int
    eye: Eye | None = None
    eye_source: Literal["person", "dicom", "inferred"] | None = None
    um_per_px: float | None = Field(None, description="Only from the file; None: unknown.")
    notes: tuple[str, ...] = ()
