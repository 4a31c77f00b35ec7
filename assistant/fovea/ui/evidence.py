"""The evidence panel: one card for each piece of evidence, every text escaped."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from html import escape
from types import MappingProxyType

from fovea.archive.records import thumbnail_of
from fovea.contract import (
    Difference,
    Finding,
    Interval,
    Measurement,
    Neighbour,
    NotMeasured,
    Passage,
)
from fovea.errors import ArchiveError
from fovea.evidence import Evidence, ImageRecord, Provenance
from fovea.manifest import Manifest
from fovea.session import Session
from fovea.ui.render import anchor, in_words, number, unit_text

EMPTY = (
    "<p class='fv-hint'>Every answer rests on evidence. Each measurement, its method, its "
    "uncertainty and how it came about will be listed here.</p>"
)
_STATES = {"present": "present", "absent": "absent", "indeterminate": "cannot be decided",
           "not_assessable": "not assessable"}  # fmt: skip

DOWNLOADS: Mapping[str, str] = {
    ".md": "text/markdown;charset=utf-8",
    ".json": "application/json;charset=utf-8",
    ".html": "text/html;charset=utf-8",
    ".pdf": "application/pdf",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".fhir.json": "application/fhir+json;charset=utf-8",
}
"""Formats that the page offers, with their media types. DICOM is several files: `fovea report`."""


def evidence_panel(
    evidence: Iterable[Evidence],
    images: Mapping[str, ImageRecord],
    manifests: Mapping[str, Manifest],
    knowledge: Mapping[str, Sequence[Passage]],
    pictures: Mapping[str, bytes] = MappingProxyType({}),
) -> str:
    """HTML of all cards, the newest first, then the knowledge that was cited.

    Args:
        evidence: What the session holds, oldest first.
        images: The photographs of the session by handle.
        manifests: Manifests by tool name; a tool of the host has none.
        knowledge: Statements of the cited entries by id of the entry.
        pictures: Small JPEGs of photographs by handle, and of archived cases by id.
    """
    known = list(evidence)
    drawn = {each.id for each in known if _is_drawn(each)}
    cards = [card(each, images, manifests.get(each.tool), drawn, pictures) for each in known]
    quoted = [knowledge_card(entry_id, passages) for entry_id, passages in knowledge.items()]
    return "".join([*reversed(cards), *quoted]) or EMPTY


def compared_pictures(session: Session, thumbnail: Callable[[str], bytes]) -> dict[str, bytes]:
    """Small JPEGs of the photographs and archived cases that the evidence compares.

    Args:
        session: With its evidence.
        thumbnail: The picture of a case; raises an `ArchiveError` where there is none.
    """
    found: dict[str, bytes] = {}
    for piece in session.evidence.values():
        if not piece.result.similar:
            continue
        found |= {handle: thumbnail_of(session.photograph(handle)) for handle in piece.images}
        for case in piece.result.similar:
            with contextlib.suppress(ArchiveError):  # removed since, or without a picture
                found[case.case_id] = thumbnail(case.case_id)
    return found


def knowledge_card(entry_id: str, passages: Sequence[Passage]) -> str:
    """HTML of one entry of the knowledge base: what the citation `[K:id]` leads to."""
    citation = f"K:{entry_id}"
    title = passages[0].title if passages else in_words(entry_id)
    return (
        f"<article class='fv-card' id='{anchor(citation)}' tabindex='-1' "
        f"aria-label='Knowledge: {escape(title)}'><header>"
        f"<span class='fv-id'>{escape(citation)}</span><h3>{escape(title)}</h3></header>"
        f"{_passages(passages)}</article>"
    )


def card(
    evidence: Evidence,
    images: Mapping[str, ImageRecord],
    manifest: Manifest | None,
    drawn: Collection[str] = (),
    pictures: Mapping[str, bytes] = MappingProxyType({}),
) -> str:
    """HTML of one piece of evidence; its id is what the citation `[E3]` leads to.

    Args:
        evidence: What to show.
        images: The photographs of the session by handle.
        manifest: Manifest of the tool; None for a tool of the host.
        drawn: Ids of the evidence that the viewer has layers of.
        pictures: Small JPEGs of photographs by handle, and of archived cases by id.
    """
    result = evidence.result
    title = manifest.title if manifest else in_words(evidence.tool)
    sections = [
        _measurements(result.measurements, manifest),
        _findings(result.findings),
        _not_measured(result.not_measured),
        _similar(result.similar, evidence.images, pictures),
        _passages(result.passages),
        _list("Caveats", [caveat.text for caveat in result.caveats], "fv-caveats"),
        _provenance(evidence.provenance),
    ]
    chips = "".join(
        f"<span class='fv-chip'>{escape(text)}</span>" for text in _chips(evidence, images)
    )
    # Numbers that were computed from masks are shown by those masks.
    layers = [evidence.id] if evidence.id in drawn else list(evidence.provenance.used)
    shown = "-".join(each for each in layers if each in drawn)
    button = f"<a class='fv-button' href='#layers-{shown}'>Show on photograph</a>" if shown else ""
    return (
        f"<article class='fv-card' id='{anchor(evidence.id)}' tabindex='-1' "
        f"aria-label='Evidence {evidence.id}: {escape(title)}'>"
        f"<header><span class='fv-id'>{evidence.id}</span><h3>{escape(title)}</h3>{button}</header>"
        f"<p class='fv-chips'>{chips}</p><p>{escape(result.summary)}</p>"
        f"{''.join(sections)}</article>"
    )


def report_downloads(report_id: str, files: Mapping[str, bytes]) -> str:
    """Links that save a report from the page itself: it never lies at a server address.

    Args:
        report_id: Name of the report, such as `R1`.
        files: Ending, such as `.pdf`, to the file.
    """
    links = []
    for ending, content in files.items():
        data = base64.b64encode(content).decode("ascii")
        name = f"fovea-report-{report_id}{ending}"
        links.append(
            f"<a class='fv-button' download='{escape(name)}' "
            f"href='data:{DOWNLOADS[ending]};base64,{data}'>Download {escape(ending)}</a>"
        )
    return f"<p class='fv-downloads'>{''.join(links)}</p>"


def plugins_panel(
    offered: Iterable[tuple[str, str, str]], problems: Iterable[tuple[str, str, str]]
) -> str:
    """HTML of the tools, as (title, name, version), and of problems, as (where, what, fix)."""
    rows = "".join(
        f"<li><b>{escape(title)}</b> <code>{escape(name)}</code> {escape(version)}</li>"
        for title, name, version in offered
    )
    tools = f"<ul class='fv-tools'>{rows}</ul>" if rows else "<p>No plugin can be used.</p>"
    broken = "".join(
        f"<li><b>{_code(where)}</b><br>{_code(what)}<br><i>What you can do:</i> {_code(fix)}</li>"
        for where, what, fix in problems
    )
    if not broken:
        return tools
    return f"{tools}<h4>Not working</h4><ul class='fv-problems'>{broken}</ul>"


def _code(text: str) -> str:
    """Escaped text whose identifiers in backticks are set as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if i % 2 else p for i, p in enumerate(parts))


def _is_drawn(evidence: Evidence) -> bool:
    result = evidence.result
    points = result.measurement("disc_x") or result.measurement("fovea_x")
    return bool(points) or any(a.kind in {"mask", "heatmap", "overlay"} for a in result.artifacts)


def _chips(evidence: Evidence, images: Mapping[str, ImageRecord]) -> list[str]:
    provenance = evidence.provenance
    chips = [f"{provenance.plugin} {provenance.plugin_version}"]
    for handle in evidence.images:
        eye = images[handle].eye if handle in images else None
        chips.append(f"{handle} · {eye or 'eye not stated'}")
    return chips


def _measurements(measurements: Iterable[Measurement], manifest: Manifest | None) -> str:
    rows = []
    for m in measurements:
        output = manifest.output(m.name) if manifest else None
        meaning = f" title='{escape(output.meaning, quote=True)}'" if output else ""
        place = ", ".join(filter(None, (in_words(m.zone) if m.zone else "", m.eye or "")))
        small = f"<small>{escape(place)}</small>" if place else ""
        span, how = _interval(m.interval)
        rows.append(
            f"<tr><th scope='row'{meaning}>{escape(in_words(m.name))}{small}</th>"
            f"<td class='fv-value'>{number(m.value)} <span>{escape(unit_text(m.unit))}</span>"
            f"{span}</td><td>{escape(m.method)}{how}</td></tr>"
        )
    if not rows:
        return ""
    return (
        "<div class='fv-scroll'><table><thead><tr><th>Measurement</th><th>Value</th>"
        f"<th>Method</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _interval(interval: Interval | None) -> tuple[str, str]:
    """The numbers, to stand below the value, and what they mean, to stand below the method."""
    if interval is None:
        return "", ""
    span = f"<small>{number(interval.low)} to {number(interval.high)}</small>"
    kind = f"{interval.level:.0%} interval" if interval.level else "Range"
    return span, f"<small>{kind}: {escape(interval.how)}</small>"


def _findings(findings: Iterable[Finding]) -> str:
    rows = []
    for f in findings:
        said = f"{f.value} ({_STATES[f.state]})" if f.value else _STATES[f.state]
        if f.probability is not None:
            kind = "probability" if f.calibrated else "score, not calibrated"
            said += f", {kind} {f.probability:.2f}"
        if f.threshold is not None:
            said += f", threshold {f.threshold:.2f}"
        notes = ", ".join(filter(None, (f.region, f.detail)))
        rows.append(
            f"<tr><th scope='row'>{escape(in_words(f.concept))}</th>"
            f"<td class='fv-state fv-{f.state}'>{escape(said)}</td><td>{escape(notes)}</td></tr>"
        )
    if not rows:
        return ""
    return (
        "<div class='fv-scroll'><table><thead><tr><th>Finding</th><th>State</th>"
        f"<th>Reason</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _not_measured(missing: Iterable[NotMeasured]) -> str:
    return _list("Not measured", [f"{in_words(m.name)}: {m.reason}" for m in missing], "fv-missing")


def _similar(
    neighbours: Sequence[Neighbour], images: Sequence[str], pictures: Mapping[str, bytes]
) -> str:
    """The photograph and its neighbours side by side, each with the reasons under it."""
    if not neighbours:
        return ""
    asked = [
        _case(image, pictures, [f"{image}, the photograph asked about"])
        for image in images
        if image in pictures
    ]
    cases = [_case(n.case_id, pictures, [_said(n), *map(_beside, n.differences)])
             for n in neighbours]  # fmt: skip
    return (
        "<div class='fv-similar'><h4>Similar cases</h4>"
        f"<ul class='fv-cases'>{''.join([*asked, *cases])}</ul></div>"
    )


def _case(name: str, pictures: Mapping[str, bytes], lines: Iterable[str]) -> str:
    picture = ""
    if name in pictures:
        data = base64.b64encode(pictures[name]).decode("ascii")
        picture = f"<img alt='{escape(name)}' src='data:image/jpeg;base64,{data}'>"
    return f"<li>{picture}{''.join(f'<p>{escape(line)}</p>' for line in lines)}</li>"


def _said(neighbour: Neighbour) -> str:
    labels = ", ".join(neighbour.labels) or "no label"
    eye = f", {neighbour.eye}" if neighbour.eye else ""
    return (
        f"{neighbour.rank}. {neighbour.case_id} ({labels}{eye}): nearer than "
        f"{neighbour.closeness_percentile:.0f} % of archive pairs; {neighbour.why}"
    )


def _beside(difference: Difference) -> str:
    unit = unit_text(difference.unit)
    name = in_words(difference.name) + (
        f" ({in_words(difference.zone)})" if difference.zone else ""
    )
    here, there = (
        f"{number(value)} {unit}".strip() for value in (difference.here, difference.there)
    )
    more = difference.here - difference.there
    by = f"{'+' if more > 0 else '−' if more < 0 else ''}{number(abs(more))} {unit}".strip()
    return f"{name}: {here} here, {there} there ({by})"


def _passages(passages: Iterable[Passage]) -> str:
    parts = []
    for passage in passages:
        sources = "; ".join(source.citation for source in passage.sources)
        review = (
            "reviewed by a clinician"
            if passage.review == "clinician_reviewed"
            else "draft: not yet reviewed by a clinician"
        )
        parts.append(
            f"<blockquote><b>{escape(passage.title)}</b> <span class='fv-chip'>{review}</span>"
            f"<p>{escape(passage.text)}</p><cite>{escape(sources)}</cite></blockquote>"
        )
    return "".join(parts)


def _list(title: str, texts: Iterable[str], style: str) -> str:
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<div class='{style}'><h4>{title}</h4><ul>{items}</ul></div>" if items else ""


def _provenance(provenance: Provenance) -> str:
    rows = [
        ("Photograph (sha256)", ", ".join(digest[:16] for digest in provenance.image_sha256)),
        (
            "Weights (sha256)",
            ", ".join(f"{file}: {digest}" for file, digest in provenance.weights_sha256.items())
            or "none used",
        ),
        (
            "Arguments",
            ", ".join(f"{name} = {value}" for name, value in provenance.arguments.items())
            or "none",
        ),
        ("Preprocessing", "; ".join(provenance.preprocessing) or "none"),
        ("Rests on", ", ".join(provenance.used) or "the photograph alone"),
        (
            "Run",
            f"{provenance.seconds:.2f} s, started {provenance.started}, seed {provenance.seed}",
        ),
        ("Libraries", ", ".join(f"{name} {v}" for name, v in provenance.libraries.items())),
    ]
    body = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f"<details><summary>How it came about</summary><dl>{body}</dl></details>"
