"""The two copies of the database: their layout, whether one is sound, filling one anew."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from fovea.archive.faults import Damaged, told
from fovea.archive.keys import known_marks
from fovea.archive.ledger import EMPTY, VECTORS, read_facts, summed
from fovea.archive.records import labels_from_json
from fovea.archive.rows import CASE_COLUMNS, VECTOR_COLUMNS, CaseRow, VectorRow
from fovea.errors import ArchiveError

FILE = "cases.sqlite"
COPY_FILE = "cases.copy.sqlite"
APPLICATION_ID = 0x464F5645
SCHEMA_VERSION = 2

SCHEMA = """
CREATE TABLE {copy}.cases (
    number         INTEGER PRIMARY KEY,
    sha256         TEXT NOT NULL UNIQUE,
    patient        TEXT,
    eye            TEXT CHECK (eye IN ('OD', 'OS')),
    device         TEXT,
    labels         TEXT NOT NULL,
    date           TEXT,
    evidence       TEXT,
    phash          TEXT,
    picture_sha256 TEXT,
    added          TEXT NOT NULL,
    generation     INTEGER NOT NULL,
    row_sha256     TEXT NOT NULL
) STRICT;
CREATE INDEX {copy}.cases_by_generation ON cases (generation);
CREATE TABLE {copy}.pictures (
    sha256 TEXT PRIMARY KEY REFERENCES cases (sha256) ON DELETE CASCADE,
    jpeg   BLOB NOT NULL
) STRICT;
CREATE TABLE {copy}.embeddings (
    sha256        TEXT NOT NULL REFERENCES cases (sha256) ON DELETE CASCADE,
    encoder_id    TEXT NOT NULL,
    dim           INTEGER NOT NULL CHECK (dim > 0),
    vector        BLOB NOT NULL,
    generation    INTEGER NOT NULL,
    vector_sha256 TEXT NOT NULL,
    PRIMARY KEY (sha256, encoder_id)
) STRICT;
CREATE INDEX {copy}.embeddings_by_encoder ON embeddings (encoder_id, generation);
CREATE TABLE {copy}.removed (number INTEGER PRIMARY KEY, generation INTEGER NOT NULL) STRICT;
CREATE INDEX {copy}.removed_by_generation ON removed (generation);
CREATE TABLE {copy}.facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
"""
TABLES = ("cases", "pictures", "embeddings", "removed", "facts")  # parents before children


def create_tables(run: sqlite3.Connection, copy: str) -> None:
    """The empty tables of one copy, within the caller's transaction."""
    for statement in SCHEMA.format(copy=copy).strip().split(";\n"):
        run.execute(statement)
    run.execute(f"PRAGMA {copy}.application_id = {APPLICATION_ID}")
    run.execute(f"PRAGMA {copy}.user_version = {SCHEMA_VERSION}")


def new_facts() -> dict[str, str]:
    """The facts of an empty archive."""
    return {
        "archive": secrets.token_hex(8),
        "generation": "0",
        "next_number": "1",
        "kind": "auto",
        "cases": EMPTY,
    }


def is_empty(run: sqlite3.Connection, copy: str) -> bool:
    """Whether the copy is a new, empty file.

    Raises:
        ArchiveError: it is the file of another program or of another release.
    """
    application = run.execute(f"PRAGMA {copy}.application_id").fetchone()[0]
    version = run.execute(f"PRAGMA {copy}.user_version").fetchone()[0]
    if (application, version) == (APPLICATION_ID, SCHEMA_VERSION):
        return False
    held = run.execute(f"SELECT 1 FROM {copy}.sqlite_schema").fetchone()  # noqa: S608
    if application == 0 and not held:
        return True
    ours = application == APPLICATION_ID
    raise ArchiveError(
        f"`{FILE if copy == 'main' else COPY_FILE}` cannot be used as a case archive",
        where="archive",
        why=f"It has layout {version}, this release reads layout {SCHEMA_VERSION}"
        if ours
        else "It was made by another program",
        fix="Use the release that made it" if ours else "Name another folder",
    )


def refill(run: sqlite3.Connection, *, source: str, target: str) -> None:
    """Make one copy equal to the other, within the caller's transaction."""
    if is_empty(run, target):
        create_tables(run, target)
    for table in reversed(TABLES):
        run.execute(f"DELETE FROM {target}.{table}")  # noqa: S608 - constants
    for table in TABLES:
        run.execute(f"INSERT INTO {target}.{table} SELECT * FROM {source}.{table}")  # noqa: S608


def problems_of(run: sqlite3.Connection, copy: str) -> list[str]:
    """Everything that is wrong with one copy, one sentence each. Reads all of it.

    Raises:
        sqlite3.Error: it cannot even be read.
    """
    found: list[str] = []
    try:
        found.extend(_problems_of(run, copy))
    except ArchiveError as error:
        found.append(str(error))
    except (TypeError, ValueError, OverflowError) as error:
        # Where a page is damaged, a column can hold a value of another type than it was given.
        found.append(f"The database file is damaged: {error}.")
    return found


def _problems_of(run: sqlite3.Connection, copy: str) -> Iterator[str]:
    for (line,) in run.execute(f"PRAGMA {copy}.integrity_check"):
        if line != "ok":
            yield f"The database file is damaged: {line}"
    if run.execute(f"PRAGMA {copy}.foreign_key_check").fetchone():
        yield "There are vectors or pictures that belong to no case."
    facts = read_facts(run, copy)
    sums: dict[str, list[str]] = {"cases": []}
    pictures: dict[str, str] = {}
    for found in run.execute(f"SELECT {CASE_COLUMNS} FROM {copy}.cases"):  # noqa: S608
        row = CaseRow(*found)
        sums["cases"].append(row.row_sha256)
        try:
            labels_from_json(row.checked().labels)
        except (ArchiveError, ValueError, KeyError, TypeError) as error:
            yield str(error) if isinstance(error, ArchiveError) else f"{row.case_id}: bad labels."
        if row.picture_sha256 is not None:
            pictures[row.sha256] = row.picture_sha256
    for sha256, jpeg in run.execute(f"SELECT sha256, jpeg FROM {copy}.pictures"):  # noqa: S608
        if hashlib.sha256(jpeg).hexdigest() != pictures.pop(sha256, None):
            yield "A picture does not match its digest."
    if pictures:
        yield f"{len(pictures)} pictures are missing."
    for found in run.execute(f"SELECT {VECTOR_COLUMNS} FROM {copy}.embeddings"):  # noqa: S608
        vector = VectorRow(*found)
        sums.setdefault(VECTORS + vector.encoder_id, []).append(vector.vector_sha256)
        try:
            vector.checked()
        except ArchiveError as error:
            yield str(error)
    names = set(sums) | {name for name in facts if name.startswith(VECTORS)}
    for name in sorted(names):
        if summed(sums.get(name, [])) != facts.get(name, EMPTY):
            yield f"Rows of `{name}` are missing, or are there that were removed."


def why_unsound(path: Path) -> str | None:
    """The first thing that is wrong with a database file of the archive; None when it is sound."""
    if not path.exists() or not path.stat().st_size:
        return "It is missing"
    try:
        with told(path.parent), closing(sqlite3.connect(path)) as run:
            if is_empty(run, "main"):
                return "It is empty"
            return next(iter(problems_of(run, "main")), None)
    except ArchiveError as error:
        return str(error)


def damaged_copies(folder: Path) -> dict[Path, str]:
    """The copies of the database that are not sound, or are another archive's, and why."""
    paths = (folder / FILE, folder / COPY_FILE)
    bad = {path: why for path in paths if (why := why_unsound(path)) is not None}
    if bad:
        return bad
    marks = {path: _facts_of(path) for path in paths}
    if len({facts["archive"] for facts in marks.values()}) > 1:
        ours = known_marks(folder)
        return {
            path: "It is another archive's" for path, facts in marks.items()
            if facts.get("key") not in ours
        }  # fmt: skip
    return {}


def _facts_of(path: Path) -> dict[str, str]:
    with told(path.parent), closing(sqlite3.connect(path)) as run:
        return read_facts(run)


def refuse_damage(run: sqlite3.Connection, copy: str) -> None:
    """Refuse a copy with any problem.

    Raises:
        Damaged: saying the first one.
    """
    for problem in problems_of(run, copy):
        raise Damaged("A copy of the archive is damaged", where=copy, why=problem)
