"""One change of the archive, written to both copies and to the ledger."""

from __future__ import annotations

import sqlite3

from fovea.archive.ledger import COPIES, EMPTY, VECTORS, moved, write_facts
from fovea.archive.rows import (
    CASE_COLUMNS,
    VECTOR_COLUMNS,
    CaseRow,
    VectorRow,
    read_case,
    read_vector,
)


class Change:
    """What happens within one transaction.

    Attributes:
        run: The connection, for reading.
        generation: Number of this change; every row that it writes bears it.
    """

    def __init__(self, run: sqlite3.Connection, facts: dict[str, str]) -> None:
        self.run, self._facts = run, facts
        self.generation = int(facts["generation"]) + 1
        self._changed = False

    def next_number(self) -> int:
        """A case number that was never used, not even by a case that is removed."""
        number = int(self._facts["next_number"])
        self._facts["next_number"] = str(number + 1)
        return number

    def case(self, sha256: str) -> CaseRow | None:
        """The checked case of a photograph, or None."""
        return read_case(self.run, sha256)

    def vector(self, sha256: str, encoder_id: str) -> VectorRow | None:
        """The checked vector of a photograph, or None."""
        return read_vector(self.run, sha256, encoder_id)

    def length_of_others(self, encoder_id: str, sha256: str) -> int | None:
        """Length of the encoder's vectors of other photographs; None when there are none."""
        query = "SELECT dim FROM main.embeddings WHERE encoder_id = ? AND sha256 != ? LIMIT 1"
        found = self.run.execute(query, (encoder_id, sha256)).fetchone()
        return found[0] if found else None

    def state(self, name: str, value: str) -> None:
        """Record a fact about the archive."""
        if self._facts.get(name) != value:
            self._facts[name] = value
            self._changed = True

    def put_case(self, row: CaseRow, old: CaseRow | None, picture: bytes | None) -> None:
        """Write a signed case, and its picture if one is given."""
        for copy in COPIES:
            # Not INSERT OR REPLACE: that deletes the old row, and with it all its vectors.
            self.run.execute(
                f"INSERT INTO {copy}.cases ({CASE_COLUMNS}) "  # noqa: S608 - constants
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (number) DO UPDATE SET "
                "(patient, eye, device, labels, date, evidence, phash, picture_sha256, added, "
                "generation, row_sha256) = (excluded.patient, excluded.eye, excluded.device, "
                "excluded.labels, excluded.date, excluded.evidence, excluded.phash, "
                "excluded.picture_sha256, excluded.added, excluded.generation, "
                "excluded.row_sha256)",
                row,
            )
            if picture is not None:
                self.run.execute(
                    f"INSERT OR REPLACE INTO {copy}.pictures VALUES (?, ?)",  # noqa: S608
                    (row.sha256, picture),
                )
        self._record("cases", old.row_sha256 if old else None, row.row_sha256)

    def put_vector(self, row: VectorRow, old: VectorRow | None) -> None:
        """Write a signed vector."""
        for copy in COPIES:
            self.run.execute(
                f"INSERT OR REPLACE INTO {copy}.embeddings ({VECTOR_COLUMNS}) "  # noqa: S608
                "VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
        gone = old.vector_sha256 if old else None
        self._record(VECTORS + row.encoder_id, gone, row.vector_sha256)

    def remove(self, row: CaseRow) -> None:
        """Delete a case, its picture and its vectors."""
        query = f"SELECT {VECTOR_COLUMNS} FROM main.embeddings WHERE sha256 = ?"  # noqa: S608
        vectors = [VectorRow(*found).checked() for found in self.run.execute(query, (row.sha256,))]
        for copy in COPIES:
            self.run.execute(f"DELETE FROM {copy}.cases WHERE number = ?", (row.number,))  # noqa: S608
            self.run.execute(
                f"INSERT INTO {copy}.removed VALUES (?, ?)",  # noqa: S608 - a constant
                (row.number, self.generation),
            )
        self._record("cases", row.row_sha256, None)
        for vector in vectors:
            self._record(VECTORS + vector.encoder_id, vector.vector_sha256, None)

    def _record(self, name: str, gone: str | None, new: str | None) -> None:
        self._facts[name] = moved(self._facts.get(name, EMPTY), gone, new)
        self._changed = True

    def finish(self) -> bool:
        """Write the ledger; False when nothing has changed."""
        if self._changed:
            self._facts["generation"] = str(self.generation)
            write_facts(self.run, self._facts)
        return self._changed
