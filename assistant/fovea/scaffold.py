"""Write the skeleton of a plugin package from the templates."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template

from fovea.errors import FoveaError
from fovea.manifest import API_VERSION

_PLACES = {
    "pyproject.toml.tmpl": "pyproject.toml",
    "plugin.toml.tmpl": "fovea_{name}/plugin.toml",
    "plugin.py.tmpl": "fovea_{name}/plugin.py",
    "test_plugin.py.tmpl": "tests/test_plugin.py",
}


def new_plugin(name: str, parent: Path) -> Path:
    """Write a package that installs, conforms and measures something; returns its folder.

    Raises:
        FoveaError: the name is not usable, or the folder exists.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{2,39}", name):
        raise FoveaError(
            f"`{name}` cannot be a plugin name",
            why="It has to be 3 to 40 lower-case letters, digits or _, beginning with a letter",
            fix="Try `my_plugin`",
        )
    folder = parent / name
    if folder.exists():
        raise FoveaError(
            f"The folder `{name}` exists already", fix="Choose another name, or remove it"
        )
    words = {
        "name": name,
        "dashed": name.replace("_", "-"),
        "spaced": name.replace("_", " "),
        "title": name.replace("_", " ").capitalize(),
        "class_name": "".join(part.capitalize() for part in name.split("_")),
        "api_version": str(API_VERSION),
    }
    templates = files("fovea") / "templates" / "plugin"
    for template, place in _PLACES.items():
        path = folder / place.format(name=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = (templates / template).read_text(encoding="utf-8")
        path.write_text(Template(text).substitute(words), encoding="utf-8")
    package = folder / f"fovea_{name}" / "__init__.py"
    package.write_text(f'"""{words["title"]}: a Fovea plugin."""\n', encoding="utf-8")
    return folder
