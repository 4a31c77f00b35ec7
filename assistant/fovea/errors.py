"""Every error that Fovea raises on purpose.

    FoveaError
    ├── ConfigError              names setting, source, allowed values
    ├── ImageError
    │   ├── UnreadableImage      not decodable, or not an accepted format
    │   ├── NotAFundusPhotograph decoded, but not a retinal photograph
    │   ├── ImageTooSmall
    │   └── ImageTooLarge
    ├── KnowledgeError           file:line and field
    ├── PluginError              always carries the plugin's name
    │   ├── PluginUnavailable    what is missing, how to get it
    │   ├── ContractViolation    the author's bug
    │   ├── BadArguments         the model may try again
    │   ├── NotApplicable        definite; do not retry
    │   └── PluginFailed         crashed or ran out of time; details are in the log
    ├── ArchiveError             integrity of the case archive
    ├── WeightsError             a weight file that is damaged, unsafe or another one
    ├── SessionError             unknown, expired or damaged session
    ├── ModelError               the LLM backend failed
    │   ├── ModelUnavailable     not reachable, not complete, not permitted or too large
    │   └── BadReply             malformed or unknown call, empty, endless or oversized reply
    ├── StepLimitReached
    └── Cancelled                the person pressed stop

Each message says what happened, where, why, and how to fix it. Messages reach
people and the LLM, so they hold no patient data, server path or traceback.
"""

from __future__ import annotations


class FoveaError(Exception):
    """An error with a message in four parts: what, where, why and how to fix it.

    Args:
        what: One sentence that says what happened, identifiers in backticks.
        where: The setting, field, handle or file name (never a full path).
        why: The reason, with the value that caused it.
        fix: What the reader can do about it.
    """

    def __init__(self, what: str, *, where: str = "", why: str = "", fix: str = "") -> None:
        self.what, self.where, self.why, self.fix = what, where, why, fix
        super().__init__(what)

    def __str__(self) -> str:
        parts = [self.what if not self.where else f"{self.where}: {self.what}", self.why, self.fix]
        return " ".join(_sentence(part) for part in parts if part)

    @property
    def code(self) -> str:
        """The class name: stable, and safe to show in JSON."""
        return type(self).__name__


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?", ":")) else text + "."


class ConfigError(FoveaError):
    """A setting has a value that is not allowed, or is unknown."""


class ImageError(FoveaError):
    """An image cannot be used."""


class UnreadableImage(ImageError):
    """The file is not an accepted image, or is damaged."""


class NotAFundusPhotograph(ImageError):
    """The picture is readable but is not a retinal photograph."""


class ImageTooSmall(ImageError):
    """Fewer pixels than a measurement can stand on."""


class ImageTooLarge(ImageError):
    """More pixels or bytes than the configured limit."""


class KnowledgeError(FoveaError):
    """An entry of the knowledge base is missing, malformed or inconsistent."""


class PluginError(FoveaError):
    """Something about one plugin; `plugin` is its tool name."""

    def __init__(
        self, plugin: str, what: str, *, where: str = "", why: str = "", fix: str = ""
    ) -> None:
        super().__init__(what, where=where or f"`{plugin}`", why=why, fix=fix)
        self.plugin = plugin


class PluginUnavailable(PluginError):
    """A requirement, weight file or service of the plugin is missing."""


class ContractViolation(PluginError):
    """The plugin returned something that its manifest does not allow."""


class BadArguments(PluginError):
    """The arguments do not fit the plugin's schema; trying again can help."""


class NotApplicable(PluginError):
    """The plugin cannot say anything about this image; trying again cannot help."""


class PluginFailed(PluginError):
    """The plugin raised an unexpected error or exceeded its time; see the log id."""


class ArchiveError(FoveaError):
    """The case archive is damaged or inconsistent."""


class WeightsError(FoveaError):
    """A weight file is damaged, asks for more than tensors, or is not the one it should be."""


class SessionError(FoveaError):
    """The session is unknown, has expired or cannot be read."""


class ModelError(FoveaError):
    """The language model backend failed."""


class ModelUnavailable(ModelError):
    """The language model cannot be used: server, folder, key, adapter or memory is at fault."""


class BadReply(ModelError):
    """The language model answered with something that cannot be used."""


class StepLimitReached(FoveaError):
    """The conversation turn used all of its steps."""


class Cancelled(FoveaError):
    """The person stopped the turn."""

    def __init__(self, what: str = "Stopped on request") -> None:
        super().__init__(what)
