"""The metadata CSV of a folder of photographs: read whole, or refused with line and column."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path, PurePosixPath

from fovea.archive.records import LABEL_PATTERN, Label
from fovea.errors import ArchiveError, ConfigError
from fovea.image import Eye

COLUMNS = ("file", "patient", "eye", "labels", "date", "device")
ALIASES = {"label": "labels"}
EYES: Mapping[str, Eye] = {
    "od": "OD", "right": "OD", "r": "OD", "os": "OS", "left": "OS", "l": "OS",
}  # fmt: skip
SOURCE = "metadata"
LONGEST_PATIENT = 200


@dataclass(frozen=True)
class Metadata:
    """What one line says about one photograph; None where it says nothing."""

    line: int
    patient_id: str | None = field(repr=False)
    eye: Eye | None
    labels: tuple[Label, ...] | None
    taken: date | None
    device: str | None

    def same_as(self, other: Metadata) -> bool:
        """Whether both lines say the same."""
        mine = (self.patient_id, self.eye, self.labels, self.taken, self.device)
        return mine == (other.patient_id, other.eye, other.labels, other.taken, other.device)


NOTHING_KNOWN = Metadata(0, None, None, None, None, None)


def read_metadata(path: Path) -> dict[str, Metadata]:
    """The lines of a metadata CSV by file, as a path relative to the folder with `/`.

    Columns: `file` (needed), `patient`, `eye` (OD, OS, right, left), `label` or
    `labels` (several with `;`), `date` (YYYY-MM-DD), `device` (the camera). An empty
    cell is unknown.

    Raises:
        ConfigError: naming line and column. Values of `patient` are never repeated.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(
            "The metadata file cannot be read", where=f"`{path.name}`", why=error.strerror or ""
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(
            "The metadata file is not UTF-8 text",
            where=f"`{path.name}` line {line}",
            fix="Save it as CSV UTF-8",
        ) from error
    return _Reader(path.name).read(text)


class _Reader:
    def __init__(self, name: str) -> None:
        self.name, self.line, self.column = name, 1, ""

    def read(self, text: str) -> dict[str, Metadata]:
        lines = csv.reader(text.splitlines(keepends=True), strict=True)
        rows: dict[str, Metadata] = {}
        try:
            columns = self._columns(next(lines, []))
            for cells in lines:
                self.line, self.column = lines.line_num, ""
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(columns):
                    raise self._error(
                        f"The line has {len(cells)} cells",
                        why=f"The heading has {len(columns)}",
                        fix="Put cells that contain a comma in double quotes",
                    )
                row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
                file = self._file(row["file"])
                if file in rows:
                    raise self._error("The file has two lines", why=f"See line {rows[file].line}")
                rows[file] = self._metadata(row)
        except csv.Error as error:
            self.line, self.column = lines.line_num, ""
            raise self._error("The line is not CSV", why=str(error)) from error
        return rows

    def _columns(self, heading: list[str]) -> list[str]:
        columns = [ALIASES.get(cell.strip().lower(), cell.strip().lower()) for cell in heading]
        for position, (given, column) in enumerate(zip(heading, columns, strict=True), start=1):
            self.column = f"column {position}"
            if column not in COLUMNS:
                near = difflib.get_close_matches(column, COLUMNS, n=1)
                raise self._error(
                    f"Unknown column {given.strip()[:40]!r}",
                    why=f"The columns are {', '.join(COLUMNS)}",
                    fix=f"Did you mean `{near[0]}`?" if near else "Remove it",
                )
            if columns.count(column) > 1:
                raise self._error(f"The column `{column}` is there twice")
        self.column = ""
        if "file" not in columns:
            raise self._error(
                "There is no column `file`", why=f"The columns are {', '.join(COLUMNS)}"
            )
        return columns

    def _metadata(self, row: Mapping[str, str]) -> Metadata:
        return Metadata(
            line=self.line,
            patient_id=self._patient(row.get("patient", "")),
            eye=self._eye(row.get("eye", "")),
            labels=self._labels(row.get("labels", "")),
            taken=self._date(row.get("date", "")),
            device=self._device(row.get("device", "")),
        )

    def _file(self, cell: str) -> str:
        self.column = "column `file`"
        path = PurePosixPath(cell.replace("\\", "/"))
        if not cell or path.is_absolute() or ".." in path.parts:
            raise self._error(
                "The file is empty or lies outside the folder",
                fix="Write the path inside the folder, such as `visit1/eye.jpg`",
            )
        return str(path)

    def _patient(self, cell: str) -> str | None:
        self.column = "column `patient`"
        if len(cell) > LONGEST_PATIENT or not cell.isprintable():
            raise self._error(f"The patient has over {LONGEST_PATIENT} or unprintable characters")
        return cell or None

    def _eye(self, cell: str) -> Eye | None:
        self.column = "column `eye`"
        if cell and cell.lower() not in EYES:
            raise self._error(
                f"{cell[:40]!r} is not an eye", fix="Write OD, OS, right or left, or leave it empty"
            )
        return EYES[cell.lower()] if cell else None

    def _labels(self, cell: str) -> tuple[Label, ...] | None:
        self.column = "column `labels`"
        names = [" ".join(name.split()) for name in cell.split(";") if name.strip()]
        try:
            return tuple(Label(name, SOURCE) for name in dict.fromkeys(names)) or None
        except ArchiveError as error:
            raise self._error(error.what, why=error.why, fix=error.fix) from error

    def _date(self, cell: str) -> date | None:
        self.column = "column `date`"
        if not cell:
            return None
        try:
            taken = date.fromisoformat(cell)
        except ValueError as error:
            raise self._error(
                f"{cell[:40]!r} is not a date", fix="Write it as YYYY-MM-DD, or leave it empty"
            ) from error
        return taken

    def _device(self, cell: str) -> str | None:
        self.column = "column `device`"
        if cell and not LABEL_PATTERN.fullmatch(cell):
            raise self._error(
                f"{cell[:40]!r} cannot be the name of a device",
                why="It has at most 60 letters, digits, spaces and -/(),.'+%&",
            )
        return cell or None

    def _error(self, what: str, *, why: str = "", fix: str = "") -> ConfigError:
        where = f"`{self.name}` line {self.line}" + (f", {self.column}" if self.column else "")
        return ConfigError(what, where=where, why=why, fix=fix)
