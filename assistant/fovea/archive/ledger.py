"""What the archive should hold: sums over the digests of its rows, under a seal.

Each row carries its own digest, so an altered row is told. A row that vanished,
came back or was stored twice carries a good digest all the same: that is told by
their number and the sum (modulo 2^256) of all digests, kept in the table `facts`.
The seal is a digest over the facts, so that a damaged fact is told as well.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterable, Mapping

from fovea.archive.faults import Damaged

COPIES = ("main", "copy")
"""The two databases that every change is written to, by their names in SQL."""
DIGEST = re.compile(r"[0-9a-f]{64}")
MODULUS = 1 << 256
EMPTY = "0:0"
"""The total of no rows; totals are written as `number:sum`, the sum in hexadecimal."""
VECTORS = "vectors "


def summed(digests: Iterable[str]) -> str:
    """The total of rows with these digests (64 hexadecimal digits each)."""
    numbers = [_number(one) for one in digests]
    return f"{len(numbers)}:{sum(numbers) % MODULUS:x}"


def moved(total: str, gone: str | None, new: str | None) -> str:
    """The total after one row left it and one came."""
    count = rows_in(total) + (new is not None) - (gone is not None)
    change = (_number(new) if new else 0) - (_number(gone) if gone else 0)
    return f"{count}:{(int(total.partition(':')[2], 16) + change) % MODULUS:x}"


def rows_in(total: str) -> int:
    """The number of rows in a total."""
    return int(total.partition(":")[0])


def _number(digest: str) -> int:
    # A damaged page can hold anything where a digest was, also what is no text.
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise Damaged("A digest is no digest any more", where="archive")
    return int(digest, 16)


def sealed(facts: Mapping[str, str]) -> dict[str, str]:
    """The facts with their seal brought up to date."""
    total = hashlib.sha256()
    for name in sorted(set(facts) - {"seal"}):
        total.update(f"{len(name)}:{name}:{len(facts[name])}:{facts[name]}".encode())
    return {**facts, "seal": total.hexdigest()}


def read_facts(run: sqlite3.Connection, copy: str = "main") -> dict[str, str]:
    """The facts of one copy.

    Raises:
        Damaged: they do not match their seal.
    """
    found: dict[str, str] = dict(run.execute(f"SELECT name, value FROM {copy}.facts"))  # noqa: S608
    whole = all(isinstance(part, str) for row in found.items() for part in row)
    if not whole or sealed(found).get("seal") != found.get("seal"):
        raise Damaged("The facts about the archive do not match their seal", where="archive")
    return found


def write_facts(run: sqlite3.Connection, facts: Mapping[str, str]) -> None:
    """Write the sealed facts to both copies."""
    rows = list(sealed(facts).items())
    for copy in COPIES:
        run.execute(f"DELETE FROM {copy}.facts")  # noqa: S608 - a constant
        run.executemany(f"INSERT INTO {copy}.facts VALUES (?, ?)", rows)  # noqa: S608
