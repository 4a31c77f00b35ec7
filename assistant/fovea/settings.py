"""Every setting: default, help text, environment name, allowed values."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from fovea.errors import ConfigError

PREFIX = "FOVEA_"


def _comma_separated(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


# Stricter than what SQLAlchemy and libpq read, so that all see the same parts: no `:`, `#` or
# further `@` that one of them takes for the start of a password and another for something else.
ADDRESS = re.compile(
    r"postgres(?:ql)?://(?:[^:/?#@]*@)?(?:\[[^\]/?#@]*\]|[^:/?#@\[\]]*)(?::[0-9]{0,5})?"
    r"(?:/[^?#@]*)?(?:\?(?P<query>[^#@]*))?"
)


def _address_without_password(url: str) -> str:
    # No message repeats a part of the address: it may be a password.
    scheme, found, rest = url.partition("://")
    if not found or scheme not in ("postgresql", "postgres"):
        raise ValueError("it does not start with postgresql://")
    if ":" in rest.rpartition("@")[0]:
        raise ValueError("it bears a password, which belongs in PGPASSWORD or ~/.pgpass")
    parts = ADDRESS.fullmatch(url)
    if parts is None:
        raise ValueError(
            "it is not of the form postgresql://role@host:port/database?option=value; "
            "write `@`, `#`, `/` and `:` within a part as %40, %23, %2F and %3A"
        )
    if {"password", "sslpassword"} & set(parse_qs(parts["query"] or "")):
        raise ValueError("it bears a password, which belongs in PGPASSWORD or ~/.pgpass")
    return url


Names = Annotated[tuple[str, ...], BeforeValidator(_comma_separated)]


def _data_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "fovea"


class Settings(BaseModel):
    """One frozen set of settings. Environment names are `FOVEA_` and the field in capitals."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True
    )

    data_dir: Path = Field(
        default_factory=_data_home, description="Folder for sessions, the case archive and logs."
    )
    archive_url: Annotated[str, AfterValidator(_address_without_password)] | None = Field(
        None,
        repr=False,
        description="Address of a PostgreSQL database that keeps the case archive, such as "
        "postgresql://fovea@db.example/fovea. The password is read from PGPASSWORD or ~/.pgpass. "
        "Unset: the archive is a folder in the data folder.",
    )
    backend: Literal["embedded", "rules", "local", "remote"] = Field(
        "embedded",
        description="Language model: `embedded` (a small planner with rules at its side), `rules` "
        "(alone), `local` (a model folder) or `remote` (an OpenAI-compatible server).",
    )
    model_dir: Path | None = Field(
        None, description="Model folder of the `local` backend, as `save_pretrained` writes it."
    )
    quantisation: Literal["none", "int8", "nf4"] = Field(
        "none", description="Quantisation of the `local` model, by bitsandbytes."
    )
    adapters: Names = Field(
        (), description="LoRA adapters of the model as `name=folder`, comma-separated."
    )
    adapter: str | None = Field(None, description="Adapter in use, one of `adapters`.")
    native_calls: bool = Field(
        False, description="Let the `local` model write tool calls without a grammar."
    )
    max_new_tokens: int = Field(512, ge=1, le=32768, description="Longest reply, in tokens.")
    base_url: str | None = Field(
        None, description="Address of the `remote` server, such as http://127.0.0.1:8000/v1."
    )
    served_model: str | None = Field(None, description="Name of the model on the `remote` server.")
    served_compact: bool = Field(
        False, description="The `remote` server serves Fovea's own small model."
    )
    api_key_file: Path | None = Field(
        None, description="File with the key of the server. Unset: OPENAI_API_KEY, or none."
    )
    remote_timeout_s: float = Field(
        60.0, gt=0, description="Longest wait for the `remote` server, in seconds."
    )
    allow_remote_images: bool = Field(
        False, description="Permit sending photographs to the `remote` server."
    )
    plugins: Names | None = Field(
        None, description="Allow-list of plugins, comma-separated. Unset: all. Empty: none."
    )
    plugins_dir: Path | None = Field(
        None, description="Folder whose subfolders are plugins too. Their code runs: trust it."
    )
    plugin_options: Names = Field(
        (),
        description="Arguments of tools where a call does not name them, as `tool.argument=value`, "
        "comma-separated: `classify_disease.operating_point=high_sensitivity`.",
    )
    knowledge_dir: Path | None = Field(
        None, description="Folder of a knowledge base to use instead of the shipped one."
    )
    norms: Path | None = Field(
        None,
        description="File of cohort percentiles from `fovea norms build`. Unset: `norms.yaml` in "
        "the data folder, if it is there.",
    )
    guideline_set: Literal["all", "uk_nhs", "us_ada_aao", "custom"] = Field(
        "all", description="Whose advice a report quotes; guidelines of countries disagree."
    )
    max_megapixels: float = Field(60.0, gt=0, le=200, description="Largest image, in megapixels.")
    max_file_mb: float = Field(200.0, gt=0, description="Largest image file, in MB.")
    max_steps: int = Field(8, ge=1, le=50, description="Model steps in one turn.")
    plugin_timeout_s: float | None = Field(
        None, gt=0, description="Longest plugin run in seconds. Unset: what its manifest says."
    )
    session_days: float = Field(30.0, gt=0, description="Days after which a session is deleted.")
    host: str = Field("127.0.0.1", description="Address that the page is served on.")
    port: int = Field(7860, ge=0, le=65535, description="Port of the page; 0 picks a free one.")
    allow_tracing: bool = Field(
        False, description="Permit LangSmith tracing, which sends conversations to a server."
    )

    @classmethod
    def from_environment(cls, **flags: Any) -> Settings:
        """Settings from flags, then `FOVEA_*` variables, then defaults.

        Raises:
            ConfigError: naming the variable or flag, its value and what is allowed.
        """
        given = {}
        for variable, value in os.environ.items():
            if not variable.startswith(PREFIX):
                continue
            name = variable.removeprefix(PREFIX).lower()
            if name not in cls.model_fields:
                raise _unknown(variable, name, cls)
            if value == "" and name != "plugins":
                continue
            given[name] = value
        given.update({name: value for name, value in flags.items() if value is not None})
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            raise _invalid(error, flags, cls) from error
        _refuse_tracing(settings)
        return settings

    def norms_in_use(self) -> Path | None:
        """The file of cohort percentiles; None where there is none."""
        own = self.data_dir / "norms.yaml"
        return self.norms or (own if own.is_file() else None)

    def origin(self, name: str) -> str:
        """Where a field's value comes from: `environment` or `default`."""
        return "environment" if f"{PREFIX}{name.upper()}" in os.environ else "default"


def _unknown(variable: str, name: str, cls: type[Settings]) -> ConfigError:
    import difflib

    near = difflib.get_close_matches(name, cls.model_fields, n=1)
    hint = f"Did you mean `{PREFIX}{near[0].upper()}`?" if near else "Run `fovea settings`"
    return ConfigError(f"There is no setting `{variable}`", where="environment", fix=hint)


def _invalid(error: ValidationError, flags: dict[str, Any], cls: type[Settings]) -> ConfigError:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0])
    source = (
        "command line" if flags.get(name) is not None else f"environment `{PREFIX}{name.upper()}`"
    )
    described = cls.model_fields.get(name)
    # What may bear a password is not repeated.
    shown = "its value" if described and not described.repr else repr(str(first["input"])[:60])
    return ConfigError(
        f"The setting `{name}` does not accept {shown}",
        where=source,
        why=first["msg"],
        fix=described.description or "" if described else "Run `fovea settings`",
    )


def _refuse_tracing(settings: Settings) -> None:
    """langchain-core honours these variables and would send conversations to a server."""
    asked = [
        name
        for name in ("LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2", "LANGSMITH_TRACING_V2")
        if os.environ.get(name, "").lower() in {"1", "true", "yes"}
    ]
    if asked and not settings.allow_tracing:
        raise ConfigError(
            f"`{asked[0]}` would send every conversation to a tracing server",
            where="environment",
            why="Fovea keeps patient data on this machine",
            fix=f"Unset `{asked[0]}`, or set `FOVEA_ALLOW_TRACING=true` if you accept that",
        )
