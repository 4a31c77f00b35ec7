"""Snapshots of the archive: whole copies of the database that one can go back to."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from fovea.archive.copies import COPY_FILE, FILE, new_facts, why_unsound
from fovea.archive.database import Database, with_logs
from fovea.archive.durable import FolderLock, draft_of, put_in_place, quarantine
from fovea.archive.faults import told
from fovea.archive.ledger import read_facts, sealed
from fovea.errors import ArchiveError

FOLDER = "snapshots"
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def snapshots_of(folder: Path) -> list[str]:
    """Names of the snapshots of an archive, oldest first."""
    return sorted(path.stem for path in (folder / FOLDER).glob("[0-9]*.sqlite"))


def unsound_snapshots(folder: Path) -> list[str]:
    """What is wrong with the snapshots, one sentence each."""
    found = []
    for name in snapshots_of(folder):
        why = why_unsound(folder / FOLDER / f"{name}.sqlite")
        if why is not None:
            found.append(f"The snapshot `{name}` is damaged: {why}")
    return found


def take_snapshot(database: Database, name: str) -> str:
    """Write a snapshot and read it back; its full name, which begins with the moment.

    Raises:
        ArchiveError: the name is unsuitable, or the copy could not be written.
    """
    if not NAME.fullmatch(name):
        raise ArchiveError(
            f"{name[:40]!r} cannot be the name of a snapshot",
            where="archive",
            fix="Use at most 40 small letters, digits, - and _",
        )
    with told(database.folder):
        room = database.folder / FOLDER
        room.mkdir(mode=0o700, exist_ok=True)
        path = room / f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{name}.sqlite"
        draft = draft_of(path)
        try:
            with database.read() as run, closing(sqlite3.connect(draft)) as target:
                run.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")  # one file, without a log
            why = why_unsound(draft)
            if why is not None:
                raise ArchiveError("The snapshot was not written soundly", where=name, why=why)
            put_in_place(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    return path.stem


def roll_back(folder: Path, name: str) -> None:
    """Make a snapshot the present state. What was there before goes into quarantine.

    Works on a closed archive, also on one whose database is beyond repair.

    Raises:
        ArchiveError: there is no such snapshot, it is damaged, or another program
            has the archive open.
    """
    known = snapshots_of(folder)
    if name not in known:
        raise ArchiveError(
            f"There is no snapshot `{name[:60]}`",
            where="archive",
            fix=f"Choose one of: {', '.join(known)}" if known else "None was taken so far",
        )
    source = folder / FOLDER / f"{name}.sqlite"
    why = why_unsound(source)
    if why is not None:
        raise ArchiveError(f"The snapshot `{name}` is damaged", where="archive", why=why)
    with told(folder):
        lock = FolderLock(folder)
        try:
            lock.exclusive()
            path = folder / FILE
            draft = draft_of(path)
            draft.write_bytes(source.read_bytes())
            _go_on_from(draft, after=_numbers_used(folder))
            quarantine(folder, *with_logs(folder / COPY_FILE))
            quarantine(folder, *with_logs(path))
            put_in_place(draft, path)
        finally:
            lock.close()


def _numbers_used(folder: Path) -> int:
    """The next free case number of the present state; 1 where it cannot be read."""
    for name in (FILE, COPY_FILE):
        try:
            with told(folder), closing(sqlite3.connect(folder / name)) as run:
                return int(read_facts(run)["next_number"])
        except (ArchiveError, KeyError, ValueError):
            continue
    return 1


def _go_on_from(path: Path, *, after: int) -> None:
    """A new identity, so that no stored index of another state is used, and fresh numbers."""
    with closing(sqlite3.connect(path, isolation_level=None)) as run:
        facts = read_facts(run)
        facts["archive"] = new_facts()["archive"]
        facts["next_number"] = str(max(after, int(facts["next_number"])))
        run.execute("BEGIN")
        run.executemany("UPDATE facts SET value = ? WHERE name = ?",
                        [(value, key) for key, value in sealed(facts).items()])  # fmt: skip
        run.execute("COMMIT")
