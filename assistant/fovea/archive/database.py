"""The SQLite file of the archive: how it is opened, and how its errors are told."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import sqlite3
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fovea.errors import ArchiveError

FILE = "cases.sqlite"
KEY_FILE = "pseudonym.key"
APPLICATION_ID = 0x464F5645
SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 30.0

SCHEMA = """
CREATE TABLE cases (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, even after a removal
    sha256     TEXT NOT NULL UNIQUE,
    patient    TEXT,
    eye        TEXT CHECK (eye IN ('OD', 'OS')),
    labels     TEXT NOT NULL,
    date       TEXT,
    thumbnail  BLOB NOT NULL,
    added      TEXT NOT NULL,
    row_sha256 TEXT NOT NULL
) STRICT;
CREATE INDEX cases_by_patient ON cases (patient);
CREATE TABLE embeddings (
    sha256        TEXT NOT NULL REFERENCES cases (sha256) ON DELETE CASCADE,
    encoder_id    TEXT NOT NULL,
    dim           INTEGER NOT NULL CHECK (dim > 0),
    vector        BLOB NOT NULL,                   -- float16, little-endian
    vector_sha256 TEXT NOT NULL,
    PRIMARY KEY (sha256, encoder_id)
) STRICT;
CREATE INDEX embeddings_by_encoder ON embeddings (encoder_id);
CREATE TABLE facts (name TEXT PRIMARY KEY, value ANY) STRICT;
"""

FIXES = {
    "SQLITE_FULL": "Free some space on the disk and try again; what was stored is unharmed",
    "SQLITE_READONLY": "Give the account that runs Fovea the right to write there",
    "SQLITE_CANTOPEN": "Check that the folder exists and that this account may use it",
    "SQLITE_BUSY": "Another program is writing to the archive; try again when it has finished",
    "SQLITE_CORRUPT": "Restore the folder from a backup, or add the photographs to a new archive",
    "SQLITE_NOTADB": "Restore the folder from a backup, or add the photographs to a new archive",
    "SQLITE_IOERR": "Check the disk; what was stored is unharmed if it can be read again",
}


class Database:
    """One connection, shared by threads under a lock. Every change is one durable transaction."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        with told(self.folder):
            self._prepare_folder()
            path = folder / FILE
            # Made before SQLite would make it, so that its log files inherit the mode as well.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            self._connection = sqlite3.connect(
                path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                self._configure()
                self.key = self._open_key()
            except (sqlite3.Error, OSError, ArchiveError):
                self._connection.close()
                raise

    def _prepare_folder(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise ArchiveError(
                f"The archive `{self.folder.name}` is a file",
                where="archive",
                fix="Name a folder for the archive",
            )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _configure(self) -> None:
        run = self._connection.execute
        run("PRAGMA synchronous = FULL")
        run("PRAGMA foreign_keys = ON")
        run("PRAGMA secure_delete = ON")  # a removed case leaves no pixels in free pages
        run("PRAGMA trusted_schema = OFF")
        run("BEGIN IMMEDIATE")
        try:
            self._create_or_check()
        except BaseException:
            run("ROLLBACK")
            raise
        run("COMMIT")
        run("PRAGMA journal_mode = WAL")  # after the check: a stranger's file stays as it is

    def _create_or_check(self) -> None:
        run = self._connection.execute
        application = run("PRAGMA application_id").fetchone()[0]
        version = run("PRAGMA user_version").fetchone()[0]
        if (application, version) == (APPLICATION_ID, SCHEMA_VERSION):
            return
        if application == 0 and not run("SELECT 1 FROM sqlite_schema").fetchone():
            for statement in SCHEMA.split(";\n"):
                run(statement)
            run("INSERT INTO facts VALUES ('generation', 0)")
            run(f"PRAGMA application_id = {APPLICATION_ID}")
            run(f"PRAGMA user_version = {SCHEMA_VERSION}")
            return
        ours = application == APPLICATION_ID
        raise ArchiveError(
            f"`{FILE}` cannot be used as a case archive",
            where="archive",
            why=f"It has layout {version}, this release reads layout {SCHEMA_VERSION}"
            if ours
            else "It was made by another program",
            fix="Use the release that made it" if ours else "Name another folder",
        )

    def _open_key(self) -> bytes:
        """The key of the pseudonyms, made once; refused when it is not the archive's own."""
        path = self.folder / KEY_FILE
        known = self._connection.execute("SELECT value FROM facts WHERE name = 'key'").fetchone()
        if known is None and not path.exists():
            _create_key(path)
        key = path.read_bytes() if path.exists() else b""
        mark = hashlib.sha256(b"fovea archive key" + key).hexdigest()
        if len(key) != 32 or (known is not None and known[0] != mark):
            raise ArchiveError(
                f"`{KEY_FILE}` is missing or is not the key of this archive",
                where="archive",
                why="With another key one patient would get two pseudonyms, "
                "and photographs of the same patient would count as independent",
                fix="Restore the key file from a backup of the archive folder",
            )
        if known is None:
            with self.change() as run:
                run.execute("INSERT OR IGNORE INTO facts VALUES ('key', ?)", (mark,))
        return key

    def pseudonym(self, patient_id: str) -> str:
        """The keyed hash (HMAC-SHA-256, 80 bits) under which a patient is stored."""
        name = unicodedata.normalize("NFKC", patient_id).strip()
        return "P" + hmac.new(self.key, name.encode(), hashlib.sha256).hexdigest()[:20]

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
                self._connection.execute("ROLLBACK")

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """A transaction: on return it is on disk; on any error nothing has happened."""
        with self.lock, told(self.folder):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute(
                    "UPDATE facts SET value = value + 1 WHERE name = 'generation'"
                )
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def forget_log(self) -> None:
        """Fold the write-ahead log into the file, so that removed rows are gone from both."""
        with self.lock, told(self.folder):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the connection. May be called twice."""
        with self.lock:
            self._connection.close()


def _create_key(path: Path) -> None:
    draft = path.with_name(f"{KEY_FILE}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.write(handle, secrets.token_bytes(32))
        os.fsync(handle)
    finally:
        os.close(handle)
    try:
        os.link(draft, path)  # unlike a rename, never replaces the key of a faster process
    except FileExistsError:
        return
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into `ArchiveError`."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorname", None) or ""
        family = "_".join(code.split("_")[:2])
        raise ArchiveError(
            "The case archive cannot be used",
            where=f"archive `{folder.name}`",
            why=f"{error} ({code})" if code else str(error),
            fix=FIXES.get(family, "Run `fovea index verify`"),
        ) from error
    except OSError as error:
        raise ArchiveError(
            "The case archive cannot be read or written",
            where=f"archive `{folder.name}`",
            why=error.strerror or type(error).__name__,
            fix="Check the folder, its permissions and the free space",
        ) from error
