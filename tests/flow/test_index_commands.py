"""`fovea index` beyond adding: what keeps an archive whole, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fovea.archive import CaseArchive, NewCase
from fovea.archive.copies import FILE
from fovea.cli import app
from fovea.errors import ArchiveError


def index(*arguments: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["index", *map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FOVEA_DATA_DIR", str(tmp_path))
    archive = CaseArchive.open(tmp_path / "archive")
    vectors = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    archive.add_many([NewCase(f"{n:064x}", "e1", v, None) for n, v in enumerate(vectors)])
    archive.close()
    return tmp_path / "archive"


def test_rebuild_tells_kind_and_recall(folder: Path) -> None:
    assert json.loads(index("rebuild", "--json")) == {
        "e1": {"kind": "flat", "cases": 4, "recall_at_10": None}
    }
    index("rebuild", "--kind", "best", code=2)
    assert "e1\tflat\t4 cases\texact" in index("rebuild", "--kind", "auto")


def test_damage_is_told_and_rebuild_repairs_it(folder: Path) -> None:
    content = bytearray((folder / FILE).read_bytes())
    content[-3000:] = bytes(3000)
    (folder / FILE).write_bytes(content)
    assert json.loads(index("verify", "--json", code=4))["problems"]
    index("rebuild")
    assert "whole" in index("verify")


def test_snapshot_and_rollback(folder: Path) -> None:
    assert "No snapshot" in index("rollback")
    name = index("snapshot", "before").strip()
    index("remove", "C000002")
    assert index("rollback").strip() == name
    index("rollback", name)
    archive = CaseArchive.open(folder)
    assert archive.count("e1") == 4
    archive.close()
    with pytest.raises(ArchiveError, match="no snapshot"):
        index("rollback", "other")


def test_duplicates_of_cases_without_pictures_are_none(folder: Path) -> None:
    assert json.loads(index("duplicates", "--json")) == []
