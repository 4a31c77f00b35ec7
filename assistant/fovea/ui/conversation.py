"""What the page does when something is pressed: turns into updates of the page.

One object serves everybody, so nothing about a person is kept on it: each call
is given the session id that gradio keeps for that browser tab.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from fovea.contract import Passage
from fovea.errors import (
    Cancelled,
    ConfigError,
    FoveaError,
    KnowledgeError,
    SessionError,
)
from fovea.events import Called, Event, ReportDrafted
from fovea.image import Eye
from fovea.samples import SAMPLE_CREDIT, sample_photograph
from fovea.session import Message, Session
from fovea.ui.evidence import (
    DOWNLOADS,
    compared_pictures,
    evidence_panel,
    plugins_panel,
    report_downloads,
)
from fovea.ui.render import ChatMessage, Transcript, cited_entries, explain, safe_markdown
from fovea.ui.viewer import scene

if TYPE_CHECKING:
    from fovea.assistant import Assistant

log = logging.getLogger(__name__)

Update = dict[Any, Any]
"""New values by component; what is not named stays as it is."""

UNKNOWN_EYE = "Unknown"
EYES: dict[str, Eye | None] = {"OD (right)": "OD", "OS (left)": "OS", UNKNOWN_EYE: None}
WHAT_CAN_BE_ASKED = (
    "Ask anything about it, for example its quality, the optic disc and cup, the vessels, or "
    "whether something on it is known to the knowledge base. *Draft report* writes everything up."
)


@dataclass(frozen=True)
class Panels:
    """The components that change."""

    session_id: gr.State
    chat: gr.Chatbot
    box: gr.MultimodalTextbox
    eye: gr.Radio
    stop: gr.Button
    starters: tuple[gr.Button, ...]
    tabs: gr.Tabs
    viewer: gr.HTML
    evidence: gr.HTML
    report: gr.Markdown
    downloads: gr.HTML
    plugins: gr.HTML

    def all(self) -> list[Any]:
        """Every component, as the outputs of an event."""
        single = [value for value in vars(self).values() if not isinstance(value, tuple)]
        return [*single, *self.starters]


class Conversation:
    """Handlers of the page for one assistant."""

    def __init__(self, assistant: Assistant, panels: Panels) -> None:
        self._assistant, self._panels = assistant, panels

    def submit(
        self,
        session_id: str | None,
        history: list[ChatMessage],
        written: dict[str, Any] | None,
        eye: str,
    ) -> Iterator[Update]:
        """Take the photographs of a message, then answer its question."""
        text = str((written or {}).get("text") or "").strip()
        files = [Path(file) for file in (written or {}).get("files") or ()]
        yield from self._turn(session_id, history, text, files, EYES.get(eye))

    def example(self, question: str) -> Callable[[str | None, list[ChatMessage]], Iterator[Update]]:
        """A handler that asks this question."""

        def handler(session_id: str | None, history: list[ChatMessage]) -> Iterator[Update]:
            yield from self._turn(session_id, history, question, [], None)

        return handler

    def sample(self, session_id: str | None, history: list[ChatMessage]) -> Iterator[Update]:
        """Take the sample photograph."""
        chat = Transcript(history)
        session, notes = self._session(session_id, history)
        yield {self._panels.session_id: session.id, **self._busy()}
        path = sample_photograph(session.folder)
        try:
            record = session.add_image(path)
        except FoveaError as error:
            chat.say(explain(error))
            yield {self._panels.chat: chat.messages}
            return
        finally:
            path.unlink()
        session.save()
        chat.ask("", [f"sample, {record.handle}"])
        for note in notes:
            chat.say(note)
        chat.say(
            f"This is a sample photograph of a normal retina, `{record.handle}` "
            f"({SAMPLE_CREDIT}). {WHAT_CAN_BE_ASKED}"
        )
        yield {self._panels.chat: chat.messages, self._panels.viewer: scene(session)}

    def draft(self, session_id: str | None, history: list[ChatMessage]) -> Iterator[Update]:
        """Draft a report over all photographs of the session."""
        from fovea.report.draft import draft_report

        chat = Transcript(history)
        session, notes = self._session(session_id, history)
        chat.ask("Draft a report.")
        for note in notes:
            chat.say(note)
        panels = self._panels
        yield {panels.session_id: session.id, panels.chat: chat.messages, **self._busy()}
        if not session.images:
            chat.say("There is no photograph to report on. Add one, or try the sample photograph.")
            yield {panels.chat: chat.messages}
            return
        said = ""
        try:
            with session.turn():
                session.messages.append(Message(role="user", content="Draft a report."))
                yield from self._show(
                    draft_report(self._assistant.workbench(session)), chat, session
                )
                said = f"Report {session.reports[-1].id} is drafted. Read it before you use it."
                session.messages.append(Message(role="assistant", content=said))
        except Cancelled:
            said = "Stopped. What was measured so far is kept."
        except FoveaError as error:
            said = explain(error)
        chat.settle()
        chat.say(said)
        yield {panels.chat: chat.messages, **self._results(session)}

    def stop(self, session_id: str | None) -> None:
        """End the running turn of this session."""
        if session_id:
            try:
                self._assistant.store.get(session_id).stop.set()
            except SessionError:
                log.info("stop was pressed for a session that is gone")

    def plugins(self) -> str:
        """HTML of the accordion that lists plugins and their problems."""
        registry = self._assistant.registry
        manifests = [registry.manifest(n) for n in registry.names() if registry.health(n).ok]
        return plugins_panel(
            [(m.title, m.name, m.version) for m in manifests],
            [(p.where, p.what, p.fix) for p in registry.problems],
        )

    def idle(self) -> Update:
        """The page as it is while nothing runs."""
        return {
            self._panels.box: gr.update(interactive=True),
            self._panels.stop: gr.update(interactive=False),
            self._panels.plugins: self.plugins(),
            **{button: gr.update(interactive=True) for button in self._panels.starters},
        }

    def failed(self, history: list[ChatMessage]) -> Update:
        """The page after an error that nobody expected; gradio has logged it."""
        chat = Transcript(history)
        chat.say(
            "Something went wrong inside Fovea; the details are in its log. What was measured so "
            "far is kept.\n\n**What you can do:** Ask again, or run `fovea doctor`."
        )
        return {self._panels.chat: chat.messages, **self.idle()}

    def _turn(
        self,
        session_id: str | None,
        history: list[ChatMessage],
        question: str,
        files: Sequence[Path],
        eye: Eye | None,
    ) -> Iterator[Update]:
        chat = Transcript(history)
        session, notes = self._session(session_id, history)
        panels = self._panels
        yield {panels.session_id: session.id, **self._busy()}
        added, refused = _take(session, files, eye)
        if question or added:
            chat.ask(question, added)
        for note in [*notes, *refused]:
            chat.say(note)
        first: Update = {panels.chat: chat.messages}
        if added:
            # The next photograph can be of the other eye: a label must not stay behind.
            first |= {panels.viewer: scene(session), panels.eye: UNKNOWN_EYE}
        if not question:
            if added:
                chat.say(f"I have {safe_markdown(', '.join(added))}. {WHAT_CAN_BE_ASKED}")
            elif not refused:
                chat.say(f"Write a question or add a photograph. {WHAT_CAN_BE_ASKED}")
        yield first
        if not question:
            return
        try:
            yield from self._show(self._assistant.turn(session, question), chat, session)
        except FoveaError as error:
            chat.settle()
            chat.say(explain(error))
        yield {panels.chat: chat.messages, **self._results(session)}

    def _show(
        self, events: Iterator[Event], chat: Transcript, session: Session
    ) -> Iterator[Update]:
        for event in events:
            chat.apply(event)
            update: Update = {self._panels.chat: chat.messages}
            if isinstance(event, Called) and not event.reused:
                update[self._panels.evidence] = self._evidence(session)
                if event.evidence.result.artifacts and event.evidence.images:
                    update[self._panels.viewer] = scene(session, current=event.evidence.images[0])
            elif isinstance(event, ReportDrafted):
                update |= self.show_report(session)
                update[self._panels.tabs] = gr.update(selected="report")
            yield update

    def _results(self, session: Session) -> Update:
        last = next((e for e in reversed(session.evidence.values()) if e.images), None)
        current = last.images[0] if last else None
        return {
            self._panels.viewer: scene(session, current=current),
            self._panels.evidence: self._evidence(session),
        }

    def _evidence(self, session: Session) -> str:
        registry = self._assistant.registry
        manifests = {name: registry.manifest(name) for name in registry.names()}
        return evidence_panel(
            session.evidence.values(), session.images, manifests,
            self._cited_knowledge(session),
            compared_pictures(session, lambda case_id: self._assistant.archive.thumbnail(case_id)),
        )  # fmt: skip

    def _cited_knowledge(self, session: Session) -> dict[str, Sequence[Passage]]:
        """Statements of the entries that an answer or the last report cites."""
        texts = [message.content for message in session.messages if message.role == "assistant"]
        if session.reports:
            texts.append(_report_text(session, "md"))
        found: dict[str, Sequence[Passage]] = {}
        for entry_id in cited_entries("\n".join(texts)):
            try:
                found[entry_id] = self._assistant.knowledge.passages(entry_id)
            except KnowledgeError:
                log.info("an answer cites an entry that the knowledge base does not have")
        return found

    def show_report(self, session: Session) -> Update:
        """The last report of a session, and its downloads."""
        report_id = session.reports[-1].id
        files = _report_files(session)
        return {
            self._panels.report: safe_markdown(files[".md"].decode()),
            self._panels.downloads: report_downloads(report_id, files),
        }

    def _session(
        self, session_id: str | None, history: list[ChatMessage]
    ) -> tuple[Session, list[str]]:
        """The session of this tab, or a new one with a word about why."""
        store = self._assistant.store
        if session_id:
            try:
                return store.get(session_id), []
            except SessionError as error:
                log.info("session %s cannot be reopened: %s", session_id[:8], error)
        lost = "The earlier session has ended, and its photographs were deleted. Add them again."
        return store.create(), [lost] if session_id or history else []

    def _busy(self) -> Update:
        return {
            self._panels.box: gr.update(interactive=False, value={"text": "", "files": []}),
            self._panels.stop: gr.update(interactive=True),
            **{button: gr.update(interactive=False) for button in self._panels.starters},
        }


def forget(assistant: Assistant, session_id: str | None) -> None:
    """Delete a session whose browser tab is gone or whose time is over."""
    if session_id:
        assistant.store.delete(session_id)


def _report_text(session: Session, ending: str) -> str:
    path = session.folder / f"{session.reports[-1].id}.{ending}"
    return path.read_text(encoding="utf-8")


def _report_files(session: Session) -> dict[str, bytes]:
    """The last report in every format of the page whose library is installed."""
    from fovea.report.model import Report
    from fovea.report.views import Material, report_files

    report = Report.model_validate_json(_report_text(session, "json"))
    photographs = {handle: session.photograph(handle) for handle in session.images}
    material = Material(report, session.evidence, photographs)
    files: dict[str, bytes] = {}
    for ending in DOWNLOADS:
        try:
            files[ending] = report_files(material, ending)[""]
        except ConfigError as error:
            log.info("no download: %s", error)
    return files


def _take(session: Session, files: Sequence[Path], eye: Eye | None) -> tuple[list[str], list[str]]:
    """Take uploads into the session; returns what was added and what to say about the rest.

    Gradio's own copies are removed either way: they carry the names of the files.
    """
    added, refused = [], []
    for index, file in enumerate(files, start=1):
        known = set(session.images)
        try:
            record = session.add_image(file, eye=eye)
        except FoveaError as error:
            which = f"File {index} of {len(files)}" if len(files) > 1 else "The file"
            kind = f" ({file.suffix.lower()})" if file.suffix else ""
            refused.append(f"**{which}{safe_markdown(kind)} was not taken.** {explain(error)}")
        else:
            again = " (already there)" if record.handle in known else ""
            eye_text = f", {record.eye}" if record.eye else ""
            added.append(f"{record.handle}{eye_text}, {record.width} × {record.height} px{again}")
        finally:
            _discard(file)
    session.save()
    return added, refused


def _discard(upload: Path) -> None:
    upload.unlink(missing_ok=True)
    if upload.parent.is_dir() and not any(upload.parent.iterdir()):
        upload.parent.rmdir()
