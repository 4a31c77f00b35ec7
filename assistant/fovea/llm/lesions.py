"""Answers about lesions: of all that is measured, what the question asked for."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from fovea.contract import Finding, Measurement, Result
from fovea.llm.clause import Ask
from fovea.llm.lexicon import load_lexicon

OTHER = "other_lesion"
"""Lesions that people ask about and that the tool does not look for."""


@cache
def _table() -> dict[str, Any]:
    table = tomllib.loads(files("fovea.llm").joinpath("words.toml").read_text(encoding="utf-8"))
    return table["lesion"]  # type: ignore[no-any-return]


def lesion_sentences(
    result: Result,
    ask: Ask,
    *,
    where: str,
    citation: str,
    tell: Callable[[Finding], str],
    quantity: Callable[[Measurement], str],
) -> list[str]:
    """Sentences on the kinds and the aspect that were asked about, each with its citation.

    Args:
        result: What the lesion tool found.
        ask: Concepts and words of the question.
        where: Such as ` of the right eye (OD)`.
        citation: Id of the evidence.
        tell: Words a finding.
        quantity: Words a value with its unit and range.
    """
    stems, others = _asked_kinds(ask)
    said = [_not_sought(others)] if others else []
    if others and not stems:
        return said
    stems = stems or tuple(_table()["plural"])
    asked = set(ask.words)
    facets = [facet for facet in _table()["facet"] if asked & set(facet["words"])][:1]
    if [facet["name"] for facet in facets] != ["count"]:
        said += [tell(f) for f in result.findings if f.concept.startswith(stems)]
    for stem in stems:
        for facet in facets:
            for ending in facet["endings"]:
                said += _values(result, stem, ending, where, citation, quantity)
                said += _gap(result, stem, ending, where, citation)
    if asked & set(_table()["drawn"]):
        said += _drawn(result, stems, where, citation)
    return said


def _asked_kinds(ask: Ask) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Beginnings of the measurement names, and names of lesions that are not looked for."""
    lexicon = load_lexicon()
    known = _table()["plural"]
    aspects = [lexicon.concepts[name].aspect for name in ask.concepts if name in lexicon.concepts]
    others = [
        " ".join(ask.words[hit.start : hit.end])
        for hit in lexicon.subjects.find(ask.words)
        if hit.name == OTHER and OTHER in ask.concepts
    ]
    return tuple(a for a in aspects if a in known), tuple(dict.fromkeys(others))


def _not_sought(others: Sequence[str]) -> str:
    *rest, last = _table()["plural"].values()
    named = " or ".join(others)
    return f"I cannot find {named}: I can find {', '.join(rest)} and {last} only."


def _name(stem: str, ending: str) -> str:
    table = _table()
    text: str = table["measure"][ending]
    return text.format(plural=table["plural"][stem], singular=table["singular"][stem])


def _values(
    result: Result, stem: str, ending: str, where: str, citation: str,
    quantity: Callable[[Measurement], str],
) -> list[str]:  # fmt: skip
    """One sentence; regions are listed in it."""
    own = [m for m in result.measurements if m.name == f"{stem}_{ending}"]
    if not own:
        return []
    if own[0].zone is None:
        return [f"The {_name(stem, ending)}{where} is {quantity(own[0])} [{citation}]."]
    listed = ", ".join(f"{_region(m)} {quantity(m)}" for m in own)
    return [f"The {_name(stem, ending)}{where} is: {listed} [{citation}]."]


def _region(m: Measurement) -> str:
    return (m.zone or "").replace("_", " ").replace("etdrs", "ETDRS")


def _gap(result: Result, stem: str, ending: str, where: str, citation: str) -> list[str]:
    return [
        f"The {_name(stem, ending)}{where} could not be measured: "
        f"{gap.reason.rstrip('.')} [{citation}]."
        for gap in result.not_measured
        if gap.name == f"{stem}_{ending}"
    ]


def _drawn(result: Result, stems: Sequence[str], where: str, citation: str) -> list[str]:
    """Says that masks can be seen, of the kinds of which something was counted."""
    counted = [s for s in stems if (m := result.measurement(f"{s}_count")) and m.value > 0]
    sure = [s for s in counted if (f := result.finding(s)) and f.state == "present"]
    open_ = [s for s in counted if s not in sure]
    return [
        f"{start} {_listed(group)}{where} are outlined in the image view [{citation}]."
        for start, group in (("The", sure), ("Possible", open_))
        if group
    ]


def _listed(stems: Sequence[str]) -> str:
    *rest, last = [_table()["plural"][stem] for stem in stems]
    return f"{', '.join(rest)} and {last}" if rest else last
