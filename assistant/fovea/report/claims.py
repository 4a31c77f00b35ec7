"""What counts as a claim, and which claims need no citation.

A sentence is a claim when it holds a number, an eye, a name of the knowledge
base, a clinical word, a judgement such as `normal`, or advice. Four kinds of
sentence may use such words without a citation, as long as they state nothing:
questions, requests, what Fovea can or cannot do, and that something could not
be measured.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from fovea.knowledge.search import tokens
from fovea.report import sentences
from fovea.report.facts import Facts
from fovea.report.labels import LABEL


class Unsupported(Exception):
    """Why a sentence cannot stand."""


def _words(*patterns: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(patterns)})\b", re.I)


ADVICE = _words(
    r"recommend\w*", r"advis\w*", "advice", "should", "must", "ought", r"refer(?:red|ral|s|ring)?",
    r"urgent\w*", "immediately", r"follow[- ]?up", r"treat(?:ed|ment|ments|ing|s)?", r"therap\w*",
    r"surg\w+", r"medication\w*", r"consult\w*", r"see (?:a|an|your) \w+", r"doctors?",
    r"ophthalmologists?", r"specialists?", r"optometrists?", "hospital", "emergency",
    "appointment", "ambulance", r"aspirin", r"tablets?", r"eye ?drops?", r"doses?",
    r"take (?:an?|your|some|\w+in)", r"call (?:an?|your|the) \w+", r"prescri\w+",
    r"repeat(?:ed)? (?:the )?(?:photo\w*|image\w*)", r"wait(?:s|ed|ing)?",
    r"(?:next|routine) (?:routine )?(?:visit|check\w*)", "soon enough",
)  # fmt: skip
JUDGEMENT = _words(
    r"(?:ab)?normal(?:ly|ity|ities)?", "(?:un)?healthy", "unremarkable", "(?:un)?suspicious",
    r"patholog\w+", "physiological", "dangerous", "harmless", "benign", "malignant",
    r"(?:reference|normal) (?:range|value|limit)s?", "percentile",
    "big(?:ger)?", "larg(?:e|er|est)", "small(?:er|est)?", "enlarged", r"increas\w+", r"decreas\w+",
    "reduced", "elevated", "higher", "lower", "wider?", "thin(?:ner)?", "worse", "better", "stable",
    r"progress\w*", "improved", "ok(?:ay)?", "fine", "all (?:good|clear)", "good (?:shape|health)",
    r"worr\w+", r"concern\w*", "alarming", "reassuring", r"safe\w*", "bad", "problems?",
    "wrong", "unusual", "perfect", "typical", "average", "expected", "high", "low", "many", "few",
    "numerous", "multiple", "several", "half", "thirds?", "quarters?", "doubled?", "twice",
    "triple", "dozens?", "hundreds?", "zero",
)  # fmt: skip
CLINICAL = _words(
    "sw(?:ollen|elling)", "pal(?:e|lor)", "blurred margins?", r"atroph\w+", r"o?edema\w*",
    r"ha?emorrhag\w+", r"bleed\w*", r"exudat\w+", "drusen", r"\w*aneurysm\w*", r"neovascular\w+",
    r"detach\w+", "tears?", r"holes?", r"scar\w*", r"occlu\w+", "lesions?", "tumou?rs?",
    r"melanom\w+", "na?ev(?:us|i)", "cupping", "thinning", r"notch\w*", r"narrow\w*", "nicking",
    r"dilat\w+", r"(?<!for )diseases?", r"diabet\w+", r"retinopath\w+", r"maculopath\w+",
    r"glaucom\w*", "cataracts?", r"blind\w*", r"cancer\w*", "strokes?", r"hypertens\w+", r"myop\w+",
    r"degenerat\w+", r"inflam\w+", r"uveitis", "optic nerve", "retinas?", "fundus", r"arter\w+",
    "veins?", "venules?", "vessels?", "vascular", "discs?", "cups?", "rims?", "maculas?",
    "foveas?", r"tortuos\w+", r"symptom\w*", "vision", "sight", "blood pressure", r"smok\w+",
    "prognosis", "risks?", "grade[ds]?", "rejected",
    "(?:un)?gradable", r"(?:image|photo\w*|picture) quality", "infection", "damaged?", "clear",
    "sharp", "blurr(?:y|ed)",
)  # fmt: skip
SEVERITY = _words(
    "mild", "moderate", "severe", "early", "intermediate", "late", "(?:non[- ]?)?proliferative"
)
QUALITY_WORDS = frozenset(
    tokens(
        "good usable reject rejected poor excellent adequate inadequate sufficient insufficient "
        "bad fair acceptable unusable"
    )
)
DECLINE = re.compile(
    r"\b(?:(?:could|can|was|were|is|are|has|have|do|does|did)(?:\s?n[o']t|\s?not)(?: be| been)?"
    r"|not)\s+(?:reliably )?(?:measured?|assess(?:ed|able)?|graded|judged|determined?|compared?|"
    r"computed|calculated|analy[sz]ed|examined|estimated|verified|checked|run|opened|read|"
    r"installed|available|segmented|supplied|given)\b",
    re.I,
)
_STATES = _words(
    "is", "are", "was", "were", "has", "have", "had", "shows?", "showed", "looks", "looked",
    "appears?", "suggests?", "indicates?", "seems?", "means", "see", "seen", "signs?", "evidence",
    "present", "absent", "because", "but", "however", "that",
)  # fmt: skip
_QUESTION = re.compile(
    r"^(?:would you|do you want|do you mean|shall i|should i|may i|can i|which|could you|can you|"
    r"will you|what|is this|is it|how can i|how may i)\b",
    re.I,
)
_REQUEST = re.compile(
    r"^(?:please\s+)?(?:add|upload|open|choose|select|ask|tell|name|give|say|type|try|load|"
    r"provide)\b",
    re.I,
)
_ABILITY = re.compile(
    r"^(?:i|fovea|we) (?:can(?:not)?|am able to|could) (?:also |then |still )?(?:help|assess|"
    r"check|measure|segment|outline|find|search|compare|explain|look up|draft|answer|analyse|"
    r"analyze|describe|grade|judge|determine|compute|quote|run)\b",
    re.I,
)
_NO_ADVICE = re.compile(
    r"^(?:i|fovea) (?:cannot|can not|can't|do not|does not|may not|gives? no) (?:\w+ )?"
    r"(?:advise|recommend|prescribe|diagnose|give|advice|treatment)\b[^.;]*"
    r"(?:; please (?:ask|see) (?:the|your|a) (?:treating )?(?:clinician|doctor))?[.!]?$",
    re.I,
)
_BARE = re.compile(
    r"^(?:(?:yes|no|nope|yeah|correct|indeed|exactly|right|true|false|positive|negative|maybe|"
    r"perhaps|of course|possibly|(?:un)?likely|\w+ly)\b[\s,.!]*)?"
    r"(?:(?:it|you|they|there|he|she|this|that)\s+(?:is|are|does|do|has|have|was|were|will|may|"
    r"might|could|isn't|aren't|doesn't|don't|hasn't|haven't|won't)(?:\s+not)?)?\W*$",
    re.I,
)
"""An answer without a noun: what it claims stands in the question."""
_ENGLISH = frozenset(
    tokens(
        "a about add after again all also an and any are as ask at be been before both but by can "
        "cannot could do does each else eye file first for from get give goes had has have hello "
        "help here hi how i if image in is it its just know let like look made may me measured "
        "more my need needs new next no not now of ok on once one only open or other photograph "
        "picture please question rather report result second see so some still sure tell thank "
        "thanks that the then there these they this to too up upload use was we welcome were what "
        "when where which while will with without would yet you your"
    )
)
_MIN_ENGLISH = 0.3
_CONDITION = re.compile(r"\b(?:if|when|once) (?:they|it|that|you) (?:is|are) \w+$")
_NO_PICTURE = re.compile(
    r"^(?:there (?:is|are) no|there is not (?:yet )?an?|i have no|no) "
    r"(?:photo\w*|images?|pictures?)"
    r"(?: of (?:the|your|a) (?:right|left) eye(?: \(O[DS]\))?)?"
    r"(?: (?:in this session|has been added|was added|is known|yet|so far))*"
    r"(?:[;,.:] please (?:add|name|say|upload)\b[^.;]*)?[.!]?$",
    re.I,
)
_PICTURE_KIND = re.compile(r"\b(?:is|are)(?: not|n't)? (?:an? )?(?:retinal|fundus) photo", re.I)


class Claims:
    """Tells claims from the rest.

    Args:
        facts: Names that count as clinical.
        reasons: Why tools gave no answer; repeating such a reason needs no citation.
    """

    def __init__(self, facts: Facts, reasons: Collection[str]) -> None:
        self._facts = facts
        self._reasons = frozenset(
            _plain(part.text) for text in reasons for part in sentences.split(text) if part.text
        )
        self._label = frozenset(_plain(part.text) for part in sentences.split(LABEL))

    def is_claim(self, body: str) -> bool:
        """Whether the text states something clinical, or cannot be understood."""
        words = tokens(body)
        if words and _BARE.match(body):
            return True
        if len(words) > 2 and sum(word in _ENGLISH for word in words) < _MIN_ENGLISH * len(words):
            return tokens(body.rstrip(": ")) not in self._facts.names
        found, unread = sentences.numbers(body)
        quality = QUALITY_WORDS & set(words) and re.search(r"quality|photo|image", body, re.I)
        return bool(
            found
            or unread
            or quality
            or sentences.phrases(body, self._facts.names)
            or sentences.eyes(body)
            or CLINICAL.search(body)
            or JUDGEMENT.search(body)
            or ADVICE.search(body)
            or _PICTURE_KIND.search(body)
        )

    def is_exempt(self, body: str) -> bool:
        """Whether a claim-like text may stand without a citation."""
        plain = _plain(body)
        if (
            plain in self._label
            or plain in self._reasons
            or any(pattern.match(body) for pattern in (_NO_ADVICE, _NO_PICTURE))
        ):
            return True
        if tokens(body.rstrip(": ")) in self._facts.names:
            return True  # a heading
        for reason in self._reasons:
            plain = plain.replace(reason, " ")
        if sentences.numbers(plain)[0] or ADVICE.search(plain) or JUDGEMENT.search(plain):
            return False
        if body.rstrip("*_ ").endswith("?") and _QUESTION.search(body):
            return not _STATES.search(" ".join(plain.split()[3:]))
        if _REQUEST.search(body) or _ABILITY.search(body):
            return not _STATES.search(_CONDITION.sub("", plain))
        decline = DECLINE.search(plain)
        if decline:
            rest = plain[: decline.start()] + plain[decline.end() :]
            return not _STATES.search(re.sub(r"\bbecause\s*$", "", rest.strip()))
        return False


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[\w%']+", text.casefold()))
