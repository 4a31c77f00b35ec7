"""The report as one HTML file: pictures inside, no script, every sentence leads to its evidence."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Set
from html import escape

from fovea.evidence import Evidence
from fovea.report.model import Row, Section, Sentence
from fovea.report.review import shown
from fovea.report.views.material import Material
from fovea.report.wording import plain_quotes, printed

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --line: #8886; --mark: #ffd54a55 }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem;
  overflow-wrap: anywhere }
.state { border: 2px solid #b00020; padding: .5rem .8rem; font-weight: 600; position: sticky;
  top: 0; background: Canvas }
h2 { border-bottom: 1px solid var(--line); margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
th, td { border: 1px solid var(--line); padding: .25rem .5rem; text-align: left;
  vertical-align: top }
th { width: 32% }
a.said { color: inherit; text-decoration: none; border-bottom: 1px dotted var(--line) }
a.said:hover, a.said:focus { background: var(--mark) }
section.evidence { border-left: 4px solid transparent; padding-left: .8rem;
  scroll-margin-top: 5rem }
section.evidence:target { border-color: #e8a600; background: var(--mark) }
img { max-width: 100%; height: auto }
figure { margin: 1rem 0 }
.key { display: inline-block; width: .8em; height: .8em; border: 1px solid; margin: 0 .3em 0 .8em }
@media print { .state { position: static } }
"""
_CITED = re.compile(r"\[(E\d+|K:[a-z0-9_]+)\]")


def html_bytes(material: Material) -> bytes:
    """The report as a self-contained HTML page."""
    return "\n".join(_page(material)).encode()


def _page(material: Material) -> Iterator[str]:
    report = material.report
    label = f'<p class="state">{escape(report.label)}</p>'
    known = {*material.cited(), *(f"K:{entry.id}" for entry in report.knowledge)}
    yield "<!DOCTYPE html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>Retinal photograph report</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>Retinal photograph report</h1>{label}"
    yield f"<p>Drafted {escape(report.created)} (UTC). Choose a sentence to see its evidence.</p>"
    for handle in material.photographs:
        picture = material.overlay(handle)
        yield f"<figure>{_image(picture, f'{handle} with what was outlined')}"
        yield f"<figcaption>{material.caption(handle)}"
        for name, colour in material.legend(handle):
            yield f'<span class="key" style="background: {colour}"></span>{escape(name)}'
        yield "</figcaption></figure>"
    for section in shown(report):
        yield from _section(section, known)
    yield "<h2>Evidence</h2>"
    for piece in material.cited().values():
        yield from _evidence(material, piece)
    yield "<h2>Sources</h2>"
    for entry in report.knowledge:
        yield f'<section class="evidence" id="K:{escape(entry.id)}">'
        yield f"<h3>K:{escape(entry.id)}: {escape(entry.title)} ({escape(entry.review)})</h3><ul>"
        yield from (f"<li>{escape(source)}</li>" for source in entry.sources)
        yield "</ul></section>"
    yield f"{label}</body></html>"


def _section(section: Section, known: Set[str]) -> Iterator[str]:
    yield f'<h2 id="s{section.number}">{section.number}. {escape(section.title)}</h2>'
    if section.reason:
        yield f"<p><em>{escape(section.reason)}.</em></p>"
    if section.sentences:
        yield "<ul>"
        yield from (f"<li>{_sentence(sentence, known)}</li>" for sentence in section.sentences)
        yield "</ul>"
    yield from _table(section.rows)


def _sentence(sentence: Sentence, known: Set[str]) -> str:
    """The words lead to the first thing cited, each citation to its own, if the page has it."""
    first = _CITED.search(sentence.text)
    if first is None or not {m[1] for m in _CITED.finditer(sentence.text)} <= known:
        return escape(plain_quotes(sentence.text))
    said = escape(plain_quotes(sentence.text[: first.start()].rstrip()))
    cites = _CITED.sub(
        lambda m: f'<a href="#{m[1]}">[{m[1]}]</a>', escape(sentence.text[first.start() :])
    )
    return f'<a class="said" href="#{first[1]}">{said}</a> {cites}'


def _table(rows: tuple[Row, ...]) -> Iterator[str]:
    if rows:
        yield "<table>"
        for row in rows:
            yield f"<tr><th>{escape(row.label)}</th><td>{escape(row.value)}</td></tr>"
        yield "</table>"


def _evidence(material: Material, piece: Evidence) -> Iterator[str]:
    result, source = piece.result, piece.provenance
    about = f"{piece.tool} {source.plugin_version} on {', '.join(piece.images) or 'no image'}"
    yield f'<section class="evidence" id="{piece.id}"><h3>{piece.id}: {escape(about)}</h3>'
    yield f"<p>{escape(result.summary)}</p>"
    for handle in piece.images if len(piece.images) == 1 else ():
        picture = material.overlay(handle, piece.id) if handle in material.photographs else None
        if picture:
            yield _image(picture, f"What {piece.id} outlined in {handle}")
    rows = [
        Row(label=f"{m.name}{f' ({m.zone})' if m.zone else ''}",
            value=f"{printed(m.value, m.unit)}; {m.method}")
        for m in result.measurements
    ]  # fmt: skip
    rows += [Row(label=f.concept, value=" ".join(filter(None, (f.state, f.value, f.detail))))
             for f in result.findings]  # fmt: skip
    rows += [
        Row(label=gap.name, value=f"not measured: {gap.reason}") for gap in result.not_measured
    ]
    rows += [Row(label="caveat", value=caveat.text) for caveat in result.caveats]
    yield from _table(tuple(rows))
    yield "</section>"


def _image(jpeg: bytes | None, text: str) -> str:
    if jpeg is None:
        return ""
    return (
        f'<img alt="{escape(text)}" src="data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}">'
    )
