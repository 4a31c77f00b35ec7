"""Which image tools a clause asks for."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set

from fovea.llm.clause import OVERVIEW, Ask, Clause
from fovea.llm.lexicon import Hit
from fovea.llm.selection import Selection

_ACTS = frozenset({"similar", "explain", "report", "report_word", "change", "compare"})
_STRUCTURES = frozenset({"disc", "vessel", "artery", "vein", "macula", "fovea", "rim"})
_REGIONS = frozenset({"grid", "zone"})
_APART = frozenset({"distance", "far", "apart", "between", "separation", "angle", "gap"})
_WITHIN = frozenset(
    {"per", "by", "in", "within", "inside", "outside", "each", "every", "of", "which", "what"}
)
_QUALITY = frozenset({"quality", "laterality", "field", "modality"})
_PLACING = frozenset(
    {"along", "near", "around", "at", "beside", "above", "below", "from", "inside"}
)
_SIDED = frozenset({"nasal", "temporal", "superior", "inferior", "close", "closer", "next",
                    "adjacent", "nasally", "temporally", "left", "right"})  # fmt: skip
_SEEN = frozenset({"visible", "seen", "discernible", "identifiable"})
_CASES = frozenset(
    {"case", "archive", "database", "before", "library", "patient", "neighbor", "people",
     "person", "anyone", "anybody", "someone", "somebody"}
)  # fmt: skip
_ADJECTIVES = ("ic", "ive", "ous", "ular", "al")
_DRAWN = frozenset({"mask", "map", "outline", "overlay", "segmentation", "tracing", "contour"})
_STATED = frozenset(
    {"how", "measure", "quantify", "width", "diameter", "wide", "narrow", "narrowing", "length",
     "thickness", "statistic", "metric", "parameter", "property"}
)  # fmt: skip
_MASKS = ("segment_vessels", "segment_optic_disc", "segment_lesions")
_BIOMARKERS = "measure_biomarkers"


def image_asks(clause: Clause, last_tools: Collection[str]) -> list[Ask]:
    """What the clause asks of images, strongest reading first.

    Args:
        clause: A clause that is not about knowledge.
        last_tools: Tools of the question before, for "and the arteries?".
    """
    placed = {
        hit for hit in clause.hits if _is_place(clause, hit) or _counts_by_region(clause, hit)
    }
    strong = {
        hit.name
        for hit in clause.of_role("strong")
        if hit not in placed and not _is_finding(clause, hit)
    }
    things = [n for n in clause.names if n in strong and n not in _ACTS]
    selection = clause.selection
    if "report" in strong and _exports_mask(clause):
        strong -= {"report"}
        things = [name for name in things if name != "report"]
    if "report" in strong or ("report_word" in strong and _is_noun(clause, things)):
        return [Ask("draft_report", ("report",), selection=selection)]
    if "similar" in strong:
        pair = clause.paired and not _CASES & set(clause.words)
        tool, concept = ("compare_images", "change") if pair else ("find_similar_cases", "similar")
        return [Ask(tool, (concept,), selection=selection)]
    if "explain" in strong and not strong & _QUALITY:
        return [Ask("explain_prediction", ("explain",), selection=selection)]
    if "change" in strong:
        return [Ask("compare_images", tuple(things) or ("change",), selection=selection)]
    if "compare" in strong:
        if not things and not clause.of_role("vessel"):
            return [Ask("compare_images", ("change",), selection=selection)]
        selection = selection or Selection(every=True)
    if _spans_disc_and_fovea(clause, strong):
        line = "disc_fovea_angle" if "angle" in clause.words else "disc_fovea"
        return [Ask("place_grid", (line,), selection=selection)]
    if _about_visibility(clause):
        judged = tuple(n for n in clause.names if n in _QUALITY) or ("quality",)
        return [Ask("assess_quality", judged, selection=selection)]
    if strong & _REGIONS and "field" in clause.words:
        things = [name for name in things if name not in _QUALITY]  # whether the region is in it
    if things == ["branching"] and clause.of_role("vessel") and clause.has("show"):
        things = []  # the branching pattern is drawn, not measured
    concepts = clause.lexicon.concepts
    asks = [Ask(concepts[name].tool, (name,), selection=selection) for name in things]
    measured = any(ask.tool == _BIOMARKERS for ask in asks)
    return asks + _vessel_asks(clause, selection, last_tools, measured=measured)


def weak_asks(clause: Clause) -> list[Ask]:
    """What a clause asks that names nothing in particular."""
    selection, names = clause.selection, set(clause.names)
    everything = clause.words[-1] == "everything"
    if everything and clause.has("show"):
        return [Ask(tool, ("describe",), selection=selection) for tool in _MASKS]
    if "region" in names:
        return [Ask("explain_prediction", ("explain",), selection=selection)]
    if "grade" in names:
        return [Ask("classify_disease", ("grade",), selection=selection)]
    if "describe" in names or everything:
        return [Ask(tool, ("describe",), selection=selection) for tool in OVERVIEW]
    if names & {"health", "macula"}:
        return [Ask("classify_disease", ("health",), selection=selection)]
    return []


def _is_finding(clause: Clause, hit: Hit) -> bool:
    """Such as "proliferative changes", which need no second image; not "has the DR changed"."""
    before = clause.words[hit.start - 1] if hit.start else ""
    described = any(h.end == hit.start and clause.concept(h).tool for h in clause.hits)
    noun = clause.words[hit.start : hit.end] == ("change",)
    return noun and described and before.endswith(_ADJECTIVES)


def _is_place(clause: Clause, hit: Hit) -> bool:
    """Such as "haemorrhages along the arcades": where to look for something else."""
    before = [word for word in clause.words[max(0, hit.start - 3) : hit.start] if word != "the"]
    located = hit.name in _STRUCTURES and bool(before) and before[-1] in _PLACING
    sided = hit.name in _STRUCTURES and before[-1:] in (["to"], ["of"]) and before[0] in _SIDED
    others = (h for h in clause.of_role("strong") if h.end <= hit.start)
    return (located or sided) and any(h.name not in _STRUCTURES | _ACTS for h in others)


def _counts_by_region(clause: Clause, hit: Hit) -> bool:
    """Such as "exudates per ETDRS field": the lesions are asked for, not the grid."""
    before = [word for word in clause.words[max(0, hit.start - 3) : hit.start] if word != "the"]
    others = {h.name for h in clause.of_role("strong")} - _REGIONS - _STRUCTURES - _QUALITY - _ACTS
    return hit.name in _REGIONS and bool(others) and bool(_WITHIN & set(before[-1:]))


def _spans_disc_and_fovea(clause: Clause, strong: Set[str]) -> bool:
    """Such as "how far is the fovea from the nerve head": about neither, but the line between."""
    both = "disc" in clause.names and bool({"fovea", "macula"} & set(clause.names))
    return both and bool(_APART & set(clause.words)) and strong <= {"disc", "disc_size", "fovea"}


def _exports_mask(clause: Clause) -> bool:
    """Such as "export the vessel mask": a file, but no report."""
    files = any(clause.words[hit.start : hit.end] == ("export",) for hit in clause.hits)
    return files and bool(_DRAWN & set(clause.words))


def _is_noun(clause: Clause, things: Sequence[str]) -> bool:
    """Such as "Write a report", but not "report the ratio"."""
    words = clause.words
    place = words.index("report")
    if not things:
        return True
    if place == 0:
        return False
    article = words[place - 1] not in {"please", "you", "to", "and", "just"}
    determined = words[place - 1] in {"a", "the", "full", "pdf", "clinical", "my"}
    return determined or (article and clause.has("create"))


def _about_visibility(clause: Clause) -> bool:
    """Whether a structure is named only to ask if it can be judged or seen."""
    named = [hit for hit in clause.hits if hit.name in _STRUCTURES]
    others = set(clause.names) - _STRUCTURES - _QUALITY - {"health", "grade"}
    if not named or others:
        return False
    judged = [hit for hit in clause.hits if hit.name in _QUALITY]
    if not judged:
        return bool(_SEEN & set(clause.words)) and clause.words[0] in {"be", "can", "how"}
    # "quality and vessels" lists two things; "are disc and vessels sharp" asks one.
    listed = {"and", ","} & set(clause.words[judged[0].end : named[0].start])
    return not (judged[0].end <= named[0].start and listed)


def _vessel_asks(
    clause: Clause, selection: Selection, last_tools: Collection[str], *, measured: bool
) -> list[Ask]:
    """Vessels are shown, unless an attribute of theirs is asked for."""
    vessels = [hit for hit in clause.of_role("vessel") if not _is_place(clause, hit)]
    if not vessels:
        return []
    names = tuple(dict.fromkeys(hit.name for hit in vessels))
    shown = clause.has("show", clause.words[: vessels[0].start])
    if measured:
        both = shown and _listed_apart(clause, vessels)
        return [Ask("segment_vessels", names, selection=selection)] if both else []
    attributes = clause.lexicon.attributes.find(clause.words)
    if attributes and _drawn_besides(clause.words, attributes):
        return [Ask(tool, names, selection=selection) for tool in ("segment_vessels", _BIOMARKERS)]
    if attributes and (not shown or _stated(clause.words, attributes)):
        return [Ask(_BIOMARKERS, names, selection=selection)]
    goes_on = clause.continues or clause.has("repeat")
    if not shown and goes_on and set(last_tools) == {_BIOMARKERS}:
        return [Ask(_BIOMARKERS, names, selection=selection)]
    return [Ask("segment_vessels", names, selection=selection)]


def _listed_apart(clause: Clause, vessels: Sequence[Hit]) -> bool:
    """Whether vessels and their measurement are two items of a list."""
    end = vessels[-1].end
    later = [h for h in clause.hits if clause.concept(h).tool == _BIOMARKERS and h.start > end]
    return any({"and", ","} & set(clause.words[end : hit.start]) for hit in later)


def _drawn_besides(words: Sequence[str], attributes: Sequence[Hit]) -> bool:
    """Such as "vessels: masks plus all measurements": two items of a list."""
    drawn = [place for place, word in enumerate(words) if word in _DRAWN]
    return any(
        {"and", ",", "plus", "with"} & set(words[min(place, hit.start) : max(place, hit.start)])
        for place in drawn
        for hit in attributes
    )


def _stated(words: Sequence[str], attributes: Sequence[Hit]) -> bool:
    """Whether an attribute is asked about ("show how wide"), not just named."""
    return "how" in words or any(_STATED & set(words[hit.start : hit.end]) for hit in attributes)
