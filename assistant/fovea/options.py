"""Options of plugins, as the settings name them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from fovea.errors import ConfigError


def read_options(entries: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Arguments by plugin, of entries `tool.argument=value`.

    A value is read as JSON where it is some (`3`, `true`), and as text otherwise.

    Raises:
        ConfigError: an entry has another form.
    """
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        tool, dot, argument = name.strip().partition(".")
        if not (equals and dot and tool and argument and value.strip()):
            raise ConfigError(
                "An option of a plugin cannot be read",
                where=f"`FOVEA_PLUGIN_OPTIONS`, `{entry}`",
                fix="Write `tool.argument=value`",
            )
        try:
            found.setdefault(tool, {})[argument] = json.loads(value)
        except ValueError:
            found.setdefault(tool, {})[argument] = value.strip()
    return found
