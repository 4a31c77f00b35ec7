"""From what a question asks to tool calls on the photographs of the session."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fovea.image import Eye
from fovea.llm.arguments import how_many, subject
from fovea.llm.base import ImageFact, ToolSpec, minimal_value, resolved
from fovea.llm.clause import LOOKUP, OVERVIEW, Ask
from fovea.llm.compact import OWN_TOOLS
from fovea.llm.intents import Reading, read_conversation
from fovea.llm.matching import Described, chances, comparer, is_example, may_be_meant, vocabulary
from fovea.llm.selection import Selection, read_selection
from fovea.llm.wishes import Turn, WishModel, wish_model

EYE_NAMES: Mapping[Eye, str] = {"OD": "right eye (OD)", "OS": "left eye (OS)"}

# The checker strikes claims without evidence: these texts promise and request, and claim nothing.
ABILITIES: Mapping[str, str] = {
    "assess_quality": "assess image quality",
    "segment_vessels": "outline the vessels",
    "segment_optic_disc": "measure disc and cup",
    "place_grid": "draw the ETDRS grid and zones",
    "segment_lesions": "find lesions",
    "classify_disease": "grade for disease",
    "measure_biomarkers": "measure vessel biomarkers",
    "compare_images": "compare two photographs",
    "find_similar_cases": "find similar cases",
    "explain_prediction": "explain a result",
    "lookup_knowledge": "look up definitions and criteria",
    "draft_report": "draft a report",
}
REPLIES: Mapping[str, str] = {
    "empty": "What would you like to know about the photograph?",
    "greet": "Hello.",
    "thank": "You are welcome. Ask on whenever you like.",
    "about": "",
    "hostile": "Orders that change how I work are ignored.",
    "outside": "That lies outside what I do.",
    "treatment": (
        "Choosing medicines or procedures lies outside what I do; please ask the clinician in "
        "charge."
    ),
}
LEFT_OUT = "As you wish; nothing is measured."
NEED_IMAGE = "Please add a photograph first; without one there is nothing to measure."
NEED_SECOND = "Please add a second photograph, of the other eye or of another visit, to compare."
NO_TOOLS = "No plugin is installed that I could use."
NEED_OTHER = "Please add a photograph of the other eye."
KEPT, ADDED = 0.3, 0.47
"""Least probability, by the word model, of a tool that the rules name, and of another."""
PLAIN, NAMED = 0.97, 0.9
"""Probability from which a tool of Fovea's is meant beside another's; and if the rules name it."""

_QUALITY, _REST = "I can assess image quality instead.", "I can measure everything else."
PURPOSES: Mapping[str, tuple[str, str]] = {
    "assess_quality": ("assessing image quality", _REST),
    "segment_vessels": ("outlining vessels", _QUALITY),
    "segment_optic_disc": ("measuring disc and cup", "I can look up what the terms mean."),
    "place_grid": ("placing the ETDRS grid and zones", "I can look up what the terms mean."),
    "segment_lesions": ("finding lesions", _QUALITY),
    "classify_disease": (
        "grading for disease",
        "Please ask the clinician in charge; I can look up the grading criteria.",
    ),
    "measure_biomarkers": ("measuring vessel biomarkers", "I can look up what the terms mean."),
    "find_similar_cases": ("finding similar cases", "I can describe this photograph instead."),
    "explain_prediction": ("explaining a result", "I can describe the photograph instead."),
    "compare_images": ("comparing photographs", "I can measure each photograph by itself."),
    "lookup_knowledge": ("looking up definitions and criteria", "I can measure photographs."),
    "draft_report": ("drafting a report", "I can answer question by question."),
}
"""Per tool: what it is for, and what can be done without it."""


@dataclass(frozen=True)
class PlannedCall:
    """One tool call and the ask that it serves."""

    tool: str
    arguments: Mapping[str, Any]
    ask: Ask


@dataclass(frozen=True)
class Plan:
    """The calls of one turn, and what to say about what cannot be called.

    Attributes:
        calls: What to call.
        notes: What to say about the rest.
        wished: Tools that the question wishes for, whether they can be called or not.
        chances: Probability that each tool is meant; 0 or 1 where somebody else chose.
    """

    calls: tuple[PlannedCall, ...]
    notes: tuple[str, ...] = ()
    wished: frozenset[str] = frozenset()
    chances: Mapping[str, float] = field(default_factory=dict)

    @property
    def reply(self) -> str:
        """The whole answer when nothing is called."""
        return " ".join(self.notes)


@dataclass
class _Focus:
    """Which photographs the conversation is about so far."""

    handles: tuple[str, ...] = ()
    eye: Eye | None = None


def abilities(tools: Collection[str]) -> str:
    """What can be asked for, with the tools that are bound."""
    can = [text for name, text in ABILITIES.items() if name in tools]
    return f"I can {', '.join(can[:-1])} and {can[-1]}." if len(can) > 1 else ""


def plan_turn(
    questions: Sequence[str],
    images: Sequence[ImageFact],
    tools: Sequence[ToolSpec],
    said: str = "",
    words: WishModel | None = None,
    wished: Collection[str] | None = None,
) -> Plan:
    """The calls that answer the last of `questions`.

    Args:
        questions: All questions of the person, oldest first.
        images: Photographs of the session.
        tools: Tools that were bound; no other tool is ever called.
        said: The last answer before the last question.
        words: The word model; None: the shipped one.
        wished: Tools that somebody else chose; None: rules and word model choose.
    """
    readings = read_conversation(questions, extra=vocabulary(tools), pictured=bool(images))
    focus = _Focus()
    for reading in readings[:-1]:
        for ask in reading.asks:
            _resolve(ask.selection, images, focus)
    turn = Turn.of(questions[-1], questions[:-1], said, readings[-1], len(images))
    known = {tool.name: tool for tool in tools}
    planner = _Planner(images, known, focus, words or wish_model())
    return planner.plan(turn, readings[-1], wished)


class _Planner:
    def __init__(
        self,
        images: Sequence[ImageFact],
        tools: Mapping[str, ToolSpec],
        focus: _Focus,
        words: WishModel,
    ) -> None:
        self.images, self.tools, self.focus, self.words = images, tools, focus, words
        self.notes: list[str] = []
        self.chances: Mapping[str, float] = {}

    def plan(self, turn: Turn, reading: Reading, wished: Collection[str] | None) -> Plan:
        question = turn.question
        asks = [] if reading.reply == "treatment" else list(reading.asks)
        if reading.reply in {"empty", "hostile"}:
            self.chances, asks = dict.fromkeys([*OWN_TOOLS, *self.tools], 0.0), []
        else:
            self.chances = (
                self._chances(turn, reading)
                if wished is None
                else {name: float(name in wished) for name in (*OWN_TOOLS, *self.tools)}
            )
            asks = _by_words(self.chances, asks, turn, reading)
        if not asks:
            if reading.unwanted:
                return Plan((), (LEFT_OUT,), chances=self.chances)
            return self._nothing(reading.reply or ("empty" if reading.negated else "outside"))
        calls: list[PlannedCall] = []
        for ask in asks:
            calls += self._calls_for(replace(ask, words=reading.words), question)
        unique: dict[str, PlannedCall] = {}
        for call in calls:  # the first ask that needs a call decides what is answered from it
            unique.setdefault(f"{call.tool}{sorted(call.arguments.items())}", call)
        if not unique and not self.notes:  # of an overview nothing is left that is installed
            return self._nothing("outside")
        found, named = tuple(unique.values()), frozenset(ask.tool for ask in asks)
        return Plan(found, tuple(dict.fromkeys(self.notes)), named, self.chances)

    def _nothing(self, kind: str) -> Plan:
        """A plain reply, with what can be asked for."""
        able = "" if kind == "thank" else abilities(self.tools)
        said = f"{REPLIES[kind]} {able}".strip() or NO_TOOLS
        return Plan((), (said,), chances=self.chances)

    def _chances(self, turn: Turn, reading: Reading) -> dict[str, float]:
        """The probability that each tool is meant: Fovea's own, and those of others."""
        own, named = self.words.chances(turn), {ask.tool for ask in reading.asks}
        if named and turn.before:
            # Who asks for something new seldom wants what was asked before as well.
            alone = self.words.chances(replace(turn, before=(), said=""))
            own = {n: c if n in named else min(c, alone[n]) for n, c in own.items()}
        question = " ".join(reading.wanted) if reading.negated else turn.question
        others = [
            tool
            for name, tool in self.tools.items()
            if name not in PURPOSES and may_be_meant(question, name)
        ]
        nothing = dict.fromkeys([*own, *self.tools], 0.0)
        if examples := [tool.name for tool in others if is_example(turn.question, tool)]:
            return nothing | dict.fromkeys(examples, 1.0)
        if reading.reply == "treatment":
            others = []
        likeliest, seen = max(own.values()), comparer()
        meant = chances(
            {t.name: seen.likenesses(question, Described.of(t), likeliest) for t in others},
            self.words.likenesses,
        )
        # Who asks for another tool seldom asks for one of Fovea's as well, unless that is plain.
        rest = 1.0 - max(meant.values(), default=0.0)
        plain = {n for n, c in own.items() if c >= (NAMED if n in named else PLAIN)}
        return nothing | {n: c if n in plain else c * rest for n, c in own.items()} | meant

    def _calls_for(self, ask: Ask, question: str) -> list[PlannedCall]:
        """The calls that serve an ask; none, with a note, when it cannot be called."""
        if (
            ask.tool != LOOKUP
            and not self.images
            and (ask.tool in PURPOSES or self._needs_image(ask.tool))
        ):
            self.notes.append(NEED_IMAGE)
            return []
        if ask.tool == "compare_images" and len(self.images) < 2:
            self.notes.append(NEED_SECOND)
            return []
        tool = self.tools.get(ask.tool) or self._claimed(question)
        if tool is None:
            if "describe" not in ask.concepts or not set(OVERVIEW) & set(self.tools):
                purpose, instead = PURPOSES[ask.tool]
                self.notes.append(
                    f"A plugin for {purpose} (`{ask.tool}`) is not installed. {instead}"
                )
            return []
        handles, problem = _resolve(ask.selection, self.images, self.focus)
        if problem and ask.tool not in {LOOKUP, "draft_report", "compare_images"}:
            self.notes.append(problem)
            return []
        chosen: list[dict[str, Any]] = [{}]
        if "first" in tool.properties and "second" in tool.properties:
            chosen = [self._two(tool, handles)]
        elif tool.image_argument and (tool.image_argument in tool.required or ask.selection):
            allowed = resolved(tool.properties["image"], tool.parameters).get("enum")
            named = [h for h in handles if allowed is None or h in allowed] or list(allowed or [])
            chosen = [{"image": handle} for handle in named]
        return [
            PlannedCall(tool.name, self._filled(tool, ask, question, given), ask)
            for given in chosen
        ]

    def _claimed(self, question: str) -> ToolSpec | None:
        """The bound tool that names this very question among its examples, if any."""
        return next((tool for tool in self.tools.values() if is_example(question, tool)), None)

    def _needs_image(self, name: str) -> bool:
        tool = self.tools.get(name)
        return tool is not None and tool.image_argument in tool.required

    def _two(self, tool: ToolSpec, handles: Sequence[str]) -> dict[str, Any]:
        every = resolved(tool.properties["first"], tool.parameters).get("enum") or [
            image.handle for image in self.images
        ]
        named = [handle for handle in handles if handle in every]
        rest = [handle for handle in every if handle not in named]
        pair = sorted([*named, *rest][:2], key=every.index)
        return {"first": pair[0], "second": pair[1]} if len(pair) == 2 else {}

    def _filled(
        self, tool: ToolSpec, ask: Ask, question: str, given: dict[str, Any]
    ) -> dict[str, Any]:
        text = ask.query if ask.tool == LOOKUP else question
        arguments = {name: value for name, value in given.items() if name in tool.properties}
        for name in tool.required:
            if name not in arguments:
                schema = tool.properties.get(name, {})
                arguments[name] = minimal_value(schema, tool.parameters, text=text)
        if wanted := how_many(question):
            for name in {"k", "count", "limit", "number"} & set(tool.properties):
                schema = resolved(tool.properties[name], tool.parameters)
                low, high = schema.get("minimum", 1), schema.get("maximum", wanted)
                if schema.get("type") == "integer":
                    arguments[name] = int(min(max(wanted, low), high))
        return arguments


def _by_words(
    chances: Mapping[str, float], asks: Sequence[Ask], turn: Turn, reading: Reading
) -> list[Ask]:
    """The asks for the tools that all the words of the question wish for.

    The rules say about which photographs and what in particular; whether a tool is meant at
    all the word model decides, which has seen what the rules think.
    """
    named, where = {ask.tool for ask in asks}, read_selection(reading.words)
    return [ask for ask in asks if chances[ask.tool] >= KEPT or _lacks_one(ask, turn)] + [
        Ask(
            tool,
            query=subject(turn.question, turn.before) if tool == LOOKUP else "",
            selection=where,
        )
        for tool, chance in chances.items()
        if chance >= ADDED and tool not in named | reading.unwanted
    ]


def _lacks_one(ask: Ask, turn: Turn) -> bool:
    """Whether the second photograph is missing: then that is said, and nothing is called."""
    return ask.tool == "compare_images" and turn.images < 2


def _resolve(
    selection: Selection, images: Sequence[ImageFact], focus: _Focus
) -> tuple[tuple[str, ...], str]:
    """Handles that a selection means, or why there are none; moves the focus."""
    every = tuple(image.handle for image in images)
    if not selection:
        kept = tuple(handle for handle in focus.handles if handle in every)
        return kept or every, ""
    if selection.every:
        focus.handles, focus.eye = every, None
        return every, ""
    if selection.numbers:
        handles = tuple(_numbered(number, images) for number in selection.numbers)
        known = tuple(handle for handle in handles if handle in every)
        focus.handles, focus.eye = known, None
        missing = ", ".join(handle for handle in handles if handle not in every)
        problem = f"Please add photograph `{missing}`." if missing else ""
        return known, "" if known else problem
    eyes = selection.eyes
    if selection.other and not eyes:
        rest = tuple(handle for handle in every if handle not in focus.handles)
        if focus.handles and rest:
            focus.handles = rest
            return rest, ""
        if len(every) < 2:
            return (), NEED_OTHER
        if focus.eye is None:
            return every, ""
        eyes = ("OS" if focus.eye == "OD" else "OD",)
    return _by_eye(eyes, images, focus)


def _numbered(number: int, images: Sequence[ImageFact]) -> str:
    if number == -1:
        return images[-1].handle if images else "img1"
    return f"img{number}"


def _by_eye(
    eyes: Sequence[Eye], images: Sequence[ImageFact], focus: _Focus
) -> tuple[tuple[str, ...], str]:
    found = tuple(image.handle for image in images if image.eye in eyes)
    unknown = tuple(image.handle for image in images if image.eye is None)
    contradicts = len(images) == 1 and focus.eye is not None and focus.eye not in eyes
    if not found and unknown and not contradicts:
        # Nobody has said which eye it is: measure, and let the answer name what is known.
        found = unknown
        focus.handles = ()
    elif found:
        focus.handles = found
    if not found:
        names = " and ".join(EYE_NAMES[eye] for eye in eyes)
        return (), f"Please add a photograph of the {names}."
    focus.eye = eyes[0] if len(eyes) == 1 else None
    return found, ""
