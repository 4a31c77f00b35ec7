"""Where details go that people and the LLM must not see: a log file, never the screen."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler

from fovea.settings import Settings

MAX_BYTES = 2_000_000
NAMES = ("fovea", "fovea_plugins", "fovea_local_plugins")


def log_to_file(settings: Settings) -> None:
    """Send the log of Fovea and its plugins to `fovea.log` in the data folder.

    The newest two million bytes and one older file are kept; only this user can read them.
    """
    folder = settings.data_dir / "log"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / "fovea.log"
    path.touch(mode=0o600)
    handler = RotatingFileHandler(path, maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in NAMES:
        logger = logging.getLogger(name)
        for old in list(logger.handlers):
            logger.removeHandler(old)
            old.close()
        logger.addHandler(handler)
        logger.propagate = False
