"""How a new case is merged with what the archive knows of the photograph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal, Protocol

from fovea.archive.likeness import perceptual_hash
from fovea.archive.records import (
    Label,
    NewCase,
    evidence_to_json,
    labels_from_json,
    labels_to_json,
    sha256_of,
    unit_vector,
)
from fovea.archive.rows import CaseRow, VectorRow
from fovea.errors import ArchiveError
from fovea.image import Eye

Outcome = Literal["added", "updated", "already_there"]


@dataclass(frozen=True)
class Added:
    """What adding a case did."""

    case_id: str
    outcome: Outcome


class Change(Protocol):
    """One transaction of an archive, whatever keeps it."""

    @property
    def generation(self) -> int:
        """Number of this change; every row that it writes bears it."""

    def next_number(self) -> int:
        """A case number that was never used."""

    def case(self, sha256: str) -> CaseRow | None:
        """The checked case of a photograph, or None."""

    def vector(self, sha256: str, encoder_id: str) -> VectorRow | None:
        """The checked vector of a photograph, or None."""

    def length_of_others(self, encoder_id: str, sha256: str) -> int | None:
        """Length of the encoder's vectors of other photographs; None when there are none."""

    def put_case(self, row: CaseRow, old: CaseRow | None, picture: bytes | None) -> None:
        """Write a signed case, and its picture if one is given."""

    def put_vector(self, row: VectorRow, old: VectorRow | None) -> None:
        """Write a signed vector."""


def put_case(change: Change, case: NewCase, pseudonym: Callable[[str], str]) -> Added:
    """Write a case within a change.

    Raises:
        ArchiveError: its vector has another length than the encoder's other vectors.
    """
    half = unit_vector(case.vector, where=case.encoder_id).astype("<f2").tobytes()
    _check_length(change, case, len(half) // 2)
    row = change.case(case.sha256)
    merged = updated(
        row or _new_row(change, case.sha256),
        patient=pseudonym(case.patient_id) if case.patient_id else None,
        eye=case.eye,
        device=case.device,
        labels=case.labels,
        taken=case.date,
        evidence=case.evidence,
    )
    if case.thumbnail is not None:
        merged = merged._replace(
            phash=perceptual_hash(case.thumbnail), picture_sha256=sha256_of(case.thumbnail)
        )
    same = merged.says_the_same(row)
    if not same:
        change.put_case(merged.signed(change.generation), row, case.thumbnail)
    known = change.vector(case.sha256, case.encoder_id)
    if known is not None and known.vector == half:
        return Added(merged.case_id, "already_there" if same else "updated")
    vector = VectorRow(case.sha256, case.encoder_id, len(half) // 2, half, 0, "")
    change.put_vector(vector.signed(change.generation), known)
    return Added(merged.case_id, "added" if known is None else "updated")


def annotate_case(
    change: Change,
    sha256: str,
    *,
    patient: str | None,
    eye: Eye | None,
    device: str | None,
    labels: tuple[Label, ...] | None,
    taken: date | None,
    evidence: Mapping[str, Any] | None,
) -> Added:
    """Bring what is known about an archived photograph up to date within a change.

    Raises:
        ArchiveError: the photograph is not archived.
    """
    row = change.case(sha256)
    if row is None:
        raise ArchiveError("The photograph is not archived", fix="Add it first")
    merged = updated(
        row, patient=patient, eye=eye, device=device, labels=labels, taken=taken, evidence=evidence
    )
    if merged.says_the_same(row):
        return Added(row.case_id, "already_there")
    change.put_case(merged.signed(change.generation), row, None)
    return Added(merged.case_id, "updated")


def updated(
    row: CaseRow,
    *,
    patient: str | None,
    eye: Eye | None,
    device: str | None,
    labels: tuple[Label, ...] | None,
    taken: date | None,
    evidence: Mapping[str, Any] | None,
) -> CaseRow:
    """The row with what is newly known; labels replace those of the same source."""
    if labels:
        sources = {label.source for label in labels}
        kept = [lb for lb in labels_from_json(row.labels) if lb.source not in sources]
        row = row._replace(labels=labels_to_json([*kept, *labels]))
    return row._replace(
        patient=patient or row.patient,
        eye=eye or row.eye,
        device=device or row.device,
        date=taken.isoformat() if taken else row.date,
        evidence=row.evidence if evidence is None else evidence_to_json(evidence),
    )


def _new_row(change: Change, sha256: str) -> CaseRow:
    added = datetime.now(UTC).isoformat(timespec="seconds")
    nothing = (None, None, None, "[]", None, None, None, None)
    return CaseRow(change.next_number(), sha256, *nothing, added, change.generation, "")


def _check_length(change: Change, case: NewCase, dim: int) -> None:
    other = change.length_of_others(case.encoder_id, case.sha256)
    if other is not None and other != dim:
        raise ArchiveError(
            f"A vector of length {dim} does not fit the others of `{case.encoder_id}`",
            where="archive",
            why=f"They have length {other}",
            fix="An encoder that changes its vectors must change its `encoder_id`",
        )
