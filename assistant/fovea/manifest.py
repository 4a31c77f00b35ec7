"""The plugin manifest: what `plugin.toml` may say, and what each field means.

Reading a manifest imports and executes nothing of the plugin.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

API_VERSION = 1
"""Version of the contract in this module and in `fovea.contract`."""

Structure = Literal["disc", "macula", "vessels"]
PHYSICAL_UNITS = frozenset({"um", "mm", "mm2", "um2", "1/mm"})
"""UCUM units that may only be used on an image with a known scale."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Inputs(_Frozen):
    """What a plugin needs before it can run."""

    images: int = Field(1, ge=0, le=2, description="Number of images: 0, 1 or 2.")
    modality: Literal["fundus_photograph", "any"] = Field(
        "fundus_photograph", description="Modality the plugin accepts."
    )
    min_width_px: int = Field(0, ge=0, description="Smallest image width in pixels.")
    needs_scale: bool = Field(False, description="True if the pixel scale must be known.")
    needs: tuple[str, ...] = Field(
        (), description="Outputs of other plugins that must exist; the host runs them first."
    )
    uses: tuple[str, ...] = Field(
        (), description="Outputs of other plugins that are used when they can be had."
    )
    reuses: tuple[str, ...] = Field(
        (), description="Outputs that are used if they are there already; nothing is run for them."
    )
    needs_gradable: tuple[Structure, ...] = Field(
        (), description="Structures that the quality gate must have found gradable."
    )
    services: tuple[Literal["knowledge", "archive"], ...] = Field(
        (), description="Host services handed over in the context."
    )


class Output(_Frozen):
    """One thing that a plugin may return; anything undeclared is refused."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        description="Name; other plugins get it from the first plugin that declares it.",
    )
    kind: Literal["measurement", "mask", "overlay", "heatmap", "table", "finding", "similar"] = (
        Field("measurement", description="What sort of output this is.")
    )
    unit: str = Field("", description="UCUM unit of a measurement: `1` for a ratio, `px`, `um`.")
    meaning: str = Field(min_length=3, description="What it is, in one plain sentence.")
    low: float | None = Field(None, description="Lowest plausible value of a measurement.")
    high: float | None = Field(None, description="Highest plausible value of a measurement.")
    repeatability: float | None = Field(
        None, gt=0, le=5,
        description="Coefficient of variation of a measurement within eyes, 0.02 for 2 %, on pairs "
        "that the model card names.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _measurements_have_unit_and_range(self) -> Output:
        if self.kind == "measurement":
            if not self.unit:
                raise ValueError("a measurement needs a `unit` (`1` for a ratio)")
            if self.low is None or self.high is None or self.low >= self.high:
                raise ValueError("a measurement needs a plausible range: `low` below `high`")
        return self


class Weights(_Frozen):
    """One file of trained parameters, verified before the first run."""

    file: str = Field(description="Path inside the plugin folder; safetensors only.")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Digest of the file.")
    licence: str = Field(min_length=2, description="Terms of the weights and of their data.")
    bytes: int = Field(gt=0, description="Size of the file in bytes.")

    @field_validator("file")
    @classmethod
    def _inside_the_folder(cls, value: str) -> str:
        if Path(value).is_absolute() or ".." in Path(value).parts:
            raise ValueError("must be a path inside the plugin folder")
        if not value.endswith(".safetensors"):
            raise ValueError("must be a .safetensors file (pickled weights can run code)")
        return value


class Manifest(_Frozen):
    """The whole of `plugin.toml`."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9_]{2,39}$", description="Tool name that the LLM calls."
    )
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$", description="Version of the plugin.")
    api_version: int = Field(description=f"Contract version; this host speaks {API_VERSION}.")
    title: str = Field(min_length=3, max_length=60, description="Name shown to people.")
    when_to_use: str = Field(
        min_length=20, max_length=500, description="The sentence by which the LLM chooses it."
    )
    examples: tuple[str, ...] = Field(
        min_length=2, description="Questions that should reach this plugin."
    )
    entry: str = Field(
        pattern=r"^[A-Za-z_]\w*:[A-Za-z_]\w*$",
        description="`module:Class` inside the plugin folder, imported when first needed.",
    )
    alternative_to: str | None = Field(
        None,
        description="Tool whose outputs it gives too. While that tool is installed, this one runs "
        "only when asked for by name.",
    )
    inputs: Inputs = Field(Inputs(), description="What the plugin needs.")
    outputs: tuple[Output, ...] = Field((), description="Everything the plugin may return.")
    weights: tuple[Weights, ...] = Field((), description="Trained parameters that it reads.")
    requires: tuple[str, ...] = Field(
        (), description="Importable modules beyond Fovea's own dependencies."
    )
    device: Literal["cpu", "auto"] = Field("cpu", description="Where it can run.")
    deterministic: bool = Field(True, description="Same image, arguments and seed: same result.")
    timeout_s: float = Field(60.0, gt=0, le=3600, description="Longest run in seconds.")
    intended_use: str = Field(min_length=10, description="For whom and what it is meant.")
    limitations: tuple[str, ...] = Field(min_length=1, description="Where it fails, plainly.")
    references: tuple[str, ...] = Field(
        min_length=1, description="Literature source of the method, one per line."
    )

    @field_validator("api_version")
    @classmethod
    def _spoken_here(cls, value: int) -> int:
        if value != API_VERSION:
            raise ValueError(f"is {value}, but this host speaks version {API_VERSION}")
        return value

    @model_validator(mode="after")
    def _output_names_unique(self) -> Manifest:
        names = [output.name for output in self.outputs]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"outputs declared twice: {', '.join(doubled)}")
        return self

    def output(self, name: str) -> Output | None:
        """The declared output of that name, or None."""
        return next((output for output in self.outputs if output.name == name), None)


class ManifestError(ValueError):
    """`plugin.toml` cannot be used; the message names field, line and remedy."""


def read_manifest(path: Path) -> Manifest:
    """The manifest in a `plugin.toml` file.

    Raises:
        ManifestError: unreadable, not TOML, or a field missing, unknown or out of bounds.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestError(f"`plugin.toml` cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ManifestError("`plugin.toml` is not UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ManifestError(f"`plugin.toml` is not valid TOML: {error}") from error
    try:
        return Manifest.model_validate(table)
    except ValidationError as error:
        raise ManifestError(f"`plugin.toml`: {field_messages(error)}") from error


def field_messages(error: ValidationError) -> str:
    """A pydantic error as one line of `field: message`, without echoing long input."""
    lines = []
    for item in error.errors(include_url=False)[:6]:
        field = ".".join(str(part) for part in item["loc"]) or "(top level)"
        lines.append(f"`{field}`: {item['msg'].removeprefix('Value error, ')}")
    more = error.error_count() - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")
