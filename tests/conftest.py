"""Shared fixtures: the sample photograph, private settings, one thread per library."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ["HF_HUB_OFFLINE"] = "1"

import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from fovea.settings import Settings

cv2.setNumThreads(1)
SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("FOVEA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="session")
def retina_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample photograph (a real left eye, CC0) as a PNG file."""
    from fovea.samples import sample_photograph

    return sample_photograph(tmp_path_factory.mktemp("sample"))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data beside the checkout; a stranger's clone has none."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the development data (../shared/data) is not here")
    return folder


@pytest.fixture
def plugins(tmp_path: Path) -> Iterator[Path]:
    """An empty folder for plugins of a test; what was imported from it is forgotten after."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    yield folder
    for name in [n for n in sys.modules if n.startswith("fovea_local_plugins")]:
        del sys.modules[name]
