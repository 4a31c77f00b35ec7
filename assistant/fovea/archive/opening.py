"""The one place that opens the archive of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from fovea.archive.faults import kept_by_server
from fovea.archive.store import CaseArchive
from fovea.errors import ArchiveError
from fovea.settings import Settings

if TYPE_CHECKING:
    from fovea.archive.served import ServedArchive

AnyArchive: TypeAlias = "CaseArchive | ServedArchive"
"""Both have the same methods, but `CaseArchive` alone keeps its own copies."""


def open_archive(settings: Settings) -> AnyArchive:
    """The archive that the settings name: on a server, or in the data folder; made if need be.

    Raises:
        ArchiveError: it cannot be used; the message says why.
    """
    if settings.archive_url is None:
        return CaseArchive.open(archive_folder(settings))
    try:
        from fovea.archive.served import ServedArchive
    except ImportError as error:
        raise ArchiveError(
            "The packages for an archive on a server are not installed",
            where="FOVEA_ARCHIVE_URL",
            why=f"`{error.name}` is missing",
            fix="Run `pip install fovea-assistant[server]`",
        ) from error
    return ServedArchive.open(settings.archive_url, settings.data_dir / "archive-key")


def archive_folder(settings: Settings) -> Path:
    """The folder of the archive.

    Raises:
        ArchiveError: the settings name a server instead.
    """
    if settings.archive_url is not None:
        raise kept_by_server("FOVEA_ARCHIVE_URL")
    return settings.data_dir / "archive"
