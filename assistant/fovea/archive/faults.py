"""How errors of SQLite and of the file system become errors of the archive."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fovea.errors import ArchiveError

RESTORE = "Go back to a snapshot with `fovea index rollback`, or restore the folder from a backup"
FIXES = {
    "SQLITE_FULL": "Free some space on the disk and try again; what was stored is unharmed",
    "SQLITE_READONLY": "Give the account that runs Fovea the right to write there",
    "SQLITE_CANTOPEN": "Check that the folder exists and that this account may use it",
    "SQLITE_BUSY": "Another program is writing to the archive; try again when it has finished",
    "SQLITE_CORRUPT": RESTORE,
    "SQLITE_NOTADB": RESTORE,
    "SQLITE_IOERR": "Check the disk; what was stored is unharmed if it can be read again",
}
DAMAGE = {"SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_CONSTRAINT", "SQLITE_ERROR"}
"""Constraints and statements of ours fail only in a file that is not as we wrote it."""


class Damaged(ArchiveError):
    """What was read is not what was written; the second copy may still be sound."""


def damaged(where: str, why: str) -> Damaged:
    """The error for a row that cannot be believed."""
    return Damaged("A case of the archive is damaged", where=where, why=why, fix=RESTORE)


def kept_by_server(where: str) -> ArchiveError:
    """The error for what the server of an archive does with its own tools."""
    return ArchiveError(
        "An archive on a server has no snapshots of Fovea's",
        where=where,
        why="The server keeps copies with its own tools",
        fix="Use `pg_dump --schema=fovea_archive` and `pg_restore`; see docs/archive.md",
    )


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into `ArchiveError`."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        # Text that is no text any more is told without a code, or by its decoding error.
        code = getattr(error, "sqlite_errorname", None) or ""
        family = "_".join(code.split("_")[:2])
        unreadable = isinstance(error, UnicodeDecodeError | sqlite3.OperationalError) and not code
        raise (Damaged if unreadable or family in DAMAGE else ArchiveError)(
            "The case archive cannot be used",
            where=f"archive `{folder.name}`",
            why=f"{error} ({code})" if code else str(error),
            fix=FIXES.get(family, RESTORE),
        ) from error
    except OSError as error:
        raise ArchiveError(
            "The case archive cannot be read or written",
            where=f"archive `{folder.name}`",
            why=error.strerror or type(error).__name__,
            fix="Check the folder, its permissions and the free space; what was stored is unharmed",
        ) from error
