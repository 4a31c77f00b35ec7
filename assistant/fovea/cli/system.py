"""doctor and settings."""

from __future__ import annotations

import os
from contextlib import closing
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import typer

from fovea.cli.output import EXIT_INTEGRITY, Json, PluginsDir, settings_from, show_json
from fovea.settings import PREFIX, Settings


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(doctor)
    app.command()(settings)


def doctor(plugins_dir: PluginsDir = None, as_json: Json = False) -> None:
    """Check this installation and say how to fix it. Example: fovea doctor."""
    rows = [*_packages(), *_plugins(settings_from(plugins_dir=plugins_dir)), *_stores()]
    if as_json:
        show_json(rows)
    else:
        for row in rows:
            typer.echo(f"{'ok     ' if row['ok'] else 'PROBLEM'}  {row['what']}")
            if not row["ok"]:
                typer.echo(f"         {row['fix']}")
    if not all(row["ok"] for row in rows):
        raise typer.Exit(EXIT_INTEGRITY)


def settings(as_json: Json = False) -> None:
    """Show every setting, its value and where it comes from. Example: fovea settings."""
    current = settings_from()
    rows = []
    for name, field in Settings.model_fields.items():
        value = getattr(current, name)
        rows.append(
            {
                "name": name,
                "value": str(value) if isinstance(value, Path) else value,
                "origin": current.origin(name),
                "environment": f"{PREFIX}{name.upper()}",
                "help": field.description,
            }
        )
    if as_json:
        show_json(rows)
        return
    for row in rows:
        typer.echo(f"{row['name']} = {row['value']}  ({row['origin']}; {row['environment']})")
        typer.echo(f"    {row['help']}")


def _row(ok: bool, what: str, fix: str = "") -> dict[str, Any]:
    return {"ok": ok, "what": what, "fix": fix}


def _packages() -> list[dict[str, Any]]:
    from packaging.requirements import Requirement

    rows = []
    try:
        declared = requires("fovea-assistant") or []
    except PackageNotFoundError:
        return [_row(False, "fovea-assistant is not installed", "Run `pip install -e .`")]
    for text in declared:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            rows.append(_row(False, f"{requirement.name} is missing", "Run `make install`"))
            continue
        fits = requirement.specifier.contains(found, prereleases=True)
        rows.append(_row(fits, f"{requirement.name} {found}", f"Install {requirement}"))
    try:
        version("torchvision")
        rows.append(
            _row(False, "torchvision is installed", "It breaks CPU builds of torch: uninstall it")
        )
    except PackageNotFoundError:
        pass
    return rows


def _plugins(current: Settings) -> list[dict[str, Any]]:
    from fovea.errors import PluginUnavailable
    from fovea.registry import Registry, verify_weights

    registry = Registry.discover(current)
    rows = []
    for name in registry.healthy_names():
        try:
            digests = verify_weights(registry.entry(name))
            rows.append(_row(True, f"plugin {name} ({len(digests)} weight file(s) verified)"))
        except PluginUnavailable as error:
            rows.append(_row(False, f"plugin {name}: {error.what}", error.fix))
    rows += [_row(False, f"{p.where}: {p.what}", p.fix) for p in registry.problems]
    return rows


def _stores() -> list[dict[str, Any]]:
    from fovea.archive import open_archive
    from fovea.errors import FoveaError
    from fovea.knowledge import load

    current = settings_from()
    rows = []
    try:
        knowledge = load(current.knowledge_dir, norms=current.norms_in_use())
        rows.append(_row(True, f"knowledge base: {len(knowledge.entries)} entries"))
    except FoveaError as error:
        rows.append(_row(False, str(error), "Correct the entry"))
    home = current.data_dir
    home.mkdir(parents=True, exist_ok=True)
    rows.append(_row(os.access(home, os.W_OK), "data folder is writable", "Set FOVEA_DATA_DIR"))
    try:
        with closing(open_archive(current)) as archive:
            problems = archive.verify()
        found = f"case archive: {len(problems)} problem(s)"
        rows.append(_row(not problems, found, "; ".join(problems)))
    except FoveaError as error:
        rows.append(_row(False, str(error), error.fix))
    return rows
