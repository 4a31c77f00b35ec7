"""The wheel, the bare import, and a stranger's plugin from template to chat."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "gradio", "transformers", "faiss", "peft", "accelerate", "bitsandbytes", "cv2")


def run(*command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    # The parent's search path, so that the child sees this checkout as pytest does.
    search = [*environment.pop("PYTHONPATH", "").split(os.pathsep), *sys.path]
    return subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=280,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in search if p), **environment},
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    done = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_wheel_holds_three_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {
        "fovea",
        "fovea_plugins",
        "fovea_knowledge",
    }
    for needed in (
        "fovea/py.typed",
        "fovea/templates/plugin/plugin.toml.tmpl",
        "fovea_plugins/quality/plugin.toml",
        "fovea_knowledge/references.yaml",
    ):
        assert needed in names
    held = zipfile.ZipFile(wheel).infolist()
    assert sum(i.file_size for i in held if i.filename.endswith(".safetensors")) < 30e6
    assert sum(i.file_size for i in held) < 45e6


def test_bare_import_is_light() -> None:
    code = (
        "import time; t = time.perf_counter(); import fovea, sys;"
        f"print([m for m in {HEAVY!r} if m in sys.modules], time.perf_counter() - t < 0.3)"
    )
    assert run(sys.executable, "-c", code).stdout.strip() == "[] True"


def test_command_line_help_is_light() -> None:
    code = (
        f"import sys; from fovea.cli import app;print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    assert run(sys.executable, "-c", code).stdout.strip() == "[]"


def test_every_public_name_can_be_imported() -> None:
    code = (
        "import fovea; names = [getattr(fovea, name) for name in fovea.__all__];"
        "print(fovea.__all__ == sorted(fovea.__all__), len(names))"
    )
    assert run(sys.executable, "-c", code).stdout.startswith("True ")


def test_new_plugin_installs_conforms_and_is_called_in_a_chat(
    tmp_path: Path, retina_path: Path
) -> None:
    made = run(sys.executable, "-m", "fovea", "plugins", "new", "demo_plugin", "--in", tmp_path)
    assert made.returncode == 0, made.stderr
    folder, site = tmp_path / "demo_plugin", tmp_path / "site"
    installed = run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
        "--no-index", "--target", site, folder,
    )  # fmt: skip
    assert installed.returncode == 0, installed.stderr
    where = {"PYTHONPATH": str(site), "FOVEA_DATA_DIR": str(tmp_path / "data")}
    listed = run(sys.executable, "-m", "fovea", "plugins", "list", "--json", **where)
    rows = {row["name"]: row for row in json.loads(listed.stdout)["plugins"]}
    assert rows["demo_plugin"]["healthy"]
    assert rows["demo_plugin"]["origin"] == "package `fovea-demo-plugin`"
    suite = run(
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder / "tests",
        "-c", os.devnull, "--rootdir", folder, **where,
    )  # fmt: skip
    assert suite.returncode == 0, suite.stdout + suite.stderr
    asked = run(
        sys.executable, "-m", "fovea", "ask", retina_path, "-q",
        "Run demo plugin on this photograph.", "--json", **where,
    )  # fmt: skip
    assert asked.returncode == 0, asked.stderr
    answer = json.loads(asked.stdout)
    assert "demo_plugin" in [call["tool"] for call in answer["calls"]]
    evidence = next(e for e in answer["evidence"].values() if e["tool"] == "demo_plugin")
    assert f"{evidence['measurements'][0]['value']:.2f}" in answer["answer"]


@pytest.mark.parametrize("name", ["Bad", "x", "../up", "a b"])
def test_unusable_plugin_names_are_refused(tmp_path: Path, name: str) -> None:
    done = run(sys.executable, "-m", "fovea", "plugins", "new", name, "--in", tmp_path)
    assert done.returncode == 1
    assert "cannot be a plugin name" in done.stderr
    assert not list(tmp_path.iterdir())
