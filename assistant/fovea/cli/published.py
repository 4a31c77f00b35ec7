"""models list, convert, add: networks published by others, with weights that a person has."""

from __future__ import annotations

from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from fovea.cli.output import Json, PluginsDir, note, settings_from, show_json
from fovea.errors import ConfigError

# Core never imports plugins: what can be added is reached by name, as plugins are.
ADDING = "fovea_plugins.segmenter.published.adding"

app = typer.Typer(no_args_is_help=True, help="Published networks, with weights that you have.")


@app.command("list")
def list_networks(plugins_dir: PluginsDir = None, as_json: Json = False) -> None:
    """List the networks that can be added, and their cost. Example: fovea models list."""
    from fovea.registry import Registry

    registry = Registry.discover(settings_from(plugins_dir=plugins_dir))
    # The weight file carries the name: two networks can become the same tool.
    given = {
        (tool, Path(weights.file).stem)
        for tool in registry.names()
        for weights in registry.manifest(tool).weights
        if registry.health(tool).ok
    }
    rows = [
        {**row, "available": (row["tool"], row["name"]) in given}
        for row in import_module(ADDING).published()
    ]
    if as_json:
        show_json(rows)
        return
    for row in rows:
        state = f"`{row['tool']}` is available" if row["available"] else "weights not given"
        typer.echo(
            f"{row['name']}\t{row['title']}, {row['parameters']:,} parameters, {row['cost']}"
        )
        typer.echo(f"\t{state}; trained on {row['trained_on']}; {row['file']} of {row['source']}")


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="Checkpoint of PyTorch (.pth, .pt).")],
    out: Annotated[Path, typer.Option(help="File to write; ends in .safetensors.")],
    sha256: Annotated[
        str | None, typer.Option(help="Digest that the checkpoint must have.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn a checkpoint into safetensors. Example: fovea models convert a.pth --out a.safetensors.

    The checkpoint is read in a separate process that has no network and little memory and time,
    and that refuses anything but tensors.
    """
    from fovea.conversion import convert_checkpoint

    settings_from()
    made = convert_checkpoint(file, out, sha256=sha256)
    if as_json:
        show_json({**asdict(made), "path": str(made.path)})
        return
    typer.echo(f"{made.sha256}  {made.path}")
    note(f"{made.tensors} tensors, {made.numbers:,} numbers; sha256 of the source:")
    note(made.source_sha256)
    if made.left_out:
        note(f"Left out: {', '.join(made.left_out)}")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Published network, as `fovea models list` shows.")],
    file: Annotated[Path, typer.Argument(help="Its weights, converted to safetensors.")],
    sha256: Annotated[str, typer.Option(help="Digest that the file must have.")],
    plugins_dir: PluginsDir = None,
    as_json: Json = False,
) -> None:
    """Make a tool of weights. Example: fovea models add rrwnet-rite a.safetensors --sha256 HEX."""
    settings = settings_from(plugins_dir=plugins_dir)
    if settings.plugins_dir is None:
        raise ConfigError(
            "There is no folder for further plugins", where="plugins_dir",
            fix="Pass `--plugins-dir DIR`, or set `FOVEA_PLUGINS_DIR`",
        )  # fmt: skip
    adding: Any = import_module(ADDING)
    folder: Path = adding.add_published(
        name, file, sha256=sha256.strip().lower(), plugins_dir=settings.plugins_dir
    )
    row = next(row for row in adding.published() if row["name"] == name)
    if as_json:
        show_json({**row, "folder": str(folder)})
        return
    typer.echo(str(folder))
    note(f"{row['title']}: {row['parameters']:,} parameters, {row['cost']}.")
    if settings.origin("plugins_dir") == "default":
        note(f"Next: export FOVEA_PLUGINS_DIR={settings.plugins_dir}")
    note(f"It runs only when asked for: fovea analyse IMAGE --out DIR --only {row['tool']}")
