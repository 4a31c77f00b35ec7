"""The case archive: SQLite holds the truth, FAISS searches a copy in memory.

No FAISS file is ever written: a damaged one loads silently as good vectors more
often than not, and a copy in memory is built from the checked rows in less
time than the rows take to add.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal

from fovea.archive.database import KEY_FILE, Database
from fovea.archive.index import EncoderIndex, Entry
from fovea.archive.records import (
    Label,
    NewCase,
    Vector,
    check_thumbnail,
    digest,
    labels_from_json,
    labels_to_json,
    unit_vector,
)
from fovea.archive.rows import (
    CASE_COLUMNS,
    CaseRow,
    VectorRow,
    checked_vector,
    read_case,
    read_vector,
    write_case,
)
from fovea.errors import ArchiveError
from fovea.image import Eye
from fovea.services import Case

__all__ = ["Added", "CaseArchive", "Label", "NewCase", "Outcome"]

log = logging.getLogger(__name__)

Outcome = Literal["added", "updated", "already_there"]


@dataclass(frozen=True)
class Added:
    """What adding a case did."""

    case_id: str
    outcome: Outcome


class CaseArchive:
    """Archived photographs with labels, found again by likeness.

    A method that returns has its change on disk; one that raises has changed
    nothing. Safe to use from several threads and several processes.

    Example:
        >>> archive = CaseArchive.open(Path("archive"))       # doctest: +SKIP
        >>> archive.add(NewCase(sha256, "classical-1", vector, thumbnail))  # doctest: +SKIP
        Added(case_id='C000001', outcome='added')
        >>> archive.search("classical-1", vector, 5, exclude_sha256=sha256)  # doctest: +SKIP
        []
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._indexes: dict[str, EncoderIndex] = {}
        self._building = threading.Lock()

    @classmethod
    def open(cls, folder: Path) -> CaseArchive:
        """The archive in `folder`; made when there is none.

        Raises:
            ArchiveError: damaged, not an archive, of a later release, without
                its key, or not writable.
        """
        return cls(Database(folder))

    def close(self) -> None:
        """Close the files. May be called twice."""
        self._database.close()

    def pseudonym(self, patient_id: str) -> str:
        """The pseudonym under which this archive stores a patient."""
        return self._database.pseudonym(patient_id)

    def count(self, encoder_id: str) -> int:
        """Number of cases that this encoder has embedded."""
        query = "SELECT count(*) FROM embeddings WHERE encoder_id = ?"
        with self._database.read() as run:
            return int(run.execute(query, (encoder_id,)).fetchone()[0])

    def encoders(self) -> dict[str, int]:
        """Number of cases per encoder."""
        query = "SELECT encoder_id, count(*) FROM embeddings GROUP BY encoder_id ORDER BY 1"
        with self._database.read() as run:
            return dict(run.execute(query).fetchall())

    def has(self, sha256: str, encoder_id: str) -> bool:
        """Whether the photograph is archived, embedded by this encoder, and undamaged."""
        with self._database.read() as run:
            try:
                if read_case(run, sha256) is None:
                    return False
                return read_vector(run, sha256, encoder_id) is not None
            except ArchiveError:
                log.warning("a damaged row of the case archive will be written again")
                return False

    def add(self, case: NewCase) -> Added:
        """Archive a photograph, or bring its case up to date.

        What is unknown in `case` leaves what is known. Labels replace those of
        the same source. Adding the same case again changes nothing, and
        repairs a damaged row.

        Raises:
            ArchiveError: other length than the encoder's other vectors, or not written.
        """
        stored = unit_vector(case.vector, where=case.encoder_id).astype("<f2").tobytes()
        embedding = (case.sha256, case.encoder_id, len(stored) // 2, stored)
        signed = (*embedding, digest(*embedding))
        with self._database.change() as run:
            try:
                row = read_case(run, case.sha256)
            except ArchiveError:
                row = None  # damaged: nothing in it can be believed
            merged = self._merged(run, row, case).signed()
            _check_length(run, case, len(stored) // 2)
            query = "SELECT * FROM embeddings WHERE sha256 = ? AND encoder_id = ?"
            known = run.execute(query, (case.sha256, case.encoder_id)).fetchone()
            if merged == row and known == signed:
                return Added(merged.case_id, "already_there")
            write_case(run, merged)
            run.execute("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?, ?)", signed)
        return Added(merged.case_id, "added" if known is None else "updated")

    def annotate(
        self,
        sha256: str,
        *,
        patient_id: str | None = None,
        eye: Eye | None = None,
        labels: tuple[Label, ...] | None = None,
        taken: date | None = None,
    ) -> Added:
        """Bring what is known about an archived photograph up to date, as `add` does.

        Raises:
            ArchiveError: the photograph is not archived, or not written.
        """
        with self._database.change() as run:
            row = read_case(run, sha256)
            if row is None:
                raise ArchiveError("The photograph is not archived", fix="Add it first")
            merged = self._updated(row, patient_id, eye, labels, taken).signed()
            if merged != row:
                write_case(run, merged)
        return Added(merged.case_id, "already_there" if merged == row else "updated")

    def remove(self, case_id: str) -> None:
        """Delete a case, its picture and its vectors. Its number is never used again.

        Raises:
            ArchiveError: there is no such case.
        """
        with self._database.change() as run:
            done = run.execute("DELETE FROM cases WHERE number = ?", (_number(case_id),))
            if done.rowcount == 0:
                raise _unknown(case_id)
        self._database.forget_log()

    def thumbnail(self, case_id: str) -> bytes:
        """The small JPEG of a case.

        Raises:
            ArchiveError: there is no such case, or its row is damaged.
        """
        query = f"SELECT {CASE_COLUMNS} FROM cases WHERE number = ?"  # noqa: S608 - a constant
        with self._database.read() as run:
            found = run.execute(query, (_number(case_id),)).fetchone()
        if found is None:
            raise _unknown(case_id)
        return CaseRow(*found).checked().thumbnail

    def search(
        self,
        encoder_id: str,
        vector: Vector,
        k: int,
        *,
        exclude_sha256: str,
        exclude_patient: str | None = None,
    ) -> list[Case]:
        """The nearest `k` cases of this encoder, nearest first; fewer when there are fewer.

        Args:
            encoder_id: Encoder that made `vector`.
            vector: (D,) float32.
            k: Most cases wanted.
            exclude_sha256: The photograph asked about. It is left out, and so is
                every case of its patient when it is archived itself.
            exclude_patient: Pseudonym of a further patient to leave out.

        Raises:
            ArchiveError: other length than the archived vectors, or a damaged row.
        """
        if k < 1:
            raise ArchiveError(f"`k` is {k}", where="archive", why="It must be at least 1")
        query = unit_vector(vector, where=encoder_id)
        return self._index(encoder_id).nearest(
            query, k, exclude_sha256=exclude_sha256, exclude_patient=exclude_patient
        )

    def random_pair_distances(self, encoder_id: str) -> Vector:
        """Sorted cosine distances of at most 5000 random pairs of different patients, (N,)."""
        return self._index(encoder_id).random_pair_distances()

    def verify(self) -> list[str]:
        """Every problem found, one sentence each; empty when the archive is sound."""
        problems: list[str] = []
        try:
            with self._database.read() as run:
                problems += [
                    f"The database file is damaged: {row[0]}"
                    for row in run.execute("PRAGMA integrity_check")
                    if row[0] != "ok"
                ]
                if run.execute("PRAGMA foreign_key_check").fetchone():
                    problems.append("There are vectors that belong to no case.")
                for found in run.execute(f"SELECT {CASE_COLUMNS} FROM cases"):  # noqa: S608
                    problems += _problems_of_row(CaseRow(*found))
                query = "SELECT embeddings.*, number FROM embeddings LEFT JOIN cases USING (sha256)"
                for found in run.execute(query):
                    problems += _problems_of_vector(found[:5], found[5])
        except ArchiveError as error:
            problems.append(str(error))
        key = self._database.folder / KEY_FILE
        if not key.is_file():
            problems.append(f"`{KEY_FILE}` is missing: restore it from a backup.")
        elif os.name == "posix" and key.stat().st_mode & 0o077:
            problems.append(f"`{KEY_FILE}` can be read by others: run `chmod 600` on it.")
        return problems

    def _index(self, encoder_id: str) -> EncoderIndex:
        with self._building, self._database.read() as run:
            query = "SELECT value FROM facts WHERE name = 'generation'"
            generation = int(run.execute(query).fetchone()[0])
            index = self._indexes.get(encoder_id)
            if index is None or index.generation != generation:
                index = EncoderIndex(encoder_id, generation, _entries(run, encoder_id))
                self._indexes[encoder_id] = index
            return index

    def _merged(self, run: sqlite3.Connection, row: CaseRow | None, case: NewCase) -> CaseRow:
        if row is None:
            query = "SELECT number, added FROM cases WHERE sha256 = ?"
            kept = run.execute(query, (case.sha256,)).fetchone()
            query = "SELECT seq + 1 FROM sqlite_sequence WHERE name = 'cases'"
            next_number = (run.execute(query).fetchone() or (1,))[0]
            number, added = kept or (next_number, datetime.now(UTC).isoformat(timespec="seconds"))
            row = CaseRow(number, case.sha256, None, None, "[]", None, b"", added, "")
        merged = self._updated(row, case.patient_id, case.eye, case.labels, case.date)
        return merged._replace(thumbnail=case.thumbnail)

    def _updated(
        self,
        row: CaseRow,
        patient_id: str | None,
        eye: Eye | None,
        labels: tuple[Label, ...] | None,
        taken: date | None,
    ) -> CaseRow:
        if labels:
            sources = {label.source for label in labels}
            kept = [lb for lb in labels_from_json(row.labels) if lb.source not in sources]
            row = row._replace(labels=labels_to_json([*kept, *labels]))
        return row._replace(
            patient=self.pseudonym(patient_id) if patient_id else row.patient,
            eye=eye or row.eye,
            date=taken.isoformat() if taken else row.date,
        )


def _check_length(run: sqlite3.Connection, case: NewCase, dim: int) -> None:
    query = "SELECT dim FROM embeddings WHERE encoder_id = ? AND sha256 != ? AND dim != ? LIMIT 1"
    other = run.execute(query, (case.encoder_id, case.sha256, dim)).fetchone()
    if other:
        raise ArchiveError(
            f"A vector of length {dim} does not fit the others of `{case.encoder_id}`",
            where="archive",
            why=f"They have length {other[0]}",
            fix="An encoder that changes its vectors must change its `encoder_id`",
        )


def _entries(run: sqlite3.Connection, encoder_id: str) -> list[Entry]:
    # The picture is part of the row's digest and is read with it: 50,000 rows are some 500 MB
    # of reading, once per change, which is the price of never searching in damaged rows.
    columns = ", ".join(f"cases.{name.strip()}" for name in CASE_COLUMNS.split(","))
    query = (
        f"SELECT {columns}, embeddings.* FROM embeddings JOIN cases USING (sha256) "  # noqa: S608
        "WHERE encoder_id = ? ORDER BY number"
    )
    entries = []
    for found in run.execute(query, (encoder_id,)):
        row = CaseRow(*found[:9]).checked()
        names = tuple(dict.fromkeys(label.name for label in labels_from_json(row.labels)))
        vector = checked_vector(found[9:], where=row.case_id)
        entries.append(Entry(row.case_id, row.sha256, names, row.eye, row.patient, vector))
    return entries


def _problems_of_row(row: CaseRow) -> list[str]:
    try:
        row.checked()
        labels_from_json(row.labels)
        check_thumbnail(row.thumbnail)
    except ArchiveError as error:
        return [str(error)]
    return []


def _problems_of_vector(found: VectorRow, number: int | None) -> list[str]:
    try:
        checked_vector(found, where="archive" if number is None else f"C{number:06d}")
    except ArchiveError as error:
        return [str(error)]
    return []


def _number(case_id: str) -> int:
    digits = case_id[1:]
    if case_id[:1] != "C" or not digits.isascii() or not digits.isdigit() or len(digits) > 15:
        raise _unknown(case_id)
    return int(digits)


def _unknown(case_id: str) -> ArchiveError:
    return ArchiveError(
        f"There is no case `{case_id[:20]}`", where="archive", fix="Case ids look like C000123"
    )
