"""Renders a report. JSON is the source; markdown is a view of it."""

from __future__ import annotations

import re

from fovea.report.model import Report, Section
from fovea.report.review import shown


def render_json(report: Report) -> str:
    """The whole report as JSON; `Report.model_validate_json` reads it back."""
    return report.model_dump_json(indent=2) + "\n"


def render_markdown(report: Report) -> str:
    """The report as markdown, for reading and printing."""
    lines = ["# Retinal photograph report", "", f"> **{report.label}**", ""]
    lines += [f"Drafted {report.created} (UTC).", ""]
    for section in shown(report):
        lines += _section(section)
    if report.knowledge:
        lines += ["## Sources", ""]
        for entry in report.knowledge:
            status = "draft" if entry.review == "draft" else "reviewed"
            lines.append(f"- **[K:{entry.id}]** {entry.title} ({status})")
            lines += [f"  - {_escaped(source)}" for source in entry.sources]
        lines.append("")
    return "\n".join([*lines, f"> **{report.label}**", ""])


def _section(section: Section) -> list[str]:
    lines = [f"## {section.number}. {section.title}", ""]
    if section.reason:
        lines += [f"*{_escaped(section.reason)}.*", ""]
    if section.sentences:
        lines += [*(f"- {_escaped(sentence.text)}" for sentence in section.sentences), ""]
    if section.rows:
        lines += ["| | |", "|---|---|"]
        lines += [f"| {_escaped(row.label)} | {_escaped(row.value)} |" for row in section.rows]
        lines.append("")
    return lines


def _escaped(text: str) -> str:
    """Text that cannot become markup: a plugin's or a file's words stay words."""
    return re.sub(r"([<>|*\\])", r"\\\1", " ".join(text.split())).replace("](", "]\\(")
