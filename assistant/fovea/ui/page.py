"""The layout of the page and which handler each control calls."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from fovea.ui.conversation import EYES, UNKNOWN_EYE, Conversation, Panels, forget
from fovea.ui.evidence import EMPTY
from fovea.ui.review import Reviewing, build_review
from fovea.ui.viewer import ASSETS

if TYPE_CHECKING:
    from fovea.assistant import Assistant

LABEL = "Research use only. AI-generated draft. Not a medical device. Not for diagnostic use."
EXAMPLES = (
    "What is the cup-to-disc ratio, and how dense are the vessels?",
    "Is this photograph good enough to assess?",
    "How tortuous are the vessels?",
)
WELCOME = (
    "**Ask about a retinal photograph.**\n\nAdd one below (JPEG, PNG, TIFF, BMP, WebP or DICOM), "
    "or try the sample. Every number in an answer is measured on your photograph and links to "
    "its evidence."
)
NO_REPORT = (
    "No report yet. *Draft report* measures what is missing and writes it up, with citations."
)
TURNS_AT_ONCE = 16
"""Gradio's default of 1 makes the 64th person wait 40 s for a first word; 16 makes it 4 s."""
UPLOAD_LIFETIME_S = 3600
PANEL = "<div class='fovea-panel'></div>"


def build_page(assistant: Assistant) -> gr.Blocks:
    """The page for one assistant, not yet served."""
    settings = assistant.settings
    with gr.Blocks(
        title="Fovea",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(600, UPLOAD_LIFETIME_S),
    ) as page:
        gr.HTML(
            "<header class='fovea-head'><div><h1>Fovea</h1><p>Measured, cited and checked answers "
            f"about retinal photographs</p></div><p class='fovea-label' role='note'>{LABEL}</p>"
            "</header>",
            elem_id="fovea-header",
            apply_default_css=False,
        )
        session_id = gr.State(
            None,
            time_to_live=settings.session_days * 86400,
            delete_callback=partial(forget, assistant),
        )
        with gr.Row(elem_id="fovea-columns", equal_height=False):
            with gr.Column(scale=9, min_width=320, elem_id="fovea-left"):
                chat = gr.Chatbot(
                    label="Conversation",
                    show_label=False,
                    elem_id="fovea-chat",
                    height="58vh",
                    min_height=320,
                    layout="bubble",
                    placeholder=WELCOME,
                    buttons=["copy"],
                    feedback_options=None,
                    latex_delimiters=[],
                    allow_tags=False,
                    sanitize_html=True,
                    group_consecutive_messages=True,
                )
                with gr.Row(elem_id="fovea-examples", elem_classes="fovea-chips"):
                    examples = [gr.Button(text, size="sm", min_width=80) for text in EXAMPLES]
                box = gr.MultimodalTextbox(
                    label="Question and photographs",
                    show_label=False,
                    elem_id="fovea-box",
                    placeholder="Ask a question, or add photographs",
                    file_count="multiple",
                    sources=["upload"],
                    max_plain_text_length=4000,
                    html_attributes=gr.InputHTMLAttributes(autocorrect="off"),
                )
                with gr.Row(elem_id="fovea-controls"):
                    eye = gr.Radio(
                        list(EYES),
                        value=UNKNOWN_EYE,
                        label="Eye on the photographs you add next",
                        elem_id="fovea-eye",
                        min_width=260,
                        scale=3,
                    )
                    with gr.Row(elem_id="fovea-actions"):
                        sample = gr.Button(
                            "Try the sample photograph", elem_id="fovea-sample", size="md"
                        )
                        draft = gr.Button("Draft report", elem_id="fovea-draft", size="md")
                        stop = gr.Button(
                            "Stop", elem_id="fovea-stop", variant="stop", size="md",
                            interactive=False,
                        )  # fmt: skip
            with gr.Column(scale=11, min_width=320, elem_id="fovea-right"):
                with gr.Tabs(elem_id="fovea-tabs", selected="image") as tabs:
                    with gr.Tab("Image", id="image", elem_id="fovea-image", render_children=True):
                        viewer = gr.HTML(
                            "",
                            html_template="<div class='fv'></div>",
                            js_on_load=_asset("viewer.js"),
                            elem_id="fovea-viewer",
                            apply_default_css=False,
                        )
                    with gr.Tab(
                        "Evidence", id="evidence", elem_id="fovea-evidence", render_children=True
                    ):
                        evidence = _panel(EMPTY, "fovea-cards")
                    with gr.Tab(
                        "Report", id="report", elem_id="fovea-report", render_children=True
                    ):
                        downloads = _panel("", "fovea-downloads")
                        review = build_review()
                        report = gr.Markdown(
                            NO_REPORT,
                            elem_id="fovea-report-text",
                            sanitize_html=True,
                            latex_delimiters=[],
                        )
                with gr.Accordion("Plugins", open=False, elem_id="fovea-plugins"):
                    plugins = _panel("", "fovea-plugin-list")
        panels = Panels(
            session_id, chat, box, eye, stop, (sample, draft, *examples), tabs, viewer,
            evidence, report, downloads, plugins,
        )  # fmt: skip
        conversation = Conversation(assistant, panels)
        _wire(page, conversation, panels, sample, draft, examples)
        Reviewing(assistant, conversation, review).wire(session_id, report, downloads)
    return page


def _wire(
    page: gr.Blocks,
    conversation: Conversation,
    panels: Panels,
    sample: gr.Button,
    draft: gr.Button,
    examples: list[gr.Button],
) -> None:
    session = [panels.session_id, panels.chat]
    turns: list[tuple[Any, Any, list[Any]]] = [
        (panels.box.submit, conversation.submit, [*session, panels.box, panels.eye]),
        (sample.click, conversation.sample, session),
        (draft.click, conversation.draft, session),
        *((b.click, conversation.example(str(b.value)), session) for b in examples),
    ]
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    idle = [panels.box, panels.stop, panels.plugins, *panels.starters]
    for trigger, handler, inputs in turns:
        turn = trigger(
            handler,
            inputs,
            panels.all(),
            concurrency_limit=TURNS_AT_ONCE,
            concurrency_id="turns",
            trigger_mode="once",
            **quiet,
        )
        turn.failure(conversation.failed, [panels.chat], [panels.chat, *idle], **quiet)
        turn.success(conversation.idle, None, idle, **quiet)
    panels.stop.click(conversation.stop, [panels.session_id], None, queue=False, **quiet)
    page.load(conversation.plugins, None, [panels.plugins], **quiet)


def _panel(value: str, elem_id: str) -> gr.HTML:
    return gr.HTML(
        value,
        html_template=PANEL,
        js_on_load=_asset("panel.js"),
        elem_id=elem_id,
        apply_default_css=False,
    )


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")
