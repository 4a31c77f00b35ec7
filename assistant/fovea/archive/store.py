"""The case archive: SQLite holds the truth in two copies, FAISS is a cache of it."""

from __future__ import annotations

import functools
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from fovea.archive.cache import IndexCache
from fovea.archive.copies import problems_of, refuse_damage
from fovea.archive.database import Database
from fovea.archive.faults import Damaged
from fovea.archive.index import VectorIndex, WantedKind
from fovea.archive.keys import KEY_COPY, KEY_FILE
from fovea.archive.ledger import COPIES, VECTORS, read_facts, rows_in
from fovea.archive.likeness import NearDuplicate, near_duplicates_in
from fovea.archive.records import Label, NewCase, Vector
from fovea.archive.rows import (
    CASE_COLUMNS,
    CaseRow,
    case_number,
    measured_of,
    no_picture,
    no_such_case,
    read_case,
    read_numbered,
    read_picture,
    read_vector,
)
from fovea.archive.searching import EncoderSearch, checked_query
from fovea.archive.snapshots import roll_back, snapshots_of, take_snapshot, unsound_snapshots
from fovea.archive.writing import Added, Outcome, annotate_case, put_case
from fovea.contract import EVERY_CASE, CaseFilter
from fovea.errors import ArchiveError
from fovea.image import Eye
from fovea.services import Case, Measured

__all__ = ["Added", "CaseArchive", "Label", "NearDuplicate", "NewCase", "Outcome"]

P = ParamSpec("P")
R = TypeVar("R")


def recovering(
    method: Callable[Concatenate[CaseArchive, P], R],
) -> Callable[Concatenate[CaseArchive, P], R]:
    """Repair a damaged copy of the database from the sound one, then do the same again."""

    def run(self: CaseArchive, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(self, *args, **kwargs)
        except Damaged as error:
            self.recover(error)
            return method(self, *args, **kwargs)

    functools.update_wrapper(run, method)
    return run


class CaseArchive:
    """Archived photographs with labels, found again by likeness.

    A method that returns has its change on disk; one that raises has changed nothing
    (if the disk refuses between the commits of the two copies, the change is there
    whole or not at all when the archive is opened again). Safe to use from several
    threads and several processes.

    Example:
        >>> archive = CaseArchive.open(Path("archive"))       # doctest: +SKIP
        >>> archive.add(NewCase(sha256, "classical-1", vector, thumbnail))  # doctest: +SKIP
        Added(case_id='C000001', outcome='added')
        >>> archive.search("classical-1", vector, 5, exclude_sha256=sha256)  # doctest: +SKIP
        []
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._searches: dict[str, EncoderSearch] = {}
        self._searching = threading.RLock()

    @classmethod
    def open(cls, folder: Path) -> CaseArchive:
        """The archive in `folder`; made when there is none, repaired when a copy is damaged.

        Raises:
            ArchiveError: damaged in both copies, not an archive, of another release,
                without its key, or not writable.
        """
        return cls(Database(folder))

    @staticmethod
    def roll_back(folder: Path, snapshot: str) -> None:
        """Make a snapshot the present state of a closed archive.

        Raises:
            ArchiveError: there is none of this name, it is damaged, or a program has
                the archive open.
        """
        roll_back(folder, snapshot)

    def close(self) -> None:
        """Close the files. May be called twice."""
        self._database.close()

    def recover(self, cause: ArchiveError) -> None:
        """Repair a damaged copy of the database from the sound one.

        Raises:
            ArchiveError: both are damaged, or another program has the archive open.
        """
        with self._searching:
            self._searches.clear()
            self._database.recover(cause)

    def pseudonym(self, patient_id: str) -> str:
        """The pseudonym under which this archive stores a patient."""
        return self._database.pseudonym(patient_id)

    def count(self, encoder_id: str) -> int:
        """Number of cases that this encoder has embedded."""
        return self.encoders().get(encoder_id, 0)

    @recovering
    def encoders(self) -> dict[str, int]:
        """Number of cases per encoder."""
        with self._database.read() as run:
            facts = read_facts(run)
        totals = {n.removeprefix(VECTORS): t for n, t in facts.items() if n.startswith(VECTORS)}
        return {name: rows_in(total) for name, total in sorted(totals.items()) if rows_in(total)}

    @recovering
    def has(self, sha256: str, encoder_id: str) -> bool:
        """Whether the photograph is archived and embedded by this encoder."""
        with self._database.read() as run:
            there = read_case(run, sha256) is not None
            return there and read_vector(run, sha256, encoder_id) is not None

    def add(self, case: NewCase) -> Added:
        """Archive a photograph, or bring its case up to date; see `add_many`."""
        return self.add_many([case])[0]

    @recovering
    def add_many(self, cases: Sequence[NewCase]) -> list[Added]:
        """Archive photographs, or bring their cases up to date: all of them or none.

        What is unknown in a case leaves what is known. Labels replace those of
        the same source. Adding the same case again changes nothing.

        Raises:
            ArchiveError: other length than the encoder's other vectors, or not written.
        """
        with self._database.change() as change:
            return [put_case(change, case, self.pseudonym) for case in cases]

    @recovering
    def annotate(
        self,
        sha256: str,
        *,
        patient_id: str | None = None,
        eye: Eye | None = None,
        labels: tuple[Label, ...] | None = None,
        taken: date | None = None,
        device: str | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> Added:
        """Bring what is known about an archived photograph up to date, as `add` does.

        Raises:
            ArchiveError: the photograph is not archived, or not written.
        """
        with self._database.change() as change:
            return annotate_case(
                change,
                sha256,
                patient=self.pseudonym(patient_id) if patient_id else None,
                eye=eye,
                device=device,
                labels=labels,
                taken=taken,
                evidence=evidence,
            )

    @recovering
    def remove(self, case_id: str) -> None:
        """Delete a case, its picture and its vectors. Its number is never used again.

        Stored indexes keep the vector until `rebuild`, snapshots keep all of it.

        Raises:
            ArchiveError: there is no such case.
        """
        with self._database.change() as change:
            row = read_numbered(change.run, case_number(case_id))
            if row is None:
                raise no_such_case(case_id)
            change.remove(row)
        self._database.forget_log()

    @recovering
    def case(self, sha256: str) -> CaseRow | None:
        """The stored row of a photograph, or None."""
        with self._database.read() as run:
            return read_case(run, sha256)

    @recovering
    def measured(self, case_id: str) -> tuple[Measured, ...]:
        """What was measured in the photograph of a case; empty where nothing was."""
        with self._database.read() as run:
            row = read_numbered(run, case_number(case_id))
        return measured_of(row)

    @recovering
    def thumbnail(self, case_id: str) -> bytes:
        """The small JPEG of a case.

        Raises:
            ArchiveError: there is no such case, or it has no picture.
        """
        with self._database.read() as run:
            row = read_numbered(run, case_number(case_id))
            picture = read_picture(run, row) if row else None
        if row is None:
            raise no_such_case(case_id)
        if picture is None:
            raise no_picture(case_id)
        return picture

    @recovering
    def search(
        self,
        encoder_id: str,
        vector: Vector,
        k: int,
        *,
        exclude_sha256: str | None = None,
        exclude_patient: str | None = None,
        wanted: CaseFilter = EVERY_CASE,
    ) -> list[Case]:
        """The nearest `k` cases of this encoder, nearest first; fewer when there are fewer.

        Args:
            encoder_id: Encoder that made `vector`.
            vector: (D,) float32.
            k: Most cases wanted.
            exclude_sha256: The photograph asked about. It is left out, and so is
                every case of its patient when it is archived itself.
            exclude_patient: Pseudonym of a further patient to leave out.
            wanted: Only cases that pass this filter are compared.

        Raises:
            ArchiveError: other length than the archived vectors, or damaged in both copies.
        """
        query = checked_query(encoder_id, vector, k)
        with self._searching, self._database.read() as run:
            search = self._search(run, encoder_id)
            banned = search.catalogue.banned(
                exclude_sha256, exclude_patient, fellow_eye=wanted.fellow_eye
            )
            return search.nearest(run, query, k, banned, wanted)

    @recovering
    def random_pair_distances(self, encoder_id: str) -> Vector:
        """Sorted cosine distances of at most 5000 random pairs of different patients, (N,)."""
        with self._searching, self._database.read() as run:
            return self._search(run, encoder_id).random_pair_distances(run)

    @recovering
    def near_duplicates(self, most_bits: int) -> list[NearDuplicate]:
        """Pairs of archived photographs whose perceptual hashes differ in at most so many bits."""
        query = f"SELECT {CASE_COLUMNS} FROM cases WHERE phash IS NOT NULL ORDER BY number"  # noqa: S608
        with self._database.read() as run:
            rows = [CaseRow(*found).checked() for found in run.execute(query)]
        return near_duplicates_in(rows, most_bits)

    @recovering
    def rebuild(self, kind: WantedKind | None = None) -> dict[str, VectorIndex]:
        """Check and repair the database, and build every index anew; the indexes by encoder.

        Stored indexes are deleted first, so that no removed vector is left in one.

        Args:
            kind: Kind of index from now on; None leaves the choice as it was.
        """
        for copy in COPIES:
            with self._database.read() as run:
                refuse_damage(run, copy)
        if kind is not None:
            with self._database.change() as change:
                change.state("kind", kind)
        encoders = self.encoders()
        with self._searching, self._database.read() as run:
            self._searches.clear()
            built = {}
            for encoder_id in encoders:
                search = self._new_search(encoder_id)
                search.catalogue.refresh(run)
                search.build(run, keep_old=False)
                self._searches[encoder_id] = search
                if search.index is not None:
                    built[encoder_id] = search.index
        return built

    def snapshot(self, name: str = "by-hand") -> str:
        """Copy the database into `snapshots/`; the full name of the copy.

        Raises:
            ArchiveError: the name is unsuitable, or the copy could not be written.
        """
        return take_snapshot(self._database, name)

    @staticmethod
    def snapshots_in(folder: Path) -> list[str]:
        """Names of the snapshots of an archive, which need not be usable, oldest first."""
        return snapshots_of(folder)

    def verify(self) -> list[str]:
        """Every problem found, one sentence each; empty when the archive is sound.

        Reads both copies of the database, the stored indexes, the snapshots and the keys.
        """
        problems: list[str] = []
        folder = self._database.folder
        for copy in COPIES:
            try:
                with self._database.read() as run:
                    problems += problems_of(run, copy)
            except ArchiveError as error:
                problems.append(f"The {copy} database: {error}")
        try:
            encoders = self.encoders()
        except ArchiveError:
            encoders = {}  # already told
        for encoder_id in encoders:
            problems += IndexCache(folder, self._database.key, encoder_id).problems()
        problems += unsound_snapshots(folder)
        for name in (KEY_FILE, KEY_COPY):
            key = folder / name
            if not key.is_file() or key.read_bytes() != self._database.key:
                problems.append(f"`{name}` is missing or damaged: open the archive again.")
            elif os.name == "posix" and key.stat().st_mode & 0o077:
                problems.append(f"`{name}` can be read by others: run `chmod 600` on it.")
        return problems

    def _search(self, run: sqlite3.Connection, encoder_id: str) -> EncoderSearch:
        search = self._searches.setdefault(encoder_id, self._new_search(encoder_id))
        search.refresh(run)
        return search

    def _new_search(self, encoder_id: str) -> EncoderSearch:
        cache = IndexCache(self._database.folder, self._database.key, encoder_id)
        return EncoderSearch(encoder_id, cache)
