"""The command `fovea`. Standard output is data, standard error is progress.

Exit codes: 0 ok, 1 error, 2 usage, 3 some items failed, 4 integrity.
Only typer and rich are imported before a command runs.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from fovea.cli import (
    ask,
    batch,
    index,
    knowledge,
    llm,
    models,
    norms,
    plugins,
    published,
    review,
    system,
)
from fovea.errors import ArchiveError, FoveaError, WeightsError

_OFFLINE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Ask about retinal photographs and get measured, cited answers. "
    "Research use only; not a medical device.",
)
ask.register(app)
batch.register(app)
models.register(app)
system.register(app)
app.add_typer(index.app, name="index")
app.add_typer(plugins.app, name="plugins")
app.add_typer(knowledge.app, name="knowledge")
app.add_typer(published.app, name="models")
app.add_typer(norms.app, name="norms")
app.add_typer(llm.app, name="llm")
app.add_typer(review.app, name="review")


def main() -> None:
    """Run the command line; every expected error is one message and an exit code."""
    # Read by the libraries when a command imports them: no telemetry, no downloads.
    for name, value in _OFFLINE.items():
        os.environ.setdefault(name, value)
    try:
        app()
    except FoveaError as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        sys.exit(4 if isinstance(error, ArchiveError | WeightsError) else 1)
    except OSError as error:
        name = f"`{Path(error.filename).name}`" if error.filename else "A file or folder"
        reason = error.strerror or type(error).__name__
        typer.secho(f"Error: {name} cannot be used: {reason}.", fg="red", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
