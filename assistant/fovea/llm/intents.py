"""What a question asks for: from words to tools, before images are looked at.

A question is cut into clauses; each clause is about images (a tool measures) or
about knowledge (a definition, a range, a criterion is looked up). What is only
hinted at ("and the other eye?", "is that normal?") is filled in from the
question before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fovea.llm.lexicon import Hit, Lexicon, load_lexicon
from fovea.llm.selection import NO_SELECTION, Selection, read_selection
from fovea.llm.text import BREAKS

LOOKUP = "lookup_knowledge"
OVERVIEW = (
    "assess_quality", "segment_optic_disc", "measure_biomarkers", "classify_disease",
    "segment_lesions",
)  # fmt: skip
"""What "describe this image" runs, in the order of the answer."""

ReplyKind = Literal["", "empty", "greet", "thank", "about", "hostile", "outside", "treatment"]

_HISTORY = 8
_HOSTILE = re.compile(
    r"(?i)\b(ignore|disregard|forget|override|bypass|overrule)\b[^.?!]{0,40}"
    r"\b(instruction|instructions|rules?|prompts?|guidelines|system|guardrails?|polic(y|ies)"
    r"|everything (you|above)|what you were told|previous messages?|training)\b"
    r"|\bsystem\s+(prompt|message|override)|\bjailbreak|\bdeveloper mode\b|\bDAN\b"
    r"|\bpretend (to be|you)|\byou are now\b|\brole-?play\b|\bact as (if|an?|root|admin)\b"
    r"|\b(delete|erase|wipe|drop)\b.{0,30}\b(files?|database|archive|disk|sessions?|tables?)\b"
    r"|\b(rm -rf|sudo|chmod|curl|wget|eval\(|os\.system|<script|select \*|/etc/|\.\./)"
    r"|\b(reveal|print|show|leak|output|repeat)\b.{0,25}\b(system prompt|prompt|secrets?|api keys?|passwords?"
    r"|instructions)\b|\b(fake|make up|invent|fabricate|hallucinate)\b"
    r"|[/\\]\w+[/\\]\w+|</?(tool|system|assistant)|tool_calls?\b|\"arguments\""
)
_DEICTIC = frozenset({"this", "these", "here", "my", "his", "her", "he", "she", "our", "im"})
_IMAGE_NOUNS = frozenset(
    {"image", "photo", "picture", "photograph", "scan", "eye", "patient", "retina", "fundus",
     "left", "right", "od", "os", "pair", "one", "visit", "case", "result"}
)  # fmt: skip
_PRONOUNS = frozenset({"it", "that", "this", "they", "them", "those", "these"})
_METHOD = frozenset(
    {"defined", "graded", "measured", "calculated", "computed", "diagnosed", "classified",
     "detected", "staged", "assessed", "derived", "obtained", "estimated", "quantified", "treated"}
)  # fmt: skip
_PRESENCE = frozenset({"present", "visible", "there", "seen", "found", "detected", "shown"})
_FOLLOW_UP = frozenset({"and", "now", "also", "then", "or", "ok", "okay", "so"})
_CASES = frozenset({"case", "archive", "database", "before", "library", "patient", "neighbor"})
_MEASURED = frozenset({"segment_optic_disc", "measure_biomarkers"})


@dataclass(frozen=True)
class Ask:
    """One thing asked of one tool.

    Attributes:
        concepts: Names of lexicon concepts, to answer what was asked first.
        query: Words to look up, for `lookup_knowledge`.
        selection: Which images, as far as the words say.
    """

    tool: str
    concepts: tuple[str, ...] = ()
    query: str = ""
    selection: Selection = NO_SELECTION


@dataclass(frozen=True)
class Reading:
    """A question as understood: what it asks, or which plain reply it gets."""

    asks: tuple[Ask, ...] = ()
    reply: ReplyKind = ""
    words: tuple[str, ...] = ()
    negated: bool = False


def read_question(text: str, earlier: Sequence[str] = (), *, extra: Iterable[str] = ()) -> Reading:
    """What `text` asks for.

    Args:
        text: The question.
        earlier: The person's earlier questions, oldest first.
        extra: Words of other tools, which are not misspellings.
    """
    return read_conversation([*earlier, text], extra=extra)[-1]


def read_conversation(questions: Sequence[str], *, extra: Iterable[str] = ()) -> list[Reading]:
    """The reading of each of the last questions, each in the light of those before."""
    lexicon, known = load_lexicon(), frozenset(extra)
    before: Reading | None = None
    readings = []
    for question in questions[-_HISTORY:]:
        reading = _Reader(lexicon, known, before).read(question)
        before = reading if reading.asks else before
        readings.append(reading)
    return readings


class _Reader:
    """Reads one question in the light of the one before."""

    def __init__(self, lexicon: Lexicon, extra: frozenset[str], before: Reading | None) -> None:
        self.lexicon, self.extra, self.before = lexicon, extra, before
        self.knowing = False
        self.outside: ReplyKind = ""

    def read(self, text: str) -> Reading:
        if not any(mark.isalnum() for mark in text):
            # A lone question mark after an answer is still not a question.
            return Reading(reply="empty")
        if _HOSTILE.search(text):
            return Reading(reply="hostile")
        words = self._after_correction(self.lexicon.words(text, self.extra))
        asks: list[Ask] = []
        negated = False
        for clause in self._clauses(words):
            kept, dropped = self._without_excluded(clause)
            negated |= dropped
            asks += self._clause(kept, asks)
        if negated:
            unwanted = self._unwanted_tools(words)
            asks = [ask for ask in asks if not (len(asks) > 2 and ask.tool in unwanted)]
        if not asks and not self.outside and not negated:
            asks = self._follow_up(words)
        reply: ReplyKind = "" if asks else self._reply(words)
        return Reading(tuple(_merged(asks)), reply, tuple(words), negated)

    def _after_correction(self, words: list[str]) -> list[str]:
        hits = self.lexicon.cues["correct"].find(words)
        for hit in reversed(hits):
            rest = [word for word in words[hit.end :] if word not in BREAKS]
            if self.lexicon.subjects.find(rest):
                return words[hit.end :]
        return words

    def _clauses(self, words: Sequence[str]) -> list[list[str]]:
        """Cut at full stops, and at "and" or commas that begin a new request."""
        clauses: list[list[str]] = [[]]
        for place, word in enumerate(words):
            following = words[place + 1 : place + 3]
            joins = word in {"and", ",", "then", "also", "plus", "but"}
            heads = any(next_ in self.lexicon.heads for next_ in following[:1]) or (
                following[:1] in (["and"], ["then"], ["also"])
                and any(next_ in self.lexicon.heads for next_ in following[1:2])
            )
            if word in {".", "?", ";"} or (joins and heads):
                clauses.append([])
            elif word != "," or clauses[-1]:
                clauses[-1].append(word)
        return [clause for clause in clauses if clause]

    def _without_excluded(self, clause: list[str]) -> tuple[list[str], bool]:
        """The clause without what the person does not want, and whether there was any."""
        hits = self.lexicon.cues["exclude"].find(clause)
        # "Don't you see ..." and "is there no ..." ask, they do not forbid.
        hits = [hit for hit in hits if clause[hit.end : hit.end + 1] not in (["you"], ["we"])]
        kept, place = [], 0
        for hit in hits:
            if hit.start < place:
                continue
            end = hit.end
            while end < len(clause) and not self._ends_exclusion(clause, end):
                end += 1
            kept += clause[place : hit.start]
            place = end
        return kept + clause[place:], bool(hits)

    def _ends_exclusion(self, clause: Sequence[str], place: int) -> bool:
        return clause[place] == "," or bool(self.lexicon.cues["spoken"].longest_at(clause, place))

    def _unwanted_tools(self, words: Sequence[str]) -> set[str]:
        return {
            self.lexicon.concepts[hit.name].tool
            for place in (hit.end for hit in self.lexicon.cues["exclude"].find(words))
            for hit in self.lexicon.subjects.find(words[place : place + 4])
        }

    # One clause -----------------------------------------------------------------

    def _clause(self, words: list[str], so_far: Sequence[Ask]) -> list[Ask]:
        hits = self.lexicon.subjects.find(words)
        concepts = self.lexicon.concepts
        selection = read_selection(words)
        names = {hit.name for hit in hits}
        outside = [hit for hit in hits if concepts[hit.name].role == "outside"]
        if outside:
            self.outside = "treatment" if "treatment" in names else "outside"
            return []
        deictic = self._deictic(words)
        knows = self._knowledge(words, hits, deictic)
        self.knowing = knows == "only"
        if knows == "only":
            return self._lookup(words, hits, so_far)
        asks = self._about_images(words, hits, selection)
        if knows == "also" and (asks or so_far or self.before):
            measured = [hit for hit in hits if concepts[hit.name].role == "strong"]
            asks = [ask for ask in asks if ask.concepts != ("health",)]
            asks += self._lookup(words, measured, [*so_far, *asks])
        return asks

    def _about_images(
        self, words: Sequence[str], hits: Sequence[Hit], selection: Selection
    ) -> list[Ask]:
        names = [hit.name for hit in hits]
        strong = [n for n in names if self._role(n) == "strong"]
        paired = self._paired(words)
        acts = {"similar", "explain", "report", "report_word", "change", "compare"}
        things = [n for n in strong if n not in acts]
        vessel = [n for n in names if self._role(n) == "vessel"]
        if "report" in strong or ("report_word" in strong and self._noun_report(words, things)):
            return [Ask("draft_report", ("report",), selection=selection)]
        if "similar" in strong:
            if paired and not _CASES & set(words):
                return [Ask("compare_images", ("change",), selection=selection)]
            return [Ask("find_similar_cases", ("similar",), selection=selection)]
        if "explain" in strong and "quality" not in strong:
            return [Ask("explain_prediction", ("explain",), selection=selection)]
        if "change" in strong:
            return [Ask("compare_images", tuple(things) or ("change",), selection=selection)]
        if "compare" in strong:
            if not things and not vessel:
                return [Ask("compare_images", ("change",), selection=selection)]
            if not selection:
                selection = Selection(every=True)
        asks = [
            Ask(self.lexicon.concepts[name].tool, (name,), selection=selection) for name in things
        ]
        asks += self._vessels(words, hits, selection, measured="measure_biomarkers" in
                              {ask.tool for ask in asks})  # fmt: skip
        return asks or self._weak(words, names, selection)

    def _weak(self, words: Sequence[str], names: Sequence[str], selection: Selection) -> list[Ask]:
        """What a clause asks that names nothing in particular."""
        if judged := self._judged(words, selection):
            return judged
        if "region" in names:
            return [Ask("explain_prediction", ("explain",), selection=selection)]
        if "grade" in names:
            return [Ask("classify_disease", ("grade",), selection=selection)]
        if "describe" in names:
            return [Ask(tool, ("describe",), selection=selection) for tool in OVERVIEW]
        if "health" in names:
            return [Ask("classify_disease", ("health",), selection=selection)]
        return []

    def _vessels(
        self, words: Sequence[str], hits: Sequence[Hit], selection: Selection, *, measured: bool
    ) -> list[Ask]:
        """Vessels are shown, unless an attribute of theirs is asked for."""
        vessels = [hit for hit in hits if self._role(hit.name) == "vessel"]
        if not vessels:
            return []
        names = tuple(dict.fromkeys(hit.name for hit in vessels))
        shown = self.lexicon.has("show", words[: vessels[0].start])
        attributes = self.lexicon.attributes.find(words)
        if measured and not (shown and self._separate(words, vessels, hits)):
            return []
        if attributes and not measured and not (shown and not self._states(words, attributes)):
            return [Ask("measure_biomarkers", names, selection=selection)]
        if not shown and self._follows_on(words) and self._last_tools() == {"measure_biomarkers"}:
            return [Ask("measure_biomarkers", names, selection=selection)]
        return [Ask("segment_vessels", names, selection=selection)]

    def _separate(self, words: Sequence[str], vessels: Sequence[Hit], hits: Sequence[Hit]) -> bool:
        """Whether vessels and their measurement are two items of a list."""
        others = [hit for hit in hits if self.lexicon.concepts[hit.name].tool ==
                  "measure_biomarkers" and hit.start > vessels[-1].end]  # fmt: skip
        return any({"and", ","} & set(words[vessels[-1].end : hit.start]) for hit in others)

    def _states(self, words: Sequence[str], attributes: Sequence[Hit]) -> bool:
        """Whether an attribute is asked about ("show how wide"), not just named ("map")."""
        real = {"how", "measure", "quantify", "width", "diameter", "wide", "narrow", "narrowing",
                "length", "thickness", "statistic", "metric", "parameter", "property"}  # fmt: skip
        return any(real & set(words[hit.start : hit.end]) for hit in attributes) or "how" in words

    def _noun_report(self, words: Sequence[str], things: Sequence[str]) -> bool:
        place = words.index("report")
        article = place > 0 and words[place - 1] not in {"please", "you", "to", "and", "just"}
        return (
            not things
            or (article and self.lexicon.has("create", words))
            or (place > 0 and words[place - 1] in {"a", "the", "full", "pdf", "clinical", "my"})
        )

    # Knowledge ------------------------------------------------------------------

    def _knowledge(
        self, words: Sequence[str], hits: Sequence[Hit], deictic: bool
    ) -> Literal["no", "only", "also"]:
        lexicon = self.lexicon
        subjects = [hit for hit in hits if self._role(hit.name) not in {"weak", "outside"}]
        acts = {"report", "report_word", "similar"}
        defines = lexicon.has("define", words)
        if defines and hits:
            return "only"
        ranges = lexicon.has("range", words)
        if deictic:
            means = words[:2] == ["what", "does"] and "mean" in words
            return "also" if (ranges or means) and not acts & {h.name for h in hits} else "no"
        known_topic = any(self._role(hit.name) == "topic" for hit in hits)
        clinical = [hit for hit in hits if hit.name not in {"describe", "region", *acts}]
        if ranges and (clinical or self._anchor([])):
            return "only"
        if lexicon.has("know", words) and clinical:
            return "only"
        if known_topic and not [h for h in subjects if self._role(h.name) == "strong"]:
            return "only"
        return "only" if self._definition(words, hits) else "no"

    def _definition(self, words: Sequence[str], hits: Sequence[Hit]) -> bool:
        """Forms that ask about a thing in general: "what is a ...", "explain ...", "is 0.7 ..."."""
        lexicon = self.lexicon
        rest = list(words)
        while rest and rest[0] in {"so", "and", "but", "well", "please", "then", "ok", "hi"}:
            rest.pop(0)
        offset = len(words) - len(rest)
        starts = {hit.start - offset: hit for hit in hits if hit.name not in
                  {"health", "grade", "describe", "region", "dr_grade", "report", "quality",
                   "referable", "similar", "change", "compare"}}  # fmt: skip
        if not starts:
            return self._continues_lookup(rest, hits)
        tool_names = {hit.name for hit in starts.values()}
        begin = next((n for n in (2, 3, 4) if n in starts), None)
        opening = " ".join(rest[:2])
        if opening in {"what be", "what a", "what does", "what do", "what would", "what mean"}:
            article = rest[2:3] and rest[2] in {"a", "an"}
            if article or 2 in starts:
                return True
            if begin and rest[2] in {
                "normal",
                "average",
                "mean",
                "healthy",
                "usual",
                "high",
                "meant",
            }:
                return True
        if "the normal" in " ".join(rest) and rest[:1] == ["what"]:
            return True
        if rest[:1] == ["explain"] and 1 in starts:
            return True
        if rest[:3] == ["tell", "me", "about"] and 3 in starts:
            return True
        if rest[:2] == ["why", "do"] or rest[:2] == ["why", "does"]:
            return 2 in starts and "explain" != starts[2].name
        if opening == "how be" and _METHOD & set(rest):
            return "the" not in rest[2:3]
        if opening in {"how do", "how does"} and (2 in starts or rest[2:3] in (["you"], ["one"])):
            return "look" not in rest and bool(tool_names)
        if rest[:1] in (["be"], ["do"], ["does"], ["can"]):
            about = starts.get(1) or (starts.get(2) if rest[1:2] in (["a"], ["an"]) else None)
            tool = lexicon.concepts[about.name].tool if about else ""
            general = lexicon.has("judge", rest) or rest[0] != "be"
            if tool in {"segment_lesions", "classify_disease"} and general:
                return not _PRESENCE & set(rest)
        if any(re.fullmatch(r"\d\.\d+%?|\d+%", word) for word in rest):
            measured = [n for n in tool_names if lexicon.concepts[n].tool in _MEASURED]
            return bool(measured) and (lexicon.has("judge", rest) or "what" in rest)
        between = "between" in rest and "change" in {hit.name for hit in hits}
        if between:
            return len(tool_names) >= 1 and not self._paired(rest)
        return self._continues_lookup(rest, hits)

    def _continues_lookup(self, rest: Sequence[str], hits: Sequence[Hit]) -> bool:
        """ "And AVR?" after a definition asks for another definition."""
        named = [hit for hit in hits if self._role(hit.name) in {"strong", "vessel", "topic"}]
        acts = {"report", "similar", "explain", "change", "report_word"}
        if not named or acts & {hit.name for hit in named} or len(rest) > 6:
            return False
        if self.lexicon.has("show", rest) and rest[0] != "where":
            return False
        bare = not self.lexicon.heads & set(rest) - {"what", "how", "also"}
        return bare and (self.knowing or self._last_tools() == {LOOKUP})

    def _lookup(
        self, words: Sequence[str], hits: Sequence[Hit], so_far: Sequence[Ask]
    ) -> list[Ask]:
        named = [hit for hit in hits if self._role(hit.name) in {"strong", "vessel", "topic"}]
        if "compare" in {hit.name for hit in named} and len(named) > 1:
            named = [hit for hit in named if hit.name != "compare"]
        concepts = tuple(dict.fromkeys(hit.name for hit in named))
        query = self._query(words, named)
        if not concepts:
            concepts = self._anchor(so_far)
            labels = [self.lexicon.concepts[name].label for name in concepts]
            query = " ".join([*labels, query]).strip()
        return [Ask(LOOKUP, concepts, query=query)] if query else []

    def _query(self, words: Sequence[str], named: Sequence[Hit]) -> str:
        """The clause without filler, abbreviations spelled out."""
        parts: list[str] = []
        inside = {place: hit for hit in named for place in range(hit.start, hit.end)}
        for place, word in enumerate(words):
            hit = inside.get(place)
            if hit and place == hit.start:
                surface = " ".join(words[hit.start : hit.end])
                label = self.lexicon.concepts[hit.name].label
                generic = hit.name in {"disease", "other_lesion", "knowledge_topic", "lesion",
                                       "dr", "biomarker", "vessel", "change", "branching"}  # fmt: skip
                parts.append(surface if generic else label)
            elif not hit and word not in self.lexicon.stop and word not in BREAKS:
                parts.append(word)
        return " ".join(parts)

    # The question before ----------------------------------------------------------

    def _last_tools(self) -> set[str]:
        return {ask.tool for ask in self.before.asks} if self.before else set()

    def _anchor(self, so_far: Sequence[Ask]) -> tuple[str, ...]:
        """The concepts that "it" or "normal" refer to."""
        asks = list(so_far) or list(self.before.asks if self.before else ())
        names = [name for ask in asks for name in ask.concepts]
        useful = [n for n in names if self._role(n) in {"strong", "vessel"} and n != "explain"]
        return tuple(dict.fromkeys(useful))[:2]

    def _judged(self, words: Sequence[str], selection: Selection) -> list[Ask]:
        """ "Is that normal?" about the measurement before looks up its range."""
        if not self.before or selection or len(self._last_tools()) != 1:
            return []
        pronoun = [place for place, word in enumerate(words) if word in _PRONOUNS]
        about_image = any(set(words[place + 1 : place + 2]) & _IMAGE_NOUNS for place in pronoun)
        short = len(words) <= 3
        anchored = self._anchor([])
        classified = self._last_tools() & {"assess_quality", "explain_prediction", "draft_report"}
        if (pronoun or short) and not about_image and anchored and not classified:
            if self.lexicon.has("judge", words):
                return self._lookup(words, [], [])
        return []

    def _follow_up(self, words: Sequence[str]) -> list[Ask]:
        """Asks of the question before, when this one only points back."""
        if not self.before:
            return []
        selection = read_selection(words)
        content = [
            word
            for word in words
            if word not in BREAKS and word not in self.lexicon.stop and word not in _IMAGE_NOUNS
            and not self._pointing(word)
        ]  # fmt: skip
        if judged := self._judged(words, selection):
            return judged
        points = bool(selection) or self.lexicon.has("repeat", words)
        if points and len(content) <= 3:
            return [replace(ask, selection=selection) for ask in self.before.asks]
        if content and not self.lexicon.has("certain", words):
            return []
        if "where" in words and self._last_tools() == {"classify_disease"}:
            return [Ask("explain_prediction", ("explain",))]
        asks_back = {"where", "how", "show", "which", "sure", "give"} & set(words)
        refers = _PRONOUNS & set(words) or len(words) <= 4
        if (asks_back or self.lexicon.has("certain", words)) and refers:
            return list(self.before.asks)
        return []

    def _pointing(self, word: str) -> bool:
        cues = ("repeat", "pair", "certain", "show", "thank")
        fixed = {"second", "first", "third", "last", "fellow", "contralateral", "opposite", "side"}
        return (
            word in fixed or word.startswith("img") or word in _FOLLOW_UP
            or any(self.lexicon.cues[cue].longest_at([word], 0) for cue in cues)
        )  # fmt: skip

    def _follows_on(self, words: Sequence[str]) -> bool:
        return words[0] in _FOLLOW_UP or list(words[:2]) in (["what", "about"], ["how", "about"])

    # Small judgements ---------------------------------------------------------------

    def _role(self, name: str) -> str:
        return self.lexicon.concepts[name].role

    def _deictic(self, words: Sequence[str]) -> bool:
        """Whether the words point at an image, an eye or a patient at hand."""
        if _DEICTIC & set(words) or read_selection(words):
            return True
        return any(
            word == "the" and set(words[place + 1 : place + 3]) & _IMAGE_NOUNS
            for place, word in enumerate(words)
        )

    def _paired(self, words: Sequence[str]) -> bool:
        images = {"eye", "image", "photo", "picture", "photograph", "visit", "scan", "them", "od",
                  "os", "left", "right", "disc"}  # fmt: skip
        numbered = sum(word.startswith("img") for word in words) > 1
        return numbered or (self.lexicon.has("pair", words) and bool(images & set(words)))

    def _reply(self, words: Sequence[str]) -> ReplyKind:
        if self.outside:
            return self.outside
        plain = [word for word in words if word not in BREAKS]
        for kind in ("about", "thank", "greet"):
            if self.lexicon.has(kind, plain):
                return kind  # type: ignore[return-value]
        return "outside"


def _merged(asks: Sequence[Ask]) -> list[Ask]:
    """One ask per tool, images and query, with the concepts of all."""
    merged: dict[tuple[str, str, Selection], Ask] = {}
    for ask in asks:
        key = (ask.tool, ask.query, ask.selection)
        known = merged.get(key)
        concepts = (*known.concepts, *ask.concepts) if known else ask.concepts
        merged[key] = replace(ask, concepts=tuple(dict.fromkeys(concepts)))
    return list(merged.values())
