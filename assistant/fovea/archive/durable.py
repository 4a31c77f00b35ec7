"""Files that are there wholly or not at all, and locks between processes."""

from __future__ import annotations

import os
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path

from fovea.errors import ArchiveError

LOCK_FILE = "archive.lock"
QUARANTINE = "quarantine"


def sync_folder(folder: Path) -> None:
    """Make a rename or a new name in the folder outlive a loss of power."""
    if sys.platform == "win32":
        return  # a folder cannot be opened there, and renames are written through
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Wait until a written file is on the disk."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def put_in_place(draft: Path, path: Path) -> None:
    """Give a finished draft its name, durably: the old file or the new one, never a part."""
    draft.chmod(0o600)
    sync_file(draft)
    draft.replace(path)
    sync_folder(path.parent)


def draft_of(path: Path) -> Path:
    """A name beside `path` that nobody else uses."""
    return path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.draft")


def quarantine(folder: Path, *paths: Path) -> list[str]:
    """Move files out of use, into `quarantine/`; nothing is ever deleted. The new names."""
    found = [path for path in paths if path.exists()]
    if not found:
        return []
    room = folder / QUARANTINE
    room.mkdir(mode=0o700, exist_ok=True)
    moment = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    names = []
    for path in found:
        target = room / f"{moment}-{path.name}"
        path.replace(target)
        names.append(target.name)
    sync_folder(room)
    sync_folder(folder)
    return names


class FolderLock:
    """A shared lock while the archive is open; an exclusive one while files are exchanged."""

    def __init__(self, folder: Path) -> None:
        self._handle = os.open(folder / LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o600)
        self._take(exclusive=False)

    def exclusive(self) -> None:
        """Take the exclusive lock.

        Raises:
            ArchiveError: another program has the archive open.
        """
        try:
            self._take(exclusive=True)
        except OSError as error:
            raise ArchiveError(
                "The archive must be repaired, but another program has it open",
                where="archive",
                fix="Close the other programs that use it (such as `fovea serve`) and try again",
            ) from error

    def shared(self) -> None:
        """Go back to the shared lock."""
        self._take(exclusive=False)

    def close(self) -> None:
        """Give the lock up. May be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _take(self, *, exclusive: bool) -> None:
        # Windows has no flock; there a file that is open cannot be renamed in the first place.
        if sys.platform != "win32":
            import fcntl

            kind = fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH
            fcntl.flock(self._handle, kind)
