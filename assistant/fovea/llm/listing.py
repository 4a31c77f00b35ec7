"""Cut a list of unlike things into its items: "lesions, similar cases and a heatmap"."""

from __future__ import annotations

from fovea.llm.clause import Clause
from fovea.llm.lexicon import Hit
from fovea.llm.selection import read_selection

_SEPARATORS = frozenset({"and", ",", "plus"})
_REPORTS = frozenset({"report", "report_word"})
# Words that make an explanation a thing to hand over; "why" and "explain" govern what follows.
_SHOWN = frozenset(
    {"heatmap", "heat", "saliency", "explanation", "attention", "activation", "gradcam", "cam",
     "attribution", "counterfactual", "justification", "rationale", "reasoning", "relevance"}
)  # fmt: skip
_BELONGS = frozenset({"their", "its", "including", "with", "for", "of", "in", "on", "about"})
_GRADE_WORDS = 3


def list_items(clause: Clause) -> list[Clause]:
    """The clause cut around each item that has a tool to itself; the clause alone if none has."""
    items = _items(clause)
    if len(items) < 2:
        return [clause]
    apart = _are_apart(clause, items)
    alone = [n for n in range(len(items)) if apart or _stands_alone(clause, items, n)]
    parts: list[list[str]] = [[]]
    for place, (start, end) in enumerate(items):
        words = list(clause.words[start:end])
        if place in alone:
            parts += [words, []]
        else:
            parts[-1] += ["and", *words] if parts[-1] else words
    return [Clause(tuple(part), clause.lexicon) for part in parts if part]


def _items(clause: Clause) -> list[tuple[int, int]]:
    """Start and end of each item."""
    bounds, start = [], 0
    inside = {place for hit in clause.hits for place in range(hit.start, hit.end)}
    for place, word in enumerate((*clause.words, ",")):
        if word in _SEPARATORS and place not in inside:
            if place > start:
                bounds.append((start, place))
            start = place + 1
    return bounds


def _are_apart(clause: Clause, items: list[tuple[int, int]]) -> bool:
    """Such as "ratio of photo 1 and lesions of photo 2": each has a photograph of its own."""
    named = [read_selection(clause.words[start:end]) for start, end in items]
    asked = [
        any(start <= hit.start < end and _asks(clause, hit) for hit in clause.hits)
        for start, end in items
    ]
    return all(named) and all(asked) and len(set(named)) > 1


def _stands_alone(clause: Clause, items: list[tuple[int, int]], place: int) -> bool:
    start, end = items[place]
    own = [hit for hit in clause.hits if start <= hit.start < end]
    others = [h for h in clause.hits if not start <= h.start < end and _asks(clause, h)]
    following = clause.words[items[place + 1][0]] if place + 1 < len(items) else ""
    if not others or following in _BELONGS or clause.words[start] in _BELONGS:
        return False
    names = {hit.name for hit in own if _asks(clause, hit)}
    if names and names <= _REPORTS:
        return place == len(items) - 1
    if names == {"grade"}:
        return end - start <= _GRADE_WORDS
    shown = bool(_SHOWN & set(clause.words[start:end]))
    return names == {"similar"} or (names == {"explain"} and shown)


def _asks(clause: Clause, hit: Hit) -> bool:
    return hit.name == "grade" or clause.concept(hit).role in {"strong", "vessel"}
