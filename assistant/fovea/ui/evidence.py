"""The evidence panel: one card for each piece of evidence, every text escaped."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape

from fovea.contract import Finding, Interval, Measurement, Neighbour, NotMeasured, Passage
from fovea.evidence import Evidence, ImageRecord, Provenance
from fovea.manifest import Manifest
from fovea.ui.render import anchor, in_words, number, unit_text

EMPTY = (
    "<p class='fv-hint'>Every answer rests on evidence. Each measurement, its method, its "
    "uncertainty and how it came about will be listed here.</p>"
)
_STATES = {"present": "present", "absent": "absent", "indeterminate": "cannot be decided",
           "not_assessable": "not assessable"}  # fmt: skip


def evidence_panel(
    evidence: Iterable[Evidence],
    images: Mapping[str, ImageRecord],
    manifests: Mapping[str, Manifest],
    knowledge: Mapping[str, Sequence[Passage]],
) -> str:
    """HTML of all cards, the newest first, then the knowledge that was cited.

    Args:
        evidence: What the session holds, oldest first.
        images: The photographs of the session by handle.
        manifests: Manifests by tool name; a tool of the host has none.
        knowledge: Statements of the cited entries by id of the entry.
    """
    known = list(evidence)
    drawn = {each.id for each in known if _is_drawn(each)}
    cards = [card(each, images, manifests.get(each.tool), drawn) for each in known]
    quoted = [knowledge_card(entry_id, passages) for entry_id, passages in knowledge.items()]
    return "".join([*reversed(cards), *quoted]) or EMPTY


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
) -> str:
    """HTML of one piece of evidence; its id is what the citation `[E3]` leads to.

    Args:
        evidence: What to show.
        images: The photographs of the session by handle.
        manifest: Manifest of the tool; None for a tool of the host.
        drawn: Ids of the evidence that the viewer has layers of.
    """
    result = evidence.result
    title = manifest.title if manifest else in_words(evidence.tool)
    sections = [
        _measurements(result.measurements, manifest),
        _findings(result.findings),
        _not_measured(result.not_measured),
        _similar(result.similar),
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


def report_downloads(report_id: str, *, markdown: str, json: str) -> str:
    """Links that save a report from the page itself: it never lies at a server address."""
    links = []
    for ending, media_type, content in (
        ("md", "text/markdown", markdown),
        ("json", "application/json", json),
    ):
        data = base64.b64encode(content.encode("utf-8")).decode("ascii")
        name = f"fovea-report-{report_id}.{ending}"
        links.append(
            f"<a class='fv-button' download='{escape(name)}' "
            f"href='data:{media_type};charset=utf-8;base64,{data}'>Download .{ending}</a>"
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


def _similar(neighbours: Iterable[Neighbour]) -> str:
    texts = [
        f"{n.rank}. {n.case_id} ({', '.join(n.labels) or 'no label'}"
        f"{f', {n.eye}' if n.eye else ''}): nearer than {n.closeness_percentile:.0f} % of "
        f"archive pairs; {n.why}"
        for n in neighbours
    ]
    return _list("Similar cases", texts, "fv-similar")


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
