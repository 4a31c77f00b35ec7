"""The shipped classifier, for other tools that ask about its answers."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

from fovea.errors import PluginUnavailable
from fovea_plugins.classifier.reading import ClassifierReader

FOLDER = Path(__file__).parent


def shipped_reader(asking: str) -> ClassifierReader:
    """The network that `classify_disease` answers with, verified.

    Args:
        asking: Name of the tool that wants it, for messages.

    Raises:
        PluginUnavailable: the weight file is missing or is not the released one.
    """
    weights = tomllib.loads((FOLDER / "plugin.toml").read_text(encoding="utf-8"))["weights"][0]
    path = FOLDER / weights["file"]
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != weights["sha256"]:
        raise PluginUnavailable(
            asking,
            "The weights of `classify_disease` are not the released ones",
            why=f"Expected sha256 {weights['sha256'][:12]}…, found {found[:12]}",
            fix="Reinstall the package",
        )
    return ClassifierReader.read(path)
