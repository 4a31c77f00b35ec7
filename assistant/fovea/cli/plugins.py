"""plugins list, info, check, new."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fovea.cli.output import Json, PluginsDir, note, settings_from, show_json

app = typer.Typer(no_args_is_help=True, help="Tools that measure, find and look up.")


@app.command("list")
def list_plugins(plugins_dir: PluginsDir = None, as_json: Json = False) -> None:
    """List plugins and what keeps any from working. Example: fovea plugins list."""
    from fovea.registry import Registry

    registry = Registry.discover(settings_from(plugins_dir=plugins_dir))
    rows = [
        {
            "name": name,
            "version": registry.manifest(name).version,
            "title": registry.manifest(name).title,
            "origin": registry.entry(name).origin,
            "healthy": registry.health(name).ok,
        }
        for name in registry.names()
    ]
    problems = [problem.__dict__ for problem in registry.problems]
    if as_json:
        show_json({"plugins": rows, "problems": problems})
        return
    for row in rows:
        state = "ok" if row["healthy"] else "not available"
        typer.echo(f"{row['name']}\t{row['version']}\t{state}\t{row['origin']}\t{row['title']}")
    for problem in registry.problems:
        typer.echo(f"Problem: {problem.where}: {problem.what}. {problem.fix}.", err=True)


@app.command()
def info(
    name: Annotated[str, typer.Argument(help="Name of the plugin.")],
    plugins_dir: PluginsDir = None,
    as_json: Json = False,
) -> None:
    """Print a plugin's manifest and arguments. Example: fovea plugins info segment_vessels."""
    from fovea.registry import Registry

    registry = Registry.discover(settings_from(plugins_dir=plugins_dir))
    manifest = registry.manifest(name)
    if as_json:
        content = manifest.model_dump(mode="json")
        show_json({**content, "arguments": registry.schema(name).get("properties", {})})
        return
    typer.echo(f"{manifest.title} ({manifest.name} {manifest.version})\n")
    typer.echo(f"{manifest.when_to_use}\n\nIntended use: {manifest.intended_use}\n")
    typer.echo("Outputs:")
    for output in manifest.outputs:
        limits = f" [{output.low:g} to {output.high:g}]" if output.low is not None else ""
        unit = f" in {output.unit}" if output.unit else ""
        typer.echo(f"  {output.name} ({output.kind}{unit}){limits}: {output.meaning}")
    typer.echo("Limitations:")
    for text in manifest.limitations:
        typer.echo(f"  - {text}")
    typer.echo("References:")
    for text in manifest.references:
        typer.echo(f"  - {text}")


@app.command()
def check(
    plugin: Annotated[str, typer.Argument(help="Name of a plugin, or a folder with plugin.toml.")],
    plugins_dir: PluginsDir = None,
    as_json: Json = False,
) -> None:
    """Run the conformance suite. Example: fovea plugins check ./my_plugin/fovea_my_plugin."""
    from fovea.registry import Registry
    from fovea.testing import check_plugin

    folder = Path(plugin)
    if not (folder / "plugin.toml").exists():
        inner = sorted(folder.glob("*/plugin.toml")) if folder.is_dir() else []
        if inner:
            folder = inner[0].parent
        else:
            registry = Registry.discover(settings_from(plugins_dir=plugins_dir))
            folder = registry.entry(plugin).folder
    problems = check_plugin(folder)
    if as_json:
        show_json({"plugin": plugin, "problems": problems})
    elif problems:
        for problem in problems:
            typer.echo(f"- {problem}")
    else:
        typer.echo(f"{plugin} conforms")
    if problems:
        raise typer.Exit(1)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the tool, such as count_drusen.")],
    parent: Annotated[Path, typer.Option("--in", help="Folder to write the package to.")] = Path(),
) -> None:
    """Write a small package that works. Example: fovea plugins new count_drusen."""
    from fovea.scaffold import new_plugin

    folder = new_plugin(name, parent)
    typer.echo(str(folder))
    note(f"Next: pip install {folder} && fovea plugins check {name}")
