"""What a question asks for: from words to tools, before images are looked at.

A question is cut into clauses; each clause is about images (a tool measures) or
about knowledge (a definition, a range, a criterion is looked up). What is only
hinted at ("and the other eye?", "is that normal?") is filled in from the
question before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fovea.llm.clause import CONTINUES, IMAGE_NOUNS, LOOKUP, PRONOUNS, Ask, Clause
from fovea.llm.definitions import knowledge_mode
from fovea.llm.exclusions import excluded_tools, forbids, without_excluded
from fovea.llm.guard import is_hostile
from fovea.llm.lexicon import Hit, Lexicon, load_lexicon
from fovea.llm.listing import list_items
from fovea.llm.measuring import image_asks, weak_asks
from fovea.llm.selection import NO_SELECTION, Selection, read_selection
from fovea.llm.sentences import read_parts
from fovea.llm.text import BREAKS

ReplyKind = Literal["", "empty", "greet", "thank", "about", "hostile", "outside", "treatment"]

_HISTORY = 8
_MEASURING = frozenset({"measure", "quantify", "compute", "calculate", "determine", "estimate"})
_AT_HAND = frozenset(
    {"be", "this", "one", "and", "eye", "it", "that", "what", "for", "in", "about"}
)
_UNJUDGED = frozenset({"assess_quality", "explain_prediction", "draft_report"})
# Concepts whose own words say more than their label.
_SPECIFIC = frozenset(
    {"disease", "other_lesion", "knowledge_topic", "lesion", "dr", "biomarker", "vessel",
     "change", "branching", "dr_grade"}
)  # fmt: skip


@dataclass(frozen=True)
class Reading:
    """A question as understood: what it asks, or which plain reply it gets.

    If something was excluded it is `negated`, and `wanted` are the words without that;
    `unwanted` are the tools that a message forbids and is about: "please do not grade it".
    """

    asks: tuple[Ask, ...] = ()
    reply: ReplyKind = ""
    words: tuple[str, ...] = ()
    negated: bool = False
    wanted: tuple[str, ...] = ()
    unwanted: frozenset[str] = frozenset()


def read_question(text: str, earlier: Sequence[str] = (), *, extra: Iterable[str] = ()) -> Reading:
    """What `text` asks for.

    Args:
        text: The question.
        earlier: The person's earlier questions, oldest first.
        extra: Words of other tools, which are not misspellings.
    """
    return read_conversation([*earlier, text], extra=extra)[-1]


def read_conversation(
    questions: Sequence[str], *, extra: Iterable[str] = (), pictured: bool = True
) -> list[Reading]:
    """The reading of each of the last questions, each in the light of those before.

    Args:
        questions: All questions of the person, oldest first.
        extra: Words of other tools, which are not misspellings.
        pictured: There is a photograph that they can be about.
    """
    lexicon, known = load_lexicon(), frozenset(extra)
    before: Reading | None = None
    readings = []
    for question in questions[-_HISTORY:]:
        reading = _Reader(lexicon, known, before, pictured=pictured).read(question)
        before = reading if reading.asks else before
        readings.append(reading)
    return readings


class _Reader:
    """Reads one question in the light of the one before."""

    def __init__(
        self,
        lexicon: Lexicon,
        extra: frozenset[str],
        before: Reading | None,
        *,
        pictured: bool,
    ) -> None:
        self.lexicon, self.extra, self.before = lexicon, extra, before
        self.pictured = pictured
        self.knowing = False
        self.outside: ReplyKind = ""

    def read(self, text: str) -> Reading:
        if not any(mark.isalnum() for mark in text):
            # A lone question mark after an answer is still not a question.
            return Reading(reply="empty")
        if is_hostile(text):
            return Reading(reply="hostile")
        words = self._after_correction(self.lexicon.words(text, self.extra))
        asks, wanted, negated = self._asks(words)
        unwanted = excluded_tools(words, self.lexicon) if negated else frozenset()
        asks = [ask for ask in asks if not (len(asks) > 2 and ask.tool in unwanted)]
        if not asks and not self.outside and not negated:
            asks = self._follow_up(words)
        reply: ReplyKind = "" if asks else self._reply(words)
        unwanted = unwanted if forbids(words) and not asks else frozenset()
        return Reading(tuple(_merged(asks)), reply, tuple(words), negated, tuple(wanted), unwanted)

    def _asks(self, words: Sequence[str]) -> tuple[list[Ask], list[str], bool]:
        """What the clauses ask, the words that are not excluded, and whether any are."""
        asks: list[Ask] = []
        told: list[Ask] = []
        wanted: list[str] = []
        negated = points_back = False
        ahead = NO_SELECTION
        for part in read_parts(words, self.lexicon):
            kept = without_excluded(part.words, self.lexicon)
            wanted += kept
            negated |= len(kept) < len(part.words)
            found = self._clause(kept, [*told, *asks])
            if ahead:  # "second image only: is it gradable?"
                found = [replace(a, selection=a.selection or ahead) for a in found]
            bare = not found and not self.lexicon.subjects.find(kept)
            ahead = read_selection(kept) if bare else NO_SELECTION
            points_back |= not found and not part.told and _has_object(kept)
            said = part.told or (_only_health(found) and kept[0] not in self.lexicon.heads)
            (told if said else asks).extend(found)
        # What is told is background, unless nothing else is asked or "it" means what was told.
        return [*told, *asks] if points_back or not asks else asks, wanted, negated

    def _after_correction(self, words: list[str]) -> list[str]:
        hits = self.lexicon.cues["correct"].find(words)
        for hit in reversed(hits):
            rest = [word for word in words[hit.end :] if word not in BREAKS]
            if self.lexicon.subjects.find(rest):
                return words[hit.end :]
        return words

    # One clause -----------------------------------------------------------------

    def _clause(self, words: Sequence[str], so_far: Sequence[Ask]) -> list[Ask]:
        if not words:
            return []
        whole = Clause(tuple(words), self.lexicon)
        found: list[Ask] = []
        for item in list_items(whole):
            asks = self._item(item, [*so_far, *found])
            found += [replace(ask, selection=ask.selection or whole.selection) for ask in asks]
        return found

    def _item(self, clause: Clause, so_far: Sequence[Ask]) -> list[Ask]:
        words = clause.words
        if clause.of_role("outside"):
            self.outside = "treatment" if "treatment" in clause.names else "outside"
            return []
        mode = knowledge_mode(
            clause,
            anchored=bool(self._anchor(so_far)),
            after_lookup=self.knowing or self._last_tools() == {LOOKUP},
            pictured=self.pictured,
        )
        self.knowing = mode == "only"
        if mode == "only":
            return self._lookup(clause.words, clause.of_role("strong", "vessel", "topic"), so_far)
        asks = image_asks(clause, self._last_tools())
        asks = asks or self._judged(words, clause.selection) or weak_asks(clause)
        if not asks and "where" in words and [a.tool for a in so_far[-1:]] == ["classify_disease"]:
            return [Ask("explain_prediction", ("explain",))]  # "... and if so, show me where"
        if not asks or asks[0].concepts == ("health",):
            asks = self._pointed(clause, so_far) or asks
        if mode == "also" and (asks or so_far or self.before):
            asks = [ask for ask in asks if ask.concepts != ("health",)]
            asks += self._lookup(clause.words, clause.of_role("strong"), [*so_far, *asks])
        return asks

    def _pointed(self, clause: Clause, so_far: Sequence[Ask]) -> list[Ask]:
        """Such as "trace them" after vessels, or "measure it" after a definition."""
        words, anchor = set(clause.words), self._anchor(so_far)
        if not anchor or not PRONOUNS & words:
            return []
        if self._role(anchor[0]) == "vessel" and clause.has("show"):
            return [Ask("segment_vessels", ("vessel",), selection=clause.selection)]
        defined = bool(so_far) and so_far[-1].tool == LOOKUP
        rest = words - self.lexicon.stop
        if defined and ((_MEASURING & words and rest <= _MEASURING) or words <= _AT_HAND):
            concepts = self.lexicon.concepts
            return [Ask(concepts[n].tool, (n,), selection=clause.selection) for n in anchor]
        return []

    def _lookup(
        self, words: Sequence[str], named: Sequence[Hit], so_far: Sequence[Ask]
    ) -> list[Ask]:
        things = [hit for hit in named if hit.name not in {"change", "compare"}]
        if len(things) > 1 and len(things) < len(named):  # what differs is looked up one by one
            return [
                Ask(LOOKUP, (h.name,), query=self._query(words, [h], alone=True)) for h in things
            ]
        named = things or named
        concepts = tuple(dict.fromkeys(hit.name for hit in named))
        query = self._query(words, named)
        if not concepts:
            concepts = self._anchor(so_far)
            labels = [self.lexicon.concepts[name].label for name in concepts]
            if so_far and so_far[-1].tool == LOOKUP:  # "explain moderate NPDR and when to refer"
                labels = [so_far[-1].query]
            query = " ".join([*labels, query]).strip()
        return [Ask(LOOKUP, concepts, query=query)] if query else []

    def _query(self, words: Sequence[str], named: Sequence[Hit], *, alone: bool = False) -> str:
        """The clause without filler, abbreviations spelled out; `alone`: just what is named."""
        parts: list[str] = []
        inside = {place: hit for hit in named for place in range(hit.start, hit.end)}
        for place, word in enumerate(words):
            hit = inside.get(place)
            if hit and place == hit.start:
                own = hit.name in _SPECIFIC
                label = self.lexicon.concepts[hit.name].label
                parts.append(" ".join(words[hit.start : hit.end]) if own else label)
            elif not (hit or alone or word in self.lexicon.stop or word in BREAKS):
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
        """Such as "Is that normal?" about the measurement before looks up its range."""
        if not self.before or selection or len(self._last_tools()) != 1:
            return []
        if words and words[0] in CONTINUES:  # the "ok" of "ok, measure it" is no judgement
            words = words[1:]
        pronoun = [place for place, word in enumerate(words) if word in PRONOUNS]
        about_image = any(set(words[place + 1 : place + 2]) & IMAGE_NOUNS for place in pronoun)
        short = len(words) <= 3
        anchored = self._anchor([])
        classified = self._last_tools() & _UNJUDGED
        if (pronoun or short) and not about_image and anchored and not classified:
            judges = self.lexicon.has("judge", words)
            return self._lookup(words, [], []) if judges else []
        return []

    def _follow_up(self, words: Sequence[str]) -> list[Ask]:
        """Asks of the question before, when this one only points back."""
        if not self.before:
            return []
        selection = read_selection(words)
        content = [
            word
            for word in words
            if word not in BREAKS and word not in self.lexicon.stop and word not in IMAGE_NOUNS
            and not self._pointing(word)
        ]  # fmt: skip
        if judged := self._judged(words, selection):
            return judged
        if self.lexicon.has("supplied", words) and len(content) <= 2:
            return list(self.before.asks)  # "here is the photo", after it was asked for
        narrows = bool(CONTINUES & set(words[:1])) and self.lexicon.has("qualifier", words)
        points = bool(selection) or narrows or self.lexicon.has("repeat", words)
        if points and len(content) <= 3:
            return [replace(ask, selection=selection) for ask in self.before.asks]
        said = set(content) - _MEASURING - {"explain"}
        if said and not self.lexicon.has("certain", words):
            return []
        last = self._last_tools()
        shows = self.lexicon.has("show", words) and last == {"classify_disease"}
        if "explain" in words or shows:
            return [Ask("explain_prediction", ("explain",))]
        if last == {"segment_vessels"} and _MEASURING & set(words):
            return [Ask("measure_biomarkers", ("vessel",))]
        if last == {LOOKUP} and ({"have", "any", "there"} | _MEASURING) & set(words):
            concepts = self.lexicon.concepts
            return [Ask(concepts[name].tool, (name,)) for name in self._anchor([])]
        if self.lexicon.has("pair", words) and self.lexicon.has("comparative", words):
            return [replace(a, selection=Selection(every=True)) for a in self.before.asks]
        asks_back = {"where", "how", "show", "which", "sure", "give"} & set(words)
        refers = PRONOUNS & set(words) or len([w for w in words if w not in BREAKS]) <= 4
        if (asks_back or self.lexicon.has("certain", words)) and refers:
            return list(self.before.asks)
        return []

    def _pointing(self, word: str) -> bool:
        cues = ("repeat", "pair", "certain", "show", "thank", "comparative")
        fixed = {"second", "first", "third", "last", "fellow", "contralateral", "opposite", "side"}
        return (
            word in fixed or word.startswith("img") or word in CONTINUES
            or any(self.lexicon.cues[cue].longest_at([word], 0) for cue in cues)
        )  # fmt: skip

    # Small judgements ---------------------------------------------------------------

    def _role(self, name: str) -> str:
        return self.lexicon.concepts[name].role

    def _reply(self, words: Sequence[str]) -> ReplyKind:
        if self.outside:
            return self.outside
        plain = [word for word in words if word not in BREAKS]
        for kind in ("about", "thank", "greet"):
            if self.lexicon.has(kind, plain):
                return kind
        return "outside"


def _only_health(asks: Sequence[Ask]) -> bool:
    """Whether a clause was read by a word like "worried" alone."""
    return bool(asks) and all(ask.concepts == ("health",) for ask in asks)


def _has_object(words: Sequence[str]) -> bool:
    """Whether a pronoun ends a phrase: "settle it for us", not "that I am unsure of"."""
    closes = [",", "for", "too", "now", "please", "again", "here"]
    return any(
        word in PRONOUNS and (place + 1 == len(words) or words[place + 1] in closes)
        for place, word in enumerate(words)
    )


def _merged(asks: Sequence[Ask]) -> list[Ask]:
    """One ask per tool, images and query, with the concepts of all."""
    merged: dict[tuple[str, str, Selection], Ask] = {}
    for ask in asks:
        key = (ask.tool, ask.query, ask.selection)
        known = merged.get(key)
        concepts = (*known.concepts, *ask.concepts) if known else ask.concepts
        merged[key] = replace(ask, concepts=tuple(dict.fromkeys(concepts)))
    return list(merged.values())
