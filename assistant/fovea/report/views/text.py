"""The report as JSON, which is its source, and as Markdown."""

from __future__ import annotations

from fovea.report.render import render_json, render_markdown
from fovea.report.views.material import Material


def json_bytes(material: Material) -> bytes:
    """The report as JSON, which reads back as the same report."""
    return render_json(material.report).encode()


def markdown_bytes(material: Material) -> bytes:
    """The report as Markdown."""
    return render_markdown(material.report).encode()
