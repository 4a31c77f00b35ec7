"""The key of the pseudonyms, kept in two files outside the database."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import unicodedata
from pathlib import Path

from fovea.archive.durable import sync_folder
from fovea.errors import ArchiveError

KEY_FILE = "pseudonym.key"
KEY_COPY = "pseudonym.copy.key"
KEY_BYTES = 32


def mark_of(key: bytes) -> str:
    """What the database knows of the key: enough to recognise it, not to rebuild it."""
    return hashlib.sha256(b"fovea archive key" + key).hexdigest()


def pseudonym_of(key: bytes, patient_id: str) -> str:
    """The keyed hash (HMAC-SHA-256, 80 bits) under which a patient is stored."""
    name = unicodedata.normalize("NFKC", patient_id).strip()
    return "P" + hmac.new(key, name.encode(), "sha256").hexdigest()[:20]


def open_key(folder: Path, known_mark: str | None) -> bytes:
    """The key; made when the archive has none, and written again where a file lost it.

    Args:
        folder: The archive.
        known_mark: Mark of the key that the archive has always used, if it has one.

    Raises:
        ArchiveError: neither file holds the key of this archive.
    """
    paths = [folder / KEY_FILE, folder / KEY_COPY]
    if known_mark is None and not any(path.exists() for path in paths):
        _create(paths[0], secrets.token_bytes(KEY_BYTES))
    held = [path.read_bytes() if path.exists() else b"" for path in paths]
    good = [k for k in held if len(k) == KEY_BYTES and known_mark in (None, mark_of(k))]
    if not good:
        raise ArchiveError(
            f"`{KEY_FILE}` is missing or is not the key of this archive",
            where="archive",
            why="With another key one patient would get two pseudonyms, "
            "and photographs of the same patient would count as independent",
            fix="Restore the key file from a backup of the archive folder",
        )
    for path, found in zip(paths, held, strict=True):
        if found != good[0]:
            path.unlink(missing_ok=True)
            _create(path, good[0])
    return good[0]


def known_marks(folder: Path) -> set[str]:
    """The marks of the keys that the folder holds."""
    paths = (folder / KEY_FILE, folder / KEY_COPY)
    return {mark_of(path.read_bytes()) for path in paths if path.exists()}


def _create(path: Path, key: bytes) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(handle, key)
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(draft, path)  # unlike a rename, never replaces the key of a faster process
    except FileExistsError:
        return
    finally:
        draft.unlink()
    sync_folder(path.parent)
