"""What a batch keeps of each photograph: a journal of rows, and the tables made of it."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fovea.archive.durable import draft_of, put_in_place
from fovea.errors import ConfigError
from fovea.image import Eye
from fovea.services import Measured

JOURNAL = "rows.jsonl"
FORMAT = 1
DIGITS = 6
"""Significant digits of a value in the tables: finer than any measurement."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Number(_Frozen):
    """One measured value."""

    name: str
    zone: str | None
    unit: str
    value: float


class Said(_Frozen):
    """One finding: its value where it has one (`OD`), else its state."""

    concept: str
    value: str
    probability: float | None


class Gap(_Frozen):
    """What is not in a row, and why: the photograph, a tool's answer, or one value."""

    tool: str = ""
    name: str = ""
    error: str
    reason: str


class Row(_Frozen):
    """What became of one photograph.

    Attributes:
        file: Path inside the folder.
        sha256: Digest of the file; None when it could not be read.
        status: `partial`: some tools gave no answer. `failed`: it could not be used.
        again: Something failed that may pass: the next run takes it again.
        eye_in_file: As the file says; what the picture shows is the finding `eye`.
        measured: What the case archive may keep, to compare photographs by.
    """

    file: str
    sha256: str | None
    status: Literal["ok", "partial", "failed"]
    again: bool = False
    eye_in_file: Eye | None = None
    numbers: tuple[Number, ...] = ()
    findings: tuple[Said, ...] = ()
    gaps: tuple[Gap, ...] = ()
    measured: tuple[Measured, ...] = ()


class Journal:
    """The rows of one folder of results, on disk as they come. Close it, or use `with`.

    Args:
        folder: Folder of results.
        made_by: What the rows depend on besides the photographs, such as tools and versions.

    Raises:
        ConfigError: another run writes to it, or its rows were made by something else.
    """

    def __init__(self, folder: Path, made_by: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / JOURNAL).open("a+b")
        try:
            self._lock()
            self.rows = self._read(dict(made_by))
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, row: Row) -> None:
        """Keep a row; it is on disk when this returns."""
        self._write(row.model_dump(mode="json"))
        self.rows[row.file] = row

    def _lock(self) -> None:
        if sys.platform == "win32":
            return  # there is no flock; there one run at a time is up to the person
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                "Another run writes to this folder", where="--out", fix="Wait for it, or stop it"
            ) from error

    def _read(self, made_by: dict[str, str]) -> dict[str, Row]:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        self._file.truncate(whole)  # a run that was killed may leave half a line
        lines = content[:whole].decode("utf-8").splitlines()
        if not lines:
            self._write({"format": FORMAT, "made_by": made_by})
            return {}
        try:
            heading = json.loads(lines[0])
            if heading["format"] != FORMAT:
                raise ValueError("it is of another release")
            rows = [Row.model_validate_json(line) for line in lines[1:]]
        except (ValueError, KeyError, TypeError, ValidationError) as error:
            raise ConfigError(
                f"`{JOURNAL}` does not hold the rows of a batch",
                where="--out",
                why=str(error).splitlines()[0],
                fix="Choose another folder",
            ) from error
        if heading["made_by"] != made_by:
            names = {*heading["made_by"], *made_by}
            other = sorted(n for n in names if heading["made_by"].get(n) != made_by.get(n))
            raise ConfigError(
                "The rows in this folder were made by other tools, versions or options",
                where="--out",
                why=f"These differ: {', '.join(other)}",
                fix="Choose another folder: rows that cannot be compared are not mixed",
            )
        return {row.file: row for row in rows}

    def _write(self, content: dict[str, Any]) -> None:
        line = json.dumps(content, ensure_ascii=False, allow_nan=False)
        self._file.write(line.encode("utf-8") + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def measured_in_batch(folder: Path) -> dict[str, tuple[Measured, ...]]:
    """The values of a batch that photographs are compared by, by SHA-256 of their files.

    Raises:
        ConfigError: the folder holds no rows of a batch.
    """
    try:
        lines = (folder / JOURNAL).read_bytes().split(b"\n")
        rows = [Row.model_validate_json(line) for line in lines[1:-1]]
    except (OSError, ValidationError) as error:
        raise ConfigError(
            f"`{folder.name}` does not hold the rows of a batch",
            where="--measured",
            fix="Name the folder that `fovea batch` wrote",
        ) from error
    return {row.sha256: row.measured for row in rows if row.sha256 and row.measured}


def write_tables(folder: Path, rows: Iterable[Row], order: Sequence[tuple[str, str]]) -> None:
    """Write `results.csv`, `errors.csv` and `not_measured.csv`, whole or not at all.

    Args:
        folder: Folder of results.
        rows: One per photograph.
        order: Name and unit of each measurement, then name and `""` of each finding, that
            the tools can give: these columns are there even if they stay empty. A value of
            a zone has a column of its own behind them, `density.zone_b [1]`.
    """
    rows = sorted(rows, key=lambda row: row.file)
    places = {name: place for place, (name, _) in enumerate(order)}
    filled = {_heading(name, None, unit): (place, "") for place, (name, unit) in enumerate(order)}
    cells = []
    for row in rows:
        own = {"file": row.file, "sha256": row.sha256 or "", "status": row.status,
               "eye_in_file": row.eye_in_file or ""}  # fmt: skip
        for number in row.numbers:
            column = _heading(number.name, number.zone, number.unit)
            filled[column] = (places.get(number.name, len(places)), number.zone or "")
            own[column] = f"{number.value:.{DIGITS}g}"
        for said in row.findings:
            place = places.get(said.concept, len(places))
            filled[said.concept] = (place, "")
            own[said.concept] = said.value
            if said.probability is not None:
                filled[f"{said.concept} probability"] = (place, "probability")
                own[f"{said.concept} probability"] = f"{said.probability:.{DIGITS}g}"
        cells.append(own)
    columns = sorted(filled, key=lambda column: (*filled[column], column))
    _write_csv(
        folder / "results.csv",
        ("file", "sha256", "status", "eye_in_file", *columns),
        cells,
    )
    gaps = [(row, gap) for row in rows for gap in row.gaps]
    _write_csv(
        folder / "errors.csv",
        ("file", "tool", "error", "reason"),
        [
            {"file": row.file, "tool": gap.tool, "error": gap.error, "reason": gap.reason}
            for row, gap in gaps
            if not gap.name
        ],
    )
    _write_csv(
        folder / "not_measured.csv",
        ("file", "tool", "name", "reason"),
        [
            {"file": row.file, "tool": gap.tool, "name": gap.name, "reason": gap.reason}
            for row, gap in gaps
            if gap.name
        ],
    )


def _heading(name: str, zone: str | None, unit: str) -> str:
    return name + (f".{zone}" if zone else "") + (f" [{unit}]" if unit else "")


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> None:
    draft = draft_of(path)
    with draft.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
    put_in_place(draft, path)
