"""Find plugins on disk and make them: built in, installed, or in a folder.

Finding executes no code of a plugin: packages are located without importing
them, and only `plugin.toml` is read.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from fovea.contract import Plugin
from fovea.errors import PluginUnavailable
from fovea.manifest import Manifest, ManifestError, read_manifest
from fovea.settings import Settings

log = logging.getLogger(__name__)

BUILT_IN = (
    "fovea_plugins.quality",
    "fovea_plugins.segmenter.vessels",
    "fovea_plugins.segmenter.optic_disc",
    "fovea_plugins.segmenter.lesions",
    "fovea_plugins.landmarks",
    "fovea_plugins.biomarkers",
    "fovea_plugins.classifier",
    "fovea_plugins.explainer",
    "fovea_plugins.comparer",
    "fovea_plugins.retrieval",
    "fovea_plugins.reference",
)
ENTRY_POINT_GROUP = "fovea.plugins"
LOCAL_PACKAGE = "fovea_local_plugins"


@dataclass(frozen=True)
class Problem:
    """Something that keeps a plugin from being used."""

    where: str
    what: str
    fix: str


@dataclass
class Entry:
    """One plugin that was found, with everything known about it so far."""

    manifest: Manifest
    folder: Path
    package: str
    origin: str
    plugin: Plugin[Any] | None = None
    broken: PluginUnavailable | None = None
    weights_sha256: dict[str, str] = field(default_factory=dict)
    loaded: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


def candidates(settings: Settings, problems: list[Problem]) -> Iterator[Entry]:
    """Every plugin with a readable manifest; the others are added to `problems`."""
    places: list[tuple[str, Path | None, str]] = [
        (package, _package_folder(package), "built in") for package in BUILT_IN
    ]
    for point in entry_points(group=ENTRY_POINT_GROUP):
        origin = f"package `{point.dist.name}`" if point.dist else f"entry point `{point.name}`"
        places.append((point.value, _package_folder(point.value), origin))
    if settings.plugins_dir is not None:
        if settings.plugins_dir.is_dir():
            folders = sorted(p for p in settings.plugins_dir.iterdir() if p.is_dir())
            places += [
                (f"{LOCAL_PACKAGE}.{f.name}", f, f"folder `{f.name}`")
                for f in folders
                if not f.name.startswith((".", "_"))
            ]
        else:
            problems.append(
                Problem("plugins_dir", "The plugin folder does not exist", "Correct the setting")
            )
    for package, folder, origin in places:
        where = f"`{package}` ({origin})"
        if folder is None:
            problems.append(Problem(where, "The package is not installed", "Install it again"))
            continue
        try:
            manifest = read_manifest(folder / "plugin.toml")
        except ManifestError as error:
            problems.append(Problem(where, str(error), "Run `fovea plugins check` on it"))
            continue
        yield Entry(manifest, folder, package, origin)


def _package_folder(dotted: str) -> Path | None:
    """Folder of a package, found without executing any of its code.

    `find_spec` of a dotted name would import the parents, so only the top level
    is looked up and the rest is followed on disk.
    """
    top, *rest = dotted.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    for location in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(location).joinpath(*rest)
        if folder.is_dir():
            return folder
    return None


def create_plugin(entry: Entry) -> Plugin[Any]:
    """Import the plugin's module and make its object.

    Raises:
        PluginUnavailable: the module cannot be imported, or the class is no `Plugin`.
    """
    module_name, _, class_name = entry.manifest.entry.partition(":")
    try:
        if entry.package.startswith(LOCAL_PACKAGE):
            _import_folder(entry.package, entry.folder)
        module = importlib.import_module(f"{entry.package}.{module_name}")
        made = getattr(module, class_name)(entry.manifest, entry.folder)
    except (Exception, SystemExit) as error:
        log.exception("plugin %s cannot be imported", entry.manifest.name)
        raise PluginUnavailable(
            entry.manifest.name,
            f"Its code cannot be imported ({type(error).__name__})",
            why=str(error).split("\n")[0][:160],
            fix="Run `fovea plugins check` on it",
        ) from error
    if not isinstance(made, Plugin):
        raise PluginUnavailable(
            entry.manifest.name,
            f"`{class_name}` is not a Plugin",
            fix="Derive it from `fovea.contract.Plugin`",
        )
    return made


def _import_folder(package: str, folder: Path) -> None:
    """Make a bare folder importable under a package name of our own."""
    for name, location in ((LOCAL_PACKAGE, folder.parent), (package, folder)):
        if name not in sys.modules:
            module = types.ModuleType(name)
            module.__path__ = [str(location)]
            sys.modules[name] = module
