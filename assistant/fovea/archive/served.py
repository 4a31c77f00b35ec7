"""The case archive on a PostgreSQL server, for those who outgrow one machine."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from sqlalchemy import Connection, text

from fovea.archive.catalogue import Numbers
from fovea.archive.faults import Damaged, kept_by_server
from fovea.archive.index import FLAT_UP_TO, WantedKind
from fovea.archive.keys import pseudonym_of
from fovea.archive.likeness import NearDuplicate, near_duplicates_in
from fovea.archive.records import Label, NewCase, Vector
from fovea.archive.rows import (
    CASE_COLUMNS,
    CaseRow,
    case_number,
    checked_picture,
    measured_of,
    no_picture,
    no_such_case,
)
from fovea.archive.searching import check_length, checked_query, drawn_pair_distances
from fovea.archive.served_rows import (
    ServedChange,
    can_be_kept,
    leaving_out,
    passing,
    read_case,
    read_vector,
)
from fovea.archive.served_vectors import (
    LONGEST,
    Place,
    ServedIndex,
    ServedKind,
    build,
    count_vectors,
    nearest,
    read_place,
    read_places,
    read_vectors,
    vector_numbers,
)
from fovea.archive.server import SCHEMA, Server, read_facts
from fovea.archive.writing import Added, annotate_case, put_case
from fovea.contract import EVERY_CASE, CaseFilter
from fovea.errors import ArchiveError
from fovea.image import Eye
from fovea.services import Case, Measured

KINDS: tuple[WantedKind, ...] = ("auto", "flat", "hnsw")

log = logging.getLogger(__name__)


class ServedArchive:
    """Archived photographs with labels in a PostgreSQL database, found again by likeness.

    The same methods as `CaseArchive`. A method that returns has its change committed;
    one that raises has changed nothing. Safe to use from several threads, processes and
    machines. Copies, snapshots and repair are the server's.

    Example:
        >>> archive = ServedArchive.open(url, Path("archive-key"))     # doctest: +SKIP
        >>> archive.count("classical-1")                               # doctest: +SKIP
        0
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._pairs: dict[str, tuple[str, Vector]] = {}

    @classmethod
    def open(cls, url: str, key_folder: Path) -> ServedArchive:
        """The archive in the database of this address; made when there is none.

        Args:
            url: Such as `postgresql://fovea@db.example/fovea`; the password is read from
                PGPASSWORD or ~/.pgpass.
            key_folder: Holds the key of the pseudonyms; made when the archive is.

        Raises:
            ArchiveError: not reachable, refused, without pgvector, or of another release.
        """
        return cls(Server(url, key_folder))

    def close(self) -> None:
        """Close the connections. May be called twice."""
        self._server.close()

    def pseudonym(self, patient_id: str) -> str:
        """The pseudonym under which this archive stores a patient.

        Raises:
            ArchiveError: this machine does not have the key.
        """
        return pseudonym_of(self._server.key(), patient_id)

    def count(self, encoder_id: str) -> int:
        """Number of cases that this encoder has embedded."""
        with self._server.read() as run:
            place = read_place(run, encoder_id)
            return count_vectors(run, place) if place else 0

    def encoders(self) -> dict[str, int]:
        """Number of cases per encoder."""
        with self._server.read() as run:
            counts = {place.encoder_id: count_vectors(run, place) for place in read_places(run)}
        return {name: count for name, count in counts.items() if count}

    def has(self, sha256: str, encoder_id: str) -> bool:
        """Whether the photograph is archived and embedded by this encoder."""
        with self._server.read() as run:
            return read_vector(run, sha256, encoder_id) is not None

    def add(self, case: NewCase) -> Added:
        """Archive a photograph, or bring its case up to date; see `add_many`."""
        return self.add_many([case])[0]

    def add_many(self, cases: Sequence[NewCase]) -> list[Added]:
        """Archive photographs, or bring their cases up to date: all of them or none.

        What is unknown in a case leaves what is known. Labels replace those of
        the same source. Adding the same case again changes nothing.

        Raises:
            ArchiveError: other length than the encoder's other vectors, or not written.
        """
        with self._server.change() as (run, generation):
            change = ServedChange(self._server, run, generation)
            return [put_case(change, case, self.pseudonym) for case in cases]

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
        with self._server.change() as (run, generation):
            return annotate_case(
                ServedChange(self._server, run, generation),
                sha256,
                patient=self.pseudonym(patient_id) if patient_id else None,
                eye=eye,
                device=device,
                labels=labels,
                taken=taken,
                evidence=evidence,
            )

    def remove(self, case_id: str) -> None:
        """Delete a case, its picture and its vectors. Its number is never used again.

        Dumps of the database keep it; the server's files do until it next cleans up.

        Raises:
            ArchiveError: there is no such case.
        """
        query = text(f"DELETE FROM {SCHEMA}.cases WHERE number = :number")  # noqa: S608
        with self._server.change() as (run, _):
            if not run.execute(query, {"number": case_number(case_id)}).rowcount:
                raise no_such_case(case_id)

    def case(self, sha256: str) -> CaseRow | None:
        """The stored row of a photograph, or None."""
        with self._server.read() as run:
            return read_case(run, "sha256", sha256)

    def measured(self, case_id: str) -> tuple[Measured, ...]:
        """What was measured in the photograph of a case; empty where nothing was."""
        with self._server.read() as run:
            return measured_of(read_case(run, "number", case_number(case_id)))

    def thumbnail(self, case_id: str) -> bytes:
        """The small JPEG of a case.

        Raises:
            ArchiveError: there is no such case, or it has no picture.
        """
        number = case_number(case_id)
        query = text(f"SELECT picture FROM {SCHEMA}.cases WHERE number = :number")  # noqa: S608
        with self._server.read() as run:
            row = read_case(run, "number", number)
            if row is None:
                raise no_such_case(case_id)
            if row.picture_sha256 is None:
                raise no_picture(case_id)
            return checked_picture(row, run.execute(query, {"number": number}).scalar())

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
            ArchiveError: other length than the archived vectors, or the server fails.
        """
        query = checked_query(encoder_id, vector, k)
        if not (can_be_kept(wanted.device) and can_be_kept(wanted.patient)):
            return []
        exclude_sha256 = exclude_sha256 if can_be_kept(exclude_sha256) else None
        exclude_patient = exclude_patient if can_be_kept(exclude_patient) else None
        with self._server.read() as run:
            place = read_place(run, encoder_id)
            own = read_case(run, "sha256", exclude_sha256) if exclude_sha256 else None
        if place is None:
            return []
        check_length(encoder_id, query, place.dim)
        clauses = [*passing(wanted), *leaving_out(exclude_sha256, exclude_patient, own, wanted)]
        return nearest(self._server, place, query, k, {"$and": clauses} if clauses else None)

    def random_pair_distances(self, encoder_id: str) -> Vector:
        """Sorted cosine distances of at most 5000 random pairs of different patients, (N,)."""
        with self._server.read() as run:
            generation = read_facts(run)["generation"]
            known = self._pairs.get(encoder_id)
            if known is None or known[0] != generation:
                place = read_place(run, encoder_id)
                pairs = _pair_distances(run, place) if place else np.zeros(0, np.float32)
                pairs.setflags(write=False)
                known = self._pairs[encoder_id] = (generation, pairs)
        return known[1]

    def near_duplicates(self, most_bits: int) -> list[NearDuplicate]:
        """Pairs of archived photographs whose perceptual hashes differ in at most so many bits."""
        query = (
            f"SELECT {CASE_COLUMNS} FROM {SCHEMA}.cases "  # noqa: S608
            "WHERE phash IS NOT NULL ORDER BY number"
        )
        with self._server.read() as run:
            rows = [CaseRow(*found).checked() for found in run.execute(text(query))]
        return near_duplicates_in(rows, most_bits)

    def rebuild(self, kind: WantedKind | None = None) -> dict[str, ServedIndex]:
        """Build the graph (HNSW) of every encoder anew, or drop it; the kinds by encoder.

        `auto` builds it above 50,000 cases. The server keeps a graph up to date by itself.
        Vectors that are too long for a graph are all compared, and that is logged.

        Args:
            kind: Kind of search from now on; None leaves the choice as it was.

        Raises:
            ArchiveError: a kind that the server does not have.
        """
        if kind not in (None, *KINDS):
            raise ArchiveError(
                f"`{kind}` is no index of the server",
                where=self._server.where,
                why=f"It has {', '.join(KINDS)}",
                fix="Choose one of them",
            )
        set_kind = text(f"UPDATE {SCHEMA}.facts SET value = :kind WHERE name = 'kind'")  # noqa: S608
        with self._server.rebuilding():
            with self._server.change() as (run, _):
                if kind is not None:
                    run.execute(set_kind, {"kind": kind})
                chosen = read_facts(run)["kind"]
                wanted = {p: _kind(chosen, count_vectors(run, p), p) for p in read_places(run)}
            built = {place.encoder_id: build(self._server, place, k) for place, k in wanted.items()}
        return {name: index for name, index in built.items() if index.count}

    def snapshot(self, name: str = "by-hand") -> NoReturn:
        """Refused: the server makes copies with its own tools.

        Raises:
            ArchiveError: naming them.
        """
        raise kept_by_server(self._server.where)

    def verify(self) -> list[str]:
        """Every problem found, one sentence each; empty when the archive is sound.

        Compares every row, picture and vector with its digest. Whether rows are missing
        only the server can tell.
        """
        query = text(f"SELECT {CASE_COLUMNS}, picture FROM {SCHEMA}.cases ORDER BY number")  # noqa: S608
        problems = []
        with self._server.read() as run:
            for *columns, picture in run.execute(query, execution_options={"yield_per": 100}):
                row = CaseRow(*columns)
                try:
                    row.checked()
                    if row.picture_sha256 is not None:
                        checked_picture(row, picture)
                except Damaged as error:
                    problems.append(f"{row.case_id}: {error.why}.")
            for place in read_places(run):
                for found in read_vectors(run, place):
                    try:
                        found.checked_vector()
                    except Damaged as error:
                        name = found.case.case_id
                        problems.append(f"{name}, `{place.encoder_id}`: {error.why}.")
        return problems


def _kind(chosen: str, count: int, place: Place) -> ServedKind:
    if chosen == "flat" or (chosen == "auto" and count <= FLAT_UP_TO):
        return "flat"
    if place.dim > LONGEST:
        log.warning(
            "the vectors of `%s` have length %d, and pgvector builds no graph above %d: "
            "all are compared", place.encoder_id, place.dim, LONGEST,
        )  # fmt: skip
        return "flat"
    return "hnsw"


def _pair_distances(run: Connection, place: Place) -> Vector:
    def described(numbers: Numbers) -> tuple[list[str], Vector]:
        rows = [found.checked() for found in read_vectors(run, place, numbers)]
        patients = [found.case.patient or found.case.case_id for found in rows]
        return patients, np.stack([found.vector.values() for found in rows])

    return drawn_pair_distances(vector_numbers(run, place), described)
