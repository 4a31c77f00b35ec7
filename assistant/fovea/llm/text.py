"""Turn what people type into plain words that can be matched.

Unicode, British and American spelling, plurals, abbreviations and typing
mistakes are brought to one form. The same function reads questions and the
phrases of the lexicon, so the two always agree.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache

BREAKS = frozenset({",", ".", "?", ";"})
"""Tokens that are not words: where a clause may end."""

_QUOTES = str.maketrans(
    {"’": "'", "‘": "'", "`": "'", "´": "'", "“": '"', "”": '"', "–": " - ", "—": " - ", "−": "-"}
)
# Capitals tell these abbreviations from pronouns and common words.
_CAPITAL_ABBREVIATIONS = (
    (re.compile(r"\bRE\b"), "right eye"),
    (re.compile(r"\bLE\b"), "left eye"),
    (re.compile(r"\bHEs?\b"), "hard exudates"),
    (re.compile(r"\bSEs?\b"), "soft exudates"),
    (re.compile(r"\bO\.?\s?D\.?\b(?!\w)"), "od"),
    (re.compile(r"\bO\.?\s?S\.?\b(?!\w)"), "os"),
)
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\bdr\.?\s+(?=[A-Z][a-z])|\bDr\.?\s+(?=[A-Z][a-z])", "doctor "),
        (r"(?i)\b(?:v(?:ertical)?\.?\s*)?c\s?[/:]\s?d\b(\s*ratio)?", " cdr "),
        (r"(?i)\bcup\s*[/:]\s*dis[ck]\b", " cup to disc "),
        (r"(?i)\ba\s?[/:]\s?v\b(\s*ratio)?", " avr "),
        (r"(?<=[\w)])\s*[+&]\s*(?=\w)", " and "),
        (r"(?i)\bcan't\b|\bcannot\b", "can not"),
        (r"(?i)\bwon't\b", "will not"),
        (r"(?i)\bdoesnt\b|\bdoesn't\b", "does not"),
        (r"(?i)\bdon't\b|\bdont\b", "do not"),
        (r"(?i)\b(is|are|was|were|did|has|have|could|should|would|need)n't\b", r"\1 not"),
        (r"(?i)\b(what|where|how|who|that|there|it|he|she|here)'?s\b(?!\w)", r"\1 is"),
        (r"(?i)\bwhats\b", "what is"),
        (r"(?i)\bi'd\b", "i would"),
        (r"(?i)\bi'm\b", "i am"),
        (r"(?i)\b(\w+)'(?:ve|re|ll)\b", r"\1"),
        (r"(?i)(\w)'s\b", r"\1"),
        (r"(?i)\bimg[\s_#-]*(\d+)\b", r" img\1 "),
        (r"(?i)\b(?:image|photo|picture|photograph|scan)s?\s*(?:no\.?|number|#)?\s*(\d{1,2})\b"
         r"(?!\.\d|\s*(?:years?|months?|weeks?|days?|degrees?|deg|percent|pixels?|px|mm|times)\b)",
         r" img\1 "),
        # "photos 1, 2 and 3": the second number, then the third.
        *[(r"(?i)\b(img\d+)\s*(,|&|and|or)\s*(\d{1,2})(?=\s*(?:$|[,.?!;:&]|(?:and|or|please)\b))",
           r"\1 \2 img\3 ")] * 2,
        *(
            (rf"(?i)\b(?:image|photo|picture|photograph)\s+{word}(?=\s*(?:$|[,.?!;:]|(?:and|please|"
             r"only|is|has|vs|then|but)\b))", f" img{number} ")
            for number, word in enumerate(("one", "two", "three"), 1)
        ),
        (r"(?i)\b(everything|anything|all) but\b", r"\1 except"),
        (r"(?i)\b1st\b", "first"),
        (r"(?i)\b2nd\b", "second"),
        (r"(?i)\b3rd\b", "third"),
        (r"(?i)\b4\s*[-:/]\s*2\s*[-:/]\s*1\b", " 4 2 1 "),
    )
)  # fmt: skip
_TOKEN = re.compile(r"\d+(?:\.\d+)?%?|[a-z]+\d*|[,.?;]")
_SPELLINGS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"aemorr?h?ag", "emorrhag"),
        (r"haemm?", "hem"),
        (r"oed", "ed"),
        (r"aemi", "emi"),
        (r"aetio", "etio"),
        (r"colour", "color"),
        (r"centr(ed|ing)$", r"center\1"),
        (r"centre", "center"),
        (r"fibre", "fiber"),
        (r"calibre", "caliber"),
        (r"neighbour", "neighbor"),
        (r"grey", "gray"),
        (r"analys(e[ds]?|ing)$", r"analyz\1"),
        (r"(summar|visual|character|vascular|neovascular|recogn|organ|quant)is", r"\1iz"),
        (r"^disks?$", "disc"),
        (r"programme", "program"),
        (r"labell", "label"),
        (r"^(grad|us|read)eable$", r"\1able"),
    )
)
_WORDS: Mapping[str, str] = {
    "is": "be", "are": "be", "was": "be", "were": "be", "am": "be", "r": "be",
    "u": "you", "ur": "your", "pls": "please", "plz": "please", "thx": "thank", "bc": "because",
    "pic": "picture", "pics": "picture", "foto": "photo", "optical": "optic", "rapport": "report",
    "neovascularisation": "neovascularization", "mas": "ma", "one's": "one",
    "oculus": "eye", "dexter": "od",
    "sinister": "os", "wanna": "want", "gonna": "going", "gimme": "give", "lemme": "let",
    "imgs": "image", "cannot": "not", "c2d": "cdr", "cdrs": "cdr", "abnormalities": "abnormality",
}  # fmt: skip
_ENDS_IN_S = ("ss", "us", "sis")
_KEEP_S = frozenset(
    {"does", "has", "his", "its", "this", "always", "perhaps", "diabetes", "as", "os", "us", "yes",
     "cws", "gas", "plus", "minus", "versus", "vs", "previous", "lens", "icdrs", "etdrs",
     "stages", "grades", "analysis", "diagnosis", "basis", "venous", "arteriovenous", "tortuous",
     "stenosis", "works"}
)  # fmt: skip


def tokens(text: str) -> list[str]:
    """Words of `text` in one spelling, singular, with breaks kept as tokens.

    >>> tokens("Are there haemorrhages? Show me the vessels’ colour")
    ['be', 'there', 'hemorrhage', '?', 'show', 'me', 'the', 'vessel', 'color']
    """
    text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
    if not text.isupper():
        for pattern, replacement in _CAPITAL_ABBREVIATIONS:
            text = pattern.sub(replacement, text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    plain = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(mark for mark in plain if not unicodedata.combining(mark))
    plain = re.sub(r"\s-\s|[:!\n()]|\.\.+", " , ", plain).replace("_", " ")
    return [_word(found) for found in _TOKEN.findall(plain)]


@lru_cache(maxsize=1 << 14)
def _word(word: str) -> str:
    if word in BREAKS or word[0].isdigit():
        return word
    for pattern, replacement in _SPELLINGS:
        word = pattern.sub(replacement, word)
    return _WORDS.get(word) or singular(word)


def singular(word: str) -> str:
    """`word` without a plural ending."""
    if word in _KEEP_S or len(word) < 4 or not word.endswith("s") or word.endswith(_ENDS_IN_S):
        return "ma" if word == "mas" else word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    return word[:-1]


def edit_distance(first: str, second: str, limit: int) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours; `limit + 1` when more.

    Optimal string alignment: Damerau, Commun. ACM 7 (1964) 171.
    """
    if abs(len(first) - len(second)) > limit:
        return limit + 1
    before: list[int] = []
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        before, above, row = row, before, [i]
        for j, b in enumerate(second, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == second[j - 2] and b == first[i - 2]:
                cost = min(cost, above[j - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return limit + 1
    return min(row[-1], limit + 1)


def corrected(
    words: Sequence[str], known: Collection[str], targets: Mapping[str, Sequence[str]]
) -> list[str]:
    """`words` with misspelled domain words put right.

    Args:
        words: Tokens from `tokens`.
        known: Words that are right as they are.
        targets: Words to correct to, by first letter.
    """
    return [_correct(word, known, targets) for word in words]


def _correct(word: str, known: Collection[str], targets: Mapping[str, Sequence[str]]) -> str:
    if len(word) < 5 or word in known or not word.isalpha():
        return word
    limit = 1 if len(word) < 8 else 2 if len(word) < 12 else 3
    best, least = word, limit + 1
    for letter in {word[0], word[1]}:
        for target in targets.get(letter, ()):
            # A changed first letter must be a swap: "oputic" yes, "cape" for "tape" no.
            if letter != word[0] and target[:2] != word[1] + word[0]:
                continue
            distance = edit_distance(word, target, least - 1)
            if distance < least:
                best, least = target, distance
    return best
