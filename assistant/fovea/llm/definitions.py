"""Whether a clause asks about things in general rather than about an image.

"What is a normal CDR?" is looked up; "what is the CDR of this eye?" is measured;
"is the CDR of this eye within the normal range?" is both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from fovea.llm.clause import DEICTIC, IMAGE_NOUNS, PRONOUNS, Clause
from fovea.llm.lexicon import Hit
from fovea.llm.text import BREAKS

Mode = Literal["no", "only", "also"]

_ACTS = frozenset({"report", "report_word", "similar"})
_FILLER = frozenset({"so", "and", "but", "well", "please", "then", "ok", "hi"})
# What is judged or done to an image; "what is quality" alone is no definition.
_NEVER_DEFINED = frozenset(
    {"health", "grade", "describe", "region", "dr_grade", "report", "quality",
     "laterality", "field", "modality", "referable",
     "similar", "change", "compare"}
)  # fmt: skip
_OPENINGS = frozenset({"what be", "what a", "what does", "what do", "what would", "what mean"})
_USUAL = frozenset({"normal", "average", "mean", "healthy", "usual", "high", "meant"})
_METHOD = frozenset(
    {"defined", "graded", "measured", "calculated", "computed", "diagnosed", "classified",
     "detected", "staged", "assessed", "derived", "obtained", "estimated", "quantified", "treated"}
)  # fmt: skip
_ANATOMY = frozenset({"disc", "vessel", "artery", "vein", "rim", "macula", "knowledge_topic"})
_GENERAL_NOUNS = frozenset(
    {"sign", "feature", "symptom", "hallmark", "complication", "stages", "grades", "cause", "type",
     "form", "role", "purpose", "function", "definition", "characteristic", "consequence",
     "prognosis", "outlook", "prevalence", "incidence", "mechanism", "meaning", "criteria"}
)  # fmt: skip
# Of these a photograph shows nothing, so that "symptoms of glaucoma" needs no "what are the".
_UNSEEN = frozenset(
    {"symptom", "hallmark", "complication", "cause", "type", "criteria", "definition", "prognosis",
     "mechanism", "prevalence", "incidence", "role", "purpose", "consequence"}
)  # fmt: skip
_INTERROGATIVES = frozenset(
    {"what", "which", "how", "why", "when", "who", "be", "do", "does", "can", "should", "could"}
)
_PURPOSE = frozenset({"for", "responsible", "do", "good", "made", "of"})
_PRESENCE = frozenset({"present", "visible", "there", "seen", "found", "detected", "shown"})
_MEASURED = frozenset({"segment_optic_disc", "measure_biomarkers"})
_PATHOLOGY = frozenset({"segment_lesions", "classify_disease"})
_ORDERS = frozenset({"compute", "calculate", "measure", "quantify", "estimate", "determine"})
_POLITE = frozenset({"please", "can", "could", "would", "will", "you", "i", "want", "need", "like",
                     "to", "and", "then", "now", "also", "just", "first", "ok", "let", "we", "us",
                     "for", "me", "next", "so"})  # fmt: skip
_WORTH = frozenset({"important", "relevant", "useful", "used", "significant", "dangerous", "bad"})
_EXTREME = frozenset({"high", "low", "large", "small", "big", "increased", "reduced", "raised"})
_EXPECTED = frozenset({"normal", "typical", "healthy", "reference", "usual", "expected"})
_VALUE = re.compile(r"\d\.\d+%?|\d+%")


def knowledge_mode(
    clause: Clause, *, anchored: bool, after_lookup: bool, pictured: bool = True
) -> Mode:
    """Whether to look up: not at all, only, or besides measuring.

    Args:
        clause: The clause.
        anchored: The conversation has named something that "it" can mean.
        after_lookup: The clause or question before was a look-up.
        pictured: There is a photograph that the clause can be about.
    """
    clause = _without_adverbials(clause)
    if _orders_measuring(clause):
        return "no"
    if _defines(clause) and (clause.hits or (anchored and PRONOUNS & set(clause.words))):
        return "only"
    if anchored and clause.words[:2] == ("what", "be") and set(clause.words[2:]) <= PRONOUNS:
        return "only"
    if _asks_meaning(clause.words):
        return "only"
    ranges = clause.has("range") or _asks_range(clause.words)
    guided = clause.has("guidance")
    if guided and (not clause.deictic or (anchored and not clause.of_role("strong", "vessel"))):
        return "only" if anchored or clause.hits else "no"
    if clause.deictic:
        means = clause.words[:2] == ("what", "does") and "mean" in clause.words
        return "also" if (ranges or means or guided) and not _ACTS & set(clause.names) else "no"
    clinical = {h.name for h in clause.hits if not _is_organ(clause, h)} - _ACTS
    clinical -= {"describe", "region"}
    goes_on = anchored and clause.continues
    if (ranges and (clinical or anchored)) or (clause.has("know") and (clinical or goes_on)):
        return "only"
    weighed = {"compare"} if {"versus", "vs"} & set(clause.words) else set()
    strong = {hit.name for hit in clause.of_role("strong")} - weighed
    if not strong and any(not _is_organ(clause, hit) for hit in clause.of_role("topic")):
        return "only"
    rest = list(clause.words)
    while rest and rest[0] in _FILLER:
        rest.pop(0)
    if _is_general(clause, rest) or (after_lookup and _goes_on(clause, rest)):
        return "only"
    if not pictured and _asks_in_general(clause, rest):
        return "only"
    return "no"


def _defines(clause: Clause) -> bool:
    """Whether a definition is asked for; the "definition" of a field of view is no such word."""
    inside = {place for hit in clause.hits for place in range(hit.start, hit.end)}
    return any(hit.start not in inside for hit in clause.lexicon.cues["define"].find(clause.words))


def _asks_in_general(clause: Clause, rest: Sequence[str]) -> bool:
    """A whole question about a thing without "the" or "any", asked where there is no image."""
    asks = {hit.name for hit in clause.hits}
    about = [hit for hit in clause.hits if hit.name not in _NEVER_DEFINED]
    if not about or rest[0] not in _INTERROGATIVES or asks & (_ACTS | {"explain", "region"}):
        return False
    definite = any("the" in clause.words[max(0, h.start - 1) : h.end] for h in about)
    specific = set(clause.words) & (PRONOUNS | _PRESENCE | {"any", "you", "image", "photo"})
    return not (definite or specific or clause.has("show"))


def _is_organ(clause: Clause, hit: Hit) -> bool:
    """Whether a hit only says where: "of the retina"."""
    return clause.words[hit.start : hit.end] == ("retina",)


def _without_adverbials(clause: Clause) -> Clause:
    """The clause without "in plain words", "briefly" and the like, which may stand anywhere."""
    words = list(clause.words)
    for hit in reversed(clause.lexicon.cues["adverbial"].find(words)):
        del words[hit.start : hit.end]
    return Clause(tuple(words), clause.lexicon) if words else clause


def _orders_measuring(clause: Clause) -> bool:
    """Such as "Compute CRAE with the Knudtson formula", but not "how to compute CRAE"."""
    verbs = [place for place, word in enumerate(clause.words) if word in _ORDERS]
    before = set(clause.words[: verbs[0]]) if verbs else set()
    named = any(clause.concept(hit).tool in _MEASURED for hit in clause.hits)
    return named and bool(verbs) and before <= _POLITE


def _asks_range(words: Sequence[str]) -> bool:
    """Such as "normal AVR range", with the thing between the two words."""
    return any(
        word in _EXPECTED and {"range", "value", "limit", "interval"} & set(words[place + 1 :])
        for place, word in enumerate(words)
    )


def _asks_meaning(words: Sequence[str]) -> bool:
    """Such as "what does NPDR mean?", but not "what does that mean?"."""
    if "what" not in words or "mean" not in words[words.index("what") :]:
        return False
    start = words.index("what") + 1
    inner = set(words[start : words.index("mean", start)]) - {"do", "does", "would"}
    bare_sides = inner <= {"od", "os", "ou", "and", "or"}
    at_hand = DEICTIC | PRONOUNS | {"you"} | (IMAGE_NOUNS - {"od", "os", "retina", "fundus"})
    if len(inner) > 1:
        at_hand -= {"that"}  # "what does that grade mean?" asks about grades
    # In "what is the mean calibre" the mean is a number.
    return bool(inner) and "be" not in inner and (bare_sides or not inner & at_hand)


def _is_general(clause: Clause, rest: list[str]) -> bool:
    """Forms that ask about a thing in general: "what is a ...", "explain ...", "is 0.7 high"."""
    offset = len(clause.words) - len(rest)
    starts = {h.start - offset: h for h in clause.hits if h.name not in _NEVER_DEFINED}
    text = " ".join(rest)
    if re.match(r"(explain|define|tell me about) (a )?(mild|moderate|severe|npdr|pdr)\b", text):
        return True
    if not starts:
        return False
    if rest[0] in _UNSEEN and rest[1:2] in (["of"], ["for"]):
        return True
    if text.startswith("what be the ") and _general_noun(rest[3:], starts):
        return True
    if re.match(r"what be (a )?(grade|stage|level) \d", text):
        return True
    if " ".join(rest[:2]) in _OPENINGS:
        usual = rest[2:3] and rest[2] in _USUAL and {3, 4} & set(starts)
        if 2 in starts or rest[2:3] in (["a"], ["an"]) or usual:
            return True
    if rest[0] == "what" and "the normal" in text:
        return True
    if (rest[0] == "explain" and 1 in starts) or (text.startswith("tell me about") and 3 in starts):
        return True
    if rest[0] in {"why", "how"}:
        return _why_or_how(rest, starts)
    return _judged_in_general(clause, rest, starts)


def _general_noun(rest: list[str], starts: Mapping[int, Hit]) -> bool:
    """Such as "What is the macula?", "what are the signs of glaucoma?": not about one eye."""
    if 3 in starts and starts[3].name in _ANATOMY:
        after = rest[starts[3].end - starts[3].start :]
        return all(word in BREAKS or word in _PURPOSE for word in after)
    return bool(rest) and rest[0] in _GENERAL_NOUNS and rest[1:2] in (["of"], ["for"])


def _why_or_how(rest: Sequence[str], starts: Mapping[int, Hit]) -> bool:
    second, third = [*rest[1:3], "", ""][:2]
    if rest[0] == "why":
        asked = second in {"do", "does"} or (second == "be" and _WORTH & set(rest))
        return bool(asked) and 2 in starts and starts[2].name != "explain"
    if 0 in starts and starts[0].name == "explain":
        return False  # "how do you know"
    if second == "be":
        return bool(_METHOD & set(rest)) and third != "the"
    general = 2 in starts or third in {"you", "one"}
    return second in {"do", "does"} and general and "look" not in rest


def _judged_in_general(clause: Clause, rest: Sequence[str], starts: Mapping[int, Hit]) -> bool:
    """Such as "Are exudates dangerous?", "is 0.8 a high ratio?", "NPDR against PDR"."""
    concepts = clause.lexicon.concepts
    tools = {concepts[hit.name].tool for hit in starts.values()}
    if rest[0] in {"be", "do", "does", "can"}:
        about = starts.get(1) or (starts.get(2) if rest[1] in {"a", "an"} else None)
        general = clause.has("judge", rest) or rest[0] != "be"
        if _EXTREME & set(rest[1:2]) and 2 in starts:
            return clause.has("judge", rest[2:])  # "is high tortuosity bad"
        if about and concepts[about.name].tool in _PATHOLOGY and general:
            return not _PRESENCE & set(rest)
    if any(_VALUE.fullmatch(word) for word in rest):
        return bool(tools & _MEASURED) and (clause.has("judge", rest) or "what" in rest)
    between = "between" in rest or (bool(tools & _PATHOLOGY) and {"vs", "versus"} & set(rest))
    return bool(between) and bool({"change", "compare"} & set(clause.names)) and not clause.paired


def _goes_on(clause: Clause, rest: Sequence[str]) -> bool:
    """Such as "And AVR?" after a definition asks for another definition."""
    named = {hit.name for hit in clause.of_role("strong", "vessel", "topic")}
    acts = _ACTS | {"explain", "change"}
    if not named or acts & named or len(rest) > 6 or (clause.has("show", rest)):
        return False
    return not clause.lexicon.heads & set(rest) - {"what", "how", "also"}
