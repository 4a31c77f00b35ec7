"""Rows of the archive, signed when written and checked whenever they are read."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

import numpy as np

from fovea.archive.records import Vector, digest, unit_vector
from fovea.errors import ArchiveError
from fovea.image import Eye

CASE_COLUMNS = "number, sha256, patient, eye, labels, date, thumbnail, added, row_sha256"
VectorRow = tuple[str, str, int, bytes, str]
"""sha256, encoder_id, dim, float16 bytes, digest of these four."""


class CaseRow(NamedTuple):
    """One row of `cases`; `row_sha256` is the digest of all the others."""

    number: int
    sha256: str
    patient: str | None
    eye: Eye | None
    labels: str
    date: str | None
    thumbnail: bytes
    added: str
    row_sha256: str

    @property
    def case_id(self) -> str:
        """The pseudonym of the case."""
        return f"C{self.number:06d}"

    def signed(self) -> CaseRow:
        """The row with its digest brought up to date."""
        return self._replace(row_sha256=digest(*self[:-1]))

    def checked(self) -> CaseRow:
        """The row itself. Raises `ArchiveError` when it does not match its digest."""
        if digest(*self[:-1]) != self.row_sha256:
            raise damaged(self.case_id, "Its row does not match its digest")
        return self


def read_case(run: sqlite3.Connection, sha256: str) -> CaseRow | None:
    """The checked case of a photograph, or None."""
    query = f"SELECT {CASE_COLUMNS} FROM cases WHERE sha256 = ?"  # noqa: S608 - a constant
    found = run.execute(query, (sha256,)).fetchone()
    return CaseRow(*found).checked() if found else None


def write_case(run: sqlite3.Connection, row: CaseRow) -> None:
    """Insert or update a signed row."""
    # Not INSERT OR REPLACE: that deletes the old row, and with it the vectors of all encoders.
    run.execute(
        f"INSERT INTO cases ({CASE_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
        "ON CONFLICT DO UPDATE SET (patient, eye, labels, date, thumbnail, added, "
        "row_sha256) = (excluded.patient, excluded.eye, excluded.labels, excluded.date, "
        "excluded.thumbnail, excluded.added, excluded.row_sha256)",
        row,
    )


def read_vector(run: sqlite3.Connection, sha256: str, encoder_id: str) -> Vector | None:
    """The checked vector (D,) of a photograph, or None."""
    query = "SELECT * FROM embeddings WHERE sha256 = ? AND encoder_id = ?"
    found = run.execute(query, (sha256, encoder_id)).fetchone()
    return checked_vector(found, where="archive") if found else None


def checked_vector(found: VectorRow, *, where: str) -> Vector:
    """The vector (D,) float32 of a row of `embeddings`. Raises `ArchiveError` when damaged."""
    *content, expected = found
    blob, dim = found[3], found[2]
    if digest(*content) != expected or len(blob) != 2 * dim:
        raise damaged(where, "Its vector does not match its digest")
    return unit_vector(np.frombuffer(blob, "<f2").astype(np.float32), where=where)


def damaged(where: str, why: str) -> ArchiveError:
    """The error for a row that cannot be believed."""
    return ArchiveError(
        "A case of the archive is damaged",
        where=where,
        why=why,
        fix="Run `fovea index verify`; adding the photograph again repairs it, "
        "removing the case also does",
    )
