"""The memory that benchmarks state is in the same unit on every system."""

from __future__ import annotations

import importlib.util
import resource
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("system", "unit"), [("darwin", 2**20), ("freebsd13", 2**10)])
def test_peak_memory_is_in_mebibytes_without_proc(
    monkeypatch: pytest.MonkeyPatch, system: str, unit: int
) -> None:
    path = ROOT / "benchmarks" / "biomarker_memory.py"
    spec = importlib.util.spec_from_file_location("biomarker_memory", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    monkeypatch.setattr(Path, "exists", lambda self: False)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    assert module.peak_mb() == usage.ru_maxrss / unit
