"""Turns a table of a cohort's measurements into percentiles.

The table has one row for each value: `image`, `name`, `value`, `unit`, `method` and
`made_by`, and where they are known `zone`, `person`, `age` and `sex`. `fovea norms table`
writes it from what `fovea analyse` wrote.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fovea.errors import KnowledgeError
from fovea.knowledge.norms import (
    LEAST_N,
    RANKS,
    Norm,
    Norms,
    Sex,
    Stratum,
    made_by,
    plain_method,
)

REQUIRED = ("image", "name", "value", "unit", "method", "made_by")
OPTIONAL = ("zone", "person", "age", "sex")
COLUMNS = ("image", "name", "zone", "value", "unit", "method", "made_by", "person", "age", "sex")
PEOPLE = ("image", "person", "age", "sex")

BAND_YEARS = 10
OLDEST = 120
SIGNIFICANT = 6
"""Digits of a percentile that are kept: finer than any measurement."""

_SEXES: Mapping[str, Sex] = {"f": "F", "female": "F", "m": "M", "male": "M"}


@dataclass(frozen=True)
class Row:
    """One value of the table; None where something is not known."""

    image: str
    name: str
    zone: str | None
    value: float
    unit: str
    method: str
    made_by: str
    person: str | None
    age: float | None
    sex: Sex | None


@dataclass(frozen=True)
class TooFew:
    """A measurement that got no percentiles, because too few have it."""

    name: str
    made_by: str
    n: int


class _Table:
    """A CSV file that says line and column of what is wrong in it."""

    def __init__(self, path: Path, required: Sequence[str], allowed: Sequence[str]) -> None:
        self.name = path.name
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise KnowledgeError(
                "The file is not UTF-8 text", where=f"{self.name}:1", fix="Save it as UTF-8"
            ) from error
        self._reader = csv.reader(text.splitlines(keepends=True), strict=True)
        self.header = [cell.strip() for cell in next(self._reader, [])]
        for place, column in enumerate(self.header, 1):
            if column not in allowed:
                raise self.bad(1, place, f"There is no column `{column[:40]}`", allowed)
            if self.header.index(column) != place - 1:
                raise self.bad(1, place, f"The column `{column}` is there twice")
        for column in required:
            if column not in self.header:
                where = len(self.header) + 1
                raise self.bad(1, where, f"The column `{column}` is missing", required)

    def bad(self, line: int, column: int, what: str, allowed: Sequence[str] = ()) -> KnowledgeError:
        """The error about one cell."""
        fix = f"Use {', '.join(allowed)}" if allowed else "Correct the cell"
        return KnowledgeError(what, where=f"{self.name}:{line}:{column}", fix=fix)

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Line number and cells by column, of each row that is not empty."""
        while True:
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                raise self.bad(
                    self._reader.line_num, 1, f"The row is malformed: {error}"
                ) from error
            if cells is None:
                return
            line = self._reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(self.header):
                what = f"The row has {len(cells)} cells, the header {len(self.header)}"
                raise self.bad(line, min(len(cells), len(self.header)) + 1, what)
            named = zip(self.header, cells, strict=True)
            yield line, {column: cell.strip() for column, cell in named}

    def cell(self, line: int, column: str, what: str) -> KnowledgeError:
        """The error about the cell of a column."""
        return self.bad(line, self.header.index(column) + 1, f"`{column}`: {what}")


def read_table(path: Path) -> list[Row]:
    """The values of a cohort.

    Raises:
        KnowledgeError: `file:line:column` and what is wrong there.
    """
    table = _Table(path, REQUIRED, (*REQUIRED, *OPTIONAL))
    rows: list[Row] = []
    seen: dict[tuple[str, str, str], int] = {}
    for line, cells in table.rows():
        for column in REQUIRED:
            if not cells[column]:
                raise table.cell(line, column, "it is empty")
        key = cells["image"], cells["name"], cells.get("zone", "")
        if key in seen:
            what = f"`{key[1]}` of `{key[0][:40]}` is on line {seen[key]} already"
            raise table.cell(line, "name", what)
        seen[key] = line
        person = cells.get("person") or None
        if rows and (person is None) != (rows[0].person is None):
            raise table.cell(line, "person", "it is given for some rows and not for others")
        rows.append(
            Row(
                image=cells["image"], name=cells["name"], zone=cells.get("zone") or None,
                value=_number(table, line, "value", cells["value"]), unit=cells["unit"],
                method=cells["method"], made_by=cells["made_by"], person=person,
                age=_age(table, line, cells), sex=_sex(table, line, cells),
            )
        )  # fmt: skip
    if not rows:
        raise table.bad(2, 1, "The table has no rows")
    return rows


def build(
    rows: Sequence[Row], *, cohort: str, built: str, least_n: int = LEAST_N
) -> tuple[Norms, list[TooFew]]:
    """Percentiles of everybody, each sex, each age band and both, where enough have them.

    Where persons are known, each counts once, with the mean of his or her values: two eyes of
    one person are not two people.

    Args:
        rows: The cohort.
        cohort: Its name, as answers and reports state it.
        built: Today, ISO 8601.
        least_n: Fewer values than this give no percentiles.

    Returns:
        The norms, and which measurements have too few values.

    Raises:
        KnowledgeError: no measurement has enough values.
    """
    groups: dict[tuple[str, str | None, str, str, str], list[Row]] = {}
    words: dict[tuple[str, str | None, str, str, str], str] = {}
    for row in rows:
        key = row.name, row.zone, row.unit, plain_method(row.method), row.made_by
        groups.setdefault(key, []).append(row)
        words.setdefault(key, row.method)
    norms, few = [], []
    for key in sorted(groups, key=str):
        people = _by_person(groups[key])
        strata = [stratum for stratum in _strata(people, least_n) if stratum is not None]
        if len(people) < least_n:
            few.append(TooFew(key[0], key[4], len(people)))
            continue
        norms.append(
            Norm(output=key[0], zone=key[1], unit=key[2], method=words[key], made_by=key[4],
                 strata=tuple(strata))
        )  # fmt: skip
    if not norms:
        most = max(few, key=lambda item: item.n)
        raise KnowledgeError(
            f"No measurement has {least_n} values made by one method",
            why=f"`{most.name}` by `{most.made_by}` has most: {most.n}",
            fix="Measure more people, with the same versions of all tools",
        )
    counted = "people" if rows[0].person is not None else "photographs"
    return Norms.model_validate(
        {"cohort": cohort, "built": built, "counted": counted, "ranks": RANKS, "norms": norms}
    ), few


def table_of(results: Path, people: Path | None = None) -> Iterator[dict[str, Any]]:
    """Rows of the table from the folders that `fovea analyse` wrote.

    Args:
        results: Folder with one folder for each photograph.
        people: CSV of `image` (name of that folder) with `person`, `age` and `sex`.

    Raises:
        KnowledgeError: there are no results, or one is damaged, or a person is not found.
    """
    files = sorted(results.glob("*/result.json"))
    if not files:
        raise KnowledgeError(
            "There are no results in this folder", where=results.name,
            fix="Give the folder that `fovea analyse --out` wrote",
        )  # fmt: skip
    known = _people(people, {file.parent.name for file in files}) if people else {}
    for file in files:
        image = file.parent.name
        try:
            pieces = json.loads(file.read_text(encoding="utf-8"))["evidence"].values()
            for row in _values(pieces):
                yield {"image": image, **row, **known.get(image, {})}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise KnowledgeError(
                "The result is damaged, or of an older version", where=f"{image}/{file.name}",
                fix="Analyse the photograph again",
            ) from error  # fmt: skip


def _values(pieces: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    seen = set()
    for piece in pieces:
        said = piece["provenance"]
        by = made_by(said["plugin"], said["plugin_version"], said["inputs"])
        for m in piece["measurements"]:
            # A tool that passes on another's value states it second.
            if (m["name"], m["zone"]) not in seen:
                seen.add((m["name"], m["zone"]))
                yield {
                    "name": m["name"], "zone": m["zone"] or "", "value": m["value"],
                    "unit": m["unit"], "method": m["method"], "made_by": by,
                }  # fmt: skip


def _people(path: Path, images: set[str]) -> dict[str, dict[str, str]]:
    table = _Table(path, ("image",), PEOPLE)
    known: dict[str, dict[str, str]] = {}
    for line, cells in table.rows():
        image = cells.pop("image")
        if image not in images:
            raise table.cell(line, "image", f"there is no result of `{image[:40]}`")
        if image in known:
            raise table.cell(line, "image", f"`{image[:40]}` is there twice")
        _age(table, line, cells)
        _sex(table, line, cells)
        known[image] = cells
    return known


def _number(table: _Table, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise table.cell(line, column, f"{text[:40]!r} is not a number")
    return value


def _age(table: _Table, line: int, cells: Mapping[str, str]) -> float | None:
    if not cells.get("age"):
        return None
    age = _number(table, line, "age", cells["age"])
    if not 0 <= age < OLDEST:
        raise table.cell(line, "age", f"{cells['age'][:40]} is not an age in years")
    return age


def _sex(table: _Table, line: int, cells: Mapping[str, str]) -> Sex | None:
    text = cells.get("sex")
    if not text:
        return None
    if text.lower() not in _SEXES:
        raise table.cell(line, "sex", f"{text[:40]!r} is not F or M, or empty")
    return _SEXES[text.lower()]


def _by_person(rows: Sequence[Row]) -> list[tuple[float, float | None, Sex | None]]:
    """Value, age and sex of each person, or of each photograph where nobody is named."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.person or f"\0{row.image}", []).append(row)
    return [
        (float(np.mean([r.value for r in own])), own[0].age, own[0].sex) for own in found.values()
    ]


def _strata(
    people: Sequence[tuple[float, float | None, Sex | None]], least_n: int
) -> Iterator[Stratum | None]:
    sexes: tuple[Sex | None, ...] = (None, "F", "M")
    for start in (None, *range(0, OLDEST, BAND_YEARS)):
        for sex in sexes:
            values = [
                value
                for value, age, own in people
                if sex in (None, own)
                and (start is None or (age is not None and start <= age < start + BAND_YEARS))
            ]
            if len(values) < least_n:
                yield None
                continue
            quantiles = np.quantile(values, [rank / 100 for rank in RANKS], method="weibull")
            yield Stratum(
                n=len(values), sex=sex, age_from=start,
                age_below=None if start is None else start + BAND_YEARS,
                percentiles=tuple(float(f"{q:.{SIGNIFICANT}g}") for q in quantiles),
            )  # fmt: skip
