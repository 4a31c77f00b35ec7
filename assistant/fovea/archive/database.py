"""The SQLite files of the archive: two copies of the truth, changed in one transaction."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fovea.archive.changes import Change
from fovea.archive.copies import (
    COPY_FILE,
    FILE,
    create_tables,
    damaged_copies,
    is_empty,
    new_facts,
    refill,
    refuse_damage,
)
from fovea.archive.durable import FolderLock, quarantine
from fovea.archive.faults import RESTORE, Damaged, told
from fovea.archive.keys import KEY_COPY, KEY_FILE, mark_of, open_key, pseudonym_of
from fovea.archive.ledger import read_facts, write_facts
from fovea.errors import ArchiveError

BUSY_TIMEOUT_S = 30.0
RESERVE_BYTES = 8 << 20
"""A change is refused below this free space: a half-full commit would reach one copy only."""

log = logging.getLogger(__name__)


class Database:
    """One connection, shared by threads under a lock. Every change is one durable transaction."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        with told(folder):
            self._prepare_folder()
            self._files = FolderLock(folder)
        try:
            try:
                self._connect()
            except Damaged as error:
                self.recover(error)
        except BaseException:
            self._files.close()
            raise

    def _prepare_folder(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise ArchiveError(
                f"The archive `{self.folder.name}` is a file",
                where="archive",
                fix="Name a folder for the archive",
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _connect(self) -> None:
        with told(self.folder):
            main, copy = self.folder / FILE, self.folder / COPY_FILE
            self._connection = _opened(main)
            try:
                run = self._connection.execute
                try:
                    is_empty(self._connection, "main")  # a stranger's folder stays as it is
                except ArchiveError as error:
                    if _heading(copy) in (b"", _heading(main)):
                        raise
                    # Of our own two copies, one whose heading is damaged looks like a stranger's.
                    raise Damaged(error.what, why=error.why) from error
                _touch(copy)
                run("ATTACH ? AS copy", (str(copy),))
                run("PRAGMA main.synchronous = FULL")
                run("PRAGMA copy.synchronous = FULL")
                run("PRAGMA foreign_keys = ON")
                run("PRAGMA secure_delete = ON")  # a removed case leaves no pixels in free pages
                run("PRAGMA trusted_schema = OFF")
                run("BEGIN IMMEDIATE")
                try:
                    facts = self._agree()
                except BaseException:
                    run("ROLLBACK")
                    raise
                run("COMMIT")
                run("PRAGMA main.journal_mode = WAL")
                run("PRAGMA copy.journal_mode = WAL")
                self.key = open_key(self.folder, facts.get("key"))
                if "key" not in facts:
                    with self.change() as change:
                        change.state("key", mark_of(self.key))
            except BaseException:
                self._connection.close()
                raise

    def _agree(self) -> dict[str, str]:
        """Make the copies equal: a crash can come between the commits of the two files."""
        run = self._connection
        new = {"main": is_empty(run, "main")}
        try:
            new["copy"] = is_empty(run, "copy")
        except ArchiveError as error:
            raise Damaged(error.what, why=error.why) from error
        if all(new.values()):
            if any((self.folder / name).exists() for name in (KEY_FILE, KEY_COPY)):
                raise ArchiveError(
                    "The database of the archive is missing", where="archive", fix=RESTORE
                )
            for copy in new:
                create_tables(run, copy)
            write_facts(run, new_facts())
            return read_facts(run)
        if any(new.values()):
            source, target = ("copy", "main") if new["main"] else ("main", "copy")
        else:
            facts, other = read_facts(run), read_facts(run, "copy")
            if facts == other:
                return facts
            if facts["archive"] != other["archive"]:
                raise Damaged("One copy of the archive is another archive's", where="archive")
            # The later one: what was acknowledged is in both, so nothing else can be lost.
            later = int(facts["generation"]) >= int(other["generation"])
            source, target = ("main", "copy") if later else ("copy", "main")
        refuse_damage(run, source)
        refill(run, source=source, target=target)
        log.warning("one copy of the case archive was brought up to date from the other")
        return read_facts(run, source)

    def recover(self, cause: ArchiveError) -> None:
        """Put a damaged copy into quarantine and make it anew from the sound one.

        Raises:
            ArchiveError: both copies are damaged, or another program has the archive open.
        """
        with self.lock, told(self.folder):
            self._connection.close()
            self._files.exclusive()
            try:
                bad = damaged_copies(self.folder)
                if len(bad) == 2:
                    raise ArchiveError(
                        "Both copies of the archive are damaged",
                        where=f"archive `{self.folder.name}`",
                        why="; ".join(f"`{path.name}`: {why}" for path, why in bad.items()),
                        fix=RESTORE,
                    ) from cause
                for path, why in bad.items():
                    names = quarantine(self.folder, *with_logs(path))
                    log.warning("`%s` was damaged (%s); now %s", path.name, why, names)
            finally:
                self._files.shared()
            self._connect()

    def pseudonym(self, patient_id: str) -> str:
        """The keyed hash (HMAC-SHA-256, 80 bits) under which a patient is stored."""
        return pseudonym_of(self.key, patient_id)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent view for several queries."""
        with self.lock, told(self.folder):
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    @contextmanager
    def change(self) -> Iterator[Change]:
        """A transaction: on return it is on disk, twice; on any error nothing has happened."""
        with self.lock, told(self.folder):
            self._refuse_full_disk()
            run = self._connection
            run.execute("BEGIN IMMEDIATE")
            try:
                facts = read_facts(run)
                if read_facts(run, "copy") != facts:
                    raise Damaged("The copies of the archive differ", where="archive")
                change = Change(run, facts)
                yield change
                run.execute("COMMIT" if change.finish() else "ROLLBACK")
            except BaseException:
                if run.in_transaction:
                    run.execute("ROLLBACK")
                raise

    def _refuse_full_disk(self) -> None:
        free = shutil.disk_usage(self.folder).free
        if free < RESERVE_BYTES:
            raise ArchiveError(
                "The disk is full: nothing was changed",
                where=f"archive `{self.folder.name}`",
                why=f"{free / 1e6:.1f} MB are free, {RESERVE_BYTES / 1e6:.1f} MB are kept back",
                fix="Free some space on the disk and try again; what was stored is unharmed",
            )

    def forget_log(self) -> None:
        """Fold the write-ahead logs into the files, so that removed rows are gone from all.

        A disk that refuses delays this to the next time: the removal itself is done.
        """
        try:
            with self.lock, told(self.folder):
                self._connection.execute("PRAGMA main.wal_checkpoint(TRUNCATE)")
                self._connection.execute("PRAGMA copy.wal_checkpoint(TRUNCATE)")
        except ArchiveError as error:
            log.warning("the logs of the archive still hold removed rows: %s", error)

    def close(self) -> None:
        """Close the files. May be called twice."""
        with self.lock:
            self._connection.close()
            self._files.close()


def with_logs(path: Path) -> tuple[Path, ...]:
    """A database file and the files that SQLite keeps beside it."""
    return (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"))


def _heading(path: Path) -> bytes:
    """What tells whose file it is, and of which layout (SQLite file format, 1.3)."""
    if not path.exists():
        return b""
    with path.open("rb") as opened:
        start = opened.read(100)
    return start[60:64] + start[68:72]


def _opened(path: Path) -> sqlite3.Connection:
    _touch(path)
    return sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )


def _touch(path: Path) -> None:
    # Made before SQLite would make it, so that its log files inherit the mode as well.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
