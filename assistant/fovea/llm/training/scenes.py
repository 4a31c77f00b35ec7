"""Questions with the answer that a planner should give, made up from the grammar.

A scene is one turn: photographs, earlier turns, a question, and the tokens to answer
with. Scenes come in lessons that share a list of tools, as sessions do.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from fovea.llm.base import ImageFact, ToolSpec
from fovea.llm.compact import ALL_IMAGES, IMAGE_TOKENS, OWN_TOOLS, TOOL_TOKENS
from fovea.llm.training.phrases import expand, grammar, lines, misspelt, one_of, word_lists
from fovea.llm.training.references import Reference, reference, someone
from fovea.llm.training.strangers import Stranger

LOOKUP, REPORT, COMPARE = "lookup_knowledge", "draft_report", "compare_images"
SIMILAR, EXPLAIN, CLASSIFY = "find_similar_cases", "explain_prediction", "classify_disease"
LESIONS, DISC, BIOMARKERS = "segment_lesions", "segment_optic_disc", "measure_biomarkers"
VESSELS, QUALITY = "segment_vessels", "assess_quality"
OVERVIEW = (QUALITY, CLASSIFY, LESIONS, DISC, BIOMARKERS)
OWN_ALIASES = frozenset(TOOL_TOKENS[: len(OWN_TOOLS)])
WITHOUT_HANDLE = frozenset({LOOKUP, REPORT, COMPARE})


@dataclass(frozen=True)
class Wish:
    """One thing asked for: the tool and the photographs it is about (none: all)."""

    tool: str
    images: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scene:
    """One turn: what the planner sees and what it should answer."""

    images: tuple[ImageFact, ...]
    history: tuple[tuple[str, str], ...]
    question: str
    wishes: tuple[Wish, ...] = ()
    reply: str = ""
    source: str = ""
    """The question before it was varied, if it is a written one."""


@dataclass
class Lesson:
    """Scenes that share a list of tools besides Fovea's own, which need not be listed.

    Attributes:
        aliases: The token of every tool that can be wished for.
        tools: The listed ones, by what the scenes call them.
        blind: Listed tools that need no photograph.
    """

    aliases: Mapping[str, str]
    tools: Mapping[str, ToolSpec] = field(default_factory=dict)
    blind: frozenset[str] = frozenset()
    scenes: list[Scene] = field(default_factory=list)

    def answer(self, scene: Scene) -> str:
        """The tokens that answer a scene, without the end token."""
        if scene.reply:
            return f"<{scene.reply}>"
        said: dict[str, str] = {}
        for wish in scene.wishes:
            alias = self.aliases[wish.tool]
            sightless = wish.tool in self.blind or alias in OWN_ALIASES
            if not scene.images and not sightless:
                return "<ask_image>"
            said.setdefault(wish.tool, alias + self._handles(wish, scene))
        return "".join(said.values())

    def _handles(self, wish: Wish, scene: Scene) -> str:
        count = len(scene.images)
        if wish.tool == COMPARE and count > 2:
            pair = wish.images if len(wish.images) == 2 else (0, 1)
            return "".join(IMAGE_TOKENS[place] for place in sorted(pair))
        if count < 2 or wish.tool in WITHOUT_HANDLE or wish.tool in self.blind:
            return ""
        if not wish.images or len(wish.images) == count:
            return ALL_IMAGES
        return "".join(IMAGE_TOKENS[place] for place in sorted(wish.images))


def builtin_intents() -> dict[str, tuple[str, ...]]:
    """Every tool of Fovea and the intents that ask for it."""
    return {name: tuple(entry["intents"]) for name, entry in grammar("tools").items()}


class Writer(ABC):
    """Writes questions that stand alone."""

    def __init__(
        self, chance: random.Random, topics: Sequence[str], strangers: Mapping[str, Stranger]
    ) -> None:
        self.chance, self.topics, self.strangers = chance, topics, strangers
        self.intents = builtin_intents()
        self.talk = {name: word_lists()[name] for name in grammar("talk")["lists"]}
        self.named = {word for s in strangers.values() for word in (s.subject, *s.words)}

    def scene(self) -> Scene:
        """One scene; styles, noise and earlier turns included."""
        kind = self.chance.random()
        images = self._images()
        if self.strangers and kind < 0.25:
            return self._dressed(self._strange(images))
        if kind < 0.55:
            made = self._single(images)
        elif kind < 0.72:
            made = self._several(images)
        elif kind < 0.76:
            made = self._excluding(images)
        elif kind < 0.87:
            return self._noisy(self.follow_up(images))
        else:
            made = self._nothing(images)
        return self._dressed(made)

    # What is asked ------------------------------------------------------------

    def _images(self) -> tuple[ImageFact, ...]:
        count = self.chance.choices((0, 1, 2, 3, 4), (14, 58, 23, 4, 1))[0]
        if self.chance.random() < 0.5:
            return tuple(ImageFact(f"img{n}") for n in range(1, count + 1))
        eyes: list[str | None] = [self.chance.choice(("OD", "OS", None)) for _ in range(count)]
        if count == 2 and self.chance.random() < 0.7:
            eyes = list(self.chance.choice((("OD", "OS"), ("OS", "OD"))))
        return tuple(ImageFact(f"img{n}", eye) for n, eye in enumerate(eyes, 1))  # type: ignore[arg-type]

    def _tool(self, images: Sequence[ImageFact] = (ImageFact("img1"),)) -> str:
        # Without a photograph people mostly ask what things mean.
        weights = {
            LOOKUP: 2.2 if images else 12.0,
            CLASSIFY: 1.6,
            LESIONS: 1.4,
            BIOMARKERS: 1.4,
            QUALITY: 1.3,
        }
        names = list(self.intents)
        return self.chance.choices(names, [weights.get(name, 1.0) for name in names])[0]

    def _form(self, tool: str, form: str, ref: Reference) -> str:
        """A question, an order or a noun phrase that asks for a tool."""
        intent = self.chance.choice(self.intents[tool])
        if tool == QUALITY and self.chance.random() < 0.3:
            intent = "quality"
        given = {"this": ref.noun}
        if tool == LOOKUP:
            given["topic"] = self._topic()
        phrases = lines(grammar("intents")[intent][form])
        for _ in range(8):
            phrase = self.chance.choice(phrases)
            text = expand(phrase, self.chance, given)
            if not any(word in text for word in self.named):
                break
        if ref.must and ref.noun not in text and tool not in WITHOUT_HANDLE:
            text = f"{text} {self.chance.choice(('in', 'of', 'for', 'on'))} {ref.noun}"
        return text

    def _topic(self) -> str:
        own = ("disease", "measure_np", "lesion", "grade")
        if self.chance.random() < 0.45:
            return self.chance.choice(self.topics)
        return self.chance.choice(word_lists()[self.chance.choice(own)])

    def _phrase(self, tool: str, ref: Reference, *, framed: bool = True) -> str:
        form = self.chance.choices(("ask", "do", "thing"), (48, 28, 24))[0]
        text = self._form(tool, form, ref)
        if not framed:
            return text
        return one_of(self.chance, self.talk[f"{form}_frame"], q=text, this=ref.noun)

    def _single(self, images: tuple[ImageFact, ...]) -> Scene:
        if self.chance.random() < 0.05:
            ref = reference(images, self.chance)
            form = self.chance.choice(("ask", "do", "thing"))
            text = expand(
                self.chance.choice(lines(grammar("intents")["overview"][form])),
                self.chance, {"this": ref.noun},
            )  # fmt: skip
            return Scene(images, (), text, tuple(Wish(t, ref.images) for t in OVERVIEW))
        tool = self._tool(images)
        ref = reference(images, self.chance)
        if self.chance.random() < 0.1:
            text = self._form(tool, "thing", ref)
        else:
            text = self._phrase(tool, ref)
        if ref.absent and tool not in WITHOUT_HANDLE:
            return Scene(images, (), text, reply="ask_image")
        return Scene(images, (), text, (Wish(tool, ref.images),))

    def _several(self, images: tuple[ImageFact, ...]) -> Scene:
        count = self.chance.choices((2, 3, 4), (70, 24, 6))[0]
        tools = list(dict.fromkeys(self._tool() for _ in range(count)))
        apart = len(images) > 1 and self.chance.random() < 0.4
        refs = [reference(images, self.chance, present=True)] * len(tools)
        if apart:
            refs = [reference(images, self.chance, present=True) for _ in tools]
        wishes = tuple(Wish(t, r.images) for t, r in zip(tools, refs, strict=True))
        form = self.chance.choice(("do", "thing", "thing", ""))
        parts = []
        for place, (tool, ref) in enumerate(zip(tools, refs, strict=True)):
            if not apart and place < len(tools) - 1:
                ref = replace(ref, must=False)
            parts.append(
                self._form(tool, form, ref) if form else self._phrase(tool, ref, framed=False)
            )
        if len(parts) > 2 and self.chance.random() < 0.6:
            text = ", ".join(parts[:-1]) + self.chance.choice((" and ", ", ", ", and ", ", then "))
            text += parts[-1]
        else:
            text = parts[0]
            for part in parts[1:]:
                text = one_of(self.chance, self.talk["join"], x=text, y=part)
        if form:
            frame = self.talk[f"{form}_frame"]
            text = one_of(self.chance, frame, q=text, this=refs[-1].noun)
        if not apart and refs[0].must and refs[0].noun not in text:
            text = f"{text} {refs[0].noun}"
        return Scene(images, (), text, wishes)

    def _excluding(self, images: tuple[ImageFact, ...]) -> Scene:
        ref = reference(images, self.chance, present=True)
        tool, other = self._tool(), self._tool()
        if self.chance.random() < 0.15:
            text = one_of(self.chance, self.talk["refuse"], y=self._form(other, "thing", someone()))
            return Scene(images, (), text, reply="empty")
        while other in {tool, LOOKUP}:
            other = self._tool()
        wanted = self._phrase(tool, ref, framed=self.chance.random() < 0.3)
        refused = self._form(other, "thing", someone())
        text = one_of(self.chance, self.talk["unless"], x=wanted, y=refused)
        return Scene(images, (), text, (Wish(tool, ref.images),))

    def _nothing(self, images: tuple[ImageFact, ...]) -> Scene:
        kinds = ("greet", "thank", "about", "outside", "away", "treat", "hostile", "empty")
        kind = self.chance.choices(kinds, (8, 10, 5, 30, 26, 14, 14, 2))[0]
        if kind == "empty":
            text = self.chance.choice(("?", "!!!", "...", "??", "-", ".", "?!", "hm", "um"))
            return Scene(images, (), text, reply="empty")
        if kind == "outside" and self.chance.random() < 0.3:
            absent = [s for s in Stranger.every() if s.kind in {"predict", "process", "blind"}]
            other = self.chance.choice(absent)
            if other.subject not in self.named:
                text = other.question(self.chance, reference(images, self.chance).noun)
                return Scene(images, (), text, reply="outside")
        text = one_of(self.chance, lines(grammar("talk")["none"][kind]), this=someone().noun)
        if kind in {"away", "outside"} and any(word in text.lower() for word in self.named):
            return self._nothing(images)
        reply = {"away": "outside", "treat": "treatment"}.get(kind, kind)
        history = self.earlier(images) if kind in {"thank", "outside"} else ()
        return Scene(images, history if self.chance.random() < 0.6 else (), text, reply=reply)

    def _strange(self, images: tuple[ImageFact, ...]) -> Scene:
        name, stranger = self.chance.choice(list(self.strangers.items()))
        ref = reference(images, self.chance, present=True)
        text = stranger.question(self.chance, ref.noun)
        if ref.must and ref.noun not in text and stranger.kind != "blind":
            text = f"{text} {self.chance.choice(('in', 'of', 'for'))} {ref.noun}"
        wishes = [Wish(name, ref.images)]
        if self.chance.random() < 0.12:
            tool = self._tool()
            other = self._form(tool, self.chance.choice(("do", "thing")), replace(ref, must=False))
            text = one_of(self.chance, self.talk["join"], x=text, y=other)
            wishes.append(Wish(tool, ref.images))
        return Scene(images, (), text, tuple(wishes))

    @abstractmethod
    def follow_up(self, images: tuple[ImageFact, ...]) -> Scene:
        """A question that only makes sense after another."""

    def earlier(self, images: tuple[ImageFact, ...], tool: str = "") -> tuple[tuple[str, str], ...]:
        """A turn about a tool that went before."""
        tool = tool or self._tool()
        ref = reference(images, self.chance, present=True)
        return (("user", self._phrase(tool, ref)), ("assistant", self._said(tool)))

    def _said(self, tool: str) -> str:
        kinds = {CLASSIFY: "bot_grade", LESIONS: "bot_lesion", DISC: "bot_number",
                 BIOMARKERS: "bot_number", LOOKUP: "bot_text"}  # fmt: skip
        return self.chance.choice(self.talk[kinds.get(tool, "bot_done")])

    # How it is said -------------------------------------------------------------

    def _dressed(self, scene: Scene) -> Scene:
        """With a greeting, a case history or a closing word around, as people write."""
        chance, text = self.chance, scene.question
        terse = scene.reply in {"greet", "thank", "empty"}
        if chance.random() < 0.18 and not terse:
            text = f"{expand(chance.choice(self.talk['opening']), chance)} {text}"
        if chance.random() < 0.12 and not terse and scene.images:
            told = expand(chance.choice(self.talk["background"]), chance)
            before = chance.random() < 0.8
            text = f"{told} {text}" if before else f"{text}. {told}"
        if chance.random() < 0.12 and not terse:
            text = f"{text} {chance.choice(self.talk['closing'])}"
        return self._noisy(replace(scene, question=text))

    def _noisy(self, scene: Scene) -> Scene:
        chance, text = self.chance, scene.question
        share = chance.choices((0.0, 0.08, 0.25), (78, 16, 6))[0]
        if share and scene.reply != "hostile":
            text = misspelt(text, chance, share)
        if chance.random() < 0.06:
            text = text.replace(",", "").replace("'", "")
        if chance.random() < 0.5:
            text = text.rstrip(".?! ") + chance.choice(("?", ".", "?", "!", "??", " ?", "..."))
        if chance.random() < 0.02:
            text = text.replace("the ", "").replace("a ", "")
        return replace(scene, question=text)
