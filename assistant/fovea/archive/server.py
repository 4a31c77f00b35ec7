"""The PostgreSQL server of a served archive: connection, tables, errors that say what to do.

Every case is one row of `cases`, with the same columns as in a folder. Vectors lie in one
table per encoder, since pgvector indexes vectors of one length; a view joins them with
what is known of the case, so that filters come before the search.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from langchain_postgres import PGEngine
from sqlalchemy import URL, Connection, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine

from fovea.archive.faults import Damaged
from fovea.archive.keys import KEY_FILE, known_marks, mark_of, open_key
from fovea.errors import ArchiveError

SCHEMA = "fovea_archive"
LAYOUT = "1"
EXTENSION = "vector"
OLDEST_EXTENSION = (0, 8)
"""The first pgvector that goes on searching when a filter leaves too few (iterative scans)."""
CONNECT_TIMEOUT_S = 5
CREATION_LOCK = 0x666F766561  # "fovea"; PostgreSQL wants a number
REBUILD_LOCK = CREATION_LOCK + 1
RESTORE = "Restore it from a dump of the database (`pg_restore`); see docs/archive.md"
TABLES = """
CREATE TABLE {schema}.facts (name text PRIMARY KEY, value text NOT NULL);
CREATE TABLE {schema}.encoders (
    encoder_id text PRIMARY KEY, place text NOT NULL UNIQUE, dim integer NOT NULL,
    width integer, recall_at_10 double precision
);
CREATE TABLE {schema}.cases (
    number bigint PRIMARY KEY, sha256 text NOT NULL UNIQUE, patient text, eye text, device text,
    labels text NOT NULL, date text, evidence text, phash text, picture_sha256 text,
    added text NOT NULL, generation bigint NOT NULL, row_sha256 text NOT NULL, picture bytea
);
CREATE INDEX cases_patient ON {schema}.cases (patient);
"""

COUNTED = text(
    f"UPDATE {SCHEMA}.facts SET value = (value::bigint + 1)::text "  # noqa: S608 - a constant
    "WHERE name = :name RETURNING value"
)

log = logging.getLogger(__name__)


class Server:
    """The database of a served archive.

    Attributes:
        where: Database and host, for messages.
        vectors: The engine of langchain-postgres.
    """

    def __init__(self, url: str, key_folder: Path) -> None:
        """Connect, and make the tables where there are none.

        Raises:
            ArchiveError: not reachable, refused, without pgvector, or tables of another layout.
        """
        address = address_of(url)
        self.where = described(address)
        self._key_folder = key_folder
        self._users = threading.Condition()
        self._in_use, self._closed = 0, False
        # hide_parameters: pseudonyms and vectors belong in no log.
        self._engine = create_engine(address, pool_pre_ping=True, hide_parameters=True)
        try:
            self._mark = self._opened()["key"]
        except BaseException:
            self._engine.dispose()
            raise
        # langchain-postgres talks in coroutines; psycopg wants this kind of loop on Windows.
        self._loop = asyncio.SelectorEventLoop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="fovea-archive", daemon=True
        )
        self._thread.start()
        self._pool = create_async_engine(address, pool_pre_ping=True, hide_parameters=True)
        self.vectors = PGEngine.from_engine(self._pool, self._loop)

    def _opened(self) -> dict[str, str]:
        with self.told(), self._engine.begin() as run:
            run.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": CREATION_LOCK})
            facts = self._facts(run) or self._create(run)
            if facts.get("layout") != LAYOUT:
                raise self.other_layout(f"It has layout {facts.get('layout')}, not {LAYOUT}")
            self._check_extension(run)
            return facts

    def close(self) -> None:
        """Wait for what is going on, and close the connections. May be called twice."""
        with self._users:
            before, self._closed = self._closed, True
            self._users.wait_for(lambda: not self._in_use)
        if before:
            return
        self._engine.dispose()
        asyncio.run_coroutine_threadsafe(self._pool.dispose(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view for several queries."""
        with self.told(), self._engine.connect() as run:
            yield run.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def change(self) -> Iterator[tuple[Connection, int]]:
        """One transaction and its number; other writers wait for its end."""
        with self.told(), self._engine.begin() as run:
            yield run, int(run.execute(COUNTED, {"name": "generation"}).scalar_one())

    @contextmanager
    def rebuilding(self) -> Iterator[None]:
        """Other programs that rebuild wait for the end of this; searching and adding go on."""
        with self.told(), self._engine.begin() as run:
            run.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": REBUILD_LOCK})
            yield

    @contextmanager
    def told(self) -> Iterator[None]:
        """Turn errors of the server into `ArchiveError`, and refuse once it is closed."""
        with self._users:
            if self._closed:
                raise ArchiveError(
                    "The case archive is closed", where=self.where, fix="Open it again"
                )
            self._in_use += 1
        try:
            yield
        except SQLAlchemyError as error:
            raise self._explained(error) from error
        except Damaged as error:
            raise ArchiveError(error.what, where=self.where, why=error.why, fix=RESTORE) from error
        finally:
            with self._users:
                self._in_use -= 1
                self._users.notify_all()

    def key(self) -> bytes:
        """The key of the pseudonyms, which no server sees.

        Raises:
            ArchiveError: this machine does not have it.
        """
        if self._mark not in known_marks(self._key_folder):
            raise ArchiveError(
                f"This machine does not have the `{KEY_FILE}` of the archive",
                where=self.where,
                why="Without it patients cannot be given their pseudonyms; searching needs no key",
                fix=f"Copy `{KEY_FILE}` from the machine that made the archive into the folder "
                f"`{self._key_folder.name}` of the data folder",
            )
        return open_key(self._key_folder, self._mark)

    def other_layout(self, why: str) -> ArchiveError:
        """The error for tables that are not as this release makes them."""
        return ArchiveError(
            f"The tables in the schema `{SCHEMA}` are not those of a case archive of this release",
            where=self.where,
            why=why,
            fix="Use the release that made them, or another database in FOVEA_ARCHIVE_URL",
        )

    def _facts(self, run: Connection) -> dict[str, str]:
        if run.execute(text(f"SELECT to_regclass('{SCHEMA}.facts')")).scalar() is None:
            return {}
        return read_facts(run) or {"layout": "none"}

    def _create(self, run: Connection) -> dict[str, str]:
        # Asked first: making them needs rights that the role need not have.
        if self._extension(run) is None:
            try:
                run.execute(text(f"CREATE EXTENSION {EXTENSION}"))
            except SQLAlchemyError as error:
                raise self._without_extension(_reason(error)) from error
        if run.execute(text(f"SELECT to_regnamespace('{SCHEMA}')")).scalar() is None:
            run.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        run.execute(text(TABLES.format(schema=SCHEMA)))
        self._key_folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        facts = {
            "layout": LAYOUT,
            "generation": "0",
            "next_number": "1",
            "kind": "auto",
            "key": mark_of(open_key(self._key_folder, None)),
        }
        insert = text(f"INSERT INTO {SCHEMA}.facts VALUES (:name, :value)")  # noqa: S608 - a constant
        run.execute(insert, [{"name": name, "value": value} for name, value in facts.items()])
        log.info("made the tables of a new case archive")
        return facts

    def _extension(self, run: Connection) -> str | None:
        query = text("SELECT extversion FROM pg_extension WHERE extname = :name")
        found = run.execute(query, {"name": EXTENSION}).scalar()
        return None if found is None else str(found)

    def _check_extension(self, run: Connection) -> None:
        found = self._extension(run)
        if found is None or tuple(map(int, found.split(".")[:2])) < OLDEST_EXTENSION:
            raise self._without_extension(f"Version {found} is installed, 0.8 is needed")

    def _without_extension(self, why: str) -> ArchiveError:
        return ArchiveError(
            "The server lacks the extension pgvector, which searches vectors",
            where=self.where,
            why=why,
            fix="Let its administrator install pgvector 0.8 or later, and run "
            f"`CREATE EXTENSION {EXTENSION}` in this database",
        )

    def _explained(self, error: SQLAlchemyError) -> ArchiveError:
        cause = getattr(error, "orig", None)
        state = getattr(cause, "sqlstate", None) or ""
        why = _reason(error)
        session = getattr(cause, "pgconn", None)
        asked = session is not None and (session.used_password or session.needs_password)
        if state.startswith("28") or (not state and asked):
            return ArchiveError(
                "The server of the case archive refuses the connection",
                where=self.where,
                why=why,
                fix="Check role and database in FOVEA_ARCHIVE_URL; the password is read from "
                "PGPASSWORD or from ~/.pgpass, as psql does",
            )
        if isinstance(error, OperationalError) and (not state or state[:2] in ("08", "57")):
            return ArchiveError(
                "The server of the case archive cannot be reached",
                where=self.where,
                why=why,
                fix="Start it, or check FOVEA_ARCHIVE_URL; what was stored is unharmed",
            )
        if state[:2] == "42" and state != "42501":
            return self.other_layout(why)
        return ArchiveError(
            "The server refuses what the case archive asks of it",
            where=self.where,
            why=f"{why} ({state})" if state else why,
            fix=FIXES.get(state[:5], FIXES.get(state[:2], "See the log of the server"))
            + "; what was stored is unharmed",
        )


FIXES = {
    "42501": "Grant the role the rights that docs/archive.md names",
    "25": "Use the primary server: a standby can only be read",
    "40": "Try again: two programs wrote at the same time",
    "53": "Give the server more space or connections",
}


def _reason(error: SQLAlchemyError) -> str:
    """What the server said, without the details, which may repeat rows."""
    cause = getattr(error, "orig", None)
    said = getattr(getattr(cause, "diag", None), "message_primary", None)
    return " ".join((said or str(cause or type(error).__name__)).split())


def address_of(url: str) -> URL:
    """The address as SQLAlchemy reads it, with the driver in use and a limit to waiting.

    Raises:
        ArchiveError: it cannot be read.
    """
    try:
        address = make_url(url).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError):  # their messages may repeat a password
        raise ArchiveError(
            "The address of the case archive cannot be read",
            where="FOVEA_ARCHIVE_URL",
            fix="Write it as postgresql://role@host/database",
        ) from None
    if "connect_timeout" in address.query:
        return address
    return address.update_query_dict({"connect_timeout": str(CONNECT_TIMEOUT_S)})


def described(address: URL) -> str:
    """Database and host of an address, without role and password."""
    hosts = [address.host] if address.host else address.normalized_query.get("host", ())
    host = ", ".join(hosts) or "this machine"
    return f"archive in database `{address.database or 'default'}` on `{host}`"


def read_facts(run: Connection) -> dict[str, str]:
    """What the archive knows of itself: layout, numbers, kind of index, mark of the key."""
    found = run.execute(text(f"SELECT name, value FROM {SCHEMA}.facts"))  # noqa: S608 - a constant
    return {row.name: row.value for row in found}
