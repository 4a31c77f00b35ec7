"""Rows of the archive, signed when written and checked whenever they are read."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import NamedTuple

import numpy as np

from fovea.archive.faults import damaged
from fovea.archive.records import Vector, digest, unit_vector
from fovea.errors import ArchiveError
from fovea.image import Eye
from fovea.services import Measured

CASE_COLUMNS = (
    "number, sha256, patient, eye, device, labels, date, evidence, phash, picture_sha256, "
    "added, generation, row_sha256"
)
VECTOR_COLUMNS = "sha256, encoder_id, dim, vector, generation, vector_sha256"


class CaseRow(NamedTuple):
    """One row of `cases`; `row_sha256` is the digest of all the others.

    Attributes:
        phash, picture_sha256: Of the picture; None for a case without one.
        generation: The change of the archive that wrote the row.
    """

    number: int
    sha256: str
    patient: str | None
    eye: Eye | None
    device: str | None
    labels: str
    date: str | None
    evidence: str | None
    phash: str | None
    picture_sha256: str | None
    added: str
    generation: int
    row_sha256: str

    @property
    def case_id(self) -> str:
        """The pseudonym of the case."""
        return case_id(self.number)

    def signed(self, generation: int) -> CaseRow:
        """The row as this change of the archive writes it, with its digest."""
        row = self._replace(generation=generation)
        return row._replace(row_sha256=digest(*row[:-1]))

    def checked(self) -> CaseRow:
        """The row itself. Raises `Damaged` when it does not match its digest."""
        if digest(*self[:-1]) != self.row_sha256:
            raise damaged(self.case_id, "Its row does not match its digest")
        return self

    def says_the_same(self, other: CaseRow | None) -> bool:
        """Whether both rows hold the same, whichever change wrote them."""
        return other is not None and self[:-2] == other[:-2]


class VectorRow(NamedTuple):
    """One row of `embeddings`; `vector` holds float16, little-endian."""

    sha256: str
    encoder_id: str
    dim: int
    vector: bytes
    generation: int
    vector_sha256: str

    def signed(self, generation: int) -> VectorRow:
        """The row as this change of the archive writes it, with its digest."""
        row = self._replace(generation=generation)
        return row._replace(vector_sha256=digest(*row[:-1]))

    def checked(self, where: str = "archive") -> VectorRow:
        """The row itself. Raises `Damaged` when it does not match its digest."""
        if digest(*self[:-1]) != self.vector_sha256 or len(self.vector) != 2 * self.dim:
            raise damaged(where, "Its vector does not match its digest")
        return self

    def values(self) -> Vector:
        """The unit vector (D,) float32."""
        return unit_vector(np.frombuffer(self.vector, "<f2").astype(np.float32), where="archive")


def case_id(number: int) -> str:
    """The pseudonym of the case with this number, such as `C000012`."""
    return f"C{number:06d}"


def case_number(case_id: str) -> int:
    """The number in the pseudonym of a case.

    Raises:
        ArchiveError: it is no pseudonym of a case.
    """
    digits = case_id[1:]
    if case_id[:1] != "C" or not digits.isascii() or not digits.isdigit() or len(digits) > 15:
        raise no_such_case(case_id)
    return int(digits)


def no_such_case(case_id: str) -> ArchiveError:
    """The error for a case that is not archived."""
    return ArchiveError(
        f"There is no case `{case_id[:20]}`", where="archive", fix="Case ids look like C000123"
    )


def no_picture(case_id: str) -> ArchiveError:
    """The error for a case without a small picture."""
    return ArchiveError(f"The case `{case_id}` has no picture", where="archive")


def measured_of(row: CaseRow | None) -> tuple[Measured, ...]:
    """What was measured in the photograph of a case; empty where nothing was."""
    evidence = json.loads(row.evidence) if row and row.evidence else {}
    return tuple(Measured(**each) for each in evidence.get("measured", ()))


def read_case(run: sqlite3.Connection, sha256: str) -> CaseRow | None:
    """The checked case of a photograph, or None."""
    query = f"SELECT {CASE_COLUMNS} FROM main.cases WHERE sha256 = ?"  # noqa: S608 - a constant
    found = run.execute(query, (sha256,)).fetchone()
    return CaseRow(*found).checked() if found else None


def read_numbered(run: sqlite3.Connection, number: int) -> CaseRow | None:
    """The checked case with this number, or None."""
    query = f"SELECT {CASE_COLUMNS} FROM main.cases WHERE number = ?"  # noqa: S608 - a constant
    found = run.execute(query, (number,)).fetchone()
    return CaseRow(*found).checked() if found else None


def read_vector(run: sqlite3.Connection, sha256: str, encoder_id: str) -> VectorRow | None:
    """The checked vector of a photograph, or None."""
    query = (
        f"SELECT {VECTOR_COLUMNS} FROM main.embeddings "  # noqa: S608 - a constant
        "WHERE sha256 = ? AND encoder_id = ?"
    )
    found = run.execute(query, (sha256, encoder_id)).fetchone()
    return VectorRow(*found).checked() if found else None


def read_picture(run: sqlite3.Connection, row: CaseRow) -> bytes | None:
    """The checked JPEG of a case; None for a case without one."""
    if row.picture_sha256 is None:
        return None
    query = "SELECT jpeg FROM main.pictures WHERE sha256 = ?"
    found = run.execute(query, (row.sha256,)).fetchone()
    return checked_picture(row, found[0] if found else None)


def checked_picture(row: CaseRow, jpeg: object) -> bytes:
    """The JPEG itself. Raises `Damaged` when it is not the one of the row."""
    if not isinstance(jpeg, bytes) or hashlib.sha256(jpeg).hexdigest() != row.picture_sha256:
        raise damaged(row.case_id, "Its picture does not match its digest")
    return jpeg
