"""What the archive knows about the cases of one encoder, in memory and checked.

Filters are answered from here, before any vector is compared: each row was
checked against its digest, and all of them together against the ledger.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fovea.archive.faults import Damaged
from fovea.archive.ledger import EMPTY, VECTORS, moved, read_facts
from fovea.archive.records import labels_from_json
from fovea.archive.rows import CASE_COLUMNS, CaseRow, case_id
from fovea.contract import CaseFilter
from fovea.image import Eye

Numbers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Entry:
    """One case that the encoder has embedded.

    Attributes:
        row_sha256, vector_sha256: Digests of its two rows, for the ledger.
        generation: The change that wrote its vector.
    """

    number: int
    sha256: str
    patient: str | None
    eye: Eye | None
    device: str | None
    labels: tuple[str, ...]
    date: str | None
    vector_sha256: str
    generation: int

    @property
    def case_id(self) -> str:
        """The pseudonym of the case."""
        return case_id(self.number)

    def fits(self, wanted: CaseFilter) -> bool:
        """Whether the case passes the filter; what is unknown about it does not pass."""
        return (
            wanted.eye in (None, self.eye)
            and wanted.device in (None, self.device)
            and wanted.patient in (None, self.patient)
            and (not wanted.labels or not set(wanted.labels).isdisjoint(self.labels))
            and (wanted.since is None or (self.date or "") >= wanted.since.isoformat())
            and (
                wanted.until is None
                or (self.date is not None and self.date <= wanted.until.isoformat())
            )
        )


class Catalogue:
    """The entries of one encoder as of one generation of the archive."""

    def __init__(self, encoder_id: str) -> None:
        self.encoder_id = encoder_id
        self._start()

    def _start(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.archive, self.generation = "", -1
        self._sums = {"cases": EMPTY, VECTORS + self.encoder_id: EMPTY}
        self._rows: dict[int, CaseRow] = {}
        self._numbers: dict[str, int] = {}
        self._by_patient: dict[str, set[int]] = defaultdict(set)

    def refresh(self, run: sqlite3.Connection) -> bool:
        """Read what has changed. False when all had to be read anew.

        Raises:
            Damaged: rows are altered, missing, or there although removed.
        """
        facts = read_facts(run)
        generation = int(facts["generation"])
        if self.archive == facts["archive"] and generation == self.generation:
            return True
        if self.archive == facts["archive"] and generation > self.generation:
            self._read(run, since=self.generation)
            if self._agrees(facts):
                self.generation = generation
                return True
        self._start()
        self._read(run, since=-1)
        if not self._agrees(facts):
            raise Damaged(
                "Cases of the archive are missing, or are there although they were removed",
                where="archive",
            )
        self.archive, self.generation = facts["archive"], generation
        return False

    def _agrees(self, facts: dict[str, str]) -> bool:
        return all(total == facts.get(name, EMPTY) for name, total in self._sums.items())

    def _read(self, run: sqlite3.Connection, *, since: int) -> None:
        if self._rows:
            query = "SELECT number FROM removed WHERE generation > ?"
            for (number,) in run.execute(query, (since,)):
                self._forget(number)
        changed = set()
        query = f"SELECT {CASE_COLUMNS} FROM cases WHERE generation > ?"  # noqa: S608
        for found in run.execute(query, (since,)):
            row = CaseRow(*found).checked()
            if self._numbers.setdefault(row.sha256, row.number) != row.number:
                raise Damaged("A photograph is archived twice", where=row.case_id)
            old = self._rows.get(row.number)
            self._count("cases", old.row_sha256 if old else None, row.row_sha256)
            self._rows[row.number] = row
            changed.add(row.number)
        vectors = {}
        query = (
            "SELECT sha256, vector_sha256, generation FROM embeddings "
            "WHERE encoder_id = ? AND generation > ?"
        )
        for sha256, vector_sha256, generation in run.execute(query, (self.encoder_id, since)):
            if sha256 not in self._numbers or not isinstance(generation, int):
                raise Damaged("A vector belongs to no case", where="archive")
            vectors[self._numbers[sha256]] = (vector_sha256, generation)
        for number in changed | set(vectors):
            entry = self.entries.get(number)
            known = (entry.vector_sha256, entry.generation) if entry else None
            vector = vectors.get(number, known)
            if vector is not None:  # else: only another encoder has embedded it
                self._count(VECTORS + self.encoder_id, known[0] if known else None, vector[0])
                self._enter(self._rows[number], *vector)

    def _enter(self, row: CaseRow, vector_sha256: str, generation: int) -> None:
        old = self.entries.get(row.number)
        if old and old.patient:
            self._by_patient[old.patient].discard(row.number)
        labels = tuple(dict.fromkeys(label.name for label in labels_from_json(row.labels)))
        self.entries[row.number] = Entry(
            row.number, row.sha256, row.patient, row.eye, row.device, labels, row.date,
            vector_sha256, generation,
        )  # fmt: skip
        if row.patient:
            self._by_patient[row.patient].add(row.number)

    def _forget(self, number: int) -> None:
        row, entry = self._rows.pop(number, None), self.entries.pop(number, None)
        if entry is not None:
            if entry.patient:
                self._by_patient[entry.patient].discard(number)
            self._count(VECTORS + self.encoder_id, entry.vector_sha256, None)
        if row is not None:
            del self._numbers[row.sha256]
            self._count("cases", row.row_sha256, None)

    def _count(self, name: str, gone: str | None, new: str | None) -> None:
        self._sums[name] = moved(self._sums[name], gone, new)

    def banned(self, sha256: str | None, patient: str | None, *, fellow_eye: bool) -> set[int]:
        """Numbers of the photograph itself and of its patient's other photographs.

        With `fellow_eye`, the patient's photographs of the other eye stay in. Whose the
        photograph is counts even where only another encoder has embedded it.
        """
        own = self._rows.get(self._numbers.get(sha256 or "", 0))
        patients = {patient, own.patient if own else None} - {None}
        numbers = {n for name in patients for n in self._by_patient.get(name or "", ())}
        if fellow_eye and own is not None and own.eye is not None:
            numbers = {n for n in numbers if self.entries[n].eye in (None, own.eye)}
        return numbers | ({own.number} if own else set())

    def fitting(self, wanted: CaseFilter) -> set[int]:
        """Numbers of the cases that pass the filter."""
        return {entry.number for entry in self.entries.values() if entry.fits(wanted)}

    def numbers(self) -> Numbers:
        """The numbers of all entries, ascending, (N,)."""
        return numbers_of(self.entries)


def numbers_of(numbers: Iterable[int]) -> Numbers:
    """Case numbers as a sorted array (N,) int64."""
    return np.array(sorted(numbers), dtype=np.int64)
