"""Events of a turn as chat messages, and texts made safe for the page.

Texts come from models, plugins, files and people. Whatever they contain, they
reach the page without HTML, links or pictures of their own: an image address in
an answer would otherwise send data out as soon as it is shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from fovea.errors import FoveaError
from fovea.events import (
    AnswerChunk,
    Answered,
    Called,
    CallProgress,
    CallStarted,
    Event,
    Notice,
    Refused,
    ReportDrafted,
    Stopped,
)
from fovea.evidence import Evidence

ChatMessage = dict[str, Any]
"""The dict form of `gradio.ChatMessage`: role, content, metadata."""

CITATION = re.compile(r"\[((?:E[1-9]\d*|K:[A-Za-z0-9_.:/-]+)(?:\s*[,;]\s*(?:E|K:)[\w.:/-]+)*)\]")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", "[": "&#91;", "]": "&#93;", "@": "&#64;"})
_ACRONYMS = {"cdr": "CDR", "crae": "CRAE", "crve": "CRVE", "avr": "AVR", "dr": "DR", "od": "OD",
             "os": "OS", "etdrs": "ETDRS", "x": "x", "y": "y"}  # fmt: skip
_UNITS = {"1": "", "um": "µm", "um2": "µm²", "mm2": "mm²", "px2": "px²", "deg": "°",
          "%": "%", "[DD]": "disc diameters", "{score}": ""}  # fmt: skip


def safe_markdown(text: str) -> str:
    """Markdown without HTML, links and pictures; `[E3]` and `[K:id]` become links to evidence.

    Headings, lists, tables and emphasis stay.
    """
    parts, end = [], 0
    for match in CITATION.finditer(text):
        parts.append(_escape(text[end : match.start()]))
        ids = re.split(r"\s*[,;]\s*", match.group(1))
        parts.append(" ".join(f"[{citation}](#{anchor(citation)})" for citation in ids))
        end = match.end()
    parts.append(_escape(text[end:]))
    return "".join(parts)


def _escape(text: str) -> str:
    # An entity instead of a colon or dot keeps the text readable, but it is no address any more.
    escaped = text.translate(_ESCAPES).replace("://", "&#58;//")
    return re.sub(r"(?i)\bwww\.", lambda found: f"{found.group()[:-1]}&#46;", escaped)


def cited_entries(text: str) -> list[str]:
    """Ids of the knowledge entries that a text cites, in the order of their first citation."""
    groups = CITATION.findall(text)
    ids = [citation for group in groups for citation in re.split(r"\s*[,;]\s*", group)]
    return list(dict.fromkeys(c.removeprefix("K:") for c in ids if c.startswith("K:")))


def anchor(citation: str) -> str:
    """Id of the element on the page that a citation leads to."""
    return "cite-" + re.sub(r"[^A-Za-z0-9_-]", "-", citation)


def in_words(name: str) -> str:
    """A name such as `vertical_cdr` as people write it: `Vertical CDR`."""
    words = [_ACRONYMS.get(word, word) for word in name.split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def number(value: float) -> str:
    """A number with four significant digits and no exponent for common sizes."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}"


def unit_text(unit: str) -> str:
    """A UCUM unit as people write it; nothing for a plain ratio."""
    return _UNITS.get(unit, unit)


def explain(error: FoveaError) -> str:
    """An error as one chat message: what, why, and how to fix it, as safe Markdown."""
    sentences = [part.strip().rstrip(".") + "." for part in (error.what, error.why) if part.strip()]
    text = safe_markdown(" ".join(sentences))
    return f"{text}\n\n**What you can do:** {safe_markdown(error.fix)}" if error.fix else text


class Transcript:
    """The messages of the chat, changed event by event.

    Args:
        messages: The chat so far, as the page gives it back.

    Example:
        >>> chat = Transcript()
        >>> chat.say("Add a photograph.")
        >>> chat.messages[0]["role"]
        'assistant'
    """

    def __init__(self, messages: Sequence[ChatMessage] = ()) -> None:
        self.messages: list[ChatMessage] = list(messages)
        # Call ids begin anew in every turn, ids of steps must not.
        self._turn = len(self.messages)
        self._steps: dict[str, ChatMessage] = {}
        self._nested: set[str] = set()
        self._draft: ChatMessage | None = None
        self._written = ""

    def ask(self, text: str, added: Iterable[str] = ()) -> None:
        """Add what the person wrote and the photographs that came with it."""
        lines = [safe_markdown(text)] if text else []
        names = ", ".join(added)
        if names:
            lines.append(f"*Photograph added: {safe_markdown(names)}*")
        self.messages.append({"role": "user", "content": "\n\n".join(lines)})

    def say(self, text: str) -> None:
        """Add a message of the assistant; `text` is safe Markdown."""
        self.messages.append({"role": "assistant", "content": text})

    def apply(self, event: Event) -> None:
        """Show what happened."""
        if isinstance(event, CallStarted):
            self._drop_draft()
            self._start(event)
        elif isinstance(event, CallProgress):
            step = self._steps.get(event.call_id)
            if step is not None:
                step["content"] = f"{safe_markdown(event.text)} …"
        elif isinstance(event, Called):
            self._finish(event)
        elif isinstance(event, Refused):
            self._refuse(event)
        elif isinstance(event, AnswerChunk):
            self._write(event.text)
        elif isinstance(event, ReportDrafted):
            self._drop_draft()
        elif isinstance(event, Notice):
            self._drop_draft()
            self.say(f"*{safe_markdown(event.text)}*")
        elif isinstance(event, Answered):
            self._drop_draft()
            self._struck(event.struck)
            self.say(safe_markdown(event.text))
        elif isinstance(event, Stopped):
            self._drop_draft()
            self.settle()
            self.say(safe_markdown(event.text))

    def settle(self) -> None:
        """End every step that is still running."""
        for step in self._steps.values():
            if step["metadata"]["status"] == "pending":
                step["metadata"].update(status="done", log="stopped")
                step["content"] = "Stopped before it was done."
        self._steps.clear()

    def _start(self, event: CallStarted) -> None:
        metadata: dict[str, Any] = {
            "title": safe_markdown(event.title),
            "id": f"{self._turn}-{event.call_id}",
            "status": "pending",
            "log": ", ".join(event.images),
        }
        if event.parent in self._steps:
            metadata["parent_id"] = f"{self._turn}-{event.parent}"
            self._nested.add(event.call_id)
        step = {"role": "assistant", "content": "Working …", "metadata": metadata}
        self._steps[event.call_id] = step
        self.messages.append(step)

    def _finish(self, event: Called) -> None:
        step = self._steps.pop(event.call_id, None)
        if step is None:
            return
        if event.reused and event.call_id in self._nested:
            self.messages.remove(step)  # nothing was done: a step would only be noise
            return
        step["content"] = step_text(event.evidence)
        step["metadata"]["status"] = "done"
        if event.reused:
            step["metadata"]["log"] = "measured before"
        else:
            step["metadata"]["duration"] = round(event.seconds, 2)
            step["metadata"]["log"] = ", ".join(event.evidence.images)

    def _refuse(self, event: Refused) -> None:
        step = self._steps.pop(event.call_id, None)
        if step is None:
            title = safe_markdown(in_words(event.tool))
            step = {"role": "assistant", "content": "", "metadata": {"title": title}}
            self.messages.append(step)
        stopped = event.error == "Cancelled"
        step["content"] = "Stopped on request." if stopped else safe_markdown(event.reason)
        log = "stopped" if stopped else "not possible"
        step["metadata"].update(status="done", log=log, duration=round(event.seconds, 2))

    def _write(self, text: str) -> None:
        if self._draft is None:
            self._draft, self._written = {"role": "assistant", "content": ""}, ""
            self.messages.append(self._draft)
        self._written += text
        self._draft["content"] = safe_markdown(self._written)

    def _drop_draft(self) -> None:
        """Remove the text as it was streamed: what follows is the checked one."""
        if self._draft is not None:
            self.messages.remove(self._draft)
            self._draft = None

    def _struck(self, sentences: Sequence[str]) -> None:
        if not sentences:
            return
        count = len(sentences)
        title = f"Left out: {count} sentence{'s' if count > 1 else ''} that no evidence supports"
        content = "\n".join(f"- {safe_markdown(sentence)}" for sentence in sentences)
        metadata = {"title": title, "status": "done"}
        self.messages.append({"role": "assistant", "content": content, "metadata": metadata})


def step_text(evidence: Evidence) -> str:
    """What a finished step says: the summary, where to read more, and the caveats."""
    lines = [f"{safe_markdown(evidence.result.summary)} {safe_markdown(f'[{evidence.id}]')}"]
    lines += [f"- *{safe_markdown(caveat.text)}*" for caveat in evidence.result.caveats]
    return "\n".join(lines)
