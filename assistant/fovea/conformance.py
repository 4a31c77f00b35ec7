"""Whether a plugin folder keeps the contract: static rules, then two runs."""

from __future__ import annotations

import ast
import hashlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from fovea.contract import EVERY_CASE, CaseFilter, Context, Result
from fovea.discovery import LOCAL_PACKAGE, Entry
from fovea.errors import FoveaError, KnowledgeError, NotApplicable, PluginError
from fovea.image import Eye
from fovea.llm.base import minimal_value
from fovea.manifest import Manifest, ManifestError, read_manifest
from fovea.registry import Registry
from fovea.runner import finished
from fovea.services import Case, KnowledgeBase, Measured
from fovea.settings import Settings
from fovea.synthetic import synthetic_fundus, synthetic_photograph

ALLOWED_IMPORTS = frozenset({"fovea.contract", "fovea.errors", "fovea.image", "fovea.scale"})
_HOST_ARGUMENTS = frozenset({"image", "first", "second"})
_FORBIDDEN_WORDS = frozenset(
    {"path", "file", "filename", "folder", "directory", "dir", "device", "url"}
)


def check_plugin(folder: Path) -> list[str]:
    """What is wrong with the plugin in `folder`; empty when it conforms.

    The plugin is run twice on a drawn picture. A plugin that says it does not
    apply to a drawn picture conforms.

    Args:
        folder: Contains `plugin.toml` and the module that it names.
    """
    try:
        manifest = read_manifest(folder / "plugin.toml")
    except ManifestError as error:
        return [str(error)]
    problems = list(_import_problems(folder))
    package = (
        f"{LOCAL_PACKAGE}.check_{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"
    )
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]  # the author may have edited it since the last check
    registry = Registry({manifest.name: Entry(manifest, folder, package, str(folder.name))}, ())
    health = registry.health(manifest.name)
    if not health.ok:
        return [*problems, f"{health.reason}: {health.fix}"]
    try:
        arguments = registry.instance(manifest.name).Args
    except PluginError as error:
        return [*problems, str(error)]
    problems += _argument_problems(arguments)
    with tempfile.TemporaryDirectory(prefix="fovea-check-") as work:
        try:
            problems += _run_problems(registry, manifest, arguments, Path(work))
        except FoveaError as error:
            problems.append(str(error))
    registry.unload(manifest.name)
    return problems


def _import_problems(folder: Path) -> Iterator[str]:
    for source in sorted(folder.rglob("*.py")):
        try:
            tree = ast.parse(source.read_text(encoding="utf-8"))
        except SyntaxError as error:
            yield f"`{source.name}` line {error.lineno}: not valid Python"
            continue
        for node in ast.walk(tree):
            for name in _imported(node):
                if name.partition(".")[0] == "fovea" and name not in ALLOWED_IMPORTS:
                    yield (
                        f"`{source.name}` line {getattr(node, 'lineno', 0)}: imports `{name}`; "
                        f"plugins import only {', '.join(sorted(ALLOWED_IMPORTS))}"
                    )


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
        if node.module == "fovea":
            return [f"fovea.{alias.name}" for alias in node.names]
        return [node.module]
    return []


def _argument_problems(arguments: type[BaseModel]) -> Iterator[str]:
    if arguments.model_config.get("extra") != "forbid":
        yield '`Args` must forbid unknown fields: `model_config = ConfigDict(extra="forbid")`'
    for name, field in arguments.model_fields.items():
        if not (field.description or "").strip():
            yield f"`Args.{name}` has no description; the LLM chooses by it"
        if name in _HOST_ARGUMENTS:
            yield f"`Args.{name}` is an argument that the host adds; rename it"
        if _FORBIDDEN_WORDS & set(name.lower().split("_")) or "Path" in str(field.annotation):
            yield f"`Args.{name}` looks like a path, address or device; those are the host's"


def _run_problems(
    registry: Registry, manifest: Manifest, arguments: type[BaseModel], work: Path
) -> list[str]:
    schema = arguments.model_json_schema()
    values = minimal_value({**schema, "type": "object"}, schema, text="cup-to-disc ratio")
    context = _context(manifest, work)
    prints = []
    for attempt in ("first", "second"):
        own = work / attempt
        own.mkdir()
        # A generator has a state: each run gets one in the same state.
        fresh = replace(context, work_dir=own, rng=np.random.default_rng(0))
        try:
            result = finished(registry.call(manifest.name, fresh, values)).result
        except NotApplicable:
            return []
        prints.append(_fingerprint(result))
    if manifest.deterministic and prints[0] != prints[1]:
        return ["It is declared deterministic, but two runs on one picture differ"]
    return []


def _fingerprint(result: Result) -> str:
    """The result as text, files by content and not by place."""
    content = result.model_dump(mode="json")
    for artifact, plain in zip(result.artifacts, content["artifacts"], strict=True):
        plain["path"] = hashlib.sha256(artifact.path.read_bytes()).hexdigest()
    return repr(content)


def _context(manifest: Manifest, work: Path) -> Context:
    eyes: tuple[Eye, Eye] = ("OD", "OS")
    images = tuple(
        synthetic_photograph(f"img{number}", fundus=synthetic_fundus(eye=eye))
        for number, eye in enumerate(eyes[: manifest.inputs.images], 1)
    )
    context = Context(
        images=images,
        work_dir=work,
        knowledge=_knowledge() if "knowledge" in manifest.inputs.services else None,
        archive=_EmptyArchive() if "archive" in manifest.inputs.services else None,
    )
    wanted = (*manifest.inputs.needs, *manifest.inputs.uses)
    if not wanted:
        return context
    others = Registry.discover(Settings())
    earlier = _Earlier(others, work)
    first = {name: r for name in wanted if (r := earlier.result(name, images[:1]))}
    second = {name: r for name in wanted if (r := earlier.result(name, images[1:]))}
    for name in manifest.inputs.needs:
        if name not in first:
            raise NotApplicable(
                manifest.name,
                f"It needs `{name}`, which no installed plugin gives for a drawn picture",
                fix="Install the plugin that declares it",
            )
    return replace(context, earlier=first, earlier_second=second)


class _Earlier:
    """Results of the plugins that another one builds on, each run once per picture."""

    def __init__(self, registry: Registry, work: Path) -> None:
        self.registry, self.work = registry, work
        self.known: dict[tuple[str, str], Result | None] = {}

    def result(self, output: str, images: tuple[Any, ...]) -> Result | None:
        provider = self.registry.provider(output)
        if provider is None or not images:
            return None
        key = (provider, images[0].handle)
        if key not in self.known:
            self.known[key] = None  # a circle of needs ends here
            self.known[key] = self._run(provider, images[:1])
        return self.known[key]

    def _run(self, provider: str, images: tuple[Any, ...]) -> Result | None:
        inputs = self.registry.manifest(provider).inputs
        found = {n: self.result(n, images) for n in (*inputs.needs, *inputs.uses)}
        own = self.work / f"{provider}_{images[0].handle}"
        own.mkdir()
        context = Context(
            images=images, work_dir=own, earlier={n: r for n, r in found.items() if r}
        )
        try:
            return finished(self.registry.call(provider, context, {})).result
        except PluginError:
            return None


class _EmptyArchive:
    """An archive without cases."""

    def encoders(self) -> dict[str, int]:
        return {}

    def count(self, encoder_id: str) -> int:
        return 0

    def search(
        self,
        encoder_id: str,
        vector: np.ndarray[Any, np.dtype[np.float32]],
        k: int,
        *,
        exclude_sha256: str,
        wanted: CaseFilter = EVERY_CASE,
    ) -> list[Case]:
        return []

    def measured(self, case_id: str) -> tuple[Measured, ...]:
        return ()

    def random_pair_distances(self, encoder_id: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        return np.empty(0, np.float32)


def _knowledge() -> KnowledgeBase | None:
    from fovea.knowledge import load

    try:
        return load()
    except KnowledgeError:
        return None
