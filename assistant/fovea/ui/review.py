"""The page's part for a reviewer: change a sentence, see what changed, sign."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from fovea.errors import FoveaError, SessionError
from fovea.report.check import check_text
from fovea.report.model import Report
from fovea.report.render import render_json, render_markdown
from fovea.report.review import FIXED, changes, difference, edit, place, sign, texts
from fovea.session import Session
from fovea.ui.conversation import Conversation, Update
from fovea.ui.render import explain, safe_markdown

if TYPE_CHECKING:
    from fovea.assistant import Assistant

NOTHING = "Nothing differs from the draft."
_SHORT = 90


@dataclass(frozen=True)
class ReviewControls:
    """What a reviewer presses and fills in."""

    sentence: gr.Dropdown
    words: gr.Textbox
    name: gr.Textbox
    save: gr.Button
    sign: gr.Button
    said: gr.Markdown


def build_review() -> ReviewControls:
    """The controls, closed until somebody reviews."""
    with gr.Accordion("Review and sign", open=False, elem_id="fovea-review"):
        name = gr.Textbox(label="Your name", max_lines=1, max_length=120, elem_id="fovea-reviewer")
        sentence = gr.Dropdown(
            [], label="Sentence", elem_id="fovea-review-sentence", filterable=True
        )
        words = gr.Textbox(
            label="What it should say; empty takes it out",
            lines=3,
            max_length=2000,
            elem_id="fovea-review-words",
        )
        with gr.Row():
            save = gr.Button("Save the change", elem_id="fovea-review-save", size="md")
            signed = gr.Button("Sign the report", elem_id="fovea-review-sign", size="md")
        said = gr.Markdown("", elem_id="fovea-review-said", sanitize_html=True)
    return ReviewControls(sentence, words, name, save, signed, said)


class Reviewing:
    """Handlers of the review controls. Like `Conversation`, it keeps nothing about a person."""

    def __init__(
        self, assistant: Assistant, conversation: Conversation, controls: ReviewControls
    ) -> None:
        self._assistant, self._conversation = assistant, conversation
        self._controls = controls

    def wire(self, session_id: gr.State, report: gr.Markdown, downloads: gr.HTML) -> None:
        """Tie the controls to the handlers."""
        own = self._controls
        options: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        outputs = [own.sentence, own.words, own.said, report, downloads]
        offered = [own.sentence, own.words, own.said]
        report.change(self.offer, [session_id, own.said], offered, **options)
        own.sentence.input(self.choose, [session_id, own.sentence], [own.words], **options)
        given = [session_id, own.sentence, own.words, own.name]
        own.save.click(self.save, given, outputs, **options)
        own.sign.click(self.sign, [session_id, own.name], outputs, **options)

    def offer(self, session_id: str | None, said: str) -> Update:
        """The sentences of the last report, and what differs from its draft.

        What was said of the same state stays: a warning must not go when the report is shown.
        """
        own, session = self._controls, self._session(session_id)
        report = _last(session) if session else None
        choices = list(_choices(report)) if report else []
        told = _told(report) if report else ""
        return {
            own.sentence: gr.update(choices=choices, value=None),
            own.words: "",
            own.said: said if told and said.endswith(told) else told,
        }

    def choose(self, session_id: str | None, chosen: str | None) -> str:
        """The words of a sentence as they stand now."""
        session = self._session(session_id)
        report = _last(session) if session else None
        if report is None or not chosen:
            return ""
        number, index = place(chosen)
        part = next(section for section in report.sections if section.number == number)
        now = texts(report, part)
        return now[index - 1] if index <= len(now) else ""

    def save(self, session_id: str | None, chosen: str | None, words: str, name: str) -> Update:
        """Keep a change; says so when the evidence does not support the new words."""
        session = self._session(session_id)
        report = _last(session) if session else None
        if session is None or report is None or not chosen:
            return {self._controls.said: "Draft a report and choose a sentence first."}
        try:
            changed = edit(report, *place(chosen), words, by=name)
        except FoveaError as error:
            return {self._controls.said: explain(error)}
        doubts = check_text(
            words, list(session.evidence.values()), self._assistant.knowledge,
            images=list(session.images.values()),
        ).struck  # fmt: skip
        note = "".join(f"\n\nNot backed by the evidence: {d.reason}." for d in doubts)
        return self._kept(session, changed, "The change is kept." + note)

    def sign(self, session_id: str | None, name: str) -> Update:
        """Sign the last report as it stands."""
        session = self._session(session_id)
        report = _last(session) if session else None
        if session is None or report is None:
            return {self._controls.said: "Draft a report first."}
        try:
            signed = sign(report, by=name)
        except FoveaError as error:
            return {self._controls.said: explain(error)}
        return self._kept(session, signed, "The report is signed.")

    def _kept(self, session: Session, report: Report, said: str) -> Update:
        path = session.folder / f"{session.reports[-1].id}.json"
        path.write_text(render_json(report), encoding="utf-8")
        path.with_suffix(".md").write_text(render_markdown(report), encoding="utf-8")
        own = self._controls
        return {
            own.sentence: gr.update(choices=list(_choices(report)), value=None),
            own.words: "",
            own.said: f"{safe_markdown(said)}\n\n{_told(report)}",
            **self._conversation.show_report(session),
        }

    def _session(self, session_id: str | None) -> Session | None:
        try:
            return self._assistant.store.get(session_id) if session_id else None
        except SessionError:
            return None


def _last(session: Session) -> Report | None:
    if not session.reports:
        return None
    path = session.folder / f"{session.reports[-1].id}.json"
    return Report.model_validate_json(path.read_text(encoding="utf-8"))


def _choices(report: Report) -> Iterator[tuple[str, str]]:
    """Every sentence, and a place to add one to each section, as (words, place)."""
    for section in report.sections:
        if section.key in FIXED:
            continue
        now = texts(report, section)
        for index, text in enumerate(now, start=1):
            where = f"{section.number}.{index}"
            yield f"{where} {text[:_SHORT] or '(taken out)'}", where
        where = f"{section.number}.{len(now) + 1}"
        yield f"{where} (add to {section.title})", where


def _told(report: Report) -> str:
    """State and changes in Markdown."""
    lines = [f"- {c.place} ({c.by}): {difference(c)}" for c in changes(report)]
    return safe_markdown("\n".join([f"**{report.label}**", "", *(lines or [NOTHING])]))
