"""The one object behind page, command line and Python use.

Example:
    >>> from fovea import Assistant
    >>> assistant = Assistant()
    >>> answer = assistant.ask(["retina.jpg"], "What is the cup-to-disc ratio?")  # doctest: +SKIP
    >>> print(answer.text)  # doctest: +SKIP
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.archive import AnyArchive, open_archive
from fovea.errors import FoveaError, PluginError
from fovea.events import Answered, Called, CallStarted, Event, Notice, Refused, Stopped
from fovea.evidence import Evidence
from fovea.image import Eye
from fovea.knowledge import Knowledge, load
from fovea.registry import Registry
from fovea.runner import finished
from fovea.session import Session, SessionStore
from fovea.settings import Settings
from fovea.workbench import Workbench

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from fovea.report.model import History


@dataclass(frozen=True)
class Call:
    """One tool call of a turn, for people and for JSON."""

    tool: str
    arguments: dict[str, Any]
    status: str
    seconds: float
    evidence: str | None


@dataclass(frozen=True)
class Answer:
    """A checked answer with everything it rests on."""

    text: str
    calls: tuple[Call, ...]
    evidence: dict[str, Evidence]
    seconds: float
    complete: bool
    notices: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The JSON of `fovea ask --json`."""
        return {
            "answer": self.text,
            "calls": [call.__dict__ for call in self.calls],
            "evidence": {key: e.as_json() for key, e in self.evidence.items()},
            "seconds": round(self.seconds, 3),
            "notices": list(self.notices),
        }


@dataclass(frozen=True)
class Analysis:
    """Evidence of every tool that ran on one photograph, and why others did not."""

    session: Session
    evidence: dict[str, Evidence]
    refused: dict[str, PluginError]


class Assistant:
    """Opens photographs, answers questions, drafts reports.

    Args:
        settings: The defaults and `FOVEA_*` variables when omitted.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.from_environment()
        self.registry = Registry.discover(self.settings)
        self.registry.check_options()
        self.knowledge: Knowledge = load(
            self.settings.knowledge_dir, norms=self.settings.norms_in_use()
        )

    @cached_property
    def store(self) -> SessionStore:
        """Sessions of this installation."""
        return SessionStore(self.settings)

    @cached_property
    def archive(self) -> AnyArchive:
        """The case archive, created empty at first use."""
        return open_archive(self.settings)

    @cached_property
    def model(self) -> BaseChatModel:
        """The language model of the configured backend."""
        from fovea.llm.base import load_model

        return load_model(self.settings)

    def warm_up(self) -> None:
        """Load all weights in the background, so that no question waits for them."""
        from fovea.llm.assisted import AssistedModel

        def load_all() -> None:
            with contextlib.suppress(FoveaError):  # said when the model is asked
                if isinstance(self.model, AssistedModel):
                    _ = self.model.wrapped
            for name in self.registry.unasked_names():
                if self.registry.manifest(name).weights:
                    with contextlib.suppress(PluginError):  # said when the plugin is called
                        self.registry.load(name)

        threading.Thread(target=load_all, name="fovea-warm-up", daemon=True).start()

    def workbench(self, session: Session) -> Workbench:
        """The tools, applied to one session."""
        return Workbench(session, self.registry, self.knowledge, lambda: self.archive)

    def turn(self, session: Session, question: str) -> Iterator[Event]:
        """Answer one question in a session, as events."""
        from fovea.agent import answer_turn

        with session.turn():
            yield from answer_turn(question, self.workbench(session), self.model)

    def ask(
        self,
        images: Sequence[Path | str],
        question: str,
        *,
        eyes: Sequence[Eye | None] = (),
        session: Session | None = None,
    ) -> Answer:
        """Answer one question about some photographs.

        Args:
            images: Files to open; none when `session` has them already.
            question: In plain words.
            eyes: Which eye each photograph shows, where known.
            session: Continue this one; a new one that is deleted afterwards when omitted.

        Raises:
            ImageError: a file cannot be used.
        """
        own = session is None
        session = session or self.store.create()
        try:
            self._add(session, images, eyes)
            return collect(self.turn(session, question))
        finally:
            if own:
                self.store.delete(session.id)

    def analyse(
        self, image: Path | str, *, only: Sequence[str] = (), eye: Eye | None = None
    ) -> Analysis:
        """Run every tool for one photograph, or `only` some and what they need.

        The caller deletes the session when its artifacts have been copied.

        Raises:
            ImageError: the file cannot be used.
            PluginUnavailable: a tool in `only` does not exist.
        """
        for tool in only:
            self.registry.manifest(tool)
        session = self.store.create()
        try:
            self._add(session, [image], [eye])
        except FoveaError:
            self.store.delete(session.id)
            raise
        bench, refused = self.workbench(session), dict[str, PluginError]()
        for tool in only or self.registry.unasked_names():
            if self.registry.manifest(tool).inputs.images != 1:
                continue
            try:
                finished(bench.run(tool, {}, ("img1",)))
            except PluginError as error:
                refused[tool] = error
        return Analysis(session, dict(session.evidence), refused)

    def call(self, tool: str, image: Path | str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The JSON of one tool's evidence on one photograph, without a conversation.

        Raises:
            ImageError: the file cannot be used.
            PluginError: the tool cannot answer.
        """
        session = self.store.create()
        try:
            self._add(session, [image], [])
            return finished(self.workbench(session).run(tool, arguments, ("img1",))).as_json()
        finally:
            self.store.delete(session.id)

    def report(
        self,
        images: Sequence[Path | str],
        out: Path,
        *,
        eyes: Sequence[Eye | None] = (),
        history: History | None = None,
    ) -> Path:
        """Draft a report and write it in the format that the ending of `out` names.

        Args:
            images: Files to open.
            out: File to write.
            eyes: Which eye each photograph shows, where known.
            history: What was told about the person; some scales are for some people only.
        """
        from fovea.report.draft import draft_report
        from fovea.report.model import Report
        from fovea.report.views import Material, ending_of, write_report

        ending_of(out.name)
        if not out.parent.is_dir():  # said before the work, not after it
            raise FoveaError(
                f"The report cannot be written: there is no folder `{out.parent.name}`",
                where=out.name,
                fix="Create the folder first, or name a file elsewhere",
            )
        session = self.store.create()
        try:
            self._add(session, images, eyes)
            finished(draft_report(self.workbench(session), history))
            stored = session.folder / f"{session.reports[-1].id}.json"
            report = Report.model_validate_json(stored.read_text(encoding="utf-8"))
            photographs = {handle: session.photograph(handle) for handle in session.images}
            return write_report(Material(report, session.evidence, photographs), out)
        finally:
            self.store.delete(session.id)

    def _add(
        self, session: Session, images: Sequence[Path | str], eyes: Sequence[Eye | None]
    ) -> None:
        for index, image in enumerate(images):
            session.add_image(Path(image), eye=eyes[index] if index < len(eyes) else None)


def collect(events: Iterator[Event]) -> Answer:
    """All events of a turn as one answer."""
    clock = time.perf_counter()
    started: dict[str, CallStarted] = {}
    calls: list[Call] = []
    evidence: dict[str, Evidence] = {}
    notices: list[str] = []
    text, complete = "", False
    for event in events:
        if isinstance(event, Notice):
            notices.append(event.text)
        elif isinstance(event, CallStarted):
            started[event.call_id] = event
        elif isinstance(event, Called):
            begun = started[event.call_id]
            status = "reused" if event.reused else "ok"
            evidence[event.evidence.id] = event.evidence
            if begun.parent is None or not event.reused:
                calls.append(
                    Call(begun.tool, _arguments(begun), status, event.seconds, event.evidence.id)
                )
        elif isinstance(event, Refused):
            begun_or_none = started.get(event.call_id)
            arguments = _arguments(begun_or_none) if begun_or_none else {}
            calls.append(
                Call(event.tool, arguments, f"refused: {event.reason}", event.seconds, None)
            )
        elif isinstance(event, Answered | Stopped):
            text, complete = event.text, isinstance(event, Answered)
    seconds = time.perf_counter() - clock
    return Answer(text, tuple(calls), evidence, seconds, complete, tuple(notices))


def _arguments(started: CallStarted) -> dict[str, Any]:
    images = {"image": started.images[0]} if len(started.images) == 1 else {}
    if len(started.images) == 2:
        images = {"first": started.images[0], "second": started.images[1]}
    return {**started.arguments, **images}
