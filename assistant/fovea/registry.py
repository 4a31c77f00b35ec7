"""Find plugins, judge their health, load them, call them, check what they return.

Finding reads manifests only. A plugin's module is imported when its schema is
needed, its weights are read at its first call. A plugin that is broken in any
way is a `Problem` in a list; the others work.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import threading
import time
import uuid
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ValidationError

from fovea.check_result import check_result
from fovea.contract import Context, Health, Plugin, Result
from fovea.discovery import Entry, Problem, candidates, create_plugin
from fovea.errors import (
    ArchiveError,
    BadArguments,
    Cancelled,
    ConfigError,
    ContractViolation,
    PluginError,
    PluginFailed,
    PluginUnavailable,
)
from fovea.manifest import Manifest, field_messages
from fovea.options import read_options
from fovea.runner import OutOfTime, run_in_thread
from fovea.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CallRecord:
    """A checked result and how it came about."""

    result: Result
    seconds: float
    started: float
    weights_sha256: Mapping[str, str]


class Registry:
    """The plugins of this installation.

    Example:
        >>> registry = Registry.discover(Settings())
        >>> "assess_quality" in registry.names()
        True
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        problems: tuple[Problem, ...],
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._entries = dict(entries)
        self._problems = list(problems)
        self._options = dict(options or {})

    @classmethod
    def discover(cls, settings: Settings) -> Registry:
        """Every plugin that is built in, installed, or in `settings.plugins_dir`.

        Raises:
            ConfigError: an entry of `settings.plugin_options` is not `tool.argument=value`.
        """
        entries: dict[str, Entry] = {}
        problems: list[Problem] = []
        for entry in candidates(settings, problems):
            name = entry.manifest.name
            if settings.plugins is not None and name not in settings.plugins:
                continue
            if name in entries:
                problems.append(
                    Problem(
                        entry.origin,
                        f"A plugin named `{name}` is already there ({entries[name].origin})",
                        "Rename or uninstall one of the two",
                    )
                )
                continue
            entries[name] = entry
        for name in settings.plugins or ():
            if name not in entries:
                problems.append(
                    Problem("FOVEA_PLUGINS", f"There is no plugin `{name}`", "Check the spelling")
                )
        registry = cls(entries, tuple(problems), read_options(settings.plugin_options))
        for name in registry.names():
            health = registry.health(name)
            if not health.ok:
                registry._problems.append(Problem(f"`{name}`", health.reason, health.fix))
        return registry

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What keeps plugins from being used, found so far."""
        return tuple(self._problems)

    def names(self) -> tuple[str, ...]:
        """Names of all plugins found, healthy or not, in order of discovery."""
        return tuple(self._entries)

    def entry(self, name: str) -> Entry:
        """The entry of that name.

        Raises:
            PluginUnavailable: naming the nearest plugin there is.
        """
        if name not in self._entries:
            import difflib

            near = difflib.get_close_matches(name, self._entries, n=1)
            raise PluginUnavailable(
                name,
                "There is no such plugin",
                fix=f"Did you mean `{near[0]}`?" if near else "Run `fovea plugins list`",
            )
        return self._entries[name]

    def manifest(self, name: str) -> Manifest:
        """The manifest of a plugin."""
        return self.entry(name).manifest

    def provider(self, output: str) -> str | None:
        """The first plugin that declares this output and runs unasked, or None."""
        return next(
            (
                name
                for name, entry in self._entries.items()
                if entry.manifest.output(output) and not self._stands_back(entry)
            ),
            None,
        )

    def unasked_names(self) -> tuple[str, ...]:
        """Plugins that can run now without being asked for: all but alternatives to others."""
        return tuple(n for n in self.healthy_names() if not self._stands_back(self._entries[n]))

    def _stands_back(self, entry: Entry) -> bool:
        return entry.manifest.alternative_to in self._entries

    def health(self, name: str) -> Health:
        """Whether a plugin could run: requirements and weight files, no model is run."""
        entry = self.entry(name)
        for module in entry.manifest.requires:
            if importlib.util.find_spec(module.partition(".")[0]) is None:
                return Health(
                    ok=False,
                    reason=f"The Python package `{module}` is not installed",
                    fix=f"Run `pip install {module}`",
                )
        for weights in entry.manifest.weights:
            path = entry.folder / weights.file
            if not path.is_file() or path.stat().st_size != weights.bytes:
                state = "has the wrong size" if path.is_file() else "is missing"
                return Health(
                    ok=False,
                    reason=f"The weight file `{weights.file}` {state}",
                    fix="Reinstall the package, or put the file back from its release",
                )
        return Health(ok=True)

    def instance(self, name: str) -> Plugin[Any]:
        """The plugin object, its module imported, its weights not yet read.

        Raises:
            PluginUnavailable: the module cannot be imported or has no such class.
        """
        entry = self.entry(name)
        with entry.lock:
            if entry.broken is not None:
                raise entry.broken
            if entry.plugin is None:
                try:
                    entry.plugin = create_plugin(entry)
                except PluginUnavailable as error:
                    entry.broken = error
                    raise
            return entry.plugin

    def schema(self, name: str) -> dict[str, Any]:
        """JSON schema of the plugin's own arguments (the host adds the image)."""
        return self.instance(name).Args.model_json_schema()

    def healthy_names(self) -> tuple[str, ...]:
        """Plugins that can be offered now; an import failure becomes a `Problem`."""
        healthy = []
        for name in self._entries:
            if not self.health(name).ok:
                continue
            try:
                self.instance(name)
            except PluginUnavailable as error:
                problem = Problem(f"`{name}`", f"{error.what}. {error.why}", error.fix)
                if problem not in self._problems:
                    self._problems.append(problem)
                continue
            healthy.append(name)
        return tuple(healthy)

    def options(self, name: str) -> dict[str, Any]:
        """Arguments that the settings give a plugin where a call does not name them."""
        return dict(self._options.get(name, {}))

    def check_options(self) -> None:
        """Compare the options of the settings with the plugins; imports those that are named.

        Raises:
            ConfigError: no such plugin or argument, or a value that it does not take.
        """
        for name, options in self._options.items():
            try:
                _validated(name, self.instance(name).Args, options)
            except PluginError as error:
                raise ConfigError(
                    f"`FOVEA_PLUGIN_OPTIONS` does not fit `{name}`",
                    where=", ".join(f"{name}.{key}={value}" for key, value in options.items()),
                    why=error.why or error.what,
                    fix=f"`fovea plugins info {name}` lists its arguments",
                ) from error

    def call(
        self,
        name: str,
        context: Context,
        arguments: Mapping[str, Any],
        *,
        timeout_s: float | None = None,
        stop: threading.Event | None = None,
    ) -> Generator[str, None, CallRecord]:
        """Run a plugin; yields its progress texts and returns the checked result.

        Raises:
            PluginUnavailable, BadArguments, NotApplicable: as the plugin says.
            ContractViolation: the result does not fit the manifest.
            PluginFailed: it crashed or ran out of time; the log has the details.
            Cancelled: `stop` was set.
        """
        entry = self.entry(name)
        health = self.health(name)
        if not health.ok:
            raise PluginUnavailable(name, health.reason, fix=health.fix)
        plugin = self.instance(name)
        args = _validated(name, plugin.Args, arguments)

        def work(report: Any, is_cancelled: Any) -> Result:
            self._load(entry, plugin)
            run_context = replace(context, report_progress=report, is_cancelled=is_cancelled)
            result = _run(name, plugin, run_context, args)
            check_result(entry.manifest, result, run_context)
            return result

        limit = timeout_s or entry.manifest.timeout_s
        started, clock = time.time(), time.perf_counter()
        try:
            result = yield from run_in_thread(work, timeout_s=limit, stop=stop or threading.Event())
        except (PluginError, Cancelled):
            raise
        except ArchiveError as error:  # it opened well and failed since: not the plugin's fault
            raise unavailable(name, error) from error
        except OutOfTime as error:
            entry.plugin, entry.loaded = None, False  # its thread may still hold the old object
            raise PluginFailed(
                name,
                f"It did not finish within {limit:g} seconds and was stopped",
                fix="Ask again, or raise `FOVEA_PLUGIN_TIMEOUT_S`",
            ) from error
        except (Exception, SystemExit) as error:  # a plugin that exits takes only itself along
            log_id = uuid.uuid4().hex[:8]
            log.exception("plugin %s failed, log id %s", name, log_id)
            raise PluginFailed(
                name,
                "It failed with an internal error",
                why=f"The details are in the log under id {log_id}",
                fix="The other tools still work; report the log entry to the plugin's author",
            ) from error
        seconds = time.perf_counter() - clock
        return CallRecord(result, seconds, started, dict(entry.weights_sha256))

    def load(self, name: str) -> Plugin[Any]:
        """The plugin with its weights verified and read, ready for direct use."""
        plugin = self.instance(name)
        self._load(self.entry(name), plugin)
        return plugin

    def unload(self, name: str) -> None:
        """Free what the plugin took; the next call loads it again."""
        entry = self.entry(name)
        with entry.lock:
            if entry.plugin is not None:
                entry.plugin.unload()
            entry.loaded = False

    def _load(self, entry: Entry, plugin: Plugin[Any]) -> None:
        with entry.lock:
            if entry.loaded and entry.plugin is plugin:
                return
            entry.weights_sha256 = verify_weights(entry)
            plugin.load("cpu" if entry.manifest.device == "cpu" else _best_device())
            entry.loaded = True


def unavailable(name: str, error: ArchiveError) -> PluginUnavailable:
    """What a failing archive means for the plugin that asks it; the others still work."""
    return PluginUnavailable(name, error.what, where=error.where, why=error.why, fix=error.fix)


def verify_weights(entry: Entry) -> dict[str, str]:
    """Digest of every weight file, equal to what the manifest pins.

    Raises:
        PluginUnavailable: a file is missing or was altered; there is no fallback.
    """
    digests = {}
    for weights in entry.manifest.weights:
        path = entry.folder / weights.file
        found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        if found != weights.sha256:
            raise PluginUnavailable(
                entry.manifest.name,
                f"The weight file `{weights.file}` is not the one this version was released with",
                why=f"Expected sha256 {weights.sha256[:12]}…, found {found[:12]}",
                fix="Reinstall the package, or put the file back from its release",
            )
        digests[weights.file] = found
    return digests


def _run(name: str, plugin: Plugin[Any], context: Context, args: BaseModel) -> Result:
    """The plugin's result; a part that the contract's own types refuse is its author's bug."""
    try:
        return plugin.run(context, args)
    except ValidationError as error:
        raise ContractViolation(
            name,
            f"It made a `{error.title}` that the contract does not allow",
            why=field_messages(error),
            fix="Where there is no value, return a NotMeasured with the reason",
        ) from error


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _validated(name: str, model: type[BaseModel], arguments: Mapping[str, Any]) -> BaseModel:
    try:
        return model.model_validate(dict(arguments))
    except ValidationError as error:
        raise BadArguments(
            name, "The arguments do not fit", why=field_messages(error), fix="Correct these fields"
        ) from error
