"""Cases on the server: reading them, writing them in one transaction, choosing among them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from sqlalchemy import Connection, text

from fovea.archive.rows import CASE_COLUMNS, CaseRow, VectorRow
from fovea.archive.served_vectors import (
    drop_place,
    has_vectors,
    make_place,
    read_place,
    read_vectors,
    write_vector,
)
from fovea.archive.server import COUNTED, SCHEMA, Server
from fovea.contract import CaseFilter


class ServedChange:
    """One transaction, as `fovea.archive.writing` asks for it."""

    def __init__(self, server: Server, run: Connection, generation: int) -> None:
        self._server, self._run, self.generation = server, run, generation

    def next_number(self) -> int:
        """A case number that was never used, not even by a case that is removed."""
        return int(self._run.execute(COUNTED, {"name": "next_number"}).scalar_one()) - 1

    def case(self, sha256: str) -> CaseRow | None:
        """The checked case of a photograph, or None."""
        return read_case(self._run, "sha256", sha256)

    def vector(self, sha256: str, encoder_id: str) -> VectorRow | None:
        """The checked vector of a photograph, or None."""
        return read_vector(self._run, sha256, encoder_id)

    def length_of_others(self, encoder_id: str, sha256: str) -> int | None:
        """Length of the encoder's vectors; None when there are none.

        The photograph's own counts too: a table holds vectors of one length.
        """
        place = read_place(self._run, encoder_id)
        return place.dim if place and has_vectors(self._run, place) else None

    def put_case(self, row: CaseRow, old: CaseRow | None, picture: bytes | None) -> None:
        """Write a signed case, and its picture if one is given."""
        columns = row._fields
        changed = [c for c in columns if c not in ("number", "sha256")]
        query = (
            f"INSERT INTO {SCHEMA}.cases ({CASE_COLUMNS}) "  # noqa: S608
            f"VALUES ({', '.join(f':{c}' for c in columns)}) ON CONFLICT (number) DO UPDATE SET "
            + ", ".join(f"{c} = excluded.{c}" for c in changed)
        )
        self._run.execute(text(query), row._asdict())
        if picture is not None:
            query = f"UPDATE {SCHEMA}.cases SET picture = :picture WHERE number = :number"  # noqa: S608
            self._run.execute(text(query), {"picture": picture, "number": row.number})

    def put_vector(self, row: VectorRow, old: VectorRow | None) -> None:
        """Write a signed vector."""
        place = read_place(self._run, row.encoder_id)
        if place is not None and place.dim != row.dim:  # it is empty, see `length_of_others`
            drop_place(self._run, place)
            place = None
        if place is None:
            place = make_place(self._server, self._run, row.encoder_id, row.dim)
        write_vector(self._run, place, row)


def read_case(run: Connection, column: str, value: object) -> CaseRow | None:
    """The checked case with this `number` or `sha256`, or None."""
    query = f"SELECT {CASE_COLUMNS} FROM {SCHEMA}.cases WHERE {column} = :value"  # noqa: S608
    found = run.execute(text(query), {"value": value}).one_or_none()
    return CaseRow(*found).checked() if found else None


def read_vector(run: Connection, sha256: str, encoder_id: str) -> VectorRow | None:
    """The checked vector of a photograph, or None."""
    place, row = read_place(run, encoder_id), read_case(run, "sha256", sha256)
    if place is None or row is None:
        return None
    found = list(read_vectors(run, place, np.array([row.number])))
    return found[0].checked_vector() if found else None


def can_be_kept(value: str | None) -> bool:
    """Whether a text can be in the database at all; one that cannot equals nothing there."""
    return value is None or (
        "\0" not in value and value == value.encode("utf-8", "ignore").decode()
    )


def passing(wanted: CaseFilter) -> list[dict[str, Any]]:
    """The filter in the terms of langchain-postgres; what is unknown about a case does not pass."""
    clauses: list[dict[str, Any]] = [
        {name: value}
        for name in ("eye", "device", "patient")
        if (value := getattr(wanted, name)) is not None
    ]
    if wanted.labels:
        clauses.append({"$or": [{"labels": {"$like": _labelled(name)}} for name in wanted.labels]})
    if wanted.since is not None:
        clauses.append({"taken": {"$gte": wanted.since.isoformat()}})
    if wanted.until is not None:
        clauses.append({"taken": {"$lte": wanted.until.isoformat()}})
    return clauses


def _labelled(name: str) -> str:
    """A pattern for the JSON of labels in which one has this name; JSON quotes set it apart."""
    sought = f'"name": {json.dumps(name)}, '
    for special in ("\\", "%", "_"):
        sought = sought.replace(special, f"\\{special}")
    return f"%{sought}%"


def leaving_out(
    sha256: str | None, patient: str | None, own: CaseRow | None, wanted: CaseFilter
) -> list[dict[str, Any]]:
    """Leave out the photograph itself and its patient's others; see `Catalogue.banned`."""
    clauses: list[dict[str, Any]] = [{"sha256": {"$ne": sha256}}] if sha256 else []
    patients = sorted({p for p in (patient, own.patient if own else None) if p is not None})
    if patients:
        stays = [{"patient": {"$exists": False}}, {"patient": {"$nin": patients}}]
        if wanted.fellow_eye and own is not None and own.eye is not None:
            stays.append({"eye": {"$ne": own.eye}})  # an unknown eye does not pass
        clauses.append({"$or": stays})
    return clauses
