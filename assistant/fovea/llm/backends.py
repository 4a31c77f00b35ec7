"""The backends by name: how each is made from the settings, and what it falls back on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from fovea.errors import ConfigError, ModelUnavailable
from fovea.llm.assisted import AssistedModel
from fovea.settings import Settings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

PROFILE = "fovea.json"
EMBEDDED = Path(__file__).parent / "planner"
"""The small planner that is part of the package."""
THRESHOLD = 0.27
"""Least confidence of a small planner, once the word model was heard (see its card)."""
_Value = TypeVar("_Value")


class Profile(BaseModel):
    """What is known about a planner of `fovea llm train` besides its weights (`fovea.json`).

    Attributes:
        threshold: Confidence below which the rules planner chooses.
        sha256: Digest of each file of the model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    threshold: float = Field(ge=0, le=1)
    sha256: Mapping[str, str]


def assisted_model(settings: Settings) -> AssistedModel:
    """The backend of the settings with the rules planner at its side.

    Raises:
        ConfigError: a setting that the backend needs is missing.
    """
    if settings.backend == "embedded":
        return _planning(settings, EMBEDDED, "The embedded planner")
    if settings.backend == "local":
        folder = _needed(settings.model_dir, "model_dir")
        label = f"The model `{folder.name}`"
        if (folder / PROFILE).is_file():
            return _planning(settings, folder, label)
        return AssistedModel.around(lambda: local_model(settings, folder), label=label)
    base_url = _needed(settings.base_url, "base_url")
    served = _needed(settings.served_model, "served_model")
    return AssistedModel.around(
        lambda: remote_model(settings, base_url, served),
        label=f"The served model `{served}`",
        plans_only=settings.served_compact,
    )


def _planning(settings: Settings, folder: Path, label: str) -> AssistedModel:
    """A small planner with the threshold of its profile; a damaged one is told when it is asked."""
    try:
        threshold = read_profile(folder).threshold
    except ModelUnavailable:
        threshold = 1.0
    return AssistedModel.around(
        lambda: small_planner(settings, folder), label=label, plans_only=True, threshold=threshold
    )


def read_profile(folder: Path) -> Profile:
    """The profile of a planner trained by `fovea llm train`.

    Raises:
        ModelUnavailable: it is damaged.
    """
    try:
        return Profile.model_validate_json((folder / PROFILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelUnavailable(
            "The planner's profile cannot be read", where=f"`{PROFILE}`",
            fix=_repair(folder, "Train it again with `fovea llm train`"),
        ) from error  # fmt: skip


def _repair(folder: Path, other: str) -> str:
    """What to do about a damaged planner: the shipped one, or another."""
    first = "Install Fovea again" if folder == EMBEDDED else other
    return f"{first}, or set `FOVEA_BACKEND=rules`"


def small_planner(settings: Settings, folder: Path) -> BaseChatModel:
    """A planner trained by `fovea llm train`, its files checked.

    Raises:
        ModelUnavailable: a file is missing or not the one that was trained.
    """
    from hashlib import sha256

    from fovea.llm.local import LocalChatModel

    for name, digest in read_profile(folder).sha256.items():
        path = folder / name
        if not path.is_file() or sha256(path.read_bytes()).hexdigest() != digest:
            raise ModelUnavailable(
                "A file of the planner is not the one that was trained", where=f"`{name}`",
                why="It is missing" if not path.is_file() else "Its SHA-256 differs",
                fix=_repair(folder, "Copy the folder again"),
            )  # fmt: skip
    return LocalChatModel.from_folder(
        folder, device="cpu", adapters=_adapters(settings), adapter=settings.adapter,
        max_new_tokens=24,
    )  # fmt: skip


def local_model(settings: Settings, folder: Path) -> BaseChatModel:
    """A model folder of the user's.

    Raises:
        ModelUnavailable: folder, memory or an adapter will not do.
    """
    from fovea.llm.local import LocalChatModel

    return LocalChatModel.from_folder(
        folder, quantisation=settings.quantisation, adapters=_adapters(settings),
        adapter=settings.adapter, native_calls=settings.native_calls,
        max_new_tokens=settings.max_new_tokens,
    )  # fmt: skip


def remote_model(settings: Settings, base_url: str, served: str) -> BaseChatModel:
    """A model on a server.

    Raises:
        ModelUnavailable: the client is not installed, or the key file is not readable.
    """
    from fovea.llm.remote import RemoteChatModel

    return RemoteChatModel.connect(
        key_file=settings.api_key_file, base_url=base_url, served_model=served,
        timeout_s=settings.remote_timeout_s, max_new_tokens=settings.max_new_tokens,
        allow_images=settings.allow_remote_images, compact=settings.served_compact,
    )  # fmt: skip


def _adapters(settings: Settings) -> dict[str, Path]:
    found = {}
    for entry in settings.adapters:
        name, mark, folder = entry.partition("=")
        if not mark or not name.isidentifier():
            raise ConfigError(
                f"`{entry[:60]}` is no adapter", where="`adapters`",
                why="It is not `name=folder` with a plain name",
                fix="Such as FOVEA_ADAPTERS=clinic=/models/clinic",
            )  # fmt: skip
        found[name] = Path(folder)
    if settings.adapter is not None and settings.adapter not in found:
        raise ConfigError(
            f"There is no adapter `{settings.adapter}`", where="`adapter`",
            fix=f"Registered: {', '.join(found) or 'none; set `FOVEA_ADAPTERS`'}",
        )  # fmt: skip
    return found


def _needed(value: _Value | None, name: str) -> _Value:
    if value is None:
        raise ConfigError(
            f"The backend needs the setting `{name}`", where=f"`{name}`",
            fix=f"Set `FOVEA_{name.upper()}`",
        )  # fmt: skip
    return value


def write_profile(folder: Path, name: str, threshold: float) -> None:
    """Note threshold and digests beside the weights."""
    from hashlib import sha256

    files = sorted(p for p in folder.iterdir() if p.suffix in {".json", ".safetensors", ".jinja"})
    digests = {p.name: sha256(p.read_bytes()).hexdigest() for p in files if p.name != PROFILE}
    content = {"name": name, "threshold": threshold, "sha256": digests}
    (folder / PROFILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
