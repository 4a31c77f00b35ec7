"""The report as PDF."""

from __future__ import annotations

import io
from typing import Any
from xml.sax.saxutils import escape

from reportlab import rl_config
from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Image, Paragraph, SimpleDocTemplate, Spacer, Table

from fovea.report.model import Section
from fovea.report.review import shown
from fovea.report.views.material import Material
from fovea.report.wording import plain_quotes

_FONTS = {"Report": "Vera.ttf", "ReportBold": "VeraBd.ttf", "ReportItalic": "VeraIt.ttf"}
"""Bitstream Vera comes with reportlab and, other than the built-in fonts, holds signs like ≥."""
_MARGIN = 18 * mm
_WIDTH = A4[0] - 2 * _MARGIN
_PICTURE_HEIGHT = 90 * mm


def pdf_bytes(material: Material) -> bytes:
    """The report as PDF, A4, with its state on every page."""
    for name, file in _FONTS.items():
        pdfmetrics.registerFont(TTFont(name, file))
    report, styles = material.report, _styles()
    story: list[Any] = [
        Paragraph("Retinal photograph report", styles["title"]),
        Paragraph(escape(report.label), styles["label"]),
        Paragraph(f"Drafted {escape(report.created)} (UTC).", styles["body"]),
    ]
    for handle in material.photographs:
        story += [_picture(material.overlay(handle)), Spacer(1, 2 * mm)]
        key = " ".join(
            f'<font backcolor="{colour}">\u00a0\u00a0\u00a0</font>\u00a0{escape(name)}'
            for name, colour in material.legend(handle)
        )
        story.append(Paragraph(f"{material.caption(handle)} {key}", styles["small"]))
    for section in shown(report):
        story += _section(section, styles)
    if report.knowledge:
        story.append(Paragraph("Sources", styles["heading"]))
    for entry in report.knowledge:
        text = f"[K:{entry.id}] {entry.title} ({entry.review}). {' '.join(entry.sources)}"
        story.append(Paragraph(escape(text), styles["small"]))
    out = io.BytesIO()
    SimpleDocTemplate(
        out, pagesize=A4, leftMargin=_MARGIN, rightMargin=_MARGIN, topMargin=_MARGIN,
        bottomMargin=_MARGIN, title="Retinal photograph report", author="Fovea",
        subject=report.label, invariant=rl_config.invariant,
    ).build(
        story,
        onFirstPage=lambda canvas, document: _foot(canvas, document, report.label),
        onLaterPages=lambda canvas, document: _foot(canvas, document, report.label),
    )  # fmt: skip
    return out.getvalue()


def _styles() -> dict[str, ParagraphStyle]:
    body = ParagraphStyle("body", fontName="Report", fontSize=9, leading=12.5, spaceAfter=3)
    return {
        "body": body,
        "item": ParagraphStyle("item", body, leftIndent=10, bulletIndent=0),
        "small": ParagraphStyle("small", body, fontSize=7.5, leading=10),
        "reason": ParagraphStyle("reason", body, fontName="ReportItalic"),
        "title": ParagraphStyle("title", body, fontName="ReportBold", fontSize=17, leading=22),
        "heading": ParagraphStyle(
            "heading", body, fontName="ReportBold", fontSize=11.5, leading=15, spaceBefore=9,
            keepWithNext=1,
        ),
        "label": ParagraphStyle(
            "label", body, fontName="ReportBold", textColor=colors.HexColor("#b00020"),
            borderColor=colors.HexColor("#b00020"), borderWidth=1, borderPadding=5, spaceBefore=6,
            spaceAfter=10,
        ),
    }  # fmt: skip


def _section(section: Section, styles: dict[str, ParagraphStyle]) -> list[Any]:
    said: list[Any] = [Paragraph(f"{section.number}. {escape(section.title)}", styles["heading"])]
    if section.reason:
        said.append(Paragraph(f"{escape(section.reason)}.", styles["reason"]))
    said += [
        Paragraph(escape(plain_quotes(sentence.text)), styles["item"], bulletText="\u2022")
        for sentence in section.sentences
    ]
    if section.rows:
        cells = [
            [
                Paragraph(escape(row.label), styles["small"]),
                Paragraph(escape(row.value), styles["small"]),
            ]
            for row in section.rows
        ]
        grid = [("GRID", (0, 0), (-1, -1), 0.4, colors.grey), ("VALIGN", (0, 0), (-1, -1), "TOP")]
        said.append(
            Table(cells, colWidths=[0.32 * _WIDTH, 0.68 * _WIDTH], style=grid, splitInRow=1)
        )
    return said


def _picture(jpeg: bytes | None) -> Image:
    """The picture at its own aspect, within the page."""
    width, height = ImageReader(io.BytesIO(jpeg or b"")).getSize()
    share = min(_WIDTH / width, _PICTURE_HEIGHT / height)
    return Image(io.BytesIO(jpeg or b""), width * share, height * share)


def _foot(canvas: Any, document: Any, label: str) -> None:
    canvas.saveState()
    canvas.setFont("Report", 6.5)
    canvas.drawString(_MARGIN, 9 * mm, label)
    canvas.drawRightString(A4[0] - _MARGIN, 9 * mm, f"Page {document.page}")
    canvas.restoreState()
