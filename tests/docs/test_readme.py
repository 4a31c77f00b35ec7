"""What the README and the help texts promise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from fovea.cli import app

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    group = typer.main.get_command(app)
    names = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        names += [f"{name} {sub}" for sub in inner] if inner else [name]
    return sorted(names)


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})  # noqa: S102 - our own text
    told = capsys.readouterr().out
    assert "cup-to-disc ratio" in told
    assert "vessel_density" in told
    assert len(example.strip().splitlines()) <= 11


def test_every_command_in_the_readme_exists() -> None:
    known = commands()
    used = re.findall(r"(?m)(?:^|`)fovea ([a-z-]+(?: [a-z]+)?)", README)
    assert used
    for command in used:
        assert any(command == k or command.split()[0] == k for k in known), command


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([a-z]+)", README):
        assert re.search(rf"(?m)^{target}:", makefile), target


@pytest.mark.parametrize("command", commands())
def test_every_command_shows_an_example(command: str) -> None:
    shown = CliRunner().invoke(app, [*command.split(), "--help"], terminal_width=200)
    assert f"Example: fovea {command.split()[0]}" in " ".join(shown.output.split())


def test_pictures_in_the_readme_exist() -> None:
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path


def test_constraints_pin_what_the_project_depends_on() -> None:
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    )
    assert pinned["torch"] == "2.13.0"
    assert "torchvision" not in pinned
    project = (ROOT / "pyproject.toml").read_text()
    dependencies = re.search(r"(?s)\ndependencies = \[(.*?)\n\]", project)
    assert dependencies
    names = {name.lower() for name in pinned}
    for name in re.findall(r'"([A-Za-z0-9-]+)', dependencies[1]):
        assert name.lower() in names or name.lower().replace("-", "_") in names, name


def test_app_py_is_a_door_and_no_more() -> None:
    assert len((ROOT / "app.py").read_text().splitlines()) < 15


def test_modules_stay_readable() -> None:
    for folder in ("assistant", "plugins"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 400, path.name
