"""Run tools for one session: gate, prerequisites, reuse, evidence.

The only place that knows in which order plugins run. The agent, the command
line and the report all go through `Workbench.run`.
"""

from __future__ import annotations

import datetime
import platform
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fovea.contract import Context, EncoderPlugin, Result
from fovea.differences import measured_in, with_differences
from fovea.errors import (
    ArchiveError,
    BadArguments,
    FoveaError,
    NotAFundusPhotograph,
    NotApplicable,
    PluginError,
    PluginFailed,
    PluginUnavailable,
)
from fovea.events import Called, CallProgress, CallStarted, Event, Refused
from fovea.evidence import Evidence, Provenance, call_key
from fovea.image import Photograph
from fovea.knowledge import Knowledge
from fovea.knowledge.norms import made_by
from fovea.manifest import Manifest
from fovea.registry import CallRecord, Registry, unavailable
from fovea.runner import finished
from fovea.services import Archive
from fovea.session import Refusal, Session
from fovea.settings import Settings

GATE = "assess_quality"
EYE_CONFLICT = "eye_conflict"
SEED = 0

Run = Generator[Event, None, Evidence]


@dataclass
class Workbench:
    """Tools, applied to the photographs of one session."""

    session: Session
    registry: Registry
    knowledge: Knowledge
    open_archive: Callable[[], Archive]
    _calls: int = field(default=0, init=False)

    def run(
        self,
        tool: str,
        arguments: Mapping[str, Any],
        images: tuple[str, ...] = (),
        *,
        parent: str | None = None,
    ) -> Run:
        """Run one tool; yields events and returns its evidence.

        Quality is assessed first, missing prerequisites are run, and a call that was
        made before is answered from its evidence.

        Raises:
            PluginError: after a `Refused` event with the same message.
        """
        manifest = self.registry.manifest(tool)
        arguments = {**self.registry.options(tool), **arguments}
        key = call_key(tool, arguments, images)
        self._calls += 1
        call_id = f"c{self._calls}"
        yield CallStarted(
            call_id=call_id, tool=tool, title=manifest.title,
            arguments=dict(arguments), images=images, parent=parent,
        )  # fmt: skip
        clock = time.perf_counter()
        known = self.session.find_evidence(key)
        # The archive can have grown since: such an answer is made anew.
        if known is not None and "archive" not in manifest.inputs.services:
            yield Called(call_id=call_id, evidence=known, seconds=0.0, reused=True)
            return known
        try:
            before = self.session.refused.get(key)
            if before is not None:
                raise NotApplicable(tool, before.what, why=before.why, fix=before.fix)
            evidence = yield from self._guarded(manifest, arguments, images, call_id)
        except FoveaError as error:
            if isinstance(error, NotApplicable):
                self.session.refused[key] = Refusal(
                    tool=tool, what=error.what, why=error.why, fix=error.fix
                )
            yield Refused(
                call_id=call_id, tool=tool, error=error.code, reason=str(error),
                seconds=time.perf_counter() - clock,
            )  # fmt: skip
            raise
        seconds = time.perf_counter() - clock
        yield Called(call_id=call_id, evidence=evidence, seconds=seconds, reused=False)
        return evidence

    def _guarded(
        self,
        manifest: Manifest,
        arguments: Mapping[str, Any],
        images: tuple[str, ...],
        call_id: str,
    ) -> Run:
        try:
            return (yield from self._run_now(manifest, arguments, images, call_id))
        except OSError as error:  # the host's own files; a plugin's are caught by the registry
            raise PluginFailed(
                manifest.name, "Its result could not be stored",
                why=error.strerror or type(error).__name__,
                fix="Free some disk space, or set `FOVEA_DATA_DIR` to a folder that is writable",
            ) from error  # fmt: skip

    def _run_now(
        self,
        manifest: Manifest,
        arguments: Mapping[str, Any],
        images: tuple[str, ...],
        call_id: str,
    ) -> Run:
        if len(images) != manifest.inputs.images:
            raise BadArguments(
                manifest.name,
                f"It needs {manifest.inputs.images} image(s) and was given {len(images)}",
                fix="Name the image handles of this session",
            )
        photographs = tuple(self.session.photograph(handle) for handle in images)
        for photograph in photographs:
            if photograph.width < manifest.inputs.min_width_px:
                raise NotApplicable(
                    manifest.name,
                    f"{photograph.handle} is {photograph.width} pixels wide",
                    why=f"At least {manifest.inputs.min_width_px} are needed",
                    fix="Use the original photograph",
                )
        earlier = []
        for handle in images:
            earlier.append((yield from self._prepare(manifest, handle, call_id)))
        context = Context(
            images=photographs,
            work_dir=self.session.work_dir(),
            earlier={name: e.result for name, e in earlier[0].items()} if earlier else {},
            earlier_second=(
                {name: e.result for name, e in earlier[1].items()} if len(earlier) > 1 else {}
            ),
            knowledge=self.knowledge if "knowledge" in manifest.inputs.services else None,
            archive=self._archive(manifest),
        )
        if manifest.inputs.needs_scale and context.scale is None:
            raise NotApplicable(
                manifest.name,
                "The pixel scale of the image is unknown",
                why="It is not in the file, and disc and fovea were not both found",
                fix="Use a DICOM file with pixel spacing, or a macula-centred photograph",
            )
        calling = self.registry.call(
            manifest.name, context, arguments,
            timeout_s=self.session.settings.plugin_timeout_s, stop=self.session.stop,
        )  # fmt: skip
        record = yield from _as_progress(calling, call_id)
        used = sorted({e.id for found in earlier for e in found.values()}, key=lambda i: int(i[1:]))
        return self._keep(manifest, arguments, images, record, used=tuple(used), earlier=earlier)

    def _archive(self, manifest: Manifest) -> Archive | None:
        """The case archive for a plugin that asks for it; a damaged one bars that plugin only."""
        if "archive" not in manifest.inputs.services:
            return None
        try:
            return self.open_archive()
        except ArchiveError as error:
            raise unavailable(manifest.name, error) from error

    def _prepare(
        self, manifest: Manifest, handle: str, call_id: str
    ) -> Generator[Event, None, dict[str, Evidence]]:
        """Evidence by output name: quality gate first, then what the plugin needs and uses."""
        found: dict[str, Evidence] = {}
        if manifest.name != GATE and GATE in self.registry.names():
            quality = yield from self.run(GATE, {}, (handle,), parent=call_id)
            found.update(_outputs(self.registry.manifest(GATE), quality))
            if manifest.inputs.modality == "fundus_photograph":
                _gate(manifest, handle, quality.result)
        for name in (*manifest.inputs.needs, *manifest.inputs.uses):
            if name in found:
                continue
            provider = self.registry.provider(name)
            try:
                if provider is None or provider == manifest.name:
                    raise NotApplicable(manifest.name, f"No installed plugin gives `{name}`")
                evidence = yield from self.run(provider, {}, (handle,), parent=call_id)
            except PluginError as error:
                if name in manifest.inputs.needs:
                    # Only a definite refusal is definite here too: a failure may be tried again.
                    kind = NotApplicable if isinstance(error, NotApplicable) else PluginFailed
                    raise kind(
                        manifest.name, f"It needs `{name}`, which could not be had", why=str(error)
                    ) from error
                continue
            found.update(_outputs(self.registry.manifest(provider), evidence))
        for name in manifest.inputs.reuses:
            provider = self.registry.provider(name)
            if provider is None:
                continue
            known = self.session.find_evidence(call_key(provider, {}, (handle,)))
            if known is not None:
                found.update(_outputs(self.registry.manifest(provider), known))
        return found

    def _keep(
        self,
        manifest: Manifest,
        arguments: Mapping[str, Any],
        images: tuple[str, ...],
        record: CallRecord,
        *,
        used: tuple[str, ...],
        earlier: Sequence[Mapping[str, Evidence]],
    ) -> Evidence:
        records = [self.session.images[handle] for handle in images]
        inputs = self._inputs(manifest, earlier)
        by = made_by(manifest.name, manifest.version, inputs)
        result = _with_conflicts(record.result, earlier)
        if result.similar and "archive" in manifest.inputs.services:
            own = measured_in(self.session.evidence.values(), images[0])
            try:
                result = with_differences(result, own, self.open_archive())
            except ArchiveError as error:
                raise unavailable(manifest.name, error) from error
        evidence = Evidence(
            id=self.session.next_evidence_id(),
            tool=manifest.name,
            images=images,
            result=self.knowledge.with_cohort(result, by),
            provenance=Provenance(
                plugin=manifest.name,
                plugin_version=manifest.version,
                weights_sha256=record.weights_sha256,
                image_sha256=tuple(r.sha256 for r in records),
                arguments=dict(arguments),
                preprocessing=tuple(note for r in records for note in r.notes),
                used=used,
                inputs=inputs,
                seed=SEED,
                started=datetime.datetime.fromtimestamp(record.started, datetime.UTC).isoformat(
                    timespec="seconds"
                ),
                seconds=round(record.seconds, 4),
                libraries=_libraries(),
            ),
        )
        self.session.evidence[evidence.id] = evidence
        return evidence

    def _inputs(
        self, manifest: Manifest, earlier: Sequence[Mapping[str, Evidence]]
    ) -> dict[str, str]:
        """Versions of what it needs and uses: not of what happened to be there already."""
        names = (*manifest.inputs.needs, *manifest.inputs.uses)
        lasting = {GATE, *(self.registry.provider(name) for name in names)}
        given = {e.tool: e for outputs in earlier for e in outputs.values()}
        return {
            tool: evidence.provenance.plugin_version
            for tool, evidence in sorted(given.items())
            if tool in lasting
        }


def load_encoder(
    settings: Settings, tool: str
) -> tuple[EncoderPlugin[Any], Callable[[Photograph], None]]:
    """The encoder of the archive, loaded, and what refuses pictures that are no retina.

    Raises:
        PluginUnavailable: the tool cannot embed photographs.
    """
    registry = Registry.discover(settings)
    encoder = registry.load(tool)
    if not isinstance(encoder, EncoderPlugin):
        raise PluginUnavailable(tool, "It cannot embed photographs", fix="Derive EncoderPlugin")
    return encoder, lambda photograph: require_fundus(photograph, registry)


def require_fundus(photograph: Photograph, registry: Registry) -> None:
    """Refuse a picture that the quality gate does not take for a retinal photograph.

    Raises:
        NotAFundusPhotograph: with the reason of the gate.
    """
    if GATE not in registry.names():
        return
    with tempfile.TemporaryDirectory(prefix="fovea-gate-") as folder:
        context = Context(images=(photograph,), work_dir=Path(folder))
        result = finished(registry.call(GATE, context, {})).result
    finding = result.finding("fundus_photograph")
    if finding is not None and finding.state != "present":
        raise NotAFundusPhotograph(
            "It does not look like a retinal photograph", where=photograph.handle,
            why=finding.detail, fix="Leave it out, or give the fundus photograph itself",
        )  # fmt: skip


def _gate(manifest: Manifest, handle: str, quality: Result) -> None:
    """Refuse what the quality gate forbids this plugin to claim."""
    fundus = quality.finding("fundus_photograph")
    if fundus is not None and fundus.state != "present":
        what = "shows nothing" if fundus.state == "indeterminate" else (
            "does not look like a retinal photograph"
        )  # fmt: skip
        raise NotApplicable(
            manifest.name,
            f"{handle} {what}",
            why=fundus.detail,
            fix="Give a colour or red-free fundus photograph",
        )
    for structure in manifest.inputs.needs_gradable:
        finding = quality.finding(f"gradable_{structure}")
        if finding is not None and finding.state != "present":
            raise NotApplicable(
                manifest.name,
                f"The {structure} of {handle} cannot be assessed",
                why=finding.detail,
                fix="Retake the photograph",
            )


def _with_conflicts(result: Result, earlier: Sequence[Mapping[str, Evidence]]) -> Result:
    """The result with the gate's doubt about the eye, which whatever names the eye inherits."""
    found = {
        caveat.text: caveat
        for outputs in earlier
        for evidence in outputs.values()
        for caveat in evidence.result.caveats
        if caveat.code == EYE_CONFLICT
    }
    return result.model_copy(update={"caveats": (*found.values(), *result.caveats)})


def _outputs(manifest: Manifest, evidence: Evidence) -> dict[str, Evidence]:
    return {output.name: evidence for output in manifest.outputs}


def _as_progress(
    calling: Generator[str, None, CallRecord], call_id: str
) -> Generator[Event, None, CallRecord]:
    while True:
        try:
            text = next(calling)
        except StopIteration as stopped:
            record: CallRecord = stopped.value
            return record
        yield CallProgress(call_id=call_id, text=text)


def _libraries() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("fovea-assistant", "numpy", "opencv-python-headless", "scikit-image", "torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
