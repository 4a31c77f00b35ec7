"""The report as a Word document."""

from __future__ import annotations

import io
import re

import docx
from docx.document import Document
from docx.shared import Cm, Pt, RGBColor

from fovea.report.model import Section
from fovea.report.review import shown
from fovea.report.views.material import Material
from fovea.report.wording import plain_quotes

_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""Signs that XML cannot hold."""


def docx_bytes(material: Material) -> bytes:
    """The report as DOCX, with its state on every page."""
    report, document = material.report, docx.Document()
    document.core_properties.title = "Retinal photograph report"
    document.core_properties.author = "Fovea"
    document.core_properties.comments = report.label
    for part in (document.sections[0].header, document.sections[0].footer):
        part.paragraphs[0].text = report.label
    document.add_heading("Retinal photograph report", 0)
    state = document.add_paragraph().add_run(report.label)
    state.bold, state.font.color.rgb = True, RGBColor(0xB0, 0x00, 0x20)
    document.add_paragraph(f"Drafted {report.created} (UTC).")
    for handle in material.photographs:
        picture = material.overlay(handle)
        if picture:
            document.add_picture(io.BytesIO(picture), width=Cm(11))
        caption = document.add_paragraph(material.caption(handle), style="Caption")
        for name, colour in material.legend(handle):
            caption.add_run(" \u25a0 ").font.color.rgb = RGBColor.from_string(colour[1:].upper())
            caption.add_run(name)
    for section in shown(report):
        _section(document, section)
    document.add_heading("Sources", 1)
    for entry in report.knowledge:
        text = f"[K:{entry.id}] {entry.title} ({entry.review}). {' '.join(entry.sources)}"
        document.add_paragraph(_plain(text))
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def _section(document: Document, section: Section) -> None:
    document.add_heading(f"{section.number}. {section.title}", 1)
    if section.reason:
        document.add_paragraph().add_run(_plain(f"{section.reason}.")).italic = True
    for sentence in section.sentences:
        document.add_paragraph(_plain(plain_quotes(sentence.text)), style="List Bullet")
    if section.rows:
        table = document.add_table(rows=0, cols=2, style="Table Grid")
        table.autofit = False
        for row in section.rows:
            cells = table.add_row().cells
            for cell, text, width in zip(cells, (row.label, row.value), (5.0, 10.5), strict=True):
                cell.width = Cm(width)
                cell.paragraphs[0].add_run(_plain(text)).font.size = Pt(9)


def _plain(text: str) -> str:
    return _UNWRITABLE.sub(" ", text)
